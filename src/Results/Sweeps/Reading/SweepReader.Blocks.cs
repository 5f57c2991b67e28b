using Experiments.Results.Sweeps.Expressions;

namespace Experiments.Results.Sweeps.Reading;

internal sealed partial class SweepReader
{
    private static readonly AxisDefinition N = Common("n", AxisKind.Integer, 1, int.MaxValue);
    private static readonly AxisDefinition D = Common("d", AxisKind.Integer, 1, int.MaxValue);
    private static readonly AxisDefinition Bound = Common("bound", AxisKind.Real, double.Epsilon, double.PositiveInfinity);

    private static readonly AxisDefinition Precision =
        Common("precision", AxisKind.Choice, 0, 0) with { Choices = ["float32", "float64"], Default = "float32" };

    private static readonly AxisDefinition Threads =
        Common("threads", AxisKind.Integer, 1, 4096) with { Default = 1L };

    private static AxisDefinition Common(string name, AxisKind kind, double least, double most) =>
        new(name, kind, name, null, least, most, [], null, Required: false);

    private void ReadInstances(
        SourceMap map, HashSet<string> usedByKernels, List<InstanceBlock> blocks, List<Dictionary<string, ValueKind>> scopes)
    {
        (SourceScalar? familyKey, SourceNode? familyNode) = Find(map, "family", [N.Name, D.Name, Bound.Name, "repeats", "where", "zip"]);
        if (familyNode is null || familyKey is null)
        {
            _faults.Add(map.Place, $"'family' is missing; there are {string.Join(", ", _catalog.Families.Select(f => f.Name))}.");
            return;
        }

        List<SourceNode> families = familyNode is SourceList list ? list.Items : [familyNode];
        if (families.Count == 0)
        {
            _faults.Add(familyNode.Place, "family is empty; name at least one.");
        }

        string[] names = [.. _catalog.Families.Select(f => f.Name)];
        HashSet<string> seen = [];
        foreach (SourceNode node in families)
        {
            if (_scalars.Word(node, "family", names, _catalog.NobodyHas) is not string family)
            {
                continue;
            }

            if (!seen.Add(family))
            {
                _faults.Add(node.Place, $"family lists {family} twice; each value may stand once. For repetitions use repeats.");
                continue;
            }

            ReadInstances(map, familyKey, _catalog.Families.First(f => f.Name == family), usedByKernels, blocks, scopes);
        }
    }

