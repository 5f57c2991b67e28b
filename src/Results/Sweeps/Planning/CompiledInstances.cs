using Experiments.Results.Sweeps.Expressions;
using Experiments.Results.Sweeps.Reading;

namespace Experiments.Results.Sweeps.Planning;

/// <summary>A fault that shows only once a combination is put into the expressions.</summary>
internal readonly record struct PlanFault(Place Place, string Message);

/// <summary>An axis in its slot.</summary>
internal sealed class Column(int slot, AxisSpec spec, WordTable words)
{
    private readonly double[]? _codes = spec.Values.Form == AxisForm.List
        ? [.. spec.Values.Items!.Select(v => spec.Type.Word is not null && v is string ? double.NaN : CodeOf(v, words))]
        : null;

    public int Slot { get; } = slot;

    public AxisSpec Spec { get; } = spec;

    public double At(long digit) => _codes is null ? Spec.Values.Number(digit) : _codes[digit];

    public static double CodeOf(object value, WordTable words) => value switch
    {
        string word => words.Code(word),
        bool flag => flag ? 1 : 0,
        long whole => whole,
        _ => (double)value,
    };
}

/// <summary>An axis computed from others, with the dimensions it depends on.</summary>
/// <param name="Leaves">The axes with values of their own that it rests on, for faults.</param>
internal sealed record Derivation(
    int Slot, AxisType Type, Evaluation Evaluate, ulong Mask, IReadOnlyList<(string Name, int Slot)> Leaves, Place Place)
{
    public PlanFault? Run(double[] slots)
    {
        double value;
        try
        {
            value = Evaluate(slots);
        }
        catch (MissingValueException ex)
        {
            return new PlanFault(Place, ex.Message);
        }

        slots[Slot] = value;
        return Type.ValueKind == ValueKind.Number && Type.Refuse(value) is string reason
            ? new PlanFault(Place, $"{reason.TrimEnd('.')} ({Describe(slots, Leaves)}).")
            : null;
    }

    public static string Describe(double[] slots, IReadOnlyList<(string Name, int Slot)> leaves) =>
        leaves.Count == 0 ? "always" : string.Join(", ", leaves.Select(l => $"{l.Name}={AxisType.Say(slots[l.Slot])}"));
}

internal sealed record Condition(Evaluation Evaluate, ulong Mask);

/// <summary>What a combination has to fulfil to be possible: a slice that lies within its file, rows that there are.</summary>
internal sealed record InstanceCheck(Func<double[], PlanFault?> Run, ulong Mask);

/// <summary>A block of instances with its axes in slots and its expressions compiled.</summary>
/// <remarks>A dimension is a bit of a mask; each expression knows the dimensions it depends on, so that what depends on few
/// of them is evaluated for few combinations. The last dimension is the repeats, on which nothing depends.</remarks>
internal sealed class CompiledInstances
{
    public const int MostDimensions = 62;

    private readonly WordTable _words;
    private readonly List<(AxisType Type, int Slot)> _axes = [];
    private readonly Dictionary<string, (int Slot, ulong Mask, List<(string Name, int Slot)> Leaves)> _names = new(StringComparer.Ordinal);
    private readonly List<(SliceSpec Slice, Evaluation?[] Bounds)> _slices = [];
    private readonly string[] _fileAxes;

