using Experiments.Grains.Running;
using Experiments.Results.Store;

namespace Experiments.Client.Running;

/// <summary>The bytes of the files that sweeps carry, which the reader may not read: the store is opened again for them, as the writer, when one is asked for.</summary>
internal sealed class SweepFiles(Invocation invocation) : IAsyncDisposable
{
    private ResultStore? _store;

    /// <param name="otherwise">What goes without them.</param>
    /// <exception cref="CommandException">This login may not read them.</exception>
    public async Task<ResultStore> OpenAsync(string otherwise)
    {
        _store ??= await ResultStore.OpenAsync(await Stores.LocateAsync(invocation, invocation.Cancellation), invocation.Cancellation);
        return await _store.MayReadFilesAsync(invocation.Cancellation) ? _store : throw CommandException.Invalid(
            $"The sweep carries files, and this login may not read them. Name one that may write in {invocation.Settings.Postgres.Source}; {otherwise}.");
    }

    public async ValueTask DisposeAsync()
    {
        if (_store is not null)
        {
            await _store.DisposeAsync();
        }
    }

    /// <param name="reader">Says which files there are.</param>
    public IFileSource Beside(ResultStore reader) => new Source(this, reader);

    private sealed class Source(SweepFiles files, ResultStore reader) : IFileSource
    {
        public Task<StoredFile?> FindAsync(Guid content, CancellationToken cancellation) => reader.FindFileAsync(content, cancellation);

        public async Task<byte[]?> FindPieceAsync(Guid content, int number, CancellationToken cancellation) =>
            await (await files.OpenAsync("a machine that has them where the sweep was submitted needs no login for them"))
                .FindFilePieceAsync(content, number, cancellation);
    }
}
