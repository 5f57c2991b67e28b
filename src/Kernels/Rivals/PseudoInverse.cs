using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Rivals;

/// <summary>Z ≈ A⁺ of a small square matrix by a fixed number of steps of a third-order iteration, and its derivative.</summary>
/// <remarks>
///   Z_0 = Aᵀ / (‖A‖₁ ‖A‖∞);  Z_t+1 = ¼ Z_t (13 I − A Z_t (15 I − A Z_t (7 I − A Z_t))).
/// Stopped early it is a smoothed inverse: a singular value that is small beside the largest is still on its way up. That is as
/// published, and what keeps the method usable where A is nearly of rank one, as it is when logits are small.
/// Backward is the same steps in reverse: from Z̄, the derivative of a number by Z, to Ā.
/// Matrices are padded to [size][size] with zeros, which stay zeros. Rows of a product are independent, so the bits do not
/// depend on the number of threads.
/// Source: Razavi, Kerayechian, Gachpazan and Shateyi, "A new iterative method for finding approximate inverses of complex
/// matrices", Abstract and Applied Analysis 2014; Xiong and others, "Nyströmformer", AAAI 2021, section 3.3.
/// </remarks>
internal sealed class PseudoInverse : IDisposable
{
    // Below this a product is done before another thread has started.
    private const int Wide = 192;

    private readonly int _order, _size, _threads;
    private readonly CancellationToken _cancellation;
    private readonly double[] _a, _aT;
    private readonly double[][] _steps;
    private readonly List<double[]> _rented = [];
    private double _scale;
    private int _widest;

    /// <param name="a">[size][size], the upper left order × order non-negative with rows that sum to 1, the rest zeros.</param>
    /// <param name="order">Rows and columns that count.</param>
    /// <param name="size">A multiple of eight and of two vectors.</param>
    /// <param name="iterations">Steps.</param>
    /// <param name="threads">As for a kernel's call.</param>
    /// <param name="cancellation">Looked at every eight rows of a product.</param>
    public PseudoInverse(double[] a, int order, int size, int iterations, int threads, CancellationToken cancellation)
    {
        (_a, _order, _size, _threads, _cancellation) = (a, order, size, threads, cancellation);
        _aT = Transposed(a);
        _steps = new double[iterations + 1][];
        Start();
        double[] p = Rent(), w = Rent(), next = Rent();
        for (int t = 0; t < iterations; t++)
        {
            Multiply(_a, _steps[t], p);
            IdentityMinus(7, p, w);
            Multiply(p, w, next);
            IdentityMinus(15, next, w);
            Multiply(p, w, next);
            IdentityMinus(13, next, w);
            _steps[t + 1] = Rent();
            Multiply(_steps[t], w, _steps[t + 1]);
            Scale(_steps[t + 1], 0.25);
        }
    }

    public double[] Z => _steps[^1];

    /// <summary>Multiply-adds of forward and backward.</summary>
    public static double MultiplyAdds(double order, int iterations) => order * order * order * (4 + 11) * iterations;

    /// <summary>Bytes of forward and backward.</summary>
    public static double Bytes(double size, int iterations) => 8 * size * size * (iterations + 1 + 17);

