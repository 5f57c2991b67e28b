using System.Diagnostics;
using System.Globalization;
using Experiments.Results.Processes;
using Experiments.Silo.CommandLine;

namespace Experiments.Silo.Hosting;

/// <summary>Starts a silo that was declared dead anew, in the very process: same number, same words, same streams.</summary>
/// <remarks>
/// <para>
/// Such a silo may not go on, and Orleans ends its process; who hung for ten seconds was then missing until somebody looked. The process is
/// replaced instead (execve), so that nobody has to own it who would start it again: what knows it by its number still does.
/// </para>
/// <para>
/// If it stops exactly here: every descriptor is closed by the kernel, and with them its node's lock in the store and that of its state file, as when it
/// dies. A signal ends it until the new program listens. An 'up' that finds its state file free in that moment starts another silo, and
/// the new program, which finds the file held, ends.
/// </para>
/// </remarks>
internal sealed class SecondLife(Interrupts interrupts, Action<string> notice)
{
    private const string Lives = "EXPERIMENTS_SILO_LIVES";

    // One that is declared dead again and again stands on a machine that should be looked at; who supervises it sees it end then.
    private const int Most = 5;
    private static readonly TimeSpan Settled = TimeSpan.FromMinutes(10);

    // As long as Orleans gives the log, and a network that has just come back.
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(2);

    private readonly long _startedAt = Stopwatch.GetTimestamp();
    private readonly Lock _gate = new();
    private bool _begun;

    /// <summary>Returns only where the process is to end as it would have without this.</summary>
    public void Begin()
    {
        // Orleans may find it out in two places at once; the second waits here, so as not to end what the first begins.
        lock (_gate)
        {
            if (!_begun)
            {
                _begun = true;
                Become();
            }
        }
    }

    private void Become()
    {
        int before = Stopwatch.GetElapsedTime(_startedAt) > Settled ? 0
            : int.TryParse(Environment.GetEnvironmentVariable(Lives), NumberStyles.None, CultureInfo.InvariantCulture, out int lives) ? lives : 0;
        if (OperatingSystem.IsWindows() || before >= Most)
        {
            return;
        }

        notice("The other silos have declared this one dead, so that it may not go on as it is. It starts anew in this process.");
        if (interrupts.Finish.WaitHandle.WaitOne(Pause))
        {
            // It was told to leave, and has nothing left to drain: what it had is others' by now.
            BackgroundProcess.EndNow((int)ExitCode.Done);
        }

        Environment.SetEnvironmentVariable(Lives, (before + 1).ToString(CultureInfo.InvariantCulture));
        int fault = BackgroundProcess.Become(BackgroundProcess.CommandOfThis(Environment.GetCommandLineArgs().Skip(1)));
        notice($"It could not be started anew: error {fault}.");
    }
}
