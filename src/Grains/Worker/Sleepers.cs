namespace Experiments.Grains.Worker;

/// <summary>Waking whoever waits for a semaphore to look again.</summary>
internal static class Sleepers
{
    /// <summary>One wake-up is as good as several.</summary>
    public static void Wake(this SemaphoreSlim sleeper)
    {
        if (sleeper.CurrentCount == 0)
        {
            sleeper.Release();
        }
    }
}
