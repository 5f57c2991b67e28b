using System.Numerics;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Tests.AttentionGradient;

/// <summary>What low-rank computes, without features: the textbook with the polynomial on the dense logits, by Horner, in place of exp.</summary>
/// <param name="Output">Every gradient, F, the loss and the row sums.</param>
/// <param name="OfQueries">The sums that dQ is, without the signs of their terms: of |p κ|, with p's own |c h| and |r| for |p|.</param>
/// <param name="OfKeys">Those that dK is, of |p q|, likewise.</param>
/// <param name="OfValues">Those that dV is, of |f c|.</param>
internal sealed record DenseEmulation(GradientOutput<double> Output, double[] OfQueries, double[] OfKeys, double[] OfValues)
{
    /// <summary>In twice the digits of double, rounded.</summary>
    /// <param name="a">Σ a_m s^m stands for exp in the softmax.</param>
    /// <param name="hat">Its place in the gradient is taken by the derivative of Σ hat_m s^m.</param>
    /// <param name="centred">Whether the mean key is subtracted; dK is the derivative through it then, too.</param>
    public static DenseEmulation Gold(AttentionProblem<double> problem, double[] a, double[] hat, bool centred) =>
        Compute(problem, a, hat, centred, x => (DoubleDouble)x, x => (double)x);

    /// <summary>As anybody would type it in the problem's own precision.</summary>
    public static DenseEmulation Plain<T>(AttentionProblem<T> problem, double[] a, double[] hat, bool centred)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> =>
        Compute(problem.To<double>(), a, hat, centred, T.CreateTruncating, double.CreateTruncating);

    private static DenseEmulation Compute<N>(
        AttentionProblem<double> problem, double[] a, double[] hat, bool centred, Func<double, N> of, Func<N, double> to)
        where N : struct, IAdditionOperators<N, N, N>, ISubtractionOperators<N, N, N>, IMultiplyOperators<N, N, N>, IDivisionOperators<N, N, N>
    {
        int n = problem.N, d = problem.D;
        N divisor = of(problem.Divisor), count = of(n), zero = of(0);
        N[] From(IEnumerable<double> values) => [.. values.Select(of)];
        N[] a1 = From(problem.A1), a3 = From(problem.A3), e = From(problem.E), keys = From(problem.A2);
        N[] q = Product(a1, From(problem.X)), h = Product(a3, From(problem.Y));
        N[] value = From(a), slope = From(hat.Skip(1).Select((c, m) => c * (m + 1)));
        for (int k = 0; k < d; k++)
        {
            N mean = centred ? Mean(keys, k) : zero;
            for (int j = 0; j < n; j++)
            {
                keys[(j * d) + k] = (keys[(j * d) + k] - mean) / divisor;
            }
        }

        N[] s = new N[n], u = new N[n], c = new N[d], forward = new N[n * d], dX = new N[d * d], dY = new N[d * d];
        N[] dQ = new N[n * d], dK = new N[n * d], dV = new N[n * d];
        double[] ofQueries = new double[n * d], ofKeys = new double[n * d], ofValues = new double[n * d];
        double loss = 0, least = double.PositiveInfinity;
        long failures = 0;
        for (int i = 0; i < n; i++)
        {
            N rowSum = zero, r = zero;
            Array.Clear(c);
            for (int j = 0; j < n; j++)
            {
                s[j] = Dot(q, i, keys, j);
                u[j] = Horner(value, s[j]);
                rowSum += u[j];
                for (int k = 0; k < d; k++)
                {
                    c[k] += u[j] * h[(j * d) + k];
                }
            }

            least = Math.Min(least, to(rowSum) / n);
            failures += to(rowSum) > 0 ? 0 : 1;
            for (int k = 0; k < d; k++)
            {
                N f = forward[(i * d) + k] = c[k] / rowSum;
                c[k] = f - e[(i * d) + k];
                r += c[k] * f;
                loss += to(c[k] * c[k]) / 2;
            }

            for (int j = 0; j < n; j++)
            {
                N weight = Horner(slope, s[j]) / rowSum, p = (Dot(c, 0, h, j) - r) * weight, f = u[j] / rowSum;

                // p is itself a difference, of c·h_j and r: two near keys, or two near values, leave little of it.
                double terms = Math.Abs(to(weight)) * (AbsoluteDot(c, h, j) + Math.Abs(to(r)));
                for (int k = 0; k < d; k++)
                {
                    N ofQuery = p * keys[(j * d) + k], ofKey = p * q[(i * d) + k] / divisor, ofValue = f * c[k];
                    dQ[(i * d) + k] += ofQuery;
                    dK[(j * d) + k] += ofKey;
                    dV[(j * d) + k] += ofValue;
                    ofQueries[(i * d) + k] += terms * Math.Abs(to(keys[(j * d) + k]));
                    ofKeys[(j * d) + k] += terms * Math.Abs(to(q[(i * d) + k] / divisor));
                    ofValues[(j * d) + k] += Math.Abs(to(ofValue));
                }
            }
        }

        for (int i = 0; i < n; i++)
        {
            for (int k = 0; k < d * d; k++)
            {
                dX[k] += a1[(i * d) + (k / d)] * dQ[(i * d) + (k % d)];
                dY[k] += a3[(i * d) + (k / d)] * dV[(i * d) + (k % d)];
            }
        }

        // The mean is a function of every key.
        for (int k = 0; k < d && centred; k++)
        {
            N mean = Mean(dK, k);
            for (int j = 0; j < n; j++)
            {
                dK[(j * d) + k] -= mean;
            }
        }

        GradientOutput<double> all = new(n, d)
        {
            DQ = To(dQ), DK = To(dK), DV = To(dV), Loss = loss, MinRowSumOverN = least, NonPositiveRowSums = failures,
        };
        To(dX).CopyTo(all.DX, 0);
        To(dY).CopyTo(all.DY, 0);
        To(forward).CopyTo(all.Forward, 0);
        return new(all, ofQueries, ofKeys, ofValues);

        double[] To(N[] values) => [.. values.Select(to)];

        N Dot(N[] left, int i, N[] right, int j)
        {
            N sum = zero;
            for (int k = 0; k < d; k++)
            {
                sum += left[(i * d) + k] * right[(j * d) + k];
            }

            return sum;
        }

        double AbsoluteDot(N[] left, N[] right, int j)
        {
            double sum = 0;
            for (int k = 0; k < d; k++)
            {
                sum += Math.Abs(to(left[k] * right[(j * d) + k]));
            }

            return sum;
        }

        N Mean(N[] rows, int k)
        {
            N sum = zero;
            for (int j = 0; j < n; j++)
            {
                sum += rows[(j * d) + k];
            }

            return sum / count;
        }

        N[] Product(N[] left, N[] right)
        {
            N[] product = new N[n * d];
            for (int at = 0; at < n * d; at++)
            {
                for (int k = 0; k < d; k++)
                {
                    product[at] += left[(at / d * d) + k] * right[(k * d) + (at % d)];
                }
            }

            return product;
        }

        N Horner(N[] coefficients, N x)
        {
            N sum = zero;
            for (int m = coefficients.Length - 1; m >= 0; m--)
            {
                sum = (sum * x) + coefficients[m];
            }

            return sum;
        }
    }
}
