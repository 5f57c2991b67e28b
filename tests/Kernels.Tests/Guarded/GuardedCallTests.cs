using System.Numerics;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Tests.Guarded;

/// <summary>No kernel loads or stores a single number outside of its inputs, its outputs and its own scratch.</summary>
/// <remarks>
/// The calls are made in a child, which a wrong access kills. What that proves: nothing beyond the end of any input, output or scratch
/// buffer is loaded or stored, nothing before the start of any scratch buffer, nothing is stored before the start of an array, and
/// nothing is read from scratch or output that was not written; at these shapes and widths. What it does not: a load of the 24 bytes
/// of header before an array's first number, and an access from one part of a scratch buffer to another part of the same buffer (if that
/// is read before it is written it shows as a NaN, if it belongs to another row as a wrong number in the contract).
/// </remarks>
public sealed class GuardedCallTests(ITestOutputHelper log)
{
    private const string Way = "EXPERIMENTS_TEST_GUARD";

    public static TheoryData<string, int> All => LesserProcessor.All;

    [Theory]
    [MemberData(nameof(All))]
    public async Task No_kernel_leaves_its_memory(string setting, int bits)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "guard pages are laid by mmap and mprotect as Linux has them");
        (int exitCode, string output) = await RunAsync(nameof(Calls_between_guard_pages), "", LesserProcessor.Environment(setting, bits));
        Assert.True(exitCode == 0, $"exit code {exitCode}, {Last(output)}:\n{output}");
        Assert.Equal(1, ChildProcess.Total(output));
        log.WriteLine(Last(output));
    }

    [Theory]
    [InlineData(Trespass.LoadsAfterInput)]
    [InlineData(Trespass.StoresAfterOutput)]
    [InlineData(Trespass.LoadsAfterScratch)]
    [InlineData(Trespass.LoadsBeforeScratch)]
    [InlineData(Trespass.LoadsAfterRented)]
    public async Task A_kernel_that_goes_one_number_too_far_is_killed(Trespass where)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "guard pages are laid by mmap and mprotect as Linux has them");
        (int exitCode, string output) = await RunAsync(nameof(A_trespasser_between_guard_pages), $"{where}");
        Assert.NotEqual(0, exitCode);
        Assert.Contains("AccessViolationException", output);
        Assert.Contains(nameof(Trespasser), output);
    }

    [Fact]
    public async Task A_kernel_that_stores_before_or_reads_what_nobody_wrote_is_found()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "guard pages are laid by mmap and mprotect as Linux has them");
        (int exitCode, string output) = await RunAsync(nameof(Trespassers_that_live_are_found), "");
        Assert.True(exitCode == 0 && ChildProcess.Total(output) == 1, output);
    }

    /// <summary>What a child runs.</summary>
    [Fact(Explicit = true)]
    public void Calls_between_guard_pages()
    {
        LesserProcessor.AssertWidth();
        bool widest = Environment.GetEnvironmentVariables().Keys.Cast<string>().All(name => !name.StartsWith("DOTNET_Enable", StringComparison.Ordinal));
        int calls = 0, refused = 0;
        foreach (bool atEnd in (bool[])[true, false])
        {
            GuardPages pages = new(atEnd);

            // The collector must pass over arrays that are not its own.
            double[] alive = pages.Rent<double>(1000);
            GC.Collect();
            pages.Return(alive);
            foreach ((string name, Settings settings) in GuardedCalls.Kernels())
            {
                IGradientKernel kernel = BuiltIn.Kernel(name);

                // With the widest vectors exact sees every shape, from the side that matters most; the others some in each row and column.
                int every = name == "exact" ? atEnd ? widest ? 1 : 7 : 11 : atEnd ? widest ? 7 : 21 : 33;
                int turn = 0;
                foreach ((int n, int d) in GuardedCalls.Shapes(every))
                {
                    if (!Feasible(kernel, settings, n, d, widest ? 1e8 : 2e7))
                    {
                        continue;
                    }

                    // Read by whoever looks for the call that killed the process.
                    int threads = turn % 4 == 3 ? 2 : 1;
                    Console.WriteLine($"guarded {name} n={n} d={d} turn={turn} threads={threads} {(atEnd ? "end" : "start")}");
                    AttentionProblem<double> problem = GuardedCalls.Problem(n, d, turn, small: name != "exact");
                    calls += 2;
                    refused += GuardedCalls.Compare(kernel, settings, problem, threads, pages) ? 0 : 1;
                    refused += GuardedCalls.Compare(kernel, settings, problem.To<float>(), threads, pages) ? 0 : 1;
                    turn++;
                }
            }
        }

        Console.WriteLine($"guarded {calls} calls, {refused} of them refused");
        Assert.True(refused < calls / 10, $"{refused} of {calls} calls were refused");
    }

    /// <summary>What a child runs, to its end.</summary>
    [Fact(Explicit = true)]
    public void A_trespasser_between_guard_pages()
    {
        Trespasser trespasser = new(Enum.Parse<Trespass>(Environment.GetEnvironmentVariable(Way)!));
        foreach (bool atEnd in (bool[])[true, false])
        {
            GuardedCalls.Compare(trespasser, Settings.None, Problems.Random(1, 5, 3, 1), 1, new(atEnd));
        }
    }

    /// <summary>What a child runs.</summary>
    [Fact(Explicit = true)]
    public void Trespassers_that_live_are_found()
    {
        foreach ((Trespass way, string found) in ((Trespass, string)[])[
            (Trespass.None, ""), (Trespass.StoresBeforeScratch, "Something was written"), (Trespass.StoresBeforeOutput, "Something was written"),
            (Trespass.ReadsUnwritten, "has other bits")])
        {
            Exception? fault = Record.Exception(
                () => GuardedCalls.Compare(new Trespasser(way), Settings.None, Problems.Random(1, 5, 3, 1), 1, new(atEnd: true)));
            Assert.Contains(found, fault?.Message ?? "");
            Assert.Equal(way == Trespass.None, fault is null);
        }
    }

    private static bool Feasible(IGradientKernel kernel, Settings settings, int n, int d, double most)
    {
        try
        {
            // A table of features beyond this would take the time that the small shapes need.
            return kernel.Predict(n, d, 8, 1, settings) .Flops <= most;
        }
        catch (ArgumentException)
        {
            return false;
        }
    }

    private static Task<(int ExitCode, string Output)> RunAsync(string method, string way, params (string, string)[] environment) =>
        ChildProcess.RunAsync(
            ["--explicit", "only", "--filter-method", $"{typeof(GuardedCallTests).FullName}.{method}"],
            [.. environment, (Way, way)]);

    private static string Last(string output) =>
        output.Split('\n').LastOrDefault(line => line.Contains("guarded ", StringComparison.Ordinal)) ?? "before the first call";

    public enum Trespass
    {
        None,
        LoadsAfterInput,
        StoresAfterOutput,
        LoadsAfterScratch,
        LoadsBeforeScratch,
        LoadsAfterRented,
        StoresBeforeScratch,
        StoresBeforeOutput,
        ReadsUnwritten,
    }

    /// <summary>Exact but for one access: kept so that the pages are known to bite.</summary>
    private sealed unsafe class Trespasser(Trespass way) : IGradientKernel
    {
        public string Name => "trespasser";

        public string Summary => "Goes too far on purpose.";

        public IReadOnlyList<Axis> Axes => [];

        public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings) => new(1, 1, null);

        public void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            new ExactGradient().Compute(problem, settings, output, context);
            bool guarded = ScratchMemory.Instead is not null;
            if (!guarded)
            {
                return;
            }

            using AlignedBuffer<T> scratch = new(17);
            T[] rented = ScratchMemory.Rent<T>(11);
            fixed (T* a1 = problem.A1, dX = output.DX, other = rented)
            {
                switch (way)
                {
                    case Trespass.LoadsAfterInput:
                        // The last vector of a row that a remainder of one lane has to itself.
                        output.DX[0] += T.Zero * a1[problem.A1.Length];
                        break;
                    case Trespass.StoresAfterOutput:
                        dX[output.DX.Length] = T.One;
                        break;
                    case Trespass.LoadsAfterScratch:
                        output.DX[0] += T.Zero * scratch.Start[17];
                        break;
                    case Trespass.LoadsBeforeScratch:
                        // Where buffers begin after a page; where they end before one this is only a NaN.
                        T before = scratch.Start[-1];
                        output.Loss += T.IsNaN(before) ? 0 : 1;
                        break;
                    case Trespass.LoadsAfterRented:
                        output.DX[0] += T.Zero * other[11];
                        break;
                    case Trespass.StoresBeforeScratch:
                        scratch.Start[-1] = T.One;
                        break;
                    case Trespass.StoresBeforeOutput:
                        dX[-4] = T.One;
                        break;
                    case Trespass.ReadsUnwritten:
                        output.DX[0] += T.Zero * scratch.Start[3];
                        break;
                    default:
                        break;
                }
            }

            ScratchMemory.Return(rented);
        }
    }
}
