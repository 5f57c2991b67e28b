using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.LowRank;

/// <summary>A number known to the compiler, so that a loop's accumulators are registers.</summary>
internal interface ICount
{
    static abstract int Value { get; }
}

internal readonly struct One : ICount
{
    public static int Value => 1;
}

internal readonly struct Two : ICount
{
    public static int Value => 2;
}

internal readonly struct Three : ICount
{
    public static int Value => 3;
}

internal readonly struct Four : ICount
{
    public static int Value => 4;
}

/// <summary>The inner loops of low-rank: register tiles of at most twelve accumulators, for any width of vectors.</summary>
/// <remarks>
/// Twelve accumulators, a broadcast and three vectors fill the sixteen registers of AVX2; two multiply-adds a cycle with four
/// cycles of latency need eight. A tile of 4 × 3 loads 7 registers for 12 multiply-adds, where the processors load one for each.
/// Queries stand in the lanes, <see cref="Vectors"/> vectors of them to a block, and so do the features of the keys.
/// </remarks>
internal static unsafe class Tiles<L, T>
    where L : struct, ILanes<L, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <summary>Vectors of queries in a block.</summary>
    public const int Vectors = 3;

    /// <summary>Queries in a block, the length of a row of its tables.</summary>
    public static int Block => Vectors * L.Count;

    /// <summary>into[l][β] += Σ_r φ[r][β] y[r][l] for V vectors of features and tiles of C columns.</summary>
    /// <param name="phi">Features, a row a key, <paramref name="phiStride"/> apart.</param>
    /// <param name="y">Factors, a row a key, <paramref name="yStride"/> apart.</param>
    /// <param name="tiles">Tiles side by side along the columns.</param>
    /// <param name="into">Sums, a row a column, <paramref name="intoStride"/> apart.</param>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void Outer<C, V>(
        T* phi, nint phiStride, T* y, nint yStride, int tiles, int rows, T* into, nint intoStride)
        where C : struct, ICount
        where V : struct, ICount
    {
        for (int tile = 0; tile < tiles; tile++)
        {
            L a00 = L.Zero, a01 = L.Zero, a02 = L.Zero, a10 = L.Zero, a11 = L.Zero, a12 = L.Zero;
            L a20 = L.Zero, a21 = L.Zero, a22 = L.Zero, a30 = L.Zero, a31 = L.Zero, a32 = L.Zero;
            T* f = phi;
            T* b = y;
            for (int r = 0; r < rows; r++)
            {
                L v0 = L.Load(f);
                L v1 = V.Value > 1 ? L.Load(f + L.Count) : L.Zero;
                L v2 = V.Value > 2 ? L.Load(f + (2 * L.Count)) : L.Zero;
                MulAddRow<V>(L.Broadcast(b[0]), v0, v1, v2, ref a00, ref a01, ref a02);
                MulAddRow<V>(L.Broadcast(b[1]), v0, v1, v2, ref a10, ref a11, ref a12);
                if (C.Value > 2)
                {
                    MulAddRow<V>(L.Broadcast(b[2]), v0, v1, v2, ref a20, ref a21, ref a22);
                }

                if (C.Value > 3)
                {
                    MulAddRow<V>(L.Broadcast(b[3]), v0, v1, v2, ref a30, ref a31, ref a32);
                }

                f += phiStride;
                b += yStride;
            }

            // The rows' sum is made from 0 and then added: two short sums round less than a long one.
            AddRow<V>(into, a00, a01, a02);
            AddRow<V>(into + intoStride, a10, a11, a12);
            if (C.Value > 2)
            {
                AddRow<V>(into + (2 * intoStride), a20, a21, a22);
            }

            if (C.Value > 3)
            {
                AddRow<V>(into + (3 * intoStride), a30, a31, a32);
            }

            y += C.Value;
            into += C.Value * intoStride;
        }
    }

    /// <summary>table[r][To + lane] = x[r][Variable] table[r][From + lane] for every growth in turn and eight keys at a time.</summary>
    /// <remarks>Whole vectors are written, so up to one beyond a range: ranges are made in their order, and what the one spills
    /// the next writes over.</remarks>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void Grow(ReadOnlySpan<FeaturePlan.Growth> growths, T* table, nint stride, T* x, nint xStride, int eights)
    {
        foreach (ref readonly FeaturePlan.Growth growth in growths)
        {
            T* from = table + growth.From, to = table + growth.To, factor = x + growth.Variable;
            for (int r = 0; r < eights; r++)
            {
                Grow4(from, to, stride, factor, xStride);
                Grow4(from + (4 * stride), to + (4 * stride), stride, factor + (4 * xStride), xStride);
                from += 8 * stride;
                to += 8 * stride;
                factor += 8 * xStride;
            }
        }
    }

    /// <summary>to[t] = x from[t] for a block of queries: t runs over a range of monomials.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void Generate(T* from, T* to, int count, T* x)
    {
        L x0 = L.Load(x), x1 = L.Load(x + L.Count), x2 = L.Load(x + (2 * L.Count));
        for (int t = 0; t < count; t++)
        {
            (x0 * L.Load(from)).Store(to);
            (x1 * L.Load(from + L.Count)).Store(to + L.Count);
            (x2 * L.Load(from + (2 * L.Count))).Store(to + (2 * L.Count));
            from += Block;
            to += Block;
        }
    }

    /// <summary>sums[l] += Σ_β φ[β] value[β][l] for a block of queries and C columns.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void Values<C>(T* phi, int count, T* value, nint columns, T* sums)
        where C : struct, ICount
    {
        L a00 = L.Zero, a01 = L.Zero, a02 = L.Zero, a10 = L.Zero, a11 = L.Zero, a12 = L.Zero;
        L a20 = L.Zero, a21 = L.Zero, a22 = L.Zero, a30 = L.Zero, a31 = L.Zero, a32 = L.Zero;
        for (int t = 0; t < count; t++)
        {
            L v0 = L.Load(phi), v1 = L.Load(phi + L.Count), v2 = L.Load(phi + (2 * L.Count));
            MulAddRow<Three>(L.Broadcast(value[0]), v0, v1, v2, ref a00, ref a01, ref a02);
            MulAddRow<Three>(L.Broadcast(value[1]), v0, v1, v2, ref a10, ref a11, ref a12);
            if (C.Value > 2)
            {
                MulAddRow<Three>(L.Broadcast(value[2]), v0, v1, v2, ref a20, ref a21, ref a22);
            }

            if (C.Value > 3)
            {
                MulAddRow<Three>(L.Broadcast(value[3]), v0, v1, v2, ref a30, ref a31, ref a32);
            }

            phi += Block;
            value += columns;
        }

        AddRow<Three>(sums, a00, a01, a02);
        AddRow<Three>(sums + Block, a10, a11, a12);
        if (C.Value > 2)
        {
            AddRow<Three>(sums + (2 * Block), a20, a21, a22);
        }

        if (C.Value > 3)
        {
            AddRow<Three>(sums + (3 * Block), a30, a31, a32);
        }
    }

    /// <summary>The sweep back through P monomials at a time and all their children x_i times them, i ≤ v.</summary>
    /// <remarks>
    /// For every child z = Σ_l slope[child][l] c[l], and what its own children left with it, is made in registers and used at
    /// once: gradient_i += φ[parent] z, adjoint[parent] += x_i z. Only the parents' adjoints are ever stored.
    /// </remarks>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void Sweep<P>(in SweepTables<T> tables, int parent, int tiles, int* children, int v, bool top)
        where P : struct, ICount
    {
        nint columns = tables.Columns;
        for (int tile = 0; tile < tiles; tile++)
        {
            T* phi = tables.Phi + ((nint)parent * Block);
            T* adjoint = tables.Adjoint + ((nint)parent * Block);
            for (int i = 0; i <= v; i++)
            {
                nint child = children[i] + parent;
                L a00 = L.Zero, a01 = L.Zero, a02 = L.Zero, a10 = L.Zero, a11 = L.Zero, a12 = L.Zero;
                L a20 = L.Zero, a21 = L.Zero, a22 = L.Zero, a30 = L.Zero, a31 = L.Zero, a32 = L.Zero;
                if (!top)
                {
                    T* own = tables.Adjoint + (child * Block);
                    a00 = L.Load(own);
                    a01 = L.Load(own + L.Count);
                    a02 = L.Load(own + (2 * L.Count));
                    if (P.Value > 1)
                    {
                        a10 = L.Load(own + (3 * L.Count));
                        a11 = L.Load(own + (4 * L.Count));
                        a12 = L.Load(own + (5 * L.Count));
                    }

                    if (P.Value > 2)
                    {
                        a20 = L.Load(own + (6 * L.Count));
                        a21 = L.Load(own + (7 * L.Count));
                        a22 = L.Load(own + (8 * L.Count));
                    }

                    if (P.Value > 3)
                    {
                        a30 = L.Load(own + (9 * L.Count));
                        a31 = L.Load(own + (10 * L.Count));
                        a32 = L.Load(own + (11 * L.Count));
                    }
                }

                // Four columns to a turn: with a turn for each, a short loop's end is guessed wrong too often.
                T* s0 = tables.Slope + (child * columns), s1 = s0 + columns, s2 = s1 + columns, s3 = s2 + columns;
                T* c = tables.Factors;
                nint l = 0;
                for (; l < columns - 3; l += 4)
                {
                    Column<P>(c, s0, s1, s2, s3, l, ref a00, ref a01, ref a02, ref a10, ref a11, ref a12, ref a20, ref a21, ref a22, ref a30, ref a31, ref a32);
                    Column<P>(c + Block, s0, s1, s2, s3, l + 1, ref a00, ref a01, ref a02, ref a10, ref a11, ref a12, ref a20, ref a21, ref a22, ref a30, ref a31, ref a32);
                    Column<P>(c + (2 * Block), s0, s1, s2, s3, l + 2, ref a00, ref a01, ref a02, ref a10, ref a11, ref a12, ref a20, ref a21, ref a22, ref a30, ref a31, ref a32);
                    Column<P>(c + (3 * Block), s0, s1, s2, s3, l + 3, ref a00, ref a01, ref a02, ref a10, ref a11, ref a12, ref a20, ref a21, ref a22, ref a30, ref a31, ref a32);
                    c += 4 * Block;
                }

                for (; l < columns; l++)
                {
                    Column<P>(c, s0, s1, s2, s3, l, ref a00, ref a01, ref a02, ref a10, ref a11, ref a12, ref a20, ref a21, ref a22, ref a30, ref a31, ref a32);
                    c += Block;
                }

                T* gradient = tables.Gradient + ((nint)i * Block);
                L g0 = L.MulAdd(L.Load(phi), a00, L.Load(gradient));
                L g1 = L.MulAdd(L.Load(phi + L.Count), a01, L.Load(gradient + L.Count));
                L g2 = L.MulAdd(L.Load(phi + (2 * L.Count)), a02, L.Load(gradient + (2 * L.Count)));
                if (P.Value > 1)
                {
                    g0 = L.MulAdd(L.Load(phi + (3 * L.Count)), a10, g0);
                    g1 = L.MulAdd(L.Load(phi + (4 * L.Count)), a11, g1);
                    g2 = L.MulAdd(L.Load(phi + (5 * L.Count)), a12, g2);
                }

                if (P.Value > 2)
                {
                    g0 = L.MulAdd(L.Load(phi + (6 * L.Count)), a20, g0);
                    g1 = L.MulAdd(L.Load(phi + (7 * L.Count)), a21, g1);
                    g2 = L.MulAdd(L.Load(phi + (8 * L.Count)), a22, g2);
                }

                if (P.Value > 3)
                {
                    g0 = L.MulAdd(L.Load(phi + (9 * L.Count)), a30, g0);
                    g1 = L.MulAdd(L.Load(phi + (10 * L.Count)), a31, g1);
                    g2 = L.MulAdd(L.Load(phi + (11 * L.Count)), a32, g2);
                }

                g0.Store(gradient);
                g1.Store(gradient + L.Count);
                g2.Store(gradient + (2 * L.Count));

                T* x = tables.X + ((nint)i * Block);
                L x0 = L.Load(x), x1 = L.Load(x + L.Count), x2 = L.Load(x + (2 * L.Count));
                if (i == 0)
                {
                    // Every monomial's first child is x_0 times it, so that nothing needs clearing.
                    Put(adjoint, x0 * a00, x1 * a01, x2 * a02);
                    if (P.Value > 1)
                    {
                        Put(adjoint + Block, x0 * a10, x1 * a11, x2 * a12);
                    }

                    if (P.Value > 2)
                    {
                        Put(adjoint + (2 * Block), x0 * a20, x1 * a21, x2 * a22);
                    }

                    if (P.Value > 3)
                    {
                        Put(adjoint + (3 * Block), x0 * a30, x1 * a31, x2 * a32);
                    }
                }
                else
                {
                    Accumulate(adjoint, x0, x1, x2, a00, a01, a02);
                    if (P.Value > 1)
                    {
                        Accumulate(adjoint + Block, x0, x1, x2, a10, a11, a12);
                    }

                    if (P.Value > 2)
                    {
                        Accumulate(adjoint + (2 * Block), x0, x1, x2, a20, a21, a22);
                    }

                    if (P.Value > 3)
                    {
                        Accumulate(adjoint + (3 * Block), x0, x1, x2, a30, a31, a32);
                    }
                }
            }

            parent += P.Value;
        }
    }

    /// <summary>One column's share in the z of P children.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Column<P>(
        T* c, T* s0, T* s1, T* s2, T* s3, nint l, ref L a00, ref L a01, ref L a02, ref L a10, ref L a11, ref L a12,
        ref L a20, ref L a21, ref L a22, ref L a30, ref L a31, ref L a32)
        where P : struct, ICount
    {
        L c0 = L.Load(c), c1 = L.Load(c + L.Count), c2 = L.Load(c + (2 * L.Count));
        MulAddRow<Three>(L.Broadcast(s0[l]), c0, c1, c2, ref a00, ref a01, ref a02);
        if (P.Value > 1)
        {
            MulAddRow<Three>(L.Broadcast(s1[l]), c0, c1, c2, ref a10, ref a11, ref a12);
        }

        if (P.Value > 2)
        {
            MulAddRow<Three>(L.Broadcast(s2[l]), c0, c1, c2, ref a20, ref a21, ref a22);
        }

        if (P.Value > 3)
        {
            MulAddRow<Three>(L.Broadcast(s3[l]), c0, c1, c2, ref a30, ref a31, ref a32);
        }
    }

    /// <summary>a += s v for V vectors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void MulAddRow<V>(L s, L v0, L v1, L v2, ref L a0, ref L a1, ref L a2)
        where V : struct, ICount
    {
        a0 = L.MulAdd(s, v0, a0);
        if (V.Value > 1)
        {
            a1 = L.MulAdd(s, v1, a1);
        }

        if (V.Value > 2)
        {
            a2 = L.MulAdd(s, v2, a2);
        }
    }

    /// <summary>One vector of features of four keys.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Grow4(T* from, T* to, nint stride, T* x, nint xStride)
    {
        L a0 = L.Broadcast(*x) * L.Load(from), a1 = L.Broadcast(x[xStride]) * L.Load(from + stride);
        L a2 = L.Broadcast(x[2 * xStride]) * L.Load(from + (2 * stride));
        L a3 = L.Broadcast(x[3 * xStride]) * L.Load(from + (3 * stride));
        a0.Store(to);
        a1.Store(to + stride);
        a2.Store(to + (2 * stride));
        a3.Store(to + (3 * stride));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddRow<V>(T* at, L a0, L a1, L a2)
        where V : struct, ICount
    {
        (L.Load(at) + a0).Store(at);
        if (V.Value > 1)
        {
            (L.Load(at + L.Count) + a1).Store(at + L.Count);
        }

        if (V.Value > 2)
        {
            (L.Load(at + (2 * L.Count)) + a2).Store(at + (2 * L.Count));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Put(T* at, L a0, L a1, L a2)
    {
        a0.Store(at);
        a1.Store(at + L.Count);
        a2.Store(at + (2 * L.Count));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Accumulate(T* at, L x0, L x1, L x2, L a0, L a1, L a2) => Put(
        at, L.MulAdd(x0, a0, L.Load(at)), L.MulAdd(x1, a1, L.Load(at + L.Count)), L.MulAdd(x2, a2, L.Load(at + (2 * L.Count))));
}

/// <summary>The tables of one block of queries that the sweep back reads and writes; a row is a block long.</summary>
/// <param name="slope">b̂_|β| W_β M_β, [monomial][columns].</param>
/// <param name="factors">c and −r, [columns] rows.</param>
/// <param name="x">The queries, [d] rows.</param>
/// <param name="phi">Their features, [monomial] rows.</param>
/// <param name="adjoint">Scratch, a row a feature.</param>
/// <param name="gradient">dQ D, [d] rows, added to.</param>
internal unsafe readonly struct SweepTables<T>(
    T* slope, T* factors, T* x, T* phi, T* adjoint, T* gradient, int columns)
    where T : unmanaged
{
    public readonly T* Slope = slope, Factors = factors, X = x, Phi = phi, Adjoint = adjoint, Gradient = gradient;
    public readonly int Columns = columns;
}
