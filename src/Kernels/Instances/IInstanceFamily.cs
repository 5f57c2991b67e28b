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

/// <summary>A family that can say before anything is drawn that an instance is impossible: a sweep with such a one is refused where its file stands, and
/// not trial by trial.</summary>
public interface ICheckedFamily : IInstanceFamily
{
    /// <summary>Throws what <see cref="IInstanceFamily.Draw"/> would throw of this request, in little time.</summary>
    /// <exception cref="ArgumentException">The request is impossible; the message says what to do.</exception>
    /// <exception cref="InvalidDataException">A file is missing or wrong.</exception>
    void Check(InstanceRequest request);
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

    /// <summary>Whether a file is read of which nobody noted what it held. Not of a sweep: whoever wrote one could ask a silo what any file of its machine says.</summary>
    public bool TakesAnyContent { get; init; }

    /// <summary>Reads the file that an axis names (<see cref="Axis.IsFile"/>): the very bytes that the sweep was made of. Null where the axis is left out.</summary>
    /// <exception cref="InvalidDataException">There is none, or another one by now, or it is none that can be read whole.</exception>
    public GivenFile? ReadFile(string axis)
    {
        string named = Settings.Word(axis, "");
        if (named.Length == 0)
        {
            return null;
        }

        string content = Settings.Word(FileContents.SettingPrefix + axis, "");
        if (content.Length == 0 && !TakesAnyContent)
        {
            throw new InvalidDataException(
                $"{axis} names {named}, and nothing says what that held when the sweep was made. Run the sweep file again as a new sweep.");
        }

        return FileContents.Read(Located.GetValueOrDefault(content) ?? Path.Combine(Settings.Word("folder", ""), named), content);
    }
}
