using System.Numerics;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient;

/// <summary>The exact gradient, by the textbook loops with dense logits. Slow on purpose: it is what the others are held to.</summary>
/// <remarks>
/// Forward   S = A1 X A2ᵀ / d;  f = softmax of each row of S;  h = A3 Y;  F = f h;  c = F − E;  loss = ½‖c‖².
/// Backward  r = rowsum(c ∘ F);  p = f ∘ (c hᵀ − r 1ᵀ);  dX = A1ᵀ p A2 / d.
/// Rows      every row's h and keys are taken relative to those of its largest logit, which changes neither p nor dX (rows
///           of p sum to 0) and keeps the digits of a row that one key dominates.
/// Shapes    a1, a2, a3, e are (n, d), x, y, dX are (d, d), all row-major; the (n, n) logits are stored.
/// Units     logits are natural-log and dimensionless; the scale is 1/d, as in the source, not 1/√d.
/// Cost      O(n² d) time, 16 n² bytes; one thread, whatever the context allows.
/// Error     everything is computed in double-double (32 digits) and rounded once at the end, whatever T is, so that it can
///           be the gold value of float64 too: 1 ulp, unless a result lies below the range of T.
/// Source    Alman and Song 2024, Definitions 1.2 and C.5; r by row sums, see README.md.
/// </remarks>
public sealed class ReferenceGradient : IGradientKernel
{
    public string Name => "reference";

    public string Summary =>
        "The exact gradient by the textbook loops, in twice the digits of float64; slow on purpose: the oracle.";

    public bool IsExact => true;

    public IReadOnlyList<Axis> Axes { get; } = [];

    public bool TakesMask => true;

    public bool GivesAll => true;

