using Experiments.Results.Sweeps.Expressions;

namespace Experiments.Results.Sweeps.Planning;

/// <summary>The trials of an instance, and what was left out on the way.</summary>
internal sealed record TrialList(
    IReadOnlyList<TrialSpec> Trials, IReadOnlyList<Prediction> Predictions, IReadOnlyList<KernelTally> Blocks, PlanFault? Fault);

internal readonly record struct KernelTally(long Trials, long Filtered, long Duplicates);

/// <summary>All kernel blocks of a sweep, compiled over the slots of one block of instances.</summary>
internal sealed class CompiledKernels
{
    private readonly CompiledInstances _instances;
    private readonly List<Block> _blocks = [];
    private readonly Dictionary<string, int> _ids = new(StringComparer.Ordinal);
    private readonly int _instanceSlots;

    public CompiledKernels(SweepSpec spec, Catalog catalog, CompiledInstances instances, IReadOnlySet<string> choices, WordTable words)
    {
        _instances = instances;
        _instanceSlots = instances.Template.Length;
        bool byBound = spec.Kernels.Any(block => block.Kernels.Any(entry => PredictedByBound(block, entry, catalog)));
        foreach (string name in SweepExpansion.Predicted.Concat(byBound ? SweepExpansion.PredictedByBound : []).Where(instances.Has))
        {
            Mask |= instances.MaskOf(name);
        }

        foreach (KernelBlock kernels in spec.Kernels)
        {
            Block block = new(kernels, catalog, instances, choices, words, this);
            _blocks.Add(block);
            Mask |= block.Mask;
        }
    }

    private static bool PredictedByBound(KernelBlock block, KernelEntry entry, Catalog catalog) =>
        catalog.Kernels.First(k => k.Name == entry.Name) is { PredictsByBound: true } kernel
        && (kernel.Axes.All(a => a.Word is null)
            || block.Dimensions.SelectMany(d => d.Axes).Any(a => a.Type.Word is not null && (a.Values.Items?.Any(IsWord) ?? false)));

    private static bool IsWord(object value) => value is string or double.NaN;

    /// <summary>The instance dimensions on which an instance's trials depend: n, d, heads, batch, the mask, for some kernels bound and scale, and what the
    /// kernels' expressions name.</summary>
    public ulong Mask { get; }

    /// <summary>Whether every instance surely has a trial.</summary>
    public bool AlwaysSome => _blocks.Any(b => b.NeverFilters);

    /// <param name="slots">The instance's slots, everything that <see cref="Mask"/> covers in place.</param>
    public TrialList Evaluate(double[] slots, InstanceSpec instance)
    {
        List<TrialSpec> trials = [];
        List<Prediction> predictions = [];
        KernelTally[] tallies = new KernelTally[_blocks.Count];
        HashSet<int> seen = [];
        HashSet<string>? seenDerived = null;
        PlanFault? fault = null;
        for (int b = 0; b < _blocks.Count; b++)
        {
            Block block = _blocks[b];
            double[] all = new double[block.SlotCount];
            slots.AsSpan(0, _instanceSlots).CopyTo(all);
            long kept = 0;
            long filtered = 0;
            long duplicates = 0;
            for (long c = 0; c < block.Configurations; c++)
            {
                Candidate? candidate = block.Prepare(c, all, out PlanFault? found);
                if (block.Excludes(all, ref found))
                {
                    filtered++;
                    continue;
                }

                Prediction prediction = default;
                if (candidate is not null && !block.AsksPredictions && Repeated(candidate))
                {
                    duplicates++;
                    continue;
                }

                if (candidate is not null)
                {
                    prediction = block.Predict(candidate, instance, ref found);
                }

                if (block.AsksPredictions)
                {
                    bool excluded = block.ExcludesPredicted(all, candidate is null || found is not null ? null : prediction, ref found);
                    if (excluded)
                    {
                        filtered++;
                        continue;
                    }

                    if (candidate is not null && found is null && Repeated(candidate))
                    {
                        duplicates++;
                        continue;
                    }
                }

                if (found is not null)
                {
                    fault ??= found;
                    continue;
                }

                trials.Add(candidate!.Spec);
                predictions.Add(prediction);
                kept++;
            }

            tallies[b] = new KernelTally(kept, filtered, duplicates);
        }

        return new TrialList(trials.ToArray(), predictions.ToArray(), tallies, fault);

        // Trials made beforehand have a number for their text; the others are told apart by the text itself.
        bool Repeated(Candidate candidate) => _ids.TryGetValue(candidate.Canonical, out int id)
            ? !seen.Add(candidate.Id ?? id)
            : !(seenDerived ??= new(StringComparer.Ordinal)).Add(candidate.Canonical);
    }

