using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text;
using Experiments.Grains.Telemetry;
using Experiments.Results.Outcomes;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <summary>A lane that is a process: it computes the shards that another process asks for, one after another, and says before each
/// call what it is about to call. So when it dies, the one that asked knows of what.</summary>
/// <remarks>It knows no store, no cluster and no clock but its own. It ends when its standard input does, however its parent ended.</remarks>
public sealed class IsolatedLane
{
    private readonly Workbench _workbench;
    private readonly TextReader _asked;
    private readonly TextWriter _said;
    private readonly BlockingCollection<string> _lines = [];
    private readonly Dictionary<double, ShardRunner> _runners = [];
    private readonly TimeProvider _time;
    private readonly Catalog _catalog;
    private readonly IsolatedWire _wire = new();
    private readonly GivenFiles _files = new();
    private (string Specification, SweepPlan Plan)? _last;

    private IsolatedLane(Workbench workbench, TextReader asked, TextWriter said, TimeProvider time)
    {
        (_workbench, _asked, _said, _time) = (workbench, asked, said, time);
        _catalog = BuiltInCatalog.Create(workbench);
    }

    /// <summary>Serves until the input ends.</summary>
    /// <param name="workbench">What can run here, which must be what can run in the process that asks.</param>
    /// <param name="ended">Called on a thread of its own when the input has ended, while a kernel may be running; it should not return.</param>
    public static void Serve(Workbench workbench, Stream asked, Stream said, TimeProvider time, Action ended)
    {
        UTF8Encoding encoding = new(encoderShouldEmitUTF8Identifier: false);
        using StreamWriter writer = new(said, encoding) { AutoFlush = true };
        using StreamReader reader = new(asked, encoding);
        IsolatedLane lane = new(workbench, reader, writer, time);
        using ActivityListener listener = new()
        {
            ShouldListenTo = source => source.Name == ExperimentsTelemetry.SourceName,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = activity => ShardTraces.Keep(activity, collect: true),
        };
        ActivitySource.AddActivityListener(listener);
        new Thread(() => lane.Listen(ended)) { IsBackground = true, Name = "asked" }.Start();

        // A thread like a lane's: a kernel that needs more stack than one has overflows here as it did there.
        Thread compute = new(lane.Compute) { IsBackground = true, Name = "compute-0" };
        compute.Start();
        compute.Join();
    }

    private void Listen(Action ended)
    {
        while (_asked.ReadLine() is string line)
        {
            _lines.Add(line);
        }

        ended();
        _lines.CompleteAdding();
    }

    private void Compute()
    {
        foreach (string line in _lines.GetConsumingEnumerable())
        {
            try
            {
                Run(IsolatedWire.Read<IsolatedJob>(line) ?? throw new InvalidOperationException("What was asked for is no shard."));
                Say(new IsolatedMessage { Ended = true });
            }
            catch (Exception fault) when (fault is ArgumentException or InvalidOperationException)
            {
                Say(new IsolatedMessage { Fault = fault.Message });
            }
        }
    }

    private void Run(IsolatedJob job)
    {
        ShardLease lease = job.Lease;
        if (_last?.Specification != job.Specification)
        {
            _last = (job.Specification, SweepPlan.Of(lease.SweepId, job.Specification, _catalog));
        }

        if (!_runners.TryGetValue(job.FreeBytes, out ShardRunner? runner))
        {
            MemoryBudget memory = new(job.FreeBytes, Reserve);
            _runners.Add(job.FreeBytes, runner = new ShardRunner(_workbench, memory, new NoReferences(), _files, _time));
        }

        _files.Paths = job.Files;
        ActivityContext.TryParse(job.Traceparent, null, out ActivityContext parent);
        ShardRun run = new(_last.Value.Plan, lease, job.Stored.ToHashSet(), new OutcomeList(), CancellationToken.None)
        {
            Watch = new Watch(this, parent.TraceId, lease),
            Barred = job.Barred.ToHashSet(),
            Alone = job.Alone,
        };
        run.TryBegin(parent);
        ShardTraces.Begin(parent.TraceId);
        try
        {
            runner.Run(run, new Lane(job.Lane, job.Lanes));
        }
        finally
        {
            ShardTraces.End(parent.TraceId, lease);
        }
    }

    private void Reserve(double bytes)
    {
        Say(new IsolatedMessage { Reserve = bytes });
        if (_lines.Take() != IsolatedWire.Granted)
        {
            throw new InvalidOperationException("Asked for memory and was answered otherwise.");
        }
    }

    private void Say(IsolatedMessage message) => _said.WriteLine(IsolatedWire.Text(message));

    /// <summary>References are computed anew: a process that may die holds no connection to the store.</summary>
    private sealed class NoReferences : IReferenceLibrary
    {
        public ReferenceRecord? Find(Guid instanceKey, CancellationToken cancellation) => null;
    }

    /// <summary>What the process that asks holds for this one.</summary>
    private sealed class GivenFiles : IFileLibrary
    {
        public IReadOnlyDictionary<string, string> Paths { get; set; } = new Dictionary<string, string>();

        public LocatedFiles Locate(InstanceSpec instance, CancellationToken cancellation) =>
            new([.. instance.Files.Where(f => Paths.ContainsKey(f.Content)).Select(f => (f, Paths[f.Content]))], []);
    }

    private sealed class Watch(IsolatedLane lane, ActivityTraceId trace, ShardLease lease) : IShardWatch
    {
        private TrialPlace _said = new(-1, -1);

        public void Preparing(long instance)
        {
            _said = new TrialPlace(instance, -1);
            lane.Say(new IsolatedMessage { Instance = instance });
        }

        public void Calling(long instance, int place)
        {
            // A trial's calls in a row are said once, so that its samples stay undisturbed.
            if (_said != new TrialPlace(instance, place))
            {
                _said = new TrialPlace(instance, place);
                lane.Say(new IsolatedMessage { Instance = instance, Place = place });
            }
        }

        public void Finished(InstancePlan instance, IReadOnlyList<TrialOutcome> outcomes)
        {
            if (outcomes.Count > 0)
            {
                IReadOnlyList<SpanRecord> spans = ShardTraces.End(trace, lease);
                ShardTraces.Begin(trace);
                lane.Say(new IsolatedMessage { Instance = instance.Index, Outcomes = lane._wire.Write(instance, outcomes), Spans = spans });
            }
        }
    }
}
