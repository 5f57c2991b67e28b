using Experiments.Results.Sweeps.Expressions;

namespace Experiments.Results.Sweeps.Reading;

/// <summary>An axis as the file gives it, before names are resolved.</summary>
internal sealed record RawAxis(string Name, SourceScalar Key, SourceNode Value);

/// <summary>What an axis came to: values, or an expression over other axes, or neither after a fault.</summary>
internal sealed record ReadAxis(
    RawAxis Raw, AxisType Type, AxisValues? Values, Expression? Derived, SourceScalar? DerivedScalar)
{
    public bool Failed => Values is null && Derived is null;
}

/// <summary>Reads the values of axes: scalar, list, range, linspace, logspace, pow2 or expression.</summary>
internal sealed class AxisReader(FaultList faults, ScalarReader scalars)
{
    /// <summary>The longest axis whose values are looked at one by one.</summary>
    private const int MostValues = 1_000_000;

    // 2^1023 is the last that a double holds.
    private const int MostExponent = 1000;

    private static readonly string[] Forms = ["range", "linspace", "logspace", "pow2"];

    private readonly HashSet<object> _seen = [];

    /// <param name="definitions">The axis as the family or each kernel that has it defines it; empty for a parameter.</param>
    /// <param name="known">Names an expression may refer to, so that a bare word can be told from a name.</param>
    public ReadAxis Read(RawAxis raw, IReadOnlyList<AxisDefinition> definitions, IReadOnlySet<string> known)
    {
        _seen.Clear();
        if (definitions.Count == 0)
        {
            return ReadParameter(raw, known);
        }

        AxisDefinition first = definitions[0];
        AxisType type = new(
            raw.Name, first.Kind, definitions.Max(d => d.Minimum), definitions.Min(d => d.Maximum), Parameter: false,
            definitions.All(d => d.Word == first.Word) ? first.Word : null);
        return first.Kind switch
        {
            AxisKind.Choice => ReadWords(raw, type, Common(definitions)),
            AxisKind.Flag => ReadFlags(raw, type),
            _ => ReadNumbers(raw, type, known),
        };
    }

    private static IReadOnlyList<string> Common(IReadOnlyList<AxisDefinition> definitions) =>
        [.. definitions[0].Choices.Where(c => definitions.All(d => d.Choices.Contains(c)))];

    private static ReadAxis Failed(RawAxis raw, AxisType type) => new(raw, type, null, null, null);

    private static ReadAxis Of(RawAxis raw, AxisType type, AxisValues? values) => new(raw, type, values, null, null);

    /// <summary>A file's own name: its kind is what its values are.</summary>
    private ReadAxis ReadParameter(RawAxis raw, IReadOnlySet<string> known)
    {
        SourceScalar? sample = raw.Value as SourceScalar ?? (raw.Value as SourceList)?.Items.OfType<SourceScalar>().FirstOrDefault();
        AxisType Type(AxisKind kind) => new(raw.Name, kind, double.NegativeInfinity, double.PositiveInfinity, Parameter: true);
        if (sample is not null && ScalarReader.FlagOf(sample) is not null)
        {
            return ReadFlags(raw, Type(AxisKind.Flag));
        }

        if (sample is not null && IsWord(sample, known))
        {
            return ReadWords(raw, Type(AxisKind.Choice), []);
        }

        ReadAxis read = ReadNumbers(raw, Type(AxisKind.Real), known);
        if (read.Values is { Form: AxisForm.List } list && list.Items!.All(v => double.IsInteger((double)v)))
        {
            return read with
            {
                Type = Type(AxisKind.Integer),
                Values = AxisValues.Of([.. list.Items!.Select(v => (object)(long)(double)v)]),
            };
        }

        return read;
    }

    private static bool IsWord(SourceScalar scalar, IReadOnlySet<string> known) =>
        scalar.Value.Length > 0
        && (char.IsAsciiLetter(scalar.Value[0]) || scalar.Value[0] == '_')
        && scalar.Value.All(c => char.IsAsciiLetterOrDigit(c) || c is '_' or '-')
        && !known.Contains(scalar.Value) && !ExpressionCompiler.IsConstant(scalar.Value);

    private ReadAxis ReadWords(RawAxis raw, AxisType type, IReadOnlyList<string> choices)
    {
        List<object> words = [];
        bool complete = true;
        foreach (SourceNode item in Items(raw, "words"))
        {
            if (scalars.Word(item, raw.Name, choices) is string word)
            {
                AddOnce(words, word, item, raw.Name);
            }
            else
            {
                complete = false;
            }
        }

        return Finish(raw, type, words, complete);
    }

