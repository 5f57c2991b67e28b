using System.Numerics;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient;

/// <summary>What a call is given to do, as far as its cost depends on it.</summary>
/// <param name="N">Tokens of each problem.</param>
/// <param name="D">Head dimension.</param>
/// <param name="Parts">Independent problems: heads times batch.</param>
/// <param name="Causal">Whether row i sees keys 0 to i only.</param>
/// <param name="LogitBound">No |logit| will exceed it, centred or not; infinite where nobody can tell.</param>
public readonly record struct CallShape(
    int N, int D, int Parts = 1, bool Causal = false, double LogitBound = double.PositiveInfinity);

/// <summary>One call of a kernel, on one problem or on several independent ones of the same shape (heads and batch).</summary>
/// <remarks>
/// Of several, as many as whole rounds of the threads take are dealt to the threads, each with one thread; the rest are computed one after
/// another, each with all threads. So all threads are busy whether there are many problems or few, and since the kernels' bits do
/// not depend on the threads, nor do the call's.
/// </remarks>
public static class GradientCall
{
    /// <summary>What every kernel's calls can be given beside precision and threads. Without a default: a trial that does not name one
    /// keeps its key, whatever is added here.</summary>
    public static IReadOnlyList<Axis> Axes { get; } =
    [
        new("pin", AxisKind.Flag, "Whether each thread is kept on a core of its own (Linux); left out, they go where the system puts them."),
        new(
            "gradients", AxisKind.Choice, "What a call gives: x is dX and what comes with it; all is dQ, dK and dV too. Left out: x.",
            Choices: ["x", "all"]),
    ];

    // What a problem and its output cost beside their numbers, and a buffer that a kernel rounds up.
    private const double BytesOfPart = 2048;

    /// <summary>Whether the axis pin asks for pinned threads, which are the caller's to pin: see <see cref="Pinning"/>.</summary>
    public static bool IsPinned(Settings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        return settings.Flag("pin", false);
    }

    /// <summary>Whether the axis gradients asks for dQ, dK and dV, for which the caller's outputs have to have room.</summary>
    public static bool AsksForAll(Settings settings)
    {
        ArgumentNullException.ThrowIfNull(settings);
        return settings.Word("gradients", "x") == "all";
    }

    /// <summary>Null, or why the kernel cannot do such a problem with such settings.</summary>
    public static string? Refusal(IGradientKernel kernel, Settings settings, bool causal)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        if (AsksForAll(settings) && !kernel.GivesAll)
        {
            return $"gradients is all, and {kernel.Name} gives no dQ, dK and dV. Use gradients: x, or exact, low-rank or reference.";
        }

