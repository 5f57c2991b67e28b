using System.Numerics;
using System.Runtime.InteropServices;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.AttentionGradient.Exact;
using Experiments.Kernels.Contract;
using Experiments.Kernels.Numbers;

namespace Experiments.Kernels.Tests.Guarded;

/// <summary>What low-rank predicts to hold is what it holds, by the buffers that it has at once; what exact predicts is enough.</summary>
public sealed class HeldMemoryTests(ITestOutputHelper log)
{
    /// <summary>In a child, since every call of the process would be counted.</summary>
    [Theory]
    [InlineData(nameof(Calls_that_are_counted))]
    [InlineData(nameof(Blocks_of_rows_that_are_counted))]
    public async Task What_is_held_at_once_is_what_was_predicted(string counted)
    {
        (int exitCode, string output) = await ChildProcess.RunAsync(
            ["--explicit", "only", "--filter-method", $"{typeof(HeldMemoryTests).FullName}.{counted}"]);
        log.WriteLine(output);
        Assert.True(exitCode == 0 && ChildProcess.Total(output) == 1, output);
    }

    /// <summary>What a child runs.</summary>
    [Fact(Explicit = true)]
    public void Calls_that_are_counted()
    {
        foreach ((int n, int d, int degree) in ((int, int, int)[])[(20000, 4, 3), (5000, 8, 4), (3000, 3, 8), (40000, 2, 2)])
        {
            AttentionProblem<double> problem = RandomProblem.Unscaled(3, n, d);
            RandomProblem.Scale(problem.A1, 0.1);
            foreach (int threads in (int[])[1, 3])
            {
                Count(problem, degree, threads);
                Count(problem.To<float>(), degree, threads);
            }
        }
    }

    /// <summary>What a child runs: exact's blocks of rows, whatever the vectors, as a sweep is planned on other machines than it runs on.</summary>
    [Fact(Explicit = true)]
    public void Blocks_of_rows_that_are_counted()
    {
        foreach ((int n, int d) in ((int, int)[])[(1, 1), (700, 600), (4000, 256), (3000, 40), (45_000, 8), (200_000, 32)])
        {
            foreach (int threads in (int[])[1, 2, 5, 300])
            {
                CountRows<Lanes512<float>, float>(n, d, threads);
                CountRows<Lanes256<float>, float>(n, d, threads);
                CountRows<Lanes128<float>, float>(n, d, threads);
                CountRows<LanesScalar<float>, float>(n, d, threads);
                CountRows<Lanes256<double>, double>(n, d, threads);
            }
        }
    }

    // A thread takes its scratch before it looks whether to stop.
    private void CountRows<V, T>(int n, int d, int threads)
        where V : struct, ILanes<V, T>
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        using CancellationTokenSource cancelled = new();
        cancelled.Cancel();
        T[] tokens = new T[n * d], mixing = new T[d * d];
        AttentionProblem<T> problem = new(n, d, tokens, tokens, tokens, tokens, mixing, mixing);
        Tally tally = new();
        ScratchMemory.Instead = tally;
        try
        {
            using LaneRows<V, T> rows = new(problem, new RowSet<T>(problem), new(n, d), new(cancelled.Token, threads));
            double shared = tally.Most;
            Assert.Throws<OperationCanceledException>(() => rows.Run(rows.ChunkCount, 1, cancelled.Token));
            double held = shared + (Math.Min(threads, rows.ChunkCount) * (tally.Most - shared));
            double predicted = LaneRows<V, T>.Bytes(n, n, d, threads);
            double whole = new ExactGradient().Predict(n, d, Marshal.SizeOf<T>(), threads, Settings.None).StateBytes;
            string what = $"n={n} d={d} {typeof(V).Name} {typeof(T).Name} threads={threads}: {held:N0} bytes, predicted {predicted:N0} of {whole:N0}";
            log.WriteLine(what);
            Assert.True(held <= predicted && predicted <= whole, what);

            // Every chunk has a thread, and no more processors share the caches.
            Assert.True(threads < Environment.ProcessorCount || threads > rows.ChunkCount || held >= 0.5 * predicted, what);
        }
        finally
        {
            ScratchMemory.Instead = null;
        }
    }

    private void Count<T>(AttentionProblem<T> problem, int degree, int threads)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        foreach (string gradients in (string[])["x", "all"])
        {
            Settings settings = Problems.Set(("degree", (long)degree), ("gradients", gradients));
            GradientOutput<T> output = new(problem.N, problem.D);
            Tally tally = new();
            ScratchMemory.Instead = tally;
            try
            {
                BuiltIn.Kernel("low-rank").Compute(
                    problem, settings, gradients == "all" ? output.AskingForAll() : output, new(TestContext.Current.CancellationToken, threads));
            }
            finally
            {
                ScratchMemory.Instead = null;
            }

            Assert.Equal(0, tally.Held);
            double predicted = BuiltIn.Kernel("low-rank").Predict(problem.N, problem.D, Marshal.SizeOf<T>(), threads, settings).StateBytes;
            double part = tally.Most / predicted;
            string what = $"n={problem.N} d={problem.D} degree={degree} {typeof(T).Name} threads={threads} {gradients}";
            log.WriteLine($"{what}: {tally.Most:N0} bytes, {part:P0} of what is predicted");

            // One thread may have done all before the others began.
            Assert.True(part >= (threads == 1 ? 0.8 : 0.4) && part <= 1.05, $"{what}: {tally.Most:N0} bytes, and {predicted:N0} were predicted");
        }
    }

    /// <summary>Memory of the usual kind, counted.</summary>
    private sealed unsafe class Tally : IScratchSource
    {
        private readonly Lock _lock = new();

        public long Held { get; private set; }

        public long Most { get; private set; }

        public void* Take(long bytes)
        {
            Add(bytes);
            return NativeMemory.AlignedAlloc((nuint)Math.Max(bytes, 1), 64);
        }

        public void Give(void* start, long bytes)
        {
            Add(-bytes);
            NativeMemory.AlignedFree(start);
        }

        public T[] Rent<T>(int length)
            where T : unmanaged
        {
            Add((long)length * sizeof(T));
            return new T[length];
        }

        public void Return<T>(T[] array)
            where T : unmanaged => Add(-(long)array.Length * sizeof(T));

        private void Add(long bytes)
        {
            lock (_lock)
            {
                Held += bytes;
                Most = Math.Max(Most, Held);
            }
        }
    }
}