    private ReadAxis ReadFlags(RawAxis raw, AxisType type)
    {
        if (raw.Value is SourceScalar { IsNull: false } scalar && ScalarReader.FlagOf(scalar) is null)
        {
            return new ReadAxis(raw, type, null, scalars.Expression(scalar), scalar);
        }

        List<object> flags = [];
        bool complete = true;
        foreach (SourceNode item in Items(raw, "true and false"))
        {
            if (scalars.Flag(item, raw.Name) is bool flag)
            {
                AddOnce(flags, flag, item, raw.Name);
            }
            else
            {
                complete = false;
            }
        }

        return Finish(raw, type, flags, complete);
    }

    private ReadAxis ReadNumbers(RawAxis raw, AxisType type, IReadOnlySet<string> known)
    {
        if (type.Word is string word && (raw.Value is SourceList list ? list.Items : [raw.Value]).OfType<SourceScalar>()
            .FirstOrDefault(s => s.Value != word && !known.Contains(s.Value) && IsMistyped(s.Value, word)) is SourceScalar mistyped)
        {
            faults.Add(mistyped.Place, $"{raw.Name} is '{mistyped.Value}' and needs a number, an expression or {word}. Did you mean '{word}'?");
            return Failed(raw, type);
        }

        if (raw.Value is SourceMap form)
        {
            return Of(raw, type, ReadForm(form, type));
        }

        if (raw.Value is SourceScalar scalar && !scalar.IsNull && !IsWordOf(type, scalar))
        {
            if (scalars.Expression(scalar) is not Expression expression)
            {
                return Failed(raw, type);
            }

            if (expression.Names().Any(n => !ExpressionCompiler.IsConstant(n.Name)))
            {
                return new ReadAxis(raw, type, null, expression, scalar);
            }
        }

        List<object> numbers = [];
        bool complete = true;
        foreach (SourceNode item in Items(raw, "numbers"))
        {
            if (IsWordOf(type, item))
            {
                AddOnce(numbers, type.Word!, item, raw.Name);
                continue;
            }

            if (scalars.Constant(item, raw.Name) is not double number || !Accept(type, number, item.Place))
            {
                complete = false;
                continue;
            }

            AddOnce(numbers, type.Box(number), item, raw.Name);
        }

        return Finish(raw, type, numbers, complete);
    }

    private static bool IsMistyped(string given, string word) =>
        given.StartsWith(word, StringComparison.OrdinalIgnoreCase) || NearestName.Of(given, [word]) is not null;

    private static bool IsWordOf(AxisType type, SourceNode node) =>
        type.Word is string word && node is SourceScalar scalar && scalar.Value == word;

    private ReadAxis Finish(RawAxis raw, AxisType type, List<object> values, bool complete)
    {
        if (complete && values.Count == 0)
        {
            faults.Add(raw.Value.Place, $"{raw.Name} has no value; give one, a list or a form such as {{range: [2, 8, 2]}}.");
        }

        return complete && values.Count > 0 ? Of(raw, type, AxisValues.Of(values)) : Failed(raw, type);
    }

    private List<SourceNode> Items(RawAxis raw, string needed)
    {
        switch (raw.Value)
        {
            case SourceScalar { IsNull: true }:
                return [];
            case SourceScalar:
                return [raw.Value];
            case SourceList list:
                return list.Items;
            default:
                faults.Add(raw.Value.Place, $"{raw.Name} takes {needed}: one or a list, no form.");
                return [new SourceScalar(raw.Value.Place, "", quoted: false, null)];
        }
    }

    private void AddOnce(List<object> values, object value, SourceNode item, string name)
    {
        if (!_seen.Add(value))
        {
            faults.Add(item.Place, $"{name} lists {Identity.Text(value)} twice; each value may stand once. For repetitions use repeats.");
        }
        else
        {
            values.Add(value);
        }
    }

    private bool Accept(AxisType type, double number, Place place)
    {
        if (type.Refuse(number) is not string reason)
        {
            return true;
        }

        faults.Add(place, reason);
        return false;
    }

    private AxisValues? ReadForm(SourceMap map, AxisType type)
    {
        if (map.Entries.Count != 1)
        {
            faults.Add(map.Place, $"{type.Name} is given as a map of {map.Entries.Count} keys; a form has one: {ScalarReader.OneOf(Forms)}.");
            return null;
        }

        (SourceScalar key, SourceNode value) = map.Entries[0];
        if (!Forms.Contains(key.Value))
        {
            faults.Add(key.Place, $"'{key.Value}' is no form of an axis; there are {ScalarReader.OneOf(Forms)}.{NearestName.Hint(key.Value, Forms)}");
            return null;
        }

        string shape = key.Value switch
        {
            "range" => "[lo, hi] or [lo, hi, step]",
            "pow2" => "[lo, hi] or [lo, hi, step], exponents of 2",
            _ => "[lo, hi, count]",
        };
        bool optionalThird = key.Value is "range" or "pow2";
        if (value is not SourceList list || list.Items.Count > 3 || list.Items.Count < (optionalThird ? 2 : 3))
        {
            faults.Add(value.Place, $"{key.Value} needs {shape}.");
            return null;
        }

        double?[] arguments = [.. list.Items.Select(item => scalars.Constant(item, key.Value))];
        if (arguments.Any(a => a is null))
        {
            return null;
        }

        double lo = arguments[0]!.Value;
        double hi = arguments[1]!.Value;
        double third = arguments.Length == 3 ? arguments[2]!.Value : 1;
        Place thirdPlace = list.Items[^1].Place;
        AxisValues? values = key.Value switch
        {
            "range" => Stepped(AxisForm.Range, lo, hi, third, thirdPlace, list.Place, "range"),
            "pow2" => ReadPow2(lo, hi, third, list),
            _ => ReadSpaced(key.Value == "linspace" ? AxisForm.Linspace : AxisForm.Logspace, lo, hi, third, list),
        };
        return values is null ? null : Check(values, type, list);
    }

