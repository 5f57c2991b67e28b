namespace Experiments.Results.Sweeps.Planning;

/// <summary>Visits a block of instances by what its trials depend on, counting the rest by structure.</summary>
/// <remarks>
/// The dimensions are split in three. Those on which the kernels' trials depend (n, d, heads, batch, the mask, and what the kernels' expressions
/// name) are walked one combination at a time. The others that some condition or expression of the block touches fall
/// into components that share no condition: a component's surviving combinations are counted once, or once for each
/// outer combination if one of its conditions looks outside. What nothing touches (repeats, most often) is a factor. So
/// a million trials over n, bound and repeats cost as many evaluations as there are values of n.
/// </remarks>
internal sealed class InstanceWalk
{
    private readonly CompiledInstances _block;
    private readonly CompiledKernels _kernels;
    private readonly int[] _outer;
    private readonly Part _level;
    private readonly List<Part> _components = [];
    private readonly long _factor = 1;

    public InstanceWalk(CompiledInstances block, CompiledKernels kernels)
    {
        _block = block;
        _kernels = kernels;
        int dimensions = block.Columns.Length;
        ulong outer = kernels.Mask;
        List<ulong> groups = [];
        foreach (ulong mask in block.Derivations.Select(d => d.Mask)
            .Concat(block.Conditions.Select(c => c.Mask)).Concat(block.Checks.Select(c => c.Mask)))
        {
            ulong inner = mask & ~outer;
            if (inner != 0)
            {
                groups.Where(g => (g & inner) != 0).ToList().ForEach(g => inner |= g);
                groups.RemoveAll(g => (g & inner) != 0);
                groups.Add(inner);
            }
        }

        _outer = Bits(outer);
        _level = new Part(block, [], outer, m => (m & ~outer) == 0);
        ulong touched = outer;
        foreach (ulong group in groups)
        {
            _components.Add(new Part(block, Bits(group), outer, m => (m & group) != 0));
            touched |= group;
        }

        for (int d = 0; d <= dimensions; d++)
        {
            if (d == dimensions || (touched & (1UL << d)) == 0)
            {
                _factor = checked(_factor * block.Counts[d]);
            }
        }
    }

    /// <summary>How many evaluations a walk takes, about.</summary>
    public double Cost(double configurations) =>
        _outer.Aggregate(1.0, (a, d) => a * _block.Counts[d]) * (1 + configurations + _components.Where(c => !c.Independent).Sum(c => c.Size))
        + _components.Where(c => c.Independent).Sum(c => c.Size);

    /// <summary>Calls <paramref name="visit"/> with each combination's instances (how many there are like it) and their trials.</summary>
    public void Visit(long seed, Action<long, InstanceSpec, TrialList> visit, Action<PlanFault> fault, CancellationToken cancellation)
    {
        double[] slots = [.. _block.Template];
        _block.FillAll(slots, 0);
        Dictionary<Part, (long Count, PlanFault? Fault)> cached = [];
        long[] digits = new long[_outer.Length];
        do
        {
            cancellation.ThrowIfCancellationRequested();
            for (int i = 0; i < digits.Length; i++)
            {
                _block.Fill(slots, _outer[i], digits[i]);
            }

            VisitOne(seed, slots, cached, visit, fault, cancellation);
        }
        while (Advance(digits, _outer));
    }

    private void VisitOne(
        long seed, double[] slots, Dictionary<Part, (long Count, PlanFault? Fault)> cached,
        Action<long, InstanceSpec, TrialList> visit, Action<PlanFault> report, CancellationToken cancellation)
    {
        if (!_level.Passes(slots, out PlanFault? fault))
        {
            return;
        }

        long instances = _factor;
        foreach (Part component in _components)
        {
            if (!cached.TryGetValue(component, out (long Count, PlanFault? Fault) counted))
            {
                counted = CountPart(component, slots, cancellation);
                if (component.Independent)
                {
                    cached.Add(component, counted);
                }
            }

            instances = checked(instances * counted.Count);
            fault ??= counted.Fault;
        }

        if (instances == 0)
        {
            return;
        }

        if (fault is PlanFault found)
        {
            report(found);
            return;
        }

        InstanceSpec instance = _block.Describe(slots, 0, seed);
        TrialList trials = _kernels.Evaluate(slots, instance);
        if (trials.Fault is PlanFault impossible)
        {
            report(impossible);
            return;
        }

        visit(instances, instance, trials);
    }

    private (long Count, PlanFault? Fault) CountPart(Part part, double[] slots, CancellationToken cancellation)
    {
        long[] digits = new long[part.Dimensions.Length];
        long count = 0;
        PlanFault? first = null;
        do
        {
            cancellation.ThrowIfCancellationRequested();
            for (int i = 0; i < digits.Length; i++)
            {
                _block.Fill(slots, part.Dimensions[i], digits[i]);
            }

            if (part.Passes(slots, out PlanFault? fault))
            {
                count++;
                first ??= fault;
            }
        }
        while (Advance(digits, part.Dimensions));
        return (count, first);
    }

    private bool Advance(long[] digits, int[] dimensions)
    {
        for (int i = digits.Length - 1; i >= 0; i--)
        {
            if (++digits[i] < _block.Counts[dimensions[i]])
            {
                return true;
            }

            digits[i] = 0;
        }

        return false;
    }

    private static int[] Bits(ulong mask) => [.. Enumerable.Range(0, 64).Where(d => (mask & (1UL << d)) != 0)];

    /// <summary>Dimensions walked together, with the expressions that look at them.</summary>
    private sealed class Part(CompiledInstances block, int[] dimensions, ulong outer, Func<ulong, bool> belongs)
    {
        private readonly Derivation[] _derivations = [.. block.Derivations.Where(d => belongs(d.Mask))];
        private readonly Condition[] _conditions = [.. block.Conditions.Where(c => belongs(c.Mask))];
        private readonly InstanceCheck[] _checks = [.. block.Checks.Where(c => belongs(c.Mask))];

        public int[] Dimensions { get; } = dimensions;

        public double Size { get; } = dimensions.Aggregate(1.0, (a, d) => a * block.Counts[d]);

        public bool Independent => _derivations.All(d => (d.Mask & outer) == 0)
            && _conditions.All(c => (c.Mask & outer) == 0) && _checks.All(c => (c.Mask & outer) == 0);

        public bool Passes(double[] slots, out PlanFault? fault)
        {
            fault = null;
            foreach (Derivation derivation in _derivations)
            {
                fault = derivation.Run(slots) is PlanFault found ? fault ?? found : fault;
            }

            foreach (Condition condition in _conditions)
            {
                if (condition.Evaluate(slots) == 0)
                {
                    return false;
                }
            }

            for (int i = 0; i < _checks.Length && fault is null; i++)
            {
                fault = _checks[i].Run(slots);
            }

            return true;
        }
    }
}
