using System.Runtime.InteropServices;
using System.Security.Cryptography;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Contract;
using Experiments.Kernels.Instances;

namespace Experiments.Kernels.Tests.Instances;

public sealed class FamilyTests
{
    public static TheoryData<string> Drawn => ["uniform", "gaussian", "corner", "planted"];

    // Made once from this code; they hold it to the same bits on every machine and in every later version.
    [Theory]
    [InlineData("uniform", "19D6A2D6024EFF78")]
    [InlineData("gaussian", "2C1700D35E57A74A")]
    [InlineData("corner", "FE8741EA960236A3")]
    [InlineData("planted", "A4CE3CA461E27E22")]
    [InlineData("sat", "BC637AFED3023869")]
    public void An_instance_is_the_same_bits_for_ever(string family, string digest)
    {
        AttentionProblem<double> problem = Draw(family, 33, 5, 1.7, 0x0123456789ABCDEF);
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (double[] matrix in (double[][])[problem.A1, problem.A2, problem.A3, problem.E, problem.X, problem.Y])
        {
            // -0.0 and 0.0 are one number.
            hash.AppendData(MemoryMarshal.AsBytes<double>(Array.ConvertAll(matrix, v => v + 0.0)));
        }

        Assert.Equal(digest, Convert.ToHexString(hash.GetHashAndReset())[..16]);
    }

    [Theory]
    [MemberData(nameof(Drawn))]
    [InlineData("sat")]
    public void A_family_that_is_drawn_keeps_the_contract(string family)
    {
        IInstanceFamily drawn = BuiltIn.Family(family);
        Assert.All(
            FamilyContract.Check(drawn, KernelContract.Usual(drawn.Axes, new Dictionary<string, object>())),
            result => Assert.True(result.Holds, $"{result.Rule}: {result.Detail}"));
    }

    [Theory]
    [MemberData(nameof(Drawn))]
    public void The_bound_is_hit_exactly(string family)
    {
        foreach ((int n, int d, double bound) in ((int, int, double)[])[(1, 1, 0.3), (2, 3, 1), (40, 4, 1.1), (130, 7, 17.3)])
        {
            AttentionProblem<double> problem = Draw(family, n, d, bound, (ulong)n);
            Assert.Equal(bound, problem.A2.Max(Math.Abs));
            Assert.Equal(bound, Problems.Product(problem.A1, problem.X, n, d).Max(Math.Abs));
            Assert.Null(problem.FirstNonFinite());
            Assert.All(problem.A3.Concat(problem.E), v => Assert.InRange(v, -1, 1));
        }
    }

    [Theory]
    [InlineData("uniform")]
    [InlineData("gaussian")]
    [InlineData("corner")]
    public void A_drawing_that_is_cancelled_on_its_way_ends(string family)
    {
        using CancellationTokenSource soon = new();
        InstanceRequest request = new(1 << 20, 16, 1, 3, Settings.None) { Cancellation = soon.Token };

        // Some seconds of drawing; what is cancelled before it has begun ends as well, so the outcome depends on no time.
        soon.CancelAfter(TimeSpan.FromMilliseconds(30));
        Assert.Throws<OperationCanceledException>(() => BuiltIn.Family(family).Draw(request));
    }

    [Fact]
    public void X_and_Y_are_signed_permutations_and_differ()
    {
        AttentionProblem<double> problem = Draw("uniform", 8, 6, 1, 3);
        foreach (double[] matrix in (double[][])[problem.X, problem.Y])
        {
            for (int k = 0; k < 6; k++)
            {
                Assert.Equal(1, Enumerable.Range(0, 6).Sum(c => Math.Abs(matrix[(k * 6) + c])));
                Assert.Equal(1, Enumerable.Range(0, 6).Sum(c => Math.Abs(matrix[(c * 6) + k])));
            }
        }

        Assert.NotEqual(problem.X, problem.Y);
    }

    [Fact]
    public void Another_key_is_another_instance()
    {
        Assert.NotEqual(Draw("uniform", 8, 3, 1, 1).A1, Draw("uniform", 8, 3, 1, 2).A1);
        Assert.NotEqual(Draw("uniform", 8, 3, 1, 1).A3, Draw("uniform", 8, 3, 1, 1).E);
    }

