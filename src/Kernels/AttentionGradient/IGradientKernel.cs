using System.Numerics;

namespace Experiments.Kernels.AttentionGradient;

/// <summary>A way to compute the gradient of the attention loss. The built-in ones and a user's own enter by this door.</summary>
/// <remarks>Implementations are stateless and may be called from several threads at once, each with its own output.</remarks>
public interface IGradientKernel
{
    /// <summary>As typed in a sweep file: <c>low-rank</c>.</summary>
    string Name { get; }

    /// <summary>One sentence for <c>experiments kernels</c>.</summary>
    string Summary { get; }

    /// <summary>The kernel's own axes. <c>precision</c> and <c>threads</c> are every kernel's and are not listed.</summary>
    IReadOnlyList<Axis> Axes { get; }

    /// <summary>Whether the kernel claims the exact gradient, to rounding, for finite inputs of any size. The contract
    /// (<see cref="Contract.KernelContract"/>) holds it to that claim; of the others it reports the error and judges the
    /// conduct.</summary>
    bool IsExact => false;

    /// <summary>Whether it computes a problem whose row i sees keys 0 to i only; if not, <see cref="GradientCall"/> refuses such a
    /// one before the kernel is called.</summary>
    bool TakesMask => false;

    /// <summary>Whether it writes dQ, dK and dV where the output asks for them; if not, <see cref="GradientCall"/> refuses the axis
    /// <c>gradients: all</c> before the kernel is called.</summary>
    bool GivesAll => false;

    /// <summary>What a call on one problem without a mask will cost, without making it.</summary>
    /// <exception cref="ArgumentException">The settings are impossible, such as a degree whose rank overflows; the
    /// message says what was given, what was needed and what to do.</exception>
    KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings);

    /// <summary>The same where something is known of the data.</summary>
    /// <param name="logitBound">No |logit| will exceed it, centred or not; infinite where nobody can tell.</param>
    /// <exception cref="ArgumentException">The settings are impossible.</exception>
    KernelCost PredictWithin(int n, int d, int bytesPerNumber, int threads, Settings settings, double logitBound) =>
        Predict(n, d, bytesPerNumber, threads, settings);

    /// <summary>Computes gradient, loss and forward output into <paramref name="output"/>.</summary>
    /// <exception cref="KernelFailure">The answer would be wrong: a row sum that is not positive, a result not finite.</exception>
    /// <exception cref="OperationCanceledException">The context's token was cancelled; kernels look every few milliseconds.</exception>
    void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>;
}

/// <param name="Flops">Floating-point operations of one call by the kernel's own model; a multiply-add counts two, an
/// exponential counts one.</param>
/// <param name="StateBytes">Bytes beyond inputs and output that a call allocates.</param>
/// <param name="Rank">k, the columns of the low-rank factor, C(d + g, g); null for kernels without one.</param>
public readonly record struct KernelCost(double Flops, double StateBytes, long? Rank);

/// <summary>What a kernel may know of its surroundings: when to stop, how many threads, whom to tell of its phases.</summary>
/// <param name="Cancellation">Looked at every few milliseconds of work.</param>
/// <param name="Threads">How many threads the call may use, the caller's own included. The bits of the result do not
/// depend on it.</param>
/// <param name="Phase">Called with a phase's name as it begins (such as "moments"); the caller holds the clock.</param>
public sealed record KernelContext(CancellationToken Cancellation, int Threads = 1, Action<string>? Phase = null)
{
    public static readonly KernelContext Default = new(CancellationToken.None);

    /// <summary>Whether to spend a pass on facts about the logits (<see cref="GradientOutput{T}.MaxLogit"/>), which a timed call
    /// does without.</summary>
    public bool Statistics { get; init; }
}

/// <summary>A kernel refuses to return a wrong number. The message is the trial's reason.</summary>
public sealed class KernelFailure(string message) : Exception(message);
