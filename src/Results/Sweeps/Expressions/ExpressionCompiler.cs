namespace Experiments.Results.Sweeps.Expressions;

/// <summary>An expression's value over slots. Words are codes of the <see cref="WordTable"/>, flags are 0 and 1.</summary>
internal delegate double Evaluation(double[] slots);

/// <summary>Gives every word of a sweep a number, so that slots are plain doubles.</summary>
internal sealed class WordTable
{
    private readonly Dictionary<string, int> _codes = new(StringComparer.Ordinal);
    private readonly List<string> _words = [];

    public double Code(string word)
    {
        if (!_codes.TryGetValue(word, out int code))
        {
            code = _words.Count;
            _codes.Add(word, code);
            _words.Add(word);
        }

        return code;
    }

    public string Word(double code) => _words[(int)code];
}

/// <summary>What a name means where an expression stands.</summary>
/// <param name="Missing">Null, or the sentence for a value that turns out to be absent (NaN) when it is asked for.</param>
internal sealed record Slot(int Index, ValueKind Kind, string? Missing = null);

internal sealed record CompiledExpression(Evaluation Evaluate, ValueKind Kind);

/// <summary>A value was asked for that is not there, such as the rank of a kernel without one.</summary>
internal sealed class MissingValueException(string message) : Exception(message);

