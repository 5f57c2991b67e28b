using System.Diagnostics;
using System.Reflection;
using Experiments.Client.Terminals;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;

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
    private readonly Terminal _terminal;

    /// <summary>Reads the file. A mistyped key costs no server.</summary>
    /// <param name="name">Instead of what the file says, or null.</param>
    public SweepCreation(Invocation invocation, string file, string[]? set, string? name, int priority)
    {
        _terminal = invocation.Terminal;
        _priority = priority;
        _source = SweepSource.Find(file, set ?? []);
        Catalog catalog = invocation.Catalog;
        _spec = _source.Parse(catalog);
        _name = name?.Trim() ?? _spec.Name;
        if (!SweepFile.IsName(_name))
        {
            throw CommandException.Invalid($"--name is {(_name.Length > 200 ? $"{_name.Length} characters long" : $"'{Format.OneLine(_name)}'")}; "
                + "1 to 200 characters on one line are needed.");
        }

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

    public async Task<Prepared> StoreAsync(ResultStore store, CancellationToken cancellation)
    {
        SweepCounts counts = await _counting;
        if (counts.Trials == 0)
        {
            throw CommandException.Invalid($"{_source.Name} holds no trial: its 'where' leaves every one out.");
        }

        ActivityContext trace = new(
            ActivityTraceId.CreateRandom(), ActivitySpanId.CreateRandom(), ActivityTraceFlags.Recorded);
        long id = await store.CreateSweepAsync(
            new NewSweep(
                _name, _spec.Question, _spec.Seed, _spec.ToJson(), _spec.Hash, _source.Text, counts.Instances, counts.Trials,
                $"00-{trace.TraceId}-{trace.SpanId}-01", BuildCommit)
            {
                Priority = _priority,
            },
            _expansion.Shards(new CostModel { MeasuredRates = await store.MeasuredRatesAsync(cancellation) }, cancellation), cancellation);
        _terminal.Notice($"Sweep {id}, '{_name}': {Format.Count(counts.Trials, "trial")} on "
            + $"{Format.Count(counts.Instances, "instance")}.");
        return new Prepared(id, _name, trace);
    }
}
