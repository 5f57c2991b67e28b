using Experiments.Results.Outcomes;
using Experiments.Results.Sweeps;

namespace Experiments.Results.Tests.Sweeps;

public sealed class ExtensionTests
{
    private const string Base = """
        name: base
        seed: 7
        instances: {family: uniform, n: [32, 128], d: 4, bound: [0.5, 2], repeats: 2}
        kernels:
          - kernel: exact
            precision: [float32]
          - kernel: low-rank
            degree: [2, 4]
            precision: [float32]
            where: rank <= n
        measure: {rounds: 2, min_time: 1ms, max_noise: 0}
        """;

    [Fact]
    public void An_extension_holds_what_is_new_once_and_nothing_that_was_there()
    {
        int seed = Environment.TickCount;
        for (int run = 0; run < 200; run++)
        {
            Random random = new(seed + run);
            (string shorter, string longer) = Pair(random);
            SweepSpec before = Parse(shorter);
            SweepSpec after = Parse(longer);
            CostModel model = new() { ShardTrials = random.Next(1, 40), ShardSeconds = 1e9 };
            HashSet<Guid> had = [.. Keys(before).Select(k => k.Key)];
            List<Guid> all = [.. Keys(after).Select(k => k.Key)];
            SweepExtension extension = SweepExtension.Of(before, after, TestCatalog.Catalog, model, 5, had.Count, TestContext.Current.CancellationToken);

            List<Guid> added = [];
            SweepExpansion expansion = new(after, TestCatalog.Catalog);
            int number = 5;
            long trial = had.Count;
            foreach (ShardPlan shard in extension.Shards)
            {
                Assert.True((shard.Number, shard.FirstTrial) == (number++, trial), $"seed {seed + run}");
                List<Guid> own = [];
                int place = 0;
                for (long i = shard.FirstInstance; i < shard.EndInstance; i++)
                {
                    if (expansion.At(i) is InstancePlan plan)
                    {
                        foreach (TrialSpec one in plan.Trials)
                        {
                            if (ShardLease.NumberOf(shard.FirstTrial, shard.Only, place++) is long numbered)
                            {
                                Assert.True(numbered == trial + own.Count, $"seed {seed + run}");
                                own.Add(one.KeyOn(plan.Instance));
                            }
                        }
                    }
                }

                Assert.True(own.Count == shard.Trials && own.Count > 0, $"seed {seed + run}");
                Assert.True(own.Count <= model.ShardTrials || shard.EndInstance == shard.FirstInstance + 1, $"seed {seed + run}");
                trial += shard.Trials;
                added.AddRange(own);
            }

            Assert.True(added.Count == added.Distinct().Count() && !added.Exists(had.Contains), $"seed {seed + run}");
            Assert.True(all.ToHashSet().SetEquals(had.Concat(added)), $"seed {seed + run}");
            Assert.True((all.Count - had.Count, added.Count) == (extension.NewTrials, extension.NewTrials), $"seed {seed + run}");
            Assert.True(extension.Instances == expansion.Count(TestContext.Current.CancellationToken).Instances, $"seed {seed + run}");
        }
    }