    public CompiledInstances(InstanceBlock block, FamilyDefinition family, IReadOnlySet<string> choices, WordTable words)
    {
        Block = block;
        _words = words;
        _fileAxes = [.. family.Axes.Where(a => a.IsFile).Select(a => a.Name)];
        Scope = new Dictionary<string, Slot>(StringComparer.Ordinal);
        Columns = new Column[block.Dimensions.Count][];
        Counts = [.. block.Dimensions.Select(d => d.Count), block.Repeats];
        int familySlot = AddName("family", ValueKind.Word, 0, []);
        List<(int Slot, double Value)> constants = [(familySlot, words.Code(block.Family))];
        for (int d = 0; d < Columns.Length; d++)
        {
            List<Column> columns = [];
            foreach (AxisSpec axis in block.Dimensions[d].Axes)
            {
                int slot = AddName(axis.Type.Name, axis.Type.ValueKind, 1UL << d, null);
                columns.Add(new Column(slot, axis, words));
                _axes.Add((axis.Type, slot));
            }

            Columns[d] = [.. columns];
        }

        foreach ((string name, object value) in block.Constants)
        {
            ValueKind kind = value is string ? ValueKind.Word : value is bool ? ValueKind.Flag : ValueKind.Number;
            constants.Add((AddName(name, kind, 0, []), Column.CodeOf(value, words)));
        }

        Strides = new long[Counts.Length];
        long size = 1;
        for (int d = Counts.Length - 1; d >= 0; d--)
        {
            Strides[d] = size;
            size = checked(size * Counts[d]);
        }

        Size = size;
        ExpressionCompiler compiler = new(Scope, choices, words);
        foreach (DerivedSpec derived in block.Derived)
        {
            (ulong mask, List<(string Name, int Slot)> leaves) = Dependencies(derived.Expression);
            Evaluation evaluate = compiler.Compile(derived.Expression).Evaluate;
            int slot = AddName(derived.Type.Name, derived.Type.ValueKind, mask, leaves);
            Derivations.Add(new Derivation(slot, derived.Type, evaluate, mask, leaves, derived.Place));
            _axes.Add((derived.Type, slot));
        }

        foreach (WhereSpec where in block.Where)
        {
            Conditions.Add(new Condition(compiler.Compile(where.Expression).Evaluate, Dependencies(where.Expression).Mask));
        }

        AddInertConditions();
        CompileFiles(compiler);
        AddLimits(family);
        AddRefusals(family);
        Template = new double[Scope.Count];
        foreach ((int slot, double value) in constants)
        {
            Template[slot] = value;
        }
    }

    public InstanceBlock Block { get; }

    /// <summary>Names and their slots, for this block's expressions and the kernels'.</summary>
    public Dictionary<string, Slot> Scope { get; }

    /// <summary>The axes of each dimension, the repeats excepted.</summary>
    public Column[][] Columns { get; }

    /// <summary>Extent of each dimension, the repeats last.</summary>
    public long[] Counts { get; }

    public long[] Strides { get; }

    public long Size { get; }

    public List<Derivation> Derivations { get; } = [];

    public List<Condition> Conditions { get; } = [];

    public List<InstanceCheck> Checks { get; } = [];

    /// <summary>Slots with the constants in place.</summary>
    public double[] Template { get; }

    public ulong MaskOf(string name) => _names[name].Mask;

    public int SlotOf(string name) => _names[name].Slot;

    public bool Has(string name) => _names.ContainsKey(name);

    public (ulong Mask, List<(string Name, int Slot)> Leaves) Dependencies(Expression expression)
    {
        ulong mask = 0;
        List<(string Name, int Slot)> leaves = [];
        foreach (NameExpression name in expression.Names())
        {
            if (_names.TryGetValue(name.Name, out (int Slot, ulong Mask, List<(string Name, int Slot)> Leaves) entry))
            {
                mask |= entry.Mask;
                leaves.AddRange(entry.Leaves.Where(l => !leaves.Contains(l)));
            }
        }

        return (mask, leaves);
    }

    public void Fill(double[] slots, int dimension, long digit)
    {
        if (dimension < Columns.Length)
        {
            foreach (Column column in Columns[dimension])
            {
                slots[column.Slot] = column.At(digit);
            }
        }
    }

    public long Digit(long index, int dimension) => index / Strides[dimension] % Counts[dimension];

    public void FillAll(double[] slots, long index)
    {
        for (int d = 0; d < Columns.Length; d++)
        {
            Fill(slots, d, Digit(index, d));
        }
    }

    /// <summary>Computes what is derived and asks every condition. False when one leaves the combination out.</summary>
    public bool Evaluate(double[] slots, out PlanFault? fault)
    {
        fault = null;
        foreach (Derivation derivation in Derivations)
        {
            fault = derivation.Run(slots) is PlanFault found ? fault ?? found : fault;
        }

        foreach (Condition condition in Conditions)
        {
            if (condition.Evaluate(slots) == 0)
            {
                fault = null;
                return false;
            }
        }

        for (int i = 0; i < Checks.Count && fault is null; i++)
        {
            fault = Checks[i].Run(slots);
        }

        return true;
    }

