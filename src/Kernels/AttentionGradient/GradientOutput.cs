using System.Numerics;

namespace Experiments.Kernels.AttentionGradient;

/// <summary>Where a kernel writes: made once for a problem's shape and used again by every timed call.</summary>
/// <typeparam name="T">float or double, as the problem.</typeparam>
public sealed class GradientOutput<T>(int n, int d)
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private GradientOutput(GradientOutput<T> shared, T[] dQ, T[]? dK, T[]? dV)
        : this(0, 0) => (DX, DY, Forward, DQ, DK, DV) = (shared.DX, shared.DY, shared.Forward, dQ, dK, dV);

    /// <summary>The gradient of the loss with respect to X, (d, d), row-major.</summary>
    public T[] DX { get; } = new T[d * d];

    /// <summary>The gradient of the loss with respect to Y, (d, d), row-major; NaN from a kernel that does not give it, or only
    /// with <see cref="DK"/> or <see cref="DV"/>.</summary>
    public T[] DY { get; } = Unknown(d * d);

    /// <summary>Where the gradient with respect to Q = A1 X goes, (n, d), row-major; null where nobody asked for it.</summary>
    public T[]? DQ { get; init; }

    /// <summary>Where the gradient with respect to the keys K = A2 goes, (n, d), row-major; null where nobody asked for it.</summary>
    public T[]? DK { get; init; }

    /// <summary>Where the gradient with respect to the values V = A3 Y goes, (n, d), row-major; null where nobody asked for it.</summary>
    public T[]? DV { get; init; }

    /// <summary>The attention output F = f h, (n, d), row-major.</summary>
    public T[] Forward { get; } = new T[checked(n * d)];

    /// <summary>½ ‖F − E‖², accumulated in double whatever T is.</summary>
    public double Loss { get; set; }

    /// <summary>Least row sum of the (approximated) exponentials over n, of logits as the kernel saw them; after the row
    /// maximum was subtracted where the kernel does that.</summary>
    public double MinRowSumOverN { get; set; } = double.NaN;

    /// <summary>How many row sums were not positive. Anything but zero fails the trial: see <see cref="KernelFailure"/>.</summary>
    public long NonPositiveRowSums { get; set; }

    /// <summary>Largest |logit|, of uncentred logits; NaN where <see cref="KernelContext.Statistics"/> was not asked for, or from a
    /// kernel that never sees single logits.</summary>
    public double MaxLogit { get; set; } = double.NaN;

    /// <summary>Root mean square of the uncentred logits; NaN as <see cref="MaxLogit"/> is.</summary>
    public double RmsLogit { get; set; } = double.NaN;

    /// <summary>R, the largest |logit| the polynomial was fitted for; NaN for kernels without one.</summary>
    public double FittedRadius { get; set; } = double.NaN;

    /// <summary>g, the degree of that polynomial, which the kernel may have chosen itself; NaN for kernels without one.</summary>
    public double FittedDegree { get; set; } = double.NaN;

    /// <summary>Bound on the relative error of each exponential for |logits| ≤ R; NaN for kernels without one.</summary>
    public double PredictedExpError { get; set; } = double.NaN;

    /// <summary>The same matrices with dQ beside them, for the one call of which it is asked; loss and facts are its own.</summary>
    public GradientOutput<T> Asking(T[] dQ)
    {
        ArgumentNullException.ThrowIfNull(dQ);
        return dQ.Length == Forward.Length
            ? new(this, dQ, DK, DV) : throw new ArgumentException($"dQ has {dQ.Length} values and needs {Forward.Length}, as F.", nameof(dQ));
    }

    /// <summary>The same matrices with new dQ, dK and dV beside them; loss and facts are its own.</summary>
    public GradientOutput<T> AskingForAll() =>
        new(this, new T[Forward.Length], new T[Forward.Length], new T[Forward.Length]);

    private static T[] Unknown(int length)
    {
        T[] values = new T[length];
        Array.Fill(values, T.NaN);
        return values;
    }
}
