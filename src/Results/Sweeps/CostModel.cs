namespace Experiments.Results.Sweeps;

/// <summary>How long trials are expected to take and how much memory they need, from the kernels' own predictions and the rates that stored
/// trials had.</summary>
/// <remarks>
/// A model for sizing shards, for their order and for a plan's estimate, within a factor of a few; nothing is decided by it that a
/// measurement could decide.
/// Shards grow with what lies before them: a sixty-fourth of it, from <see cref="LeastShardSeconds"/> to <see cref="ShardSeconds"/>. They are leased longest
/// first, so that the small ones come last and the lanes end within one of them of each other, as guided self-scheduling has it (Polychronopoulos and Kuck,
/// 1987), without a count of lanes that nobody knows when a sweep is submitted.
/// </remarks>
public sealed record CostModel
{
    // Of what is planned before it, what one shard may be.
    private const double Part = 1.0 / 64;

    /// <summary>Floating-point operations a second of one thread, assumed of a kernel of which no trial is stored.</summary>
    public double FlopsPerSecond { get; init; } = 4e9;

    /// <summary>What is assumed of those that reach more: about half of what they do on one core of 256-bit vectors at 4 GHz, so that a first plan
    /// is wrong by a factor of two or so rather than ten.</summary>
    public IReadOnlyDictionary<(string Kernel, string Precision), double> AssumedRates { get; init; } =
        new Dictionary<(string Kernel, string Precision), double>
        {
            [("exact", "float32")] = 5e10,
            [("exact", "float64")] = 2.5e10,
            [("low-rank", "float32")] = 4e10,
            [("low-rank", "float64")] = 2e10,
            [("dense-polynomial", "float32")] = 1e10,
            [("dense-polynomial", "float64")] = 1e10,
        };

    /// <summary>The same as measured, by kernel and precision.</summary>
    public IReadOnlyDictionary<(string Kernel, string Precision), double> MeasuredRates { get; init; } =
        new Dictionary<(string Kernel, string Precision), double>();

    /// <summary>Seconds a trial costs beyond its calls: errors, digest, row.</summary>
    public double TrialOverheadSeconds { get; init; } = 50e-6;

    /// <summary>Seconds it takes to draw and check one number of an instance.</summary>
    public double DrawSecondsPerNumber { get; init; } = 2e-8;

    /// <summary>Predicted seconds at which any shard is full.</summary>
    public double ShardSeconds { get; init; } = 1;

    /// <summary>Predicted seconds at which none is full yet: below, a commit would cost more than the wait at the end that a smaller shard saves.</summary>
    public double LeastShardSeconds { get; init; } = 0.2;

    /// <summary>Trials at which a shard is full: so many rows that a commit's fixed cost (a COPY's preparation in the server, a lease, a flush) is
    /// little beside theirs (of 4,000, a tenth), and so few that a silo holds a dozen such shards in some 50 MB.</summary>
    public int ShardTrials { get; init; } = 8000;

    /// <summary>Bytes a trial may need, where it is not the sweep's own limit that is asked about; null for that.</summary>
    public long? MemoryBytes { get; init; }

    /// <summary>Whether a shard that would be of so many trials and predicted seconds is too much.</summary>
    /// <param name="before">Predicted seconds of all shards before it.</param>
    public bool IsTooMuch(long trials, double seconds, double before) =>
        trials > ShardTrials || seconds > Math.Min(ShardSeconds, Math.Max(LeastShardSeconds, before * Part));

    /// <summary>Seconds of one call.</summary>
    public double CallSeconds(TrialSpec trial, Prediction prediction)
    {
        ArgumentNullException.ThrowIfNull(trial);
        return 1e-6 + (prediction.Flops / (RateOf(trial.Kernel, trial.Precision) * Math.Max(1, trial.Threads)));
    }

    /// <summary>Seconds of a trial: a warm-up call, the rounds (the least time measured, if they are shorter), the rest.</summary>
    public double TrialSeconds(TrialSpec trial, Prediction prediction, Measure measure)
    {
        double call = CallSeconds(trial, prediction);
        return call + Math.Max(measure.MinTime.TotalSeconds, measure.Rounds * call) + TrialOverheadSeconds;
    }

    /// <summary>Seconds to draw an instance and compute its reference.</summary>
    /// <param name="reference">Prediction of the exact float64 call on all rows; null when there is no reference.</param>
    /// <param name="rows">Of how many rows it is; null for all.</param>
    public double InstanceSeconds(InstanceSpec instance, Prediction? reference, int? rows = null)
    {
        double numbers = instance.Parts * ((4.0 * instance.N * instance.D) + (2.0 * instance.D * instance.D));
        double share = rows is int chosen ? (double)chosen / instance.N : 1;
        return (numbers * DrawSecondsPerNumber) + (reference is Prediction p ? share * p.Flops / RateOf("exact", "float64") : 0);
    }

    /// <summary>Bytes a trial needs: inputs in double, their copy when the trial is float32, output and state; dQ where its
    /// errors are estimated from rows, and dQ, dK and dV where it is asked for all gradients.</summary>
    public static long BytesOf(InstanceSpec instance, TrialSpec trial, Prediction prediction, Measure measure)
    {
        ArgumentNullException.ThrowIfNull(measure);
        double n = instance.N;
        double d = instance.D;
        int width = trial.Precision == "float32" ? 4 : 8;
        double numbers = instance.Parts * ((4 * n * d) + (2 * d * d)), output = instance.Parts * ((n * d) + (2 * d * d));
        bool all = trial.Settings.GetValueOrDefault("gradients") is "all";
        output += instance.Parts * n * d * (all ? 3 : measure.RowsOf(instance) is null ? 0 : 1);
        double bytes = (numbers * 8) + (width == 4 ? numbers * 4 : 0) + (output * width) + prediction.StateBytes;
        return bytes < long.MaxValue ? (long)bytes : long.MaxValue;
    }

    private double RateOf(string kernel, string precision) =>
        MeasuredRates.TryGetValue((kernel, precision), out double measured)
        ? measured : AssumedRates.GetValueOrDefault((kernel, precision), FlopsPerSecond);
}
