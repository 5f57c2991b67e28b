using Experiments.Grains.Running;
using Experiments.Grains.Worker;
using Experiments.Results.Outcomes;
using Experiments.Results.Store;
using Experiments.Silo;

namespace Experiments.Grains.Tests;

public sealed class LimitTests
{
    [Fact]
    public async Task An_instance_whose_inputs_alone_are_too_large_is_skipped_with_what_it_needs_and_the_sweep_goes_on()
    {
        await using SiloFixture fixture = await SiloFixture.CreateAsync();
        long sweep = await fixture.CreateSweepAsync("""
            name: huge
            seed: 5
            instances: {family: uniform, n: [16, 200000000], d: 64, bound: 1}
            kernels: [{kernel: low-rank, degree: 2}]
            measure: {rounds: 1, min_time: 0, max_noise: 0}
            """);
        await using LocalSilo silo = await fixture.SiloAsync();
        SweepEnd end = await silo.RunAsync(sweep, CancellationToken.None, CancellationToken.None);
        Assert.Equal(SweepEnding.Done, end.Ending);
        Assert.Equal(1, end.Progress.Done);
        Assert.Equal(1, end.Progress.Skipped);
        Assert.Contains("needs", await fixture.ScalarAsync<string>("SELECT reason FROM experiments.trial WHERE status = 'skipped'"), StringComparison.Ordinal);
    }

    [Fact]
    public void Progress_never_counts_more_trials_than_there_are()
    {
        // As when a process wakes up after another has run and committed what it still holds.
        ShardLease lease = new(1, 0, 1, 0, 4, 0, 4, 0);
        ShardRun run = new(null!, lease, new HashSet<long>(), new OutcomeList(), CancellationToken.None);
        for (int i = 0; i < 3; i++)
        {
            run.Count(TrialStatus.Done);
        }

        using ComputePool pool = new(1);
        ProgressCount count = new(4);
        Assert.Equal(3, count.Snapshot([run], pool, TimeSpan.Zero, 0, 0).Done);
        count.Note(new SweepProgress(SweepState.Done, 4, 4, 0, 0, 1, 1, 0));
        Assert.InRange(count.Snapshot([run], pool, TimeSpan.Zero, 0, 0).Done, 3, 4);
        Assert.Equal(4, count.Snapshot([], pool, TimeSpan.Zero, 0, 0).Done);
    }
}
