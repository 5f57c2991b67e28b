using Experiments.Results.PrivatePostgres;
using Experiments.Results.Store;

namespace Experiments.Client;

/// <summary>The store, as verbs reach it: found or started, then read as the reader role.</summary>
internal static class Stores
{
    /// <summary>The store that the settings name, or the private one, started if it does not run.</summary>
    public static Task<StoreAddress> LocateAsync(Invocation invocation, CancellationToken cancellation) =>
        StoreLocator.ResolveAsync(invocation.Settings.Postgres.Value, invocation.Terminal.Notice, cancellation);

    /// <summary>The store, to read from.</summary>
    public static async Task<ResultStore> OpenReaderAsync(Invocation invocation) =>
        await ResultStore.OpenReaderAsync(await LocateAsync(invocation, invocation.Cancellation), invocation.Cancellation);

    /// <exception cref="CommandException">There is no such sweep.</exception>
    public static async Task<long> FindSweepAsync(ResultStore store, string given, CancellationToken cancellation) =>
        await store.FindSweepAsync(given, cancellation)
            ?? throw CommandException.Invalid(given == "last"
                ? "There is no sweep yet. 'experiments run quickstart' makes one."
                : $"There is no sweep '{given}'. 'experiments list' shows those there are.");
}
