using System.Collections.Concurrent;
using Experiments.Results.Sweeps.Planning;
using Experiments.Results.Sweeps.Reading;

namespace Experiments.Results.Sweeps;

/// <summary>A frozen sweep, expanded lazily: any instance by its index, exact counts, and shards, without holding them.</summary>
/// <remarks>
/// <para>Instances are numbered through the blocks in the file's order, the first axis of a block slowest and the repeats
/// fastest; trials through the instances, the kernel blocks in the file's order. The numbers are for good.</para>
/// <para>Predictions are taken to depend on the instance by the axes of <see cref="Predicted"/> alone, and by those of <see cref="PredictedByBound"/> of a
/// kernel that <see cref="KernelDefinition.PredictsByBound"/>, as <c>GradientCall.Predict</c> does.</para>
/// <para>Safe for concurrent use.</para>
/// </remarks>
public sealed class SweepExpansion
{
    /// <summary>The instance axes on which a call's cost depends.</summary>
    internal static readonly string[] Predicted = ["n", "d", "heads", "batch", "mask"];

    /// <summary>Those that bound the logits besides.</summary>
    internal static readonly string[] PredictedByBound = ["bound", "scale"];

    /// <summary>Kernel configurations of one instance: they share a shard, whose rows are stored together.</summary>
    private const long MostConfigurations = 100_000;

    /// <summary>How many cells of the grid a search may look at for its samples.</summary>
    private const long MostLookedAt = 100_000_000;

    /// <summary>Evaluations a count may take: some minutes.</summary>
    private const double MostCounted = 100_000_000;

    private const int MostCachedTrials = 1_000_000;

    private readonly SweepSpec _spec;
    private readonly CompiledInstances[] _blocks;
    private readonly CompiledKernels[] _kernels;
    private readonly long[] _starts;
    private readonly long _gridSize;
    private readonly Lazy<long> _samplePrefix;
    private readonly Lazy<long[]> _sobolCells;
    private readonly KernelDefinition? _exact;
    private readonly ConcurrentDictionary<(int Block, long Key), TrialList> _lists = new();
    private int _cachedTrials;

    /// <exception cref="SweepFileException">The sweep is too large to be numbered.</exception>
    /// <exception cref="ArgumentException">The sweep uses a kernel or family that is not known here.</exception>
    public SweepExpansion(SweepSpec spec, Catalog catalog)
    {
        _spec = spec;
        _exact = catalog.Kernels.FirstOrDefault(k => k.Name == "exact");
        HashSet<string> choices = SweepReader.KnownWords(catalog);
        Expressions.WordTable words = new();
        CheckSizes(spec);
        foreach (string family in spec.Instances.Select(b => b.Family).Where(f => catalog.Families.All(known => known.Name != f)))
        {
            throw new ArgumentException(
                $"The sweep uses the family '{family}', which is not known here. {catalog.NobodyHas(family)}");
        }

        _blocks = [.. spec.Instances.Select(b => new CompiledInstances(b, catalog.Families.First(f => f.Name == b.Family), choices, words))];
        _kernels = [.. _blocks.Select(b => new CompiledKernels(spec, catalog, b, choices, words))];
        _starts = new long[_blocks.Length];
        for (int b = 0; b < _blocks.Length; b++)
        {
            _starts[b] = _gridSize;
            _gridSize += _blocks[b].Size;
        }

        _samplePrefix = new Lazy<long>(FindSamplePrefix);
        _sobolCells = new Lazy<long[]>(FindSobolCells);
    }

    /// <summary>Size of the index space: the unfiltered product of the instance axes, repeats included; where the search
    /// samples it, as much of the sampling order as holds the samples.</summary>
    public long ProductSize => _spec.Search.Method switch
    {
        SearchMethod.Random => _samplePrefix.Value,
        SearchMethod.Sobol => _sobolCells.Value.Length,
        _ => _gridSize,
    };