    private void ReadInstances(
        SourceMap map, SourceScalar key, FamilyDefinition family, HashSet<string> usedByKernels,
        List<InstanceBlock> blocks, List<Dictionary<string, ValueKind>> scopes)
    {
        Place place = key.Place;
        bool isFiles = family.Name == FilesFamily;
        List<AxisDefinition> definitions = [N, D, Bound, .. family.Axes.Where(a => !isFiles || !FilesReader.Owns(a.Name))];
        RawBlock raw = Gather(map, [key.Value, "repeats", "where"], isFiles);
        HashSet<string> known = [.. raw.Axes.Select(a => a.Name), .. definitions.Select(d => d.Name)];

        HashSet<string> used = [.. Identifiers(map).Concat(usedByKernels)];
        List<ReadAxis> axes = [];
        List<string> refused = [];
        foreach (RawAxis axis in raw.Axes)
        {
            AxisDefinition? definition = definitions.FirstOrDefault(d => d.Name == axis.Name);
            if (definition is null && !used.Contains(axis.Name))
            {
                RefuseUnknown(axis, family, definitions, isFiles, used);
                refused.Add(axis.Name);
                continue;
            }

            if (isFiles && axis.Name == "bound")
            {
                _faults.Add(axis.Key.Place, "files has no bound: the matrices are taken as they are, and B is measured.");
                continue;
            }

            axes.Add(_axes.Read(axis, definition is null ? [] : [definition], known));
        }

        FilesSpec? files = null;
        if (isFiles)
        {
            files = new FilesReader(_faults, _scalars, _words, _baseFolder, _known).Read(raw.Files, place);
            AddExtents(axes, files, map.Place);
        }
        else if (axes.Where(a => definitions.Any(d => d.IsFile && d.Name == a.Raw.Name)).ToList() is { Count: > 0 } named)
        {
            files = new FilesReader(_faults, _scalars, _words, _baseFolder, _known).ReadNamed(named);
        }

        foreach (AxisDefinition definition in definitions)
        {
            bool needed = definition == N || definition == D || (definition == Bound && family.NeedsBound) || definition.Required;
            if (needed && raw.Axes.All(a => a.Name != definition.Name) && axes.All(a => a.Raw.Name != definition.Name))
            {
                if (IsMeant(definition.Name, refused, definitions))
                {
                    continue;
                }

                string what = definition == N ? "the tokens" : definition == D ? "the head dimension"
                    : definition == Bound ? "the largest entry of A1 X and A2" : definition.Summary.TrimEnd('.');
                if (!isFiles || files is not null)
                {
                    _faults.Add(map.Place, $"{family.Name} needs '{definition.Name}', {what}.");
                }
            }
        }

        SortedDictionary<string, object> constants = new(StringComparer.Ordinal);
        foreach (AxisDefinition definition in definitions)
        {
            if (definition.Default is object value && raw.Axes.All(a => a.Name != definition.Name))
            {
                constants.Add(definition.Name, value);
            }
        }

        Dictionary<string, ValueKind> scope = new(StringComparer.Ordinal) { ["family"] = ValueKind.Word };
        foreach ((string name, object value) in constants)
        {
            scope[name] = KindOf(value);
        }

        // A name whose values are at fault is still known, lest every expression over it be blamed as well.
        foreach (string name in raw.Axes.Select(a => a.Name).Except(axes.Select(a => a.Raw.Name)))
        {
            scope[name] = ValueKind.Number;
        }

        List<DerivedSpec> derived = ResolveDerived(axes, [scope]);
        List<WhereSpec> where = ReadWhere(map, [scope]);
        CheckSlices(files, scope);
        long repeats = map.Entries.FirstOrDefault(e => e.Key.Value == "repeats").Value is SourceNode repeatsNode
            ? _scalars.Whole(repeatsNode, "repeats", 1, int.MaxValue) ?? 1 : 1;
        List<DimensionSpec> dimensions = ReadDimensions(raw, axes);
        scopes.Add(scope);

        Dictionary<string, AppliesSpec> applies = family.Axes
            .Where(a => a.AppliesTo is not null)
            .ToDictionary(a => a.Name, a => new AppliesSpec(a.AppliesTo!.Value.Axis, a.AppliesTo.Value.Words), StringComparer.Ordinal);
        blocks.Add(new InstanceBlock(
            family.Name, dimensions, derived, constants, applies, where, repeats, files, map.Place));
    }

    private void RefuseUnknown(
        RawAxis axis, FamilyDefinition family, List<AxisDefinition> definitions, bool isFiles, HashSet<string> used)
    {
        List<string> names = [.. definitions.Select(d => d.Name).Where(n => !isFiles || n != "bound")];
        string own = string.Join(", ", names);
        IEnumerable<string> near = names.Concat(["family", "repeats", "where", "zip"]);
        if (isFiles)
        {
            near = near.Concat(FilesReader.Matrices).Append("folder");
        }
        else if (FilesReader.Owns(axis.Name))
        {
            _faults.Add(axis.Key.Place, $"'{axis.Name}' belongs to the family files, and this block's is {family.Name}.");
            return;
        }

        // A name that an expression misspells is told once, where the expression stands.
        if (used.Where(u => u.Length > 1 && !_words.Contains(u) && !names.Contains(u))
            .Any(u => NearestName.Of(u, [axis.Name]) is not null) && NearestName.Of(axis.Name, near) is null)
        {
            return;
        }

        _faults.Add(
            axis.Key.Place,
            $"'{axis.Name}' is no axis of {family.Name}, and no expression uses it.{NearestName.Hint(axis.Name, near)} Its axes are {own}.");
    }