/// <summary>Turns an expression into delegates over slots, checking names, kinds and arguments.</summary>
internal sealed class ExpressionCompiler(
    IReadOnlyDictionary<string, Slot> scope, IReadOnlySet<string> choices, WordTable words)
{
    private static readonly Dictionary<string, (int Least, int Most)> Functions = new(StringComparer.Ordinal)
    {
        ["ln"] = (1, 1),
        ["log2"] = (1, 1),
        ["log10"] = (1, 1),
        ["exp"] = (1, 1),
        ["sqrt"] = (1, 1),
        ["ceil"] = (1, 1),
        ["floor"] = (1, 1),
        ["round"] = (1, 1),
        ["abs"] = (1, 1),
        ["pow"] = (2, 2),
        ["min"] = (1, 16),
        ["max"] = (1, 16),
    };

    public static bool IsConstant(string name) => name is "pi" or "e";

    /// <summary>The value of an expression without names.</summary>
    public static double Constant(Expression expression)
    {
        ExpressionCompiler compiler = new(new Dictionary<string, Slot>(), new HashSet<string>(), new WordTable());
        CompiledExpression compiled = compiler.Compile(expression);
        return compiled.Kind == ValueKind.Number
            ? compiled.Evaluate([])
            : throw new ExpressionException(expression.Position, "A number is needed here.");
    }

    /// <exception cref="ExpressionException">A name is unknown, or a value is of the wrong kind.</exception>
    public CompiledExpression Compile(Expression expression) => expression switch
    {
        NumberExpression number => Make(_ => number.Value, ValueKind.Number),
        FlagExpression flag => Make(_ => flag.Value ? 1 : 0, ValueKind.Flag),
        WordExpression word => CompileWord(word.Word),
        NameExpression name => CompileName(name),
        UnaryExpression unary => CompileUnary(unary),
        BinaryExpression binary => CompileBinary(binary),
        CallExpression call => CompileCall(call),
        _ => throw new InvalidOperationException($"No rule for {expression.GetType().Name}."),
    };

    private static CompiledExpression Make(Evaluation evaluate, ValueKind kind) => new(evaluate, kind);

    private CompiledExpression CompileWord(string word)
    {
        double code = words.Code(word);
        return Make(_ => code, ValueKind.Word);
    }

    private CompiledExpression CompileName(NameExpression name)
    {
        if (scope.TryGetValue(name.Name, out Slot? slot))
        {
            int index = slot.Index;
            return slot.Missing is not string missing
                ? Make(s => s[index], slot.Kind)
                : Make(s => double.IsNaN(s[index]) ? throw new MissingValueException(missing) : s[index], slot.Kind);
        }

        if (name.Name is "pi" or "e")
        {
            double value = name.Name == "pi" ? Math.PI : Math.E;
            return Make(_ => value, ValueKind.Number);
        }

        if (choices.Contains(name.Name))
        {
            return CompileWord(name.Name);
        }

        string nearest = NearestName.Hint(name.Name, scope.Keys.Concat(choices).Concat(Functions.Keys));
        throw new ExpressionException(
            name.Position,
            $"'{name.Name}' is not known here.{nearest} Known are {string.Join(", ", scope.Keys.Order(StringComparer.Ordinal))}.");
    }

    private CompiledExpression CompileUnary(UnaryExpression unary)
    {
        if (unary.Operator == "not")
        {
            Evaluation flag = Operand(unary.Operand, ValueKind.Flag, "not");
            return Make(s => flag(s) == 0 ? 1 : 0, ValueKind.Flag);
        }

        Evaluation number = Operand(unary.Operand, ValueKind.Number, "-");
        return Make(s => -number(s), ValueKind.Number);
    }

    private CompiledExpression CompileBinary(BinaryExpression binary)
    {
        if (binary.Operator is "and" or "or")
        {
            Evaluation a = Operand(binary.Left, ValueKind.Flag, binary.Operator);
            Evaluation b = Operand(binary.Right, ValueKind.Flag, binary.Operator);
            return binary.Operator == "and"
                ? Make(s => a(s) != 0 && b(s) != 0 ? 1 : 0, ValueKind.Flag)
                : Make(s => a(s) != 0 || b(s) != 0 ? 1 : 0, ValueKind.Flag);
        }

        if (binary.Operator is "==" or "!=")
        {
            CompiledExpression a = Compile(binary.Left);
            CompiledExpression b = Compile(binary.Right);
            if (a.Kind != b.Kind)
            {
                throw new ExpressionException(
                    binary.Position, $"'{binary.Operator}' compares a {Name(a.Kind)} with a {Name(b.Kind)}; both sides must be of one kind.");
            }

            Evaluation left = a.Evaluate;
            Evaluation right = b.Evaluate;
            return binary.Operator == "=="
                ? Make(s => left(s) == right(s) ? 1 : 0, ValueKind.Flag)
                : Make(s => left(s) != right(s) ? 1 : 0, ValueKind.Flag);
        }

        Evaluation x = Operand(binary.Left, ValueKind.Number, binary.Operator);
        Evaluation y = Operand(binary.Right, ValueKind.Number, binary.Operator);
        return binary.Operator switch
        {
            "+" => Make(s => x(s) + y(s), ValueKind.Number),
            "-" => Make(s => x(s) - y(s), ValueKind.Number),
            "*" => Make(s => x(s) * y(s), ValueKind.Number),
            "/" => Make(s => x(s) / y(s), ValueKind.Number),
            "%" => Make(s => Modulo(x(s), y(s)), ValueKind.Number),
            "^" => Make(s => ExactMath.Pow(x(s), y(s)), ValueKind.Number),
            "<" => Make(s => x(s) < y(s) ? 1 : 0, ValueKind.Flag),
            "<=" => Make(s => x(s) <= y(s) ? 1 : 0, ValueKind.Flag),
            ">" => Make(s => x(s) > y(s) ? 1 : 0, ValueKind.Flag),
            ">=" => Make(s => x(s) >= y(s) ? 1 : 0, ValueKind.Flag),
            _ => throw new InvalidOperationException($"No rule for the operator {binary.Operator}."),
        };
    }

    private CompiledExpression CompileCall(CallExpression call)
    {
        if (!Functions.TryGetValue(call.Function, out (int Least, int Most) arity))
        {
            throw new ExpressionException(
                call.Position,
                $"There is no function '{call.Function}'.{NearestName.Hint(call.Function, Functions.Keys)} "
                + $"There are {string.Join(", ", Functions.Keys.Order(StringComparer.Ordinal))}.");
        }

        if (call.Arguments.Count < arity.Least || call.Arguments.Count > arity.Most)
        {
            string needed = arity.Least == arity.Most ? $"{arity.Least}" : $"{arity.Least} to {arity.Most}";
            throw new ExpressionException(
                call.Position, $"{call.Function} was given {call.Arguments.Count} arguments and needs {needed}.");
        }

        Evaluation[] arguments = [.. call.Arguments.Select(a => Operand(a, ValueKind.Number, call.Function))];
        Evaluation x = arguments[0];
        return call.Function switch
        {
            "ln" => Make(s => ExactMath.Ln(x(s)), ValueKind.Number),
            "log2" => Make(s => ExactMath.Log2(x(s)), ValueKind.Number),
            "log10" => Make(s => ExactMath.Log10(x(s)), ValueKind.Number),
            "exp" => Make(s => ExactMath.Exp(x(s)), ValueKind.Number),
            "sqrt" => Make(s => Math.Sqrt(x(s)), ValueKind.Number),
            "ceil" => Make(s => Math.Ceiling(x(s)), ValueKind.Number),
            "floor" => Make(s => Math.Floor(x(s)), ValueKind.Number),
            "round" => Make(s => Math.Round(x(s), MidpointRounding.AwayFromZero), ValueKind.Number),
            "abs" => Make(s => Math.Abs(x(s)), ValueKind.Number),
            "pow" => Make(s => ExactMath.Pow(x(s), arguments[1](s)), ValueKind.Number),
            "min" => Make(s => Fold(arguments, s, Math.Min), ValueKind.Number),
            "max" => Make(s => Fold(arguments, s, Math.Max), ValueKind.Number),
            _ => throw new InvalidOperationException($"No rule for the function {call.Function}."),
        };
    }

    private Evaluation Operand(Expression operand, ValueKind needed, string what)
    {
        CompiledExpression compiled = Compile(operand);
        return compiled.Kind == needed
            ? compiled.Evaluate
            : throw new ExpressionException(
                operand.Position, $"'{what}' was given a {Name(compiled.Kind)} and needs a {Name(needed)}.");
    }

    // The remainder has the divisor's sign, as mathematics has it: -1 % 4 is 3.
    private static double Modulo(double x, double y)
    {
        double remainder = Math.IEEERemainder(x, y);
        return remainder != 0 && (remainder < 0) != (y < 0) ? remainder + y : remainder;
    }

    private static double Fold(Evaluation[] arguments, double[] slots, Func<double, double, double> combine)
    {
        double result = arguments[0](slots);
        for (int i = 1; i < arguments.Length; i++)
        {
            result = combine(result, arguments[i](slots));
        }

        return result;
    }

    public static string Name(ValueKind kind) => kind switch
    {
        ValueKind.Number => "number",
        ValueKind.Word => "word",
        _ => "yes or no",
    };
}
