using System.Diagnostics;
using System.Globalization;
using System.Text;

namespace Experiments.Client.Tests.Driving;

/// <summary>The program as a process of its own, for what only a real process and a real signal can show.</summary>
public sealed class ClientProcess : IDisposable
{
    private readonly Process _process;
    private readonly StringBuilder _out = new();
    private readonly StringBuilder _error = new();

    private ClientProcess(Process process) => _process = process;

    public int Id => _process.Id;

    public string Error
    {
        get
        {
            lock (_error)
            {
                return _error.ToString();
            }
        }
    }

    public static ClientProcess Start(IReadOnlyDictionary<string, string?> environment, params string[] args)
    {
        string[] command = ["dotnet", Path.Combine(AppContext.BaseDirectory, "experiments.dll"), .. args];
        if (InterruptIsIgnored())
        {
            command = ["env", "--default-signal=INT", .. command];
        }

        ProcessStartInfo start = new(command[0], command[1..])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        foreach (string name in start.Environment.Keys.Where(k => k.StartsWith("EXPERIMENTS_", StringComparison.Ordinal)).ToList())
        {
            start.Environment.Remove(name);
        }

        foreach ((string name, string? value) in environment)
        {
            start.Environment[name] = value;
        }

        Process process = Process.Start(start)!;
        ClientProcess client = new(process);
        process.OutputDataReceived += (_, line) => Append(client._out, line.Data);
        process.ErrorDataReceived += (_, line) => Append(client._error, line.Data);
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        process.StandardInput.Close();
        return client;
    }

    public static async Task<Ran> RunAsync(IReadOnlyDictionary<string, string?> environment, params string[] args)
    {
        using ClientProcess client = Start(environment, args);
        return await client.EndAsync();
    }

    /// <summary>Waits for its end; fails a test that hangs.</summary>
    public async Task<Ran> EndAsync()
    {
        using CancellationTokenSource limit = new(TimeSpan.FromMinutes(4));
        try
        {
            await _process.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            Assert.Fail($"The process did not end. It said: {Error}");
        }

        lock (_out)
        {
            return new Ran(_process.ExitCode, _out.ToString(), Error);
        }
    }

    /// <summary>Waits until standard error holds a text.</summary>
    public async Task SaysAsync(string text)
    {
        for (int i = 0; i < 2400 && !Error.Contains(text, StringComparison.Ordinal); i++)
        {
            Assert.False(_process.HasExited, $"It ended before it said '{text}': {Error}");
            await Task.Delay(50);
        }
    }

    public void Signal(string name)
    {
        using Process kill = Process.Start("/bin/kill", ["-" + name, Id.ToString(CultureInfo.InvariantCulture)]);
        kill.WaitForExit();
    }

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            _process.Kill(entireProcessTree: true);
            _process.WaitForExit();
        }

        _process.Dispose();
    }

    // A job that a script starts in the background ignores SIGINT, and so does all that it starts: under such a job the program
    // would rightly never hear of an interruption.
    private static bool InterruptIsIgnored() =>
        OperatingSystem.IsLinux() && File.ReadLines("/proc/self/status").Any(line =>
            line.StartsWith("SigIgn:", StringComparison.Ordinal)
            && (ulong.Parse(line.AsSpan("SigIgn:".Length).Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture) & 2) != 0);

    private static void Append(StringBuilder text, string? line)
    {
        if (line is not null)
        {
            lock (text)
            {
                text.AppendLine(line);
            }
        }
    }
}
