using System.Numerics;
using System.Runtime.CompilerServices;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.AttentionGradient.Exact;

/// <summary>The micro-kernels of the exact gradient: four numbers broadcast against three vectors of rows.</summary>
/// <remarks>
/// A block is W = 3 <see cref="ILanes{TSelf,T}.Count"/> rows, one to a lane; [key][W] and [column][W] arrays have a block's rows side by
/// side. Twelve accumulators hide the latency of the multiply-adds and leave four of AVX2's sixteen registers to feed them. No
/// operation crosses lanes, so every row's sums run over the keys in their order, whatever the width.
/// </remarks>
internal static unsafe class Tiles<V, T>
    where V : struct, ILanes<V, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    /// <summary>Rows in a block.</summary>
    public static int Width => 3 * V.Count;

    /// <summary>out[j] = ending(start + Σ_k a[j][k] b[k]) for j below <paramref name="count"/>; each of start, b[k], out[j] is W numbers.</summary>
    /// <param name="stride">Numbers from one row of a to the next.</param>
    /// <param name="depth">How many k.</param>
    /// <param name="factor">What the ending takes beside the sum, laid out as out; unread by most.</param>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void Dot<TEnding>(T* a, int stride, int count, T* b, int depth, T* start, T* factor, T* to)
        where TEnding : struct, IEnding<V, T>
    {
        int w = V.Count, j = 0;
        for (; j <= count - 4; j += 4)
        {
            T* a0 = a + ((long)j * stride), a1 = a0 + stride, a2 = a1 + stride, a3 = a2 + stride, x = b;
            V c00 = V.Load(start), c01 = V.Load(start + w), c02 = V.Load(start + (2 * w));
            V c10 = c00, c11 = c01, c12 = c02, c20 = c00, c21 = c01, c22 = c02, c30 = c00, c31 = c01, c32 = c02;
            for (int k = 0; k < depth; k++)
            {
                V x0 = V.Load(x), x1 = V.Load(x + w), x2 = V.Load(x + (2 * w));
                V y = V.Broadcast(a0[k]);
                c00 = V.MulAdd(y, x0, c00);
                c01 = V.MulAdd(y, x1, c01);
                c02 = V.MulAdd(y, x2, c02);
                y = V.Broadcast(a1[k]);
                c10 = V.MulAdd(y, x0, c10);
                c11 = V.MulAdd(y, x1, c11);
                c12 = V.MulAdd(y, x2, c12);
                y = V.Broadcast(a2[k]);
                c20 = V.MulAdd(y, x0, c20);
                c21 = V.MulAdd(y, x1, c21);
                c22 = V.MulAdd(y, x2, c22);
                y = V.Broadcast(a3[k]);
                c30 = V.MulAdd(y, x0, c30);
                c31 = V.MulAdd(y, x1, c31);
                c32 = V.MulAdd(y, x2, c32);
                x += 3 * w;
            }

            long at = (long)j * 3 * w;
            End<TEnding>(c00, c01, c02, factor + at, to + at);
            at += 3 * w;
            End<TEnding>(c10, c11, c12, factor + at, to + at);
            at += 3 * w;
            End<TEnding>(c20, c21, c22, factor + at, to + at);
            at += 3 * w;
            End<TEnding>(c30, c31, c32, factor + at, to + at);
        }

        for (; j < count; j++)
        {
            T* a0 = a + ((long)j * stride), x = b;
            V c0 = V.Load(start), c1 = V.Load(start + w), c2 = V.Load(start + (2 * w));
            for (int k = 0; k < depth; k++)
            {
                V y = V.Broadcast(a0[k]);
                c0 = V.MulAdd(y, V.Load(x), c0);
                c1 = V.MulAdd(y, V.Load(x + w), c1);
                c2 = V.MulAdd(y, V.Load(x + (2 * w)), c2);
                x += 3 * w;
            }

            long at = (long)j * 3 * w;
            End<TEnding>(c0, c1, c2, factor + at, to + at);
        }
    }

    /// <summary>s[j] = 2^s[j] in place, and sums += Σ_j s[j], for j below <paramref name="count"/>; each of s[j], sums is W numbers.
    /// A range that is watched adds Σ_j s[j]² and Σ_j s[j]³ to the W numbers after the sums and those after them, and keeps the largest in the
    /// next W.</summary>
    /// <remarks>A loop of its own, after <see cref="Dot"/> has left the logits in the first-level cache: beside twelve accumulators
    /// there is no register for a constant.</remarks>
    /// <typeparam name="TRange">How far the logits may lie apart.</typeparam>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void Powers<TRange>(T* s, int count, T* sums)
        where TRange : struct, IRange
    {
        int w = V.Count;
        T* constants = stackalloc T[Exponential<V, T>.Constants];
        Exponential<V, T>.SetConstants(constants);
        V least = V.Broadcast(Exponential<V, T>.Least);
        V s0 = V.Load(sums), s1 = V.Load(sums + w), s2 = V.Load(sums + (2 * w));
        T* squares = sums + (3 * w), cubes = squares + (3 * w), largest = cubes + (3 * w);
        V q0 = V.Zero, q1 = V.Zero, q2 = V.Zero, t0 = V.Zero, t1 = V.Zero, t2 = V.Zero, m0 = V.Zero, m1 = V.Zero, m2 = V.Zero;
        if (TRange.IsWatched)
        {
            (q0, q1, q2) = (V.Load(squares), V.Load(squares + w), V.Load(squares + (2 * w)));
            (t0, t1, t2) = (V.Load(cubes), V.Load(cubes + w), V.Load(cubes + (2 * w)));
            (m0, m1, m2) = (V.Load(largest), V.Load(largest + w), V.Load(largest + (2 * w)));
        }

        for (int j = 0; j < count; j++)
        {
            V x0 = V.Load(s), x1 = V.Load(s + w), x2 = V.Load(s + (2 * w));
            if (TRange.IsOpen)
            {
                x0 = V.Max(x0, least);
                x1 = V.Max(x1, least);
                x2 = V.Max(x2, least);
            }

            Exponential<V, T>.PowersOfTwo(constants, ref x0, ref x1, ref x2);
            x0.Store(s);
            x1.Store(s + w);
            x2.Store(s + (2 * w));
            s0 += x0;
            s1 += x1;
            s2 += x2;
            if (TRange.IsWatched)
            {
                V y0 = x0 * x0, y1 = x1 * x1, y2 = x2 * x2;
                q0 += y0;
                q1 += y1;
                q2 += y2;
                t0 = V.MulAdd(x0, y0, t0);
                t1 = V.MulAdd(x1, y1, t1);
                t2 = V.MulAdd(x2, y2, t2);
                m0 = V.Max(m0, x0);
                m1 = V.Max(m1, x1);
                m2 = V.Max(m2, x2);
            }

            s += 3 * w;
        }

        s0.Store(sums);
        s1.Store(sums + w);
        s2.Store(sums + (2 * w));
        if (TRange.IsWatched)
        {
            q0.Store(squares);
            q1.Store(squares + w);
            q2.Store(squares + (2 * w));
            t0.Store(cubes);
            t1.Store(cubes + w);
            t2.Store(cubes + (2 * w));
            m0.Store(largest);
            m1.Store(largest + w);
            m2.Store(largest + (2 * w));
        }
    }

    /// <summary>sums[c] += Σ_j x[j][c] f[j] for four columns c and j below <paramref name="count"/>; each of f[j], sums[c] is W numbers.</summary>
    [MethodImpl(MethodImplOptions.NoInlining | MethodImplOptions.AggressiveOptimization)]
    public static void Accumulate(T* x, int stride, T* f, int count, T* sums)
    {
        int w = V.Count;
        T* o0 = sums, o1 = o0 + (3 * w), o2 = o1 + (3 * w), o3 = o2 + (3 * w);
        V c00 = V.Load(o0), c01 = V.Load(o0 + w), c02 = V.Load(o0 + (2 * w));
        V c10 = V.Load(o1), c11 = V.Load(o1 + w), c12 = V.Load(o1 + (2 * w));
        V c20 = V.Load(o2), c21 = V.Load(o2 + w), c22 = V.Load(o2 + (2 * w));
        V c30 = V.Load(o3), c31 = V.Load(o3 + w), c32 = V.Load(o3 + (2 * w));
        for (int j = 0; j < count; j++)
        {
            V f0 = V.Load(f), f1 = V.Load(f + w), f2 = V.Load(f + (2 * w));
            V y = V.Broadcast(x[0]);
            c00 = V.MulAdd(y, f0, c00);
            c01 = V.MulAdd(y, f1, c01);
            c02 = V.MulAdd(y, f2, c02);
            y = V.Broadcast(x[1]);
            c10 = V.MulAdd(y, f0, c10);
            c11 = V.MulAdd(y, f1, c11);
            c12 = V.MulAdd(y, f2, c12);
            y = V.Broadcast(x[2]);
            c20 = V.MulAdd(y, f0, c20);
            c21 = V.MulAdd(y, f1, c21);
            c22 = V.MulAdd(y, f2, c22);
            y = V.Broadcast(x[3]);
            c30 = V.MulAdd(y, f0, c30);
            c31 = V.MulAdd(y, f1, c31);
            c32 = V.MulAdd(y, f2, c32);
            f += 3 * w;
            x += stride;
        }

        c00.Store(o0);
        c01.Store(o0 + w);
        c02.Store(o0 + (2 * w));
        c10.Store(o1);
        c11.Store(o1 + w);
        c12.Store(o1 + (2 * w));
        c20.Store(o2);
        c21.Store(o2 + w);
        c22.Store(o2 + (2 * w));
        c30.Store(o3);
        c31.Store(o3 + w);
        c32.Store(o3 + (2 * w));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void End<TEnding>(V c0, V c1, V c2, T* factor, T* to)
        where TEnding : struct, IEnding<V, T>
    {
        int w = V.Count;
        TEnding.Of(c0, factor).Store(to);
        TEnding.Of(c1, factor + w).Store(to + w);
        TEnding.Of(c2, factor + (2 * w)).Store(to + (2 * w));
    }
}

