using System.Globalization;
using System.Text;
using CsCheck;
using Experiments.Results.Sweeps;
using Experiments.Testing;

namespace Experiments.Results.Tests.Sweeps;

public sealed class ExpansionTests
{
    /// <summary>Random sweeps with everything in them, held against a plain loop that shares no code with the expansion.</summary>
    [Fact]
    public void Counts_and_instances_equal_a_plain_enumeration() => Model.Gen.SampleFixed(
        model =>
        {
            SweepSpec spec;
            try
            {
                spec = Sweeps.Read(model.Yaml());
            }
            catch (SweepFileException ex) when (ex.Message.Contains("No trial is left", StringComparison.Ordinal))
            {
                Assert.Empty(model.Enumerate());
                return;
            }

            List<string> expected = [.. model.Enumerate()];
            SweepExpansion expansion = new(spec, TestCatalog.Catalog);
            List<InstancePlan> plans = [.. Sweeps.All(expansion)];
            List<string> actual = [.. plans.SelectMany(p => p.Trials.Select(t => Line(p.Instance, t)))];
            Assert.Equal(expected, actual);

            SweepCounts counts = expansion.Count(TestContext.Current.CancellationToken);
            Assert.Equal(expected.Count, counts.Trials);
            Assert.Equal(plans.Count, counts.Instances);
            Assert.Equal(expansion.ProductSize - plans.Count, counts.FilteredInstances);
            Assert.Equal(plans.Select(p => p.Index).Order(), plans.Select(p => p.Index));

            // Read back from the store it is the same sweep.
            SweepSpec back = SweepSpec.FromJson(spec.ToJson());
            Assert.Equal(spec.ToJson(), back.ToJson());
            Assert.Equal(spec.Hash, back.Hash);
            SweepExpansion again = new(back, TestCatalog.Catalog);
            Assert.Equal(actual, Sweeps.All(again).SelectMany(p => p.Trials.Select(t => Line(p.Instance, t))));

            CheckShards(expansion, plans, new CostModel { ShardTrials = 7 });
            CheckShards(again, plans, new CostModel { ShardSeconds = 0.11 });
        },
        300);

    private static void CheckShards(SweepExpansion expansion, List<InstancePlan> plans, CostModel model)
    {
        long instance = 0;
        long trial = 0;
        int number = 0;
        foreach (ShardPlan shard in expansion.Shards(model, TestContext.Current.CancellationToken))
        {
            Assert.Equal((number++, instance, trial), (shard.Number, shard.FirstInstance, shard.FirstTrial));
            List<InstancePlan> inside = [.. plans.Where(p => p.Index >= shard.FirstInstance && p.Index < shard.EndInstance)];
            Assert.Equal(inside.Sum(p => p.Trials.Count), shard.Trials);
            Assert.True(inside.Count == 1 || (shard.Trials <= model.ShardTrials && shard.PredictedSeconds <= model.ShardSeconds + 1e-9));
            instance = shard.EndInstance;
            trial += shard.Trials;
        }

        Assert.Equal(expansion.ProductSize, instance);
        Assert.Equal(plans.Sum(p => p.Trials.Count), trial);
    }

    [Fact]
    public void A_million_trials_are_counted_in_constant_memory()
    {
        SweepExpansion expansion = Sweeps.Expand("""
            name: million
            instances:
              family: uniform
              n: {pow2: [4, 13]}
              d: ceil(ln(n))
              bound: kappa * sqrt(ln(n))
              kappa: {linspace: [0.01, 1, 100]}
              repeats: 100
            kernels:
              - {kernel: exact, precision: [float32, float64]}
              - {kernel: low-rank, degree: {range: [1, 8]}, basis: taylor, where: rank < 1e9}
            """);
        expansion.Count(TestContext.Current.CancellationToken);
        long before = GC.GetAllocatedBytesForCurrentThread();
        SweepCounts counts = expansion.Count(TestContext.Current.CancellationToken);
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.Equal((100_000, 1_000_000), (counts.Instances, counts.Trials));
        // A megabyte is a byte a trial: nothing of the kind is kept for each.
        Assert.True(allocated < 1_000_000, $"{allocated} bytes");
    }

    [Fact]
    public void Shards_of_a_million_trials_hold_whole_instances()
    {
        SweepExpansion expansion = Sweeps.Expand("""
            name: million
            instances: {family: uniform, n: 16, d: [2, 3], bound: 1, repeats: 100000}
            kernels: {kernel: low-rank, degree: {range: [1, 5]}}
            measure: {rounds: 1, min_time: 0}
            """);
        long trials = 0;
        foreach (ShardPlan shard in expansion.Shards(new CostModel(), TestContext.Current.CancellationToken))
        {
            Assert.Equal(trials, shard.FirstTrial);
            Assert.Equal(0, shard.Trials % 5);
            trials += shard.Trials;
        }

        Assert.Equal(1_000_000, trials);
    }

