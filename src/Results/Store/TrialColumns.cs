using System.Buffers;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Experiments.Results.Outcomes;
using Experiments.Results.Sweeps;

namespace Experiments.Results.Store;

/// <summary>The columns of <c>trial</c> as a shard's lane writes them, in one order for the COPY statement and for the bytes.</summary>
/// <remarks>A shard has a few configurations and thousands of trials: what the rows of a configuration share is worked out once.</remarks>
internal sealed class TrialColumns(ShardLease lease, int nodeId, Guid traceId)
{
    private readonly Dictionary<TrialSpec, Configuration> _configurations = new(ReferenceEqualityComparer.Instance);

    private static readonly string[] Names =
    [
        "sweep_id", "trial", "instance", "seed", "started_at", "bound", "radius", "rank", "seconds_min", "seconds_median",
        "seconds_mad", "core_seconds", "flops", "state_bytes", "max_logit", "rms_logit", "bound_measured", "loss",
        "gradient_absolute_error", "gradient_relative_error", "loss_relative_error", "forward_relative_error",
        "min_row_sum_over_n", "nonpositive_row_sums", "fitted_radius", "predicted_exp_error", "theorem_bound", "theorem_slack",
        "speedup_over_exact", "project_seconds", "moments_seconds", "rows_seconds", "reduce_seconds", "span_id", "trial_key",
        "instance_key", "trace_id", "digest", "shard", "epoch", "node_id", "n", "d", "repeat", "threads", "attempts", "degree",
        "fitted_degree", "reference_rows", "gradient_error_standard_error", "loss_error_standard_error", "centred", "status", "family", "kernel", "precision", "basis", "form", "reason", "kernel_parameters", "parameters",
    ];

    internal static string Copy { get; } =
        SqlText.Named("copy-trials").Replace("{columns}", string.Join(", ", Names), StringComparison.Ordinal);

    internal static string Word(TrialStatus status) => status switch
    {
        TrialStatus.Done => "done",
        TrialStatus.Failed => "failed",
        TrialStatus.Skipped => "skipped",
        _ => throw new ArgumentException($"A trial's status is {status}; done, failed or skipped is needed."),
    };

    // Optimised at its first call: a short sweep is over before the runtime would see that it is hot.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal void Write(CopyBuffer rows, TrialOutcome trial)
    {
        InstanceSpec instance = trial.Instance;
        TrialSpec spec = trial.Spec;
        Configuration configuration = ConfigurationOf(spec);
        KernelSettings settings = configuration.Settings;
        configuration.Count(instance, trial.Status);
        rows.StartRow((short)Names.Length);
        rows.Long(lease.SweepId);
        rows.Long(trial.Trial);
        rows.Long(trial.InstanceIndex);
        rows.Long(instance.Seed);
        rows.Time(trial.StartedAt);
        rows.Metric(instance.Bound);
        rows.Metric(settings.Radius);
        rows.Long(trial.Rank);
        rows.Metric(trial.SecondsMin);
        rows.Metric(trial.SecondsMedian);
        rows.Metric(trial.SecondsMad);
        rows.Metric(trial.CoreSeconds);
        rows.Metric(trial.Flops);
        rows.Metric(trial.StateBytes);
        rows.Metric(trial.MaxLogit);
        rows.Metric(trial.RmsLogit);
        rows.Metric(trial.BoundMeasured);
        rows.Metric(trial.Loss);
        rows.Metric(trial.GradientAbsoluteError);
        rows.Metric(trial.GradientRelativeError);
        rows.Metric(trial.LossRelativeError);
        rows.Metric(trial.ForwardRelativeError);
        rows.Metric(trial.MinRowSumOverN);
        rows.Long(trial.NonPositiveRowSums);
        rows.Metric(trial.FittedRadius);
        rows.Metric(trial.PredictedExpError);
        rows.Metric(trial.TheoremBound);
        rows.Metric(trial.TheoremSlack);
        rows.Metric(trial.SpeedupOverExact);
        rows.Metric(trial.ProjectSeconds);
        rows.Metric(trial.MomentsSeconds);
        rows.Metric(trial.RowsSeconds);
        rows.Metric(trial.ReduceSeconds);
        rows.Long((long?)trial.SpanId);
        rows.Uuid(Identity.KeyOf(instance.Key, configuration.CanonicalText));
        rows.Uuid(instance.Key);
        rows.Uuid(traceId);
        rows.Uuid(trial.Digest);
        rows.Int(lease.Shard);
        rows.Int(lease.Epoch);
        rows.Int(nodeId);
        rows.Int(instance.N);
        rows.Int(instance.D);
        rows.Int(instance.Repeat);
        rows.Int(spec.Threads);
        rows.Int(trial.Attempts);
        rows.Int(settings.Degree);
        rows.Int(trial.FittedDegree);
        rows.Int(trial.ReferenceRows);
        rows.Metric(trial.GradientErrorStandardError);
        rows.Metric(trial.LossErrorStandardError);
        rows.Bool(settings.Centred);
        rows.Text(Word(trial.Status));
        rows.Text(instance.Family);
        rows.Text(spec.Kernel);
        rows.Text(spec.Precision);
        rows.Text(settings.Basis);
        rows.Text(settings.Form);
        rows.Text(trial.Reason);
        Parameters(rows, settings.Others, null);
        Parameters(rows, instance.Settings, instance.Parameters);
    }

