using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Experiments.Benchmarks.Measuring;

/// <summary>What a table of results must say of where it was made.</summary>
internal static class Machine
{
    /// <summary>Processor, its cores as this process sees them, memory.</summary>
    public static string Hardware()
    {
        string processor = FirstField("/proc/cpuinfo", "model name") ?? RuntimeInformation.ProcessArchitecture.ToString();
        string model = FirstField("/proc/cpuinfo", "model") is string number && FirstField("/proc/cpuinfo", "cpu family") is string family
            ? $" (family {family}, model {number})"
            : "";
        double memory = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / (double)(1L << 30);
        return string.Create(CultureInfo.InvariantCulture,
            $"{processor}{model}, {Environment.ProcessorCount} cores, {memory:0} GiB, {RuntimeInformation.OSDescription}");
    }

    /// <summary>Which vectors this process may use, and so which our kernels were measured with.</summary>
    public static string Instructions()
    {
        string widest = Avx512F.IsSupported && Vector512.IsHardwareAccelerated ? "AVX-512"
            : Avx2.IsSupported ? "AVX2"
            : Vector128.IsHardwareAccelerated ? "128-bit vectors"
            : "no vectors";
        return string.Create(CultureInfo.InvariantCulture,
            $".NET {Environment.Version}, {widest}{(Fma.IsSupported ? " with FMA" : "")}, Vector<byte> of {Vector<byte>.Count} bytes");
    }

    /// <summary>The load average of the last minute, or null where the system does not tell.</summary>
    public static double? Load()
    {
        try
        {
            return double.Parse(File.ReadAllText("/proc/loadavg").Split(' ')[0], CultureInfo.InvariantCulture);
        }
        catch (IOException)
        {
            return null;
        }
    }

    /// <summary>Bytes of memory that could be taken without harm.</summary>
    public static double FreeMemory() => Kilobytes("/proc/meminfo", "MemAvailable")
        ?? GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;

    /// <summary>A field of /proc/self/status in bytes, such as VmHWM, the most memory the process ever held; null elsewhere.</summary>
    public static long? Status(string field) => Kilobytes("/proc/self/status", field);

    private static long? Kilobytes(string file, string field) =>
        FirstField(file, field) is string text ? long.Parse(text.Split(' ')[0], CultureInfo.InvariantCulture) * 1024 : null;

    private static string? FirstField(string file, string field)
    {
        if (!File.Exists(file))
        {
            return null;
        }

        foreach (string line in File.ReadLines(file))
        {
            int colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon > 0 && line.AsSpan(0, colon).Trim().SequenceEqual(field))
            {
                return line[(colon + 1)..].Trim();
            }
        }

        return null;
    }
}
