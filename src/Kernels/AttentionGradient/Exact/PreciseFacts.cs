using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.Exact;

/// <summary>What <see cref="PreciseRows"/> finds of each row, and <see cref="PreciseKeys"/> needs of it.</summary>
internal sealed class PreciseFacts
{
    private readonly int _d, _wide;
    private readonly double[] _high, _low;
    private readonly DoubleDouble[] _residuals, _largest, _rowSums, _offsets;
    private readonly int[] _stars;

    public PreciseFacts(AttentionProblem<double> problem, RowSet<double> set)
    {
        _d = problem.D;
        _wide = Projection.Padded(_d);
        Count = set.Count;
        _high = new double[checked(Count * _wide)];
        _low = new double[Count * _wide];
        _residuals = new DoubleDouble[checked(Count * _d)];
        _largest = new DoubleDouble[Count];
        _rowSums = new DoubleDouble[Count];
        _offsets = new DoubleDouble[Count];
        _stars = new int[Count];
        Projection.Multiply(set.A1, problem.X, 0, Count, _d, _high, _low);
        for (int i = 0; i < _high.Length; i++)
        {
            DoubleDouble q = new DoubleDouble(_high[i], _low[i]) / problem.Divisor;
            (_high[i], _low[i]) = (q.High, q.Low);
        }
    }

    public int Count { get; }

    /// <summary>Q = A1 X / divisor.</summary>
    public DoubleDouble Query(int row, int k) => new(_high[((long)row * _wide) + k], _low[((long)row * _wide) + k]);

    /// <summary>c = F − E.</summary>
    public DoubleDouble Residual(int row, int k) => _residuals[((long)row * _d) + k];

    /// <summary>The key of the row's largest logit.</summary>
    public int Star(int row) => _stars[row];

    /// <summary>The largest logit.</summary>
    public DoubleDouble Largest(int row) => _largest[row];

    /// <summary>Σ_j e^(s_j − s*).</summary>
    public DoubleDouble RowSum(int row) => _rowSums[row];

    /// <summary>c·G.</summary>
    public DoubleDouble Offset(int row) => _offsets[row];

    public void Set(int row, int star, DoubleDouble largest, DoubleDouble rowSum) =>
        (_stars[row], _largest[row], _rowSums[row]) = (star, largest, rowSum);

    public void SetResidual(int row, int k, DoubleDouble value) => _residuals[((long)row * _d) + k] = value;

    public void SetOffset(int row, DoubleDouble value) => _offsets[row] = value;
}
