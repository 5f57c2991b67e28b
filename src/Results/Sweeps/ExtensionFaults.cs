using System.Globalization;

namespace Experiments.Results.Sweeps;

/// <summary>Why one specification is no extension of another, in one line that names the key as the file has it.</summary>
internal static class ExtensionFaults
{
    /// <summary>What every trial of a sweep must share.</summary>
    public static string? OfSettings(SweepSpec before, SweepSpec after)
    {
        (string Key, object Before, object After)[] kept =
        [
            ("seed", before.Seed, after.Seed),
            ("measure.rounds", before.Measure.Rounds, after.Measure.Rounds),
            ("measure.min_time", before.Measure.MinTime, after.Measure.MinTime),
            ("measure.max_noise", before.Measure.MaxNoise, after.Measure.MaxNoise),
            ("measure.reference", Reference(before.Measure), Reference(after.Measure)),
            ("measure.sharing", before.Measure.Sharing, after.Measure.Sharing),
        ];
        foreach ((string key, object was, object now) in kept)
        {
            if (!was.Equals(now))
            {
                return $"{key} is {Say(now)} and was {Say(was)}: trials that are measured otherwise are another sweep's.";
            }
        }

        return null;
    }

    /// <summary>The first axis that has lost a value, block by block as they stand; null where that explains nothing.</summary>
    public static string? OfAxes(SweepSpec before, SweepSpec after)
    {
        for (int b = 0; b < before.Instances.Count; b++)
        {
            string path = before.Instances.Count == 1 ? "instances" : $"instances.{b}";
            InstanceBlock was = before.Instances[b];
            if (b >= after.Instances.Count)
            {
                return $"{path} is gone: an extension keeps every block.";
            }

            InstanceBlock now = after.Instances[b];
            if (was.Family != now.Family)
            {
                return Lacks($"{path}.family", was.Family);
            }

            if (OfDimensions(path, was.Dimensions, now.Dimensions) is string lost)
            {
                return lost;
            }

            if (now.Repeats < was.Repeats)
            {
                return $"{path}.repeats is {now.Repeats} and was {was.Repeats}: an extension has no fewer.";
            }
        }

        for (int b = 0; b < before.Kernels.Count; b++)
        {
            string path = $"kernels.{b}";
            KernelBlock was = before.Kernels[b];
            if (b >= after.Kernels.Count)
            {
                return $"{path} ({string.Join(", ", was.Kernels.Select(k => k.Name))}) is gone: an extension keeps every block.";
            }

            KernelBlock now = after.Kernels[b];
            if (was.Kernels.FirstOrDefault(k => now.Kernels.All(n => n.Name != k.Name)) is KernelEntry gone)
            {
                return Lacks($"{path}.kernel", gone.Name);
            }

            if (OfDimensions(path, was.Dimensions, now.Dimensions) is string lost)
            {
                return lost;
            }
        }

        return before.Search != after.Search && before.Search.Method != after.Search.Method
            ? $"search is {after.Search.Method.ToString().ToLowerInvariant()} and was {before.Search.Method.ToString().ToLowerInvariant()}: "
                + "the new draw lacks instances of the sweep." : null;
    }

    private static string? OfDimensions(string path, IReadOnlyList<DimensionSpec> before, IReadOnlyList<DimensionSpec> after)
    {
        Dictionary<string, AxisSpec> there = after.SelectMany(d => d.Axes).ToDictionary(a => a.Type.Name);
        foreach (AxisSpec axis in before.SelectMany(d => d.Axes))
        {
            if (!there.TryGetValue(axis.Type.Name, out AxisSpec? now))
            {
                return $"{path}.{axis.Type.Name} is gone: an extension keeps every axis.";
            }

            HashSet<object> values = [.. All(now.Values)];
            if (All(axis.Values).FirstOrDefault(v => !values.Contains(v)) is object lost)
            {
                return Lacks($"{path}.{axis.Type.Name}", lost);
            }
        }

        return null;
    }

    private static IEnumerable<object> All(AxisValues values)
    {
        for (long i = 0; i < values.Count; i++)
        {
            object value = values.Items is null ? values.Number(i) : values.Items[(int)i];
            yield return value is long whole ? (double)whole : value;
        }
    }

    private static string Lacks(string key, object value) => $"{key} lacks {Say(value)}, which the sweep has: an extension keeps every value.";

    private static string Reference(Measure measure) => measure.Reference == ReferenceMode.None ? "none"
        : measure.ReferenceRows is int rows ? $"{{rows: {rows}}}" : "exact-float64";

    private static string Say(object value) => value switch
    {
        TimeSpan time => $"{time.TotalMilliseconds.ToString(CultureInfo.InvariantCulture)}ms",
        bool flag => flag ? "true" : "false",
        _ => Convert.ToString(value, CultureInfo.InvariantCulture)!,
    };
}