    public InstanceSpec Describe(double[] slots, int repeat, long seed)
    {
        Dictionary<string, object> settings = new(Block.Constants, StringComparer.Ordinal);
        Dictionary<string, object> parameters = new(StringComparer.Ordinal);
        int n = 0;
        int d = 0;
        double? bound = null;
        foreach ((AxisType type, int slot) in _axes)
        {
            double value = slots[slot];
            switch (type.Name)
            {
                case "n":
                    n = (int)value;
                    break;
                case "d":
                    d = (int)value;
                    break;
                case "bound":
                    bound = value;
                    break;
                default:
                    (type.Parameter ? parameters : settings)[type.Name] =
                        type.ValueKind == ValueKind.Word ? _words.Word(value) : type.Box(value);
                    break;
            }
        }

        foreach (string name in Block.Applies.Where(a => settings.ContainsKey(a.Key) && !Applies(a.Value, settings)).Select(a => a.Key).ToList())
        {
            settings.Remove(name);
        }

        AddFiles(settings, slots);
        return new InstanceSpec(Block.Family, n, d, bound, repeat, seed, settings, parameters);
    }

    public static bool Applies(AppliesSpec applies, Dictionary<string, object> settings) =>
        settings.TryGetValue(applies.On, out object? word) && applies.Words.Contains(Identity.Text(word));

    private int AddName(string name, ValueKind kind, ulong mask, List<(string Name, int Slot)>? leaves)
    {
        int slot = Scope.Count;
        Scope.Add(name, new Slot(slot, kind));
        // Words are told apart by their codes alone, which say nothing to a person.
        _names.Add(name, (slot, mask, leaves ?? (kind == ValueKind.Word ? [] : [(name, slot)])));
        return slot;
    }

    /// <summary>Where a family's axis means nothing, its values would make the same instance several times: the first stays.</summary>
    private void AddInertConditions()
    {
        for (int d = 0; d < Columns.Length; d++)
        {
            Column[] columns = Columns[d];
            if (Counts[d] < 2 || !columns.All(c => Block.Applies.ContainsKey(c.Spec.Type.Name)))
            {
                continue;
            }

            foreach (Column column in columns.Take(1))
            {
                AppliesSpec applies = Block.Applies[column.Spec.Type.Name];
                if (!_names.TryGetValue(applies.On, out (int Slot, ulong Mask, List<(string Name, int Slot)> Leaves) on))
                {
                    continue;
                }

                HashSet<double> codes = [.. applies.Words.Select(_words.Code)];
                double first = column.At(0);
                Conditions.Add(new Condition(
                    s => codes.Contains(s[on.Slot]) || s[column.Slot] == first ? 1 : 0, on.Mask | (1UL << d)));
            }
        }
    }

    /// <summary>Axes that may not exceed another, such as rows to be planted among n.</summary>
    private void AddLimits(FamilyDefinition family)
    {
        foreach (AxisDefinition axis in family.Axes.Where(a => a.NoMoreThan is not null && Has(a.Name) && Has(a.NoMoreThan)))
        {
            (int Slot, ulong Mask, List<(string Name, int Slot)> Leaves) own = _names[axis.Name], other = _names[axis.NoMoreThan!];
            Place place = PlaceOf(axis.Name) ?? Block.Place;
            double exempt = axis.Default is long usual ? usual : double.NaN;
            IReadOnlyList<(string Name, int Slot)> leaves = [.. own.Leaves.Union(other.Leaves)];
            Checks.Add(new InstanceCheck(
                slots => slots[own.Slot] <= slots[other.Slot] || slots[own.Slot] == exempt
                    ? null
                    : new PlanFault(place, $"{axis.Name} is {AxisType.Say(slots[own.Slot])} and may be at most {axis.NoMoreThan} "
                        + $"({Derivation.Describe(slots, leaves)})."),
                own.Mask | other.Mask));
        }
    }

    /// <summary>What the family itself refuses, told where the file stands that it was given, or else n.</summary>
    private void AddRefusals(FamilyDefinition family)
    {
        if (family.Refuse is not Func<InstanceSpec, string?> refuse)
        {
            return;
        }

        string[] axes = [.. family.Axes.Select(a => a.Name).Concat(["n", "d", "bound"]).Where(Has)];
        Place place = _fileAxes.Append("n").Select(PlaceOf).FirstOrDefault(p => p is not null) ?? Block.Place;
        Checks.Add(new InstanceCheck(
            slots => refuse(Describe(slots, 0, 0)) is string reason ? new PlanFault(place, reason) : null,
            axes.Aggregate(0UL, (mask, axis) => mask | MaskOf(axis))));
    }