    [Theory]
    [InlineData("seed: 7", "seed: 8", "seed is 8 and was 7")]
    [InlineData("rounds: 2", "rounds: 3", "measure.rounds is 3 and was 2")]
    [InlineData("min_time: 1ms", "min_time: 2ms", "measure.min_time is 2ms and was 1ms")]
    [InlineData("max_noise: 0", "max_noise: 0, sharing: true", "measure.sharing is true and was false")]
    [InlineData("max_noise: 0", "max_noise: 0, reference: none", "measure.reference is none and was exact-float64")]
    [InlineData("max_noise: 0", "max_noise: 0, reference: {rows: 16}", "measure.reference is {rows: 16} and was exact-float64")]
    [InlineData("n: [32, 128]", "n: [32, 64]", "instances.n lacks 128")]
    [InlineData("n: [32, 128]", "n: {pow2: [6, 9]}", "instances.n lacks 32")]
    [InlineData("bound: [0.5, 2]", "bound: [0.25, 0.5, 1]", "instances.bound lacks 2")]
    [InlineData("repeats: 2", "repeats: 1", "instances.repeats is 1 and was 2")]
    [InlineData("family: uniform", "family: gaussian", "instances.family lacks uniform")]
    [InlineData("degree: [2, 4]", "degree: [2, 3]", "kernels.1.degree lacks 4")]
    [InlineData("kernel: exact", "kernel: reference", "kernels.0.kernel lacks exact")]
    [InlineData("precision: [float32]\n    where", "precision: [float64]\n    where", "kernels.1.precision lacks float32")]
    [InlineData("bound: [0.5, 2]", "bound: [0.5, 2], where: n < 64", "lacks trials that the sweep has, such as exact float32 on family=uniform n=128")]
    [InlineData("where: rank <= n", "where: rank < 20", "lacks trials that the sweep has, such as low-rank float32")]
    public void What_is_no_extension_is_refused_by_the_key_that_lost_something(string from, string to, string said)
    {
        Assert.Contains(from, Base, StringComparison.Ordinal);
        ArgumentException fault = Assert.Throws<ArgumentException>(() => Extend(Base, Base.Replace(from, to, StringComparison.Ordinal)));
        Assert.Contains(said, fault.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', fault.Message);
    }

    [Fact]
    public void A_sampled_sweep_is_extended_by_samples_and_a_changed_grid_draws_others()
    {
        string sampled = Base.Replace("kernels:", "search: random\nsamples: 4\nkernels:", StringComparison.Ordinal);
        SweepExtension extension = Extend(sampled, sampled.Replace("samples: 4", "samples: 7", StringComparison.Ordinal));
        Assert.Equal((7, 3), (extension.Instances, extension.ExtendedInstances));
        Assert.All(extension.Shards, s => Assert.Null(s.Only));
        Assert.Throws<ArgumentException>(() => Extend(sampled, sampled.Replace("samples: 4", "samples: 3", StringComparison.Ordinal)));
    }

    [Fact]
    public void The_same_sweep_otherwise_limited_adds_nothing() =>
        Assert.Empty(Extend(Base, Base + "\nlimits: {memory: 8GiB}\n").Shards);

    private static SweepExtension Extend(string before, string after) => SweepExtension.Of(
        Parse(before), Parse(after), TestCatalog.Catalog, new CostModel(), 3, new SweepExpansion(Parse(before), TestCatalog.Catalog).Count().Trials, CancellationToken.None);

    private static SweepSpec Parse(string text) => SweepFile.Parse(text, "t.yaml", ".", TestCatalog.Catalog);

    private static IEnumerable<(Guid Key, long Index)> Keys(SweepSpec spec)
    {
        SweepExpansion expansion = new(spec, TestCatalog.Catalog);
        for (long i = 0; i < expansion.ProductSize; i++)
        {
            foreach (TrialSpec trial in expansion.At(i)?.Trials ?? [])
            {
                yield return (trial.KeyOn(expansion.At(i)!.Instance), i);
            }
        }
    }

    /// <summary>A sweep and one that has all of it: values anywhere among those that were, a block before the others, more repeats.</summary>
    private static (string Shorter, string Longer) Pair(Random random)
    {
        (string[] Some, string[] All) Values(params string[] pool)
        {
            string[] all = [.. pool.OrderBy(_ => random.Next()).Take(random.Next(1, pool.Length + 1))];
            bool[] kept = [.. all.Select(_ => random.Next(2) == 0)];
            kept[random.Next(kept.Length)] = true;
            return ([.. all.Where((_, i) => kept[i])], all);
        }

        (string[] Some, string[] All) n = Values("16", "32", "64", "128"), bound = Values("0.5", "1", "2"), degree = Values("1", "2", "3", "4");
        (string[] Some, string[] All) basis = Values("taylor", "minimax"), precision = Values("float32", "float64");
        int repeats = random.Next(1, 4);
        string block = random.Next(2) == 0 ? "- {kernel: reference, precision: float64}" : "- {kernel: exact, precision: [float32, float64], threads: 2}";
        string Text(Func<(string[] Some, string[] All), string[]> of, int times, bool more) => $$"""
            name: pair
            seed: 3
            instances: {family: gaussian, n: [{{string.Join(", ", of(n))}}], d: 4, bound: [{{string.Join(", ", of(bound))}}], repeats: {{times}}}
            kernels:
              {{(more ? block : "- {kernel: exact, precision: float32}")}}
              {{(more ? "- {kernel: exact, precision: float32}" : "")}}
              - {kernel: low-rank, degree: [{{string.Join(", ", of(degree))}}], basis: [{{string.Join(", ", of(basis))}}], precision: [{{string.Join(", ", of(precision))}}], where: rank <= n}
            measure: {rounds: 1, min_time: 0}
            """;
        return (Text(v => v.Some, repeats, false), Text(v => v.All, repeats + random.Next(3), random.Next(2) == 0));
    }
}