    /// <summary>Leased longest first, they end with the small ones, and yet most of a long sweep is in whole ones.</summary>
    [Fact]
    public void Shards_grow_with_what_lies_before_them()
    {
        SweepExpansion expansion = Sweeps.Expand("""
            name: long
            instances: {family: uniform, n: 64, d: 4, bound: 1, repeats: 20000}
            kernels: {kernel: exact, precision: [float32, float64]}
            measure: {rounds: 5, min_time: 10ms, reference: none}
            """);
        CostModel model = new();
        double before = 0;
        List<double> seconds = [];
        foreach (ShardPlan shard in expansion.Shards(model, TestContext.Current.CancellationToken))
        {
            double full = Math.Clamp(before / 64, model.LeastShardSeconds, model.ShardSeconds);
            Assert.InRange(shard.PredictedSeconds, shard.EndInstance == expansion.ProductSize ? 0 : full - 0.021, full);
            before += shard.PredictedSeconds;
            seconds.Add(shard.PredictedSeconds);
        }

        Assert.True(before > 390, $"{before}");
        Assert.True(seconds.Where(s => s > 0.97).Sum() > 0.8 * before);
        Assert.True(seconds[0] < 0.21 && seconds.Count < 1.4 * before, $"{seconds.Count} shards");
    }

    /// <summary>Where a rate was measured the sweep is predicted by it: kernel by kernel, and the reference as exact in float64.</summary>
    [Fact]
    public void A_measured_rate_takes_the_place_of_the_assumed_one()
    {
        SweepExpansion expansion = Sweeps.Expand("""
            name: rates
            instances: {family: uniform, n: 4096, d: 8, bound: 1, repeats: 3}
            kernels:
              - {kernel: exact, precision: [float32, float64]}
              - {kernel: low-rank, degree: 2}
            measure: {rounds: 4, min_time: 0}
            """);
        CostModel assumed = new() { AssumedRates = new Dictionary<(string Kernel, string Precision), double>() };
        double Seconds(params (string Kernel, string Precision)[] tenfold) => expansion.Forecast(
            assumed with { MeasuredRates = tenfold.ToDictionary(k => k, _ => 10 * assumed.FlopsPerSecond) },
            TestContext.Current.CancellationToken).Seconds;
        double none = Seconds(), single = none - Seconds(("exact", "float32")), twice = none - Seconds(("exact", "float64"));
        Assert.True(single > 0.3 * none);

        // Six calls instead of five: one more as the reference.
        Assert.Equal(6.0 / 5, twice / single, 0.01);
        Assert.Equal(none - single - twice, Seconds(("exact", "float32"), ("exact", "float64")), 1e-9);

        // What is assumed of a fast kernel gives way to what was measured of it too.
        CostModel usual = new();
        double Predicted(CostModel model) => expansion.Forecast(model, TestContext.Current.CancellationToken).Seconds;
        Assert.True(Predicted(usual) < 0.2 * none);
        Assert.True(Predicted(usual with { MeasuredRates = usual.AssumedRates.ToDictionary(r => r.Key, r => r.Value / 10) }) > 5 * Predicted(usual));
    }

    [Theory]
    [InlineData("random")]
    [InlineData("sobol")]
    public void A_search_draws_as_many_distinct_instances_as_it_is_asked_for(string method) =>
        (from n in Gen.Int[1, 9]
         from b in Gen.Int[1, 30]
         from repeats in Gen.Int[1, 3]
         from filter in Gen.Bool
         from seed in Gen.Int
         select (n, b, repeats, filter, seed)).SampleFixed(
            g =>
            {
                string where = g.filter ? "where: n != 2 or bound > 3" : "";
                int left = g.repeats * ((g.n * g.b) - (g.filter && g.n >= 2 ? Math.Min(3, g.b) : 0));
                int samples = Math.Max(1, left * 2 / 3);
                string text = $"name: s\nseed: {g.seed}\nsearch: {method}\nsamples: {samples}\ninstances:\n  family: uniform\n  n: {{range: [1, {g.n}]}}\n  d: 2\n"
                    + $"  bound: {{range: [1, {g.b}]}}\n  repeats: {g.repeats}\n  {where}\nkernels: {{kernel: exact}}\n";
                SweepExpansion expansion = Sweeps.Expand(text);
                List<InstancePlan> plans = [.. Sweeps.All(expansion)];
                Assert.Equal(samples, plans.Count);
                Assert.Equal(samples, plans.Select(p => p.Instance.Key).Distinct().Count());
                SweepCounts counts = expansion.Count(TestContext.Current.CancellationToken);
                Assert.Equal((samples, samples), (counts.Instances, counts.Trials));
                CheckShards(Sweeps.Expand(text), plans, new CostModel { ShardTrials = 3 });
            },
            60);

