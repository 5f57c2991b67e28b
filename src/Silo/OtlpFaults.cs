using System.Diagnostics.Tracing;
using System.Text.RegularExpressions;

namespace Experiments.Silo;

/// <summary>Hears what the OTLP exporter says of its failures, which it tells nobody but who listens so.</summary>
/// <remarks>An exporter wrapped in one of our own would lose the resource it belongs to, which the SDK gives to its own alone.</remarks>
internal sealed partial class OtlpFaults : EventListener
{
    private const string Exporter = "OpenTelemetry-Exporter-OpenTelemetryProtocol";

    private string? _last;

    /// <summary>Why the last export failed, in a few words; null when none has.</summary>
    public string? Last => Volatile.Read(ref _last);

    protected override void OnEventSourceCreated(EventSource eventSource)
    {
        if (eventSource.Name == Exporter)
        {
            EnableEvents(eventSource, EventLevel.Error);
        }
    }

    protected override void OnEventWritten(EventWrittenEventArgs eventData)
    {
        // Others' counters come to every listener, and are of the level that is always told.
        if (eventData.EventSource.Name == Exporter && eventData.Level is EventLevel.Critical or EventLevel.Error)
        {
            // The exception comes along as text: its type's name, its message, its stack.
            string text = eventData.Payload?.OfType<string>().LastOrDefault(p => p.Length > 0) ?? eventData.EventName ?? "";
            Volatile.Write(ref _last, TypeName().Replace(text.Split('\n')[0], "").Trim().TrimEnd('.'));
        }
    }

    [GeneratedRegex(@"^[\w.]+Exception( \(0x\w+\))?: ")]
    private static partial Regex TypeName();
}
