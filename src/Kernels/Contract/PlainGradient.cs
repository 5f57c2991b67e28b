using System.Numerics;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Contract;

/// <summary>The textbook, in one precision and without a single precaution but the row's maximum: what anybody would type
/// first. A good kernel is not much worse than this, and how much is measured against it.</summary>
internal static class PlainGradient
{
    /// <returns>Every gradient, F and the loss.</returns>
    public static GradientOutput<T> Compute<T>(AttentionProblem<T> problem)
        where T : unmanaged, IBinaryFloatingPointIeee754<T> => Compute(problem, new T[problem.D * problem.D]);

    /// <summary>What an error is held against at least: a sixteenth of the largest sum of the rows' shares without their signs.
    /// A gradient that is smaller owes it to rows that cancel, which no arithmetic of this precision can follow.</summary>
    public static double LeastScale(AttentionProblem<double> problem)
    {
        double[] absolute = new double[problem.D * problem.D];
        Compute(problem, absolute);
        return absolute.Max() / 16;
    }

    private static GradientOutput<T> Compute<T>(AttentionProblem<T> problem, T[] absolute)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int n = problem.N, d = problem.D;
        T scale = T.CreateTruncating(problem.Divisor);
        T[] q = RandomProblem.Product(problem.A1, problem.X, n, d), h = RandomProblem.Product(problem.A3, problem.Y, n, d);
        T[] f = new T[n], c = new T[d], dQ = new T[n * d], dK = new T[n * d], dV = new T[n * d];
        GradientOutput<T> output = new(n, d) { DQ = dQ, DK = dK, DV = dV };
        T loss = T.Zero;
        for (int i = 0; i < n; i++)
        {
            int seen = problem.Causal ? i + 1 : n;
            T largest = T.NegativeInfinity, sum = T.Zero, r = T.Zero;
            for (int j = 0; j < seen; j++)
            {
                f[j] = T.Zero;
                for (int k = 0; k < d; k++)
                {
                    f[j] += q[(i * d) + k] * problem.A2[(j * d) + k];
                }

                f[j] /= scale;
                largest = T.Max(largest, f[j]);
            }

            for (int j = 0; j < seen; j++)
            {
                f[j] = T.Exp(f[j] - largest);
                sum += f[j];
            }

            Array.Clear(c);
            for (int j = 0; j < seen; j++)
            {
                f[j] /= sum;
                for (int k = 0; k < d; k++)
                {
                    c[k] += f[j] * h[(j * d) + k];
                }
            }

            for (int k = 0; k < d; k++)
            {
                T forward = output.Forward[(i * d) + k] = c[k];
                c[k] -= problem.E[(i * d) + k];
                r += c[k] * forward;
                loss += c[k] * c[k];
            }

            for (int j = 0; j < seen; j++)
            {
                T p = -r;
                for (int k = 0; k < d; k++)
                {
                    p += c[k] * h[(j * d) + k];
                }

                for (int k = 0; k < d; k++)
                {
                    dQ[(i * d) + k] += f[j] * p * problem.A2[(j * d) + k] / scale;
                    dK[(j * d) + k] += f[j] * p * q[(i * d) + k] / scale;
                    dV[(j * d) + k] += f[j] * c[k];
                }
            }

            for (int k = 0; k < d * d; k++)
            {
                T share = problem.A1[(i * d) + (k / d)] * dQ[(i * d) + (k % d)];
                output.DX[k] += share;
                absolute[k] += T.Abs(share);
            }
        }

        Array.Clear(output.DY);
        for (int j = 0; j < n; j++)
        {
            for (int k = 0; k < d * d; k++)
            {
                output.DY[k] += problem.A3[(j * d) + (k / d)] * dV[(j * d) + (k % d)];
            }
        }

        output.Loss = double.CreateTruncating(loss) / 2;
        return output;
    }
}
