using System.Runtime.InteropServices;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>Zeroed memory outside the garbage collector's heap, aligned to a cache line, for loops over pointers.</summary>
internal sealed unsafe class NativeBuffer<T> : IDisposable
    where T : unmanaged
{
    private const nuint CacheLine = 64;

    /// <exception cref="OutOfMemoryException">There is no such memory.</exception>
    public NativeBuffer(long count)
    {
        nuint bytes = checked((nuint)count * (nuint)sizeof(T));
        At = (T*)NativeMemory.AlignedAlloc(bytes, CacheLine);
        NativeMemory.Clear(At, bytes);
    }

    ~NativeBuffer() => Free();

    public T* At { get; private set; }

    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private void Free()
    {
        NativeMemory.AlignedFree(At);
        At = null;
    }
}
