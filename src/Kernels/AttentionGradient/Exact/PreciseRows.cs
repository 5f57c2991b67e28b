using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.Exact;

/// <summary>The exact gradient of a float64 problem in twice the digits: <see cref="ReferenceGradient"/>'s sums, a key to a lane, rows shared out
/// among threads.</summary>
/// <remarks>
/// For problems of which <see cref="Doubt"/> is large. Every row relative to its largest key, as there.
/// Cost      O(n² d), some 70 times the usual way's.
/// Memory    4 n d numbers for the operands, transposed, 4 (rows) d and some for the rows, 6 n a thread, and 4 d² a chunk.
/// Error     everything in double-double and rounded once.
/// </remarks>
internal sealed unsafe class PreciseRows : Chunks, IDisposable
{
    private readonly AttentionProblem<double> _problem;
    private readonly RowSet<double> _set;
    private readonly GradientOutput<double> _output;
    private readonly CancellationToken _cancellation;
    private readonly PreciseOperands _operands;
    private readonly PreciseFacts _facts;
    private readonly int _d, _rowsPerChunk;
    private readonly DoubleDouble[][] _dX, _dY;
    private readonly DoubleDouble[] _losses;

    public PreciseRows(
        AttentionProblem<double> problem, RowSet<double> set, GradientOutput<double> output, CancellationToken cancellation)
    {
        _problem = problem;
        _set = set;
        _output = output;
        _cancellation = cancellation;
        _d = problem.D;
        _rowsPerChunk = RowsPerChunk(set.Count);
        ChunkCount = CountChunks(set.Count);
        _operands = new(problem, cancellation);
        _facts = new(problem, set);
        _dX = new DoubleDouble[ChunkCount][];
        _dY = new DoubleDouble[ChunkCount][];
        _losses = new DoubleDouble[ChunkCount];
    }

    public int ChunkCount { get; }

    /// <summary>Bytes beyond inputs and output.</summary>
    public static double Bytes(int n, int rows, int d, int threads)
    {
        double keys = PreciseOperands.Padded(n);
        return 8 * ((4 * keys * (d + 1)) + ((rows + 1.0) * ((4 * Projection.Padded(d)) + 7)) + (6 * keys * Math.Max(1, threads))
            + (4.0 * CountChunks(rows) * d * d) + (8.0 * d * PreciseKeys.KeysPerChunk * Math.Max(1, threads)));
    }

    /// <summary>Adds up the chunks' shares, writes dX, dY and the loss, and then dK and dV where they are asked for.</summary>
    public void Finish(int threads)
    {
        for (int chunk = 1; chunk < ChunkCount; chunk++)
        {
            _losses[0] += _losses[chunk];
            for (int i = 0; i < _d * _d; i++)
            {
                _dX[0][i] += _dX[chunk][i];
                _dY[0][i] += _dY[chunk][i];
            }
        }

        _output.Loss = (double)_losses[0] / 2;
        for (int i = 0; i < _d * _d; i++)
        {
            _output.DX[i] = (double)(_dX[0][i] / _problem.Divisor);
            _output.DY[i] = (double)_dY[0][i];
        }

        if (_output.DK is not null || _output.DV is not null)
        {
            PreciseKeys keys = new(_problem, _operands, _facts, _output, _cancellation);
            keys.Run(keys.ChunkCount, threads, _cancellation);
        }
    }

    public void Dispose() => _operands.Dispose();

    protected override void Take()
    {
        int keys = _operands.Keys;
        using AlignedBuffer<double> scratch = new(6L * keys);
        PreciseVector s = new(scratch.Start, keys), p = new(scratch.Start + (2L * keys), keys);
        for (int chunk = Next(); chunk >= 0; chunk = Next())
        {
            _dX[chunk] = new DoubleDouble[_d * _d];
            _dY[chunk] = new DoubleDouble[_d * _d];
            int end = Math.Min(_set.Count, (chunk + 1) * _rowsPerChunk);
            for (int row = chunk * _rowsPerChunk; row < end; row++)
            {
                _cancellation.ThrowIfCancellationRequested();
                _losses[chunk] += Row(row, s, p, _dX[chunk], _dY[chunk]);
            }
        }
    }

    private static int RowsPerChunk(int rows) => Math.Max(4, (rows + 63) / 64);

    private static int CountChunks(int rows) => (rows + RowsPerChunk(rows) - 1) / RowsPerChunk(rows);

    /// <returns>‖c‖².</returns>
    private DoubleDouble Row(int row, PreciseVector e, PreciseVector p, DoubleDouble[] dX, DoubleDouble[] dY)
    {
        int seen = _problem.Causal ? _set.PlaceOf(row) + 1 : _problem.N;
        e = e[..PreciseOperands.Padded(seen)];
        p = p[..e.Length];
        e.Clear();
        for (int k = 0; k < _d; k++)
        {
            e.AddProduct(_facts.Query(row, k), _operands.Key(k));
        }

        int star = e.LargestOf(seen);
        DoubleDouble largest = e[star];
        DoubleDouble rowSum = e.TakeExponentials(largest, seen);
        _facts.Set(row, star, largest, rowSum);

        // As in the reference: F = G + h*, and c·h_j − r becomes c·(h_j − h*) − c·G.
        DoubleDouble r = DoubleDouble.Zero, loss = DoubleDouble.Zero;
        for (int k = 0; k < _d; k++)
        {
            DoubleDouble hStar = _operands.Value(k)[star], g = e.Dot(_operands.Value(k), hStar) / rowSum;
            DoubleDouble c = g + (hStar - _set.E[((long)row * _d) + k]);
            _output.Forward[((long)row * _d) + k] = (double)(g + hStar);
            _facts.SetResidual(row, k, c);
            r += c * g;
            loss += c * c;
        }

        _facts.SetOffset(row, r);
        p.Fill(-r);
        for (int k = 0; k < _d; k++)
        {
            p.AddProduct(_facts.Residual(row, k), _operands.Value(k), _operands.Value(k)[star]);
        }

        p.MultiplyBy(e);
        Span<DoubleDouble> dQ = new DoubleDouble[_d];
        for (int k = 0; k < _d; k++)
        {
            dQ[k] = p.Dot(_operands.Key(k), _operands.Key(k)[star]) / rowSum;
            if (_output.DQ is double[] wanted)
            {
                wanted[((long)row * _d) + k] = (double)(dQ[k] / _problem.Divisor);
            }
        }

        for (int m = 0; m < _d; m++)
        {
            double a1 = _set.A1[((long)row * _d) + m];
            DoubleDouble value = e.Dot(_operands.PlainValue(m), 0) / rowSum;
            for (int k = 0; k < _d; k++)
            {
                dX[(m * _d) + k] += dQ[k] * a1;
                dY[(m * _d) + k] += value * _facts.Residual(row, k);
            }
        }

        return loss;
    }
}
