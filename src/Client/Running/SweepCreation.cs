using System.Diagnostics;
using System.Reflection;
using Experiments.Client.Terminals;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;
using Experiments.Silo;

namespace Experiments.Client.Running;

/// <summary>A sweep file on its way into the store: checked before anything is started, counted meanwhile, stored as a whole.</summary>
internal sealed class SweepCreation
{
    private readonly SweepSource _source;
    private readonly SweepSpec _spec;
    private readonly SweepExpansion _expansion;
    private readonly Task<SweepCounts> _counting;
    private readonly string _name;
    private readonly int _priority;
    private readonly IReadOnlyList<CarriedFile> _files;
    private readonly Terminal _terminal;
    private readonly double _traceShare;

    /// <summary>Reads the file. A mistyped key costs no server.</summary>
    /// <param name="name">Instead of what the file says, or null.</param>
    /// <param name="leaveFiles">The files that it is over are not stored with it.</param>
    public SweepCreation(Invocation invocation, string file, string[]? set, string? name, int priority, bool leaveFiles)
    {
        _terminal = invocation.Terminal;
        _priority = priority;
        _traceShare = invocation.Settings.TraceShare;
        _source = SweepSource.Find(file, set ?? []);
        Catalog catalog = invocation.Catalog;
        _spec = _source.Parse(catalog);
        _name = name?.Trim() ?? _spec.Name;
        if (!SweepFile.IsName(_name))
        {
            throw CommandException.Invalid($"--name is {(_name.Length > 200 ? $"{_name.Length} characters long" : $"'{Format.OneLine(_name)}'")}; "
                + "1 to 200 characters on one line are needed.");
        }

        _files = FilesOf(_spec, leaveFiles);
        _expansion = new SweepExpansion(_spec, catalog);
        _counting = Task.Run(() => _expansion.Count(invocation.Cancellation), invocation.Cancellation);
    }

    /// <summary>The commit this program was built from, or null outside a repository.</summary>
    public static string? BuildCommit
    {
        get
        {
            string? version = typeof(SweepCreation).Assembly
                .GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion;
            int plus = version?.IndexOf('+', StringComparison.Ordinal) ?? -1;
            return plus < 0 ? null : version![(plus + 1)..];
        }
    }

    /// <summary>What goes into the store with a sweep.</summary>
    /// <exception cref="CommandException">It is more than a sweep carries.</exception>
    public static IReadOnlyList<CarriedFile> FilesOf(SweepSpec spec, bool leaveFiles) => leaveFiles ? []
        : CarriedFile.Refusal(spec.Files) is string refusal
            ? throw CommandException.Invalid($"{refusal} With --leave-files it carries none, and whoever runs it must see them under the same paths.")
            : spec.Files;

    /// <summary>Said before they are stored: gigabytes take a while.</summary>
    public static void TellOf(Terminal terminal, IReadOnlyList<CarriedFile> files)
    {
        if (files.Count > 0)
        {
            terminal.Notice($"{Format.Count(files.Count, "file")}, {Format.Bytes(files.Sum(f => (double)f.Bytes))}, {(files.Count == 1 ? "goes" : "go")} into the store with it.");
        }
    }

    public async Task<Prepared> StoreAsync(ResultStore store, CancellationToken cancellation)
    {
        SweepCounts counts = await _counting;
        if (counts.Trials == 0)
        {
            throw CommandException.Invalid($"{_source.Name} holds no trial: its 'where' leaves every one out.");
        }

        TellOf(_terminal, _files);
        ActivityTraceId traceId = ActivityTraceId.CreateRandom();
        bool recorded = SiloTelemetry.Records(traceId, _traceShare);
        ActivityContext trace = new(
            traceId, ActivitySpanId.CreateRandom(), recorded ? ActivityTraceFlags.Recorded : ActivityTraceFlags.None);
        long id = await store.CreateSweepAsync(
            new NewSweep(
                _name, _spec.Question, _spec.Seed, _spec.ToJson(), _spec.Hash, _source.Text, counts.Instances, counts.Trials,
                $"00-{trace.TraceId}-{trace.SpanId}-{(recorded ? "01" : "00")}", BuildCommit)
            {
                Priority = _priority,
                Files = _files,
            },
            _expansion.Shards(new CostModel { MeasuredRates = await store.MeasuredRatesAsync(cancellation) }, cancellation), cancellation);
        _terminal.Notice($"Sweep {id}, '{_name}': {Format.Count(counts.Trials, "trial")} on "
            + $"{Format.Count(counts.Instances, "instance")}.");
        return new Prepared(id, _name, trace);
    }
}
