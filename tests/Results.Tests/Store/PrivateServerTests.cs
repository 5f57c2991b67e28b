using System.Diagnostics;
using Experiments.Results.PrivatePostgres;
using Experiments.Results.Processes;
using Experiments.Results.Store;
using Experiments.Testing;
using Npgsql;

namespace Experiments.Results.Tests.Store;

public sealed class PrivateServerTests : IAsyncLifetime
{
    private readonly string _folder = $"/tmp/experiments-test-private-{Guid.NewGuid().ToString("N")[..8]}";
    private PrivateServer _server = null!;

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public ValueTask InitializeAsync()
    {
        _server = New();
        return ValueTask.CompletedTask;
    }

    public async ValueTask DisposeAsync()
    {
        await _server.StopAsync(CancellationToken.None);
        if (Directory.Exists(_folder))
        {
            Directory.Delete(_folder, recursive: true);
        }
    }

    [Fact]
    public async Task Two_at_once_share_one_server_and_it_survives_a_stop()
    {
        string[] owners = await Task.WhenAll(Enumerable.Range(0, 2).Select(
            _ => Task.Run(() => New().EnsureRunningAsync(_ => { }, Cancellation))));
        Assert.Equal(owners[0], owners[1]);
        await ExecuteAsync("CREATE TABLE kept (a int); INSERT INTO kept VALUES (42)");
        PrivateServerStatus status = await _server.StatusAsync(Cancellation);
        Assert.True(status.Running);
        Assert.True(status.SizeBytes > 1_000_000);

        Assert.True(await _server.StopAsync(Cancellation));
        Assert.False(await _server.StopAsync(Cancellation));
        Assert.False((await _server.StatusAsync(Cancellation)).Running);
        await _server.EnsureRunningAsync(_ => { }, Cancellation);
        Assert.Equal(42, await ScalarAsync("SELECT a FROM kept"));
    }

    [Fact]
    public async Task A_killed_server_recovers_what_was_committed()
    {
        await _server.EnsureRunningAsync(_ => { }, Cancellation);
        await ExecuteAsync("CREATE TABLE kept (a int); INSERT INTO kept VALUES (42)");
        using (Process server = Process.GetProcessById((await _server.StatusAsync(Cancellation)).ProcessId!.Value))
        {
            server.Kill();
        }

        await _server.EnsureRunningAsync(_ => { }, Cancellation);
        Assert.Equal(42, await ScalarAsync("SELECT a FROM kept"));
    }

    [Fact]
    public async Task A_server_that_somebody_uses_is_not_stopped_as_unused()
    {
        Assert.False(await _server.StopUnusedAsync(Cancellation));
        await _server.EnsureRunningAsync(_ => { }, Cancellation);
        await using (NpgsqlConnection user = _server.Unpooled(PrivateServer.DatabaseName))
        {
            await user.OpenAsync(Cancellation);
            Assert.False(await _server.StopUnusedAsync(Cancellation));
        }

        // The server sees a while later that a client has gone.
        while (!await _server.StopUnusedAsync(Cancellation))
        {
            await Task.Delay(10, Cancellation);
        }

        Assert.False((await _server.StatusAsync(Cancellation)).Running);
    }

    [Fact]
    public async Task A_server_whose_socket_was_removed_is_started_anew()
    {
        await _server.EnsureRunningAsync(_ => { }, Cancellation);
        await ExecuteAsync("CREATE TABLE kept (a int); INSERT INTO kept VALUES (42)");
        int before = (await _server.StatusAsync(Cancellation)).ProcessId!.Value;
        File.Delete(Path.Combine(_server.SocketFolder, ".s.PGSQL.5432"));

        List<string> told = [];
        await _server.EnsureRunningAsync(told.Add, Cancellation);
        Assert.Contains($"process {before}", Assert.Single(told));
        Assert.Equal(42, await ScalarAsync("SELECT a FROM kept"));
    }

