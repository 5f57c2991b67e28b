using System.Runtime.CompilerServices;

namespace Experiments.Client.Tests.Driving;

/// <summary>Whoever runs these tests may have a private store, and it may be up: no test may find it.</summary>
internal static class NoStoreOfOnesOwn
{
    // Below the temporary folder, where root's server could run as well: what root cannot use is passed over for /var/lib.
    [ModuleInitializer]
    internal static void Hide() => Environment.SetEnvironmentVariable(
        "XDG_DATA_HOME", Path.Combine(Path.GetTempPath(), "experiments-tests-without-a-store"));
}
