using Experiments.Results.Sweeps;

namespace Experiments.Results.Tests.Sweeps;

public sealed class FaultTests
{
    private const string Kernels = "kernels: {kernel: exact}\n";
    private const string Instances = "instances: {family: uniform, n: 16, d: 2, bound: 1}\n";

    /// <summary>The text after <c>instances:</c> starts in line 2, column 12 of the file.</summary>
    [Theory]
    [InlineData("{family: uniform, n: 12.5, d: 2, bound: 1}", "2:33: n is 12.5 and needs a whole number.")]
    [InlineData("{family: uniform, n: 0, d: 2, bound: 1}", "2:33: n is 0 and needs at least 1.")]
    [InlineData("{family: uniform, n: [16, -4], d: 2, bound: 1}", "2:38: n is -4 and needs at least 1.")]
    [InlineData("{family: uniform, n: [16, 32, 16], d: 2, bound: 1}", "2:42: n lists 16 twice; each value may stand once. For repetitions use repeats.")]
    [InlineData("{family: uniform, n: [], d: 2, bound: 1}", "2:33: n has no value; give one, a list or a form such as {range: [2, 8, 2]}.")]
    [InlineData("{family: uniform, n: 16, d: 2, bound: 0}", "2:50: bound is 0 and needs a number above 0.")]
    [InlineData("{family: unifrom, n: 16, d: 2, bound: 1}", "2:21: family is 'unifrom' and needs uniform, gaussian, corner, planted or files. Did you mean 'uniform'?")]
    [InlineData("{family: uniform, n: 16, d: 2, bund: 1}", "2:43: 'bund' is no axis of uniform, and no expression uses it. Did you mean 'bound'? Its axes are n, d, bound.")]
    [InlineData("{family: uniform, n: 16, d: 2, entries: 1}", "2:12: uniform needs 'bound', the largest entry of A1 X and A2.", "2:43: 'entries' is no axis of uniform, and no expression uses it. Its axes are n, d, bound.")]
    [InlineData("{family: uniform, d: 2, bound: 1}", "2:12: uniform needs 'n', the tokens.")]
    [InlineData("{n: 16, d: 2, bound: 1}", "2:12: 'family' is missing; there are uniform, gaussian, corner, planted, files.")]
    [InlineData("{family: uniform, n: {rnage: [1, 2]}, d: 2, bound: 1}", "2:34: 'rnage' is no form of an axis; there are range, linspace, logspace or pow2. Did you mean 'range'?")]
    [InlineData("{family: uniform, n: {range: [8, 2]}, d: 2, bound: 1}", "2:41: range from 8 to 2 in steps of 1 is empty; swap the ends or the sign of the step.")]
    [InlineData("{family: uniform, n: {range: [2, 8, 0]}, d: 2, bound: 1}", "2:48: range has a step of 0; any other number is needed.")]
    [InlineData("{family: uniform, n: {linspace: [1, 2, 4]}, d: 2, bound: 1}", "2:44: value 2 of 4: n is 1.3333333333333333 and needs a whole number. Use a list, range or pow2.")]
    [InlineData("{family: uniform, n: {pow2: [-1, 3]}, d: 2, bound: 1}", "2:40: value 1 of 5: n is 0.5 and needs a whole number. Use a list, range or pow2.")]
    [InlineData("{family: uniform, n: 16, d: 2, bound: {logspace: [0, 3, 4]}}", "2:61: logspace from 0 to 3 needs ends above 0: they are the values themselves, not exponents.")]
    [InlineData("{family: uniform, n: 16, d: 2, bound: {linspace: [0, 3, 1.5]}}", "2:68: linspace was given a count of 1.5 and needs a whole number from 1 to 1000000.")]
    [InlineData("{family: uniform, n: 16, d: 2, bound: {linspace: [1, 3]}}", "2:61: linspace needs [lo, hi, count].")]
    [InlineData("{family: uniform, n: 16, d: 2, bound: 1, repeats: 0}", "2:62: repeats is 0 and needs a whole number from 1 to 2147483647.")]
    [InlineData("{family: uniform, n: 16, d: 2, bound: 2 * kapa, kappa: [1, 2]}", "2:54: 'kapa' is not known here. Did you mean 'kappa'? Known are bound, d, family, kappa, n.")]
    [InlineData("{family: uniform, n: 16, d: 2, bound: 2 *}", "2:53: '2 *' ends where a number, a name or a parenthesis was needed.")]
    [InlineData("{family: uniform, n: 16, d: 2, bound: sqtr(n)}", "2:50: There is no function 'sqtr'. Did you mean 'sqrt'? There are abs, ceil, exp, floor, ln, log10, log2, max, min, pow, round, sqrt.")]
    [InlineData("{family: uniform, n: d, d: n, bound: 1}", "2:33: n is computed from itself: n → d → n. One of them needs values of its own.")]
    [InlineData("{family: uniform, n: [16, 32], d: ln(n), bound: 1}", "2:46: d is 2.772588722239781 and needs a whole number (n=16).")]
    [InlineData("{family: uniform, n: [1, 32], d: 2, bound: kappa / ln(n), kappa: [3, 4]}", "2:55: bound would be infinite; a finite number is needed (kappa=3, n=1).")]
    [InlineData("{family: uniform, n: 16, d: 2, bound: 1, where: n + 1}", "2:60: where needs a yes or no, and this is a number.")]
    [InlineData("{family: uniform, n: 16, d: 2, bound: 1, where: n = 16}", "2:62: '=' is not a comparison; write '=='.")]
    [InlineData("{family: uniform, n: 16, d: 2, bound: 1, where: 2 < n < 8}", "2:66: Comparisons do not chain; write the two joined by 'and': 2 <= n and n <= 8.")]
    [InlineData("{family: uniform, n: 16, d: 2, bound: 1, where: n > 16}", "2:12: No trial is left: where leaves out every one of 1 instances or all their trials.")]
    [InlineData("{family: uniform, zip: {n: [16, 32], d: [2, 3, 4]}, bound: 1}", "2:35: zip needs axes of one length: n has 2, d has 3.")]
    [InlineData("{family: uniform, n: [16, 32], d: [2, 3], bound: 1, zip: [n, dd]}", "2:73: zip names 'dd', which this block does not give.")]
    [InlineData("{family: uniform, n: {range: [1, 2000000000]}, d: {range: [1, 2000000000]}, bound: {range: [1, 2000000000]}}", "2:12: The axes have 8E+27 combinations, which with the kernels' are more than can be numbered (4.612E+18); take fewer values.")]
    [InlineData("{family: uniform, n: 16, n: 32, d: 2, bound: 1}", "2:37: 'n' is given twice; it stands in line 2 already.")]
    [InlineData("{family: uniform, n: {pow2: [1, 4000]}, d: 2, bound: 1}", "2:44: pow2 was given 4000 and needs whole exponents of 2 from -1000 to 1000: [1, 12] is 2 to 4096.")]
    [InlineData("{family: planted, n: [2, 8], d: 2, bound: 1, planted_rows: [1, 4, 9]}", "2:71: planted_rows is 9 and may be at most n (planted_rows=9, n=2).")]
    [InlineData("{family: planted, n: [2, 8], d: 2, bound: 1, planted_rows: 2 * n}", "2:71: planted_rows is 16 and may be at most n (n=8).")]
    [InlineData("[]", "2:12: instances is empty; at least one block is needed.")]
    [InlineData("{family: files, folder: nowhere, n: 4, d: 2}", "2:36: There is no folder '*nowhere'; folder is relative to the sweep file.")]
    public void A_fault_in_the_instances_is_told_with_its_place(string instances, params string[] expected) =>
        AssertFaults($"name: t\ninstances: {instances}\n{Kernels}", expected);

