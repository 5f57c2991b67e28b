using System.Text.Json;
using System.Text.Json.Serialization;
using Experiments.Results.Outcomes;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <summary>What a process is asked to compute: one shard, or what is left of it. A line of JSON.</summary>
/// <param name="Specification">The frozen one of the shard's part.</param>
/// <param name="Stored">Numbers of trials that are not to be run again.</param>
/// <param name="Lane">Which of how many lanes asks: the process pins as that lane would.</param>
/// <param name="FreeBytes">What the asking silo was made with, so that it skips what the silo would.</param>
/// <param name="Files">Where the silo holds files that are not where the sweep says, by content, until the process has answered.</param>
internal sealed record IsolatedJob(
    string Specification, ShardLease Lease, IReadOnlyCollection<long> Stored, IReadOnlyCollection<TrialPlace> Barred, TrialPlace? Alone,
    int Lane, int Lanes, double FreeBytes, IReadOnlyDictionary<string, string> Files, string? Traceparent);

/// <summary>What the process says: one thing at a time. A line of JSON.</summary>
internal sealed record IsolatedMessage
{
    /// <summary>The instance that is being drawn, called or, with <see cref="Outcomes"/>, finished.</summary>
    public long? Instance { get; init; }

    /// <summary>The trial that is about to be called, by its place; null while the instance is prepared.</summary>
    public int? Place { get; init; }

    /// <summary>Bytes that it waits to be granted.</summary>
    public double? Reserve { get; init; }

    public JsonElement? Outcomes { get; init; }

    public IReadOnlyList<SpanRecord>? Spans { get; init; }

    /// <summary>The job is done.</summary>
    public bool Ended { get; init; }

    /// <summary>A mistake of ours, which is nobody's outcome.</summary>
    public string? Fault { get; init; }
}

/// <summary>The JSON between a silo and its processes. Both expand the sweep, so an outcome names its trial by its place alone.</summary>
internal sealed class IsolatedWire
{
    /// <summary>The answer to <see cref="IsolatedMessage.Reserve"/>.</summary>
    public const string Granted = "granted";

    private static readonly JsonSerializerOptions Plain = new()
    {
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    };

    private readonly ExpandedAnew _places = new();
    private readonly JsonSerializerOptions _outcomes;

    public IsolatedWire() => _outcomes = new JsonSerializerOptions(Plain) { Converters = { new Instances(_places), new Trials(_places) } };

    public static string Text<T>(T message) => JsonSerializer.Serialize(message, Plain);

    /// <summary>Null where it is none: a process that dies as it writes leaves half a line.</summary>
    public static T? Read<T>(string line)
        where T : class
    {
        try
        {
            return JsonSerializer.Deserialize<T>(line, Plain);
        }
        catch (JsonException)
        {
            return null;
        }
    }

    public JsonElement Write(InstancePlan plan, IReadOnlyList<TrialOutcome> outcomes)
    {
        _places.Plan = plan;
        return JsonSerializer.SerializeToElement(outcomes, _outcomes);
    }

    /// <summary>The outcomes, each of the plan's own instance and trial.</summary>
    public IReadOnlyList<TrialOutcome> Read(InstancePlan plan, JsonElement outcomes)
    {
        _places.Plan = plan;
        return outcomes.Deserialize<List<TrialOutcome>>(_outcomes) ?? [];
    }

    private sealed class ExpandedAnew
    {
        private readonly Dictionary<TrialSpec, int> _places = new(ReferenceEqualityComparer.Instance);
        private InstancePlan? _plan;

        public InstancePlan Plan
        {
            get => _plan!;
            set
            {
                _plan = value;
                _places.Clear();
                for (int i = 0; i < value.Trials.Count; i++)
                {
                    _places[value.Trials[i]] = i;
                }
            }
        }

        public int PlaceOf(TrialSpec spec) => _places[spec];
    }

    private sealed class Instances(ExpandedAnew places) : JsonConverter<InstanceSpec>
    {
        public override InstanceSpec Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
            reader.GetGuid() == places.Plan.Instance.Key
                ? places.Plan.Instance
                : throw new InvalidOperationException($"Instance {places.Plan.Index} is another one in the process that computed it.");

        public override void Write(Utf8JsonWriter writer, InstanceSpec value, JsonSerializerOptions options) => writer.WriteStringValue(value.Key);
    }

    private sealed class Trials(ExpandedAnew places) : JsonConverter<TrialSpec>
    {
        public override TrialSpec Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
            places.Plan.Trials[reader.GetInt32()];

        public override void Write(Utf8JsonWriter writer, TrialSpec value, JsonSerializerOptions options) =>
            writer.WriteNumberValue(places.PlaceOf(value));
    }
}
