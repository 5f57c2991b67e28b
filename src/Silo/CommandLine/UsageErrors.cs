using System.CommandLine;
using System.CommandLine.Parsing;
using Experiments.Results.Sweeps;

namespace Experiments.Silo.CommandLine;

/// <summary>What a mistyped command line gets: a line a fault, with the nearest name, and where the help is.</summary>
internal static class UsageErrors
{
    /// <param name="program">What the program is called by whoever types it.</param>
    /// <param name="whenNothingIsTyped">What to say where that is what happened; null otherwise.</param>
    public static void Write(ParseResult parsed, string program, string? whenNothingIsTyped, TextWriter error)
    {
        Command command = parsed.CommandResult.Command;
        string path = PathOf(parsed.CommandResult, program);
        if (whenNothingIsTyped is not null)
        {
            error.WriteLine(whenNothingIsTyped);
        }

        foreach (string line in Lines(parsed, command, path, whenNothingIsTyped is not null).Distinct())
        {
            error.WriteLine(PlainText.Shown(line));
        }

        error.WriteLine($"Help: {path} --help");
    }

    private static IEnumerable<string> Lines(ParseResult parsed, Command command, string path, bool nothingTyped)
    {
        // The library takes a mistyped option in front of the arguments for the first of them, and then has no use for the last.
        string[] taken = [.. parsed.CommandResult.Children.OfType<ArgumentResult>().SelectMany(a => a.Tokens).Select(t => t.Value)
            .Where(t => t.StartsWith("--", StringComparison.Ordinal))];
        if (taken.Length > 0 && parsed.UnmatchedTokens.Count > 0)
        {
            foreach (string token in taken)
            {
                yield return NoOption(token);
            }

            yield break;
        }

        HashSet<string> unmatched = [.. parsed.UnmatchedTokens];
        bool noVerb = false, afterOption = false;
        foreach (string token in parsed.UnmatchedTokens)
        {
            bool value = afterOption;
            afterOption = token.StartsWith('-');
            if (afterOption)
            {
                yield return NoOption(token);
            }
            else if (command.Subcommands.Any(c => !c.Hidden))
            {
                // What follows an unknown verb belongs to it, and is none itself.
                if (noVerb)
                {
                    continue;
                }

                noVerb = true;
                IEnumerable<string> names = command.Subcommands.Where(c => !c.Hidden).Select(c => c.Name);
                yield return $"There is no verb '{token}'.{NearestName.Hint(token, names)}";
            }
            else if (!value)
            {
                // A word behind a mistyped option is that option's value.
                yield return $"'{path}' has no use for '{token}'.";
            }
        }

        // One mistyped word makes several errors; those that only repeat it, or follow from it, are left out.
        if (unmatched.Count > 0 || nothingTyped)
        {
            yield break;
        }

        foreach (ParseError error in parsed.Errors)
        {
            yield return error.SymbolResult switch
            {
                ArgumentResult { Tokens.Count: 0, Parent: CommandResult } argument =>
                    $"'{path}' needs {argument.Argument.HelpName ?? argument.Argument.Name}: {argument.Argument.Description}",
                CommandResult { Command.Subcommands.Count: > 0 } parent when error.Message.StartsWith("Required command", StringComparison.Ordinal) =>
                    $"'{path}' needs one of {string.Join(", ", parent.Command.Subcommands.Where(c => !c.Hidden).Select(c => c.Name))}.",
                _ => Flat(error.Message),
            };
        }

        string NoOption(string token)
        {
            IEnumerable<string> names = OptionsOf(parsed.CommandResult)
                .SelectMany(o => o.Aliases.Append(o.Name)).Where(n => n.StartsWith("--", StringComparison.Ordinal));
            return $"'{path}' has no option '{token}'.{NearestName.Hint(token, names)}";
        }
    }

    // The library lists the choices of a word on lines of their own.
    private static string Flat(string message) =>
        string.Join(' ', message.Split((char[])['\n', '\r', '\t', ' '], StringSplitOptions.RemoveEmptyEntries));

    private static IEnumerable<Option> OptionsOf(CommandResult command)
    {
        foreach (Option option in command.Command.Options)
        {
            yield return option;
        }

        for (SymbolResult? parent = command.Parent; parent is CommandResult above; parent = parent.Parent)
        {
            foreach (Option option in above.Command.Options.Where(o => o.Recursive))
            {
                yield return option;
            }
        }
    }

    private static string PathOf(CommandResult command, string program) => command.Parent is CommandResult parent
        ? $"{PathOf(parent, program)} {command.Command.Name}"
        : program;
}
