using Experiments.Results.Sweeps;

namespace Experiments.Results.Tests.Sweeps;

public sealed class AxisFormTests
{
    [Theory]
    [InlineData("7", "7")]
    [InlineData("[3, 1, 2]", "3 1 2")]
    [InlineData("{range: [2, 8, 2]}", "2 4 6 8")]
    [InlineData("{range: [2, 5]}", "2 3 4 5")]
    [InlineData("{range: [8, 2, -3]}", "8 5 2")]
    [InlineData("{range: [0.1, 0.5, 0.1]}", "0.1 0.2 0.3 0.4 0.5")]
    [InlineData("{range: [1, 2, 0.3]}", "1 1.3 1.6 1.9")]
    [InlineData("{linspace: [0.5, 4, 8]}", "0.5 1 1.5 2 2.5 3 3.5 4")]
    [InlineData("{linspace: [4, 1, 2]}", "4 1")]
    [InlineData("{logspace: [1, 1000, 4]}", "1 10 100 1000")]
    [InlineData("{logspace: [0.01, 100, 5]}", "0.01 0.1 1 10 100")]
    [InlineData("{pow2: [-1, 2]}", "0.5 1 2 4")]
    [InlineData("{pow2: [8, 14, 3]}", "256 2048 16384")]
    [InlineData("[2**3, 2^2 + 1, sqrt(2), 10 % 4, -(-3), 1e-3]", "8 5 1.4142135623730951 2 3 0.001")]
    [InlineData("[ln(exp(2)), log2(1024), log10(1000), floor(1.8), abs(-9), 'min(4, 11)', 'pow(2, 0.1)']",
        "2 10 3 1 9 4 1.0717734625362931")]
    [InlineData("[round(2.5), pi, e]", "3 3.141592653589793 2.718281828459045")]
    public void A_form_gives_its_values(string form, string expected)
    {
        string text = $"name: t\ninstances: {{family: uniform, n: 16, d: 2, bound: {form}}}\nkernels: {{kernel: exact}}\n";
        SweepExpansion expansion = new(SweepFile.Parse(text, "t.yaml", ".", TestCatalog.Catalog), TestCatalog.Catalog);
        string[] bounds = [.. Sweeps.All(expansion).Select(p => Identity.Text(p.Instance.Bound!.Value))];
        Assert.Equal(expected.Split(' '), bounds);
    }

    [Fact]
    public void An_expression_follows_the_axes_it_names()
    {
        SweepExpansion expansion = Sweeps.Expand("""
            name: theorem
            instances:
              family: uniform
              n: {pow2: [8, 10]}
              d: ceil(ln(n))
              bound: kappa * sqrt(ln(n))
              kappa: [0.25, 1]
              repeats: 2
            kernels: {kernel: exact}
            """);
        List<InstancePlan> plans = [.. Sweeps.All(expansion)];
        Assert.Equal(12, plans.Count);
        Assert.All(plans, p =>
        {
            double kappa = (double)p.Instance.Parameters["kappa"];
            Assert.Equal((int)Math.Ceiling(Math.Log(p.Instance.N)), p.Instance.D);
            Assert.Equal(kappa * Math.Sqrt(Math.Log(p.Instance.N)), p.Instance.Bound!.Value, 1e-15);
            Assert.Empty(p.Instance.Settings);
        });
    }

    [Theory]
    [InlineData("zip: {n: [16, 32], d: [2, 4]}")]
    [InlineData("zip: [{n: [16, 32], d: [2, 4]}]")]
    [InlineData("n: [16, 32]\n  d: [2, 4]\n  zip: [n, d]")]
    [InlineData("n: [16, 32]\n  d: [2, 4]\n  zip: [[n, d]]")]
    public void Zipped_axes_advance_together(string axes)
    {
        SweepExpansion expansion = Sweeps.Expand(
            $"name: z\ninstances:\n  family: uniform\n  {axes}\n  bound: [1, 2]\nkernels: {{kernel: exact}}\n");
        Assert.Equal(
            [(16, 2, 1), (16, 2, 2), (32, 4, 1), (32, 4, 2)],
            Sweeps.All(expansion).Select(p => (p.Instance.N, p.Instance.D, (int)p.Instance.Bound!.Value)));
    }

    [Fact]
    public void Axes_that_do_not_apply_are_left_out_and_make_no_trial_twice()
    {
        SweepExpansion expansion = Sweeps.Expand("""
            name: conditional
            instances: {family: uniform, n: 16, d: 2, bound: 1}
            kernels:
              kernel: [exact, low-rank]
              degree: [2, 4]
              basis: [taylor, minimax]
              radius: [1, 2, 3]
            """);
        InstancePlan plan = Assert.Single(Sweeps.All(expansion));
        Assert.Equal(1 + (2 * (1 + 3)), plan.Trials.Count);
        Assert.All(plan.Trials, t => Assert.Equal(t.Settings.GetValueOrDefault("basis") is "minimax", t.Settings.ContainsKey("radius")));
        SweepCounts counts = expansion.Count(TestContext.Current.CancellationToken);
        Assert.Equal(24 - 9, counts.Duplicates);
        TrialSpec lowRank = plan.Trials[1];
        Assert.Equal(("paper", true, "float32", 1), (lowRank.Settings["form"], lowRank.Settings["centred"], lowRank.Precision, lowRank.Threads));
    }