        return causal && !kernel.TakesMask
            ? $"mask is causal, and {kernel.Name} takes no mask. Use mask: none, or exact or reference."
            : null;
    }

    /// <summary>What the call will cost: a causal mask leaves (n + 1) / 2n of the operations, and state is what is held at once.</summary>
    /// <exception cref="ArgumentException">The kernel cannot do this; the message says what to do.</exception>
    public static KernelCost Predict(IGradientKernel kernel, CallShape shape, int bytesPerNumber, int threads, Settings settings)
    {
        if (Refusal(kernel, settings, shape.Causal) is string refusal)
        {
            throw new ArgumentException(refusal);
        }

        KernelCost one = kernel.PredictWithin(shape.N, shape.D, bytesPerNumber, threads, settings, shape.LogitBound);
        double flops = one.Flops * (shape.Causal ? (shape.N + 1.0) / (2.0 * shape.N) : 1);
        if (shape.Parts == 1)
        {
            return one with { Flops = flops };
        }

        double state = one.StateBytes;
        if (shape.Parts >= threads)
        {
            double alone = kernel.PredictWithin(shape.N, shape.D, bytesPerNumber, 1, settings, shape.LogitBound).StateBytes;
            state = Math.Max(threads * alone, shape.Parts % threads == 0 ? 0 : state);
        }

        return one with { Flops = shape.Parts * flops, StateBytes = state + (BytesOfPart * shape.Parts) };
    }

    /// <summary>Computes each problem into its output. Phases are told of unless several threads would tell of theirs at once.</summary>
    /// <exception cref="ArgumentException">The kernel cannot do such a problem.</exception>
    /// <exception cref="KernelFailure">An answer would be wrong; where an input is not finite the message names its entry.</exception>
    /// <exception cref="OperationCanceledException">The context's token was cancelled.</exception>
    public static void Compute<T>(
        IGradientKernel kernel, IReadOnlyList<AttentionProblem<T>> parts, Settings settings, IReadOnlyList<GradientOutput<T>> outputs,
        KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(parts);
        ArgumentNullException.ThrowIfNull(outputs);
        ArgumentNullException.ThrowIfNull(context);
        if (parts.Count != outputs.Count || parts.Count == 0)
        {
            throw new ArgumentException($"There are {parts.Count} problems and {outputs.Count} outputs; one output a problem is needed.");
        }

        if (Refusal(kernel, settings, parts[0].Causal) is string refusal)
        {
            throw new ArgumentException(refusal);
        }

        if (parts.Count == 1)
        {
            One(kernel, parts, settings, outputs, 0, context);
            return;
        }

        int threads = Math.Max(1, context.Threads), dealt = parts.Count / threads * threads;
        if (dealt > 0)
        {
            KernelContext alone = threads == 1 ? context : context with { Threads = 1, Phase = null };
            new Deal<T>(kernel, parts, settings, outputs, alone).Run(dealt, threads, context.Cancellation);
        }

        for (int part = dealt; part < parts.Count; part++)
        {
            One(kernel, parts, settings, outputs, part, context);
        }
    }

    private static void One<T>(
        IGradientKernel kernel, IReadOnlyList<AttentionProblem<T>> parts, Settings settings, IReadOnlyList<GradientOutput<T>> outputs,
        int part, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        try
        {
            kernel.Compute(parts[part], settings, outputs[part], context);
        }
        catch (KernelFailure failure)
        {
            // A kernel sees what became of the numbers; which one it was is looked for here, once it is known to matter.
            string reason = parts[part].FirstNonFinite() is string fault
                ? $"{fault}, and every entry of the inputs must be finite."
                : failure.Message;
            throw new KernelFailure(parts.Count == 1 ? reason : $"In problem {part} of {parts.Count}: {reason}");
        }
    }

    private sealed class Deal<T>(
        IGradientKernel kernel, IReadOnlyList<AttentionProblem<T>> parts, Settings settings, IReadOnlyList<GradientOutput<T>> outputs,
        KernelContext alone) : Chunks
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        protected override void Take()
        {
            for (int part = Next(); part >= 0; part = Next())
            {
                One(kernel, parts, settings, outputs, part, alone);
            }
        }
    }
}

/// <summary>The numbers of a call beside its gradients, over all its problems.</summary>
/// <param name="Loss">The sum.</param>
/// <param name="MinRowSumOverN">The least.</param>
/// <param name="NonPositiveRowSums">The sum.</param>
/// <param name="MaxLogit">The largest.</param>
/// <param name="RmsLogit">The root mean square over all.</param>
/// <param name="FittedRadius">The largest.</param>
/// <param name="PredictedExpError">The largest.</param>
/// <param name="FittedDegree">The highest.</param>
public readonly record struct CallFacts(
    double Loss, double MinRowSumOverN, long NonPositiveRowSums, double MaxLogit, double RmsLogit, double FittedRadius,
    double PredictedExpError, double FittedDegree)
{
    public static CallFacts Of<T>(IReadOnlyList<GradientOutput<T>> outputs)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(outputs);
        CallFacts all = Of(outputs[0]);
        if (outputs.Count == 1)
        {
            return all;
        }

        double squares = all.RmsLogit * all.RmsLogit;
        foreach (GradientOutput<T> output in outputs.Skip(1))
        {
            CallFacts one = Of(output);
            squares += one.RmsLogit * one.RmsLogit;
            all = new(
                all.Loss + one.Loss, Math.Min(all.MinRowSumOverN, one.MinRowSumOverN), all.NonPositiveRowSums + one.NonPositiveRowSums,
                Math.Max(all.MaxLogit, one.MaxLogit), 0, Math.Max(all.FittedRadius, one.FittedRadius),
                Math.Max(all.PredictedExpError, one.PredictedExpError), Math.Max(all.FittedDegree, one.FittedDegree));
        }

        return all with { RmsLogit = Math.Sqrt(squares / outputs.Count) };
    }

    private static CallFacts Of<T>(GradientOutput<T> output)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        new(output.Loss, output.MinRowSumOverN, output.NonPositiveRowSums, output.MaxLogit, output.RmsLogit, output.FittedRadius,
            output.PredictedExpError, output.FittedDegree);
}
