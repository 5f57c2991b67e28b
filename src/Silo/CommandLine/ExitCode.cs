namespace Experiments.Silo.CommandLine;

/// <summary>What the process returns; scripts lean on these.</summary>
public enum ExitCode
{
    Done = 0,

    /// <summary>Usage or input is wrong; nothing was started.</summary>
    Invalid = 1,

    /// <summary>Some trials failed or were skipped.</summary>
    SomeFailed = 2,

    /// <summary>Interrupted or cancelled, and resumable.</summary>
    Interrupted = 3,

    /// <summary>The store could not be reached, started or used.</summary>
    StoreUnreachable = 4,
}

/// <summary>Ends a command with a message for a person: one or a few lines that say what was given, what was needed and
/// what to do.</summary>
public sealed class CommandException(ExitCode code, string message, Exception? inner = null) : Exception(message, inner)
{
    public ExitCode Code { get; } = code;

    public static CommandException Invalid(string message, Exception? inner = null) =>
        new(ExitCode.Invalid, message, inner);
}
