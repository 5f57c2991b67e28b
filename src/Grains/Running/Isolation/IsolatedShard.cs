using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using System.Text.Json.Nodes;
using Experiments.Grains.Telemetry;
using Experiments.Results.Outcomes;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <summary>One shard that is computed by processes of its own: what is done, which trials are suspected, which are given up.</summary>
/// <remarks>
/// A process is asked for all that is left. When it dies, the trial that it was at is suspected and asked for alone, beside nothing but the exact
/// trials that it is paired with; it is given up when it has died alone, and as often as the sweep has it tried. So a kernel whose
/// threads kill the process during another's trial does not have that one given up. What was finished before stays.
/// </remarks>
internal sealed class IsolatedShard
{
    private const int LongestWords = 200;
    private const int WholeInstance = -1;
    private static readonly string[] TellingWords = ["Process terminated", "Stack overflow", "Unhandled exception", "Fatal error", "Out of memory"];

    private readonly ShardRun _run;
    private readonly Lane _lane;
    private readonly IsolationOptions _options;
    private readonly MemoryBudget _memory;
    private readonly IFileLibrary _files;
    private readonly TimeProvider _time;
    private readonly IsolatedWire _wire = new();
    private readonly Dictionary<long, (InstancePlan Plan, int First)> _instances = [];
    private readonly HashSet<long> _stored;
    private readonly HashSet<TrialPlace> _barred = [];
    private readonly Dictionary<TrialPlace, int> _deaths = [];
    private readonly Stack<TrialPlace> _suspects = new();
    private readonly List<TrialOutcome> _outcomes = [];
    private readonly List<SpanRecord> _spans = [];
    private MemoryBudget.Reservation? _reserved;
    private TrialPlace? _next;
    private TrialPlace? _at;
    private DateTimeOffset _since;
    private bool _kills;
    private volatile bool _hung;

    public IsolatedShard(ShardRun run, Lane lane, IsolationOptions options, MemoryBudget memory, IFileLibrary files, TimeProvider time)
    {
        (_run, _lane, _options, _memory, _files, _time) = (run, lane, options, memory, files, time);
        _stored = [.. run.Stored];
        int first = 0;
        for (long index = run.Lease.FirstInstance; index < run.Lease.EndInstance; index++)
        {
            if (run.Plan.At(index) is InstancePlan plan)
            {
                _instances.Add(index, (plan, first));
                first += plan.Trials.Count;
            }
        }
    }

    public bool IsOver { get; private set; }

    /// <summary>Whether the last process came so far as to begin an instance, or to the end.</summary>
    public bool HadBegun { get; private set; }

    /// <summary>How the last process ended, for a person.</summary>
    public string LastEnding { get; private set; } = "";

    /// <summary>Hands the outcomes on, whole and in order, once everything is over: what the processes finished came as they died.</summary>
    public ShardResult Result()
    {
        foreach (TrialOutcome outcome in _outcomes.OrderBy(o => o.Trial))
        {
            _run.Outcomes.Add(outcome);
            ShardRunner.Measured(outcome);
        }

        return new ShardResult([]) { Spans = _spans, Kills = _kills };
    }

    /// <summary>Chooses what the next process is asked for: true when it is a suspect alone.</summary>
    public bool TryNextAlone()
    {
        while (_suspects.TryPeek(out TrialPlace known) && !IsWanted(known))
        {
            _suspects.Pop();
        }

        _next = _suspects.TryPeek(out TrialPlace suspect) ? suspect : null;
        return _next is not null;
    }

