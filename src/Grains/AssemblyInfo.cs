using System.Runtime.CompilerServices;

[assembly: InternalsVisibleTo("Experiments.Grains.Tests")]
