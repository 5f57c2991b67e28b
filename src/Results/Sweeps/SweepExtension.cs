namespace Experiments.Results.Sweeps;

/// <summary>What a longer specification adds to a sweep: shards of the trials that it has and the sweep has not.</summary>
/// <remarks>
/// A trial is the same by its key, wherever either specification numbers it; so axes may gain values anywhere, blocks may come before others,
/// and repeats may grow. What the sweep has must all be there again and be measured alike. Every instance of both is looked at: some
/// seconds for a million.
/// </remarks>
public sealed class SweepExtension
{
    private readonly SweepSpec _before;
    private readonly SweepSpec _after;
    private readonly SweepExpansion _had;
    private readonly SweepExpansion _has;
    private readonly Builder _builder;

    private SweepExtension(SweepSpec before, SweepSpec after, Catalog catalog, CostModel model, int shards, long trials)
    {
        (_before, _after) = (before, after);
        _had = new SweepExpansion(before, catalog);
        _has = new SweepExpansion(after, catalog);
        _builder = new Builder(after, _has, catalog, model, shards, trials);
    }

    /// <summary>Shards of the new trials, each with at least one.</summary>
    public IReadOnlyList<ShardPlan> Shards => _builder.Shards;

    /// <summary>Instances of the longer sweep, all together.</summary>
    public long Instances { get; private set; }

    /// <summary>Those of them that have new trials.</summary>
    public long ExtendedInstances { get; private set; }

    public long NewTrials => Shards.Sum(s => (long)s.Trials);

    /// <param name="before">The sweep's specification.</param>
    /// <param name="shards">How many shards it has: the new ones are numbered on from there.</param>
    /// <param name="trials">How many trials it has, likewise.</param>
    /// <exception cref="ArgumentException">It is no extension; the message names what it lacks or changes.</exception>
    /// <exception cref="SweepFileException">A combination is impossible; the message names it.</exception>
    public static SweepExtension Of(
        SweepSpec before, SweepSpec after, Catalog catalog, CostModel model, int shards, long trials, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(before);
        ArgumentNullException.ThrowIfNull(after);
        if (ExtensionFaults.OfSettings(before, after) is string changed)
        {
            throw new ArgumentException(changed);
        }

        SweepExtension extension = new(before, after, catalog, model, shards, trials);
        extension.Compare(cancellation);
        return extension;
    }

    private void Compare(CancellationToken cancellation)
    {
        // An instance may stand in a sweep more than once, under other parameters of the file's own: as often it counts as had.
        Dictionary<Guid, Queue<long>> had = [];
        foreach (InstancePlan plan in All(_had, cancellation))
        {
            if (!had.TryGetValue(plan.Instance.Key, out Queue<long>? at))
            {
                had.Add(plan.Instance.Key, at = new Queue<long>(1));
            }

            at.Enqueue(plan.Index);
        }

        foreach (InstancePlan plan in All(_has, cancellation))
        {
            InstancePlan? before = had.TryGetValue(plan.Instance.Key, out Queue<long>? at) && at.TryDequeue(out long index) ? _had.At(index) : null;
            Dictionary<string, TrialSpec> stored = (before?.Trials ?? []).ToDictionary(Identity.Canonical);
            bool[] isNew = [.. plan.Trials.Select(t => !stored.Remove(Identity.Canonical(t)))];
            if (stored.Count > 0)
            {
                throw Lacks(stored.Values.First(), plan.Instance);
            }

            Instances++;
            ExtendedInstances += isNew.Contains(true) ? 1 : 0;
            _builder.Add(plan, isNew);
        }

        if (had.Values.FirstOrDefault(q => q.Count > 0) is Queue<long> gone)
        {
            InstancePlan lost = _had.At(gone.Peek())!;
            throw Lacks(lost.Trials[0], lost.Instance);
        }

        _builder.Close();
    }

    private static IEnumerable<InstancePlan> All(SweepExpansion expansion, CancellationToken cancellation)
    {
        long end = expansion.ProductSize;
        for (long i = 0; i < end; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            if (expansion.At(i) is InstancePlan plan)
            {
                yield return plan;
            }
        }
    }

    private ArgumentException Lacks(TrialSpec trial, InstanceSpec instance) => new(
        ExtensionFaults.OfAxes(_before, _after) ?? "It lacks trials that the sweep has, such as "
            + $"{trial} on {Identity.Canonical(instance).Replace("instance/1\n", "", StringComparison.Ordinal).Replace('\n', ' ')}.");

    /// <summary>Shards of those trials that are new. Instances without any that lie between others ride along and are not run.</summary>
    private sealed class Builder(SweepSpec spec, SweepExpansion expansion, Catalog catalog, CostModel model, int number, long trial)
    {
        private readonly Dictionary<string, KernelDefinition> _kernels = catalog.Kernels.ToDictionary(k => k.Name);
        private readonly List<int> _own = [];
        private long _first;
        private long _end;

        // Trials of the instances that were looked at since the shard's first, and of those up to its last.
        private int _looked;
        private int _inside;
        private double _seconds;
        private double _before;

        public List<ShardPlan> Shards { get; } = [];

        public void Add(InstancePlan plan, bool[] isNew)
        {
            int count = isNew.Count(n => n);
            if (count == 0)
            {
                _looked += _own.Count > 0 ? isNew.Length : 0;
                return;
            }

            double seconds = Seconds(plan, isNew);
            if (_own.Count > 0 && (model.IsTooMuch(_own.Count + (long)count, _seconds + seconds, _before) || _looked > int.MaxValue / 2))
            {
                Close();
            }

            _first = _own.Count == 0 ? plan.Index : _first;
            for (int i = 0; i < isNew.Length; i++)
            {
                if (isNew[i])
                {
                    _own.Add(_looked + i);
                }
            }

            _looked += isNew.Length;
            (_inside, _end) = (_looked, plan.Index + 1);
            _seconds += seconds;
        }

        public void Close()
        {
            if (_own.Count > 0)
            {
                Shards.Add(new ShardPlan(number, _first, _end, trial, _own.Count, double.IsFinite(_seconds) ? _seconds : 0)
                {
                    Only = _own.Count == _inside ? null : [.. _own],
                });
                number = checked(number + 1);
                trial += _own.Count;
                _before += _seconds;
            }

            _own.Clear();
            (_looked, _inside, _seconds) = (0, 0, 0);
        }

        /// <summary>Of the new trials, and of the exact ones that run beside them.</summary>
        private double Seconds(InstancePlan plan, bool[] isNew)
        {
            double seconds = model.InstanceSeconds(plan.Instance, expansion.Reference(plan.Instance), spec.Measure.RowsOf(plan.Instance));
            for (int i = 0; i < isNew.Length; i++)
            {
                TrialSpec one = plan.Trials[i];
                if ((isNew[i] || one.Kernel == "exact") && Predict(plan.Instance, one) is Prediction prediction)
                {
                    seconds += model.TrialSeconds(one, prediction, spec.Measure);
                }
            }

            return seconds;
        }

        private Prediction? Predict(InstanceSpec instance, TrialSpec one)
        {
            try
            {
                return _kernels.TryGetValue(one.Kernel, out KernelDefinition? kernel) ? kernel.Predict(instance, one) : null;
            }
            catch (ArgumentException)
            {
                // The estimate does without it; the runner says so if it is truly impossible.
                return null;
            }
        }
    }
}
