using System.Globalization;
using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;
using Experiments.Kernels.Polynomials;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>Pass 2: forward, residual and dQ of every query from the moments alone, a block of queries in the lanes.</summary>
internal sealed unsafe class QueryRows<L, T> : Chunks, IDisposable
    where L : struct, ILanes<L, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    // Features that are made and used while they are in the level-1 cache; also the length of the shorter of two sums.
    private const int Step = 64;

    // Blocks whose shares of dX are added up in T, a sum a lane, before they go into the chunk's in double.
    private const int FlushBlocks = 16;

    // What a chunk of rows writes after its d × d share: loss, least row sum, its row, how many were not positive.
    private const int Extras = 4;

    private readonly AttentionProblem<T> _problem;
    private readonly FeaturePlan _plan;
    private readonly WeighedMoments<T> _moments;
    private readonly T* _queries;
    private readonly GradientOutput<T> _output;
    private readonly CancellationToken _cancellation;
    private readonly int _n, _d, _columns, _degree, _valueFeatures, _share, _rowsPerChunk;
    private readonly AlignedBuffer<double> _shares;

    public QueryRows(
        AttentionProblem<T> problem, LowRankChoice choice, FeaturePlan plan, WeighedMoments<T> moments, T* queries,
        GradientOutput<T> output, CancellationToken cancellation)
    {
        _problem = problem;
        _plan = plan;
        _moments = moments;
        _queries = queries;
        _output = output;
        _cancellation = cancellation;
        (_n, _d, _columns) = (problem.N, problem.D, problem.D + 1);
        _degree = choice.Degree;
        _valueFeatures = choice.ValueFeatures;
        _share = (_d * _d) + Extras;
        _rowsPerChunk = QueryShape.RowsPerChunk(_n, Tiles<L, T>.Block);
        ChunkCount = (_n + _rowsPerChunk - 1) / _rowsPerChunk;
        _shares = AlignedBuffer<double>.Zeroed((long)ChunkCount * _share);
    }

    public int ChunkCount { get; }

    /// <summary>Adds up the chunks' shares, and looks at the row sums.</summary>
    /// <param name="advice">What to do where row sums are not positive.</param>
    /// <exception cref="KernelFailure">A row sum was not positive.</exception>
    public void Finish(string advice)
    {
        double least = double.PositiveInfinity, row = 0, failures = 0;
        for (int chunk = 0; chunk < ChunkCount; chunk++)
        {
            double* extras = _shares.Start + ((long)chunk * _share) + (_d * _d);
            if (double.IsNaN(extras[1]) ? !double.IsNaN(least) : extras[1] < least)
            {
                (least, row) = (extras[1], extras[2]);
            }

            failures += extras[3];
        }

        ReduceTree(new(_shares.Start, ChunkCount * _share), ChunkCount, _share);
        for (int i = 0; i < _d * _d; i++)
        {
            _output.DX[i] = T.CreateTruncating(_shares.Start[i]);
        }

        _output.Loss = _shares.Start[_d * _d] / 2;
        _output.MinRowSumOverN = least / _n;
        _output.NonPositiveRowSums = (long)failures;
        if (failures > 0)
        {
            string sum = least.ToString("G3", CultureInfo.InvariantCulture);
            throw new KernelFailure(
                $"{failures} of {_n} row sums {(failures == 1 ? "is" : "are")} not positive (least {sum} at row {row}); "
                + $"{advice}.");
        }
    }

    public void Dispose() => _shares.Dispose();

    protected override void Take()
    {
        int block = Tiles<L, T>.Block;
        long parents = _plan.Table.FirstOfDegree[_plan.Table.Degree], matrix = (long)_d * block;
        using AlignedBuffer<T> phi = new(_valueFeatures * (long)block), adjoint = new(parents * block);
        using AlignedBuffer<T> sums = new((long)_columns * block), near = AlignedBuffer<T>.Zeroed((long)_d * _d * L.Count);
        using AlignedBuffer<T> rest = new((4 * matrix) + block);
        T* x = rest.Start, gradient = x + matrix, targets = gradient + matrix, a1 = targets + matrix, reciprocals = a1 + matrix;
        SweepTables<T> tables = new(_moments.Slope, sums.Start, x, phi.Start, adjoint.Start, gradient, _columns);
        new Span<T>(phi.Start, block).Fill(T.One);
        int* children = stackalloc int[_d];
        fixed (T* a1Rows = _problem.A1, targetRows = _problem.E, forward = _output.Forward, dQ = _output.DQ)
        {
            for (int chunk = Next(); chunk >= 0; chunk = Next())
            {
                double* share = _shares.Start + ((long)chunk * _share), extras = share + (_d * _d);
                extras[1] = double.PositiveInfinity;
                int end = Math.Min(_n, (chunk + 1) * _rowsPerChunk), pending = 0;
                for (int i = chunk * _rowsPerChunk; i < end; i += block)
                {
                    int rows = Math.Min(block, end - i);
                    long at = (long)i * _d;
                    Transpose(_queries + at, rows, x);
                    Transpose(targetRows + at, rows, targets);
                    Transpose(a1Rows + at, rows, a1);
                    Values(x, phi.Start, sums.Start);
                    Reciprocals(i, rows, sums.Start + ((long)_d * block), reciprocals, extras);
                    extras[0] += Residuals(sums.Start, reciprocals, targets);
                    TransposeBack(targets, rows, forward + at);
                    new Span<T>(gradient, _d * block).Clear();
                    Sweep(in tables, children);
                    AddShare(a1, gradient, reciprocals, near.Start);
                    if (dQ != null)
                    {
                        TransposeBack(gradient, rows, dQ + at);
                    }

                    if (++pending == FlushBlocks || i + block >= end)
                    {
                        Flush(near.Start, share);
                        pending = 0;
                    }
                }
            }
        }
    }

    /// <summary>A block's rows with a column a row; the lanes of a last block that has too few hold zeros.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private void Transpose(T* from, int rows, T* to)
    {
        int block = Tiles<L, T>.Block;
        if (rows < block)
        {
            new Span<T>(to, _d * block).Clear();
        }

        nint d = _d;
        int r = 0;
        for (; r <= rows - 4; r += 4)
        {
            T* at = to + r, row = from;
            for (nint k = 0; k < d; k++)
            {
                at[0] = row[0];
                at[1] = row[d];
                at[2] = row[2 * d];
                at[3] = row[3 * d];
                at += block;
                row++;
            }

            from += 4 * d;
        }

        for (; r < rows; r++)
        {
            for (nint k = 0; k < d; k++)
            {
                to[(k * block) + r] = from[k];
            }

            from += d;
        }
    }

    /// <summary>The first rows of a block from a column a row.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private void TransposeBack(T* from, int rows, T* to)
    {
        int block = Tiles<L, T>.Block;
        nint d = _d;
        int r = 0;
        for (; r <= rows - 4; r += 4)
        {
            T* at = from + r, row = to;
            for (nint k = 0; k < d; k++)
            {
                row[0] = at[0];
                row[d] = at[1];
                row[2 * d] = at[2];
                row[3 * d] = at[3];
                at += block;
                row++;
            }

            to += 4 * d;
        }

        for (; r < rows; r++)
        {
            for (nint k = 0; k < d; k++)
            {
                to[k] = from[(k * block) + r];
            }

            to += d;
        }
    }

    /// <summary>sums[l] = Σ_β φ[β] value[β][l], the features being made on the way.</summary>
    private void Values(T* x, T* phi, T* sums)
    {
        int block = Tiles<L, T>.Block, made = 1, used = 0;
        new Span<T>(sums, _columns * block).Clear();
        Monomials table = _plan.Table;
        for (int m = 1; m <= _degree; m++)
        {
            _cancellation.ThrowIfCancellationRequested();
            for (int i = 0; i < _d; i++)
            {
                int parent = m == 1 ? 0 : table.Starts[((m - 1) * _d) + i], end = table.FirstOfDegree[m];
                while (parent < end)
                {
                    int count = Math.Min(end - parent, Step - (made - used));
                    Tiles<L, T>.Generate(phi + ((long)parent * block), phi + ((long)made * block), count, x + ((long)i * block));
                    parent += count;
                    made += count;
                    if (made - used == Step)
                    {
                        AddValues(phi, used, Step, sums);
                        used = made;
                    }
                }
            }
        }

        AddValues(phi, used, made - used, sums);
    }

    private void AddValues(T* phi, int first, int count, T* sums)
    {
        int block = Tiles<L, T>.Block;
        Columns columns = Columns.All(_d);
        T* value = _moments.Value + ((long)first * _columns);
        phi += (long)first * block;
        for (int i = 0; i < columns.Fours; i++, value += 4, sums += 4 * block)
        {
            Tiles<L, T>.Values<Four>(phi, count, value, _columns, sums);
        }

        for (int i = 0; i < columns.Threes; i++, value += 3, sums += 3 * block)
        {
            Tiles<L, T>.Values<Three>(phi, count, value, _columns, sums);
        }

        if (columns.Twos > 0)
        {
            Tiles<L, T>.Values<Two>(phi, count, value, _columns, sums);
        }
    }

    /// <summary>Looks at the row sums, D. Returns their reciprocals; 0 for a row whose D is not positive.</summary>
    private void Reciprocals(int first, int rows, T* rowSums, T* reciprocals, double* extras)
    {
        for (int r = 0; r < rows; r++)
        {
            double rowSum = double.CreateTruncating(rowSums[r]);
            if (double.IsNaN(rowSum) ? !double.IsNaN(extras[1]) : rowSum < extras[1])
            {
                (extras[1], extras[2]) = (rowSum, first + r);
            }

            bool positive = rowSum > 0;
            extras[3] += positive ? 0 : 1;
            reciprocals[r] = positive ? T.One / rowSums[r] : T.Zero;
        }

        for (int r = rows; r < Tiles<L, T>.Block; r++)
        {
            reciprocals[r] = T.Zero;
        }
    }

    /// <summary>Turns (F D, D) into (c, −r) in place, and E into F. Returns Σ c².</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private double Residuals(T* sums, T* reciprocals, T* targets)
    {
        int block = Tiles<L, T>.Block;
        double loss = 0;
        for (int v = 0; v < block; v += L.Count)
        {
            L rowSum = L.Load(sums + (_d * block) + v), reciprocal = L.Load(reciprocals + v);
            L minusDot = L.Zero, squares = L.Zero;
            for (int k = 0; k < _d; k++)
            {
                // A step of Newton's gives the quotient its last digits, and the residual more than those.
                T* at = sums + (k * block) + v;
                L sum = L.Load(at), quotient = sum * reciprocal;
                L rest = L.MulAdd(L.Zero - quotient, rowSum, sum) * reciprocal, forward = quotient + rest;
                L c = (quotient - L.Load(targets + (k * block) + v)) + rest;
                forward.Store(targets + (k * block) + v);
                c.Store(at);
                minusDot = L.MulAdd(L.Zero - c, forward, minusDot);
                squares = L.MulAdd(c, c, squares);
            }

            minusDot.Store(sums + (_d * block) + v);
            loss += double.CreateTruncating(L.Sum(squares));
        }

        return loss;
    }

    /// <summary>gradient = ∇_q Σ_β z_β q^β with z_β = Σ_l factors[l] slope[β][l], from the highest degree down.</summary>
    private void Sweep(in SweepTables<T> tables, int* children)
    {
        Monomials table = _plan.Table;
        for (int m = table.Degree; m >= 1; m--)
        {
            bool top = m == table.Degree;
            for (int i = 0; i < _d; i++)
            {
                children[i] = table.Starts[(m * _d) + i] - (m == 1 ? 0 : table.Starts[((m - 1) * _d) + i]);
            }

            // Degree 0 has one monomial, every variable's parent; else those that begin with x_v have children by x_0 … x_v.
            for (int v = m == 1 ? _d - 1 : 0; v < _d; v++)
            {
                _cancellation.ThrowIfCancellationRequested();
                int parent = m == 1 ? 0 : table.Starts[((m - 1) * _d) + v];
                int end = m == 1 ? 1 : v + 1 < _d ? table.Starts[((m - 1) * _d) + v + 1] : table.FirstOfDegree[m];
                int fours = (end - parent) / 4;
                Tiles<L, T>.Sweep<Four>(in tables, parent, fours, children, v, top);
                parent += 4 * fours;
                switch (end - parent)
                {
                    case 1:
                        Tiles<L, T>.Sweep<One>(in tables, parent, 1, children, v, top);
                        break;
                    case 2:
                        Tiles<L, T>.Sweep<Two>(in tables, parent, 1, children, v, top);
                        break;
                    case 3:
                        Tiles<L, T>.Sweep<Three>(in tables, parent, 1, children, v, top);
                        break;
                }
            }
        }
    }

    /// <summary>near[i][k] += a1[i] dQ[k], every lane its own sum, with dQ = gradient / D.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private void AddShare(T* a1, T* gradient, T* reciprocals, T* near)
    {
        int block = Tiles<L, T>.Block;
        for (int v = 0; v < block; v += L.Count)
        {
            L reciprocal = L.Load(reciprocals + v);
            for (int k = 0; k < _d; k++)
            {
                T* at = gradient + (k * block) + v;
                (L.Load(at) * reciprocal).Store(at);
            }
        }

        for (int i = 0; i < _d; i++)
        {
            L a0 = L.Load(a1), a2 = L.Load(a1 + L.Count), a4 = L.Load(a1 + (2 * L.Count));
            T* dQ = gradient;
            for (int k = 0; k < _d; k++)
            {
                L sum = L.MulAdd(a0, L.Load(dQ), L.Load(near));
                sum = L.MulAdd(a2, L.Load(dQ + L.Count), sum);
                L.MulAdd(a4, L.Load(dQ + (2 * L.Count)), sum).Store(near);
                dQ += block;
                near += L.Count;
            }

            a1 += block;
        }
    }

    /// <summary>Adds the near sums to the chunk's share and clears them.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    private void Flush(T* near, double* share)
    {
        for (int i = 0; i < _d * _d; i++)
        {
            share[i] += double.CreateTruncating(L.Sum(L.Load(near)));
            L.Zero.Store(near);
            near += L.Count;
        }
    }
}

/// <summary>How the queries are cut: by n and the vectors alone.</summary>
internal static class QueryShape
{
    /// <summary>At most 64 chunks, of whole blocks.</summary>
    public static int RowsPerChunk(int n, int block) => (((n + 63) / 64) + block - 1) / block * block;
}
