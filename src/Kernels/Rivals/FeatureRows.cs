using System.Globalization;
using System.Numerics;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Rivals;

/// <summary>The pass over queries that every rival makes: forward, residual, dQ, eight rows at a time.</summary>
/// <remarks>
/// A rival replaces e^s_ij by Σ_a φ_a(q_i) M_a, a sum over columns a (features, landmarks or keys) with moments
/// M_a = (values for h, value for 1). Then with D_i = Σ_a φ_ia M_a1:
///   F_i = Σ_a φ_ia M_ah / D_i;  c = F − E;  r = c·F;  z_ia = (c·M_ah − r M_a1) / D_i;  dQ_i = Σ_a z_ia ∇φ_a(q_i).
/// Subclasses say what φ is and how its gradient is a product with a panel.
/// </remarks>
internal abstract unsafe class FeatureRows<T> : Chunks, IDisposable
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    // What a chunk of rows writes after its d × d share: loss, least row sum, its row, how many were not positive, largest
    // |logit|, sum of their squares.
    private const int Extras = 6;

    private readonly GradientOutput<T> _output;
    private readonly CancellationToken _cancellation;
    private readonly int _rowsPerChunk, _share;
    private readonly double[] _shares;

    /// <param name="operands">Queries and h.</param>
    /// <param name="moments">[width][columns], the first d for h, the next for 1.</param>
    /// <param name="columns">Columns of the panel, padded.</param>
    /// <param name="width">d + 1, or more where a subclass wants further sums.</param>
    /// <param name="rowScratch">How many arrays of eight rows of columns a thread needs, φ and z among them.</param>
    /// <param name="mostChunks">At most so many chunks, where each keeps something large.</param>
    /// <param name="output">Where forward output, loss and gradient go.</param>
    /// <param name="cancellation">Looked at every eight rows.</param>
    protected FeatureRows(
        Operands<T> operands, T[] moments, int columns, int width, int rowScratch, int mostChunks,
        GradientOutput<T> output, CancellationToken cancellation)
    {
        Operands = operands;
        Moments = moments;
        Columns = columns;
        Width = width;
        RowScratch = rowScratch;
        D = operands.D;
        N = operands.N;
        _output = output;
        _cancellation = cancellation;
        _rowsPerChunk = RowsPerChunk(N, mostChunks);
        _share = (D * D) + Extras;
        ChunkCount = CountChunks(N, mostChunks);
        _shares = ScratchMemory.Rent<double>(checked(ChunkCount * _share));
    }

    public int ChunkCount { get; }

    protected Operands<T> Operands { get; }

    protected T[] Moments { get; }

    protected int Columns { get; }

    protected int Width { get; }

    protected int D { get; }

    protected int N { get; }

    private int RowScratch { get; }

    /// <summary>Sixty-four chunks at most, by n alone, so that the bits do not depend on the threads.</summary>
    public static int CountChunks(int n, int mostChunks = 64) =>
        (n + RowsPerChunk(n, mostChunks) - 1) / RowsPerChunk(n, mostChunks);

    /// <summary>Bytes of a thread's scratch and of the shares, for predictions.</summary>
    public static double Bytes(int n, int d, int columns, int rowScratch, int threads, int bytesPerNumber) =>
        ((double)Math.Max(1, threads) * Panels.Rows * columns * rowScratch * bytesPerNumber)
        + (8.0 * CountChunks(n) * ((d * d) + Extras));

    /// <summary>Writes gradient, loss and row sums into the output.</summary>
    /// <param name="more">Added to A1ᵀ dQ before it is divided; empty for nothing.</param>
    /// <param name="advice">What a person may do about row sums that are not positive.</param>
    /// <exception cref="KernelFailure">A row sum was not positive.</exception>
    public void Finish(ReadOnlySpan<double> more, string advice)
    {
        double least = double.PositiveInfinity, row = 0, failures = 0, largest = 0;
        for (int chunk = 0; chunk < ChunkCount; chunk++)
        {
            ReadOnlySpan<double> extras = _shares.AsSpan((chunk * _share) + (D * D), Extras);
            if (double.IsNaN(extras[1]) ? !double.IsNaN(least) : extras[1] < least)
            {
                (least, row) = (extras[1], extras[2]);
            }

            failures += extras[3];
            largest = Math.Max(largest, extras[4]);
        }

        ReduceTree(_shares.AsSpan(0, ChunkCount * _share), ChunkCount, _share);
        for (int i = 0; i < D * D; i++)
        {
            _output.DX[i] = T.CreateTruncating((_shares[i] + (more.IsEmpty ? 0 : more[i])) / Operands.QueryDivisor);
        }

        _output.Loss = _shares[D * D] / 2;
        _output.MinRowSumOverN = least / N;
        _output.NonPositiveRowSums = (long)failures;
        _output.MaxLogit = SeesLogits ? largest : double.NaN;
        _output.RmsLogit = SeesLogits ? Math.Sqrt(_shares[(D * D) + 5] / ((double)N * N)) : double.NaN;
        if (failures > 0)
        {
            string sum = least.ToString("G3", CultureInfo.InvariantCulture);
            throw new KernelFailure(
                $"{failures} of {N} row sums {(failures == 1 ? "is" : "are")} not positive (least {sum} at row {row}); {advice}.");
        }
    }

    /// <summary>Whether <see cref="Features"/> reports single logits, which it does where statistics were asked for.</summary>
    protected virtual bool SeesLogits => false;

    public virtual void Dispose() => ScratchMemory.Return(_shares);

    /// <summary>φ of eight queries.</summary>
    /// <param name="first">The first of them; a last block's are repeated, see <paramref name="count"/>.</param>
    /// <param name="count">How many of the eight count.</param>
    /// <param name="q">[8][d].</param>
    /// <param name="phi">[8][columns], to be written.</param>
    /// <param name="rest">The thread's further rows, kept until <see cref="Gradient"/>.</param>
    /// <param name="logits">Largest |logit| and the sum of squares, where logits are seen.</param>
    protected abstract void Features(int first, int count, T* q, T* phi, T* rest, Span<double> logits);

    /// <summary>dQ of eight queries from z, which may be used up.</summary>
    /// <param name="phi">As <see cref="Features"/> left it.</param>
    /// <param name="z">[8][columns].</param>
    /// <param name="rest">As <see cref="Features"/> left it.</param>
    /// <param name="dQ">[8][d], to be written.</param>
    protected abstract void Gradient(T* phi, T* z, T* rest, double* dQ);

    /// <summary>What the row sum is that has to be positive, from a row's sums; D unless a subclass has another.</summary>
    protected virtual double RowSum(double* sums) => sums[D];

    /// <summary>For a subclass that keeps more of a block: coefficients are (c, −r) / D of each row, [8][d + 1], 0 where a row
    /// does not count.</summary>
    protected virtual void Keep(int chunk, T* coefficients, T* phi)
    {
    }

    /// <summary>Told when a chunk begins and ends, on the thread that computes it.</summary>
    protected virtual void Chunk(int chunk, bool begins)
    {
    }

    protected sealed override void Take()
    {
        long rows = (long)Panels.Rows * Columns;
        T[] scratch = ScratchMemory.Rent<T>(checked((int)(rows * RowScratch)));
        T[] small = ScratchMemory.Rent<T>(Panels.Rows * ((2 * D) + 1));
        double[] wide = ScratchMemory.Rent<double>(Panels.Rows * (Width + D));
        try
        {
            fixed (T* phi = scratch, q = small)
            fixed (double* sums = wide)
            {
                for (int chunk = Next(); chunk >= 0; chunk = Next())
                {
                    Span<double> share = _shares.AsSpan(chunk * _share, _share);
                    share.Clear();
                    share[(D * D) + 1] = double.PositiveInfinity;
                    Chunk(chunk, begins: true);
                    int end = Math.Min(N, (chunk + 1) * _rowsPerChunk);
                    for (int first = chunk * _rowsPerChunk; first < end; first += Panels.Rows)
                    {
                        _cancellation.ThrowIfCancellationRequested();
                        Block(chunk, first, Math.Min(Panels.Rows, end - first), phi, phi + rows, phi + (2 * rows),
                            q, q + (Panels.Rows * D), sums, sums + (Panels.Rows * Width), share);
                    }

                    Chunk(chunk, begins: false);
                }
            }
        }
        finally
        {
            ScratchMemory.Return(scratch);
            ScratchMemory.Return(small);
            ScratchMemory.Return(wide);
        }
    }

    private static int RowsPerChunk(int n, int mostChunks) =>
        Math.Max(64, (((n + mostChunks - 1) / mostChunks) + Panels.Rows - 1) / Panels.Rows * Panels.Rows);

    private void Block(
        int chunk, int first, int count, T* phi, T* z, T* rest, T* q, T* coefficients, double* sums, double* dQ,
        Span<double> share)
    {
        Span<double> extras = share[(D * D)..];
        for (int r = 0; r < Panels.Rows; r++)
        {
            Operands.Q.AsSpan(Math.Min(first + r, N - 1) * D, D).CopyTo(new Span<T>(q + (r * D), D));
        }

        Features(first, count, q, phi, rest, extras[4..]);
        new Span<T>(coefficients, Panels.Rows * (D + 1)).Clear();
        fixed (T* moments = Moments)
        {
            Panels.Contract(phi, Columns, Columns, moments, Columns, Width, sums, Width);
            for (int r = 0; r < count; r++)
            {
                Residual(first + r, sums + (r * Width), coefficients + (r * (D + 1)), extras);
            }

            Panels.Expand(coefficients, D + 1, D + 1, moments, Columns, Columns, z, Columns);
        }

        Keep(chunk, coefficients, phi);
        Gradient(phi, z, rest, dQ);
        for (int r = 0; r < count; r++)
        {
            for (int i = 0; i < D; i++)
            {
                double a1 = double.CreateTruncating(Operands.Problem.A1[((first + r) * D) + i]);
                for (int k = 0; k < D; k++)
                {
                    share[(i * D) + k] += a1 * dQ[(r * D) + k];
                }
            }

            for (int k = 0; _output.DQ is T[] wanted && k < D; k++)
            {
                wanted[((first + r) * D) + k] = T.CreateTruncating(dQ[(r * D) + k] / Operands.QueryDivisor);
            }
        }
    }

    private void Residual(int row, double* sums, T* coefficients, Span<double> extras)
    {
        double rowSum = RowSum(sums), divisor = sums[D], r = 0;
        if (double.IsNaN(rowSum) ? !double.IsNaN(extras[1]) : rowSum < extras[1])
        {
            (extras[1], extras[2]) = (rowSum, row);
        }

        if (!(rowSum > 0))
        {
            extras[3]++;
            return;
        }

        for (int k = 0; k < D; k++)
        {
            double forward = sums[k] / divisor;
            double c = forward - double.CreateTruncating(Operands.Problem.E[(row * D) + k]);
            r += c * forward;
            extras[0] += c * c;
            _output.Forward[(row * D) + k] = T.CreateTruncating(forward);
            coefficients[k] = T.CreateTruncating(c / divisor);
        }

        coefficients[D] = T.CreateTruncating(-r / divisor);
    }
}
