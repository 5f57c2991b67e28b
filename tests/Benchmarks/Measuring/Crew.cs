namespace Experiments.Benchmarks.Measuring;

/// <summary>Threads that are kept and start together, for what must not be charged with starting them.</summary>
internal sealed class Crew : IDisposable
{
    private readonly SemaphoreSlim[] _wake;
    private readonly CountdownEvent _done;
    private Action? _work;
    private int _present;
    private volatile bool _ending;

    /// <param name="threads">All of them, the caller's own included.</param>
    public Crew(int threads)
    {
        Threads = threads;
        _done = new(threads - 1);
        _wake = new SemaphoreSlim[threads - 1];
        for (int i = 0; i < _wake.Length; i++)
        {
            SemaphoreSlim wake = _wake[i] = new(0);
            new Thread(() => Serve(wake)) { IsBackground = true, Name = "crew" }.Start();
        }
    }

    public int Threads { get; }

    /// <summary>Every thread does the work once; none begins before all are awake.</summary>
    /// <returns>Seconds from the moment all were awake to the end of the last.</returns>
    public double Run(Action work, Clock clock)
    {
        if (Threads == 1)
        {
            double began = clock.Seconds();
            work();
            return clock.Seconds() - began;
        }

        _work = work;
        _present = 0;
        _done.Reset();
        foreach (SemaphoreSlim wake in _wake)
        {
            wake.Release();
        }

        AwaitAll();
        double start = clock.Seconds();
        work();
        _done.Wait();
        return clock.Seconds() - start;
    }

    public void Dispose()
    {
        _ending = true;
        foreach (SemaphoreSlim wake in _wake)
        {
            wake.Release();
        }

        _done.Dispose();
    }

    private void Serve(SemaphoreSlim wake)
    {
        for (; ; )
        {
            wake.Wait();
            if (_ending)
            {
                return;
            }

            AwaitAll();
            _work!();
            _done.Signal();
        }
    }

    private void AwaitAll()
    {
        Interlocked.Increment(ref _present);
        SpinWait spin = default;
        while (Volatile.Read(ref _present) < Threads)
        {
            spin.SpinOnce(sleep1Threshold: -1);
        }
    }
}