    /// <summary>The text after <c>kernels:</c> starts in line 3, column 10 of the file.</summary>
    [Theory]
    [InlineData("{kernel: low-rnak, degree: 2}", "3:19: kernel is 'low-rnak' and needs exact, reference or low-rank. Did you mean 'low-rank'?")]
    [InlineData("{kernel: low-rank, degree: automatic}", "3:37: degree is 'automatic' and needs a number, an expression or auto. Did you mean 'auto'?")]
    [InlineData("{kernel: low-rank, degree: [2, Auto]}", "3:41: degree is 'Auto' and needs a number, an expression or auto. Did you mean 'auto'?")]
    [InlineData("{kernel: low-rank}", "3:10: low-rank needs 'degree': Degree g of the polynomial.")]
    [InlineData("{kernel: low-rank, degre: 2}", "3:29: 'degre' is no axis of low-rank. Did you mean 'degree'? There are degree, tolerance, basis, form, centred, radius, precision, threads.")]
    [InlineData("{kernel: low-rank, degree: [2, 25]}", "3:41: degree is 25 and needs 1 to 24.")]
    [InlineData("{kernel: low-rank, degree: 2, basis: tailor}", "3:47: basis is 'tailor' and needs taylor or minimax. Did you mean 'taylor'?")]
    [InlineData("{kernel: low-rank, degree: 2, centred: maybe}", "3:49: 'maybe' is not known here.*")]
    [InlineData("{kernel: exact, precision: [float32, flaot64]}", "3:47: precision is 'flaot64' and needs float32 or float64. Did you mean 'float64'?")]
    [InlineData("{kernel: exact, threads: 0}", "3:35: threads is 0 and needs 1 to 4096.")]
    [InlineData("{kernel: [exact, low-rank], degree: 2, where: rank <= n}", "3:56: rank is asked of a kernel that has none; give that kernel a block of its own, or write kernel == 'exact' or rank <= n.")]
    [InlineData("{kernel: low-rank, degree: rank}", "3:37: 'rank' is known only once the axes are; it serves in where alone.")]
    [InlineData("{degree: 2}", "3:10: 'kernel' is missing; there are exact, reference, low-rank.")]
    [InlineData("{kernal: low-rank, degree: 99}", "3:11: 'kernal' is no key here. Did you mean 'kernel'?", "3:37: degree is 99 and needs 1 to 24.")]
    [InlineData("{kernel: exact, where: basis == taylor}", "3:33: 'basis' is not known here.*")]
    public void A_fault_in_the_kernels_is_told_with_its_place(string kernels, params string[] expected) =>
        AssertFaults($"name: t\n{Instances}kernels: {kernels}\n", expected);

