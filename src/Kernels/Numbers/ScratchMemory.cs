using System.Buffers;

namespace Experiments.Kernels.Numbers;

/// <summary>Where kernels borrow arrays for one call.</summary>
internal static class ScratchMemory
{
    /// <summary>What stands in for the shared pools, for <see cref="AlignedBuffer{T}"/> too: tests lay every buffer against pages that
    /// may not be touched. Null in the product, which asks once a buffer.</summary>
    public static IScratchSource? Instead { get; set; }

    /// <summary>At least so many numbers; their values are whatever was there.</summary>
    public static T[] Rent<T>(int length)
        where T : unmanaged => Instead is IScratchSource source ? source.Rent<T>(length) : ArrayPool<T>.Shared.Rent(length);

    public static void Return<T>(T[] array)
        where T : unmanaged
    {
        if (Instead is IScratchSource source)
        {
            source.Return(array);
        }
        else
        {
            ArrayPool<T>.Shared.Return(array);
        }
    }
}

/// <summary>Gives out memory of exactly the length asked for.</summary>
internal unsafe interface IScratchSource
{
    void* Take(long bytes);

    void Give(void* start, long bytes);

    T[] Rent<T>(int length)
        where T : unmanaged;

    void Return<T>(T[] array)
        where T : unmanaged;
}
