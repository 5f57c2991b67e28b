using System.Numerics;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Tests;

/// <summary>The gradient by the textbook formula in fixed point of hundreds of digits. It shares no code, no trick and no
/// number format with any kernel.</summary>
internal sealed class Oracle
{
    private readonly int _bits;
    private readonly BigInteger _ln2;

    private Oracle(int bits)
    {
        _bits = bits;

        // ln 2 = 2 artanh(1/3).
        BigInteger term = (BigInteger.One << (bits + 32)) / 3, sum = 0;
        for (int power = 1; !term.IsZero; power += 2)
        {
            sum += term / power;
            term /= 9;
        }

        _ln2 = sum >> 31;
    }

    /// <summary>dX, rounded to double, and the loss.</summary>
    public static (double[] DX, double Loss) Compute(AttentionProblem<double> problem)
    {
        // Exponentials go down to e^(−2 L), and the textbook's r and p cancel as many digits again. Gradients below 2^−930
        // are not judged, so that more digits than this are never needed.
        double depth = 4 * Problems.LargestLogit(problem) / Math.Log(2);
        return new Oracle(384 + (64 * (int)(Math.Min(depth, 1100) / 64))).Gradient(problem);
    }

    private (double[] DX, double Loss) Gradient(AttentionProblem<double> problem)
    {
        int n = problem.N, d = problem.D;
        BigInteger[] a1 = Fixed(problem.A1), a2 = Fixed(problem.A2), e = Fixed(problem.E);
        BigInteger[] q = Product(a1, Fixed(problem.X), n, d), h = Product(Fixed(problem.A3), Fixed(problem.Y), n, d);
        BigInteger[] dX = new BigInteger[d * d], f = new BigInteger[n], forward = new BigInteger[d], dQ = new BigInteger[d];
        BigInteger loss = 0;
        for (int i = 0; i < n; i++)
        {
            for (int j = 0; j < n; j++)
            {
                BigInteger s = 0;
                for (int k = 0; k < d; k++)
                {
                    s += q[(i * d) + k] * a2[(j * d) + k];
                }

                f[j] = (s >> _bits) / d;
            }

            BigInteger largest = f.Max(), sum = 0;
            for (int j = 0; j < n; j++)
            {
                f[j] = Exp(f[j] - largest);
                sum += f[j];
            }

            Array.Clear(forward);
            Array.Clear(dQ);
            for (int j = 0; j < n; j++)
            {
                f[j] = (f[j] << _bits) / sum;
                for (int k = 0; k < d; k++)
                {
                    forward[k] += f[j] * h[(j * d) + k];
                }
            }

            BigInteger r = 0;
            for (int k = 0; k < d; k++)
            {
                forward[k] >>= _bits;
                BigInteger c = forward[k] - e[(i * d) + k];
                r += c * forward[k];
                loss += c * c;
            }

            for (int j = 0; j < n; j++)
            {
                BigInteger product = 0;
                for (int k = 0; k < d; k++)
                {
                    product += (forward[k] - e[(i * d) + k]) * h[(j * d) + k];
                }

                BigInteger p = (f[j] * ((product - r) >> _bits)) >> _bits;
                for (int k = 0; k < d; k++)
                {
                    dQ[k] += p * a2[(j * d) + k];
                }
            }

            for (int k = 0; k < d * d; k++)
            {
                dX[k] += a1[(i * d) + (k / d)] * (dQ[k % d] >> _bits);
            }
        }

        double[] gradient = new double[d * d];
        for (int k = 0; k < gradient.Length; k++)
        {
            gradient[k] = ToDouble((dX[k] / d) >> _bits);
        }

        return (gradient, ToDouble(loss >> (_bits + 1)));
    }

    // e^x = 2^k (e^(r / 2^16))^(2^16), r in [0, ln 2).
    private BigInteger Exp(BigInteger x)
    {
        BigInteger k = BigInteger.Divide(x, _ln2) - 1;
        BigInteger r = (x - (k * _ln2)) >> 16, term = BigInteger.One << _bits, sum = 0;
        if (k < -_bits)
        {
            return 0;
        }

        for (int m = 1; !term.IsZero; m++)
        {
            sum += term;
            term = ((term * r) >> _bits) / m;
        }

        for (int i = 0; i < 16; i++)
        {
            sum = (sum * sum) >> _bits;
        }

        return k >= 0 ? sum << (int)k : sum >> (int)-k;
    }

    private BigInteger[] Product(BigInteger[] left, BigInteger[] right, int n, int d)
    {
        BigInteger[] product = Problems.Product(left, right, n, d);
        for (int i = 0; i < product.Length; i++)
        {
            product[i] >>= _bits;
        }

        return product;
    }

    private BigInteger[] Fixed(double[] values)
    {
        BigInteger[] result = new BigInteger[values.Length];
        for (int i = 0; i < values.Length; i++)
        {
            if (values[i] != 0)
            {
                int exponent = Math.ILogB(values[i]) - 52;
                BigInteger mantissa = (BigInteger)Math.ScaleB(values[i], -exponent);
                int shift = exponent + _bits;
                result[i] = shift >= 0 ? mantissa << shift : mantissa >> -shift;
            }
        }

        return result;
    }

    private double ToDouble(BigInteger value)
    {
        // Sixty-four leading bits, then the exponent in two steps, so that neither overflows on the way.
        int excess = Math.Max(0, (int)BigInteger.Abs(value).GetBitLength() - 64);
        return Math.ScaleB(Math.ScaleB((double)(value >> excess), excess / 2 - (_bits / 2)),
            (excess - (excess / 2)) - (_bits - (_bits / 2)));
    }
}
