using System.Globalization;
using System.Runtime.InteropServices;

namespace Experiments.Kernels.Numbers;

/// <summary>Threads of a call kept on cores of their own, so that the scheduler cannot move them while they are timed.</summary>
/// <remarks>
/// A call's first thread is the caller's, which takes the first core; its helpers (<see cref="ThreadTeam"/>) take the next ones. Cores are
/// those that the process itself may use (its affinity mask, which a container's cpuset narrows), a thread of every physical core before
/// the second of any. Linux only: see <see cref="Unavailable"/>.
/// </remarks>
public static partial class Pinning
{
    // The kernel refuses a mask shorter than its own; 8192 processors are what it can be built for.
    private const int MaskBytes = 1024;

    private static readonly Lazy<int[]> Allowed = new(Find);

    [ThreadStatic]
    private static ArraySegment<int> _cores;

    /// <summary>The processors, by their numbers in the system, that threads can be pinned to, in the order in which they are taken;
    /// empty where threads cannot be pinned.</summary>
    public static IReadOnlyList<int> Cores => Allowed.Value;

    /// <summary>Why threads cannot be pinned here, as a sentence for a person; null where they can.</summary>
    public static string? Unavailable => Cores.Count > 0 ? null
        : OperatingSystem.IsLinux() ? "pin: this process may not ask for its processors, so its threads cannot be pinned. Leave pin out."
        : "pin: threads are pinned on Linux only. Leave pin out.";

    /// <summary>Null, or why a call with so many threads cannot be pinned, each thread to a core of its own.</summary>
    /// <param name="threads">Threads of the call, the caller's among them.</param>
    /// <param name="cores">How many of <see cref="Cores"/> it may have.</param>
    public static string? Refusal(int threads, int cores) => Unavailable ?? (threads <= cores ? null : string.Create(
        CultureInfo.InvariantCulture,
        $"pin: a core a thread is needed, and for {threads} threads there {(cores == 1 ? "is" : "are")} {cores} here. Use fewer threads, or leave pin out."));

    /// <summary>Pins the calling thread to a core, and the helpers of every call that it makes to the next ones, until the answer is
    /// disposed of on the same thread. Not to be nested.</summary>
    /// <param name="threads">Threads of the calls, the caller's among them.</param>
    /// <param name="first">Index into <see cref="Cores"/> of the caller's core.</param>
    /// <exception cref="InvalidOperationException">There are not that many cores, or the system refuses one; the message says what to
    /// do.</exception>
    public static Pinned Pin(int threads, int first = 0)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(threads, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(first);
        int[] all = Allowed.Value;
        if (Refusal(threads, all.Length - first) is string refusal)
        {
            throw new InvalidOperationException(refusal);
        }

        // Each core is tried, the caller's last: a container's processors may have been changed since they were asked for.
        for (int i = threads - 1; i >= 0; i--)
        {
            if (!TryMove(all[first + i]))
            {
                Release();
                throw new InvalidOperationException(string.Create(
                    CultureInfo.InvariantCulture,
                    $"pin: the system no longer lets this process use core {all[first + i]}. Start it again, or leave pin out."));
            }
        }

        _cores = new ArraySegment<int>(all, first, threads);
        return new Pinned(pinned: true);
    }

    /// <summary>The core of the calling thread's helper of that number, from 0; −1 where its calls are not pinned.</summary>
    internal static int OfHelper(int helper) => _cores.Array is null ? -1 : _cores[(helper + 1) % _cores.Count];

    /// <summary>Pins the calling thread for good; false where the system refuses.</summary>
    internal static bool TryMove(int core)
    {
        Span<byte> mask = stackalloc byte[MaskBytes];
        mask.Clear();
        mask[core / 8] = (byte)(1 << (core % 8));
        return SetAffinity(0, MaskBytes, ref MemoryMarshal.GetReference(mask)) == 0;
    }

    private static void Release()
    {
        _cores = default;
        Span<byte> mask = stackalloc byte[MaskBytes];
        mask.Clear();
        foreach (int core in Allowed.Value)
        {
            mask[core / 8] |= (byte)(1 << (core % 8));
        }

        // Refused only where the process has lost every one of them, and then it stays where it is.
        _ = SetAffinity(0, MaskBytes, ref MemoryMarshal.GetReference(mask));
    }

    private static int[] Find()
    {
        if (!OperatingSystem.IsLinux())
        {
            return [];
        }

        // Of the process' first thread: the one that asks may be pinned already.
        Span<byte> mask = stackalloc byte[MaskBytes];
        mask.Clear();
        if (GetAffinity(Environment.ProcessId, MaskBytes, ref MemoryMarshal.GetReference(mask)) < 0)
        {
            return [];
        }

        List<int> allowed = [];
        for (int core = 0; core < 8 * MaskBytes; core++)
        {
            if ((mask[core / 8] >> (core % 8) & 1) != 0)
            {
                allowed.Add(core);
            }
        }

        return InOrder(allowed, FirstSibling);
    }

    /// <summary>One thread of every physical core, then the second of each, and so on; otherwise by number.</summary>
    /// <param name="physical">Names the physical core that a processor is a thread of.</param>
    internal static int[] InOrder(IReadOnlyList<int> processors, Func<int, string> physical)
    {
        Dictionary<string, int> taken = [];
        return [.. processors
            .Select(p => (Processor: p, Turn: taken[physical(p)] = taken.GetValueOrDefault(physical(p), -1) + 1))
            .ToArray().OrderBy(p => p.Turn).ThenBy(p => p.Processor).Select(p => p.Processor)];
    }

    private static string FirstSibling(int processor)
    {
        string number = processor.ToString(CultureInfo.InvariantCulture);
        try
        {
            return File.ReadAllText($"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list").Trim();
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            // A sandbox may hide it: then every processor is taken for a core.
            return number;
        }
    }

    [LibraryImport("libc", EntryPoint = "sched_setaffinity")]
    private static partial int SetAffinity(int thread, nint bytes, ref byte mask);

    [LibraryImport("libc", EntryPoint = "sched_getaffinity")]
    private static partial int GetAffinity(int thread, nint bytes, ref byte mask);

    /// <summary>Ends the pinning of the calling thread; the default one ends none.</summary>
    public readonly ref struct Pinned
    {
        private readonly bool _pinned;

        internal Pinned(bool pinned) => _pinned = pinned;

        public void Dispose()
        {
            if (_pinned)
            {
                Release();
            }
        }
    }
}