    /// <summary>Ā from Z̄, which is used up.</summary>
    public double[] Backward(double[] zBar)
    {
        double[] aBar = Rent(), p = Rent(), w1 = Rent(), w2 = Rent(), w3 = Rent(), pBar = Rent(), wBar = Rent(), other = Rent();
        double[] turned = Rent(), pT = Rent();
        aBar.AsSpan(0, _size * _size).Clear();
        for (int t = _steps.Length - 2; t >= 0; t--)
        {
            double[] z = _steps[t];
            Multiply(_a, z, p);
            IdentityMinus(7, p, w1);
            Multiply(p, w1, other);
            IdentityMinus(15, other, w2);
            Multiply(p, w2, other);
            IdentityMinus(13, other, w3);

            // Z' = ¼ Z W3, W3 = 13 I − P W2, W2 = 15 I − P W1, W1 = 7 I − P, P = A Z.
            Scale(zBar, 0.25);
            Multiply(Transpose(z, turned), zBar, wBar);
            Multiply(zBar, Transpose(w3, turned), other);
            other.AsSpan(0, _size * _size).CopyTo(zBar);
            Transpose(p, pT);
            Multiply(wBar, Transpose(w2, turned), pBar);
            Scale(pBar, -1);
            Multiply(pT, wBar, other);
            Scale(other, -1);
            Multiply(other, Transpose(w1, turned), wBar);
            Add(-1, wBar, pBar);
            Multiply(pT, other, wBar);
            Add(1, wBar, pBar);
            Multiply(pBar, Transpose(z, turned), other);
            Add(1, other, aBar);
            Multiply(_aT, pBar, other);
            Add(1, other, zBar);
        }

        // Z_0 = Aᵀ / ν, and ν is the sum of A's heaviest column.
        double ofScale = 0;
        for (int i = 0; i < _order; i++)
        {
            for (int j = 0; j < _order; j++)
            {
                aBar[(j * _size) + i] += zBar[(i * _size) + j] / _scale;
                ofScale -= zBar[(i * _size) + j] * _a[(j * _size) + i] / _scale / _scale;
            }
        }

        for (int i = 0; i < _order; i++)
        {
            aBar[(i * _size) + _widest] += ofScale;
        }

        return aBar;
    }

    /// <summary>product = left right, [size][size] each; all of it is written.</summary>
    public void Multiply(double[] left, double[] right, double[] product) =>
        new Product(left, right, product, _size).Run(_size / Panels.Rows, _size < Wide ? 1 : _threads, _cancellation);

    public double[] Transposed(double[] matrix) => Transpose(matrix, Rent());

    private double[] Transpose(double[] matrix, double[] turned)
    {
        for (int i = 0; i < _size; i++)
        {
            for (int j = 0; j < _size; j++)
            {
                turned[(j * _size) + i] = matrix[(i * _size) + j];
            }
        }

        return turned;
    }

    public void Dispose()
    {
        foreach (double[] array in _rented)
        {
            ScratchMemory.Return(array);
        }
    }

    // Rows sum to 1, so ‖A‖∞ = 1.
    private void Start()
    {
        double[] start = Transposed(_a);
        for (int column = 0; column < _order; column++)
        {
            double sum = 0;
            for (int i = 0; i < _order; i++)
            {
                sum += _a[(i * _size) + column];
            }

            if (sum > _scale || double.IsNaN(sum))
            {
                (_scale, _widest) = (sum, column);
            }
        }

        Scale(start, 1 / _scale);
        _steps[0] = start;
    }

    private void IdentityMinus(double factor, double[] matrix, double[] into)
    {
        for (int i = 0; i < _size * _size; i++)
        {
            into[i] = -matrix[i];
        }

        for (int i = 0; i < _order; i++)
        {
            into[(i * _size) + i] += factor;
        }
    }

    private void Scale(double[] matrix, double factor)
    {
        foreach (ref double value in matrix.AsSpan(0, _size * _size))
        {
            value *= factor;
        }
    }

    private void Add(double factor, double[] matrix, double[] into)
    {
        for (int i = 0; i < _size * _size; i++)
        {
            into[i] += factor * matrix[i];
        }
    }

    private double[] Rent()
    {
        double[] array = ScratchMemory.Rent<double>(_size * _size);
        _rented.Add(array);
        return array;
    }

    private sealed unsafe class Product(double[] left, double[] right, double[] product, int size) : Chunks
    {
        protected override void Take()
        {
            fixed (double* a = left, b = right, c = product)
            {
                for (int chunk = Next(); chunk >= 0; chunk = Next())
                {
                    long row = (long)chunk * Panels.Rows * size;
                    Panels.Expand(a + row, size, size, b, size, size, c + row, size);
                }
            }
        }
    }
}