    private int IdOf(string canonical)
    {
        if (!_ids.TryGetValue(canonical, out int id))
        {
            id = _ids.Count;
            _ids.Add(canonical, id);
        }

        return id;
    }

    /// <summary>A kernel configuration that may become a trial.</summary>
    private sealed record Candidate(TrialSpec Spec, KernelDefinition Kernel, string Canonical, int? Id);

    private sealed class Block
    {
        private const string NoRank =
            "rank is asked of a kernel that has none; give that kernel a block of its own, or write kernel == 'exact' or rank <= n.";

        private readonly KernelBlock _spec;
        private readonly WordTable _words;
        private readonly KernelDefinition[] _definitions;
        private readonly Dictionary<string, Slot> _scope;
        private readonly Column[][] _columns;
        private readonly long[] _strides;
        private readonly List<Derivation> _derivations = [];
        private readonly List<(Evaluation Evaluate, WhereSpec Spec)> _plain = [];
        private readonly List<(Evaluation Evaluate, WhereSpec Spec)> _predicted = [];
        private readonly List<(AxisType Type, int Slot)> _axes = [];
        private readonly (string Name, int Slot)[] _defaults;
        private readonly int _kernelSlot;
        private readonly int _precisionSlot;
        private readonly int _threadsSlot;
        private readonly int _rankSlot;
        private readonly double[] _kernelCodes;
        private readonly double _float32;
        private readonly Candidate[]? _prepared;
        private readonly double[][]? _preparedSlots;

        public Block(
            KernelBlock spec, Catalog catalog, CompiledInstances instances, IReadOnlySet<string> choices, WordTable words,
            CompiledKernels owner)
        {
            _spec = spec;
            _words = words;
            _definitions = [.. spec.Kernels.Select(k => catalog.Kernels.FirstOrDefault(d => d.Name == k.Name)
                ?? throw new ArgumentException($"The sweep uses the kernel '{k.Name}', which is not known here. {catalog.NobodyHas(k.Name)}"))];
            _scope = new Dictionary<string, Slot>(instances.Scope, StringComparer.Ordinal);
            SlotCount = instances.Template.Length;
            _kernelSlot = Add("kernel", ValueKind.Word, null);
            _precisionSlot = Add("precision", ValueKind.Word, null);
            _threadsSlot = Add("threads", ValueKind.Number, null);
            _rankSlot = Add("rank", ValueKind.Number, NoRank);
            Add("flops", ValueKind.Number, null);
            Add("state_bytes", ValueKind.Number, null);
            _float32 = words.Code("float32");
            _kernelCodes = [.. spec.Kernels.Select(k => words.Code(k.Name))];

            _columns = new Column[spec.Dimensions.Count][];
            _strides = new long[spec.Dimensions.Count];
            for (int d = 0; d < _columns.Length; d++)
            {
                _columns[d] = [.. spec.Dimensions[d].Axes.Select(a => new Column(AddAxis(a.Type), a, words))];
            }

            long size = 1;
            for (int d = _columns.Length - 1; d >= 0; d--)
            {
                _strides[d] = size;
                size = checked(size * spec.Dimensions[d].Count);
            }

            PerKernel = size;
            Configurations = checked(size * spec.Kernels.Count);
            string[] defaults = [.. spec.Kernels.SelectMany(k => k.Defaults.Keys).Distinct()
                .Where(n => !spec.Kernels.Any(k => k.Own.Contains(n)))];
            _defaults = [.. defaults.Select(n => (n, Add(n, KindOf(n), $"'{n}' is asked of a kernel that has no such axis; give that kernel a block of its own.")))];
            bool constant = CompileExpressions(instances, choices);
            NeverFilters = _plain.Count == 0 && _predicted.Count == 0;
            if (constant)
            {
                _prepared = new Candidate[Configurations];
                _preparedSlots = new double[Configurations][];
                double[] slots = new double[SlotCount];
                for (long c = 0; c < Configurations; c++)
                {
                    Fill(c, slots);
                    _preparedSlots[c] = slots[instances.Template.Length..];
                    Candidate candidate = Make(c, slots);
                    _prepared[c] = candidate with { Id = owner.IdOf(candidate.Canonical) };
                }
            }
        }

