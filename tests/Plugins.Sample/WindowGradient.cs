using System.Numerics;
using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;

namespace MyKernels;

/// <summary>Banded attention: row i sees the keys i − w … i + w only. O(n w d) time instead of O(n² d).</summary>
public sealed class WindowGradient : IGradientKernel
{
    public string Name => "window";

    public string Summary => "Attention within a band of keys around each row.";

    // Each axis becomes a key of the sweep file, checked there, and is stored with every trial.
    public IReadOnlyList<Axis> Axes { get; } =
    [
        new("half_width", AxisKind.Integer, "w: row i sees keys i - w to i + w.", Default: 64L, Minimum: 0, Maximum: 1 << 20),
    ];

    public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings)
    {
        double width = Math.Min(n, (2.0 * settings.Integer("half_width", 64)) + 1);
        return new(Flops: n * ((width * ((8 * d) + 1)) + (6.0 * d * d)), StateBytes: 2.0 * n * d * bytesPerNumber, Rank: null);
    }

    public void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        (int n, int d, int w) = (problem.N, problem.D, settings.Integer("half_width", 64));
        T scale = T.CreateTruncating(problem.Divisor);
        T[] q = Product(problem.A1, problem.X, n, d), h = Product(problem.A3, problem.Y, n, d);
        T[] weights = new T[Math.Min(n, (2 * w) + 1)], c = new T[d], dQ = new T[d];
        double[] dX = new double[d * d];
        double loss = 0;
        for (int i = 0; i < n; i++)
        {
            // A row is a few microseconds: looked at here, a cancelled call stops at once.
            context.Cancellation.ThrowIfCancellationRequested();
            int first = Math.Max(0, i - w), count = Math.Min(n - 1, i + w) - first + 1;
            Span<T> query = q.AsSpan(i * d, d), forward = output.Forward.AsSpan(i * d, d), f = weights.AsSpan(0, count);

            // Softmax of the row's logits, the largest subtracted first lest exp overflow.
            T largest = T.NegativeInfinity, sum = T.Zero, r = T.Zero;
            for (int j = 0; j < count; j++)
            {
                f[j] = Dot(query, problem.A2.AsSpan((first + j) * d, d)) / scale;
                largest = T.Max(largest, f[j]);
            }

            for (int j = 0; j < count; j++)
            {
                f[j] = T.Exp(f[j] - largest);
                sum += f[j];
            }

            // F = f h, c = F - E, r = c·F.
            forward.Clear();
            for (int j = 0; j < count; j++)
            {
                f[j] /= sum;
                for (int k = 0; k < d; k++)
                {
                    forward[k] += f[j] * h[((first + j) * d) + k];
                }
            }

            for (int k = 0; k < d; k++)
            {
                c[k] = forward[k] - problem.E[(i * d) + k];
                r += c[k] * forward[k];
                loss += double.CreateTruncating(c[k] * c[k]) / 2;
            }

            // dQ = Σ f_j (c·h_j - r) a2_j, and dX = A1ᵀ dQ over the scale, d or √d.
            Array.Clear(dQ);
            for (int j = 0; j < count; j++)
            {
                T p = f[j] * (Dot(c, h.AsSpan((first + j) * d, d)) - r);
                for (int k = 0; k < d; k++)
                {
                    dQ[k] += p * problem.A2[((first + j) * d) + k];
                }
            }

            for (int k = 0; k < d * d; k++)
            {
                dX[k] += double.CreateTruncating(problem.A1[(i * d) + (k / d)] * dQ[k % d] / scale);
            }
        }

        for (int k = 0; k < d * d; k++)
        {
            output.DX[k] = T.CreateTruncating(dX[k]);
            if (!T.IsFinite(output.DX[k]))
            {
                throw new KernelFailure($"dX[{k / d}, {k % d}] is {output.DX[k]}: an input is not finite, or entries are too large.");
            }
        }

        output.Loss = double.IsFinite(loss) ? loss : throw new KernelFailure($"The loss is {loss}: an input is not finite.");
        output.NonPositiveRowSums = 0;
    }

    private static T[] Product<T>(T[] left, T[] right, int n, int d)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        T[] product = new T[n * d];
        for (int i = 0; i < n * d * d; i++)
        {
            int row = i / (d * d), k = i / d % d, column = i % d;
            product[(row * d) + column] += left[(row * d) + k] * right[(k * d) + column];
        }

        return product;
    }

    private static T Dot<T>(ReadOnlySpan<T> x, ReadOnlySpan<T> y)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        T sum = T.Zero;
        for (int k = 0; k < x.Length; k++)
        {
            sum += x[k] * y[k];
        }

        return sum;
    }
}
