using System.Numerics;
using System.Reflection;
using System.Runtime.InteropServices;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Contract;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Tests.Guarded;

/// <summary>Calls of kernels with every array and every buffer between pages that may not be touched.</summary>
internal static class GuardedCalls
{
    /// <summary>Every kernel with vectors, in settings that reach its different loops.</summary>
    public static IEnumerable<(string Kernel, Settings Settings)> Kernels()
    {
        yield return ("exact", Settings.None);
        yield return ("low-rank", Problems.Set(("degree", 2L), ("basis", "taylor")));
        yield return ("low-rank", Problems.Set(("degree", 3L), ("basis", "hermite"), ("form", "reverse")));
        yield return ("low-rank", Problems.Set(("degree", 1L), ("basis", "least-squares"), ("centred", false)));
        yield return ("dense-polynomial", Problems.Set(("degree", 3L), ("basis", "minimax")));
        yield return ("performer", Problems.Set(("features", 10L), ("seed", 1L)));
        yield return ("random-fourier", Problems.Set(("features", 12L), ("seed", 1L)));
        yield return ("nystrom", Problems.Set(("landmarks", 3L)));
    }

    /// <summary>Every n to 70 with every d to 20, thinned out, and some that have several tiles, spans and chunks.</summary>
    /// <param name="every">Of the small shapes, one in so many.</param>
    public static IEnumerable<(int N, int D)> Shapes(int every)
    {
        for (int i = 0; i < 70 * 20; i += every)
        {
            yield return ((i / 20) + 1, (i % 20) + 1);
        }

        foreach ((int N, int D) shape in ((int, int)[])[(129, 4), (300, 3), (577, 5), (1100, 2), (64, 33), (41, 67), (25, 130)])
        {
            yield return shape;
        }
    }

    /// <summary>Holds a call between guard pages to the bits of one in memory of the usual kind.</summary>
    /// <returns>Whether there were bits: a kernel may refuse the problem, then in both kinds of memory.</returns>
    public static bool Compare<T>(IGradientKernel kernel, Settings settings, AttentionProblem<T> problem, int threads, GuardPages pages)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int n = problem.N, d = problem.D, given = pages.Given;
        GradientOutput<T> usual = new(n, d) { DQ = new T[n * d], DK = new T[n * d], DV = new T[n * d] };
        KernelContext context = new(CancellationToken.None, threads) { Statistics = true };
        string? refusal = Try(kernel, settings, problem, usual, context);

        T[][] inputs = [.. ((T[][])[problem.A1, problem.A2, problem.A3, problem.E, problem.X, problem.Y]).Select(pages.Copy)];
        AttentionProblem<T> guarded = new(n, d, inputs[0], inputs[1], inputs[2], inputs[3], inputs[4], inputs[5])
        {
            Scale = problem.Scale,
            Causal = problem.Causal,
        };
        T[][] outputs = [.. ((T[][])[usual.DX, usual.DY, usual.Forward, usual.DQ, usual.DK, usual.DV]).Select(a => pages.Rent<T>(a.Length))];

        // What a kernel leaves alone, as most do dK and dV, has the same rubbish in both.
        GradientOutput<T> output = new(n, d) { DQ = outputs[3], DK = outputs[4], DV = outputs[5] };
        Array.Clear(outputs[4]);
        Array.Clear(outputs[5]);
        Replace(output, nameof(output.DX), outputs[0]);
        Replace(output, nameof(output.DY), outputs[1]);
        Replace(output, nameof(output.Forward), outputs[2]);
        Array.Fill(output.DY, T.NaN);
        ScratchMemory.Instead = pages;
        string? guardedRefusal;
        try
        {
            guardedRefusal = Try(kernel, settings, guarded, output, context);
        }
        finally
        {
            ScratchMemory.Instead = null;
        }

        Assert.Equal(refusal, guardedRefusal);
        if (refusal is null)
        {
            Same(usual.DX, output.DX, "dX");
            Same(usual.DY, output.DY, "dY");
            Same(usual.DQ!, output.DQ!, "dQ");
            Same(usual.DK!, output.DK!, "dK");
            Same(usual.DV!, output.DV!, "dV");
            Same(usual.Forward, output.Forward, "F");
            Assert.Equal(usual.Loss, output.Loss);
            Assert.Equal(usual.MaxLogit, output.MaxLogit);
            Assert.Equal(usual.RmsLogit, output.RmsLogit);
            Assert.Equal(usual.MinRowSumOverN, output.MinRowSumOverN);
        }

        foreach (T[] array in inputs.Concat(outputs))
        {
            pages.Return(array);
        }

        // A call that fails may leave rented arrays to the collector.
        Assert.True(refusal is not null || pages.Given == given, $"{pages.Given - given} buffers were not given back");
        return refusal is null;
    }

    private static string? Try<T>(
        IGradientKernel kernel, Settings settings, AttentionProblem<T> problem, GradientOutput<T> output, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        try
        {
            kernel.Compute(problem, settings, output, context);
            return null;
        }
        catch (KernelFailure failure)
        {
            return failure.Message;
        }
    }

    // The output makes its own arrays, as it should; here they are others.
    private static void Replace<T>(GradientOutput<T> output, string property, T[] array)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        typeof(GradientOutput<T>).GetField($"<{property}>k__BackingField", BindingFlags.Instance | BindingFlags.NonPublic)!
            .SetValue(output, array);

    private static void Same<T>(T[] usual, T[] guarded, string what)
        where T : unmanaged =>
        Assert.True(
            MemoryMarshal.AsBytes<T>(usual).SequenceEqual(MemoryMarshal.AsBytes<T>(guarded)),
            $"{what} has other bits between guard pages: something was read that is not the call's, or before it was written");

    /// <summary>Small, middling and large logits by turns, either mask and scale, targets that are nearly met: every way that the kernels have.</summary>
    public static AttentionProblem<double> Problem(int n, int d, int turn, bool small)
    {
        AttentionProblem<double> problem = RandomProblem.Unscaled((n * 1000) + d, n, d);
        double[] factors = small ? [0.01, 0.1, 0.3] : [0.01, 3, 300];
        RandomProblem.Scale(problem.A1, factors[turn % 3]);
        problem = problem.With(turn % 2 == 0 ? LogitScale.D : LogitScale.SqrtD, causal: !small && turn % 5 == 0);
        return !small && turn % 7 == 3 ? Problems.Met(problem, 1e-6) : problem;
    }
}