    [Fact]
    public async Task What_a_kill_during_initdb_left_is_cleared_away()
    {
        await _server.EnsureRunningAsync(_ => { }, Cancellation);
        await _server.StopAsync(Cancellation);
        // As it looks after the kill: no data yet, and half of it under another name.
        Directory.Move(Path.Combine(_folder, "data"), Path.Combine(_folder, "data.new-4242"));
        File.Delete(Path.Combine(_folder, "data.new-4242", "PG_VERSION"));
        await _server.EnsureRunningAsync(_ => { }, Cancellation);
        Assert.False(Directory.Exists(Path.Combine(_folder, "data.new-4242")));
        Assert.Equal(1, await ScalarAsync("SELECT 1"));
    }

    [Fact]
    public async Task The_server_listens_on_no_network_and_its_socket_is_closed_to_others()
    {
        await _server.EnsureRunningAsync(_ => { }, Cancellation);
        Assert.Equal("", await ScalarAsync("SELECT current_setting('listen_addresses')"));
        Assert.Equal("on", await ScalarAsync("SELECT current_setting('fsync')"));
        Assert.Equal("on", await ScalarAsync("SELECT current_setting('synchronous_commit')"));
        if (!OperatingSystem.IsWindows())
        {
            Assert.Equal(
                UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, File.GetUnixFileMode(_server.SocketFolder));
        }
    }

    [Fact]
    public async Task An_idle_server_is_stopped_by_its_keeper_and_a_used_one_is_not()
    {
        await _server.EnsureRunningAsync(_ => { }, Cancellation);
        Task<bool> keeper = Task.Run(() => PostgresKeeper.RunAsync(_folder, TimeSpan.FromSeconds(1), Cancellation), Cancellation);
        await using (NpgsqlConnection connection = await ConnectAsync())
        {
            await Task.Delay(TimeSpan.FromSeconds(2.5), Cancellation);
            Assert.False(keeper.IsCompleted);
            Assert.False(await PostgresKeeper.RunAsync(_folder, TimeSpan.FromSeconds(1), Cancellation));
        }

        Assert.True(await keeper);
        Assert.False((await _server.StatusAsync(Cancellation)).Running);
    }

    [Fact]
    public async Task A_keeper_ends_with_its_server()
    {
        await _server.EnsureRunningAsync(_ => { }, Cancellation);
        Task<bool> keeper = Task.Run(() => PostgresKeeper.RunAsync(_folder, TimeSpan.FromHours(1), Cancellation), Cancellation);
        while (FileLockIsFree())
        {
            await Task.Delay(10, Cancellation);
        }

        await Task.Delay(200, Cancellation);
        await _server.StopAsync(Cancellation);
        Assert.False(await keeper);
    }

    [Fact]
    public async Task A_long_folder_gets_a_short_socket_and_a_planted_one_is_refused()
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        PrivateServer deep = new(new PrivateServerOptions(Path.Combine(_folder, new string('x', 100)), null));
        Assert.StartsWith("/tmp/experiments-", deep.SocketFolder, StringComparison.Ordinal);
        Directory.CreateDirectory(deep.SocketFolder);
        File.SetUnixFileMode(deep.SocketFolder, (UnixFileMode)0x1FF);
        try
        {
            StoreUnavailableException fault = await Assert.ThrowsAsync<StoreUnavailableException>(
                () => deep.EnsureRunningAsync(_ => { }, Cancellation));
            Assert.Contains("not a folder of this user alone", fault.Message, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(deep.SocketFolder, recursive: true);
        }

        await deep.EnsureRunningAsync(_ => { }, Cancellation);
        await deep.StopAsync(Cancellation);
        Directory.Delete(deep.SocketFolder, recursive: true);
    }