    [Theory]
    [InlineData("sede: 1", "4:1: 'sede' is no key of a sweep file. Did you mean 'seed'? There are name, question, seed, instances, kernels, measure, limits, search.")]
    [InlineData("seed: 1.5", "4:7: seed is 1.5 and needs a whole number from -9223372036854775808 to 9223372036854775807.")]
    [InlineData("measure: {rounds: 0}", "4:19: rounds is 0 and needs a whole number from 1 to 100000.")]
    [InlineData("measure: {round: 3}", "4:11: 'round' is no key of measure. Did you mean 'rounds'? There are rounds, min_time, max_noise, reference, sharing.")]
    [InlineData("measure: {min_time: 50}", "4:21: min_time is '50' and needs a time with its unit: 50ms, 1.5s, 2min, 1h.")]
    [InlineData("measure: {max_noise: 2}", "4:22: max_noise is '2' and needs a share from 0 to 1: 2% or 0.02.")]
    [InlineData("measure: {reference: exact}", "4:22: reference is 'exact' and needs exact-float64 or none. Did you mean 'exact-float64'? For a sample of rows: {rows: 4096}.")]
    [InlineData("measure: {reference: 4096}", "4:22: reference is '4096' and needs exact-float64 or none. For a sample of rows: {rows: 4096}.")]
    [InlineData("measure: {reference: {rows: 15}}", "4:29: rows is 15 and needs a whole number from 16 to 2147483647.")]
    [InlineData("measure: {reference: {rows: 99.5}}", "4:29: rows is 99.5 and needs a whole number from 16 to 2147483647.")]
    [InlineData("measure: {reference: {row: 99}}", "4:23: 'row' is no key of reference. Did you mean 'rows'? There are rows.")]
    [InlineData("measure: {reference: {}}", "4:22: reference needs exact-float64, none or a map such as {rows: 4096}.")]
    [InlineData("measure: {reference: [exact-float64]}", "4:22: reference needs a single value.")]
    [InlineData("limits: {memory: 8 apples}", "4:18: memory is '8 apples' and needs a size above 0: 8GiB, 512MiB, 8GB, or bytes.")]
    [InlineData("limits: {trial_timeout: 1ns}", "4:25: trial_timeout is '1ns' and needs at least 100ns, such as 50ms, 1.5s, 2min or 1h.")]
    [InlineData("measure: {min_time: 0.04us}", "4:21: min_time is '0.04us' and needs at least 100ns, such as 50ms, 1.5s, 2min or 1h.")]
    [InlineData("measure: {reference: exactfloat}", "4:22: reference is 'exactfloat' and needs exact-float64 or none. Did you mean 'exact-float64'?")]
    [InlineData("limits: {trial_timeout: 0}", "4:25: trial_timeout is 0 and would stop every trial; give a time such as 2min.")]
    [InlineData("search: boundary", "4:9: search: boundary cannot be run yet; take grid, random or sobol over the bound instead.")]
    [InlineData("search: random", "4:9: search: random needs samples, the number of instances to draw, such as samples: 100.")]
    [InlineData("search: {method: sobol, samples: 2}", "4:34: samples is 2, and the grid has 1 instances to draw from; lower it or take search: grid.")]
    [InlineData("search: gird", "4:9: search is 'gird' and needs grid, random, sobol or boundary. Did you mean 'grid'?")]
    [InlineData("seed: *nothing", "4:7: There is no anchor '&nothing' before this alias.")]
    [InlineData("seed: [1", "5:1: This is not YAML: *")]
    public void A_fault_at_the_top_is_told_with_its_place(string line, string expected) =>
        AssertFaults($"name: t\n{Instances}{Kernels}{line}\n", [expected]);

