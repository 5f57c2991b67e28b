using Experiments.Grains.Running;

namespace Experiments.Grains.Tests;

public sealed class ComputePoolTests
{
    [Fact]
    public async Task Work_runs_on_the_lanes_own_threads_and_never_on_the_thread_pool()
    {
        using ComputePool pool = new(2);
        TaskCompletionSource<(bool Pool, string? Name)> seen = new();
        pool.Enqueue(false, _ => seen.SetResult((Thread.CurrentThread.IsThreadPoolThread, Thread.CurrentThread.Name)));

        (bool onPool, string? name) = await seen.Task;
        Assert.False(onPool);
        Assert.StartsWith("compute-", name, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Exclusive_work_has_the_lanes_to_itself_and_shared_work_does_not()
    {
        using ComputePool pool = new(3);
        int running = 0;
        int most = 0;
        bool disturbed = false;
        using CountdownEvent ended = new(60);
        using Barrier together = new(3);
        for (int i = 0; i < 57; i++)
        {
            bool exclusive = i % 3 == 0;
            pool.Enqueue(exclusive, _ =>
            {
                int now = Interlocked.Increment(ref running);
                disturbed |= exclusive && now != 1;
                Thread.SpinWait(20_000);
                disturbed |= exclusive && Volatile.Read(ref running) != 1;
                Interlocked.Decrement(ref running);
                ended.Signal();
            });
        }

        for (int i = 0; i < 3; i++)
        {
            pool.Enqueue(false, _ =>
            {
                most = Math.Max(most, Interlocked.Increment(ref running));
                Assert.True(together.SignalAndWait(TimeSpan.FromMinutes(1)));
                Interlocked.Decrement(ref running);
                ended.Signal();
            });
        }

        await Task.Run(() => Assert.True(ended.Wait(TimeSpan.FromMinutes(1))), TestContext.Current.CancellationToken);
        Assert.False(disturbed);
    }

    [Fact]
    public void A_closed_pool_takes_nothing_more()
    {
        ComputePool pool = new(1);
        pool.Dispose();

        Assert.Throws<ObjectDisposedException>(() => pool.Enqueue(false, _ => { }));
    }

    [Theory]
    [InlineData(34.0 * (1L << 30), "34 GiB")]
    [InlineData(1536, "1.5 KiB")]
    [InlineData(12, "12 B")]
    public void Sizes_are_said_in_three_digits(double bytes, string text) => Assert.Equal(text, Describe.Bytes(bytes));
}
