using System.Collections.Immutable;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Instances;

/// <summary>A way to draw instances: uniform, gaussian, corner, planted, files, or a user's own.</summary>
public interface IInstanceFamily
{
    /// <summary>As typed in a sweep file: <c>uniform</c>.</summary>
    string Name { get; }

    /// <summary>One sentence for <c>experiments kernels</c>.</summary>
    string Summary { get; }

    /// <summary>The family's own axes. <c>n</c>, <c>d</c>, <c>bound</c>, <c>repeats</c> and those of <see cref="InstanceAxes"/> are
    /// every family's and are not listed.</summary>
    IReadOnlyList<Axis> Axes { get; }

    /// <summary>Whether a sweep must name <c>bound</c>.</summary>
    bool NeedsBound { get; }

    /// <summary>Whether another key gives another instance; false for matrices that are given, of which there is one.</summary>
    bool DependsOnKey => true;

    /// <summary>Draws the instance: the same bits for the same request on every machine.</summary>
    /// <exception cref="ArgumentException">The request is impossible; the message says what to do.</exception>
    AttentionProblem<double> Draw(InstanceRequest request);
}

/// <param name="N">Tokens.</param>
/// <param name="D">Head dimension.</param>
/// <param name="Bound">B: ‖A1 X‖∞ and ‖A2‖∞ are each scaled to it exactly; null where the family has none.</param>
/// <param name="Key">Key of the counter-based random numbers: a hash of everything that names the instance.</param>
/// <param name="Settings">The family's own axes.</param>
public sealed record InstanceRequest(int N, int D, double? Bound, ulong Key, Settings Settings)
{
    /// <summary>Looked at every so often while the numbers are drawn.</summary>
    public CancellationToken Cancellation { get; init; }

    /// <summary>Where files lie on this machine that are not, or not any more, where the settings say: paths by content, the first 128 bits of the SHA-256 as
    /// lower-case hex.</summary>
    public IReadOnlyDictionary<string, string> Located { get; init; } = ImmutableDictionary<string, string>.Empty;
}