    [Fact]
    public void Every_fault_of_a_file_is_told_at_once_in_order() =>
        AssertFaults(
            """
            nmae: wall
            instances:
              family: uniform
              n: [16, 12.5]
              d: 2
              bound: -1
            kernels:
              - kernel: low-rank
                degree: 99
                where: rank <= m
            limits: {retries: -1}
            """,
            [
                "1:1: 'name' is missing; a sweep needs a name, which lists show.",
                "1:1: 'nmae' is no key of a sweep file. Did you mean 'name'? There are name, question, seed, instances, kernels, measure, limits, search.",
                "4:11: n is 12.5 and needs a whole number.",
                "6:10: bound is -1 and needs a number above 0.",
                "9:13: degree is 99 and needs 1 to 24.",
                "10:20: 'm' is not known here. Known are *",
                "11:19: retries is -1 and needs a whole number from 0 to 100.",
            ]);

    [Fact]
    public void An_impossible_kernel_is_a_fault_unless_a_where_excludes_it()
    {
        const string Text = """
            name: t
            instances: {family: uniform, n: 16, d: 64, bound: 1}
            kernels:
              - {kernel: exact}
              - kernel: low-rank
                degree: [2, 24]

            """;
        string fault = Assert.Single(Sweeps.Faults(Text));
        Assert.StartsWith("5:5: Degree 24 at d=64 has a rank of", fault, StringComparison.Ordinal);
        Assert.Equal(2, Sweeps.Expand(Text + "    where: degree < 9\n").Count(TestContext.Current.CancellationToken).Trials);
        Assert.Equal(1, Sweeps.Expand(Text + "    where: rank <= n\n").Count(TestContext.Current.CancellationToken).Trials);
    }