    [Fact]
    public void A_word_may_stand_among_the_numbers_of_an_axis_that_has_one_and_survives_the_store()
    {
        const string Text = """
            name: automatic
            instances: {family: uniform, n: 16, d: 2, bound: 1}
            kernels:
              kernel: low-rank
              degree: [2, auto]
              tolerance: [1e-4, 1e-6]
              form: paper
            """;
        SweepSpec read = SweepSpec.FromJson(Sweeps.Read(Text).ToJson());
        foreach (SweepExpansion expansion in (SweepExpansion[])[Sweeps.Expand(Text), new(read, TestCatalog.Catalog)])
        {
            IReadOnlyList<TrialSpec> trials = Assert.Single(Sweeps.All(expansion)).Trials;
            Assert.Equal(
                ["2", "auto 0.0001", "auto 1E-06"],
                trials.Select(t => $"{t.Settings["degree"]} {t.Settings.GetValueOrDefault("tolerance")}".TrimEnd()));
        }

        Assert.Single(Assert.Single(Sweeps.All(Sweeps.Expand(Text.Replace("[2, auto]", "auto").Replace("[1e-4, 1e-6]", "1e-4")))).Trials);
    }

    [Fact]
    public void A_word_is_no_number_to_a_where_and_no_other_word_is_taken()
    {
        const string Text = """
            name: automatic
            instances: {family: uniform, n: 16, d: 2, bound: 1}
            kernels:
              kernel: low-rank
              degree: [2, auto]
              where: degree <= 4
            """;
        Assert.Contains("degree is auto here, which is no number", Assert.Single(Sweeps.Faults(Text)));
        Assert.Contains(
            "degree needs a number or",
            Assert.Single(Sweeps.Faults(Text.Replace("[2, auto]", "[2, fitted]").Replace("  where: degree <= 4", ""))));
    }

    [Fact]
    public void A_where_sees_predictions_axes_parameters_and_words()
    {
        SweepExpansion expansion = Sweeps.Expand("""
            name: where
            instances: {family: [uniform, corner], n: [16, 64], d: 2, bound: [1, 2], where: "family == corner or bound < 2"}
            kernels:
              - kernel: [exact, low-rank]
                degree: {range: [1, 20]}
                basis: taylor
                where: [kernel == exact or rank <= n, not (kernel == low-rank and degree % 2 == 1 && n > 16)]
            """);
        Dictionary<int, int> trials = Sweeps.All(expansion).GroupBy(p => p.Instance.N).ToDictionary(g => g.Key, g => g.First().Trials.Count);
        // C(2 + g, g) is 3, 6, 10, 15, 21, 28, 36, 45, 55, 66: four degrees fit 16; of nine that fit 64 the even ones stay.
        Assert.Equal(1 + 4, trials[16]);
        Assert.Equal(1 + 4, trials[64]);
        Assert.Equal(6, Sweeps.All(expansion).Count());
    }

    [Fact]
    public void Json_anchors_and_merge_keys_are_yaml_too()
    {
        string yaml = """
            name: same
            instances: &block
              family: uniform
              n: [16, 32]   # a comment
              d: 2
              bound: 1
            kernels:
              - &k {kernel: exact, threads: 2}
              - {<<: *k, threads: 1}
            seed: 5
            """;
        const string Json = """
            {"seed": 5, "kernels": [{"kernel": "exact", "threads": [2]}, {"kernel": "exact", "threads": 1}], "name": "same",
             "instances": {"family": "uniform", "n": {"pow2": [4, 5]}, "d": 2, "bound": 1.0}}
            """;
        Assert.Equal(Sweeps.Read(yaml).ToJson(), Sweeps.Read(Json).ToJson());
        Assert.Equal(Sweeps.Read(yaml).Hash, Sweeps.Read(Json).Hash);
        Assert.NotEqual(Sweeps.Read(yaml).Hash, Sweeps.Read(yaml.Replace("seed: 5", "seed: 6", StringComparison.Ordinal)).Hash);
    }

