using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Tests.Guarded;

/// <summary>Memory between two pages that nobody may touch: a load or a store there kills the process.</summary>
/// <remarks>
/// Linux. Every piece of memory either ends where the page after it begins, or begins where the page before it ends; what is left of
/// its own pages, and the piece itself when it is given out, is filled with bytes that are NaN in both precisions. So a load outside
/// kills or brings in a NaN, a load of what was never written brings in a NaN, and a store into what is left is found when the piece
/// is given back.
///
/// A managed array is made by writing an array's header before its numbers. The collector passes over what lies outside its own
/// heap, as it does for a frozen object, and nobody moves it; such an array must not outlive the test.
/// </remarks>
internal sealed unsafe class GuardPages(bool atEnd) : IScratchSource
{
    private const byte Poison = 0xFF;

    // Sync block, method table and length: what stands before an array's first number.
    private const int Header = 24;

    private static readonly int Page = Environment.SystemPageSize;

    private readonly ConcurrentDictionary<long, ConcurrentBag<nint>> _free = new();
    private int _given;

    /// <summary>Pieces that were given out and are not back.</summary>
    public int Given => _given;

    public void* Take(long bytes)
    {
        // An empty buffer has no place of its own, and may be asked for its address.
        Interlocked.Increment(ref _given);
        return Piece(bytes, 0);
    }

    public void Give(void* start, long bytes)
    {
        Free((byte*)start, bytes, 0);
        Interlocked.Decrement(ref _given);
    }

    /// <summary>An array whose last number stands before a guard page, or whose header stands after one.</summary>
    public T[] Rent<T>(int length)
        where T : unmanaged
    {
        Interlocked.Increment(ref _given);
        byte* data = Piece((long)length * sizeof(T), Header);
        *(nint*)(data - 24) = 0;
        *(nint*)(data - 16) = ArrayOf<T>.MethodTable;
        *(long*)(data - 8) = length;
        nint address = (nint)(data - 16);
        return Unsafe.As<nint, T[]>(ref address);
    }

    public void Return<T>(T[] array)
        where T : unmanaged
    {
        byte* data = (byte*)Unsafe.As<T[], nint>(ref array) + 16;
        if (*(nint*)(data - 16) != ArrayOf<T>.MethodTable || *(int*)(data - 4) != 0)
        {
            throw new InvalidOperationException("Something was written before the start of an array.");
        }

        Free(data, (long)array.Length * sizeof(T), Header);
        Interlocked.Decrement(ref _given);
    }

    /// <summary>An array of the same numbers.</summary>
    public T[] Copy<T>(T[] values)
        where T : unmanaged
    {
        T[] copy = Rent<T>(values.Length);
        values.CopyTo(copy, 0);
        return copy;
    }

    private byte* Piece(long bytes, int header)
    {
        long inside = Pages(bytes, header) * Page;
        nint region = _free.GetOrAdd(inside, _ => []).TryTake(out nint used) ? used : Map(inside);
        new Span<byte>((void*)region, checked((int)inside)).Fill(Poison);
        return (byte*)region + (atEnd ? inside - bytes : header);
    }

    private void Free(byte* data, long bytes, int header)
    {
        long inside = Pages(bytes, header) * Page;
        byte* region = atEnd ? data + bytes - inside : data - header;
        if (new Span<byte>(region, (int)Math.Max(0, data - header - region)).ContainsAnyExcept(Poison)
            || new Span<byte>(data + bytes, (int)(region + inside - data - bytes)).ContainsAnyExcept(Poison))
        {
            throw new InvalidOperationException($"Something was written outside of a piece of {bytes} bytes.");
        }

        _free.GetOrAdd(inside, _ => []).Add((nint)region);
    }

    private static long Pages(long bytes, int header) => Math.Max(1, (bytes + header + Page - 1) / Page);

    private static nint Map(long inside)
    {
        const int None = 0, ReadWrite = 3, PrivateAnonymous = 0x22;
        nint all = Mmap(0, (nuint)(inside + (2 * Page)), None, PrivateAnonymous, -1, 0);
        return all != -1 && Mprotect(all + Page, (nuint)inside, ReadWrite) == 0
            ? all + Page
            : throw new InvalidOperationException($"mmap or mprotect of {inside} bytes failed: {Marshal.GetLastPInvokeErrorMessage()}");
    }

    [DllImport("libc", EntryPoint = "mmap", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern nint Mmap(nint address, nuint length, int protection, int flags, int descriptor, nint offset);

    [DllImport("libc", EntryPoint = "mprotect", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static extern int Mprotect(nint address, nuint length, int protection);

    private static class ArrayOf<T>
        where T : unmanaged
    {
        public static readonly nint MethodTable = Read();

        // Of a pinned array, so that nothing moves while its first word is read.
        private static nint Read()
        {
            T[] model = GC.AllocateUninitializedArray<T>(1, pinned: true);
            return *(nint*)Unsafe.As<T[], nint>(ref model);
        }
    }
}
