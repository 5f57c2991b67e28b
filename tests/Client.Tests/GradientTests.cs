using System.Diagnostics;
using System.Text.Json.Nodes;
using Experiments.Client.Tests.Driving;

namespace Experiments.Client.Tests;

public sealed class GradientTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("exact", "float64", 1e-12)]
    [InlineData("reference", "float64", 1e-12)]
    [InlineData("exact", "float32", 1e-4)]
    public async Task The_gradient_is_that_of_the_definition(string kernel, string precision, double tolerance)
    {
        Matrices inputs = Matrices.Random(37, 5, seed: 11).Save(_folder.Path);
        (double loss, double[] gradient) = inputs.Exact();
        Ran ran = (await Cli.RunAsync("gradient", "--inputs", _folder.Path, "--kernel", kernel, "--precision", precision, "--json"))
            .Expect(ExitCode.Done);
        JsonNode json = JsonNode.Parse(ran.Out)!;
        Assert.Equal(kernel, (string)json["kernel"]!);
        Assert.Equal(precision, (string)json["precision"]!);
        Assert.Equal(37, (int)json["n"]!);
        Assert.Equal(5, (int)json["d"]!);
        Assert.InRange((double)json["loss"]!, loss * (1 - tolerance), loss * (1 + tolerance));
        double[] found = [.. json["gradient"]!.AsArray().SelectMany(row => row!.AsArray()).Select(v => (double)v!)];
        double largest = gradient.Max(Math.Abs);
        Assert.Equal(25, found.Length);
        Assert.All(found.Zip(gradient), pair => Assert.InRange(pair.First - pair.Second, -tolerance * largest, tolerance * largest));
        Assert.Equal(found.Max(Math.Abs), (double)json["max_abs_gradient"]!);
        Assert.True((double)json["seconds"]! > 0);
    }

    [Fact]
    public async Task The_error_of_low_rank_falls_with_its_degree()
    {
        Matrices.Random(64, 4, seed: 3).Save(_folder.Path);
        List<double> errors = [];
        foreach (string degree in (string[])["2", "4", "8"])
        {
            Ran ran = (await Cli.RunAsync(
                "gradient", "--inputs", _folder.Path, "--kernel", "low-rank", "--degree", degree, "--check", "--json")).Expect(ExitCode.Done);
            JsonNode json = JsonNode.Parse(ran.Out)!;
            errors.Add((double)json["gradient_relative_error"]!);
            Assert.True((long)json["rank"]! > 0);
            Assert.Equal(degree, (string)json["settings"]!["degree"]!.ToString());
        }

        Assert.True(errors[0] > errors[1] && errors[1] > errors[2], string.Join(", ", errors));
    }

    [Fact]
    public async Task An_automatic_degree_is_shown_with_the_rank_of_the_chosen_one()
    {
        Matrices.Random(16, 4, seed: 3).Save(_folder.Path);
        string[] line = ["gradient", "--inputs", _folder.Path, "--kernel", "low-rank", "--degree", "auto", "--set", "tolerance=0.01"];
        JsonNode json = JsonNode.Parse((await Cli.RunAsync([.. line, "--json"])).Expect(ExitCode.Done).Out)!;
        int degree = (int)(double)json["fitted_degree"]!;
        long rank = 1;
        for (int i = 1; i <= degree; i++)
        {
            rank = rank * (4 + i) / i;
        }

        Assert.InRange(degree, 1, 23);
        Assert.Equal(rank, (long)json["rank"]!);
        Assert.Contains($"{degree}, by its tolerance", (await Cli.RunAsync(line)).Out, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_widest_file_decides_the_precision()
    {
        Matrices inputs = Matrices.Random(8, 3, seed: 5).Save(_folder.Path, wide: false);
        JsonNode narrow = JsonNode.Parse((await Cli.RunAsync("gradient", "--inputs", _folder.Path, "--kernel", "exact", "--json")).Out)!;
        Assert.Equal("float32", (string)narrow["precision"]!);
        File.WriteAllBytes(_folder.File("y.npy"), Matrices.Npy(inputs.Values["y"], "<f8", false, 3, 3));
        JsonNode wide = JsonNode.Parse((await Cli.RunAsync("gradient", "--inputs", _folder.Path, "--kernel", "exact", "--json")).Out)!;
        Assert.Equal("float64", (string)wide["precision"]!);
    }

    [Fact]
    public async Task The_output_is_written_whole_and_nothing_else_is_left()
    {
        Matrices inputs = Matrices.Random(16, 3, seed: 8).Save(_folder.Path);
        string output = _folder.File("dx.npy");
        Ran ran = (await Cli.RunAsync("gradient", "--inputs", _folder.Path, "--kernel", "reference", "--output", output))
            .Expect(ExitCode.Done);
        Assert.Contains("loss", ran.Out, StringComparison.Ordinal);
        double[] gradient = inputs.Exact().Gradient;
        Assert.All(Matrices.Load(output).Zip(gradient), p => Assert.InRange(p.First - p.Second, -1e-12, 1e-12));
        Assert.Equal(7, Directory.GetFiles(_folder.Path).Length);
    }

    public static TheoryData<string> BadInputs =>
    [
        "missing folder", "missing file", "wrong rows", "wrong columns", "one dimension", "fortran", "big-endian", "truncated",
        "trailing", "integers", "nan", "infinity", "empty", "not npy", "zero rows", "pipe",
    ];

    [Theory]
    [MemberData(nameof(BadInputs))]
    public async Task Bad_inputs_get_one_clear_line(string fault)
    {
        Matrices inputs = Matrices.Random(8, 3, seed: 1).Save(_folder.Path);
        string file = _folder.File("a2.npy");
        double[] a2 = inputs.Values["a2"];
        string folder = _folder.Path;
        byte[]? bytes = fault switch
        {
            "wrong rows" => Matrices.Npy(a2[..21], "<f8", false, 7, 3),
            "wrong columns" => Matrices.Npy(a2, "<f8", false, 6, 4),
            "one dimension" => Matrices.Npy(a2, "<f8", false, 24),
            "fortran" => Matrices.Npy(a2, "<f8", true, 8, 3),
            "big-endian" => Matrices.Npy(a2, ">f8", false, 8, 3),
            "truncated" => Matrices.Npy(a2, "<f8", false, 8, 3)[..^9],
            "trailing" => [.. Matrices.Npy(a2, "<f8", false, 8, 3), 1, 2, 3],
            "integers" => Matrices.Npy(a2, "<i8", false, 8, 3),
            "nan" => Matrices.Npy([double.NaN, .. a2[1..]], "<f8", false, 8, 3),
            "infinity" => Matrices.Npy([.. a2[..^1], double.PositiveInfinity], "<f8", false, 8, 3),
            "empty" => [],
            "not npy" => "a1, a2\n1, 2\n"u8.ToArray(),
            "zero rows" => Matrices.Npy([], "<f8", false, 0, 3),
            _ => null,
        };
        if (fault == "zero rows")
        {
            foreach (string name in (string[])["a1", "a3", "e"])
            {
                File.WriteAllBytes(_folder.File(name + ".npy"), bytes!);
            }
        }

        if (fault == "pipe")
        {
            File.Delete(file);
            using Process made = Process.Start("mkfifo", [_folder.File("fifo")]);
            await made.WaitForExitAsync(TestContext.Current.CancellationToken);
            File.CreateSymbolicLink(file, "fifo");
        }
        else if (fault == "missing folder")
        {
            folder = _folder.File("nowhere");
        }
        else if (bytes is null)
        {
            File.Delete(file);
        }
        else
        {
            File.WriteAllBytes(file, bytes);
        }

        string output = _folder.File("dx.npy");
        foreach (string kernel in (string[])["exact", "reference"])
        {
            string error = (await Cli.RunAsync("gradient", "--inputs", folder, "--kernel", kernel, "--output", output))
                .ExpectRefusal(ExitCode.Invalid, 1);
            Assert.Contains(fault switch { "missing folder" => "nowhere", "zero rows" => "npy", _ => "a2" }, error, StringComparison.Ordinal);
        }

        Assert.False(File.Exists(output));
    }

    public static TheoryData<string, string> BadOptions => new()
    {
        { "--kernel exactly", "Did you mean 'exact'?" },
        { "--kernel exact --precision float23", "Did you mean 'float32'?" },
        { "--kernel exact --degree 3", "means nothing to kernel 'exact'" },
        { "--kernel low-rank", "needs --degree" },
        { "--kernel low-rank --degree four", "a whole number" },
        { "--kernel low-rank --degree 0", "from 1" },
        { "--kernel low-rank --degree 4 --basis tailor", "Did you mean 'taylor'?" },
        { "--kernel low-rank --degree 4 --form papr", "Did you mean 'paper'?" },
        { "--kernel low-rank --degree 4 --basis taylor --radius 3", "only means something with --basis minimax" },
        { "--kernel low-rank --degree 4 --centred maybe", "true or false" },
        { "--kernel exact --threads 0", "at least" },
        { "--kernel exact --device gpu0", "'cpu'" },
        { "--kernel exact --output /nonexistent/dx.npy", "does not exist" },
        { "--kernel exact --outputs /nonexistent/gradients", "does not exist" },
        { "--kernel exact --scale sqrt", "d or sqrt-d is needed" },
        { "--kernel exact --mask casual", "Did you mean 'causal'?" },
        { "--kernel low-rank --degree 4 --mask causal", "takes no mask" },
        { "--kernel performer", "needs --set features=…" },
        { "--kernel performer --set features=0", "--set features is '0'" },
        { "--kernel exact --set feature=1", "--set feature means nothing to kernel 'exact'" },
        { "--kernel low-rank --degree 4 --set degree=5", "degree is given twice, as --degree 4 and as --set degree=5" },
        { "--kernel low-rank --set degree=4 --set degree=5", "degree is given twice, as --set degree=4 and as --set degree=5" },
    };

    [Theory]
    [MemberData(nameof(BadOptions))]
    public async Task Bad_options_get_one_clear_line(string options, string needed)
    {
        Matrices.Random(8, 3, seed: 1).Save(_folder.Path);
        Ran ran = await Cli.RunAsync(["gradient", "--inputs", _folder.Path, .. options.Split(' ')]);
        string error = ran.ExpectRefusal(ExitCode.Invalid, 2);
        // A range is said in full: "from 1 to 4096" counts as saying "at least".
        Assert.True(error.Contains(needed, StringComparison.Ordinal) || (needed == "at least" && error.Contains("from 1", StringComparison.Ordinal)), error);
    }

    [Theory]
    [InlineData("--kernel reference", "'reference' at n = 4000000")]
    [InlineData("--kernel exact --threads 1 --check", null)]
    public async Task Memory_is_checked_before_the_matrices_are_read(string options, string? refusal)
    {
        const int N = 4_000_000;
        foreach (string name in (string[])["a1", "a2", "a3", "e"])
        {
            // A header and a hole of the numbers' size, and at its end a number that is none: whoever reads so far says so.
            byte[] header = Matrices.Npy([], "<f4", false, N, 1);
            using FileStream file = File.Create(_folder.File(name + ".npy"));
            file.Write(header);
            file.SetLength(header.Length + (4L * N));
            file.Seek(-4, SeekOrigin.End);
            file.Write(BitConverter.GetBytes(float.NaN));
        }

        string error = (await Cli.RunAsync(["gradient", "--inputs", _folder.Path, .. options.Split(' ')])).ExpectRefusal(ExitCode.Invalid, 1);
        Assert.Contains(refusal ?? "nan", error, StringComparison.OrdinalIgnoreCase);
    }

    [Theory]
    [InlineData("", "--output is empty")]
    [InlineData("a1.npy", "is one of the inputs")]
    public async Task An_output_that_is_no_file_of_its_own_is_refused(string output, string needed)
    {
        Matrices.Random(8, 3, seed: 1).Save(_folder.Path);
        byte[] before = await File.ReadAllBytesAsync(_folder.File("a1.npy"), TestContext.Current.CancellationToken);
        string error = (await Cli.RunAsync(
            "gradient", "--inputs", _folder.Path + "/", "--kernel", "exact", "--output", output == "" ? "" : _folder.File(output))).ExpectRefusal(ExitCode.Invalid, 1);
        Assert.Contains(needed, error, StringComparison.Ordinal);
        Assert.Equal(before, await File.ReadAllBytesAsync(_folder.File("a1.npy"), TestContext.Current.CancellationToken));
    }

    [Fact]
    public async Task A_degree_whose_rank_overflows_is_refused()
    {
        Matrices.Random(4, 64, seed: 1).Save(_folder.Path);
        string error = (await Cli.RunAsync("gradient", "--inputs", _folder.Path, "--kernel", "low-rank", "--degree", "24"))
            .ExpectRefusal(ExitCode.Invalid, 2);
        Assert.Contains("24", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_stack_of_problems_is_each_of_them_with_scale_and_mask_and_every_gradient_in_files()
    {
        const int Batch = 2, Heads = 3, N = 24, D = 4;
        Matrices[] alone = [.. Enumerable.Range(0, Batch * Heads).Select(i => Matrices.Random(N, D, seed: 100 + i))];
        foreach (string name in (string[])["a1", "a2", "a3", "e", "y"])
        {
            int rows = name == "y" ? D : N;
            File.WriteAllBytes(_folder.File(name + ".npy"),
                Matrices.Npy([.. alone.SelectMany(m => m.Values[name])], "<f8", false, Batch, Heads, rows, D));
        }

        // x is one for all.
        File.WriteAllBytes(_folder.File("x.npy"), Matrices.Npy(alone[0].Values["x"], "<f8", false, D, D));
        string[] options = ["--kernel", "exact", "--scale", "sqrt-d", "--mask", "causal", "--threads", "2"];
        string all = _folder.File("all");
        JsonNode json = JsonNode.Parse((await Cli.RunAsync(
            ["gradient", "--inputs", _folder.Path, .. options, "--outputs", all, "--check", "--json"])).Expect(ExitCode.Done).Out)!;
        Assert.Equal([Batch, Heads], json["stack"]!.AsArray().Select(s => (int)s!));
        Assert.Equal(("sqrt-d", "causal"), ((string)json["scale"]!, (string)json["mask"]!));
        Assert.InRange((double)json["gradient_relative_error"]!, 0, 1e-12);
        double loss = 0;
        for (int i = 0; i < alone.Length; i++)
        {
            string one = Directory.CreateDirectory(_folder.File($"one{i}")).FullName;
            alone[i].Values["x"] = alone[0].Values["x"];
            alone[i].Save(one);
            JsonNode each = JsonNode.Parse((await Cli.RunAsync(
                ["gradient", "--inputs", one, .. options, "--outputs", Path.Combine(one, "out"), "--json"])).Expect(ExitCode.Done).Out)!;
            loss += (double)each["loss"]!;
            foreach (string name in (string[])["dx", "dy", "dq", "dk", "dv", "f"])
            {
                double[] mine = Matrices.Load(Path.Combine(one, "out", name + ".npy"));
                Assert.Equal(mine, Matrices.Load(Path.Combine(all, name + ".npy"))[(i * mine.Length)..((i + 1) * mine.Length)]);
            }
        }

        Assert.Equal(loss, (double)json["loss"]!, 1e-12 * loss);
    }

    [Fact]
    public async Task What_a_kernel_does_not_give_is_said_and_not_written()
    {
        Matrices.Random(16, 3, seed: 8).Save(_folder.Path);
        string all = _folder.File("all");
        (await Cli.RunAsync("gradient", "--inputs", _folder.Path, "--kernel", "exact", "--outputs", all)).Expect(ExitCode.Done);
        string text = (await Cli.RunAsync(
            "gradient", "--inputs", _folder.Path, "--kernel", "dense-polynomial", "--degree", "3", "--outputs", all)).Expect(ExitCode.Done).Out;
        string[] left = [.. Directory.GetFiles(all).Select(f => Path.GetFileNameWithoutExtension(f)!).Order()];
        Assert.Contains("dq", left);
        Assert.DoesNotContain("dk", left);
        Assert.Contains("dense-polynomial gives no", text, StringComparison.Ordinal);
        Assert.DoesNotContain("tolerance", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Pinned_threads_have_a_core_each_or_are_refused()
    {
        Matrices.Random(16, 3, seed: 8).Save(_folder.Path);
        if (Experiments.Kernels.Numbers.Pinning.Unavailable is null)
        {
            JsonNode json = JsonNode.Parse((await Cli.RunAsync(
                "gradient", "--inputs", _folder.Path, "--kernel", "exact", "--pin", "--threads", "1", "--json")).Expect(ExitCode.Done).Out)!;
            Assert.True((bool)json["pinned"]!);
        }

        string error = (await Cli.RunAsync("gradient", "--inputs", _folder.Path, "--kernel", "exact", "--pin", "--threads", "4096"))
            .ExpectRefusal(ExitCode.Invalid, 1);
        Assert.Contains("pin", error, StringComparison.Ordinal);
    }
}
