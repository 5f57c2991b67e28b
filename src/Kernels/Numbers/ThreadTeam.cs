using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;

namespace Experiments.Kernels.Numbers;

/// <summary>Threads that are kept between calls: starting one costs as much as a small kernel's whole run.</summary>
/// <remarks>
/// They are the kernels' own, never the pool's, which belongs to the silo's other work. A thread that nobody has needed for a while ends.
/// A caller owns its helpers from <see cref="Start"/> to <see cref="Helper.Wait"/>, so concurrent calls never share one. A helper that
/// is pinned to a core stays there, and waits with those of its core.
/// </remarks>
internal static class ThreadTeam
{
    private static readonly TimeSpan KeptFor = TimeSpan.FromSeconds(10);
    private static readonly ConcurrentStack<Helper> Free = new();
    private static readonly ConcurrentDictionary<int, ConcurrentStack<Helper>> Pinned = new();

    /// <summary>Runs <paramref name="work"/>, which must not throw, on another thread.</summary>
    /// <param name="core">The processor to keep it on; −1 for any.</param>
    public static Helper Start(Action work, int core = -1)
    {
        ConcurrentStack<Helper> idle = core < 0 ? Free : Pinned.GetOrAdd(core, static _ => new());
        while (idle.TryPop(out Helper? helper))
        {
            if (helper.TryGive(work))
            {
                return helper;
            }
        }

        return new Helper(work, core, idle);
    }

    [SuppressMessage("Design", "CA1001", Justification = "Its events are never asked for a handle, so there is nothing to dispose.")]
    public sealed class Helper
    {
        // Long enough to bridge the gap between two calls of a timed loop without sleeping, short enough not to warm the room.
        private const int SpinsBeforeSleep = 200;

        private readonly ManualResetEventSlim _given = new(true, SpinsBeforeSleep);
        private readonly ManualResetEventSlim _finished = new(false, SpinsBeforeSleep);
        private readonly int _core;
        private readonly ConcurrentStack<Helper> _idle;
        private Action? _work;
        private bool _ended;

        public Helper(Action work, int core, ConcurrentStack<Helper> idle)
        {
            _work = work;
            _core = core;
            _idle = idle;
            new Thread(Loop) { IsBackground = true, Name = "kernel" }.Start();
        }

        /// <summary>Waits until the work is done; the helper is then anybody's again.</summary>
        public void Wait()
        {
            _finished.Wait();
            _idle.Push(this);
        }

        /// <summary>False when its thread has ended.</summary>
        public bool TryGive(Action work)
        {
            lock (_given)
            {
                if (_ended)
                {
                    return false;
                }

                _work = work;
                _finished.Reset();
                _given.Set();
                return true;
            }
        }

        private void Loop()
        {
            if (_core >= 0)
            {
                // The caller has been on this core a moment ago, so that a refusal would be news; the work is done all the same.
                _ = Pinning.TryMove(_core);
            }

            while (true)
            {
                if (!_given.Wait(KeptFor))
                {
                    lock (_given)
                    {
                        if (!_given.IsSet)
                        {
                            _ended = true;
                            return;
                        }
                    }
                }

                _given.Reset();
                Action work = _work!;
                _work = null;
                work();
                _finished.Set();
            }
        }
    }
}
