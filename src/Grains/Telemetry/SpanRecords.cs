using System.Buffers;
using System.Buffers.Binary;
using System.Diagnostics;
using System.Text;
using System.Text.Json;
using Experiments.Results.Outcomes;

namespace Experiments.Grains.Telemetry;

/// <summary>Activities as rows of the table <c>span</c>.</summary>
internal static class SpanRecords
{
    public static Guid IdOf(ActivityTraceId trace) => Guid.ParseExact(trace.ToHexString(), "N");

    /// <param name="lease">The shard whose trace it is of, or null when the span says itself what it belongs to.</param>
    public static SpanRecord Of(Activity activity, ShardLease? lease)
    {
        long? sweep = lease?.SweepId;
        int? shard = lease?.Shard;
        long? trial = null;
        ArrayBufferWriter<byte> buffer = new(256);
        using (Utf8JsonWriter json = new(buffer))
        {
            json.WriteStartObject();
            if (activity.Source.Name != ExperimentsTelemetry.SourceName)
            {
                json.WriteString("otel.scope.name", activity.Source.Name);
            }

            foreach ((string name, object? value) in activity.EnumerateTagObjects())
            {
                switch (name)
                {
                    case "experiments.sweep.id":
                        sweep = (long?)value;
                        break;
                    case "experiments.shard":
                        shard = (int?)value;
                        break;
                    case "experiments.trial":
                        trial = (long?)value;
                        break;
                    default:
                        Write(json, name, value);
                        break;
                }
            }

            foreach (ActivityLink link in activity.Links)
            {
                json.WriteString("link", $"00-{link.Context.TraceId.ToHexString()}-{link.Context.SpanId.ToHexString()}-01");
            }

            json.WriteEndObject();
        }

        return new SpanRecord(
            IdOf(activity.TraceId),
            IdOf(activity.SpanId),
            activity.ParentSpanId == default ? 0 : IdOf(activity.ParentSpanId),
            activity.DisplayName,
            activity.Kind.ToString().ToLowerInvariant(),
            new DateTimeOffset(activity.StartTimeUtc, TimeSpan.Zero),
            activity.Duration.TotalSeconds,
            activity.Status == ActivityStatusCode.Error ? activity.StatusDescription ?? "error" : null,
            sweep,
            shard,
            trial,
            buffer.WrittenCount == 2 ? null : Encoding.UTF8.GetString(buffer.WrittenSpan));
    }

    public static ulong IdOf(ActivitySpanId span)
    {
        Span<byte> bytes = stackalloc byte[8];
        span.CopyTo(bytes);
        return BinaryPrimitives.ReadUInt64BigEndian(bytes);
    }

    private static void Write(Utf8JsonWriter json, string name, object? value)
    {
        switch (value)
        {
            case null:
                json.WriteNull(name);
                break;
            case bool flag:
                json.WriteBoolean(name, flag);
                break;
            case int whole:
                json.WriteNumber(name, whole);
                break;
            case long whole:
                json.WriteNumber(name, whole);
                break;
            case double real when double.IsFinite(real):
                json.WriteNumber(name, real);
                break;
            default:
                json.WriteString(name, Convert.ToString(value, System.Globalization.CultureInfo.InvariantCulture));
                break;
        }
    }
}
