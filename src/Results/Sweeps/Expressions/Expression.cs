using System.Globalization;

namespace Experiments.Results.Sweeps.Expressions;

internal enum ValueKind
{
    Number,
    Word,
    Flag,
}

/// <summary>A parsed expression. Positions are offsets into its text, for faults.</summary>
internal abstract record Expression(int Position)
{
    /// <summary>The text every layout of the same expression comes to; parsing it gives the same expression.</summary>
    public abstract string Canonical { get; }

    public abstract IEnumerable<Expression> Children { get; }

    public IEnumerable<NameExpression> Names() =>
        this is NameExpression name ? [name] : Children.SelectMany(c => c.Names());
}

internal sealed record NumberExpression(int Position, double Value) : Expression(Position)
{
    public override string Canonical => Value.ToString("R", CultureInfo.InvariantCulture);

    public override IEnumerable<Expression> Children => [];
}

internal sealed record WordExpression(int Position, string Word) : Expression(Position)
{
    public override string Canonical => Word.Contains('\'', StringComparison.Ordinal) ? $"\"{Word}\"" : $"'{Word}'";

    public override IEnumerable<Expression> Children => [];
}

internal sealed record FlagExpression(int Position, bool Value) : Expression(Position)
{
    public override string Canonical => Value ? "true" : "false";

    public override IEnumerable<Expression> Children => [];
}

/// <summary>An axis, a parameter, a prediction or a constant; or a bare word, which only the scope can tell.</summary>
internal sealed record NameExpression(int Position, string Name) : Expression(Position)
{
    public override string Canonical => Name;

    public override IEnumerable<Expression> Children => [];
}

internal sealed record UnaryExpression(int Position, string Operator, Expression Operand) : Expression(Position)
{
    public override string Canonical => $"({(Operator == "not" ? "not " : Operator)}{Operand.Canonical})";

    public override IEnumerable<Expression> Children => [Operand];
}

internal sealed record BinaryExpression(int Position, string Operator, Expression Left, Expression Right)
    : Expression(Position)
{
    public override string Canonical => $"({Left.Canonical} {Operator} {Right.Canonical})";

    public override IEnumerable<Expression> Children => [Left, Right];
}

internal sealed record CallExpression(int Position, string Function, IReadOnlyList<Expression> Arguments)
    : Expression(Position)
{
    public override string Canonical => $"{Function}({string.Join(", ", Arguments.Select(a => a.Canonical))})";

    public override IEnumerable<Expression> Children => Arguments;
}

/// <summary>A fault in an expression's text, at an offset into it.</summary>
internal sealed class ExpressionException(int position, string message) : Exception(message)
{
    public int Position { get; } = position;
}