    /// <summary>What was written, as a summary tells it apart, and how many trials of each.</summary>
    internal Dictionary<StoredConfiguration, int> Configurations()
    {
        Dictionary<StoredConfiguration, int> all = [];
        foreach (Configuration configuration in _configurations.Values)
        {
            string name = Encoding.UTF8.GetString(configuration.CanonicalText);
            foreach (((int n, int d, double? bound, TrialStatus status), int trials) in configuration.Counts())
            {
                CollectionsMarshal.GetValueRefOrAddDefault(all, new StoredConfiguration(name, n, d, bound, status), out _) += trials;
            }
        }

        return all;
    }

    private Configuration ConfigurationOf(TrialSpec spec)
    {
        if (!_configurations.TryGetValue(spec, out Configuration? configuration))
        {
            configuration = new Configuration(
                Encoding.UTF8.GetBytes(Identity.Canonical(spec)), KernelSettings.Of(spec.Settings));
            _configurations.Add(spec, configuration);
        }

        return configuration;
    }

    private static void Parameters(
        CopyBuffer rows, IReadOnlyDictionary<string, object>? first, IReadOnlyDictionary<string, object>? second)
    {
        if ((first is null || first.Count == 0) && (second is null || second.Count == 0))
        {
            rows.Null();
            return;
        }

        ArrayBufferWriter<byte> buffer = new(128);
        using (Utf8JsonWriter writer = new(buffer))
        {
            writer.WriteStartObject();
            Members(writer, first, null);
            Members(writer, second, first);
            writer.WriteEndObject();
        }

        rows.Jsonb(buffer.WrittenSpan);
    }

    private static void Members(
        Utf8JsonWriter writer, IReadOnlyDictionary<string, object>? members, IReadOnlyDictionary<string, object>? except)
    {
        foreach ((string name, object value) in members ?? new Dictionary<string, object>())
        {
            if (except?.ContainsKey(name) == true)
            {
                continue;
            }

            writer.WritePropertyName(Clean(name));
            switch (value)
            {
                case long integer: writer.WriteNumberValue(integer); break;
                case int integer: writer.WriteNumberValue(integer); break;
                case bool flag: writer.WriteBooleanValue(flag); break;
                case double real when double.IsFinite(real): writer.WriteNumberValue(real); break;
                default: writer.WriteStringValue(Clean(value is string word ? word : Identity.Text(value))); break;
            }
        }
    }

    /// <summary>The writer refuses lone surrogates, which jsonb does too.</summary>
    private static string Clean(string text) =>
        Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(CopyBuffer.CleanText(text)));

    private sealed class Configuration(byte[] canonicalText, KernelSettings settings)
    {
        private readonly Dictionary<(int N, int D, double? Bound, TrialStatus Status), int> _trials = [];
        private (int N, int D, double? Bound, TrialStatus Status) _last;
        private int _ofLast;

        public byte[] CanonicalText { get; } = canonicalText;

        public KernelSettings Settings { get; } = settings;

        // Nearly every trial is of the size and the bound of the one before: a table is asked only where that changes.
        public void Count(InstanceSpec instance, TrialStatus status)
        {
            if (_last.N != instance.N || _last.D != instance.D || _last.Bound != instance.Bound || _last.Status != status)
            {
                Note();
                _last = (instance.N, instance.D, instance.Bound, status);
            }

            _ofLast++;
        }

        public Dictionary<(int N, int D, double? Bound, TrialStatus Status), int> Counts()
        {
            Note();
            return _trials;
        }

        private void Note()
        {
            if (_ofLast > 0)
            {
                CollectionsMarshal.GetValueRefOrAddDefault(_trials, _last, out _) += _ofLast;
                _ofLast = 0;
            }
        }
    }

    /// <summary>A kernel's settings, those with a column apart from the others.</summary>
    private readonly record struct KernelSettings(
        int? Degree, string? Basis, string? Form, bool? Centred, double? Radius, Dictionary<string, object>? Others)
    {
        internal static KernelSettings Of(IReadOnlyDictionary<string, object> settings)
        {
            KernelSettings found = default;
            foreach ((string name, object value) in settings)
            {
                found = (name, value) switch
                {
                    ("degree", long degree) when degree == (int)degree => found with { Degree = (int)degree },
                    ("basis", string basis) => found with { Basis = basis },
                    ("form", string form) => found with { Form = form },
                    ("centred", bool centred) => found with { Centred = centred },
                    ("radius", double radius) => found with { Radius = radius },
                    ("radius", long radius) => found with { Radius = radius },
                    _ => found with { Others = With(found.Others, name, value) },
                };
            }

            return found;
        }

        private static Dictionary<string, object> With(Dictionary<string, object>? others, string name, object value)
        {
            others ??= new Dictionary<string, object>(StringComparer.Ordinal);
            others[name] = value;
            return others;
        }
    }
}
