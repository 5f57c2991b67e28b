using System.Globalization;
using CsCheck;

namespace Experiments.Testing;

/// <summary>Random samples that are the same in every run, so that a change is what breaks a test and never the draw.</summary>
/// <remarks>The environment variable EXPERIMENTS_TEST_SEED, a whole number, draws others, for soaking.</remarks>
public static class FixedSamples
{
    private static readonly ulong Seed = ulong.Parse(
        Environment.GetEnvironmentVariable("EXPERIMENTS_TEST_SEED") ?? "1", CultureInfo.InvariantCulture);

    public static void SampleFixed<T>(this Gen<T> gen, Action<T> assert, int iterations = 100)
    {
        for (int i = 0; i < iterations; i++)
        {
            gen.Sample(assert, seed: SeedOf(i), iter: 1, threads: 1);
        }
    }

    public static async Task SampleFixedAsync<T>(this Gen<T> gen, Func<T, Task> assert, int iterations = 100)
    {
        for (int i = 0; i < iterations; i++)
        {
            await gen.SampleAsync(assert, seed: SeedOf(i), iter: 1, threads: 1);
        }
    }

    private static string SeedOf(int i) => new PCG((uint)i, Seed).ToString();
}
