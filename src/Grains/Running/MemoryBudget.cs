using System.Globalization;

namespace Experiments.Grains.Running;

/// <summary>Bytes that the lanes of a silo may hold together. A lane reserves an instance's bytes before it allocates any.</summary>
/// <remarks>A lane holds one reservation at a time and waits for others' with none of its own, so waiting cannot lock up.</remarks>
public sealed class MemoryBudget : IDisposable
{
    private const double LimitShare = 0.95;
    private const double DefaultShare = 0.75;

    private readonly Lock _gate = new();
    private readonly SemaphoreSlim _freed = new(0);
    private readonly Action<double>? _ask;
    private double _reserved;
    private int _waiting;

    /// <param name="free">Bytes the silo may count on.</param>
    /// <param name="ask">Asked for the bytes of each reservation before they are counted here; it may wait.</param>
    public MemoryBudget(double free, Action<double>? ask = null)
    {
        _ask = ask;
        Free = free;
        Limit = (long)(LimitShare * free);
        Default = (long)(DefaultShare * free);
    }

    /// <summary>Bytes that it was made with.</summary>
    public double Free { get; }

    /// <summary>Bytes that all lanes may hold together, whatever a sweep allows: beyond it the machine would kill us.</summary>
    public long Limit { get; }

    /// <summary>Bytes a trial may need where its sweep names no limit: three quarters of what the machine had free.</summary>
    public long Default { get; }

    /// <summary>Bytes that a silo must be made with for a trial that needs so many.</summary>
    /// <param name="named">Whether its sweep names a limit; else the default one holds.</param>
    public static double FreeFor(double bytes, bool named) => (bytes / (named ? LimitShare : DefaultShare)) + 2;

    /// <summary>By what the machine, or the container, has free now.</summary>
    public static MemoryBudget OfThisMachine() => new(FreeBytes());

    /// <summary>Waits until the bytes are free. A lone reservation above the limit is the caller's to refuse beforehand.</summary>
    /// <exception cref="OperationCanceledException">Cancelled while it waited.</exception>
    public Reservation Reserve(double bytes, CancellationToken cancellation)
    {
        _ask?.Invoke(bytes);
        while (true)
        {
            lock (_gate)
            {
                if (_reserved == 0 || _reserved + bytes <= Limit)
                {
                    _reserved += bytes;
                    return new Reservation(this, bytes);
                }

                _waiting++;
            }

            _freed.Wait(cancellation);
        }
    }

    public void Dispose() => _freed.Dispose();

    private static double FreeBytes()
    {
        GCMemoryInfo info = GC.GetGCMemoryInfo();

        // The runtime knows the container's limit; what other processes hold only the kernel knows.
        double free = info.TotalAvailableMemoryBytes;
        if (File.Exists("/proc/meminfo"))
        {
            string? line = File.ReadLines("/proc/meminfo").FirstOrDefault(l => l.StartsWith("MemAvailable:", StringComparison.Ordinal));
            if (line is not null && double.TryParse(
                line.AsSpan("MemAvailable:".Length).Trim().TrimEnd("kB").Trim(), CultureInfo.InvariantCulture, out double kibibytes))
            {
                free = Math.Min(free, kibibytes * 1024);
            }
        }
        else
        {
            free -= info.MemoryLoadBytes;
        }

        return Math.Max(free, 256 << 20);
    }

    private void GiveBack(double bytes)
    {
        int waiting;
        lock (_gate)
        {
            // Sums of whole bytes in double are exact far beyond any machine, so this comes back to zero.
            _reserved -= bytes;
            waiting = _waiting;
            _waiting = 0;
        }

        if (waiting > 0)
        {
            _freed.Release(waiting);
        }
    }

    /// <summary>Bytes held until disposed.</summary>
    public readonly struct Reservation(MemoryBudget budget, double bytes) : IDisposable
    {
        public void Dispose() => budget.GiveBack(bytes);
    }
}
