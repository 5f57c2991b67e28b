using Experiments.Results.PrivatePostgres;
using Experiments.Results.Store;

namespace Experiments.Results.Tests.Store;

public sealed class StoreFaultTests
{
    [Fact]
    public void A_place_names_the_user_and_database_that_the_driver_takes()
    {
        string me = Environment.UserName;
        Assert.Equal($"PostgreSQL at h:5432, database '{me}', user '{me}'", StoreFaults.Place("Host=h;Password=hidden"));
        Assert.Equal("PostgreSQL at h:5432, database 'u', user 'u'", StoreFaults.Place("Host=h;Username=u"));
        Assert.Equal("PostgreSQL at /s, database 'd', user 'u'", StoreFaults.Place("Host=/s;Username=u;Database=d"));
    }

    [Fact]
    public void A_disk_is_full_when_less_is_free_than_is_needed()
    {
        string folder = Path.GetTempPath();
        Assert.Null(StoreFaults.FullDisk(folder, 0));
        string full = StoreFaults.FullDisk(folder, long.MaxValue)!;
        Assert.Contains("disk is full", full, StringComparison.Ordinal);
        Assert.Contains(folder, full, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("postgres://me:hidden@h/db", "is a postgres:// address")]
    [InlineData("Host=h;Pasword=hidden", "is not an Npgsql connection string")]
    [InlineData("Port=5;Password=hidden", "names no Host")]
    public async Task What_is_no_connection_string_is_told_without_its_password(string given, string expected)
    {
        StoreUnavailableException fault = await Assert.ThrowsAsync<StoreUnavailableException>(
            () => StoreLocator.ResolveAsync(given, _ => { }, TestContext.Current.CancellationToken));
        Assert.Contains(expected, fault.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("hidden", fault.Message, StringComparison.Ordinal);
    }
}