    [Fact]
    public void Sobol_samples_spread_over_every_axis()
    {
        SweepExpansion expansion = Sweeps.Expand("""
            name: s
            search: {method: sobol, samples: 64}
            instances: {family: uniform, n: {range: [1, 64]}, d: {range: [1, 64]}, bound: {range: [1, 64]}}
            kernels: {kernel: exact}
            """);
        List<InstanceSpec> drawn = [.. Sweeps.All(expansion).Select(p => p.Instance)];
        Assert.Equal(64, drawn.Select(i => i.N).Distinct().Count());
        Assert.Equal(64, drawn.Select(i => i.D).Distinct().Count());
        Assert.Equal(64, drawn.Select(i => i.Bound).Distinct().Count());
    }

    [Fact]
    public void Mangled_files_give_faults_and_nothing_else()
    {
        string text = File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "Presets", "accuracy.yaml"));
        const string Alphabet = "{}[]:,-&*<>|#'\"!% \n\tan0.^é\0";
        (from edits in Gen.Select(Gen.Int[0, 10_000], Gen.Int[0, 2], Gen.Int[0, Alphabet.Length - 1]).Array[1, 6] select edits).SampleFixed(
            edits =>
            {
                StringBuilder mangled = new(text[text.IndexOf("name:", StringComparison.Ordinal)..]);
                foreach ((int at, int what, int with) in edits)
                {
                    int i = at % mangled.Length;
                    _ = what switch
                    {
                        0 => mangled.Remove(i, Math.Min(1 + (at % 5), mangled.Length - i)),
                        1 => mangled.Insert(i, Alphabet[with]),
                        _ => mangled.Replace(mangled[i], Alphabet[with], i, 1),
                    };
                }

                try
                {
                    SweepSpec spec = Sweeps.Read(mangled.ToString());
                    Assert.Equal(spec.ToJson(), SweepSpec.FromJson(spec.ToJson()).ToJson());
                }
                catch (SweepFileException ex)
                {
                    Assert.All(ex.Faults, f => Assert.True(f.Line >= 1 && f.Column >= 1 && f.Message.Length > 0));
                }
            },
            2000);
    }

    [Fact]
    public void Malformed_json_is_refused_as_such()
    {
        string json = Sweeps.Read("name: j\ninstances: {family: uniform, n: 4, d: 2, bound: 1}\nkernels: {kernel: exact}\n").ToJson();
        for (int i = 0; i < json.Length; i++)
        {
            string cut = json.Remove(i, 1);
            try
            {
                SweepSpec.FromJson(cut);
            }
            catch (FormatException)
            {
                // The one exception it may throw.
            }
        }

        Assert.Throws<FormatException>(() => SweepSpec.FromJson("{}"));
    }

    private static string Line(InstanceSpec i, TrialSpec t) => string.Create(
        CultureInfo.InvariantCulture,
        $"{i.Family} n={i.N} d={i.D} b={i.Bound} r={i.Repeat} {string.Join(' ', i.Parameters.Select(p => $"{p.Key}={p.Value}"))} | {t}");

    /// <summary>A random sweep: its file, and what it expands to, written as loops.</summary>
    private sealed record Model(
        int[] N, double[] Kappa, int Repeats, bool Zip, bool DerivedBound, int InstanceWhere, int[] Degrees, bool Both,
        double[] Radii, int KernelWhere, bool DerivedDegree, bool TwoBlocks)
    {
        public static readonly Gen<Model> Gen =
            from n in CsCheck.Gen.Int[2, 40].Array[1, 4]
            from kappa in CsCheck.Gen.Int[1, 12].Array[1, 4]
            from repeats in CsCheck.Gen.Int[1, 3]
            from zip in CsCheck.Gen.Bool
            from derived in CsCheck.Gen.Bool
            from iw in CsCheck.Gen.Int[0, 4]
            from degrees in CsCheck.Gen.Int[1, 9].Array[1, 4]
            from both in CsCheck.Gen.Bool
            from radii in CsCheck.Gen.Int[1, 5].Array[1, 3]
            from kw in CsCheck.Gen.Int[0, 4]
            from dd in CsCheck.Gen.Bool
            from two in CsCheck.Gen.Bool
            select new Model(
                [.. n.Distinct()], [.. kappa.Distinct().Select(k => k / 4.0)], repeats, zip, derived, iw, [.. degrees.Distinct()], both,
                [.. radii.Distinct().Select(r => r / 2.0)], kw, dd, two);

        private static readonly string[] InstanceWheres =
            ["", "n > 5", "n * kappa < 20 and n != 7", "bound <= 2.5", "not (kappa > 1 or n % 2 == 0)"];

        private static readonly string[] KernelWheres =
            ["", "degree < n / 3", "kernel == exact or rank <= n", "basis == taylor or radius < 2", "kappa * degree <= 6"];

        public string Yaml()
        {
            StringBuilder text = new("name: model\ninstances:\n  family: uniform\n");
            string List<T>(T[] values) => $"[{string.Join(", ", values.Select(v => Convert.ToString(v, CultureInfo.InvariantCulture)))}]";
            int zipped = Math.Min(N.Length, Kappa.Length);
            text.Append(Zip
                ? $"  zip: {{n: {List(N[..zipped])}, kappa: {List(Kappa[..zipped])}}}\n"
                : $"  n: {List(N)}\n  kappa: {List(Kappa)}\n");
            text.Append(CultureInfo.InvariantCulture, $"  d: min(n, 3)\n  bound: {(DerivedBound ? "kappa + n / 16" : "kappa")}\n  repeats: {Repeats}\n");
            text.Append(InstanceWhere == 0 ? "" : $"  where: {InstanceWheres[InstanceWhere]}\n");
            text.Append("kernels:\n");
            if (TwoBlocks)
            {
                text.Append("  - {kernel: low-rank, degree: 2, basis: taylor}\n");
            }

            text.Append(Both ? "  - kernel: [exact, low-rank]\n" : "  - kernel: low-rank\n");
            text.Append(DerivedDegree ? "    degree: ceil(ln(n)) + 1\n" : $"    degree: {List(Degrees)}\n");
            text.Append(CultureInfo.InvariantCulture, $"    basis: [taylor, minimax]\n    radius: {List(Radii)}\n");
            text.Append(KernelWhere == 0 ? "" : $"    where: {KernelWheres[KernelWhere]}\n");
            return text.ToString();
        }

        public IEnumerable<string> Enumerate()
        {
            foreach ((int n, double kappa) in Zip ? N.Zip(Kappa) : N.SelectMany(n => Kappa.Select(k => (n, k))))
            {
                double bound = DerivedBound ? kappa + (n / 16.0) : kappa;
                bool keep = InstanceWhere switch
                {
                    0 => true,
                    1 => n > 5,
                    2 => n * kappa < 20 && n != 7,
                    3 => bound <= 2.5,
                    _ => !(kappa > 1 || n % 2 == 0),
                };
                for (int r = 0; keep && r < Repeats; r++)
                {
                    string instance = string.Create(
                        CultureInfo.InvariantCulture, $"uniform n={n} d={Math.Min(n, 3)} b={bound} r={r} kappa={kappa} | ");
                    foreach (string trial in Trials(n, kappa).Distinct())
                    {
                        yield return instance + trial;
                    }
                }
            }
        }

        private IEnumerable<string> Trials(int n, double kappa)
        {
            if (TwoBlocks)
            {
                yield return "low-rank float32 basis=taylor centred=true degree=2 form=paper";
            }

            foreach (string kernel in Both ? ["exact", "low-rank"] : new[] { "low-rank" })
            {
                foreach (string basis in new[] { "taylor", "minimax" })
                {
                    // Expressions come last: an axis with values of its own is a loop, whatever its place.
                    foreach ((int degree, double radius) in DerivedDegree
                        ? Radii.Select(r => ((int)Math.Ceiling(Math.Log(n)) + 1, r))
                        : [])
                    {
                        if (Keep(kernel, basis, degree, radius, n, kappa))
                        {
                            yield return Text(kernel, basis, degree, radius);
                        }
                    }
                }

                foreach (int degree in DerivedDegree ? [] : Degrees)
                {
                    foreach (string basis in new[] { "taylor", "minimax" })
                    {
                        foreach (double radius in Radii.Where(r => Keep(kernel, basis, degree, r, n, kappa)))
                        {
                            yield return Text(kernel, basis, degree, radius);
                        }
                    }
                }
            }
        }

        private static string Text(string kernel, string basis, int degree, double radius) =>
            kernel == "exact" ? "exact float32"
            : string.Create(
                CultureInfo.InvariantCulture,
                $"low-rank float32 basis={basis} centred=true degree={degree} form=paper{(basis == "minimax" ? $" radius={radius}" : "")}");

        private bool Keep(string kernel, string basis, int degree, double radius, int n, double kappa) => KernelWhere switch
        {
            0 => true,
            1 => degree < n / 3.0,
            2 => kernel == "exact" || Choose(Math.Min(n, 3) + degree, degree) <= n,
            3 => basis == "taylor" || radius < 2,
            _ => kappa * degree <= 6,
        };

        private static long Choose(int a, int b) => b == 0 ? 1 : Choose(a - 1, b - 1) * a / b;
    }
}