    /// <summary>n and d of the files family, from the slice that a1 is, when the block does not name them.</summary>
    private static void AddExtents(List<ReadAxis> axes, FilesSpec? files, Place place)
    {
        if (files?.Matrices.FirstOrDefault(m => m.Matrix == "a1") is not SliceSpec a1
            || !files.Contents.TryGetValue(a1.File, out FileContent? content))
        {
            return;
        }

        foreach ((AxisDefinition definition, int at, long extent) in new[] { (N, 0, content.Rows), (D, 2, content.Columns) })
        {
            if (axes.Any(a => a.Raw.Name == definition.Name))
            {
                continue;
            }

            SourceScalar origin = new(a1.Place, definition.Name, quoted: false, null);
            AxisType type = new(definition.Name, definition.Kind, definition.Minimum, definition.Maximum, Parameter: false);
            RawAxis raw = new(definition.Name, new SourceScalar(place, definition.Name, quoted: false, null), origin);
            // A slice that ends at n, of a block that does not name n, ends where the file does.
            Expression? bound = a1.Bounds?[at + 1];
            Expression end = bound is null || (bound is NameExpression name && name.Name == definition.Name)
                ? new NumberExpression(0, extent) : bound;
            Expression size = a1.Bounds?[at] is Expression first && first is not NumberExpression { Value: 0 } ? new BinaryExpression(0, "-", end, first) : end;
            axes.Add(size is NumberExpression { Value: double whole }
                ? new ReadAxis(raw, type, AxisValues.Of([(long)whole]), null, null)
                : size.Names().Any(n => n.Name == definition.Name)
                    ? new ReadAxis(raw, type, null, null, null)
                    : new ReadAxis(raw, type, null, size, origin));
        }

        // An expression over n does not say what n is.
        axes.RemoveAll(a => a.Failed && a.Raw.Value is SourceScalar s && s.Place == a1.Place && s.Value == a.Raw.Name);
    }

    /// <summary>Whether a key that was refused is one of these mistyped: that it is missing need not be said as well.</summary>
    private static bool IsMeant(string name, IEnumerable<string> refused, IEnumerable<AxisDefinition> definitions) =>
        refused.Any(r => NearestName.Of(r, definitions.Select(d => d.Name)) == name);

    private void CheckSlices(FilesSpec? files, Dictionary<string, ValueKind> scope)
    {
        foreach (SliceSpec slice in files?.Matrices ?? [])
        {
            foreach (Expression bound in slice.Bounds?.OfType<Expression>() ?? [])
            {
                Check(bound, scope, ValueKind.Number, p => slice.Place with { Column = slice.Place.Column + p }, slice.Matrix);
            }
        }
    }

    /// <summary>The entry that says what a block is of; a mistyped key is told and taken for it, so that the block's other faults are found too.</summary>
    /// <param name="others">Keys that a mistyped one may be nearer to.</param>
    private (SourceScalar? Key, SourceNode? Value) Find(SourceMap map, string name, IEnumerable<string> others)
    {
        (SourceScalar? Key, SourceNode? Value) entry = map.Entries.FirstOrDefault(e => e.Key.Value == name);
        if (entry.Key is null)
        {
            string[] names = [name, .. others];
            entry = map.Entries.FirstOrDefault(e => !names.Contains(e.Key.Value) && NearestName.Of(e.Key.Value, names) == name);
            if (entry.Key is not null)
            {
                _faults.Add(entry.Key.Place, $"'{entry.Key.Value}' is no key here. Did you mean '{name}'?");
            }
        }

        return entry;
    }

