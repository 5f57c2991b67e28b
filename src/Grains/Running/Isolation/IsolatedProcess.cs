using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace Experiments.Grains.Running;

/// <summary>One process that computes shards, from its start to its end. Used by one lane at a time.</summary>
internal sealed class IsolatedProcess : IDisposable
{
    private const int MostLine = 500;
    private const int FirstLines = 10;
    private const int LastLines = 30;
    private static readonly TimeSpan LastWords = TimeSpan.FromSeconds(2);

    private readonly Process _process;
    private readonly Thread _listener;
    private readonly List<string> _first = [];
    private readonly Queue<string> _last = [];

    private IsolatedProcess(Process process)
    {
        _process = process;
        _listener = new Thread(Listen) { IsBackground = true, Name = "isolated-error" };
        _listener.Start();
    }

    /// <exception cref="InvalidOperationException">It cannot be started.</exception>
    public static IsolatedProcess Start(IsolationOptions options)
    {
        UTF8Encoding encoding = new(encoderShouldEmitUTF8Identifier: false);
        ProcessStartInfo start = new(options.Command[0], options.Command.Skip(1))
        {
            RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true,
            StandardInputEncoding = encoding, StandardOutputEncoding = encoding, StandardErrorEncoding = encoding,
        };
        foreach ((string name, string? value) in options.Environment)
        {
            if (value is null)
            {
                start.Environment.Remove(name);
            }
            else
            {
                start.Environment[name] = value;
            }
        }

        try
        {
            return new IsolatedProcess(Process.Start(start)!);
        }
        catch (Win32Exception fault)
        {
            throw new InvalidOperationException($"A process to isolate a shard in could not be started: {fault.Message}.", fault);
        }
    }

    /// <summary>How it ended, as a person says it.</summary>
    public string Ending => _process.ExitCode switch
    {
        // As the runtime has it: 128 and the signal's number.
        132 => "signal 4 (SIGILL)",
        134 => "signal 6 (SIGABRT)",
        135 => "signal 7 (SIGBUS)",
        136 => "signal 8 (SIGFPE)",
        137 => "signal 9 (SIGKILL), as when the machine runs out of memory",
        139 => "signal 11 (SIGSEGV)",
        > 128 and < 160 and int code => string.Create(CultureInfo.InvariantCulture, $"signal {code - 128}"),
        int code => string.Create(CultureInfo.InvariantCulture, $"exit code {code}"),
    };

    public int ExitCode => _process.ExitCode;

    public void Say(string line)
    {
        try
        {
            _process.StandardInput.WriteLine(line);
            _process.StandardInput.Flush();
        }
        catch (IOException)
        {
            // It has died, which whoever reads on sees.
        }
    }

    /// <summary>Its next line; null when it has ended.</summary>
    public string? Hear() => _process.StandardOutput.ReadLine();

    /// <summary>Forgets what it has written so far: that was of another shard.</summary>
    public void ForgetWords()
    {
        lock (_first)
        {
            _first.Clear();
            _last.Clear();
        }
    }

    public void Kill()
    {
        try
        {
            _process.Kill();
        }
        catch (Exception gone) when (gone is InvalidOperationException or Win32Exception)
        {
            // It has ended by itself.
        }
    }

    /// <summary>Waits for the end of one that is dead or dying; what it wrote to its standard error, the first lines and the last.</summary>
    public IReadOnlyList<string> WaitForEnd()
    {
        Kill();
        _process.WaitForExit();

        // A process that it has started in turn may hold the pipe for ever.
        _listener.Join(LastWords);
        lock (_first)
        {
            return [.. _first, .. _last];
        }
    }

    public void Dispose()
    {
        Kill();
        _process.Dispose();
    }

    private void Listen()
    {
        try
        {
            while (_process.StandardError.ReadLine() is string line)
            {
                line = line.Length > MostLine ? line[..MostLine] : line;
                lock (_first)
                {
                    if (_first.Count < FirstLines)
                    {
                        _first.Add(line);
                        continue;
                    }

                    _last.Enqueue(line);
                    if (_last.Count > LastLines)
                    {
                        _last.Dequeue();
                    }
                }
            }
        }
        catch (Exception gone) when (gone is IOException or ObjectDisposedException or InvalidOperationException)
        {
            // Its owner has no use for it any more.
        }
    }
}
