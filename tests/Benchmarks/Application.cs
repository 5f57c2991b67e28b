using System.CommandLine;
using System.Reflection;
using BenchmarkDotNet.Running;
using Experiments.Benchmarks.Commands;
using Experiments.Benchmarks.Contenders;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Benchmarks;

/// <summary>One command from its words to its exit code: 0 done, 1 a mistake in what was typed, 2 results that disagree.</summary>
public static class Application
{
    /// <param name="args">What was typed after the program's name.</param>
    /// <param name="rivals">Other people's code that this program can call, or null.</param>
    public static int Run(string[] args, IRivals? rivals)
    {
        ArgumentNullException.ThrowIfNull(args);
        if (args is ["micro", .. string[] rest])
        {
            // BenchmarkDotNet has a command line of its own. In this process: to build one of its own it looks for a project
            // file of the assembly's name, which the house's projects do not have.
            BenchmarkSwitcher.FromAssembly(Assembly.GetExecutingAssembly()).Run([.. rest, "--inProcess"]);
            return 0;
        }

        RootCommand root = new("Measures the attention-gradient kernels: against each other, against rivals, against the peak.")
        {
            CompareCommand.Create(args, rivals),
            ScalingCommand.Create(args),
            CrossoverCommand.Create(args),
            MemoryCommand.Create(args),
            PeakCommand.Create(args),
            LoopsCommand.Create(args),
            new Command("micro", "BenchmarkDotNet's micro-benchmarks; takes its options, such as --filter '*Fma*' or --list flat")
            {
                TreatUnmatchedTokensAsErrors = false,
            },
        };
        try
        {
            return root.Parse(args).Invoke(new() { EnableDefaultExceptionHandler = false });
        }
        catch (Exception fault) when (fault is ArgumentException or KernelFailure or IOException or UnauthorizedAccessException)
        {
            Console.Error.WriteLine(fault.Message);
            return 1;
        }
    }
}
