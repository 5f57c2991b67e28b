using Experiments.Kernels.Instances;

namespace Experiments.Kernels.Tests.Instances;

public sealed class PhiloxTests
{
    // The known answers that come with the authors' Random123 library (kat_vectors, philox4x32 10).
    [Theory]
    [InlineData("00000000 00000000 00000000 00000000 00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8")]
    [InlineData("ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd")]
    [InlineData("243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1")]
    public void The_published_answers_are_given(string counterAndKey, string answer)
    {
        uint[] w = [.. counterAndKey.Split(' ').Select(x => Convert.ToUInt32(x, 16))];
        (uint r0, uint r1, uint r2, uint r3) = Philox.Block(w[0], w[1], w[2], w[3], w[4], w[5]);
        Assert.Equal(answer, $"{r0:x8} {r1:x8} {r2:x8} {r3:x8}");
    }

    [Fact]
    public void Numbers_of_one_stream_differ_and_do_not_depend_on_the_order()
    {
        HashSet<ulong> seen = [];
        for (ulong i = 0; i < 1000; i++)
        {
            Assert.True(seen.Add(Philox.Bits(7, 1, i)));
            Assert.True(seen.Add(Philox.Bits(7, 2, i)));
            Assert.True(seen.Add(Philox.Bits(8, 1, i)));
        }

        Assert.Equal(Philox.Bits(7, 1, 500), Philox.Bits(7, 1, 500));
    }

    [Theory]
    [InlineData(0.975, 1.959963984540054)]
    [InlineData(0.99, 2.3263478740408408)]
    [InlineData(0.5, 0)]
    [InlineData(1e-10, -6.361340902404056)]
    [InlineData(1e-16, -8.222082216130435)]
    [InlineData(0.3, -0.5244005127080407)]
    public void The_normal_quantile_is_the_tabulated_one(double p, double x) => Assert.Equal(x, Normal.Quantile(p), 4e-15);

    [Fact]
    public void The_logarithm_is_the_platform_s_to_an_ulp_or_two()
    {
        for (double x = 1e-300; x < 1e300; x *= 1.7)
        {
            Assert.Equal(Math.Log(x), Normal.Log(x), Math.Max(1, Math.Abs(Math.Log(x))) * 5e-16);
        }
    }
}
