using System.Numerics;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.Exact;

/// <summary>What dominated rows add to the gradients with respect to K = A2 and V = h: plain loops in double, over blocks of keys.</summary>
/// <remarks>
/// As in <see cref="DominatedRows{T}"/>, h is taken relative to that of the row's largest key *: p_j = f_j (c·(h_j − h*) − c·G),
/// which at * is −f_* c·G: never minus the sum of the others, in which a key that only ties with many loses three digits. Each block runs through the rows in their order, so that no thread adds
/// to what another has.
/// </remarks>
internal sealed class DominatedKeys<T> : Chunks
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private const int KeysPerChunk = 64;

    // Terms of a sum before it is added to another.
    private const int Level = 64;

    private readonly AttentionProblem<T> _problem;
    private readonly GradientOutput<T> _output;
    private readonly CancellationToken _cancellation;
    private readonly int[] _rows;
    private readonly int _seen, _d;
    private readonly DoubleDouble[] _precise;
    private readonly DoubleDouble[] _firstValue;
    private readonly double[] _q, _h, _hLow, _second, _rowSums, _c, _r;
    private readonly int[] _star;

    public DominatedKeys(AttentionProblem<T> problem, int[] rows, GradientOutput<T> output, CancellationToken cancellation)
    {
        _problem = problem;
        _output = output;
        _cancellation = cancellation;
        _rows = rows;
        _seen = problem.Causal ? rows[^1] + 1 : problem.N;
        _d = problem.D;
        ChunkCount = (_seen + KeysPerChunk - 1) / KeysPerChunk;
        _precise = Queries();
        _q = [.. _precise.Select(q => (double)q)];
        _firstValue = Product(problem.A3, problem.Y, [0]);
        _h = new double[checked(_seen * _d)];
        _hLow = new double[_seen * _d];
        FindValues();
        _second = new double[rows.Length];
        _rowSums = new double[rows.Length];
        _c = new double[rows.Length * _d];
        _r = new double[rows.Length];
        _star = new int[rows.Length];
        for (int r = 0; r < rows.Length; r++)
        {
            cancellation.ThrowIfCancellationRequested();
            Softmax(r);
        }
    }

    public int ChunkCount { get; }

    protected override void Take()
    {
        double[] dK = new double[_d], dV = new double[_d], partK = new double[_d], partV = new double[_d];
        for (int chunk = Next(); chunk >= 0; chunk = Next())
        {
            for (int j = chunk * KeysPerChunk; j < Math.Min(_seen, (chunk + 1) * KeysPerChunk); j++)
            {
                _cancellation.ThrowIfCancellationRequested();
                Array.Clear(dK);
                Array.Clear(dV);
                for (int r = 0; r < _rows.Length; r++)
                {
                    if (_problem.Causal && j > _rows[r])
                    {
                        continue;
                    }

                    double f = Math.Exp(Distance(r, j)) / _rowSums[r];
                    double p = f * Slope(r, j);
                    for (int k = 0; k < _d; k++)
                    {
                        partV[k] += f * _c[(r * _d) + k];
                        partK[k] += p * _q[(r * _d) + k];
                    }

                    if (r % Level == Level - 1)
                    {
                        AddUp(partK, dK);
                        AddUp(partV, dV);
                    }
                }

                AddUp(partK, dK);
                AddUp(partV, dV);
                for (int k = 0; k < _d; k++)
                {
                    int at = (j * _d) + k;
                    if (_output.DK is T[] keys)
                    {
                        keys[at] = T.CreateTruncating(double.CreateTruncating(keys[at]) + dK[k]);
                    }

                    if (_output.DV is T[] values)
                    {
                        values[at] = T.CreateTruncating(double.CreateTruncating(values[at]) + dV[k]);
                    }
                }
            }
        }
    }

    private static void AddUp(double[] part, double[] sum)
    {
        for (int k = 0; k < sum.Length; k++)
        {
            sum[k] += part[k];
            part[k] = 0;
        }
    }

    private void Softmax(int r)
    {
        int seen = _problem.Causal ? _rows[r] + 1 : _seen, star = 0;
        double largest = double.NegativeInfinity, second = double.NegativeInfinity, sum = 0;
        for (int j = 0; j < seen; j++)
        {
            double s = Logit(r, j);
            if (s > largest)
            {
                (largest, second, star) = (s, largest, j);
            }
            else
            {
                second = Math.Max(second, s);
            }
        }

        (_second[r], _star[r]) = (second - largest, star);

        // c holds G first. In two levels: equal terms, of keys that tie, are rounded the same way each time.
        Span<double> c = _c.AsSpan(r * _d, _d);
        double[] part = new double[_d];
        for (int first = 0; first < seen; first += Level)
        {
            double some = 0;
            Array.Clear(part);
            for (int j = first; j < Math.Min(seen, first + Level); j++)
            {
                double e = Math.Exp(Distance(r, j));
                some += e;
                for (int k = 0; k < _d; k++)
                {
                    part[k] += e * (_h[(j * _d) + k] - _h[(star * _d) + k]);
                }
            }

            sum += some;
            for (int k = 0; k < _d; k++)
            {
                c[k] += part[k];
            }
        }

        _rowSums[r] = sum;
        for (int k = 0; k < _d; k++)
        {
            double g = c[k] / sum;

            // Where E is nearly that row of h, what is left is all there is.
            DoubleDouble value = _firstValue[k] + new DoubleDouble(_h[(star * _d) + k], _hLow[(star * _d) + k]);
            c[k] = g + (double)(value - double.CreateTruncating(_problem.E[((long)_rows[r] * _d) + k]));
            _r[r] += c[k] * g;
        }
    }

    /// <summary>p_j / f_j = c·(h_j − h*) − c·G.</summary>
    private double Slope(int r, int j)
    {
        double slope = -_r[r];
        for (int k = 0; k < _d; k++)
        {
            slope += _c[(r * _d) + k] * (_h[(j * _d) + k] - _h[(_star[r] * _d) + k]);
        }

        return slope;
    }

    private double Logit(int r, int j)
    {
        double s = 0;
        for (int k = 0; k < _d; k++)
        {
            s += _q[(r * _d) + k] * double.CreateTruncating(_problem.A2[((long)j * _d) + k]);
        }

        return s;
    }

    /// <summary>s_j − s*. In float64, in double-double for the keys that count: within 12 of the second largest.</summary>
    private double Distance(int r, int j)
    {
        const double Window = 12;
        long key = (long)j * _d, star = (long)_star[r] * _d;
        double s = 0;
        for (int k = 0; k < _d; k++)
        {
            s += _q[(r * _d) + k]
                * (double.CreateTruncating(_problem.A2[key + k]) - double.CreateTruncating(_problem.A2[star + k]));
        }

        if (typeof(T) != typeof(double) || s < _second[r] - Window)
        {
            return s;
        }

        DoubleDouble precise = DoubleDouble.Zero;
        for (int k = 0; k < _d; k++)
        {
            precise += _precise[(r * _d) + k] * DoubleDouble.Sum(
                double.CreateTruncating(_problem.A2[key + k]), -double.CreateTruncating(_problem.A2[star + k]));
        }

        return (double)precise;
    }

    private DoubleDouble[] Queries()
    {
        DoubleDouble[] q = Product(_problem.A1, _problem.X, _rows);
        for (int i = 0; i < q.Length; i++)
        {
            q[i] /= _problem.Divisor;
        }

        return q;
    }

    /// <summary>h less its first row: only differences count, and where all values lie far from 0 they would be lost to the rounding
    /// of h itself.</summary>
    private void FindValues()
    {
        int[] row = new int[1];
        for (int i = 0; i < _seen; i++)
        {
            row[0] = i;
            DoubleDouble[] value = Product(_problem.A3, _problem.Y, row);
            for (int k = 0; k < _d; k++)
            {
                DoubleDouble difference = value[k] - _firstValue[k];
                (_h[(i * _d) + k], _hLow[(i * _d) + k]) = (difference.High, difference.Low);
            }
        }
    }

    /// <summary>Some rows of left (n, d) times right (d, d), with all digits.</summary>
    private DoubleDouble[] Product(T[] left, T[] right, int[] rows)
    {
        DoubleDouble[] product = new DoubleDouble[checked(rows.Length * _d)];
        for (int r = 0; r < rows.Length; r++)
        {
            for (int c = 0; c < _d; c++)
            {
                DoubleDouble sum = DoubleDouble.Zero;
                for (int k = 0; k < _d; k++)
                {
                    sum += DoubleDouble.Product(
                        double.CreateTruncating(left[((long)rows[r] * _d) + k]), double.CreateTruncating(right[(k * _d) + c]));
                }

                product[(r * _d) + c] = sum;
            }
        }

        return product;
    }
}