    /// <summary>The instance at <paramref name="index"/>, or null when a <c>where</c> leaves it out or leaves it no trial.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The index is not below <see cref="ProductSize"/>.</exception>
    /// <exception cref="SweepFileException">The combination is impossible; the message names it.</exception>
    public InstancePlan? At(long index)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index, ProductSize);
        (int b, long inner) = Locate(Cell(index));
        CompiledInstances block = _blocks[b];
        double[] slots = [.. block.Template];
        block.FillAll(slots, inner);
        return ListAt(b, inner, slots) is TrialList { Trials.Count: > 0 } list
            ? new InstancePlan(index, block.Describe(slots, (int)block.Digit(inner, block.Counts.Length - 1), _spec.Seed), list.Trials)
            : null;
    }

    /// <summary>Exact counts, in constant memory.</summary>
    /// <exception cref="SweepFileException">A combination is impossible; the message names it.</exception>
    public SweepCounts Count(CancellationToken cancellation = default) => Tally(null, Throw, cancellation).Counts;

    /// <summary>Exact counts with predicted time and memory.</summary>
    /// <exception cref="SweepFileException">A combination is impossible; the message names it.</exception>
    public SweepForecast Forecast(CostModel model, CancellationToken cancellation = default) => Tally(model, Throw, cancellation);

    /// <summary>Runs of whole instances, each about a second by <paramref name="model"/>, in order; made as they are
    /// enumerated. They cover the index space without a gap. An instance too long for a shard has one of its own.</summary>
    public IEnumerable<ShardPlan> Shards(CostModel model, CancellationToken cancellation = default)
    {
        ShardBuilder builder = new(model);
        foreach ((long first, long count, int trials, double seconds) in Runs(model, cancellation))
        {
            // Instances without trials ride with their neighbours.
            for (long i = 0; i < count && trials > 0; i++)
            {
                cancellation.ThrowIfCancellationRequested();
                if (builder.Add(first + i, trials, seconds) is ShardPlan full)
                {
                    yield return full;
                }
            }
        }

        if (builder.Finish(ProductSize) is ShardPlan last)
        {
            yield return last;
        }
    }

    /// <summary>Looks for impossible combinations, if that takes no more than <paramref name="most"/> evaluations.</summary>
    internal void Check(FaultList faults, long most)
    {
        double configurations = _spec.Kernels.Sum(k => k.Dimensions.Aggregate((double)k.Kernels.Count, (a, d) => a * d.Count));
        InstanceWalk[] walks = [.. _blocks.Zip(_kernels, (b, k) => new InstanceWalk(b, k))];
        double cost = walks.Sum(w => w.Cost(configurations));
        if (cost > MostCounted && _spec.Search.Method == SearchMethod.Grid)
        {
            faults.Add(
                _spec.Instances[0].Place,
                $"The axes have {(double)_gridSize:G3} combinations, and counting their trials takes {cost:G3} evaluations; at most "
                + $"{MostCounted:G3} are made. Take fewer values, or search: random or sobol with samples.");
        }

        if (cost > most)
        {
            return;
        }

        HashSet<Place> told = [];
        long instances = 0;
        foreach (InstanceWalk walk in walks)
        {
            walk.Visit(
                _spec.Seed,
                (count, _, list) => instances += list.Trials.Count > 0 ? count : 0,
                fault =>
                {
                    // One combination of each expression is enough to mend it.
                    if (told.Add(fault.Place))
                    {
                        faults.Add(fault.Place, fault.Message);
                    }
                },
                CancellationToken.None);
        }

        if (!faults.Any && instances == 0)
        {
            faults.Add(_spec.Instances[0].Place, $"No trial is left: where leaves out every one of {_gridSize} instances or all their trials.");
        }

        if (!faults.Any && _spec.Search.Method != SearchMethod.Grid && _spec.Search.Samples > instances)
        {
            faults.Add(_spec.Search.Place, $"samples is {_spec.Search.Samples}, and the grid has {instances} instances to draw from; lower it or take search: grid.");
        }
    }

    private static double Product(IEnumerable<long> counts) => counts.Aggregate(1.0, (a, c) => a * c);

    private static void CheckSizes(SweepSpec spec)
    {
        FaultList faults = new();
        double configurations = spec.Kernels.Sum(k => Product(k.Dimensions.Select(d => d.Count).Append(k.Kernels.Count)));
        if (configurations > MostConfigurations)
        {
            faults.Add(
                spec.Kernels[0].Place,
                $"The kernels have {configurations:G4} configurations for each instance; at most {MostConfigurations} fit a shard. Split the sweep.");
        }

        double instances = 0;
        foreach (InstanceBlock block in spec.Instances)
        {
            instances += Product(block.Dimensions.Select(d => d.Count).Append(block.Repeats));
            if (instances * Math.Max(1, configurations) > long.MaxValue / 2)
            {
                faults.Add(block.Place, $"The axes have {instances:G4} combinations, which with the kernels' are more than can be numbered ({long.MaxValue / 2:G4}); take fewer values.");
            }

            if (block.Dimensions.Count > CompiledInstances.MostDimensions)
            {
                faults.Add(block.Place, $"The block has {block.Dimensions.Count} axes; at most {CompiledInstances.MostDimensions} are possible.");
            }

            if (spec.Search.Method == SearchMethod.Sobol && block.Dimensions.Count + 1 > SobolSequence.MostDimensions)
            {
                faults.Add(block.Place, $"search: sobol takes at most {SobolSequence.MostDimensions - 1} axes, and this block has {block.Dimensions.Count}; take search: random.");
            }
        }

        faults.ThrowIfAny(spec.DisplayName);
    }

    private void Throw(PlanFault fault) => throw new SweepFileException(
        _spec.DisplayName, [new SweepFault(fault.Place.Line, fault.Place.Column, fault.Message)]);

    private (int Block, long Inner) Locate(long cell)
    {
        int found = Array.BinarySearch(_starts, cell);
        int b = found >= 0 ? found : ~found - 1;
        return (b, cell - _starts[b]);
    }

    private long Cell(long index) => _spec.Search.Method switch
    {
        SearchMethod.Random => Sampling.Permute(index, _gridSize, SearchSeed),
        SearchMethod.Sobol => _sobolCells.Value[index],
        _ => index,
    };

    private ulong SearchSeed => Sampling.Mix((ulong)_spec.Seed ^ 0x7365617263680000UL);

    /// <summary>The trials of a combination whose axes are in the slots; null when a condition leaves it out.</summary>
    private TrialList? ListAt(int b, long inner, double[] slots)
    {
        CompiledInstances block = _blocks[b];
        if (!block.Evaluate(slots, out PlanFault? fault))
        {
            return null;
        }

        if (fault is PlanFault found)
        {
            Throw(found);
        }

        CompiledKernels kernels = _kernels[b];
        long key = 0;
        for (int d = 0; d < block.Columns.Length; d++)
        {
            key += (kernels.Mask & (1UL << d)) == 0 ? 0 : block.Digit(inner, d) * block.Strides[d];
        }

        if (!_lists.TryGetValue((b, key), out TrialList? list))
        {
            list = kernels.Evaluate(slots, block.Describe(slots, 0, _spec.Seed));
            if (Interlocked.Add(ref _cachedTrials, list.Trials.Count + 16) > MostCachedTrials)
            {
                _lists.Clear();
                Interlocked.Exchange(ref _cachedTrials, 0);
            }

            _lists.TryAdd((b, key), list);
        }

        if (list.Fault is PlanFault impossible)
        {
            Throw(impossible);
        }

        return list;
    }

    private TrialList? ListOfCell(long cell)
    {
        (int b, long inner) = Locate(cell);
        double[] slots = [.. _blocks[b].Template];
        _blocks[b].FillAll(slots, inner);
        return ListAt(b, inner, slots);
    }

    /// <summary>Runs of consecutive instances that are alike in all that trials depend on: first index, how many, trials of
    /// each and seconds of each.</summary>
    private IEnumerable<(long First, long Count, int Trials, double Seconds)> Runs(CostModel model, CancellationToken cancellation)
    {
        Dictionary<TrialList, double> seconds = new(ReferenceEqualityComparer.Instance);
        double Seconds(TrialList list, InstanceSpec instance)
        {
            if (!seconds.TryGetValue(list, out double value))
            {
                if (seconds.Count > 10_000)
                {
                    seconds.Clear();
                }

                seconds.Add(list, value = SecondsOf(model, instance, list));
            }

            return value;
        }

        if (_spec.Search.Method != SearchMethod.Grid)
        {
            for (long i = 0; i < ProductSize; i++)
            {
                cancellation.ThrowIfCancellationRequested();
                (int b, long inner) = Locate(Cell(i));
                double[] slots = [.. _blocks[b].Template];
                _blocks[b].FillAll(slots, inner);
                TrialList? list = ListAt(b, inner, slots);
                yield return (i, 1, list?.Trials.Count ?? 0, list is null ? 0 : Seconds(list, _blocks[b].Describe(slots, 0, _spec.Seed)));
            }

            yield break;
        }

        for (int b = 0; b < _blocks.Length; b++)
        {
            CompiledInstances block = _blocks[b];
            ulong relevant = _kernels[b].Mask;
            block.Derivations.ForEach(d => relevant |= d.Mask);
            block.Conditions.ForEach(c => relevant |= c.Mask);
            block.Checks.ForEach(c => relevant |= c.Mask);
            int last = 63 - System.Numerics.BitOperations.LeadingZeroCount(relevant);
            long length = last < 0 ? block.Size : block.Strides[last];
            double[] slots = [.. block.Template];
            for (long inner = 0; inner < block.Size; inner += length)
            {
                cancellation.ThrowIfCancellationRequested();
                block.FillAll(slots, inner);
                TrialList? list = ListAt(b, inner, slots);
                bool some = list is { Trials.Count: > 0 };
                yield return (_starts[b] + inner, length, list?.Trials.Count ?? 0, some ? Seconds(list!, block.Describe(slots, 0, _spec.Seed)) : 0);
            }
        }
    }

    private double SecondsOf(CostModel model, InstanceSpec instance, TrialList list)
    {
        double seconds = model.InstanceSeconds(instance, Reference(instance), _spec.Measure.RowsOf(instance));
        for (int i = 0; i < list.Trials.Count; i++)
        {
            seconds += model.TrialSeconds(list.Trials[i], list.Predictions[i], _spec.Measure);
        }

        return seconds;
    }

    /// <summary>What the instance's exact reference costs; null where none is asked for, or none is possible.</summary>
    internal Prediction? Reference(InstanceSpec instance)
    {
        if (_spec.Measure.Reference == ReferenceMode.None || _exact is null)
        {
            return null;
        }

        try
        {
            return _exact.Predict(instance, new TrialSpec("exact", "float64", 1, new Dictionary<string, object>()));
        }
        catch (ArgumentException)
        {
            // The estimate does without it; the runner says so if the reference is truly impossible.
            return null;
        }
    }

    private SweepForecast Tally(CostModel? model, Action<PlanFault> fault, CancellationToken cancellation)
    {
        Totals totals = new(_spec, model);
        if (_spec.Search.Method == SearchMethod.Grid)
        {
            for (int b = 0; b < _blocks.Length; b++)
            {
                new InstanceWalk(_blocks[b], _kernels[b]).Visit(
                    _spec.Seed,
                    (count, instance, list) => totals.Add(count, instance, list, model is null ? 0 : SecondsOf(model, instance, list)),
                    fault,
                    cancellation);
            }
        }
        else
        {
            for (long i = 0; i < ProductSize; i++)
            {
                cancellation.ThrowIfCancellationRequested();
                (int b, long inner) = Locate(Cell(i));
                double[] slots = [.. _blocks[b].Template];
                _blocks[b].FillAll(slots, inner);
                if (ListAt(b, inner, slots) is TrialList list)
                {
                    InstanceSpec instance = _blocks[b].Describe(slots, 0, _spec.Seed);
                    totals.Add(1, instance, list, model is null ? 0 : SecondsOf(model, instance, list));
                }
            }
        }

        return totals.Finish(ProductSize);
    }

    /// <summary>Whether every cell surely has trials, so that the first samples are the samples.</summary>
    private bool NothingIsFiltered => _blocks.All(b => b.Conditions.Count == 0) && _kernels.All(k => k.AlwaysSome);

    private long FindSamplePrefix()
    {
        long samples = _spec.Search.Samples;
        if (samples <= _gridSize && NothingIsFiltered)
        {
            return samples;
        }

        long found = 0;
        long most = Math.Min(_gridSize, MostLookedAt);
        for (long i = 0; i < most; i++)
        {
            if (ListOfCell(Sampling.Permute(i, _gridSize, SearchSeed)) is { Trials.Count: > 0 } && ++found == samples)
            {
                return i + 1;
            }
        }

        Throw(TooFew(found));
        return 0;
    }

    private PlanFault TooFew(long found) => new(
        _spec.Search.Place,
        $"samples is {_spec.Search.Samples}, and the first {Math.Min(_gridSize, MostLookedAt)} cells of the grid hold {found} instances that where "
        + "leaves in; lower it or take search: grid.");

    private long[] FindSobolCells()
    {
        long samples = _spec.Search.Samples;
        int dimensions = 1 + _blocks.Max(b => b.Counts.Length);
        SobolSequence sobol = new(Math.Min(dimensions, SobolSequence.MostDimensions), SearchSeed);
        List<long> cells = [];
        HashSet<long> looked = [];

        // A grid is coarse: points fall into cells that were taken. What the sequence has not found by then is filled in at random.
        for (long point = 0; point < (16 * samples) + 1024 && point < uint.MaxValue && cells.Count < samples; point++)
        {
            Consider(SobolCell(sobol, point));
        }

        for (long i = 0; i < Math.Min(_gridSize, MostLookedAt) && cells.Count < samples; i++)
        {
            Consider(Sampling.Permute(i, _gridSize, SearchSeed));
        }

        if (cells.Count < samples)
        {
            Throw(TooFew(cells.Count));
        }

        return [.. cells];

        void Consider(long cell)
        {
            if (looked.Add(cell) && (NothingIsFiltered || ListOfCell(cell) is { Trials.Count: > 0 }))
            {
                cells.Add(cell);
            }
        }
    }

    /// <summary>The first coordinate picks the block by its share of the grid, the others the digits of its axes.</summary>
    private long SobolCell(SobolSequence sobol, long point)
    {
        (int b, _) = Locate(Math.Min(_gridSize - 1, (long)(sobol.Coordinate(point, 0) * _gridSize)));
        CompiledInstances block = _blocks[b];
        long inner = 0;
        for (int d = 0; d < block.Counts.Length; d++)
        {
            // With one block the first coordinate is free for the first axis.
            double u = sobol.Coordinate(point, _blocks.Length == 1 ? d : d + 1);
            inner += Math.Min(block.Counts[d] - 1, (long)(u * block.Counts[d])) * block.Strides[d];
        }

        return _starts[b] + inner;
    }

    private sealed class ShardBuilder(CostModel model)
    {
        private int _number;
        private long _first;
        private long _firstTrial;
        private int _trials;
        private double _seconds;
        private double _before;

        public ShardPlan? Add(long index, int trials, double seconds)
        {
            ShardPlan? full = null;
            if (_trials > 0 && model.IsTooMuch(_trials + (long)trials, _seconds + seconds, _before))
            {
                full = Close(index);
            }

            _trials += trials;
            _seconds += seconds;
            return full;
        }

        public ShardPlan? Finish(long end) => _trials > 0 ? Close(end) : null;

        private ShardPlan Close(long end)
        {
            ShardPlan shard = new(_number, _first, end, _firstTrial, _trials, _seconds);
            _number = checked(_number + 1);
            _first = end;
            _firstTrial += _trials;
            _before += _seconds;
            _trials = 0;
            _seconds = 0;
            return shard;
        }
    }

    private sealed class Totals(SweepSpec spec, CostModel? model)
    {
        private readonly KernelBlockCounts[] _blocks =
            [.. spec.Kernels.Select(k => new KernelBlockCounts(string.Join(", ", k.Kernels.Select(e => e.Name)), 0, 0, 0))];

        private long _instances;
        private double _seconds;
        private long _largest;
        private (InstanceSpec Instance, TrialSpec Trial)? _hungriest;
        private long _overMemory;

        public void Add(long count, InstanceSpec instance, TrialList list, double seconds)
        {
            _instances += list.Trials.Count > 0 ? count : 0;
            for (int b = 0; b < _blocks.Length; b++)
            {
                KernelTally tally = list.Blocks[b];
                KernelBlockCounts sum = _blocks[b];
                _blocks[b] = sum with
                {
                    Trials = sum.Trials + (count * tally.Trials),
                    FilteredTrials = sum.FilteredTrials + (count * tally.Filtered),
                    Duplicates = sum.Duplicates + (count * tally.Duplicates),
                };
            }

            if (model is null)
            {
                return;
            }

            _seconds += list.Trials.Count > 0 ? count * seconds : 0;
            for (int i = 0; i < list.Trials.Count; i++)
            {
                long bytes = CostModel.BytesOf(instance, list.Trials[i], list.Predictions[i], spec.Measure);
                _overMemory += bytes > (model.MemoryBytes ?? spec.Limits.MemoryBytes) ? count : 0;
                if (bytes > _largest)
                {
                    _largest = bytes;
                    _hungriest = (instance, list.Trials[i]);
                }
            }
        }

        public SweepForecast Finish(long product)
        {
            SweepCounts counts = new(
                _instances, _blocks.Sum(b => b.Trials), _blocks, product - _instances,
                _blocks.Sum(b => b.FilteredTrials), _blocks.Sum(b => b.Duplicates));
            return new SweepForecast(counts, _seconds, _largest, _hungriest?.Instance, _hungriest?.Trial, _overMemory);
        }
    }
}

