using System.CommandLine;
using System.CommandLine.Invocation;
using Experiments.Client.Terminals;

namespace Experiments.Client;

/// <summary>One command from its words to its exit code.</summary>
public static class Application
{
    public static async Task<int> RunAsync(IReadOnlyList<string> args, Terminal terminal)
    {
        bool verbose = args.Contains("--verbose");
        try
        {
            RootCommand root = CommandTree.Build(terminal);
            ParseResult parsed = root.Parse(args, CommandTree.Parsing);
            if (parsed.Errors.Count > 0 && parsed.Action is null or ParseErrorAction)
            {
                UsageErrors.Write(parsed, args.Count == 0, terminal);
                return (int)ExitCode.Invalid;
            }

            InvocationConfiguration invocation = new()
            {
                EnableDefaultExceptionHandler = false,
                ProcessTerminationTimeout = null,
                Output = terminal.Out,
                Error = terminal.Error,
            };
            int code = await parsed.InvokeAsync(invocation, CancellationToken.None);
            await terminal.Out.FlushAsync();
            return code;
        }
        catch (Exception fault)
        {
            return (int)ErrorBoundary.Report(fault, terminal, verbose);
        }
    }
}
