using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;
using Experiments.Kernels.Polynomials;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>What rows x take from the moments of other rows, a block of them in the lanes: the polynomial's values, Σ_β x^β value_β, and
/// its gradient by x.</summary>
/// <remarks>Each chunk of rows has a share of its own: the (d, d) sum of outer products that a gradient with respect to X or Y is, and
/// what else its kind of rows sums.</remarks>
internal abstract unsafe class MomentRows<L, T> : Chunks, IDisposable
    where L : struct, ILanes<L, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    // Features that are made and used while they are in the level-1 cache; also the length of the shorter of two sums.
    private const int Step = 64;

    // Blocks whose shares are added up in T, a sum a lane, before they go into the chunk's in double.
    protected const int FlushBlocks = 16;

    private readonly FeaturePlan _plan;
    private readonly WeighedMoments<T> _moments;
    private readonly CancellationToken _cancellation;
    private readonly int _d, _columns, _degree, _share;
    private readonly AlignedBuffer<double> _shares;

    /// <param name="extras">What a chunk of rows sums beside its (d, d) share.</param>
    protected MomentRows(
        int n, LowRankChoice choice, FeaturePlan plan, WeighedMoments<T> moments, int extras, CancellationToken cancellation)
    {
        _plan = plan;
        _moments = moments;
        _cancellation = cancellation;
        (_d, _columns) = (plan.D, plan.D + 1);
        _degree = choice.Degree;
        _share = (_d * _d) + extras;
        RowsPerChunk = RowShape.RowsPerChunk(n, Tiles<L, T>.Block);
        ChunkCount = (n + RowsPerChunk - 1) / RowsPerChunk;
        _shares = AlignedBuffer<double>.Zeroed((long)ChunkCount * _share);
    }

    public int ChunkCount { get; }

    protected int RowsPerChunk { get; }

    public void Dispose() => _shares.Dispose();

    /// <summary>A chunk's (d, d) sums, and after them its extras.</summary>
    protected double* Share(int chunk) => _shares.Start + ((long)chunk * _share);

    /// <summary>Adds up all chunks' shares into the first's, pairwise and in their order.</summary>
    protected void ReduceShares() => ReduceTree(new(_shares.Start, ChunkCount * _share), ChunkCount, _share);

    /// <summary>A block's rows with a column a row; the lanes of a last block that has too few hold zeros.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    protected void Transpose(T* from, int rows, T* to)
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

    /// <summary>The first rows of a block from a column a row, of d or d + 1 numbers.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    protected void TransposeBack(T* from, int rows, int columns, T* to)
    {
        int block = Tiles<L, T>.Block;
        nint d = columns;
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
    protected void Values(T* x, T* phi, T* sums)
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

    /// <summary>gradient = ∇_x Σ_β z_β x^β with z_β = Σ_l factors[l] slope[β][l], from the highest degree down.</summary>
    protected void Sweep(in SweepTables<T> tables, int* children)
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

    /// <summary>Every row of a block's first columns times its factor.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    protected static void Scale(T* matrix, int columns, T* factors)
    {
        int block = Tiles<L, T>.Block;
        for (int v = 0; v < block; v += L.Count)
        {
            L factor = L.Load(factors + v);
            for (int k = 0; k < columns; k++)
            {
                T* at = matrix + (k * block) + v;
                (L.Load(at) * factor).Store(at);
            }
        }
    }

    /// <summary>near[i][k] += left[i] right[k], every lane its own sum.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    protected void AddShare(T* left, T* right, T* near)
    {
        int block = Tiles<L, T>.Block;
        for (int i = 0; i < _d; i++)
        {
            L a0 = L.Load(left), a1 = L.Load(left + L.Count), a2 = L.Load(left + (2 * L.Count));
            T* column = right;
            for (int k = 0; k < _d; k++)
            {
                L sum = L.MulAdd(a0, L.Load(column), L.Load(near));
                sum = L.MulAdd(a1, L.Load(column + L.Count), sum);
                L.MulAdd(a2, L.Load(column + (2 * L.Count)), sum).Store(near);
                column += block;
                near += L.Count;
            }

            left += block;
        }
    }

    /// <summary>Adds the near sums to the chunk's share and clears them.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    protected void Flush(T* near, double* share)
    {
        for (int i = 0; i < _d * _d; i++)
        {
            share[i] += double.CreateTruncating(L.Sum(L.Load(near)));
            L.Zero.Store(near);
            near += L.Count;
        }
    }
}

/// <summary>How rows in lanes are cut: by n and the vectors alone.</summary>
internal static class RowShape
{
    /// <summary>At most 64 chunks, of whole blocks.</summary>
    public static int RowsPerChunk(int n, int block) => (((n + 63) / 64) + block - 1) / block * block;
}