/// <param name="Instances">Instances with at least one trial.</param>
/// <param name="Trials">Distinct trials.</param>
/// <param name="KernelBlocks">The trials by kernel block, in the file's order.</param>
/// <param name="FilteredInstances">Instances that <c>where</c> left out, or left no trial.</param>
/// <param name="FilteredTrials">Kernel configurations that a kernel block's <c>where</c> left out, over the instances that
/// their own block's <c>where</c> leaves in.</param>
/// <param name="Duplicates">Configurations dropped because the same instance has them already.</param>
public sealed record SweepCounts(
    long Instances, long Trials, IReadOnlyList<KernelBlockCounts> KernelBlocks, long FilteredInstances,
    long FilteredTrials, long Duplicates);

/// <param name="Kernels">The block's kernels, comma-separated.</param>
public sealed record KernelBlockCounts(string Kernels, long Trials, long FilteredTrials, long Duplicates);

/// <param name="Seconds">Predicted seconds of the whole sweep on one lane.</param>
/// <param name="LargestBytes">Bytes the hungriest trial needs.</param>
/// <param name="LargestInstance">Its instance; null when there is no trial.</param>
/// <param name="LargestTrial">The hungriest trial.</param>
/// <param name="TrialsOverMemory">Trials that need more than the cost model's memory limit, or else the sweep's own, and will be skipped.</param>
public sealed record SweepForecast(
    SweepCounts Counts, double Seconds, long LargestBytes, InstanceSpec? LargestInstance, TrialSpec? LargestTrial,
    long TrialsOverMemory);
