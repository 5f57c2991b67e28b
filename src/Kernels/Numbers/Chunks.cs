using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;

namespace Experiments.Kernels.Numbers;

/// <summary>Work cut into numbered chunks, each with its own place to write: who computes one cannot change the result.</summary>
internal abstract class Chunks
{
    private int _next;
    private int _count;
    private CancellationToken _cancellation;

    /// <summary>Computes chunks 0 to count − 1 on up to so many threads, the caller's among them, and waits for all.</summary>
    public void Run(int count, int threads, CancellationToken cancellation)
    {
        _next = -1;
        _count = count;
        _cancellation = cancellation;
        int helpers = Math.Min(threads, count) - 1;
        if (helpers <= 0)
        {
            Take();
            return;
        }

        ExceptionDispatchInfo? failure = null;
        void Guarded()
        {
            try
            {
                Take();
            }
            catch (Exception error)
            {
                // The first failure wins and stops the others at their next chunk.
                Interlocked.CompareExchange(ref failure, ExceptionDispatchInfo.Capture(error), null);
                Volatile.Write(ref _count, 0);
            }
        }

        ThreadTeam.Helper[] team = new ThreadTeam.Helper[helpers];
        for (int i = 0; i < helpers; i++)
        {
            team[i] = ThreadTeam.Start(Guarded, Pinning.OfHelper(i));
        }

        Guarded();
        foreach (ThreadTeam.Helper helper in team)
        {
            helper.Wait();
        }

        failure?.Throw();
    }

    /// <summary>Computes chunks until <see cref="Next"/> has none, with one set of scratch for all of them.</summary>
    protected abstract void Take();

    /// <summary>The next chunk's number, or −1.</summary>
    protected int Next()
    {
        _cancellation.ThrowIfCancellationRequested();
        int next = Interlocked.Increment(ref _next);
        return next < Volatile.Read(ref _count) ? next : -1;
    }

    /// <summary>Sums <paramref name="count"/> rows of a table into its first, pairwise and in the order of the rows.</summary>
    protected static void ReduceTree(Span<double> rows, int count, int width) => ReduceTree(rows, count, width, 0, width);

    /// <summary>The same of so many columns.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected static void ReduceTree(Span<double> rows, int count, int width, int first, int columns)
    {
        for (int stride = 1; stride < count; stride *= 2)
        {
            for (int i = 0; i + stride < count; i += 2 * stride)
            {
                Span<double> into = rows.Slice((i * width) + first, columns);
                ReadOnlySpan<double> from = rows.Slice(((i + stride) * width) + first, columns);
                ref double to = ref MemoryMarshal.GetReference(into);
                ref double part = ref MemoryMarshal.GetReference(from);
                int k = 0;
                for (; k <= columns - Vector<double>.Count; k += Vector<double>.Count)
                {
                    (Vector.LoadUnsafe(ref to, (nuint)k) + Vector.LoadUnsafe(ref part, (nuint)k)).StoreUnsafe(ref to, (nuint)k);
                }

                for (; k < columns; k++)
                {
                    into[k] += from[k];
                }
            }
        }
    }
}
