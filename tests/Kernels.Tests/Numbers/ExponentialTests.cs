using System.Numerics;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Tests.Numbers;

/// <summary>The exponentials that the kernels make, against the library's, number by number: what the gradient's bars, which have room
/// for the rest of the arithmetic, would let pass.</summary>
public sealed class ExponentialTests(ITestOutputHelper log)
{
    [Fact]
    public void Powers_of_two_are_right_to_about_one_unit_in_the_last_place_over_their_whole_range()
    {
        Powers<LanesScalar<float>, float>(127.49f);
        Powers<LanesScalar<double>, double>(1023.49);
        Powers<Lanes128<float>, float>(127.49f);
        Powers<Lanes256<double>, double>(1023.49);
        Powers<Lanes512<float>, float>(127.49f);
        Powers<Lanes512<double>, double>(1023.49);
    }

    [Fact]
    public void Exponentials_of_dominated_rows_are_right_to_about_one_unit_in_the_last_place_and_0_below_the_range()
    {
        double single = 0, wide = 0;
        for (int i = 0; i <= 200_000; i++)
        {
            double t = -i * (700.0 / 200_000);
            wide = Math.Max(wide, Math.Abs((Lanes.Exp(Vector.Create(t))[0] / Math.Exp(t)) - 1));
            float s = (float)(t / 700 * 86.9);
            single = Math.Max(single, Math.Abs((Lanes.Exp(Vector.Create(s))[0] / Math.Exp(s)) - 1));
        }

        log.WriteLine($"{single / Math.ScaleB(1, -24):G3} and {wide / Math.ScaleB(1, -53):G3} half units");
        Assert.InRange(single, 0, 3 * Math.ScaleB(1, -24));
        Assert.InRange(wide, 0, 3 * Math.ScaleB(1, -53));
        Assert.Equal(1, Lanes.Exp(Vector.Create(0.0))[0]);
        Assert.Equal(0, Lanes.Exp(Vector.Create(-709.0))[0]);
        Assert.Equal(0, Lanes.Exp(Vector.Create(double.NegativeInfinity))[0]);
        Assert.Equal(0, Lanes.Exp(Vector.Create(-87.5f))[0]);
        Assert.True(double.IsNaN(Lanes.Exp(Vector.Create(double.NaN))[0]));
    }

    private unsafe void Powers<V, T>(T most)
        where V : struct, ILanes<V, T>
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        double worst = 0, least = double.CreateTruncating(Exponential<V, T>.Least), range = double.CreateTruncating(most) - least;
        T* lanes = stackalloc T[3 * V.Count], constants = stackalloc T[Exponential<V, T>.Constants];
        Exponential<V, T>.SetConstants(constants);
        const int Points = 100_003;
        for (int i = 0; i < Points; i++)
        {
            T x = T.CreateTruncating(least + (range * i / (Points - 1)));
            Three(x);

            // 2^x = 2^k 2^r: a power of the library's that is good to the last digit, and an exact one.
            double argument = double.CreateTruncating(x), k = Math.Round(argument), gold = Math.Pow(2, argument - k);
            for (int lane = 0; lane < 3 * V.Count; lane++)
            {
                double error = Math.Abs((Math.ScaleB(double.CreateTruncating(lanes[lane]), -(int)k) / gold) - 1);
                worst = double.IsNaN(error) ? double.PositiveInfinity : Math.Max(worst, error);
            }
        }

        for (int k = (int)least; k <= (int)double.CreateTruncating(most); k++)
        {
            Three(T.CreateTruncating(k));
            Assert.All(Enumerable.Range(0, 3 * V.Count), lane => Assert.Equal(Math.ScaleB(1, k), double.CreateTruncating(lanes[lane])));
        }

        // Half a unit for the result's own rounding; in float32 the polynomial itself is off by as much again and half.
        worst /= typeof(T) == typeof(float) ? Math.ScaleB(1, -24) : Math.ScaleB(1, -53);
        log.WriteLine($"{typeof(V).Name}: {worst:G3} half units in the last place");
        Assert.InRange(worst, 0, 4);

        void Three(T x)
        {
            V x0 = V.Broadcast(x), x1 = x0, x2 = x0;
            Exponential<V, T>.PowersOfTwo(constants, ref x0, ref x1, ref x2);
            x0.Store(lanes);
            x1.Store(lanes + V.Count);
            x2.Store(lanes + (2 * V.Count));
        }
    }
}