        public ulong Mask { get; private set; }

        public int SlotCount { get; private set; }

        public long PerKernel { get; }

        public long Configurations { get; }

        public bool AsksPredictions => _predicted.Count > 0;

        public bool NeverFilters { get; }

        /// <summary>Puts a configuration into the slots; null when a derived axis came to an impossible value.</summary>
        public Candidate? Prepare(long configuration, double[] slots, out PlanFault? fault)
        {
            fault = null;
            if (_prepared is not null)
            {
                double[] own = _preparedSlots![configuration];
                own.CopyTo(slots.AsSpan(slots.Length - own.Length));
                return _prepared[configuration];
            }

            Fill(configuration, slots);
            foreach (Derivation derivation in _derivations)
            {
                fault = derivation.Run(slots) is PlanFault found ? fault ?? found : fault;
            }

            return fault is null ? Make(configuration, slots) : null;
        }

        public bool Excludes(double[] slots, ref PlanFault? fault) => Excludes(_plain, slots, ref fault);

        public Prediction Predict(Candidate candidate, InstanceSpec instance, ref PlanFault? fault)
        {
            try
            {
                return candidate.Kernel.Predict(instance, candidate.Spec);
            }
            catch (Exception ex) when (ex is ArgumentException or OverflowException)
            {
                fault ??= new PlanFault(
                    _spec.Place, $"{(ex is OverflowException ? "Its sizes are beyond what can be counted" : ex.Message.TrimEnd('.'))} ({candidate.Spec} on n={instance.N}, d={instance.D}). A where can leave it out.");
                return default;
            }
        }

        /// <summary>Asks the conditions on rank, flops and state_bytes. What cannot be computed at all counts as infinite.</summary>
        public bool ExcludesPredicted(double[] slots, Prediction? prediction, ref PlanFault? fault)
        {
            slots[_rankSlot] = prediction is Prediction p ? p.Rank ?? double.NaN : double.PositiveInfinity;
            slots[_rankSlot + 1] = prediction?.Flops ?? double.PositiveInfinity;
            slots[_rankSlot + 2] = prediction?.StateBytes ?? double.PositiveInfinity;
            return Excludes(_predicted, slots, ref fault);
        }

        private static bool Excludes(List<(Evaluation Evaluate, WhereSpec Spec)> conditions, double[] slots, ref PlanFault? fault)
        {
            foreach ((Evaluation evaluate, WhereSpec spec) in conditions)
            {
                try
                {
                    if (evaluate(slots) == 0)
                    {
                        return true;
                    }
                }
                catch (MissingValueException ex)
                {
                    fault ??= new PlanFault(spec.Place, ex.Message);
                    return false;
                }
            }

            return false;
        }

        private ValueKind KindOf(string defaulted) =>
            _spec.Kernels.Select(k => k.Defaults.GetValueOrDefault(defaulted)).First(v => v is not null) switch
            {
                string => ValueKind.Word,
                bool => ValueKind.Flag,
                _ => ValueKind.Number,
            };

        private int Add(string name, ValueKind kind, string? missing)
        {
            int slot = SlotCount++;
            _scope[name] = new Slot(slot, kind, missing);
            return slot;
        }

