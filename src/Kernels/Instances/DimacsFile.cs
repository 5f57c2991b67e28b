using System.Globalization;
using System.Text;

namespace Experiments.Kernels.Instances;

/// <summary>A formula in conjunctive normal form in DIMACS's format: comments, <c>p cnf VARIABLES CLAUSES</c>, and so many clauses, each ended by a 0.</summary>
/// <remarks>
/// A clause may span lines, and a line hold several. A literal that a clause repeats counts once, one beside its opposite makes the clause hold always, and
/// a 0 alone is the empty clause, which never holds. A line that begins with % ends the formula, as in SATLIB's files, where a 0 follows it. All else is
/// refused: whoever cut off or mistyped a formula would get the answer of another one.
/// Source: DIMACS, "Satisfiability: suggested format", 1993.
/// </remarks>
public sealed class DimacsFile
{
    private DimacsFile(string path, int variables, int[][] clauses)
    {
        Path = path;
        Variables = variables;
        Clauses = clauses;
    }

    public string Path { get; }

    /// <summary>As the file's header says; some may stand in no clause.</summary>
    public int Variables { get; }

    /// <summary>Literals: i for variable i, from 1 on, and −i for its opposite.</summary>
    public IReadOnlyList<IReadOnlyList<int>> Clauses { get; }

    /// <exception cref="InvalidDataException">It is not such a file; one sentence says where, and what to do.</exception>
    public static DimacsFile Parse(GivenFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        ReadOnlySpan<byte> bytes = file.Bytes.Span;
        if (bytes.StartsWith<byte>([0x1F, 0x8B]))
        {
            throw new InvalidDataException($"{file.Path} is compressed; a DIMACS .cnf file is needed as text. Unpack it with gunzip.");
        }

        // Only comments hold anything but ASCII, and nobody reads those. As Latin-1 half an Å would be the end of a line.
        bytes = bytes.StartsWith<byte>([0xEF, 0xBB, 0xBF]) ? bytes[3..] : bytes;
        return new Reader(file.Path).Read(Encoding.ASCII.GetString(bytes));
    }

    private sealed class Reader(string path)
    {
        private readonly List<int[]> _clauses = [];
        private readonly List<int> _clause = [];
        private (int Variables, int Clauses)? _header;
        private int _line;
        private int _clauseLine;
        private bool _ended;

        public DimacsFile Read(string text)
        {
            foreach (ReadOnlySpan<char> line in text.AsSpan().EnumerateLines())
            {
                _line++;
                ReadLine(line.Trim());
            }

            if (_header is not (int variables, int clauses))
            {
                throw new InvalidDataException($"{path} has no line 'p cnf VARIABLES CLAUSES'; a DIMACS .cnf file begins with one.");
            }

            if (_clause.Count > 0)
            {
                throw new InvalidDataException(
                    $"{path}, line {_clauseLine}: the file ends within clause {_clauses.Count + 1}. End it with a 0, or look whether the file was cut off.");
            }

            if (_clauses.Count != clauses)
            {
                throw new InvalidDataException(
                    $"{path} has {_clauses.Count} clauses, and its header says {clauses}. Write 'p cnf {variables} {_clauses.Count}' if none is missing.");
            }

            return new DimacsFile(path, variables, [.. _clauses]);
        }

        private void ReadLine(ReadOnlySpan<char> line)
        {
            if (line.Length == 0 || line[0] == 'c')
            {
                return;
            }

            if (_ended)
            {
                if (line is not "0")
                {
                    throw Fault($"'{NpyFile.Shown(line.ToString())}' follows the line that begins with %, which ends a formula. Remove one of the two.");
                }
            }
            else if (line[0] == 'p')
            {
                ReadHeader(line.ToString());
            }
            else if (line[0] == '%')
            {
                _ended = true;
            }
            else
            {
                ReadLiterals(line);
            }
        }

        private void ReadHeader(string line)
        {
            string[] words = line.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
            if (_header is not null)
            {
                throw Fault("a second 'p cnf' line; a file holds one formula.");
            }

            if (words is ["p", not "cnf", ..])
            {
                throw Fault($"the format is '{NpyFile.Shown(words[1])}'; cnf is needed, as in 'p cnf 20 91'.");
            }

            _header = words.Length == 4 && words[0] == "p" && Count(words[2]) is int variables and > 0 && Count(words[3]) is int clauses
                ? (variables, clauses)
                : throw Fault($"'{NpyFile.Shown(line)}' is no header; 'p cnf VARIABLES CLAUSES' is needed, such as 'p cnf 20 91', of at least one variable.");

            static int? Count(string word) => int.TryParse(word, NumberStyles.None, CultureInfo.InvariantCulture, out int count) ? count : null;
        }

        private void ReadLiterals(ReadOnlySpan<char> line)
        {
            foreach (Range range in line.SplitAny(' ', '\t', '\v', '\f'))
            {
                ReadOnlySpan<char> word = line[range];
                if (word.Length == 0)
                {
                    continue;
                }

                if (_header is not (int variables, _))
                {
                    throw Fault($"'{NpyFile.Shown(line.ToString())}' stands before the line 'p cnf VARIABLES CLAUSES', with which a DIMACS .cnf file begins.");
                }

                if (word is "0")
                {
                    _clauses.Add([.. _clause]);
                    _clause.Clear();
                    continue;
                }

                bool isNumber = int.TryParse(word, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int literal);
                if (!isNumber || literal == 0 || word[0] == '+')
                {
                    throw Fault($"'{NpyFile.Shown(word.ToString())}' is no literal; a number from 1 to {variables} or its negative is needed, and a 0 after each clause.");
                }

                if (Math.Abs((long)literal) > variables)
                {
                    throw Fault($"the literal {literal} is of no variable: the header says that there are {variables}. Raise that number, or correct the literal.");
                }

                _clauseLine = _clause.Count == 0 ? _line : _clauseLine;
                _clause.Add(literal);
            }
        }

        private InvalidDataException Fault(string what) => new($"{path}, line {_line}: {what}");
    }
}
