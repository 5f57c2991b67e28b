using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Experiments.Kernels.Tests;

/// <summary>The widths of vectors that this machine can be made to have, by what the runtime is told to leave unused.</summary>
/// <remarks>The runtime's switches are DOTNET_EnableAVX512, DOTNET_EnableAVX2 and DOTNET_EnableHWIntrinsic (.NET 10; the older
/// DOTNET_EnableAVX512F and DOTNET_EnableFMA are not looked at any more: fused multiply-adds come and go with AVX2). A child is told
/// what it should then find, and <see cref="AttentionGradient.KernelContractTests"/> and the guarded run look.</remarks>
internal static class LesserProcessor
{
    private const string Expected = "EXPERIMENTS_TEST_VECTOR_BITS";

    /// <summary>Everything that there is, then ever less; bits of the vectors that are left, 0 for none.</summary>
    public static TheoryData<string, int> All => new(Switches());

    public static TheoryData<string, int> Lesser => new(Switches().Skip(1));

    public static (string, string)[] Environment(string setting, int bits) => setting.Split('=') is [string name, string value]
        ? [(name, value), (Expected, $"{bits}")]
        : [(Expected, $"{bits}")];

    /// <summary>Fails unless vectors are as wide as the parent meant them to be.</summary>
    public static void AssertWidth()
    {
        if (System.Environment.GetEnvironmentVariable(Expected) is string asked)
        {
            Assert.Equal(int.Parse(asked), Bits);
        }

        if (X86Base.IsSupported)
        {
            Assert.Equal(Avx2.IsSupported, Bits >= 256);
            Assert.Equal(Fma.IsSupported, Bits >= 256);
        }
    }

    private static int Bits =>
        Vector512.IsHardwareAccelerated ? 512 : Vector256.IsHardwareAccelerated ? 256 : Vector128.IsHardwareAccelerated ? 128 : 0;

    private static IEnumerable<(string, int)> Switches()
    {
        yield return ("", Bits);
        if (Vector512.IsHardwareAccelerated)
        {
            yield return ("DOTNET_EnableAVX512=0", 256);
        }
        else if (Avx512F.IsSupported)
        {
            // A processor that is slower with wide vectors: the runtime uses them only when it is told to.
            yield return ("DOTNET_PreferredVectorBitWidth=512", 512);
        }

        if (Avx2.IsSupported)
        {
            yield return ("DOTNET_EnableAVX2=0", 128);
        }

        if (X86Base.IsSupported)
        {
            yield return ("DOTNET_EnableHWIntrinsic=0", 0);
        }
    }
}
