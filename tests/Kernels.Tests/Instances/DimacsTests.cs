using System.Text;
using Experiments.Kernels.Instances;

namespace Experiments.Kernels.Tests.Instances;

public sealed class DimacsTests
{
    [Theory]
    [InlineData("p cnf 3 2\n1 -2 0\n3 0\n", "1 -2|3")]
    [InlineData("c a comment\n\nc another\np cnf 3 2\n1 -2 0\nc amid\n3 0", "1 -2|3")]
    [InlineData("p  cnf\t3   2  \r\n 1\r\n-2 0 3\r\n0\r\n", "1 -2|3")]
    [InlineData("\u00EF\u00BB\u00BFp cnf 3 2\n1 -2 0 3 0\n%\n0\n\n", "1 -2|3")]
    [InlineData("p cnf 3 2\n1 1 -1 0\n0\n", "1 1 -1|")]
    [InlineData("c \u00E9 in Latin-1\np cnf 1 0\n", null)]
    [InlineData("c of \u00C3\u0085sa, in UTF-8\np cnf 1 0\n", null)]
    [InlineData("p cnf 2147483647 1\n-2147483647 0", "-2147483647")]
    public void A_formula_is_read_however_it_is_laid_out(string text, string? clauses)
    {
        DimacsFile formula = Parse(text);
        Assert.Equal(clauses, formula.Clauses.Count == 0 ? null : string.Join('|', formula.Clauses.Select(c => string.Join(' ', c))));
    }

    [Theory]
    [InlineData("1 2 0\n", "f.cnf, line 1: '1 2 0' stands before the line 'p cnf VARIABLES CLAUSES'")]
    [InlineData("c only\n", "f.cnf has no line 'p cnf VARIABLES CLAUSES'")]
    [InlineData("p cnf 2 1\n1 0\np cnf 2 1\n", "line 3: a second 'p cnf' line")]
    [InlineData("p wcnf 2 1 10\n", "line 1: the format is 'wcnf'; cnf is needed")]
    [InlineData("p cnf 2\n", "line 1: 'p cnf 2' is no header")]
    [InlineData("p cnf 2 1 3\n1 0\n", "is no header")]
    [InlineData("p cnf 0 1\n0\n", "of at least one variable")]
    [InlineData("p cnf -2 1\n1 0\n", "is no header")]
    [InlineData("p cnf 99999999999 1\n1 0\n", "is no header")]
    [InlineData("problem cnf 2 1\n1 0\n", "is no header")]
    [InlineData("p cnf 2 1\n1 x2 0\n", "line 2: 'x2' is no literal; a number from 1 to 2 or its negative is needed")]
    [InlineData("p cnf 2 1\n1 1.5 0\n", "'1.5' is no literal")]
    [InlineData("p cnf 2 1\n1 -0\n", "'-0' is no literal")]
    [InlineData("p cnf 2 1\n+1 0\n", "'+1' is no literal")]
    [InlineData("p cnf 2 1\n1 - 2 0\n", "'-' is no literal")]
    [InlineData("p cnf 2 1\n1 99999999999999999999 0\n", "is no literal")]
    [InlineData("p cnf 2 1\n1 -2147483648 0\n", "line 2: the literal -2147483648 is of no variable: the header says that there are 2")]
    [InlineData("p cnf 2 1\n1 0 3 0\n", "line 2: the literal 3 is of no variable")]
    [InlineData("p cnf 2 2\n1 0\n1\n-2\n", "f.cnf, line 3: the file ends within clause 2. End it with a 0")]
    [InlineData("p cnf 2 2\n1 0\n%\n0\n", "f.cnf has 1 clauses, and its header says 2. Write 'p cnf 2 1' if none is missing.")]
    [InlineData("p cnf 2 1\n1 0\n2 0\n", "f.cnf has 2 clauses, and its header says 1")]
    [InlineData("p cnf 2 2\n1 0\n%\n2 0\n", "line 4: '2 0' follows the line that begins with %")]
    [InlineData("p cnf 2 2\n1 2\n%\n0\n", "line 2: the file ends within clause 1")]
    [InlineData("\u001F\u008Bp cnf", "is compressed; a DIMACS .cnf file is needed as text. Unpack it with gunzip.")]
    [InlineData("\u0093NUMPY\u0001\u0000v\u0000", "'?NUMPY??v?' stands before")]
    public void What_is_no_formula_is_one_line_that_says_where_and_what_to_do(string text, string said)
    {
        string message = Assert.Throws<InvalidDataException>(() => Parse(text)).Message;
        Assert.Contains(said, message, StringComparison.Ordinal);
        Assert.StartsWith("f.cnf", message, StringComparison.Ordinal);
        Assert.DoesNotContain(message, char.IsControl);
    }

    private static DimacsFile Parse(string text) => DimacsFile.Parse(new GivenFile("f.cnf", Encoding.Latin1.GetBytes(text)));
}