    private KernelBlock? ReadKernels(SourceMap map, List<Dictionary<string, ValueKind>> scopes)
    {
        (SourceScalar? kernelKey, SourceNode? kernelNode) =
            Find(map, "kernel", [.. _catalog.Kernels.SelectMany(k => k.Axes).Select(a => a.Name), "precision", "threads", "where", "zip"]);
        string[] names = [.. _catalog.Kernels.Select(k => k.Name)];
        if (kernelNode is null || kernelKey is null)
        {
            _faults.Add(map.Place, $"'kernel' is missing; there are {string.Join(", ", names)}.");
            return null;
        }

        List<KernelDefinition> kernels = [];
        List<SourceNode> items = kernelNode is SourceList list ? list.Items : [kernelNode];
        if (items.Count == 0)
        {
            _faults.Add(kernelNode.Place, "kernel is empty; name at least one.");
        }

        foreach (SourceNode item in items)
        {
            if (_scalars.Word(item, "kernel", names, _catalog.NobodyHas) is string name)
            {
                if (kernels.Any(k => k.Name == name))
                {
                    _faults.Add(item.Place, $"kernel lists {name} twice; each value may stand once. For repetitions use repeats.");
                    continue;
                }

                kernels.Add(_catalog.Kernels.First(k => k.Name == name));
            }
        }

        if (kernels.Count != items.Count || kernels.Count == 0)
        {
            return null;
        }

        RawBlock raw = Gather(map, [kernelKey.Value, "where"], isFiles: false);
        HashSet<string> known = [.. raw.Axes.Select(a => a.Name), .. scopes.SelectMany(s => s.Keys)];
        List<ReadAxis> axes = [];
        List<string> refused = [];
        foreach (RawAxis axis in raw.Axes)
        {
            List<AxisDefinition> definitions = axis.Name switch
            {
                "precision" => [Precision],
                "threads" => [Threads],
                _ => [.. kernels.SelectMany(k => k.Axes).Where(a => a.Name == axis.Name)],
            };
            if (definitions.Count == 0)
            {
                string[] own = [.. kernels.SelectMany(k => k.Axes).Select(a => a.Name).Distinct(), "precision", "threads"];
                string who = kernels.Count == 1 ? $"no axis of {kernels[0].Name}" : $"an axis of none of {string.Join(", ", kernels.Select(k => k.Name))}";
                _faults.Add(
                    axis.Key.Place,
                    $"'{axis.Name}' is {who}.{NearestName.Hint(axis.Name, own.Concat(["kernel", "where", "zip"]))} There are {string.Join(", ", own)}.");
                refused.Add(axis.Name);
                continue;
            }

            axes.Add(_axes.Read(axis, definitions, known));
        }

        foreach (KernelDefinition kernel in kernels)
        {
            foreach (AxisDefinition axis in kernel.Axes.Where(a => a.Required && raw.Axes.All(r => r.Name != a.Name) && !IsMeant(a.Name, refused, kernel.Axes)))
            {
                _faults.Add(map.Place, $"{kernel.Name} needs '{axis.Name}': {axis.Summary.TrimEnd('.')}.");
            }
        }

        List<Dictionary<string, ValueKind>> inner = [.. scopes.Select(outer => KernelScope(outer, kernels, raw))];
        List<DerivedSpec> derived = ResolveDerived(axes, inner);
        List<WhereSpec> where = ReadWhere(map, inner);
        List<DimensionSpec> dimensions = ReadDimensions(raw, axes);
        return new KernelBlock([.. kernels.Select(k => Entry(k, raw))], dimensions, derived, where, map.Place);
    }