    public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings)
    {
        // A multiply-add in double-double is about 20 operations; only the mathematics' own are counted, as for the others.
        double pairs = (double)n * n;
        return new((pairs * ((8.0 * d) + 1)) + (6.0 * n * d * d), (16.0 * pairs) + (48.0 * n * d), null);
    }

    public void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int n = problem.N, d = problem.D;
        context.Phase?.Invoke("project");
        DoubleDouble[] q = Product(problem.A1, problem.X, n, d, context.Cancellation);
        DoubleDouble[] h = Product(problem.A3, problem.Y, n, d, context.Cancellation);
        for (int i = 0; i < q.Length; i++)
        {
            q[i] /= problem.Divisor;
        }

        context.Phase?.Invoke("rows");
        // An array a row: one of n × n has more elements than an array may from n = 46341 on.
        DoubleDouble[][] s = new DoubleDouble[n][];
        double[] a2 = Widened(problem.A2), a3 = Widened(problem.A3);
        for (int i = 0; i < n; i++)
        {
            context.Cancellation.ThrowIfCancellationRequested();
            s[i] = new DoubleDouble[n];
            int seen = problem.Causal ? i + 1 : n;
            for (int j = 0; j < seen; j++)
            {
                DoubleDouble sum = DoubleDouble.Zero;
                for (int c = 0; c < d; c++)
                {
                    sum += q[(i * d) + c] * a2[(j * d) + c];
                }

                s[i][j] = sum;
            }
        }

        DoubleDouble[] dX = new DoubleDouble[d * d], dY = new DoubleDouble[d * d], mixed = new DoubleDouble[d];
        DoubleDouble loss = DoubleDouble.Zero;
        DoubleDouble[] f = new DoubleDouble[n];
        DoubleDouble[] g = new DoubleDouble[d];
        DoubleDouble[] residual = new DoubleDouble[d];
        DoubleDouble[] dQ = new DoubleDouble[d];
        bool wantsKeys = output.DK is not null || output.DV is not null;
        DoubleDouble[]? keyGradient = wantsKeys ? new DoubleDouble[n * d] : null, valueGradient = wantsKeys ? new DoubleDouble[n * d] : null;
        double pairs = problem.Causal ? (double)n * (n + 1) / 2 : (double)n * n;
        double largest = 0, squares = 0, leastRowSum = double.PositiveInfinity;
        for (int i = 0; i < n; i++)
        {
            context.Cancellation.ThrowIfCancellationRequested();
            int star = 0, seen = problem.Causal ? i + 1 : n;
            for (int j = 0; j < seen; j++)
            {
                double logit = s[i][j].High;
                star = logit > s[i][star].High ? j : star;
                largest = Math.Max(largest, Math.Abs(logit));
                squares += logit * logit;
            }

            DoubleDouble rowSum = DoubleDouble.Zero;
            Array.Clear(g);
            Array.Clear(mixed);
            for (int j = 0; j < seen; j++)
            {
                f[j] = DoubleDouble.Exp(s[i][j] - s[i][star]);
                rowSum += f[j];
                for (int c = 0; c < d; c++)
                {
                    g[c] += f[j] * (h[(j * d) + c] - h[(star * d) + c]);
                    mixed[c] += f[j] * a3[(j * d) + c];
                }
            }

            // With h relative to the row's largest: F = G + h*, and c·h_j − r becomes c·(h_j − h*) − c·G.
            DoubleDouble r = DoubleDouble.Zero;
            leastRowSum = Math.Min(leastRowSum, rowSum.High);
            for (int c = 0; c < d; c++)
            {
                g[c] /= rowSum;
                residual[c] = g[c] + (h[(star * d) + c] - double.CreateTruncating(problem.E[(i * d) + c]));
                r += residual[c] * g[c];
                loss += residual[c] * residual[c];
                output.Forward[(i * d) + c] = T.CreateTruncating((double)(g[c] + h[(star * d) + c]));
            }

            Array.Clear(dQ);
            for (int j = 0; j < seen; j++)
            {
                DoubleDouble p = -r;
                for (int c = 0; c < d; c++)
                {
                    p += residual[c] * (h[(j * d) + c] - h[(star * d) + c]);
                }

                p = p * f[j] / rowSum;
                for (int c = 0; c < d; c++)
                {
                    dQ[c] += p * DoubleDouble.Sum(a2[(j * d) + c], -a2[(star * d) + c]);
                }
            }

            for (int j = 0; keyGradient is not null && j < seen; j++)
            {
                DoubleDouble p = -r;
                for (int c = 0; c < d; c++)
                {
                    p += residual[c] * (h[(j * d) + c] - h[(star * d) + c]);
                }

                for (int c = 0; c < d; c++)
                {
                    keyGradient[(j * d) + c] += p * f[j] / rowSum * q[(i * d) + c];
                    valueGradient![(j * d) + c] += f[j] / rowSum * residual[c];
                }
            }

            for (int c = 0; output.DQ is T[] wanted && c < d; c++)
            {
                wanted[(i * d) + c] = T.CreateTruncating((double)(dQ[c] / problem.Divisor));
            }

            for (int row = 0; row < d; row++)
            {
                double a1 = double.CreateTruncating(problem.A1[(i * d) + row]);
                DoubleDouble value = mixed[row] / rowSum;
                for (int c = 0; c < d; c++)
                {
                    dX[(row * d) + c] += dQ[c] * a1;
                    dY[(row * d) + c] += value * residual[c];
                }
            }
        }

        context.Phase?.Invoke("reduce");
        for (int i = 0; i < dX.Length; i++)
        {
            output.DX[i] = T.CreateTruncating((double)(dX[i] / problem.Divisor));
            output.DY[i] = T.CreateTruncating((double)dY[i]);
        }

        for (int i = 0; wantsKeys && i < n * d; i++)
        {
            output.DK?[i] = T.CreateTruncating((double)keyGradient![i]);
            output.DV?[i] = T.CreateTruncating((double)valueGradient![i]);
        }

        output.Loss = (double)loss / 2;
        output.MinRowSumOverN = leastRowSum / n;
        output.NonPositiveRowSums = 0;
        output.MaxLogit = largest;
        output.RmsLogit = Math.Sqrt(squares / pairs);
        output.FittedRadius = double.NaN;
        output.PredictedExpError = double.NaN;
        Checks.ThrowIfAnyIsNotFinite(output);
    }

    private static DoubleDouble[] Product<T>(T[] left, T[] right, int n, int d, CancellationToken cancellation)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        DoubleDouble[] product = new DoubleDouble[n * d];
        double[] wide = Widened(right);
        for (int i = 0; i < n; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            for (int k = 0; k < d; k++)
            {
                double factor = double.CreateTruncating(left[(i * d) + k]);
                for (int c = 0; c < d; c++)
                {
                    product[(i * d) + c] += DoubleDouble.Product(factor, wide[(k * d) + c]);
                }
            }
        }

        return product;
    }

    private static double[] Widened<T>(T[] values)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        double[] wide = new double[values.Length];
        for (int i = 0; i < wide.Length; i++)
        {
            wide[i] = double.CreateTruncating(values[i]);
        }

        return wide;
    }
}