    private AxisValues? Stepped(AxisForm form, double lo, double hi, double step, Place stepPlace, Place place, string name)
    {
        if (step == 0)
        {
            faults.Add(stepPlace, $"{name} has a step of 0; any other number is needed.");
            return null;
        }

        double count = AxisValues.CountSteps(lo, hi, step);
        if (count < 1)
        {
            faults.Add(
                place,
                $"{name} from {AxisType.Say(lo)} to {AxisType.Say(hi)} in steps of {AxisType.Say(step)} is empty; "
                + "swap the ends or the sign of the step.");
            return null;
        }

        if (count > int.MaxValue)
        {
            faults.Add(place, $"{name} has {count:G3} values; an axis holds at most {int.MaxValue}.");
            return null;
        }

        return new AxisValues(form, lo, step, (long)count, null);
    }

    private AxisValues? ReadPow2(double lo, double hi, double step, SourceList list)
    {
        for (int i = 0; i < list.Items.Count; i++)
        {
            double value = i == 0 ? lo : i == 1 ? hi : step;
            if (!double.IsInteger(value) || Math.Abs(value) > MostExponent)
            {
                faults.Add(
                    list.Items[i].Place,
                    $"pow2 was given {AxisType.Say(value)} and needs whole exponents of 2 from -{MostExponent} to {MostExponent}: [1, 12] is 2 to 4096.");
                return null;
            }
        }

        return Stepped(AxisForm.Pow2, lo, hi, step, list.Items[^1].Place, list.Place, "pow2");
    }

    private AxisValues? ReadSpaced(AxisForm form, double lo, double hi, double count, SourceList list)
    {
        string name = form == AxisForm.Linspace ? "linspace" : "logspace";
        if (!double.IsInteger(count) || count < 1 || count > MostValues)
        {
            faults.Add(list.Items[2].Place, $"{name} was given a count of {AxisType.Say(count)} and needs a whole number from 1 to {MostValues}.");
            return null;
        }

        if (form == AxisForm.Logspace && (lo <= 0 || hi <= 0))
        {
            faults.Add(list.Place, $"logspace from {AxisType.Say(lo)} to {AxisType.Say(hi)} needs ends above 0: they are the values themselves, not exponents.");
            return null;
        }

        if (lo == hi ? count > 1 : count == 1)
        {
            faults.Add(
                list.Place,
                lo == hi
                    ? $"{name} from {AxisType.Say(lo)} to itself would hold one value {count:F0} times; give it once."
                    : $"{name} from {AxisType.Say(lo)} to {AxisType.Say(hi)} needs a count of at least 2.");
            return null;
        }

        return new AxisValues(form, lo, hi, (long)count, null);
    }

    /// <summary>Looks at every value that could be wrong, and freezes short progressions as the list they are.</summary>
    private AxisValues? Check(AxisValues values, AxisType type, SourceList list)
    {
        bool whole = values.Form == AxisForm.Range && double.IsInteger(values.First) && double.IsInteger(values.Second);
        if (!whole && values.Count > MostValues)
        {
            faults.Add(list.Place, $"{type.Name} has {values.Count} values; an axis of fractions holds at most {MostValues}.");
            return null;
        }

        // All forms are monotone, so the ends answer for the range; fractions may turn up anywhere.
        bool ends = whole || type.Kind != AxisKind.Integer;
        for (long i = 0; i < values.Count; i = ends && i == 0 && values.Count > 1 ? values.Count - 1 : i + 1)
        {
            double value = values.Number(i);
            if (type.Refuse(value) is string reason)
            {
                string where = values.Count == 1 ? "" : $"value {i + 1} of {values.Count}: ";
                string hint = type.Kind == AxisKind.Integer && !double.IsInteger(value) ? " Use a list, range or pow2." : "";
                faults.Add(list.Place, $"{where}{reason}{hint}");
                return null;
            }
        }

        // The hash of a sweep should not depend on which way a handful of numbers was written down.
        return values.Count > 64
            ? values
            : AxisValues.Of([.. Enumerable.Range(0, (int)values.Count).Select(i => type.Box(values.Number(i)))]);
    }
}
