namespace Experiments.Mutations;

/// <param name="File">From the repository's root.</param>
/// <param name="Text">Stands in the file exactly once.</param>
/// <param name="Replacement">What it becomes.</param>
/// <param name="Meaning">What the fault would be.</param>
/// <param name="Equivalent">Why it may live, where it may: the same number, or a loss within what the contract allows.</param>
internal sealed record Mutation(string File, string Text, string Replacement, string Meaning, string? Equivalent)
{
    /// <summary>Reads mutations.txt, whose head says how it is written.</summary>
    /// <exception cref="FormatException">A line is of no kind, or one is missing.</exception>
    public static IEnumerable<Mutation> Read(string path)
    {
        string? file = null, meaning = null, text = null, replacement = null, equivalent = null;
        foreach (string line in System.IO.File.ReadLines(path).SkipWhile(l => !l.StartsWith('=')).Append("#"))
        {
            if (line.Length == 0)
            {
                continue;
            }

            if (line[0] is '#' or '=' && replacement is not null)
            {
                yield return file is not null && meaning is not null && text is not null
                    ? new(file, text, replacement, meaning, equivalent)
                    : throw new FormatException($"{path}: '+ {replacement}' lacks its file, its meaning or its text.");
                (meaning, text, replacement, equivalent) = (null, null, null, null);
            }

            string rest = line.Length > 2 ? line[2..] : "";
            switch (line[0])
            {
                case '=':
                    file = rest;
                    break;
                case '#':
                    meaning = rest;
                    break;
                case '-':
                    text = rest;
                    break;
                case '+':
                    replacement = rest;
                    break;
                case '~':
                    equivalent = rest;
                    break;
                default:
                    throw new FormatException($"{path}: a line begins with =, #, -, + or ~, not '{line}'.");
            }
        }
    }
}
