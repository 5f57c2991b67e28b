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
    [InlineData("Host=h;Pasword=hidden", "no setting 'Pasword'. Did you mean 'Password'?")]
    [InlineData("Host=db.example,10.1:5432;Password=hidden", "has Host '10.1', which is no whole address")]
    [InlineData("Port=5;Password=hidden", "names no Host")]
    [InlineData("Host=;;=hidden", "its part 3, from character 8 on, is not setting=value")]
    [InlineData("hidden", "its part 1, from character 1 on, is not setting=value")]
    [InlineData("Host=h;Password=a;hidden=b", "its part 3, from character 19 on, after the Password, is no setting")]
    [InlineData("Host=h;Password=a;hidden", "its part 3, from character 19 on, is not setting=value")]
    [InlineData("Host=h;Port=many;Password=hidden", "its Port is 'many'")]
    [InlineData("Host=h;Port=70000;Password=hidden", "has Port 70000; one from 1 to 65535 is needed")]
    public async Task What_is_no_connection_string_is_told_by_its_part_and_without_its_password(string given, string expected)
    {
        ArgumentException fault = await Assert.ThrowsAsync<ArgumentException>(
            () => StoreLocator.ResolveAsync(given, _ => { }, TestContext.Current.CancellationToken));
        Assert.Contains(expected, fault.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("hidden", fault.Message, StringComparison.Ordinal);
    }
}
