using System.Numerics;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.AttentionGradient.Exact;
using Experiments.Kernels.Contract;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Tests.AttentionGradient;

/// <summary>Which way <c>exact</c> does a row is told from sums in the row's own lane, over all spans and tiles of keys: each found by a fault that no
/// other test saw.</summary>
public sealed class RowsInLanesTests(ITestOutputHelper log)
{
    // A call of which takes the shared cache for crowded.
    private const int Many = 1024;

    /// <summary>Beside them are rows of other logits: what is summed in a lane from a neighbour's exponentials tells nothing of the lane's own.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(17)]
    [InlineData(47)]
    public void A_row_that_a_crowd_of_equal_keys_shares_is_told_whatever_rows_lie_beside_it(int lane)
    {
        // A multiple of every width's block: one row of it, in its first, second or last third.
        const int N = 528, D = 4, Block = 48;
        int[] rows = [.. Enumerable.Range(0, N).Where(i => i % Block == lane)];
        Hold(Crowd(N, D, firstOfCrowd: 1, i => i % Block == lane), [.. Enumerable.Range(0, N)], rows);
    }

    /// <summary>What a call with more threads, or on a machine with more processors, shares and keeps of the caches' contents shows in its time
    /// alone: an ample cache and none to speak of, keys and values in a core's own cache, in the shared one and in memory; and so much of the
    /// shared one that a chunk's blocks pass one by one, though their sums are of four.</summary>
    [Theory]
    [InlineData(6000, 8, false)]
    [InlineData(3000, 40, false)]
    [InlineData(3000, 40, true)]
    [InlineData(4200, 256, false)]
    [InlineData(4200, 256, true)]
    [InlineData(8600, 76, true)]
    public void The_bits_depend_neither_on_how_many_blocks_share_a_tile_nor_on_whether_exponentials_wait(int n, int d, bool causal)
    {
        AttentionProblem<double> drawn = RandomProblem.Unscaled(4, n, d);
        RandomProblem.Scale(drawn.A1, 0.1);
        AttentionProblem<float> problem = drawn.With(drawn.Scale, causal).To<float>();
        GradientOutput<float> gold = Problems.RunAll("exact", problem), other = Problems.RunAll("exact", problem, null, Many);
        log.WriteLine($"{Reuse.For(n, d, Tiles<Lanes256<float>, float>.Width, sizeof(float), 1)} and of more threads "
            + $"{Reuse.For(n, d, Tiles<Lanes256<float>, float>.Width, sizeof(float), Many)}");
        Assert.Equal(gold.DX, other.DX);
        Assert.Equal(gold.DY, other.DY);
        Assert.Equal(gold.DQ, other.DQ);
        Assert.Equal(gold.DK, other.DK);
        Assert.Equal(gold.DV, other.DV);
        Assert.Equal(gold.Forward, other.Forward);
        Assert.Equal(gold.Loss, other.Loss);
    }

    /// <summary>From d = 64 on the chunks' shares are added up in pieces, of which the last is short, by all threads: the loss and dY's last entries stand there.</summary>
    [Theory]
    [InlineData(64)]
    [InlineData(91)]
    [InlineData(128)]
    public void Shares_of_many_columns_are_added_up_whole(int d)
    {
        AttentionProblem<double> problem = RandomProblem.Unscaled(5, 300, d);
        RandomProblem.Scale(problem.A1, 0.1);
        GradientOutput<double> gold = Problems.RunAll("reference", problem);
        foreach (int threads in (int[])[1, 3])
        {
            GradientOutput<double> output = Problems.RunAll("exact", problem, null, threads);
            Assert.Equal(gold.Loss, output.Loss, 1e-12 * gold.Loss);
            foreach ((double[] mine, double[] right) in (ReadOnlySpan<(double[], double[])>)[(output.DX, gold.DX), (output.DY, gold.DY)])
            {
                double largest = right.Max(Math.Abs);
                Assert.All(mine.Zip(right), e => Assert.Equal(e.Second, e.First, 1e-11 * largest));
            }
        }
    }

