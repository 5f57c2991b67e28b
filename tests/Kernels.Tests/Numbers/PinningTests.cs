using System.Collections.Concurrent;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Tests.Numbers;

/// <summary>What the system itself says of a thread: the processors that it may use, from /proc/thread-self/status.</summary>
public sealed class PinningTests
{
    private static int Most => Math.Min(3, Pinning.Cores.Count);

    [Fact]
    public void Each_thread_of_a_call_has_a_core_of_its_own_and_only_while_it_is_asked_for()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "threads are pinned on Linux only");
        string before = Allowed();
        using (Pinning.Pin(Most))
        {
            Assert.Equal($"{Pinning.Cores[0]}", Allowed());
            for (int again = 0; again < 3; again++)
            {
                ConcurrentBag<string> seen = Look(Most);
                Assert.Equal(Pinning.Cores.Take(Most).Select(c => $"{c}").Order(), seen.Order());
            }
        }

        Assert.Equal(before, Allowed());
        Assert.All(Look(Most), seen => Assert.Equal(before, seen));
    }

    [Fact]
    public void Calls_that_are_pinned_elsewhere_at_the_same_time_keep_to_their_cores()
    {
        Assert.SkipUnless(Pinning.Cores.Count >= 2, "two cores are needed");
        string[] seen = new string[2];
        Thread[] callers = [.. Enumerable.Range(0, 2).Select(i => new Thread(() =>
        {
            using (Pinning.Pin(1, first: i))
            {
                seen[i] = Assert.Single(Look(1));
            }
        }))];
        Array.ForEach(callers, c => c.Start());
        Array.ForEach(callers, c => c.Join());
        Assert.Equal([$"{Pinning.Cores[0]}", $"{Pinning.Cores[1]}"], seen);
    }

    [Fact]
    public void A_thread_that_a_pinned_one_starts_is_free()
    {
        // The runtime's own threads may be started by any thread: they must not inherit its core.
        Assert.SkipUnless(Pinning.Cores.Count >= 2, "two cores are needed");
        string before = Allowed(), inside = "";
        using (Pinning.Pin(1))
        {
            Thread thread = new(() => inside = Allowed());
            thread.Start();
            thread.Join();
        }

        Assert.Equal(before, inside);
    }

    [Fact]
    public void More_threads_than_cores_are_refused_in_a_sentence()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "threads are pinned on Linux only");
        int cores = Pinning.Cores.Count;
        Assert.Null(Pinning.Refusal(cores, cores));
        string message = Assert.Throws<InvalidOperationException>(() => { using Pinning.Pinned _ = Pinning.Pin(cores + 1); }).Message;
        Assert.Contains($"for {cores + 1} threads", message, StringComparison.Ordinal);
        Assert.Throws<InvalidOperationException>(() => { using Pinning.Pinned _ = Pinning.Pin(1, first: cores); });
    }

    [Fact]
    public void Physical_cores_are_taken_before_the_second_thread_of_any()
    {
        Assert.Equal([0, 2, 4, 1, 3, 5], Pinning.InOrder([0, 1, 2, 3, 4, 5], p => $"{p / 2}"));
        Assert.Equal([1, 2, 5], Pinning.InOrder([1, 2, 5], p => $"{p % 4 / 2}:{p}"));
        Assert.Equal([3, 6, 7], Pinning.InOrder([3, 6, 7], p => $"{p / 2}"));
    }

    [Theory]
    [InlineData("exact")]
    [InlineData("low-rank")]
    public void The_bits_are_those_of_a_call_that_is_not_pinned(string name)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "threads are pinned on Linux only");
        AttentionProblem<double> problem = Problems.Random(3, 700, 5, 2);
        Settings settings = new(new Dictionary<string, object> { ["degree"] = 4L, ["pin"] = true });
        GradientOutput<double> free = new(700, 5), pinned = new(700, 5);
        BuiltIn.Kernel(name).Compute(problem, settings, free, new KernelContext(CancellationToken.None, Most));
        using (Pinning.Pin(Most))
        {
            BuiltIn.Kernel(name).Compute(problem, settings, pinned, new KernelContext(CancellationToken.None, Most));
        }

        Assert.Equal(free.DX, pinned.DX);
        Assert.Equal(free.Forward, pinned.Forward);
    }

    private static string Allowed() => File.ReadLines("/proc/thread-self/status")
        .First(l => l.StartsWith("Cpus_allowed_list:", StringComparison.Ordinal)).Split(':')[1].Trim();

    private static ConcurrentBag<string> Look(int threads)
    {
        Looking looking = new(threads);
        looking.Run(threads, threads, TestContext.Current.CancellationToken);
        return looking.Seen;
    }

    /// <summary>A chunk a thread: each waits for the others, so that none takes two.</summary>
    private sealed class Looking(int threads) : Chunks
    {
        private int _there;

        public ConcurrentBag<string> Seen { get; } = [];

        protected override void Take()
        {
            while (Next() >= 0)
            {
                Seen.Add(Allowed());
                Interlocked.Increment(ref _there);
                Assert.True(SpinWait.SpinUntil(() => Volatile.Read(ref _there) == threads, TimeSpan.FromMinutes(1)));
            }
        }
    }
}
