using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Instances;

/// <summary>What every family's instances can be given beside n, d and the bound: the scale, the mask, heads and batch.</summary>
/// <remarks>
/// None has a default value: an instance that does not name them is known by what it does name, so that it keeps its key, and with
/// it its drawing, whatever axes are added here.
/// </remarks>
public static class InstanceAxes
{
    /// <summary>The most heads, and the most of a batch.</summary>
    public const int MostOfOne = 1024;

    // Beyond the streams that an instance's own numbers come from.
    private const uint Keys = 1000, Rows = 1001;

    private static readonly Axis[] Always =
    [
        new("scale", AxisKind.Choice,
            "What the logits are divided by: d or √d; left out, d. With √d they reach √d times as far for the same bound.",
            Choices: ["d", "sqrt-d"]),
        new("mask", AxisKind.Choice, "causal: row i sees keys 0 to i only; left out, none.", Choices: ["none", "causal"]),
    ];

    private static readonly Axis[] Several =
    [
        new("heads", AxisKind.Integer, "Independent problems of the same n and d in one call, each with its own X and Y; left out, 1.",
            Minimum: 1, Maximum: MostOfOne),
        new("batch", AxisKind.Integer, "As heads, which it multiplies.", Minimum: 1, Maximum: MostOfOne),
    ];

    /// <summary>The axes that the family has beyond its own: all, or those that leave it a single problem where its drawing does
    /// not depend on the key.</summary>
    public static IReadOnlyList<Axis> Of(IInstanceFamily family)
    {
        ArgumentNullException.ThrowIfNull(family);
        return family.DependsOnKey ? [.. Always, .. Several] : Always;
    }

    /// <summary>How many problems an instance has: heads times batch.</summary>
    public static int Parts(Settings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        return checked(settings.Integer("heads", 1) * settings.Integer("batch", 1));
    }

    /// <summary>Whether row i sees keys 0 to i only.</summary>
    public static bool IsCausal(Settings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        return settings.Word("mask", "none") == "causal";
    }

    /// <summary>Numbers of so many of the instance's n rows, ascending: drawn by its key, each row with the same chance, none twice, so that
    /// they are the same wherever and whenever they are asked for.</summary>
    /// <exception cref="ArgumentException">More rows than there are, or none.</exception>
    public static int[] SampleRows(InstanceRequest request, int rows)
    {
        ArgumentNullException.ThrowIfNull(request);
        if (rows < 1 || rows > request.N)
        {
            throw new ArgumentException($"rows = {rows}: from 1 to n = {request.N} rows can be drawn.");
        }

        int[] chosen = Draws.Chosen(request, Rows, rows, request.N);
        Array.Sort(chosen);
        return chosen;
    }

    /// <summary>The instance's problems, with scale and mask; a lone one is drawn with the request's own key, each of several with
    /// a key made of that and of its number.</summary>
    /// <exception cref="ArgumentException">The request is impossible; the message says what to do.</exception>
    public static AttentionProblem<double>[] Draw(IInstanceFamily family, InstanceRequest request)
    {
        ArgumentNullException.ThrowIfNull(family);
        ArgumentNullException.ThrowIfNull(request);
        AttentionProblem<double>[] parts = new AttentionProblem<double>[Parts(request.Settings)];
        if (parts.Length > 1 && !family.DependsOnKey)
        {
            throw new ArgumentException(
                $"heads and batch make {parts.Length} problems, and {family.Name} gives the same one each time. Leave them out.");
        }

        LogitScale scale = request.Settings.Word("scale", "d") == "d" ? LogitScale.D : LogitScale.SqrtD;
        bool causal = IsCausal(request.Settings);
        for (int part = 0; part < parts.Length; part++)
        {
            ulong key = parts.Length == 1 ? request.Key : Philox.Bits(request.Key, Keys, (ulong)part);
            AttentionProblem<double> drawn = family.Draw(request with { Key = key });
            parts[part] = drawn.Scale == scale && drawn.Causal == causal ? drawn : drawn.With(scale, causal);
        }

        return parts;
    }
}
