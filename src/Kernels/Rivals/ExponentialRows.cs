using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Rivals;

/// <summary>Rows whose features are φ_a(q) = e^(ω_a·q + μ_a − the row's largest exponent), so that ∇φ_a = φ_a ω_a.</summary>
/// <remarks>A row's own factor cancels in F, and its gradient too: Σ_a z_a φ_a = c·F − r = 0.</remarks>
internal unsafe class ExponentialRows<T>(
    Operands<T> operands, T[] frequencies, T[] exponents, T[] moments, int columns, int width, int mostChunks,
    GradientOutput<T> output, CancellationToken cancellation)
    : FeatureRows<T>(operands, moments, columns, width, Scratch, mostChunks, output, cancellation)
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <summary>Arrays of eight rows that a thread needs.</summary>
    public const int Scratch = 2;

    private readonly T[] _frequencies = frequencies;

    // μ_a, −∞ in the padding.
    private readonly T[] _exponents = exponents;

    protected override void Features(int first, int count, T* q, T* phi, T* rest, Span<double> logits)
    {
        fixed (T* frequencies = _frequencies, exponents = _exponents)
        {
            Panels.Expand(q, D, D, frequencies, Columns, Columns, phi, Columns);
            for (int r = 0; r < Panels.Rows; r++)
            {
                Softmax(phi + ((long)r * Columns), exponents);
            }
        }
    }

    protected override void Gradient(T* phi, T* z, T* rest, double* dQ)
    {
        Multiply(phi, z, (long)Panels.Rows * Columns);
        fixed (T* frequencies = _frequencies)
        {
            Panels.Contract(z, Columns, Columns, frequencies, Columns, D, dQ, D);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private static void Multiply(T* by, T* values, long count)
    {
        for (long a = 0; a < count; a += Vector<T>.Count)
        {
            Vector.Store(Vector.Load(by + a) * Vector.Load(values + a), values + a);
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private void Softmax(T* row, T* exponents)
    {
        Vector<T> most = Vector.Create(T.NegativeInfinity);
        for (int a = 0; a < Columns; a += Vector<T>.Count)
        {
            Vector<T> t = Vector.Load(row + a) + Vector.Load(exponents + a);
            Vector.Store(t, row + a);
            most = Vector.MaxNative(most, t);
        }

        T largest = T.NegativeInfinity;
        for (int lane = 0; lane < Vector<T>.Count; lane++)
        {
            largest = T.Max(largest, most[lane]);
        }

        Vector<T> offset = Vector.Create(largest);
        for (int a = 0; a < Columns; a += Vector<T>.Count)
        {
            Vector.Store(Lanes.Exp(Vector.Load(row + a) - offset), row + a);
        }
    }
}
