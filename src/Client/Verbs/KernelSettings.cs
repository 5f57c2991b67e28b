using System.Globalization;
using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;
using NearestName = Experiments.Results.Sweeps.NearestName;

namespace Experiments.Client.Verbs;

/// <summary>A kernel's own axes from options typed as text, checked as a sweep file would be.</summary>
internal static class KernelSettings
{
    // Of the gradient verb.
    private static readonly string[] Options = ["degree", "basis", "form", "radius", "centred"];

    /// <summary>Adds axes typed as AXIS=VALUE.</summary>
    /// <exception cref="CommandException">There is no equals sign, or an axis is given twice.</exception>
    public static void Add(Dictionary<string, string?> typed, IReadOnlyList<string> assignments)
    {
        HashSet<string> set = [];
        foreach (string assignment in assignments)
        {
            int equals = assignment.IndexOf('=', StringComparison.Ordinal);
            if (equals < 1)
            {
                throw CommandException.Invalid($"--set '{assignment}': axis=value is needed, such as features=256.");
            }

            (string axis, string value) = (assignment[..equals].Trim(), assignment[(equals + 1)..].Trim());
            if (typed.GetValueOrDefault(axis) is string other)
            {
                string before = set.Contains(axis) ? $"--set {axis}={other}" : $"--{axis} {other}";
                throw CommandException.Invalid($"{axis} is given twice, as {before} and as --set {axis}={value}; give it once.");
            }

            typed[axis] = value;
            set.Add(axis);
        }
    }

    /// <summary>The values of those axes that were typed and that a kernel or a family has.</summary>
    /// <exception cref="CommandException">A value is none of its axis'.</exception>
    public static Dictionary<string, object> Values(IReadOnlyList<Axis> axes, IReadOnlyDictionary<string, string?> typed) =>
        axes.Where(a => typed.GetValueOrDefault(a.Name) is not null).ToDictionary(a => a.Name, a => Parse(a, typed[a.Name]!));

    /// <param name="typed">By axis; null where the option was not given.</param>
    /// <exception cref="CommandException">An axis the kernel lacks, needs, or cannot take; the message says which.</exception>
    public static Settings Read(IGradientKernel kernel, IReadOnlyDictionary<string, string?> typed)
    {
        Dictionary<string, object> values = [];
        foreach ((string name, string? text) in typed)
        {
            if (text is null)
            {
                continue;
            }

            Axis axis = kernel.Axes.FirstOrDefault(a => a.Name == name)
                ?? throw CommandException.Invalid($"{Typed(name)} means nothing to kernel '{kernel.Name}'"
                    + (kernel.Axes.Count == 0 ? ", which has no axes of its own." : $"; it has {Names(kernel)}."));
            values[name] = Parse(axis, text);
        }

        foreach (Axis axis in kernel.Axes)
        {
            if (values.ContainsKey(axis.Name))
            {
                continue;
            }

            if (axis.Required)
            {
                throw CommandException.Invalid($"Kernel '{kernel.Name}' needs {Typed(axis.Name)}{(Options.Contains(axis.Name) ? "" : "=…")}: {axis.Summary}");
            }

            if (axis.Default is not null)
            {
                values[axis.Name] = axis.Default is int integer ? (long)integer : axis.Default;
            }
        }

        foreach (Axis axis in kernel.Axes.Where(a => a.AppliesTo is not null))
        {
            (string other, IReadOnlyList<string> words) = axis.AppliesTo!.Value;
            if (values.GetValueOrDefault(other) is not object value || (value is string word && words.Contains(word)))
            {
                continue;
            }

            if (typed.GetValueOrDefault(axis.Name) is not null)
            {
                throw CommandException.Invalid(
                    $"{Typed(axis.Name)} only means something with {Typed(other)} {string.Join(" or ", words)}, not with {value}.");
            }

            values.Remove(axis.Name);
        }

        return new Settings(values);
    }

    private static string Names(IGradientKernel kernel) => string.Join(", ", kernel.Axes.Select(a => Typed(a.Name)));

    /// <summary>An axis as it is typed: a few have options of their own.</summary>
    private static string Typed(string axis) => Options.Contains(axis) ? $"--{axis}" : $"--set {axis}";

    private static object Parse(Axis axis, string text)
    {
        if (text == axis.Word)
        {
            return text;
        }

        switch (axis.Kind)
        {
            case AxisKind.Integer:
                return long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long integer)
                    && integer >= axis.Minimum && integer <= axis.Maximum
                    ? integer
                    : throw Refused(axis, text, "a whole number");
            case AxisKind.Real:
                return double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double real)
                    && real >= axis.Minimum && real <= axis.Maximum
                    ? real
                    : throw Refused(axis, text, "a number");
            case AxisKind.Flag:
                return bool.TryParse(text, out bool flag) ? flag : throw Refused(axis, text, "true or false");
            default:
                return axis.Choices is null || axis.Choices.Contains(text)
                    ? text
                    : throw CommandException.Invalid(
                        $"{Typed(axis.Name)} is '{text}'; one of {string.Join(", ", axis.Choices)} is needed."
                        + NearestName.Hint(text, axis.Choices));
        }
    }

    private static CommandException Refused(Axis axis, string text, string needed)
    {
        string range = (double.IsFinite(axis.Minimum), double.IsFinite(axis.Maximum)) switch
        {
            (true, true) => string.Create(CultureInfo.InvariantCulture, $" from {axis.Minimum} to {axis.Maximum}"),
            (true, false) => string.Create(CultureInfo.InvariantCulture, $" of at least {axis.Minimum}"),
            (false, true) => string.Create(CultureInfo.InvariantCulture, $" of at most {axis.Maximum}"),
            _ => "",
        };
        string word = axis.Word is null ? "" : $", or {axis.Word},";
        return CommandException.Invalid($"{Typed(axis.Name)} is '{text}'; {needed}{range}{word} is needed.");
    }
}
