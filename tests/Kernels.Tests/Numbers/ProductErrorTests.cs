using System.Numerics;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Tests.Numbers;

public sealed class ProductErrorTests
{
    [Fact]
    public void What_is_split_in_halves_is_what_a_fused_multiply_add_leaves()
    {
        Random random = new(17);
        for (int i = 0; i < 200_000; i++)
        {
            // Exponents such that neither the product nor its error leaves the range.
            double a = Draw(random), b = Draw(random), p = a * b;
            double error = Math.FusedMultiplyAdd(a, b, -p);
            Assert.Equal(error, ProductError.Split(a, b, p));
            Assert.Equal(error, ProductError.Of(a, b, p));
            Assert.Equal(new Vector<double>(error), ProductError.Split(new Vector<double>(a), new Vector<double>(b), new Vector<double>(p)));
            Assert.Equal(new Vector<double>(error), ProductError.Of(new Vector<double>(a), new Vector<double>(b), new Vector<double>(p)));
        }
    }

    [Theory]
    [InlineData(1.7e308, 0.3)]
    [InlineData(0.7, 1.2e305)]
    [InlineData(-3.3e300, 1.1e-10)]
    public void A_factor_too_large_to_be_split_is_no_wrong_number(double a, double b)
    {
        double p = a * b;
        Assert.Equal(Math.FusedMultiplyAdd(a, b, -p), ProductError.Split(a, b, p));
        Assert.True(double.IsNaN(ProductError.Split(new Vector<double>(a), new Vector<double>(b), new Vector<double>(p))[0])
            || ProductError.Split(new Vector<double>(a), new Vector<double>(b), new Vector<double>(p))[0] == Math.FusedMultiplyAdd(a, b, -p));
    }

    private static double Draw(Random random) =>
        (random.Next(2) == 0 ? -1 : 1) * (1 + random.NextDouble()) * Math.ScaleB(1, random.Next(-200, 200));
}
