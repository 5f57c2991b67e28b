using System.Numerics;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Tests.Numbers;

public sealed class DoubleDoublesTests
{
    [Fact]
    public void Each_lane_has_the_bits_that_one_number_has()
    {
        Random random = new(5);
        for (int round = 0; round < 1000; round++)
        {
            DoubleDouble[] a = Draw(random), b = Draw(random);
            DoubleDoubles x = Gather(a), y = Gather(b);
            Hold(x + y, j => a[j] + b[j]);
            Hold(x - y, j => a[j] - b[j]);
            Hold(x * y, j => a[j] * b[j]);
            Hold(x * y.High, j => a[j] * b[j].High);
            Hold(DoubleDoubles.Sum(x.High, y.High), j => DoubleDouble.Sum(a[j].High, b[j].High));

            DoubleDouble[] below = [.. a.Select(v => v.High > 0 ? -v : v)];
            Hold(DoubleDoubles.Exp(Gather(below)), j => DoubleDouble.Exp(below[j]));
            DoubleDouble total = DoubleDouble.Zero;
            foreach (DoubleDouble value in a)
            {
                total += value;
            }

            Assert.Equal((total.High, total.Low), (x.Total().High, x.Total().Low));
        }
    }

    [Fact]
    public void Beyond_the_range_of_float64_an_exponential_is_zero_and_that_of_zero_is_one()
    {
        DoubleDoubles none = DoubleDoubles.Exp(new(Vector.Create(-1e9), Vector<double>.Zero));
        Assert.Equal((0.0, 0.0), (none.High[0], none.Low[0]));
        DoubleDoubles one = DoubleDoubles.Exp(DoubleDoubles.Zero);
        Assert.Equal((1.0, 0.0), (one.High[0], one.Low[0]));
    }

    private static DoubleDouble[] Draw(Random random)
    {
        DoubleDouble[] values = new DoubleDouble[DoubleDoubles.Count];
        for (int j = 0; j < values.Length; j++)
        {
            double high = (random.NextDouble() - 0.5) * Math.Pow(10, random.Next(-6, 3));
            values[j] = DoubleDouble.Sum(high, high * (random.NextDouble() - 0.5) * 1e-16);
        }

        return values;
    }

    private static DoubleDoubles Gather(DoubleDouble[] values)
    {
        double[] high = [.. values.Select(v => v.High)], low = [.. values.Select(v => v.Low)];
        return new(new Vector<double>(high), new Vector<double>(low));
    }

    private static void Hold(DoubleDoubles values, Func<int, DoubleDouble> right)
    {
        for (int j = 0; j < DoubleDoubles.Count; j++)
        {
            Assert.Equal((right(j).High, right(j).Low), (values.High[j], values.Low[j]));
        }
    }
}