/// <summary>What becomes of a finished dot product.</summary>
internal unsafe interface IEnding<V, T>
    where V : struct, ILanes<V, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    static abstract V Of(V sum, T* factor);
}

/// <summary>The sum itself.</summary>
internal readonly unsafe struct Plain<V, T> : IEnding<V, T>
    where V : struct, ILanes<V, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Of(V sum, T* factor) => sum;
}

/// <summary>The sum times a factor.</summary>
internal readonly unsafe struct Times<V, T> : IEnding<V, T>
    where V : struct, ILanes<V, T>
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static V Of(V sum, T* factor) => sum * V.Load(factor);
}

/// <summary>What is known of a tile's logits, and so what must be done beside 2^s and its sum.</summary>
internal interface IRange
{
    /// <summary>Whether a logit may lie below the range of 2^x; it then counts as the least number in it.</summary>
    static abstract bool IsOpen { get; }

    /// <summary>Whether a key, or keys that tie, may have nearly all of a row, which the squares and the largest tell.</summary>
    static abstract bool IsWatched { get; }
}

/// <summary>Logits so near to each other that no key can have much of a row.</summary>
internal readonly struct Narrow : IRange
{
    public static bool IsOpen => false;

    public static bool IsWatched => false;
}

/// <summary>Logits that stay within the range of 2^x.</summary>
internal readonly struct Wide : IRange
{
    public static bool IsOpen => false;

    public static bool IsWatched => true;
}

/// <summary>Any logits, less the row's largest.</summary>
internal readonly struct Open : IRange
{
    public static bool IsOpen => true;

    public static bool IsWatched => true;
}

/// <summary>Any logits, less the row's largest, of rows that were watched before.</summary>
internal readonly struct Again : IRange
{
    public static bool IsOpen => true;

    public static bool IsWatched => false;
}
