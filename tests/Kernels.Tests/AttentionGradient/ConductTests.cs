using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Tests.AttentionGradient;

/// <summary>Threads, cancellation, phases and bad numbers: the same for every kernel.</summary>
public sealed class ConductTests
{
    private static readonly string[] Matrices = ["a1", "a2", "a3", "e", "x", "y"];

    public static TheoryData<string> Kernels => ["reference", "exact", "low-rank"];

    [Theory]
    [InlineData("exact")]
    [InlineData("low-rank")]
    public void The_bits_do_not_depend_on_the_number_of_threads(string kernel)
    {
        AttentionProblem<double> problem = Problems.Random(1, 1, 3, 1);
        foreach ((int n, int d) in ((int, int)[])[(1, 3), (65, 4), (700, 5), (5000, 2)])
        {
            problem = Problems.Random(n, n > 1000 ? 10 : n, d, 1);
            if (n > 1000)
            {
                problem = new Kernels.Instances.UniformFamily().Draw(new(n, d, 1.0, 3, Settings.None));
            }

            GradientOutput<double> wide = Problems.Run(kernel, problem, Set());
            GradientOutput<float> narrow = Problems.Run(kernel, problem.To<float>(), Set());
            foreach (int threads in (int[])[2, 3, 5])
            {
                GradientOutput<double> other = Problems.Run(kernel, problem, Set(), threads);
                Assert.Equal(wide.DX, other.DX);
                Assert.Equal(wide.Forward, other.Forward);
                Assert.Equal(wide.Loss, other.Loss);
                Assert.Equal(narrow.DX, Problems.Run(kernel, problem.To<float>(), Set(), threads).DX);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Kernels))]
    public void A_cancelled_call_stops(string kernel)
    {
        AttentionProblem<double> problem = Problems.Random(1, 300, 4, 1);
        using CancellationTokenSource source = new();
        foreach (int threads in (int[])[1, 3])
        {
            // Cancelled as its main loop begins: the next look finds it.
            KernelContext context = new(source.Token, threads, phase =>
            {
                if (phase == "rows")
                {
                    source.Cancel();
                }
            });
            Assert.ThrowsAny<OperationCanceledException>(
                () => BuiltIn.Kernel(kernel).Compute(problem, Set(), new GradientOutput<double>(300, 4), context));
        }
    }

    [Theory]
    [MemberData(nameof(Kernels))]
    public void The_phases_are_told_in_order(string kernel)
    {
        List<string> phases = [];
        BuiltIn.Kernel(kernel).Compute(
            Problems.Random(1, 20, 3, 1), Set(), new GradientOutput<double>(20, 3),
            new(CancellationToken.None, 1, phases.Add));
        Assert.Equal(kernel == "low-rank" ? ["project", "moments", "rows", "reduce"] : ["project", "rows", "reduce"], phases);
    }

    public static TheoryData<string> All => [.. BuiltIn.Kernels.Select(k => k.Name)];

    [Theory]
    [MemberData(nameof(All))]
    public void NaN_or_infinity_in_any_entry_of_any_input_is_a_failure_that_names_the_entry(string kernel)
    {
        // A vector of float64 with three to spare, so that an entry stands in every lane, in a whole block and in a remainder.
        EveryEntryIsNamed(BuiltIn.Kernel(kernel), 19);
    }

    [Theory]
    [MemberData(nameof(Kernels))]
    public void NaN_or_infinity_is_a_failure_where_there_is_one_token_too(string kernel) => EveryEntryIsNamed(BuiltIn.Kernel(kernel), 1);

    private static void EveryEntryIsNamed(IGradientKernel kernel, int n)
    {
        const int D = 3;
        Settings settings = Problems.Set(("degree", 4L), ("basis", "taylor"), ("features", 8L), ("landmarks", 4L), ("seed", 1L));
        foreach (double bad in (double[])[double.NaN, double.PositiveInfinity, double.NegativeInfinity])
        {
            for (int matrix = 0; matrix < 6; matrix++)
            {
                for (int entry = 0; entry < (matrix < 4 ? n : D) * D; entry++)
                {
                    AttentionProblem<double> problem = Problems.Random(3, n, D, 1);
                    double[][] all = [problem.A1, problem.A2, problem.A3, problem.E, problem.X, problem.Y];
                    all[matrix][entry] = bad;
                    string named = $"{Matrices[matrix]}[{entry / D}, {entry % D}] is ";
                    Fails(problem);
                    Fails(problem.To<float>());
                    if (kernel.TakesMask)
                    {
                        Fails(problem.With(LogitScale.SqrtD, causal: true));
                    }

                    void Fails<T>(AttentionProblem<T> with)
                        where T : unmanaged, System.Numerics.IBinaryFloatingPointIeee754<T>
                    {
                        KernelFailure failure = Assert.Throws<KernelFailure>(() => GradientCall.Compute(
                            kernel, [with], settings, [new GradientOutput<T>(n, D)], KernelContext.Default));
                        Assert.StartsWith(named, failure.Message, StringComparison.Ordinal);
                    }
                }
            }
        }
    }

    [Fact]
    public void One_token_has_no_gradient()
    {
        foreach (string kernel in (string[])["reference", "exact", "low-rank"])
        {
            Assert.All(Problems.Run(kernel, Problems.Random(2, 1, 4, 1), Set()).DX, g => Assert.Equal(0, g, 1e-15));
        }
    }

    [Fact]
    public void A_small_call_allocates_little()
    {
        AttentionProblem<double> problem = Problems.Random(2, 16, 4, 1);
        GradientOutput<double> output = new(16, 4);
        foreach (string kernel in (string[])["exact", "low-rank"])
        {
            Settings settings = Set();
            BuiltIn.Kernel(kernel).Compute(problem, settings, output, KernelContext.Default);

            // The least of some calls: a collection between two may have emptied the pool that buffers come from.
            long least = long.MaxValue;
            for (int call = 0; call < 5; call++)
            {
                long before = GC.GetAllocatedBytesForCurrentThread();
                BuiltIn.Kernel(kernel).Compute(problem, settings, output, KernelContext.Default);
                least = Math.Min(least, GC.GetAllocatedBytesForCurrentThread() - before);
            }

            Assert.InRange(least, 0, 4096);
        }
    }

    [Fact]
    public void Names_are_found_and_a_wrong_one_is_told_the_right_ones()
    {
        Assert.Equal("exact", BuiltIn.Kernel("exact").Name);
        Assert.Equal("files", BuiltIn.Family("files").Name);
        Assert.Contains("low-rank", Assert.Throws<ArgumentException>(() => BuiltIn.Kernel("lowrank")).Message);
        Assert.Contains("uniform", Assert.Throws<ArgumentException>(() => BuiltIn.Family("unifrom")).Message);
    }

    private static Settings Set() => Problems.Set(("degree", 4L), ("basis", "taylor"));
}