    private Place? PlaceOf(string axis) => Block.Dimensions.SelectMany(d => d.Axes).FirstOrDefault(a => a.Type.Name == axis)?.Place
        ?? Block.Derived.FirstOrDefault(d => d.Type.Name == axis)?.Place;

    private void CompileFiles(ExpressionCompiler compiler)
    {
        if (Block.Files is not FilesSpec files)
        {
            return;
        }

        foreach (SliceSpec slice in files.Matrices)
        {
            Evaluation?[] bounds = [.. Enumerable.Range(0, 4).Select(i =>
                slice.Bounds?[i] is Expression bound ? compiler.Compile(bound).Evaluate : null)];
            _slices.Add((slice, bounds));
            if (slice.IsIdentity)
            {
                continue;
            }

            ulong mask = MaskOf("n") | MaskOf("d");
            foreach (Expression bound in slice.Bounds?.OfType<Expression>() ?? [])
            {
                mask |= Dependencies(bound).Mask;
            }

            Checks.Add(new InstanceCheck(slots => CheckSlice(slice, bounds, files.Contents[slice.File], slots), mask));
        }
    }

    private static double[] Corners(Evaluation?[] bounds, FileContent content, double[] slots) =>
    [
        bounds[0]?.Invoke(slots) ?? 0, bounds[1]?.Invoke(slots) ?? content.Rows,
        bounds[2]?.Invoke(slots) ?? 0, bounds[3]?.Invoke(slots) ?? content.Columns,
    ];

    private PlanFault? CheckSlice(SliceSpec slice, Evaluation?[] bounds, FileContent content, double[] slots)
    {
        double[] c = Corners(bounds, content, slots);
        double n = slots[SlotOf("n")];
        double d = slots[SlotOf("d")];
        string at = $"{slice.File}[{AxisType.Say(c[0])}:{AxisType.Say(c[1])}, {AxisType.Say(c[2])}:{AxisType.Say(c[3])}]";
        if (c.Any(v => !double.IsInteger(v)) || c[0] < 0 || c[2] < 0 || c[0] >= c[1] || c[2] >= c[3]
            || c[1] > content.Rows || c[3] > content.Columns)
        {
            return new PlanFault(
                slice.Place,
                $"{slice.Matrix} = {at} does not lie within {slice.File}.npy, which has shape ({content.Rows}, {content.Columns}) "
                + $"(n={AxisType.Say(n)}, d={AxisType.Say(d)}).");
        }

        double rows = slice.Matrix is "x" or "y" ? d : n;
        return c[1] - c[0] == rows && c[3] - c[2] == d
            ? null
            : new PlanFault(
                slice.Place,
                $"{slice.Matrix} = {at} has shape ({AxisType.Say(c[1] - c[0])}, {AxisType.Say(c[3] - c[2])}) and needs "
                + $"({AxisType.Say(rows)}, {AxisType.Say(d)}) (n={AxisType.Say(n)}, d={AxisType.Say(d)}).");
    }

    private void AddFiles(Dictionary<string, object> settings, double[] slots)
    {
        if (Block.Files is not FilesSpec files)
        {
            return;
        }

        settings["folder"] = files.Folder;
        foreach ((SliceSpec slice, Evaluation?[] bounds) in _slices)
        {
            if (slice.IsIdentity || slice.Bounds is null)
            {
                settings[slice.Matrix] = slice.File;
            }
            else
            {
                long[] c = [.. Corners(bounds, files.Contents[slice.File], slots).Select(v => (long)v)];
                settings[slice.Matrix] = FormattableString.Invariant($"{slice.File}[{c[0]}:{c[1]}, {c[2]}:{c[3]}]");
            }

            if (!slice.IsIdentity)
            {
                settings[InstanceFile.ContentPrefix + slice.Matrix] = files.Contents[slice.File].Hash;
            }
        }

        foreach (string axis in _fileAxes)
        {
            if (settings.TryGetValue(axis, out object? named))
            {
                settings[InstanceFile.ContentPrefix + axis] = files.Contents[(string)named].Hash;
            }
        }
    }
}
