using Experiments.Results.Store;
using Experiments.Testing;
using Npgsql;

namespace Experiments.Results.Tests.Store;

/// <summary>A fresh store a test, and what an owner may look at.</summary>
public abstract class StoreTest : IAsyncLifetime
{
    protected static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    protected StoreAddress Address { get; private set; } = null!;

    protected ResultStore Store { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        Address = await TestPostgres.CreateDatabaseAsync();
        Store = await ResultStore.OpenAsync(Address, Cancellation);
    }

    public virtual async ValueTask DisposeAsync()
    {
        await Store.DisposeAsync();
        GC.SuppressFinalize(this);
    }

    protected async Task OwnerAsync(string sql)
    {
        await using NpgsqlConnection connection = new(Address.Owner);
        await connection.OpenAsync(Cancellation);
        await using NpgsqlCommand command = new(sql, connection);
        await command.ExecuteNonQueryAsync(Cancellation);
    }

    protected async Task<object?> ScalarAsync(string sql)
    {
        await using NpgsqlConnection connection = new(Address.Owner);
        await connection.OpenAsync(Cancellation);
        await using NpgsqlCommand command = new(sql, connection);
        return await command.ExecuteScalarAsync(Cancellation);
    }
}