    private static Dictionary<string, ValueKind> KernelScope(
        Dictionary<string, ValueKind> instance, List<KernelDefinition> kernels, RawBlock raw)
    {
        Dictionary<string, ValueKind> scope = new(instance, StringComparer.Ordinal)
        {
            ["kernel"] = ValueKind.Word,
            ["precision"] = ValueKind.Word,
            ["threads"] = ValueKind.Number,
            ["rank"] = ValueKind.Number,
            ["flops"] = ValueKind.Number,
            ["state_bytes"] = ValueKind.Number,
        };
        foreach (AxisDefinition axis in kernels.SelectMany(k => k.Axes))
        {
            if (axis.Default is not null || raw.Axes.Any(r => r.Name == axis.Name))
            {
                scope[axis.Name] = axis.Kind switch
                {
                    AxisKind.Choice => ValueKind.Word,
                    AxisKind.Flag => ValueKind.Flag,
                    _ => ValueKind.Number,
                };
            }
        }

        return scope;
    }

    private static KernelEntry Entry(KernelDefinition kernel, RawBlock raw)
    {
        HashSet<string> own = [.. kernel.Axes.Select(a => a.Name).Where(n => raw.Axes.Any(r => r.Name == n))];
        SortedDictionary<string, object> defaults = new(StringComparer.Ordinal);
        foreach (AxisDefinition axis in kernel.Axes)
        {
            if (axis.Default is object value && !own.Contains(axis.Name))
            {
                defaults.Add(axis.Name, value);
            }
        }

        Dictionary<string, AppliesSpec> applies = kernel.Axes
            .Where(a => a.AppliesTo is not null && (own.Contains(a.Name) || a.Default is not null))
            .ToDictionary(a => a.Name, a => new AppliesSpec(a.AppliesTo!.Value.Axis, a.AppliesTo.Value.Words), StringComparer.Ordinal);
        return new KernelEntry(kernel.Name, own, defaults, applies);
    }

    private sealed record RawBlock(
        List<RawAxis> Axes, List<(List<string> Names, Place Place)> Zips, Dictionary<string, RawAxis> Files);

    /// <summary>Sorts a block's keys into axes, zipped groups and the files family's own keys.</summary>
    private RawBlock Gather(SourceMap map, IReadOnlyList<string> reserved, bool isFiles)
    {
        RawBlock block = new([], [], new Dictionary<string, RawAxis>(StringComparer.Ordinal));
        List<SourceNode> byName = [];
        foreach ((SourceScalar key, SourceNode value) in map.Entries)
        {
            if (reserved.Contains(key.Value))
            {
                continue;
            }

            if (key.Value == "zip")
            {
                GatherZip(value, block, byName);
            }
            else if (isFiles && FilesReader.Owns(key.Value))
            {
                block.Files[key.Value] = new RawAxis(key.Value, key, value);
            }
            else
            {
                AddAxis(block, key, value);
            }
        }

        foreach (SourceNode names in byName)
        {
            GatherNames(names, block);
        }

        return block;
    }

    private void AddAxis(RawBlock block, SourceScalar key, SourceNode value)
    {
        if (block.Axes.FirstOrDefault(a => a.Name == key.Value) is RawAxis first)
        {
            _faults.Add(key.Place, $"'{key.Value}' is given twice; it stands in line {first.Key.Place.Line} already.");
            return;
        }

        block.Axes.Add(new RawAxis(key.Value, key, value));
    }

    private void GatherZip(SourceNode value, RawBlock block, List<SourceNode> byName)
    {
        const string Needed = "zip needs a map of axes that advance together ({n: [256, 512], d: [4, 8]}), a list of such maps, "
            + "a list of names, or a list of lists of names.";
        switch (value)
        {
            case SourceMap { Entries.Count: > 0 } map:
                GatherZipMap(map, block);
                break;
            case SourceList { Items.Count: > 0 } list when list.Items.All(i => i is SourceMap):
                foreach (SourceMap map in list.Items.Cast<SourceMap>())
                {
                    GatherZipMap(map, block);
                }

                break;
            case SourceList { Items.Count: > 0 } list when list.Items.All(i => i is SourceScalar):
                byName.Add(list);
                break;
            case SourceList { Items.Count: > 0 } list when list.Items.All(i => i is SourceList):
                byName.AddRange(list.Items);
                break;
            default:
                _faults.Add(value.Place, Needed);
                break;
        }
    }

