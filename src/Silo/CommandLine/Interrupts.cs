using System.Runtime.InteropServices;

namespace Experiments.Silo.CommandLine;

/// <summary>Ctrl-C and SIGTERM: the first asks a command to finish what runs, the second to stop now.</summary>
public sealed class Interrupts : IDisposable
{
    private readonly CancellationTokenSource _finish = new();
    private readonly CancellationTokenSource _now = new();
    private readonly List<PosixSignalRegistration> _registrations = [];
    private int _count;

    /// <summary>Cancelled by the first signal.</summary>
    public CancellationToken Finish => _finish.Token;

    /// <summary>Cancelled by the second signal.</summary>
    public CancellationToken Now => _now.Token;

    /// <summary>Told of each signal, with its count from 1.</summary>
    public event Action<int>? Signalled;

    public void Listen()
    {
        foreach (PosixSignal signal in (PosixSignal[])[PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP])
        {
            _registrations.Add(PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                Raise();
            }));
        }
    }

    /// <summary>As if a signal had come.</summary>
    public void Raise()
    {
        int count = Interlocked.Increment(ref _count);
        try
        {
            Signalled?.Invoke(count);
        }
        catch (IOException)
        {
            // The terminal that sent a hang-up is gone, and nobody is left to tell. What escapes here would end the process at once.
        }

        _finish.Cancel();
        if (count > 1)
        {
            _now.Cancel();
        }
    }

    public void Dispose()
    {
        foreach (PosixSignalRegistration registration in _registrations)
        {
            registration.Dispose();
        }

        _registrations.Clear();
        _finish.Dispose();
        _now.Dispose();
    }
}