    /// <summary>Has the process compute what was chosen; true when it has come to the end of it.</summary>
    public bool Work(IsolatedProcess process)
    {
        TrialPlace? alone = _next;
        (_at, _hung, HadBegun) = (null, false, false);
        using CancellationTokenRegistration cancelled = _run.Cancellation.UnsafeRegister(static p => ((IsolatedProcess)p!).Kill(), process);
        List<LocatedFiles> held = [];
        using ITimer watch = _time.CreateTimer(_ => EndHung(process), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        try
        {
            process.Say(IsolatedWire.Text(new IsolatedJob(
                _run.Plan.Specification, _run.Lease, _stored, _barred, alone, _lane.Index, _lane.Count, _memory.Free, Located(held),
                Traceparent())));
            while (process.Hear() is string line)
            {
                watch.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
                if (IsolatedWire.Read<IsolatedMessage>(line) is not IsolatedMessage message)
                {
                    break;
                }

                if (message.Ended)
                {
                    HadBegun = true;
                    IsOver = alone is null;
                    return true;
                }

                Note(message, process);
                if (_at is { Place: not WholeInstance })
                {
                    watch.Change((2 * _run.Plan.Limits.TrialTimeout) + _options.Patience, Timeout.InfiniteTimeSpan);
                }
            }
        }
        finally
        {
            _reserved?.Dispose();
            _reserved = null;
            held.ForEach(h => h.Dispose());
        }

        IReadOnlyList<string> words = process.WaitForEnd();
        _run.Cancellation.ThrowIfCancellationRequested();
        LastEnding = words.Count == 0 ? process.Ending : $"{process.Ending}; it wrote: {Telling(words)}";
        if (_at is TrialPlace at)
        {
            Died(at, alone, new Evidence(process.ExitCode, process.Ending, words));
            IsOver = _stored.Count >= _run.Lease.Trials;
        }

        return false;
    }

    /// <summary>Has what the shard reads at hand, since the process has no store to fetch it from.</summary>
    private Dictionary<string, string> Located(List<LocatedFiles> held)
    {
        Dictionary<string, string> paths = [];
        foreach ((InstancePlan plan, _) in _instances.Values)
        {
            if (plan.Instance.Files.All(f => paths.ContainsKey(f.Content)))
            {
                continue;
            }

            try
            {
                LocatedFiles files = _files.Locate(plan.Instance, _run.Cancellation);
                held.Add(files);
                foreach ((string content, string path) in files.Paths)
                {
                    paths[content] = path;
                }
            }
            catch (InvalidDataException)
            {
                // The process finds nothing where the sweep says, and fails the trials of that instance.
            }
        }

        return paths;
    }

    private void EndHung(IsolatedProcess process)
    {
        _hung = true;
        process.Kill();
    }

    private string? Traceparent() => !_run.IsTraced ? null
        : $"00-{_run.Parent.TraceId.ToHexString()}-{_run.Parent.SpanId.ToHexString()}-01";

    private void Note(IsolatedMessage message, IsolatedProcess process)
    {
        if (message.Fault is string fault)
        {
            throw new InvalidOperationException(fault);
        }

        if (message.Reserve is double bytes)
        {
            _reserved = _memory.Reserve(bytes, _run.Cancellation);
            process.Say(IsolatedWire.Granted);
        }
        else if (message.Instance is long index && message.Outcomes is JsonElement outcomes)
        {
            Finish(index, _wire.Read(_instances[index].Plan, outcomes));
            _spans.AddRange(message.Spans ?? []);
            _reserved?.Dispose();
            (_reserved, _at) = (null, null);
        }
        else if (message.Instance is long instance)
        {
            (_at, _since, HadBegun) = (new TrialPlace(instance, message.Place ?? WholeInstance), _time.GetUtcNow(), true);
            InstancePlan plan = _instances[instance].Plan;
            if (message.Place is int place)
            {
                _lane.Begin(plan.Trials[place]);
            }
            else
            {
                _lane.Begin(plan.Instance, "in a process of its own");
            }
        }
    }

    private void Finish(long index, IReadOnlyList<TrialOutcome> outcomes)
    {
        (InstancePlan plan, int first) = _instances[index];
        Dictionary<long, TrialSpec> numbers = [];
        for (int i = 0; i < plan.Trials.Count; i++)
        {
            if (_run.Lease.NumberOf(first + i) is long number)
            {
                numbers.Add(number, plan.Trials[i]);
            }
        }

        foreach (TrialOutcome outcome in outcomes)
        {
            // A trial under another's number would be the worst of all faults.
            if (!numbers.TryGetValue(outcome.Trial, out TrialSpec? spec) || !ReferenceEquals(spec, outcome.Spec))
            {
                throw new InvalidOperationException(
                    $"Trial {outcome.Trial} of sweep {_run.Lease.SweepId} is another one in the process that computed it.");
            }

            Add(outcome);
        }
    }

    private void Add(TrialOutcome outcome)
    {
        if (_stored.Add(outcome.Trial))
        {
            _outcomes.Add(outcome);
            _run.Count(outcome.Status);
        }
    }

    private long? NumberOf(TrialPlace place) => _run.Lease.NumberOf(_instances[place.Instance].First + place.Place);

    /// <summary>Whether the trial is the shard's own and has no outcome yet.</summary>
    private bool IsWanted(TrialPlace place) => NumberOf(place) is long number && !_stored.Contains(number) && !_barred.Contains(place);

    private void Died(TrialPlace at, TrialPlace? alone, Evidence evidence)
    {
        int deaths = _deaths[at] = _deaths.GetValueOrDefault(at) + 1;
        bool enough = _hung || deaths > _run.Plan.Limits.Retries;
        if (at.Place == WholeInstance)
        {
            // Alone is a process that has drawn nothing else: an earlier kernel's thread may be what killed this one.
            bool drawnAlone = alone?.Instance == at.Instance;
            IEnumerable<TrialPlace> places = Enumerable.Range(0, _instances[at.Instance].Plan.Trials.Count).Select(i => at with { Place = i });
            if (enough && (_hung || drawnAlone))
            {
                foreach (TrialPlace place in places)
                {
                    GiveUp(place, deaths, evidence, "drawing the instance or computing its reference");
                }
            }
            else if (!drawnAlone && places.Where(IsWanted).Select(p => (TrialPlace?)p).FirstOrDefault() is TrialPlace first)
            {
                _suspects.Push(first);
            }
        }
        else if (!IsWanted(at))
        {
            // It was there to be compared with; the others go without it.
            if (enough)
            {
                _barred.Add(at);
            }
        }
        else if (enough && (_hung || alone == at))
        {
            GiveUp(at, deaths, evidence, null);
        }
        else if (alone != at)
        {
            _suspects.Push(at);
        }
    }

    private void GiveUp(TrialPlace place, int deaths, Evidence evidence, string? during)
    {
        bool wanted = IsWanted(place);
        _barred.Add(place);
        if (!wanted)
        {
            return;
        }

        (InstancePlan plan, _) = _instances[place.Instance];
        TrialOutcome outcome = new()
        {
            Trial = NumberOf(place)!.Value,
            InstanceIndex = place.Instance,
            Instance = plan.Instance,
            Spec = plan.Trials[place.Place],
            StartedAt = _since,
            Status = TrialStatus.Failed,
            Attempts = deaths,
            Reason = Reason(deaths, evidence, during),
        };
        AddSpan(outcome, evidence);
        Add(outcome);
        _kills |= !_hung;
    }

    private string Reason(int deaths, Evidence evidence, string? during)
    {
        if (_hung)
        {
            return $"timed out after {Describe.Time(_run.Plan.Limits.TrialTimeout)} (limits.trial_timeout) and did not end when it was told to: "
                + "its process was killed";
        }

        string times = deaths == 1 ? "" : string.Create(CultureInfo.InvariantCulture, $" {deaths} times of {deaths}");
        string silos = _run.Lease.Deaths switch
        {
            0 => "",
            1 => "; 1 silo had died with its shard before",
            int before => string.Create(CultureInfo.InvariantCulture, $"; {before} silos had died with its shard before"),
        };
        string words = evidence.Words.Count == 0 ? "" : $"; it wrote: {Telling(evidence.Words)}";
        return $"killed its process ({evidence.Ending}){times}{(during is null ? "" : $" while {during}")}, where nothing else ran{silos}{words}";
    }

    /// <summary>The line that says most, cut to a length that a table bears; the span has them all.</summary>
    private static string Telling(IReadOnlyList<string> words)
    {
        int at = words.ToList().FindIndex(w => TellingWords.Any(t => w.StartsWith(t, StringComparison.OrdinalIgnoreCase)));
        string line = (at >= 0 ? words[at] : words.LastOrDefault(w => !string.IsNullOrWhiteSpace(w)) ?? "").Trim();
        if (at >= 0 && at + 1 < words.Count && line.EndsWith('.') && !words[at + 1].StartsWith("   at ", StringComparison.Ordinal))
        {
            // The runtime gives its own word a line, and why the next.
            line = $"{line} {words[at + 1].Trim()}";
        }

        return line.Length > LongestWords ? line[..LongestWords] + "…" : line;
    }

    private void AddSpan(TrialOutcome outcome, Evidence evidence)
    {
        if (!_run.IsTraced)
        {
            return;
        }

        ulong id = BinaryPrimitives.ReadUInt64BigEndian(RandomNumberGenerator.GetBytes(sizeof(ulong)));
        outcome.SpanId = id;
        JsonObject attributes = new()
        {
            ["experiments.trial.text"] = outcome.Spec.ToString(),
            ["experiments.trial.attempts"] = outcome.Attempts,
            ["experiments.process.exit_code"] = evidence.ExitCode,
            ["experiments.process.stderr"] = string.Join('\n', evidence.Words),
            ["experiments.shard.deaths"] = _run.Lease.Deaths,
        };
        _spans.Add(new SpanRecord(
            SpanRecords.IdOf(_run.Parent.TraceId), id, SpanRecords.IdOf(_run.Parent.SpanId), "trial", "internal", outcome.StartedAt,
            (_time.GetUtcNow() - outcome.StartedAt).TotalSeconds, outcome.Reason, _run.Lease.SweepId, _run.Lease.Shard, outcome.Trial,
            attributes.ToJsonString()));
    }

    /// <param name="Ending">As a person says it.</param>
    /// <param name="Words">What it wrote to its standard error.</param>
    private sealed record Evidence(int ExitCode, string Ending, IReadOnlyList<string> Words);
}