    private void GatherZipMap(SourceMap map, RawBlock block)
    {
        foreach ((SourceScalar key, SourceNode value) in map.Entries)
        {
            AddAxis(block, key, value);
        }

        block.Zips.Add(([.. map.Entries.Select(e => e.Key.Value)], map.Place));
    }

    private void GatherNames(SourceNode names, RawBlock block)
    {
        List<string> group = [];
        foreach (SourceNode item in ((SourceList)names).Items)
        {
            if (_scalars.Scalar(item, "zip") is not SourceScalar name)
            {
                continue;
            }

            if (block.Axes.All(a => a.Name != name.Value))
            {
                _faults.Add(
                    name.Place,
                    $"zip names '{name.Value}', which this block does not give.{NearestName.Hint(name.Value, block.Axes.Select(a => a.Name))}");
            }
            else if (group.Contains(name.Value) || block.Zips.Any(z => z.Names.Contains(name.Value)))
            {
                _faults.Add(name.Place, $"zip names '{name.Value}' twice; an axis advances with one group.");
            }
            else
            {
                group.Add(name.Value);
            }
        }

        block.Zips.Add((group, names.Place));
    }

    /// <summary>The block's product, in the file's order; a zipped group stands where its first axis does.</summary>
    private List<DimensionSpec> ReadDimensions(RawBlock raw, List<ReadAxis> axes)
    {
        foreach ((List<string> names, Place place) in raw.Zips)
        {
            List<ReadAxis> members = [.. axes.Where(a => names.Contains(a.Raw.Name))];
            foreach (ReadAxis member in members.Where(m => m.Derived is not null))
            {
                _faults.Add(member.Raw.Value.Place, $"{member.Raw.Name} is an expression and follows its axes by itself; take it out of zip.");
            }

            List<ReadAxis> valued = [.. members.Where(m => m.Values is not null)];
            if (valued.Select(m => m.Values!.Count).Distinct().Count() > 1)
            {
                string lengths = string.Join(", ", valued.Select(m => $"{m.Raw.Name} has {m.Values!.Count}"));
                _faults.Add(place, $"zip needs axes of one length: {lengths}.");
            }
        }

        List<DimensionSpec> dimensions = [];
        HashSet<string> placed = [];
        foreach (ReadAxis axis in axes.Where(a => a.Values is not null))
        {
            if (!placed.Add(axis.Raw.Name))
            {
                continue;
            }

            List<string>? group = raw.Zips.Select(z => z.Names).FirstOrDefault(z => z.Contains(axis.Raw.Name));
            List<ReadAxis> members = group is null ? [axis] : [.. axes.Where(a => a.Values is not null && group.Contains(a.Raw.Name))];
            placed.UnionWith(members.Select(m => m.Raw.Name));
            dimensions.Add(new DimensionSpec([.. members.Select(m => new AxisSpec(m.Type, m.Values!, m.Raw.Value.Place))]));
        }

        return dimensions;
    }

