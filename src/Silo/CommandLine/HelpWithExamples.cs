using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace Experiments.Silo.CommandLine;

/// <summary>The library's help, then examples, and under the program's own what else is to be known of it.</summary>
public sealed class HelpWithExamples : SynchronousCommandLineAction
{
    private readonly HelpAction _standard;
    private readonly Func<Command, IReadOnlyList<(string Line, string Does)>> _examples;
    private readonly IReadOnlyList<string> _closing;

    private HelpWithExamples(HelpAction standard, Func<Command, IReadOnlyList<(string Line, string Does)>> examples, IReadOnlyList<string> closing) =>
        (_standard, _examples, _closing) = (standard, examples, closing);

    public override bool ClearsParseErrors => true;

    /// <param name="examples">Command lines that work as they stand, each with what it does.</param>
    /// <param name="closing">The last lines of the program's help.</param>
    public static void Install(
        RootCommand root, Func<Command, IReadOnlyList<(string Line, string Does)>> examples, params IReadOnlyList<string> closing)
    {
        HelpOption help = root.Options.OfType<HelpOption>().Single();
        help.Aliases.Clear();
        help.Aliases.Add("-h");
        help.Action = new HelpWithExamples((HelpAction)help.Action!, examples, closing);
    }

    public override int Invoke(ParseResult parseResult)
    {
        _standard.MaxWidth = 110;
        int code = _standard.Invoke(parseResult);
        TextWriter output = parseResult.InvocationConfiguration.Output;
        Command command = parseResult.CommandResult.Command;
        IReadOnlyList<(string Line, string Does)> examples = _examples(command);
        if (examples.Count > 0)
        {
            output.WriteLine("Examples:");
            foreach ((string line, string does) in examples)
            {
                output.WriteLine($"  {line}");
                output.WriteLine($"      {does}");
            }

            output.WriteLine();
        }

        if (command is RootCommand)
        {
            foreach (string line in _closing)
            {
                output.WriteLine(line);
            }

            output.WriteLine();
        }

        return code;
    }
}
