using System.Runtime.CompilerServices;

[assembly: InternalsVisibleTo("Experiments.Grains.Tests")]
[assembly: InternalsVisibleTo("Experiments.Cluster.Tests")]