    /// <summary>The sums of a group of blocks are whole groups' whoever shares, and what waits is no more than the machine is said to have room for.</summary>
    [Fact]
    public void Blocks_that_share_a_tile_are_part_of_a_group_or_whole_groups()
    {
        foreach (int n in (int[])[1, 100, 3000, 60_000, 1_000_000, 40_000_000])
        {
            foreach (int stride in (int[])[4, 8, 32, 64, 256, 4096])
            {
                foreach (int processors in (int[])[1, 2, 7, 64, 4096])
                {
                    Reuse reuse = Reuse.For(n, stride, 24, sizeof(float), processors);
                    Assert.True(reuse.Blocks is 1 or 2 || (reuse.Blocks > 0 && reuse.Blocks % Reuse.Group == 0), $"{n}, {stride}, {processors}: {reuse}");
                    Assert.All(Enumerable.Range(1, 200), blocks => Assert.True(
                        reuse.Of(blocks) <= reuse.Blocks && (reuse.Of(blocks) is 1 or 2 || reuse.Of(blocks) % Reuse.Group == 0 || reuse.Of(blocks) == blocks),
                        $"{reuse} of {blocks}: {reuse.Of(blocks)}"));
                    double waiting = 96.0 * n * reuse.Blocks;
                    Assert.True(
                        !reuse.Keeps || waiting * processors <= 256 << 20 || (reuse.Blocks == 1 && waiting <= 512 << 10),
                        $"{n}, {stride}, {processors}: {reuse}");
                }
            }
        }

        Assert.Equal(new(1, true), Reuse.For(4096, 8, 24, sizeof(float), 1));
        Assert.Equal(new(1, true), Reuse.For(4096, 8, 24, sizeof(float), 4096));
        Assert.False(Reuse.For(1_000_000, 8, 24, sizeof(float), 1).Keeps);
        Assert.True(Reuse.For(65_536, 64, 24, sizeof(float), 1).Blocks > 1);
    }

    /// <summary>So many threads that their exponentials are not kept, but made again tile by tile; the crowd is not among the first.</summary>
    [Fact]
    public void A_row_that_a_crowd_of_equal_keys_shares_is_told_where_exponentials_are_made_again()
    {
        const int N = 60_000, D = 2;
        int[] rows = [.. Enumerable.Range(0, 48).Select(i => 1000 * i)];
        Assert.False(Reuse.For(N, 4, Tiles<LanesScalar<float>, float>.Width, sizeof(float), Many).Keeps);
        Hold(Crowd(N, D, firstOfCrowd: N / 2, _ => true), rows, rows, Many);
    }

    /// <summary>Every other 48 rows are dominated, so that of blocks that share a tile the last has no second half to make and the first has.</summary>
    [Fact]
    public void A_block_is_done_to_its_end_though_all_rows_of_one_that_shares_its_tiles_are_dominated()
    {
        const int N = 5600, D = 25, Half = 48;

        // On so many threads four blocks share and no exponentials wait, of vectors of four numbers on; on eight no two blocks share.
        const int Threads = 1 << 20;
        Assert.Equal(new(Reuse.Group, false), Reuse.For(N, D + 3, Tiles<Lanes256<double>, double>.Width, sizeof(double), Threads));
        Assert.Equal(1, Reuse.For(N, D + 3, Tiles<Lanes256<double>, double>.Width, sizeof(double), 8).Blocks);
        AttentionProblem<double> problem = RandomProblem.Unscaled(8, N, D);
        for (int i = 0; i < problem.A1.Length; i++)
        {
            problem.A1[i] *= i / D / Half % 2 == 0 ? 0.1 : 1000;
        }

        GradientOutput<double> gold = Problems.RunAll("exact", problem, null, 8), output = Problems.RunAll("exact", problem, null, Threads);
        Assert.Equal(gold.DQ, output.DQ);
        Assert.Equal(gold.DK, output.DK);
    }

    /// <summary>The largest exponential of a row lies in the first of three spans of keys, and the row's sum is relative to it.</summary>
    [Fact]
    public void The_least_row_sum_is_relative_to_the_largest_of_all_spans_of_keys()
    {
        const int N = 1300;
        AttentionProblem<double> problem = Problems.Random(9, N, 3, 3);
        for (int k = 0; k < 3; k++)
        {
            for (int j = 500; j < N; j++)
            {
                // Not so much less that the row would be taken for one that a key has alone, and done the careful way.
                problem.A2[(j * 3) + k] *= 0.9;
            }
        }

        double gold = Problems.Run("reference", problem).MinRowSumOverN;
        Assert.Equal(gold, Problems.Run("exact", problem).MinRowSumOverN, gold * 1e-12);
        Assert.Equal(gold, Problems.Run("exact", problem.To<float>()).MinRowSumOverN, gold * 1e-4);
    }

