using System.Diagnostics;

namespace Experiments.Grains;

/// <summary>Places where a test may have the process die, to see that nothing is lost or stored twice.</summary>
/// <remarks>
/// <c>EXPERIMENTS_FAILPOINT=before-commit:3</c> kills the process the third time it comes to that point, by SIGKILL where
/// there is one: no handler, no finally, no flush. Unset, a point costs one read of a static field.
/// </remarks>
internal static class Failpoints
{
    public const string BeforeLease = "before-lease";
    public const string AfterLease = "after-lease";
    public const string MidFetch = "mid-fetch";
    public const string MidShard = "mid-shard";
    public const string BeforeCommit = "before-commit";
    public const string AfterCommit = "after-commit";

    private static readonly string? Armed = Environment.GetEnvironmentVariable("EXPERIMENTS_FAILPOINT");
    private static int _passed;

    public static void Hit(string point)
    {
        if (Armed is not null)
        {
            Consider(point);
        }
    }

    private static void Consider(string point)
    {
        string[] parts = Armed!.Split(':');
        int at = parts.Length > 1 && int.TryParse(parts[1], out int n) ? n : 1;
        if (parts[0] == point && Interlocked.Increment(ref _passed) == at)
        {
            using Process self = Process.GetCurrentProcess();
            self.Kill();
        }
    }
}
