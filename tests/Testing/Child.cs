using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace Experiments.Testing;

/// <summary>A real process that ends with this one, however this one ends.</summary>
/// <remarks>A shell starts it and waits on a pipe whose other end is ours: when that closes, the shell kills it.</remarks>
public sealed class Child : IAsyncDisposable
{
    private const string Guard =
        "exec 3<&0; \"$@\" </dev/null & p=$!; echo \"pid $p\" >&2; (read _ <&3; kill -9 $p) 2>/dev/null & g=$!; wait $p; s=$?; "
        + "kill $g 2>/dev/null; exit $s";

    private readonly Process _shell;
    private readonly StringBuilder _said = new();
    private readonly TaskCompletionSource<int> _id = new();

    private Child(Process shell) => _shell = shell;

    /// <summary>The process's number, not the shell's.</summary>
    public int Id => _id.Task.Result;

    public bool IsRunning => !_shell.HasExited;

    /// <summary>The exit code, as the shell tells it: 128 and the signal's number where a signal ended it.</summary>
    public int ExitCode => _shell.ExitCode;

    /// <summary>Standard output and error so far.</summary>
    public string Said
    {
        get
        {
            lock (_said)
            {
                return _said.ToString();
            }
        }
    }

    /// <param name="environment">Added to this process's, of which no EXPERIMENTS_ variable is passed on.</param>
    /// <param name="command">The program and its arguments.</param>
    public static async Task<Child> StartAsync(IReadOnlyDictionary<string, string?> environment, params string[] command)
    {
        ProcessStartInfo start = new("/bin/sh", ["-c", Guard, "guard", .. command])
        {
            RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true,
        };
        foreach (string name in start.Environment.Keys.Where(k => k.StartsWith("EXPERIMENTS_", StringComparison.Ordinal)).ToList())
        {
            start.Environment.Remove(name);
        }

        foreach ((string name, string? value) in environment)
        {
            start.Environment[name] = value;
        }

        Child child = new(Process.Start(start)!);
        child._shell.OutputDataReceived += (_, line) => child.Note(line.Data);
        child._shell.ErrorDataReceived += (_, line) => child.Note(line.Data);
        child._shell.BeginOutputReadLine();
        child._shell.BeginErrorReadLine();
        await child._id.Task.WaitAsync(TimeSpan.FromSeconds(30));
        return child;
    }

    /// <summary>Whether a process of that number runs. One that nobody has reaped yet does not.</summary>
    public static bool Runs(int id)
    {
        try
        {
            string status = File.ReadAllText($"/proc/{id}/stat");
            return status[status.LastIndexOf(')') + 2] != 'Z';
        }
        catch (Exception gone) when (gone is FileNotFoundException or DirectoryNotFoundException)
        {
            return false;
        }
    }

    /// <summary>Waits until it has said so.</summary>
    /// <exception cref="InvalidOperationException">It did not, or has ended; the message has all that it said.</exception>
    public async Task SaysAsync(string text, TimeSpan within)
    {
        Stopwatch watch = Stopwatch.StartNew();
        while (!Said.Contains(text, StringComparison.Ordinal))
        {
            if (watch.Elapsed >= within || !IsRunning)
            {
                throw new InvalidOperationException($"'{text}' was not said. It said:\n{Said}");
            }

            await Task.Delay(50);
        }
    }

    /// <param name="signal">KILL, TERM, STOP or CONT.</param>
    public void Signal(string signal)
    {
        using Process kill = Process.Start("/bin/kill", ["-s", signal, Id.ToString(CultureInfo.InvariantCulture)]);
        kill.WaitForExit();
    }

    /// <summary>Waits until it has ended; its exit code.</summary>
    /// <exception cref="TimeoutException">It goes on; the message has all that it said.</exception>
    public async Task<int> EndAsync(TimeSpan within)
    {
        using CancellationTokenSource limit = new(within);
        try
        {
            await _shell.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException late)
        {
            throw new TimeoutException($"It did not end within {within}. It said:\n{Said}", late);
        }

        return ExitCode;
    }

    public async ValueTask DisposeAsync()
    {
        if (IsRunning)
        {
            Signal("KILL");
            await _shell.WaitForExitAsync();
        }

        _shell.Dispose();
    }

    private void Note(string? line)
    {
        if (line is null)
        {
            return;
        }

        if (line.StartsWith("pid ", StringComparison.Ordinal) && !_id.Task.IsCompleted)
        {
            _id.TrySetResult(int.Parse(line[4..], CultureInfo.InvariantCulture));
            return;
        }

        lock (_said)
        {
            _said.AppendLine(line);
        }
    }
}