    [Fact]
    public async Task A_pid_file_that_names_another_living_Postgres_is_not_believed()
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        await _server.EnsureRunningAsync(_ => { }, Cancellation);
        await _server.StopAsync(Cancellation);
        int other = (await (await TestPostgres.SharedAsync()).Server.StatusAsync(Cancellation)).ProcessId!.Value;
        await File.WriteAllTextAsync(
            Path.Combine(_folder, "data", "postmaster.pid"), $"{other}\n{_folder}/data\n1\n5432\n{_server.SocketFolder}\n\n  1  2\nready\n", Cancellation);
        Assert.False((await _server.StatusAsync(Cancellation)).Running);
        await _server.EnsureRunningAsync(_ => { }, Cancellation);
        PrivateServerStatus status = await _server.StatusAsync(Cancellation);
        Assert.True(status.Running);
        Assert.NotEqual(other, status.ProcessId);
    }

    [Theory]
    [InlineData("garbage", "does not say which PostgreSQL made the data there (it holds 'garbage')")]
    [InlineData("", "does not say which PostgreSQL")]
    [InlineData("13", "made by PostgreSQL 13; 14 or newer is needed")]
    public async Task Data_that_no_server_here_can_open_is_said_to_be_so(string version, string told)
    {
        Directory.CreateDirectory(Path.Combine(_folder, "data"));
        await File.WriteAllTextAsync(Path.Combine(_folder, "data", "PG_VERSION"), version, Cancellation);
        StoreUnavailableException fault = await Assert.ThrowsAsync<StoreUnavailableException>(
            () => _server.EnsureRunningAsync(_ => { }, Cancellation));
        Assert.Contains(told, fault.Message, StringComparison.Ordinal);
        Assert.Contains(_folder, fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_folder_that_everyone_may_write_is_refused_and_so_is_a_path_a_shell_would_read()
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        Directory.CreateDirectory(_folder);
        File.SetUnixFileMode(_folder, (UnixFileMode)0x1FF);
        StoreUnavailableException open = await Assert.ThrowsAsync<StoreUnavailableException>(
            () => _server.EnsureRunningAsync(_ => { }, Cancellation));
        Assert.Contains("everyone may write it", open.Message, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFileSystemEntries(_folder));

        PrivateServer quoted = new(new PrivateServerOptions(Path.Combine(_folder, "a\"b"), null));
        StoreUnavailableException shell = await Assert.ThrowsAsync<StoreUnavailableException>(
            () => quoted.EnsureRunningAsync(_ => { }, Cancellation));
        Assert.Contains("in its path", shell.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_lock_that_cannot_be_taken_for_another_reason_than_its_holder_is_a_fault_and_not_a_wait()
    {
        if (OperatingSystem.IsLinux())
        {
            // A running program's file cannot be opened for writing: "Text file busy", or no right to.
            Assert.ThrowsAny<SystemException>(() => FileLock.TryAcquire(Environment.ProcessPath!));
        }
    }

    [Theory]
    [InlineData("30s", 30)]
    [InlineData("2h", 7200)]
    [InlineData("15min", 900)]
    [InlineData("90", 90)]
    public void An_idle_time_is_read_with_its_unit(string text, double seconds) =>
        Assert.Equal(seconds, PostgresKeeper.ParseIdle(text).TotalSeconds);

    [Theory]
    [InlineData("soon")]
    [InlineData("-1")]
    [InlineData("0s")]
    public void An_idle_time_that_is_none_is_the_callers_mistake(string text) =>
        Assert.Contains($"'{text}'", Assert.Throws<ArgumentException>(() => PostgresKeeper.ParseIdle(text)).Message, StringComparison.Ordinal);

    private PrivateServer New() => new(new PrivateServerOptions(_folder, null, new Dictionary<string, string> { ["shared_buffers"] = "16MB" }));

    private bool FileLockIsFree()
    {
        string path = Path.Combine(_folder, "keeper.lock");
        try
        {
            using FileStream file = new(path, FileMode.Open, FileAccess.ReadWrite, FileShare.None);
            return true;
        }
        catch (IOException)
        {
            return !File.Exists(path);
        }
    }

    private async Task<NpgsqlConnection> ConnectAsync()
    {
        NpgsqlConnection connection = new(_server.ConnectionString(PrivateServer.OwnerName, PrivateServer.DatabaseName) + ";Pooling=false");
        await connection.OpenAsync(Cancellation);
        return connection;
    }

    private async Task ExecuteAsync(string sql)
    {
        await using NpgsqlConnection connection = await ConnectAsync();
        await using NpgsqlCommand command = new(sql, connection);
        await command.ExecuteNonQueryAsync(Cancellation);
    }

    private async Task<object?> ScalarAsync(string sql)
    {
        await using NpgsqlConnection connection = await ConnectAsync();
        await using NpgsqlCommand command = new(sql, connection);
        return await command.ExecuteScalarAsync(Cancellation);
    }
}
