namespace Experiments.Kernels.Instances;

/// <summary>Philox4x32-10: random numbers that are a function of a key and a counter, so that any of them can be had in any
/// order, on any machine, and two streams never meet.</summary>
/// <remarks>Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.</remarks>
public static class Philox
{
    private const uint Multiplier0 = 0xD2511F53;
    private const uint Multiplier1 = 0xCD9E8D57;

    // The golden ratio and √3 − 1, by which the key moves on from round to round.
    private const uint Weyl0 = 0x9E3779B9;
    private const uint Weyl1 = 0xBB67AE85;

    /// <summary>128 random bits of a 128-bit counter and a 64-bit key.</summary>
    public static (uint R0, uint R1, uint R2, uint R3) Block(uint c0, uint c1, uint c2, uint c3, uint k0, uint k1)
    {
        for (int round = 0; round < 10; round++)
        {
            ulong p0 = (ulong)Multiplier0 * c0, p1 = (ulong)Multiplier1 * c2;
            (c0, c1, c2, c3) = ((uint)(p1 >> 32) ^ c1 ^ k0, (uint)p1, (uint)(p0 >> 32) ^ c3 ^ k1, (uint)p0);
            k0 = unchecked(k0 + Weyl0);
            k1 = unchecked(k1 + Weyl1);
        }

        return (c0, c1, c2, c3);
    }

    /// <summary>64 random bits: number <paramref name="index"/> of a stream.</summary>
    public static ulong Bits(ulong key, uint stream, ulong index)
    {
        ulong block = index >> 1;
        (uint r0, uint r1, uint r2, uint r3) =
            Block((uint)block, (uint)(block >> 32), stream, 0, (uint)key, (uint)(key >> 32));
        return (index & 1) == 0 ? ((ulong)r1 << 32) | r0 : ((ulong)r3 << 32) | r2;
    }
}