    /// <summary>Checks the expressions of axes and puts them in an order in which each comes after those it needs; adds
    /// every axis to the scopes.</summary>
    private List<DerivedSpec> ResolveDerived(List<ReadAxis> axes, List<Dictionary<string, ValueKind>> scopes)
    {
        foreach (Dictionary<string, ValueKind> scope in scopes)
        {
            foreach (ReadAxis axis in axes)
            {
                scope[axis.Raw.Name] = axis.Type.ValueKind;
            }
        }

        Dictionary<string, ReadAxis> pending = axes.Where(a => a.Derived is not null).ToDictionary(a => a.Raw.Name, StringComparer.Ordinal);
        List<DerivedSpec> ordered = [];
        HashSet<string> done = [];
        foreach (ReadAxis axis in axes.Where(a => a.Derived is not null))
        {
            Visit(axis, []);
        }

        return ordered;

        void Visit(ReadAxis axis, List<string> path)
        {
            string name = axis.Raw.Name;
            if (done.Contains(name))
            {
                return;
            }

            if (path.Contains(name))
            {
                string circle = string.Join(" → ", path.SkipWhile(p => p != name).Append(name));
                _faults.Add(axis.DerivedScalar!.Place, $"{name} is computed from itself: {circle}. One of them needs values of its own.");
                done.UnionWith(path);
                return;
            }

            foreach (string needed in axis.Derived!.Names().Select(n => n.Name).Distinct())
            {
                if (pending.TryGetValue(needed, out ReadAxis? inner))
                {
                    Visit(inner, [.. path, name]);
                }
            }

            if (!done.Add(name))
            {
                return;
            }

            AxisType type = axis.Type;
            foreach (Dictionary<string, ValueKind> scope in scopes)
            {
                ValueKind? kind = Check(
                    axis.Derived, scope, type.Parameter ? null : type.ValueKind, axis.DerivedScalar!.PlaceOf, name);
                if (type.Parameter && kind is ValueKind.Flag)
                {
                    type = type with { Kind = AxisKind.Flag };
                    scope[name] = ValueKind.Flag;
                }
            }

            // Predictions depend on the trial, which depends on its axes.
            if (axis.Derived.Names().FirstOrDefault(n => n.Name is "rank" or "flops" or "state_bytes" or "kernel" && scopes.Any(s => s.ContainsKey("rank"))) is NameExpression circular)
            {
                _faults.Add(axis.DerivedScalar!.PlaceOf(circular.Position), $"'{circular.Name}' is known only once the axes are; it serves in where alone.");
            }

            ordered.Add(new DerivedSpec(type, axis.Derived, axis.DerivedScalar!.Place));
        }
    }

    private ValueKind? Check(
        Expression expression, Dictionary<string, ValueKind> scope, ValueKind? needed, Func<int, Place> placeOf, string what)
    {
        try
        {
            Dictionary<string, Slot> slots = scope.ToDictionary(s => s.Key, s => new Slot(0, s.Value), StringComparer.Ordinal);
            CompiledExpression compiled = new ExpressionCompiler(slots, _words, new WordTable()).Compile(expression);
            if (needed is ValueKind kind && compiled.Kind != kind)
            {
                _faults.Add(
                    placeOf(0),
                    $"{what} needs a {ExpressionCompiler.Name(kind)}, and this is a {ExpressionCompiler.Name(compiled.Kind)}.");
            }

            return compiled.Kind;
        }
        catch (ExpressionException ex)
        {
            _faults.Add(placeOf(ex.Position), ex.Message);
            return null;
        }
    }

    private List<WhereSpec> ReadWhere(SourceMap map, List<Dictionary<string, ValueKind>> scopes)
    {
        List<WhereSpec> where = [];
        SourceNode? node = map.Entries.FirstOrDefault(e => e.Key.Value == "where").Value;
        IReadOnlyList<SourceNode> items = node is SourceList list ? list.Items : node is null ? [] : [node];
        foreach (SourceNode item in items)
        {
            if (_scalars.Scalar(item, "where") is not SourceScalar scalar || _scalars.Expression(scalar) is not Expression expression)
            {
                continue;
            }

            foreach (Dictionary<string, ValueKind> scope in scopes)
            {
                Check(expression, scope, ValueKind.Flag, scalar.PlaceOf, "where");
            }

            where.Add(new WhereSpec(expression, scalar.Place));
        }

        return where;
    }

    private static ValueKind KindOf(object value) => value switch
    {
        string => ValueKind.Word,
        bool => ValueKind.Flag,
        _ => ValueKind.Number,
    };
}