    /// <summary>Targets and values far from 0 by the same: c is a difference of numbers that are each ten thousand times as large, and F's own part of
    /// it, which the doubt looks at, is not.</summary>
    [Fact]
    public void Values_and_targets_that_are_far_from_0_by_the_same_keep_the_digits_of_their_difference_in_float32()
    {
        const int N = 200, D = 4;
        AttentionProblem<double> drawn = Problems.Random(8, N, D, 1);
        double[] offset = [12345.678, -23456.789, 34567.891, 4567.8912];
        double[] shift = Problems.Product(offset, drawn.Y, 1, D);
        for (int i = 0; i < N * D; i++)
        {
            drawn.A3[i] += offset[i % D];
            drawn.E[i] += shift[i % D];
        }

        // Not in float64, whose reference has no digits to spare.
        AttentionProblem<float> narrow = drawn.To<float>();
        double single = Problems.Error(Problems.Run("exact", narrow).DX, Problems.Run("reference", narrow.To<double>()).DX) / (1e-6 * 20);
        log.WriteLine($"{single:G3} of the bar");
        Assert.True(single < 1, $"float32: {single:G3} of the bar");
    }

    /// <summary>Said before anything is taken: as a fault of arithmetic in a lane it would say nothing.</summary>
    [Fact]
    public void A_d_whose_sums_are_more_than_an_array_holds_is_refused_with_advice()
    {
        ExactGradient exact = new();
        string message = Assert.Throws<ArgumentException>(() => exact.Predict(100_000, 9000, 4, 2, Settings.None)).Message;
        Assert.Contains("Lower d", message, StringComparison.Ordinal);
        Assert.True(exact.Predict(500, 9000, 4, 2, Settings.None).StateBytes > 0);
    }

    /// <summary>Queries and keys along one direction: half of the keys are one key with logit 10, which has nearly all of the rows that
    /// <paramref name="sees"/> says, but one key's above it; the other rows' logits are small.</summary>
    private static AttentionProblem<double> Crowd(int n, int d, int firstOfCrowd, Func<int, bool> sees)
    {
        AttentionProblem<double> drawn = RandomProblem.Unscaled(3, n, d);
        double[] a1 = new double[n * d], a2 = new double[n * d], x = new double[d * d];
        for (int k = 0; k < d; k++)
        {
            x[(k * d) + k] = d;
        }

        for (int i = 0; i < n; i++)
        {
            bool inCrowd = i >= firstOfCrowd && i < firstOfCrowd + (n / 2);
            a1[i * d] = sees(i) ? 1 : 1e-2;
            a2[i * d] = i == n - 1 ? 10.2 : inCrowd ? 10 : -10;
            for (int k = 1; k < d; k++)
            {
                a1[(i * d) + k] = 1e-3 * drawn.A1[(i * d) + k];
                a2[(i * d) + k] = inCrowd || i == n - 1 ? 0 : drawn.A2[(i * d) + k];
            }
        }

        return new(n, d, a1, a2, drawn.A3, drawn.E, x, drawn.Y);
    }

    /// <summary>dQ of some rows, in float32, against the same by float64, which has digits to spare.</summary>
    private void Hold(AttentionProblem<double> problem, int[] computed, int[] judged, int threads = 2)
    {
        AttentionProblem<float> narrow = problem.To<float>();
        double[] gold = Queries(narrow.To<double>(), computed, judged, threads);
        double error = Problems.Error(Queries(narrow, computed, judged, threads), gold) / (1e-6 * 20);
        log.WriteLine($"dQ: {error:G3} of the bar");
        Assert.True(error < 0.5, $"dQ: {error:G3} of the bar");
    }

    private static T[] Queries<T>(AttentionProblem<T> problem, int[] computed, int[] judged, int threads)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int d = problem.D;
        GradientOutput<T> output = new(computed.Length, d) { DQ = new T[computed.Length * d] };
        new ExactRows(computed).Compute(problem, Settings.None, output, new(TestContext.Current.CancellationToken, threads));
        return [.. judged.SelectMany(row => output.DQ.AsSpan(Array.IndexOf(computed, row) * d, d).ToArray())];
    }
}
