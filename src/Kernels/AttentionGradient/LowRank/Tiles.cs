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

    /// <summary>into[l][β] += Σ_r φ[r][β] y[r][l] for a run of tiles of C columns and V vectors of features.</summary>
    /// <param name="phi">Features, a row a key, <paramref name="phiStride"/> apart; at the run's first feature.</param>
    /// <param name="pieces">Tiles side by side along the features.</param>
    /// <param name="y">Factors, a row a key, <paramref name="yStride"/> apart; at the run's first column.</param>
    /// <param name="tiles">Tiles side by side along the columns.</param>
    /// <param name="into">Sums, a row a column, <paramref name="intoStride"/> apart.</param>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void Outer<C, V>(
        T* phi, nint phiStride, int pieces, T* y, nint yStride, int tiles, int rows, T* into, nint intoStride)
        where C : struct, ICount
        where V : struct, ICount
    {
        for (int piece = 0; piece < pieces; piece++)
        {
            for (int tile = 0; tile < tiles; tile++)
            {
                L a00 = L.Zero, a01 = L.Zero, a02 = L.Zero, a03 = L.Zero;
                L a10 = L.Zero, a11 = L.Zero, a12 = L.Zero, a13 = L.Zero;
                L a20 = L.Zero, a21 = L.Zero, a22 = L.Zero, a23 = L.Zero;
                L a30 = L.Zero, a31 = L.Zero, a32 = L.Zero, a33 = L.Zero;
                T* f = phi;
                T* b = y + (tile * C.Value);
                for (int r = 0; r < rows; r++)
                {
                    if (C.Value < V.Value)
                    {
                        // The fewer stay in registers, the more stream by.
                        L b0 = L.Broadcast(b[0]);
                        L b1 = C.Value > 1 ? L.Broadcast(b[1]) : L.Zero;
                        L b2 = C.Value > 2 ? L.Broadcast(b[2]) : L.Zero;
                        L v = L.Load(f);
                        a00 = L.MulAdd(b0, v, a00);
                        if (C.Value > 1)
                        {
                            a10 = L.MulAdd(b1, v, a10);
                        }

                        if (C.Value > 2)
                        {
                            a20 = L.MulAdd(b2, v, a20);
                        }

                        v = L.Load(f + L.Count);
                        a01 = L.MulAdd(b0, v, a01);
                        if (C.Value > 1)
                        {
                            a11 = L.MulAdd(b1, v, a11);
                        }

                        if (C.Value > 2)
                        {
                            a21 = L.MulAdd(b2, v, a21);
                        }

                        if (V.Value > 2)
                        {
                            v = L.Load(f + (2 * L.Count));
                            a02 = L.MulAdd(b0, v, a02);
                            if (C.Value > 1)
                            {
                                a12 = L.MulAdd(b1, v, a12);
                            }

                            if (C.Value > 2)
                            {
                                a22 = L.MulAdd(b2, v, a22);
                            }
                        }

                        if (V.Value > 3)
                        {
                            v = L.Load(f + (3 * L.Count));
                            a03 = L.MulAdd(b0, v, a03);
                            if (C.Value > 1)
                            {
                                a13 = L.MulAdd(b1, v, a13);
                            }

                            if (C.Value > 2)
                            {
                                a23 = L.MulAdd(b2, v, a23);
                            }
                        }
                    }
                    else
                    {
                        L v0 = L.Load(f);
                        L v1 = V.Value > 1 ? L.Load(f + L.Count) : L.Zero;
                        L v2 = V.Value > 2 ? L.Load(f + (2 * L.Count)) : L.Zero;
                        L s = L.Broadcast(b[0]);
                        a00 = L.MulAdd(s, v0, a00);
                        if (V.Value > 1)
                        {
                            a01 = L.MulAdd(s, v1, a01);
                        }

                        if (V.Value > 2)
                        {
                            a02 = L.MulAdd(s, v2, a02);
                        }

                        if (C.Value > 1)
                        {
                            s = L.Broadcast(b[1]);
                            a10 = L.MulAdd(s, v0, a10);
                            if (V.Value > 1)
                            {
                                a11 = L.MulAdd(s, v1, a11);
                            }

                            if (V.Value > 2)
                            {
                                a12 = L.MulAdd(s, v2, a12);
                            }
                        }

                        if (C.Value > 2)
                        {
                            s = L.Broadcast(b[2]);
                            a20 = L.MulAdd(s, v0, a20);
                            if (V.Value > 1)
                            {
                                a21 = L.MulAdd(s, v1, a21);
                            }

                            if (V.Value > 2)
                            {
                                a22 = L.MulAdd(s, v2, a22);
                            }
                        }

                        if (C.Value > 3)
                        {
                            s = L.Broadcast(b[3]);
                            a30 = L.MulAdd(s, v0, a30);
                            if (V.Value > 1)
                            {
                                a31 = L.MulAdd(s, v1, a31);
                            }

                            if (V.Value > 2)
                            {
                                a32 = L.MulAdd(s, v2, a32);
                            }
                        }
                    }

                    f += phiStride;
                    b += yStride;
                }

                // The rows' sum is made from 0 and then added: two short sums round less than a long one.
                T* at = into + (tile * C.Value * intoStride);
                AddRow<V>(at, a00, a01, a02, a03);
                if (C.Value > 1)
                {
                    AddRow<V>(at + intoStride, a10, a11, a12, a13);
                }

                if (C.Value > 2)
                {
                    AddRow<V>(at + (2 * intoStride), a20, a21, a22, a23);
                }

                if (C.Value > 3)
                {
                    AddRow<V>(at + (3 * intoStride), a30, a31, a32, a33);
                }
            }

            phi += V.Value * L.Count;
            into += V.Value * L.Count;
        }
    }

    /// <summary>Keys whose features are made together: few enough for the level-1 cache, and enough that no product waits for
    /// the one it is made from.</summary>
    public const int FewKeys = 8;

    /// <summary>table[r][To + lane] = x[r][Variable] table[r][From + lane] for every growth in turn and <see cref="FewKeys"/>
    /// keys.</summary>
    /// <remarks>Whole vectors are written, so up to one beyond a range: ranges are made in their order, and what the one spills
    /// the next writes over.</remarks>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void Grow(ReadOnlySpan<FeaturePlan.Growth> growths, T* table, nint stride, T* x, nint xStride)
    {
        foreach (ref readonly FeaturePlan.Growth growth in growths)
        {
            // Written out, as a short loop's end is guessed wrong each time.
            T* from = table + growth.From, to = table + growth.To, factor = x + growth.Variable;
            L a0 = L.Broadcast(*factor) * L.Load(from);
            L a1 = L.Broadcast(factor[xStride]) * L.Load(from + stride);
            L a2 = L.Broadcast(factor[2 * xStride]) * L.Load(from + (2 * stride));
            L a3 = L.Broadcast(factor[3 * xStride]) * L.Load(from + (3 * stride));
            a0.Store(to);
            a1.Store(to + stride);
            a2.Store(to + (2 * stride));
            a3.Store(to + (3 * stride));
            from += 4 * stride;
            to += 4 * stride;
            factor += 4 * xStride;
            a0 = L.Broadcast(*factor) * L.Load(from);
            a1 = L.Broadcast(factor[xStride]) * L.Load(from + stride);
            a2 = L.Broadcast(factor[2 * xStride]) * L.Load(from + (2 * stride));
            a3 = L.Broadcast(factor[3 * xStride]) * L.Load(from + (3 * stride));
            a0.Store(to);
            a1.Store(to + stride);
            a2.Store(to + (2 * stride));
            a3.Store(to + (3 * stride));
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
            L s = L.Broadcast(value[0]);
            a00 = L.MulAdd(s, v0, a00);
            a01 = L.MulAdd(s, v1, a01);
            a02 = L.MulAdd(s, v2, a02);
            s = L.Broadcast(value[1]);
            a10 = L.MulAdd(s, v0, a10);
            a11 = L.MulAdd(s, v1, a11);
            a12 = L.MulAdd(s, v2, a12);
            if (C.Value > 2)
            {
                s = L.Broadcast(value[2]);
                a20 = L.MulAdd(s, v0, a20);
                a21 = L.MulAdd(s, v1, a21);
                a22 = L.MulAdd(s, v2, a22);
            }

            if (C.Value > 3)
            {
                s = L.Broadcast(value[3]);
                a30 = L.MulAdd(s, v0, a30);
                a31 = L.MulAdd(s, v1, a31);
                a32 = L.MulAdd(s, v2, a32);
            }

            phi += Block;
            value += columns;
        }

        AddRow<Three>(sums, a00, a01, a02, L.Zero);
        AddRow<Three>(sums + Block, a10, a11, a12, L.Zero);
        if (C.Value > 2)
        {
            AddRow<Three>(sums + (2 * Block), a20, a21, a22, L.Zero);
        }

        if (C.Value > 3)
        {
            AddRow<Three>(sums + (3 * Block), a30, a31, a32, L.Zero);
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

                T* s0 = tables.Slope + (child * columns), s1 = s0 + columns, s2 = s1 + columns, s3 = s2 + columns;
                T* c = tables.Factors;
                for (nint l = 0; l < columns; l++)
                {
                    L c0 = L.Load(c), c1 = L.Load(c + L.Count), c2 = L.Load(c + (2 * L.Count));
                    L s = L.Broadcast(s0[l]);
                    a00 = L.MulAdd(s, c0, a00);
                    a01 = L.MulAdd(s, c1, a01);
                    a02 = L.MulAdd(s, c2, a02);
                    if (P.Value > 1)
                    {
                        s = L.Broadcast(s1[l]);
                        a10 = L.MulAdd(s, c0, a10);
                        a11 = L.MulAdd(s, c1, a11);
                        a12 = L.MulAdd(s, c2, a12);
                    }

                    if (P.Value > 2)
                    {
                        s = L.Broadcast(s2[l]);
                        a20 = L.MulAdd(s, c0, a20);
                        a21 = L.MulAdd(s, c1, a21);
                        a22 = L.MulAdd(s, c2, a22);
                    }

                    if (P.Value > 3)
                    {
                        s = L.Broadcast(s3[l]);
                        a30 = L.MulAdd(s, c0, a30);
                        a31 = L.MulAdd(s, c1, a31);
                        a32 = L.MulAdd(s, c2, a32);
                    }

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

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void AddRow<V>(T* at, L a0, L a1, L a2, L a3)
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

        if (V.Value > 3)
        {
            (L.Load(at + (3 * L.Count)) + a3).Store(at + (3 * L.Count));
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
