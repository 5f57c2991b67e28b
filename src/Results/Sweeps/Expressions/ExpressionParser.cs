using System.Globalization;

namespace Experiments.Results.Sweeps.Expressions;

/// <summary>Parses an expression by binding powers (Pratt 1973).</summary>
/// <remarks>
/// <para>From loosest to tightest: <c>or ||</c>, <c>and &amp;&amp;</c>, <c>not !</c>, comparisons (which do not chain),
/// <c>+ -</c>, <c>* / %</c>, unary <c>-</c>, and <c>^ **</c>, which are powers and group to the right: −2^2 is −4.</para>
/// <para>Written by hand: faults need the place of every token, <c>^</c> has to mean a power (the libraries at hand read
/// it as exclusive or), and an expression is evaluated up to a million times in a plan, so it is compiled over slots.</para>
/// </remarks>
internal sealed class ExpressionParser
{
    private const int DeepestNesting = 100;

    // A chain such as n + n + … nests to the left, without a parenthesis that could be counted.
    private const int MostOperations = 300;

    // The canonical text has parentheses about every operation, each of which takes up to three levels.
    private const int DeepestStored = 3 * MostOperations;

    private readonly string _text;
    private readonly IReadOnlySet<string> _words;
    private Token _token;
    private int _next;
    private int _depth;
    private int _operations;
    private readonly int _deepest;

    private ExpressionParser(string text, IReadOnlySet<string> words, int deepest)
    {
        _deepest = deepest;
        _text = text;
        _words = words;
        _token = Read();
    }

    private enum TokenKind
    {
        End,
        Number,
        Text,
        Name,
        Symbol,
    }

    /// <param name="words">Known words that hold a hyphen (low-rank), which are read as one word and not as a difference.</param>
    /// <exception cref="ExpressionException">The text is no expression.</exception>
    public static Expression Parse(string text, IReadOnlySet<string> words) =>
        Parse(new ExpressionParser(text, words, DeepestNesting));

    /// <summary>Reads <see cref="Expression.Canonical"/> back.</summary>
    public static Expression ParseStored(string text) =>
        Parse(new ExpressionParser(text, new HashSet<string>(), DeepestStored));

    private static Expression Parse(ExpressionParser parser)
    {
        if (parser._token.Kind == TokenKind.End)
        {
            throw new ExpressionException(0, "An expression is empty; a value or a formula is needed.");
        }

        Expression result = parser.ParseFrom(0);
        return parser._token.Kind == TokenKind.End ? result : throw parser.Unexpected("an operator or the end");
    }

    private Expression ParseFrom(int least)
    {
        if (++_depth > _deepest)
        {
            throw new ExpressionException(_token.Position, $"An expression is nested deeper than {_deepest} levels.");
        }

        Expression left = ParsePrefix();
        while (Power(_token) is (int Left, int Right, string Operator) power && power.Left >= least)
        {
            Token at = _token;
            CountOperation();
            Advance();
            left = new BinaryExpression(at.Position, power.Operator, left, ParseFrom(power.Right));
            if (power.Left == 4 && Power(_token) is { Left: 4 })
            {
                throw new ExpressionException(
                    _token.Position, "Comparisons do not chain; write the two joined by 'and': 2 <= n and n <= 8.");
            }
        }

        _depth--;
        return left;
    }

    private Expression ParsePrefix()
    {
        Token token = _token;
        switch (token.Kind)
        {
            case TokenKind.Number:
                Advance();
                return new NumberExpression(token.Position, token.Number);
            case TokenKind.Text:
                Advance();
                return new WordExpression(token.Position, token.Text);
            case TokenKind.Symbol when token.Text is "-" or "+":
                CountOperation();
                Advance();
                Expression operand = ParseFrom(7);
                return token.Text == "+" ? operand : new UnaryExpression(token.Position, "-", operand);
            case TokenKind.Symbol when token.Text == "!":
            case TokenKind.Name when token.Text == "not":
                Advance();
                return new UnaryExpression(token.Position, "not", ParseFrom(3));
            case TokenKind.Symbol when token.Text == "(":
                Advance();
                Expression inner = ParseFrom(0);
                Expect(")");
                return inner;
            case TokenKind.Name when token.Text is "true" or "false":
                Advance();
                return new FlagExpression(token.Position, token.Text == "true");
            case TokenKind.Name when token.Text is not ("and" or "or"):
                Advance();
                return _token is { Kind: TokenKind.Symbol, Text: "(" }
                    ? ParseCall(token)
                    : new NameExpression(token.Position, token.Text);
            default:
                throw Unexpected("a number, a name or a parenthesis");
        }
    }

    private void CountOperation()
    {
        if (++_operations > MostOperations)
        {
            throw new ExpressionException(
                _token.Position, $"An expression has more than {MostOperations} operations; name a part of it as an axis of its own.");
        }
    }

    private CallExpression ParseCall(Token name)
    {
        Advance();
        List<Expression> arguments = [];
        if (_token is not { Kind: TokenKind.Symbol, Text: ")" })
        {
            arguments.Add(ParseFrom(0));
            while (_token is { Kind: TokenKind.Symbol, Text: "," })
            {
                Advance();
                arguments.Add(ParseFrom(0));
            }
        }

        Expect(")");
        return new CallExpression(name.Position, name.Text, arguments);
    }

