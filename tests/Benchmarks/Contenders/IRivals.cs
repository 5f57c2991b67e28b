using System.Numerics;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Benchmarks.Contenders;

/// <summary>Other people's code for the same gradient, in every way that is worth trying.</summary>
public interface IRivals
{
    /// <summary>As typed after <c>--against</c>.</summary>
    string Name { get; }

    /// <summary>Version and instruction set, as the library itself reports them.</summary>
    string Describe();

    /// <summary>The ways that can be tried on a problem.</summary>
    /// <param name="problem">The inputs; every way sees these numbers.</param>
    /// <param name="threads">How many threads a call may use.</param>
    /// <param name="decline">Told of a way that is left out, and why.</param>
    IReadOnlyList<IContender> Ways<T>(AttentionProblem<T> problem, int threads, Action<string> decline)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>;
}
