using System.Buffers;
using System.Runtime.InteropServices;

namespace Experiments.Kernels.Numbers;

/// <summary>Memory for one call, at the start of a cache line and at an address that stays.</summary>
/// <remarks>Taken from the shared pool where that can hold it: fresh pages cost more than a small kernel's whole run.</remarks>
internal sealed unsafe class AlignedBuffer<T> : IDisposable
    where T : unmanaged
{
    private const int Line = 64;
    private const long LargestPooled = 1L << 30;

    private readonly byte[]? _pooled;
    private readonly GCHandle _pin;
    private readonly void* _native;
    private readonly IScratchSource? _source;

    /// <param name="length">How many numbers; their values are whatever was there.</param>
    public AlignedBuffer(long length)
    {
        Length = length;
        if (ScratchMemory.Instead is IScratchSource source)
        {
            _source = source;
            Start = (T*)source.Take(checked(length * sizeof(T)));
            return;
        }

        long bytes = checked((length * sizeof(T)) + Line);
        if (bytes <= LargestPooled)
        {
            _pooled = ArrayPool<byte>.Shared.Rent((int)bytes);
            _pin = GCHandle.Alloc(_pooled, GCHandleType.Pinned);
            Start = (T*)(((nint)_pin.AddrOfPinnedObject() + Line - 1) & ~(nint)(Line - 1));
        }
        else
        {
            _native = NativeMemory.AlignedAlloc((nuint)bytes, Line);
            Start = (T*)_native;
        }
    }

    public long Length { get; }

    public T* Start { get; }

    /// <param name="length">How many numbers, each of them 0.</param>
    public static AlignedBuffer<T> Zeroed(long length)
    {
        AlignedBuffer<T> buffer = new(length);
        buffer.Clear();
        return buffer;
    }

    public void Clear() => NativeMemory.Clear(Start, (nuint)(Length * sizeof(T)));

    public void Dispose()
    {
        if (_source is not null)
        {
            _source.Give(Start, Length * sizeof(T));
        }
        else if (_pooled is not null)
        {
            _pin.Free();
            ArrayPool<byte>.Shared.Return(_pooled);
        }
        else
        {
            NativeMemory.AlignedFree(_native);
        }
    }
}
