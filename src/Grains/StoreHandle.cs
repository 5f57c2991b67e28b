using Experiments.Results.Store;

namespace Experiments.Grains;

/// <summary>The store, which may still be starting while the silo already is.</summary>
public sealed class StoreHandle(Task<ResultStore> store)
{
    public Task<ResultStore> GetAsync(CancellationToken cancellation) =>
        store.IsCompletedSuccessfully ? store : store.WaitAsync(cancellation);
}
