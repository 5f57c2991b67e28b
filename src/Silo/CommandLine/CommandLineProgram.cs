using System.CommandLine;
using System.CommandLine.Invocation;

namespace Experiments.Silo.CommandLine;

/// <summary>One command from its words to its exit code, for every program that is ours.</summary>
public static class CommandLineProgram
{
    /// <summary>No response files: '@' may begin a word of a query.</summary>
    public static readonly ParserConfiguration Parsing = new() { ResponseFileTokenReplacer = null };

    /// <param name="name">What the program is called by whoever types it.</param>
    /// <param name="build">Its commands.</param>
    /// <param name="output">The result, and nothing else.</param>
    /// <param name="error">Notices and errors.</param>
    /// <param name="whenNothingIsTyped">What is said first where the program does nothing without a word.</param>
    public static async Task<int> RunAsync(
        string name, Func<RootCommand> build, IReadOnlyList<string> args, TextWriter output, TextWriter error, string? whenNothingIsTyped = null)
    {
        bool verbose = args.Contains(SharedOptions.Verbose.Name);
        try
        {
            ParseResult parsed = build().Parse(args, Parsing);
            if (parsed.Errors.Count > 0 && parsed.Action is null or ParseErrorAction)
            {
                UsageErrors.Write(parsed, name, args.Count == 0 ? whenNothingIsTyped : null, error);
                return (int)ExitCode.Invalid;
            }

            InvocationConfiguration invocation = new()
            {
                EnableDefaultExceptionHandler = false,
                ProcessTerminationTimeout = null,
                Output = output,
                Error = error,
            };
            int code = await parsed.InvokeAsync(invocation, CancellationToken.None);
            await output.FlushAsync();
            return code;
        }
        catch (Exception fault)
        {
            return (int)ErrorBoundary.Report(fault, output, error, verbose);
        }
    }
}