    [Fact]
    public void The_laws_are_what_the_names_say()
    {
        double[] uniform = Draw("uniform", 20_000, 1, 1, 1).A2;
        Assert.Equal(0, uniform.Average(), 0.02);
        Assert.Equal(1 / 3.0, uniform.Average(x => x * x), 0.02);

        double[] gaussian = Draw("gaussian", 20_000, 1, 1, 1).A2;
        double variance = gaussian.Average(x => x * x);
        Assert.Equal(0, gaussian.Average() / Math.Sqrt(variance), 0.03);
        Assert.Equal(3, gaussian.Average(x => x * x * x * x) / variance / variance, 0.3);

        double[] corner = Draw("corner", 20_000, 1, 2, 1).A2;
        Assert.All(corner, x => Assert.Equal(2, Math.Abs(x)));
        Assert.Equal(0, corner.Average(), 0.1);
    }

    [Fact]
    public void Planted_logits_reach_the_square_of_the_bound_on_both_sides()
    {
        double[] s = Problems.Logits(Draw("planted", 50, 6, 1.5, 9));
        Assert.Equal(2.25, s.Max(), 1e-14);
        Assert.Equal(-2.25, s.Min(), 1e-14);
        Assert.Equal(2, s.Count(x => x > 2.2499));
        Assert.Throws<ArgumentException>(() => new PlantedFamily().Draw(
            new(8, 2, 1.0, 1, Problems.Set(("planted_rows", 9L)))));
    }

    [Fact]
    public void An_impossible_request_says_what_to_do()
    {
        UniformFamily family = new();
        Assert.Contains("at least 1", Assert.Throws<ArgumentException>(() => family.Draw(new(0, 2, 1.0, 1, Settings.None))).Message);
        Assert.Contains("bound: 1", Assert.Throws<ArgumentException>(() => family.Draw(new(2, 2, null, 1, Settings.None))).Message);
        Assert.Contains("bound = -1", Assert.Throws<ArgumentException>(() => family.Draw(new(2, 2, -1, 1, Settings.None))).Message);
        Assert.Contains("2^31", Assert.Throws<ArgumentException>(
            () => family.Draw(new(1 << 30, 4, 1.0, 1, Settings.None))).Message);
    }

    private static AttentionProblem<double> Draw(string family, int n, int d, double bound, ulong key) =>
        BuiltIn.Family(family).Draw(new(n, d, bound, key, Settings.None));

    [Fact]
    public void A_file_that_changed_since_the_sweep_was_made_is_refused()
    {
        string folder = Directory.CreateTempSubdirectory("experiments-files-").FullName;
        try
        {
            string file = Path.Combine(folder, "tokens.npy");
            NpyFile.Write(file, [1.0, 2, 3, 4], 4, 1);
            string content = Convert.ToHexStringLower(SHA256.HashData(File.ReadAllBytes(file)).AsSpan(0, 16));
            Dictionary<string, object> settings = new() { ["folder"] = folder };
            foreach (string matrix in (string[])["a1", "a2", "a3", "e"])
            {
                settings[matrix] = "tokens[0:4, 0:1]";
                settings["content_" + matrix] = content;
            }

            InstanceRequest request = new(4, 1, null, 0, new Settings(settings));
            FilesFamily family = new();
            Assert.Equal([1.0, 2, 3, 4], family.Draw(request).A1);

            NpyFile.Write(file, [1.0, 2, 3, 5], 4, 1);
            File.SetLastWriteTimeUtc(file, new DateTime(2001, 2, 3, 4, 5, 6, DateTimeKind.Utc));
            InvalidDataException fault = Assert.Throws<InvalidDataException>(() => family.Draw(request));
            Assert.Contains("has changed since the sweep was made", fault.Message, StringComparison.Ordinal);
            Assert.Contains(content, fault.Message, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void Numbers_that_a_file_got_after_it_was_opened_never_go_by_its_hash()
    {
        string folder = Directory.CreateTempSubdirectory("experiments-files-").FullName;
        try
        {
            // One that is kept in memory, and one that is read anew each time.
            foreach (int rows in (int[])[4, (9 << 20) + 1])
            {
                string file = Path.Combine(folder, $"{rows}.npy");
                NpyFile.Write(file, new double[rows], rows, 1);
                MatrixCache.Matrix opened = MatrixCache.Open(file);
                File.SetLastWriteTimeUtc(file, new DateTime(2001, 2, 3, 4, 5, 6, DateTimeKind.Utc));
                Assert.Contains("was changed while it was read", Assert.Throws<InvalidDataException>(() => opened.Content).Message, StringComparison.Ordinal);
                Assert.Throws<InvalidDataException>(() => opened.Read(0, 4, 0, 1));
                Assert.Equal(new double[4], MatrixCache.Open(file).Read(0, 4, 0, 1));
                File.Delete(file);
                Assert.Throws<InvalidDataException>(() => opened.Read(0, 4, 0, 1));
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