    private static (int Left, int Right, string Operator)? Power(Token token) => (token.Kind, token.Text) switch
    {
        (TokenKind.Name, "or") or (TokenKind.Symbol, "||") => (1, 2, "or"),
        (TokenKind.Name, "and") or (TokenKind.Symbol, "&&") => (2, 3, "and"),
        (TokenKind.Symbol, "<" or "<=" or ">" or ">=" or "==" or "!=") => (4, 5, token.Text),
        (TokenKind.Symbol, "+" or "-") => (5, 6, token.Text),
        (TokenKind.Symbol, "*" or "/" or "%") => (6, 7, token.Text),
        // The right side of a power is parsed from the power's own level, so that it groups to the right.
        (TokenKind.Symbol, "^" or "**") => (8, 8, "^"),
        _ => null,
    };

    private void Expect(string symbol)
    {
        if (_token.Kind != TokenKind.Symbol || _token.Text != symbol)
        {
            throw Unexpected($"'{symbol}'");
        }

        Advance();
    }

    private void Advance() => _token = Read();

    private ExpressionException Unexpected(string needed) => new(
        _token.Position,
        _token.Kind == TokenKind.End
            ? $"'{_text.Trim()}' ends where {needed} was needed."
            : $"'{_text[_token.Position.._next]}' stands where {needed} was needed.");

    private Token Read()
    {
        while (_next < _text.Length && char.IsWhiteSpace(_text[_next]))
        {
            _next++;
        }

        int start = _next;
        if (start == _text.Length)
        {
            return new Token(TokenKind.End, start, "", 0);
        }

        char c = _text[start];
        if (char.IsAsciiDigit(c) || (c == '.' && start + 1 < _text.Length && char.IsAsciiDigit(_text[start + 1])))
        {
            return ReadNumber(start);
        }

        if (char.IsAsciiLetter(c) || c == '_')
        {
            return ReadName(start);
        }

        if (c is '\'' or '"')
        {
            int end = _text.IndexOf(c, start + 1);
            if (end < 0)
            {
                throw new ExpressionException(start, "A quoted word does not end; close its quote.");
            }

            _next = end + 1;
            return new Token(TokenKind.Text, start, _text[(start + 1)..end], 0);
        }

        string two = start + 1 < _text.Length ? _text.Substring(start, 2) : "";
        if (two is "**" or "<=" or ">=" or "==" or "!=" or "&&" or "||")
        {
            _next += 2;
            return new Token(TokenKind.Symbol, start, two, 0);
        }

        _next++;
        return c switch
        {
            '+' or '-' or '*' or '/' or '%' or '^' or '(' or ')' or ',' or '<' or '>' or '!' =>
                new Token(TokenKind.Symbol, start, c.ToString(), 0),
            '=' => throw new ExpressionException(start, "'=' is not a comparison; write '=='."),
            _ => throw new ExpressionException(start, $"'{c}' has no meaning in an expression."),
        };
    }

    private Token ReadNumber(int start)
    {
        SkipDigits();
        if (_next < _text.Length && _text[_next] == '.')
        {
            _next++;
            SkipDigits();
        }

        if (_next < _text.Length && _text[_next] is 'e' or 'E')
        {
            int exponent = _next + 1;
            if (exponent < _text.Length && _text[exponent] is '+' or '-')
            {
                exponent++;
            }

            if (exponent < _text.Length && char.IsAsciiDigit(_text[exponent]))
            {
                _next = exponent;
                SkipDigits();
            }
        }

        string text = _text[start.._next].Replace("_", "", StringComparison.Ordinal);
        if (_next < _text.Length && (char.IsAsciiLetterOrDigit(_text[_next]) || _text[_next] == '_'))
        {
            throw new ExpressionException(start, $"'{text}{_text[_next]}…' is neither a number nor a name; a product needs '*'.");
        }

        double number = double.Parse(text, NumberStyles.Float, CultureInfo.InvariantCulture);
        return double.IsFinite(number)
            ? new Token(TokenKind.Number, start, text, number)
            : throw new ExpressionException(start, $"{text} is too large for a number.");
    }

    private void SkipDigits()
    {
        while (_next < _text.Length
            && (char.IsAsciiDigit(_text[_next]) || (_text[_next] == '_' && _next + 1 < _text.Length && char.IsAsciiDigit(_text[_next + 1]))))
        {
            _next++;
        }
    }

    private Token ReadName(int start)
    {
        int longest = start;
        while (longest < _text.Length && (char.IsAsciiLetterOrDigit(_text[longest]) || _text[longest] is '_' or '-'))
        {
            longest++;
        }

        for (int end = longest; end > start; end--)
        {
            string word = _text[start..end];
            if (word.Contains('-', StringComparison.Ordinal) && _words.Contains(word))
            {
                _next = end;
                return new Token(TokenKind.Text, start, word, 0);
            }
        }

        while (_next < _text.Length && (char.IsAsciiLetterOrDigit(_text[_next]) || _text[_next] == '_'))
        {
            _next++;
        }

        return new Token(TokenKind.Name, start, _text[start.._next], 0);
    }

    private readonly record struct Token(TokenKind Kind, int Position, string Text, double Number);
}
