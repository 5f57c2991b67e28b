using System.Reflection;
using System.Text.RegularExpressions;
using Experiments.Kernels.AttentionGradient;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;
using Experiments.Silo.Security;
using Npgsql;

namespace Experiments.Silo.CommandLine;

/// <summary>Where every exception ends: an exit code and a message for a person; the stack only with <c>--verbose</c>.</summary>
public static partial class ErrorBoundary
{
    // ERROR_BROKEN_PIPE and ERROR_NO_DATA on Windows; EPIPE elsewhere.
    private const int BrokenPipeWindows = unchecked((int)0x8007006D);
    private const int NoDataWindows = unchecked((int)0x800700E8);
    private const int BrokenPipeUnix = 32;

    public static ExitCode Report(Exception fault, TextWriter output, TextWriter error, bool verbose)
    {
        while (fault is AggregateException { InnerExceptions.Count: 1 } or TypeInitializationException
            or TargetInvocationException && fault.InnerException is not null)
        {
            fault = fault.InnerException!;
        }

        if (IsBrokenPipe(fault))
        {
            // Whoever read the output has had enough.
            return ExitCode.Done;
        }

        (ExitCode code, string message) = Explain(fault);
        try
        {
            output.Flush();
            error.WriteLine(PlainText.Shown(Redact(message.TrimEnd())));
            if (verbose)
            {
                error.WriteLine(PlainText.Shown(Redact(fault.ToString())));
            }
        }
        catch (IOException)
        {
            // Nobody is left to tell.
        }

        return code;
    }

    /// <summary>Passwords out of anything that is printed.</summary>
    public static string Redact(string text) => UriPassword().Replace(Password().Replace(text, "$1=***"), "$1***@");

    public static bool IsBrokenPipe(Exception fault) =>
        fault is IOException { HResult: BrokenPipeWindows or NoDataWindows or BrokenPipeUnix }
        || (fault is IOException && fault.Message.Contains("Broken pipe", StringComparison.OrdinalIgnoreCase));

    private static (ExitCode Code, string Message) Explain(Exception fault) => fault switch
    {
        CommandException command => (command.Code, command.Message),
        SweepFileException file => (ExitCode.Invalid, file.Message),
        QueryException query => (ExitCode.Invalid, query.Message),
        StoreUnavailableException store => (ExitCode.StoreUnreachable, store.Message),
        ClusterTlsException tls => (ExitCode.Invalid, tls.Message),
        KernelFailure failure => (ExitCode.SomeFailed, failure.Message),
        OperationCanceledException => (ExitCode.Interrupted, "Interrupted."),
        PostgresException { SqlState: "53100" } =>
            (ExitCode.StoreUnreachable, "The store's disk is full; nothing half-stored remains. Free some space, then resume."),
        PostgresException refused =>
            (ExitCode.StoreUnreachable, $"The store refused: {refused.MessageText} ({refused.SqlState})."),
        NpgsqlException unreachable =>
            (ExitCode.StoreUnreachable, $"The store could not be reached: {Deepest(unreachable)} "
                + "Check --postgres or EXPERIMENTS_POSTGRES; 'experiments doctor' looks at each part."),
        InvalidDataException data => (ExitCode.Invalid, data.Message),
        UnauthorizedAccessException denied => (ExitCode.Invalid, denied.Message),
        IOException io => (ExitCode.Invalid, io.Message),
        OutOfMemoryException => (ExitCode.Invalid,
            "This process ran out of memory. A smaller n, or fewer lanes, needs less; 'experiments plan' predicts it."),
        ArgumentException argument => (ExitCode.Invalid, ParameterSuffix().Replace(argument.Message, "")),
        _ => (ExitCode.Invalid,
            $"Something went wrong that should not have: {fault.GetType().Name}: {fault.Message.Split('\n')[0].Trim()} "
            + "Run it again with --verbose and report what it prints."),
    };

    private static string Deepest(Exception fault)
    {
        while (fault.InnerException is not null)
        {
            fault = fault.InnerException;
        }

        return fault.Message.Split('\n')[0].Trim();
    }

    [GeneratedRegex(@"(?i)\b(password|pwd)\s*=\s*(""[^""]*""|'[^']*'|[^;\s]*)")]
    private static partial Regex Password();

    [GeneratedRegex(@"(://[^:/@\s]+:)[^@\s]+@")]
    private static partial Regex UriPassword();

    [GeneratedRegex(@" \(Parameter '\w+'\)")]
    private static partial Regex ParameterSuffix();
}
