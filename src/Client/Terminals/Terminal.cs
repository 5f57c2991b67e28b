using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Experiments.Client.Terminals;

/// <summary>What a command may know of where it runs: its writers, whether a person is watching, its environment, its
/// clock. Tests make their own.</summary>
public sealed class Terminal : IDisposable
{
    /// <summary>The result, and nothing else.</summary>
    public required TextWriter Out { get; init; }

    /// <summary>Progress, notices and errors.</summary>
    public required TextWriter Error { get; init; }

    public bool OutIsTerminal { get; init; }

    public bool ErrorIsTerminal { get; init; }

    /// <summary>Columns of the terminal; tables on a pipe are never cut to it.</summary>
    public int Width { get; init; } = 120;

    /// <summary>Off by <c>--no-color</c>, NO_COLOR or a dumb terminal.</summary>
    public bool Color { get; set; }

    public Func<string, string?> Environment { get; init; } = System.Environment.GetEnvironmentVariable;

    public TimeProvider Clock { get; init; } = TimeProvider.System;

    /// <summary>Null where signals are left alone: a test in its own process.</summary>
    public Interrupts Interrupts { get; init; } = new();

    public static Terminal OfThisProcess()
    {
        UTF8Encoding encoding = new(encoderShouldEmitUTF8Identifier: false);
        bool outIsTerminal = !Console.IsOutputRedirected;
        bool errorIsTerminal = !Console.IsErrorRedirected;
        bool dumb = System.Environment.GetEnvironmentVariable("TERM") is "dumb";

        // The console's own stream swallows a broken pipe, so `query … | head` would go on to the last row. A stream on a
        // pipe's own descriptor throws, and the error boundary ends quietly. (On a file such a stream would keep a
        // position of its own and write over what other programs had written.)
        Stream output = Console.OpenStandardOutput();
        if (!outIsTerminal && !OperatingSystem.IsWindows())
        {
            FileStream descriptor = new(new SafeFileHandle(1, ownsHandle: false), FileAccess.Write, bufferSize: 0);
            output = descriptor.CanSeek ? output : descriptor;
        }

        Terminal terminal = new()
        {
            Out = new StreamWriter(output, encoding, bufferSize: 1 << 15) { AutoFlush = outIsTerminal },
            Error = TextWriter.Synchronized(
                new StreamWriter(Console.OpenStandardError(), encoding) { AutoFlush = true }),
            OutIsTerminal = outIsTerminal,
            ErrorIsTerminal = errorIsTerminal,
            Width = WidthOf(outIsTerminal || errorIsTerminal),
            Color = !dumb && string.IsNullOrEmpty(System.Environment.GetEnvironmentVariable("NO_COLOR")),
        };
        terminal.Interrupts.Listen();
        return terminal;
    }

    /// <summary>A line to standard error: what a person should know, but a pipe should not.</summary>
    public void Notice(string text) => Error.WriteLine(Format.Shown(text));

    public void Dispose() => Interrupts.Dispose();

    private static int WidthOf(bool terminal)
    {
        if (!terminal)
        {
            return 120;
        }

        try
        {
            return Math.Max(Console.WindowWidth, 40);
        }
        catch (IOException)
        {
            // A terminal that will not say how wide it is.
            return 120;
        }
    }
}