    [Fact]
    public void A_file_that_cannot_be_read_is_one_fault()
    {
        string folder = Directory.CreateTempSubdirectory("sweeps").FullName;
        try
        {
            string file = Path.Combine(folder, "x.yaml");
            Assert.Equal("There is no such file.", ReadFault(file).Message);
            Assert.Equal("This is a folder; name the sweep file in it.", ReadFault(folder).Message);
            File.WriteAllText(file, "");
            Assert.Equal("The file is empty; a sweep needs at least name, instances and kernels.", ReadFault(file).Message);
            File.WriteAllText(file, "# nothing\n");
            Assert.Equal("The file is empty; a sweep needs at least name, instances and kernels.", ReadFault(file).Message);
            File.WriteAllBytes(file, [.. "name: t\nx: "u8, 0xFF, 0xFE]);
            Assert.Equal(new SweepFault(2, 4, "The file is not UTF-8 text here; save it as UTF-8."), ReadFault(file));
            File.WriteAllText(file, $"name: t\n{Instances}{Kernels}", System.Text.Encoding.Unicode);
            Assert.Equal("t", SweepFile.Read(file, TestCatalog.Catalog).Name);
            File.WriteAllText(file, "just words");
            Assert.StartsWith("A sweep file is a map", ReadFault(file).Message, StringComparison.Ordinal);
            File.WriteAllText(file, new string('[', 100_000));
            Assert.Equal("The file is nested deeper than 32 levels.", ReadFault(file).Message);
            File.WriteAllBytes(file, new byte[(16 << 20) + 1]);
            Assert.Equal("The file has more than 16777216 bytes, which no sweep file has.", ReadFault(file).Message);
            if (File.Exists("/dev/zero"))
            {
                Assert.Equal("The file has more than 16777216 bytes, which no sweep file has.", ReadFault("/dev/zero").Message);
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static SweepFault ReadFault(string path) =>
        Assert.Single(Assert.Throws<SweepFileException>(() => SweepFile.Read(path, TestCatalog.Catalog)).Faults);

    /// <summary>An expected line may hold one <c>*</c> for any text.</summary>
    private static void AssertFaults(string text, string[] expected)
    {
        IReadOnlyList<string> faults = Sweeps.Faults(text);
        string all = string.Join('\n', faults);
        Assert.True(expected.Length == faults.Count, all);
        foreach ((string want, string got) in expected.Order(StringComparer.Ordinal).Zip(faults.Order(StringComparer.Ordinal)))
        {
            string[] parts = want.Split('*');
            bool wildcard = parts.Length == 2 && !want.Contains(" * ", StringComparison.Ordinal) && !want.Contains("2 *'", StringComparison.Ordinal);
            Assert.True(
                wildcard ? got.StartsWith(parts[0], StringComparison.Ordinal) && got.EndsWith(parts[1], StringComparison.Ordinal) : got == want,
                $"expected {want}\ngot      {got}\nof\n{all}");
        }
    }

    [Fact]
    public void A_chain_of_operators_without_parentheses_ends_in_a_fault_and_not_the_process()
    {
        string chain = string.Join('+', Enumerable.Repeat("n", 20_000));
        string fault = Assert.Single(Sweeps.Faults($"name: t\ninstances: {{family: uniform, n: 16, d: 2, bound: {chain}}}\n{Kernels}"));
        Assert.Equal("2:651: An expression has more than 300 operations; name a part of it as an axis of its own.", fault);
    }

    [Fact]
    public void The_deepest_expression_that_is_taken_is_read_back_from_the_store()
    {
        foreach (string bound in (string[])
            [
                string.Join('+', Enumerable.Repeat("n", 300)), string.Concat(Enumerable.Repeat("n**", 90)) + "1",
                new string('-', 98) + "n",
            ])
        {
            SweepSpec spec = Sweeps.Read($"name: t\ninstances: {{family: uniform, n: 1, d: 1, bound: '{bound}'}}\n{Kernels}");
            Assert.Equal(spec.Hash, SweepSpec.FromJson(spec.ToJson()).Hash);
        }
    }

    [Fact]
    public void A_grid_too_large_to_count_is_refused_at_once()
    {
        string range = "{range: [1, 1000000]}";
        string fault = Assert.Single(Sweeps.Faults($"name: t\ninstances: {{family: uniform, n: {range}, d: {range}, bound: {range}}}\n{Kernels}"));
        Assert.StartsWith("2:12: The axes have 1E+18 combinations, and counting their trials takes", fault, StringComparison.Ordinal);
    }

    [Fact]
    public void A_hundred_thousand_unknown_keys_are_found_and_the_first_hundred_told()
    {
        string keys = string.Concat(Enumerable.Range(0, 100_000).Select(i => $"k{i}: 1\n"));
        SweepFileException ex = Assert.Throws<SweepFileException>(() => Sweeps.Read($"name: t\n{Instances}{Kernels}{keys}"));
        Assert.Equal(100_000, ex.Faults.Count);
        Assert.Equal(101, ex.Message.Split('\n').Length);
        Assert.EndsWith("and 99900 more faults.", ex.Message, StringComparison.Ordinal);
    }
}