    [Theory]
    [InlineData("exact-float64", "\"exact-float64\"", null)]
    [InlineData("none", "\"none\"", null)]
    [InlineData("{rows: 2**12}", "{\"rows\":4096}", 4096)]
    [InlineData("\n    rows: 4096", "{\"rows\":4096}", 4096)]
    public void A_reference_is_whole_sampled_or_none_and_comes_back_from_the_store(string typed, string stored, int? rows)
    {
        SweepSpec spec = Sweeps.Read(
            $"name: m\ninstances: {{family: uniform, n: 16384, d: 2, bound: 1}}\nkernels: {{kernel: exact}}\nmeasure:\n  reference: {typed}\n");
        Assert.Contains($"\"reference\":{stored},\"sharing\"", spec.ToJson(), StringComparison.Ordinal);
        Assert.Equal(rows, spec.Measure.ReferenceRows);
        SweepSpec back = SweepSpec.FromJson(spec.ToJson());
        Assert.Equal(spec.Measure, back.Measure);
        Assert.Equal(spec.Hash, back.Hash);
    }

    [Theory]
    [InlineData("float64", 8)]
    [InlineData("float32", 4)]
    public void A_trial_of_all_gradients_needs_room_for_dQ_dK_and_dV_too(string precision, int size)
    {
        InstanceSpec instance = new(
            "uniform", 5000, 2, 1, 0, 1, new Dictionary<string, object> { ["heads"] = 3L }, new Dictionary<string, object>());
        long Bytes(string gradients, int? rows) => CostModel.BytesOf(
            instance, new TrialSpec("exact", precision, 1, new Dictionary<string, object> { ["gradients"] = gradients }), new Prediction(1, 1000, null),
            new Measure { ReferenceRows = rows });
        Assert.Equal(3 * 3 * 5000 * 2 * size, Bytes("all", null) - Bytes("x", null));

        // dQ is among them, which a sample of rows is judged by.
        Assert.Equal(Bytes("all", null), Bytes("all", 4096));
    }

    [Fact]
    public void A_sampled_reference_costs_its_share_needs_dQ_and_has_a_key_of_its_own()
    {
        static SweepForecast Forecast(string reference, int n) => new SweepExpansion(
            Sweeps.Read(
                $"name: m\ninstances: {{family: uniform, n: {n}, d: 2, bound: 1}}\nkernels: {{kernel: low-rank, degree: 2, precision: float64}}\n"
                + $"measure: {{reference: {reference}, min_time: 0}}\n"), TestCatalog.Catalog)
            .Forecast(new CostModel(), TestContext.Current.CancellationToken);
        const int Large = 1 << 17;
        SweepForecast whole = Forecast("exact-float64", Large), sample = Forecast("{rows: 4096}", Large), none = Forecast("none", Large);
        Assert.Equal(1.0 / 32, (sample.Seconds - none.Seconds) / (whole.Seconds - none.Seconds), 1e-9);
        Assert.Equal(8L * Large * 2, sample.LargestBytes - whole.LargestBytes);
        SweepForecast small = Forecast("exact-float64", 4096), covered = Forecast("{rows: 4096}", 4096);
        Assert.Equal((small.Seconds, small.LargestBytes), (covered.Seconds, covered.LargestBytes));

        InstanceSpec instance = new("uniform", 5000, 2, 1, 0, 1, new Dictionary<string, object>(), new Dictionary<string, object>());
        Guid KeyOf(int? rows) => new Measure { ReferenceRows = rows }.ReferenceKeyOf(instance);
        Assert.Equal(instance.Key, KeyOf(null));
        Assert.Equal(instance.Key, KeyOf(5000));
        Assert.Equal(3, new[] { KeyOf(null), KeyOf(4999), KeyOf(4096) }.Distinct().Count());
        Assert.Equal(KeyOf(4096), KeyOf(4096));
    }

    [Fact]
    public void Measure_and_limits_read_times_sizes_and_shares()
    {
        SweepSpec spec = Sweeps.Read("""
            name: m
            question: Why?
            seed: -9223372036854775808
            instances: {family: uniform, n: 16, d: 2, bound: 1}
            kernels: {kernel: exact}
            measure: {rounds: 3, min_time: 1.5s, max_noise: 2%, reference: none, sharing: true}
            limits: {trial_timeout: 2min, memory: 1.5GiB, retries: 0}
            """);
        Assert.Equal(
            new Measure { Rounds = 3, MinTime = TimeSpan.FromSeconds(1.5), MaxNoise = 0.02, Reference = ReferenceMode.None, Sharing = true },
            spec.Measure);
        Assert.Equal(new Limits { TrialTimeout = TimeSpan.FromMinutes(2), MemoryBytes = 1610612736, Retries = 0 }, spec.Limits);
        SweepSpec back = SweepSpec.FromJson(spec.ToJson());
        Assert.Equal(spec.Measure, back.Measure);
        Assert.Equal(spec.Limits, back.Limits);
        Assert.Equal((spec.Seed, spec.Name, spec.Question), (back.Seed, back.Name, back.Question));
    }
}