        private int AddAxis(AxisType type)
        {
            int slot = type.Name switch
            {
                "precision" => _precisionSlot,
                "threads" => _threadsSlot,
                _ => Add(
                    type.Name, type.ValueKind,
                    type.Word is null ? null : $"{type.Name} is {type.Word} here, which is no number; give it a block of its own."),
            };
            _axes.Add((type, slot));
            return slot;
        }

        /// <summary>Whether no axis of the block depends on the instance.</summary>
        private bool CompileExpressions(CompiledInstances instances, IReadOnlySet<string> choices)
        {
            ExpressionCompiler compiler = new(_scope, choices, _words);
            HashSet<string> own = [.. _scope.Keys.Where(n => !instances.Has(n) || _scope[n].Index >= instances.Template.Length)];
            foreach (DerivedSpec derived in _spec.Derived)
            {
                own.Add(derived.Type.Name);
            }

            bool constant = true;
            foreach (DerivedSpec derived in _spec.Derived)
            {
                Evaluation evaluate = compiler.Compile(derived.Expression).Evaluate;
                List<(string Name, int Slot)> leaves = [.. derived.Expression.Names()
                    .Where(n => _scope.TryGetValue(n.Name, out Slot? s) && s.Kind == ValueKind.Number)
                    .Select(n => (n.Name, _scope[n.Name].Index)).Distinct()];
                constant = false;
                Note(derived.Expression);
                _derivations.Add(new Derivation(AddAxis(derived.Type), derived.Type, evaluate, 0, leaves, derived.Place));
            }

            foreach (WhereSpec where in _spec.Where)
            {
                Evaluation evaluate = compiler.Compile(where.Expression).Evaluate;
                Note(where.Expression);
                bool predicted = where.Expression.Names().Any(n => n.Name is "rank" or "flops" or "state_bytes");
                (predicted ? _predicted : _plain).Add((evaluate, where));
            }

            return constant;

            void Note(Expression expression)
            {
                foreach (NameExpression name in expression.Names().Where(n => !own.Contains(n.Name) && instances.Has(n.Name)))
                {
                    Mask |= instances.MaskOf(name.Name);
                }
            }
        }

        private void Fill(long configuration, double[] slots)
        {
            int kernel = (int)(configuration / PerKernel);
            slots[_kernelSlot] = _kernelCodes[kernel];
            slots[_precisionSlot] = _float32;
            slots[_threadsSlot] = 1;
            foreach ((string name, int slot) in _defaults)
            {
                slots[slot] = _spec.Kernels[kernel].Defaults.TryGetValue(name, out object? value)
                    ? Column.CodeOf(value, _words) : double.NaN;
            }

            for (int d = 0; d < _columns.Length; d++)
            {
                long digit = configuration / _strides[d] % _spec.Dimensions[d].Count;
                foreach (Column column in _columns[d])
                {
                    slots[column.Slot] = column.At(digit);
                }
            }
        }

        private Candidate Make(long configuration, double[] slots)
        {
            int index = (int)(configuration / PerKernel);
            KernelEntry entry = _spec.Kernels[index];
            Dictionary<string, object> settings = new(entry.Defaults, StringComparer.Ordinal);
            foreach ((AxisType type, int slot) in _axes)
            {
                if (entry.Own.Contains(type.Name))
                {
                    settings[type.Name] = type.ValueKind == ValueKind.Word ? _words.Word(slots[slot]) : type.Box(slots[slot]);
                }
            }

            // An axis may rest on one that is itself left out, so this goes on until nothing changes.
            while (entry.Applies.FirstOrDefault(a => settings.ContainsKey(a.Key) && !CompiledInstances.Applies(a.Value, settings)) is { Key: string name })
            {
                settings.Remove(name);
            }

            TrialSpec spec = new(entry.Name, _words.Word(slots[_precisionSlot]), (int)slots[_threadsSlot], settings);
            return new Candidate(spec, _definitions[index], Identity.Canonical(spec), null);
        }
    }
}
