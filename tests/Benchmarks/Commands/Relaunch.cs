using System.Diagnostics;
using System.Runtime.Intrinsics;
using Experiments.Benchmarks.Contenders;

namespace Experiments.Benchmarks.Commands;

/// <summary>Runs the same command line in a process with other vectors, with another use of memory, or in the program that has the rival.</summary>
/// <remarks>All are settled before a process starts: the runtime, libtorch and the C library read the environment once.</remarks>
internal static class Relaunch
{
    private const string RuntimeSwitch = "DOTNET_EnableAVX512";

    // Equal terms: what keeps AVX-512 from our code keeps it from libtorch, its MKL and its oneDNN.
    private static readonly (string Name, string Value)[] WithoutAvx512 =
        [(RuntimeSwitch, "0"), ("ATEN_CPU_CAPABILITY", "avx2"), ("MKL_ENABLE_INSTRUCTIONS", "AVX2"), ("ONEDNN_MAX_CPU_ISA", "AVX2")];

    // By itself glibc gives large blocks back to the system as they are freed, more or less of them by what was freed before, and every tensor
    // of the next call faults its pages in again: libtorch took 60 ms or 87 for one gradient, from process to process.
    private static readonly (string Name, string Value)[] WithMemoryKept =
        [("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=4294967295:glibc.malloc.trim_threshold=4294967295")];

    /// <param name="keepMemory">Whether freed memory stays the process's, for the next call's tensors.</param>
    /// <returns>The other process's exit code, or null: this process is the right one.</returns>
    /// <exception cref="ArgumentException">torch is asked for and was not set up.</exception>
    public static int? IfNeeded(string[] args, string instructions, bool torch, IRivals? rivals, bool keepMemory = false)
    {
        SharedOptions.OneOf("--instructions", instructions, "native", "avx2");
        bool avx2 = instructions == "avx2" || (Vector256.IsHardwareAccelerated && !Vector512.IsHardwareAccelerated);
        (string Name, string Value)[] wanted = [.. avx2 ? WithoutAvx512 : [], .. keepMemory ? WithMemoryKept : []];
        if (torch && rivals is null)
        {
            return Start(TorchProgram(), args, wanted);
        }

        if ((torch || instructions == "avx2") && wanted.Any(v => Environment.GetEnvironmentVariable(v.Name) != v.Value))
        {
            return Start(ThisProgram(), args, wanted);
        }

        return instructions == "avx2" && Vector512.IsHardwareAccelerated
            ? throw new ArgumentException($"--instructions avx2: this runtime uses AVX-512 although {RuntimeSwitch} is 0.")
            : null;
    }

    private static int Start(string[] program, string[] args, (string Name, string Value)[] wanted)
    {
        ProcessStartInfo start = new(program[0], [.. program[1..], .. args]);
        foreach ((string name, string value) in wanted)
        {
            start.Environment[name] = value;
        }

        using Process process = Process.Start(start)!;
        process.WaitForExit();
        return process.ExitCode;
    }

    /// <summary>How this very program is started.</summary>
    public static string[] ThisProgram()
    {
        string path = Environment.ProcessPath!;
        return Path.GetFileNameWithoutExtension(path) == "dotnet" ? [path, Environment.GetCommandLineArgs()[0]] : [path];
    }

    private static string[] TorchProgram()
    {
        string here = AppContext.BaseDirectory;
        for (DirectoryInfo? folder = new(here); folder is not null; folder = folder.Parent)
        {
            string output = Path.Combine(folder.FullName, "Torch", "bin", "Release", "net10.0");
            string program = Path.Combine(output, "Experiments.Torch.dll");
            if (!File.Exists(Path.Combine(folder.FullName, "Torch", "set-up.sh")))
            {
                continue;
            }

            if (!File.Exists(program))
            {
                break;
            }

            // It was built with the kernels of that day. What is measured is the kernels of this build.
            foreach (string ours in new[] { "Experiments.Kernels.dll", "Experiments.Benchmarks.dll" })
            {
                File.Copy(Path.Combine(here, ours), Path.Combine(output, ours), overwrite: true);
            }

            return ["dotnet", program];
        }

        throw new ArgumentException(
            "torch is not set up. Run tests/Benchmarks/Torch/set-up.sh (it fetches 0.5 GB), or use --against none.");
    }
}
