using System.IO.Compression;
using System.Security.Cryptography;
using Experiments.Results.Archives;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;
using Npgsql;
using Experiments.Testing;

namespace Experiments.Results.Tests.Store;

/// <summary>Files that sweeps carry: stored once, read back as they were, gone with the last sweep that carries them.</summary>
public sealed class FileTests : StoreTest
{
    private const string Build = "0.1.0+test";
    private readonly string _folder = Directory.CreateTempSubdirectory("experiments-carried-").FullName;

    public override async ValueTask DisposeAsync()
    {
        Directory.Delete(_folder, recursive: true);
        await base.DisposeAsync();
        GC.SuppressFinalize(this);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(ResultStore.FilePieceBytes)]
    [InlineData((2 * ResultStore.FilePieceBytes) + 17)]
    public async Task A_file_is_read_back_as_it_was_when_the_sweep_was_stored(int bytes)
    {
        CarriedFile file = Write("a.npy", bytes, 1);
        long sweep = await CreateAsync(file);
        byte[] before = await File.ReadAllBytesAsync(file.Path, Cancellation);
        await File.WriteAllBytesAsync(file.Path, [1], Cancellation);
        StoredFile stored = Assert.Single(await Store.FilesOfSweepAsync(sweep, Cancellation));
        Assert.Equal((file.Sha256, (long)bytes), (stored.Sha256, stored.Bytes));
        Assert.Equal(stored, await Store.FindFileAsync(stored.Content, Cancellation));
        List<byte> read = [];
        for (int piece = 0; piece < stored.Pieces; piece++)
        {
            read.AddRange((await Store.FindFilePieceAsync(stored.Content, piece, Cancellation))!);
        }

        Assert.True(before.AsSpan().SequenceEqual(read.ToArray()));
        Assert.Null(await Store.FindFilePieceAsync(stored.Content, stored.Pieces, Cancellation));
        Assert.Null(await Store.FindFileAsync(Guid.NewGuid(), Cancellation));
    }

    [Fact]
    public async Task A_file_of_several_sweeps_is_stored_once_and_goes_with_the_last_of_them()
    {
        CarriedFile shared = Write("a.npy", 100, 1), own = Write("b.npy", 200, 2);
        long first = await CreateAsync(shared);
        File.Delete(shared.Path);
        long second = await CreateAsync(own, shared with { Path = Write("copy.npy", 100, 1).Path });
        Assert.Equal((2, 2), (await CountAsync("file"), await CountAsync("file_piece")));
        Assert.True(await Store.DeleteSweepAsync(first, Cancellation));
        Assert.Equal(2, await CountAsync("file"));
        Assert.False(await Store.DeleteSweepAsync(first, Cancellation));
        Assert.True(await Store.DeleteSweepAsync(second, Cancellation));
        Assert.Equal((0, 0, 0), (await CountAsync("file"), await CountAsync("file_piece"), await CountAsync("sweep_file")));
    }

    /// <summary>It was read when the sweep was frozen: what it holds now would be stored under that content's name.</summary>
    [Theory]
    [InlineData("changed")]
    [InlineData("longer")]
    [InlineData("shorter")]
    [InlineData("gone")]
    [InlineData("folder")]
    public async Task A_file_that_is_another_by_now_is_refused_at_once_and_nothing_is_stored(string how)
    {
        CarriedFile good = Write("a.npy", 100, 1), file = Write("b.npy", 6 << 20, 2);
        byte[] bytes = await File.ReadAllBytesAsync(file.Path, Cancellation);
        File.Delete(file.Path);
        switch (how)
        {
            case "changed":
                bytes[^1] ^= 1;
                await File.WriteAllBytesAsync(file.Path, bytes, Cancellation);
                break;
            case "longer":
                await File.WriteAllBytesAsync(file.Path, [.. bytes, 0], Cancellation);
                break;
            case "shorter":
                await File.WriteAllBytesAsync(file.Path, bytes[..^1], Cancellation);
                break;
            case "folder":
                Directory.CreateDirectory(file.Path);
                break;
        }

        InvalidDataException refused = await Assert.ThrowsAsync<InvalidDataException>(() => CreateAsync(good, file));
        Assert.StartsWith($"'{file.Path}' ", refused.Message, StringComparison.Ordinal);
        Assert.Contains("while it was stored with the sweep", refused.Message, StringComparison.Ordinal);
        Assert.Equal((0, 0, 0), (await CountAsync("file"), await CountAsync("file_piece"), await CountAsync("sweep")));
    }

    [Fact]
    public async Task An_extension_carries_its_files_too()
    {
        CarriedFile old = Write("a.npy", 100, 1), added = Write("b.npy", 100, 2);
        NewSweep sweep = Make.Sweep(4) with { Files = [old] };
        long id = await Store.CreateSweepAsync(sweep, Make.Shards(1, 4), Cancellation);
        Assert.True(await Store.ExtendSweepAsync(
            id, new ExtendedSweep(sweep.SpecificationHash, "{}", Guid.NewGuid(), "name: test", 8, [new ShardPlan(1, 1, 2, 4, 4, 1)]) { Files = [old, added] }, Cancellation));
        Assert.Equal(
            new[] { old.Sha256, added.Sha256 }.Order(), (await Store.FilesOfSweepAsync(id, Cancellation)).Select(f => f.Sha256));
    }

    /// <summary>Whichever comes first, a sweep that is there has all its files.</summary>
    [Fact]
    public async Task Sweeps_that_come_and_go_at_once_never_lose_a_file_that_one_of_them_carries()
    {
        CarriedFile[] files = [.. Enumerable.Range(0, 3).Select(i => Write($"{i}.npy", 1000 + i, i))];
        await Task.WhenAll(Enumerable.Range(0, 6).Select(worker => Task.Run(async () =>
        {
            Random random = new(worker);
            for (int i = 0; i < 25; i++)
            {
                // In whatever order the sweep has them.
                CarriedFile[] some = [.. files.OrderBy(_ => random.Next()).Take(2)];
                long sweep = await CreateAsync(some);
                IReadOnlyList<StoredFile> there = await Store.FilesOfSweepAsync(sweep, Cancellation);
                Assert.Equal(some.Select(f => f.Sha256).Order(), there.Select(f => f.Sha256));
                foreach (StoredFile file in there)
                {
                    Assert.Equal(file.Bytes, (await Store.FindFilePieceAsync(file.Content, 0, Cancellation))!.LongLength);
                }

                Assert.True(await Store.DeleteSweepAsync(sweep, Cancellation));
            }
        }, Cancellation)));
        Assert.Equal((0, 0), (await CountAsync("file"), await CountAsync("file_piece")));
    }

    /// <summary>Each would see the other's sweep carry it still, and nobody would delete it.</summary>
    [Fact]
    public async Task A_file_of_two_sweeps_that_are_deleted_at_once_goes_with_them()
    {
        CarriedFile file = Write("a.npy", 100, 1);
        long one = await CreateAsync(file), other = await CreateAsync(file);
        await using NpgsqlConnection connection = new(Address.Owner);
        await connection.OpenAsync(Cancellation);
        await using NpgsqlTransaction deletion = await connection.BeginTransactionAsync(Cancellation);
        await using (NpgsqlCommand delete = new(
            $"DELETE FROM experiments.shard WHERE sweep_id = {one}; DELETE FROM experiments.sweep WHERE id = {one}; SELECT pg_advisory_xact_lock(1163415606, 0)",
            connection, deletion))
        {
            await delete.ExecuteNonQueryAsync(Cancellation);
        }

        Task<bool> second = Store.DeleteSweepAsync(other, Cancellation);
        while (!second.IsCompleted
            && (long)(await ScalarAsync("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 1163415606 AND NOT granted"))! == 0)
        {
            await Task.Yield();
        }

        await deletion.CommitAsync(Cancellation);
        Assert.True(await second);
        Assert.Equal((0, 0), (await CountAsync("file"), await CountAsync("file_piece")));
    }

    [Fact]
    public async Task The_writer_reads_files_and_the_reader_sees_only_which_there_are()
    {
        long sweep = await CreateAsync(Write("a.npy", 100, 1));
        await using ResultStore reader = await ResultStore.OpenReaderAsync(Address, Cancellation);
        StoredFile file = Assert.Single(await reader.FilesOfSweepAsync(sweep, Cancellation));
        Assert.True(await Store.MayReadFilesAsync(Cancellation));
        Assert.False(await reader.MayReadFilesAsync(Cancellation));
        StoreUnavailableException refused = await Assert.ThrowsAsync<StoreUnavailableException>(() => reader.FindFilePieceAsync(file.Content, 0, Cancellation));
        Assert.Contains("permission denied", refused.Message, StringComparison.Ordinal);
        QueryException query = await Assert.ThrowsAsync<QueryException>(() => ReaderQuery.RunAsync(Address, "SELECT * FROM file_piece", null, Cancellation));
        Assert.Contains("permission denied", query.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_archive_has_the_files_and_another_store_gets_them_once()
    {
        CarriedFile large = Write("a.npy", ResultStore.FilePieceBytes + 5, 1), small = Write("b.npy", 100, 2);
        long sweep = await CreateAsync(large, small);
        byte[] bytes = await ExportAsync(sweep);
        StoreAddress address = await TestPostgres.CreateDatabaseAsync();
        await using ResultStore there = await ResultStore.OpenAsync(address, Cancellation);
        for (int i = 0; i < 2; i++)
        {
            using SweepArchive archive = await SweepArchive.OpenAsync(new MemoryStream(bytes), "a.zip", Cancellation);
            Assert.Equal(new[] { large.Sha256, small.Sha256 }.Order(), archive.Manifest.Files.Select(f => f.Sha256));
            ImportedSweep imported = await there.ImportArchiveAsync(archive, again: i > 0, Cancellation);
            Assert.Equal(archive.Manifest.Files, await there.FilesOfSweepAsync(imported.Id, Cancellation));
        }

        Guid content = new StoredFile(large.Sha256, large.Bytes).Content;
        byte[] read = [.. (await there.FindFilePieceAsync(content, 0, Cancellation))!, .. (await there.FindFilePieceAsync(content, 1, Cancellation))!];
        Assert.Equal(large.Sha256, Convert.ToHexStringLower(SHA256.HashData(read)));
        Assert.Null(await there.FindFilePieceAsync(content, 2, Cancellation));

        // Its sweep is the same without them, for a store whose silos see the files.
        using MemoryStream without = new();
        ArchiveManifest manifest = (await Store.ExportArchiveAsync(sweep, without, Build, () => Task.FromResult<ResultStore?>(null), Cancellation))!;
        Assert.Empty(manifest.Files);
        Assert.True(without.Length < 100_000);
        using SweepArchive light = await SweepArchive.OpenAsync(without, "b.zip", Cancellation);
        Assert.Empty(await there.FilesOfSweepAsync((await there.ImportArchiveAsync(light, again: true, Cancellation)).Id, Cancellation));
    }

    [Theory]
    [InlineData("changed")]
    [InlineData("absent")]
    public async Task An_archive_whose_file_is_damaged_is_refused_before_a_store_is_asked(string how)
    {
        byte[] bytes = await ExportAsync(await CreateAsync(Write("a.npy", 1000, 1)));
        using MemoryStream zip = new();
        zip.Write(bytes);
        using (ZipArchive archive = new(zip, ZipArchiveMode.Update, leaveOpen: true))
        {
            ZipArchiveEntry entry = archive.Entries.Single(e => e.FullName.StartsWith("files/", StringComparison.Ordinal));
            if (how == "absent")
            {
                entry.Delete();
            }
            else
            {
                await using Stream file = entry.Open();
                file.Position = 500;
                file.WriteByte((byte)(file.ReadByte() ^ 1));
            }
        }

        InvalidDataException refused = await Assert.ThrowsAsync<InvalidDataException>(() => SweepArchive.OpenAsync(zip, "a.zip", Cancellation));
        Assert.StartsWith("'a.zip' ", refused.Message, StringComparison.Ordinal);
        Assert.Contains("files/", refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', refused.Message);
    }

    [Theory]
    [InlineData("UPDATE experiments.file_piece SET data = set_byte(data, 7, get_byte(data, 7) # 1)", "is damaged")]
    [InlineData("UPDATE experiments.file_piece SET data = substring(data FOR 900)", "is damaged")]
    [InlineData("DELETE FROM experiments.file_piece", "lost a file")]
    public async Task A_damaged_file_of_the_store_is_not_archived(string damage, string said)
    {
        long sweep = await CreateAsync(Write("a.npy", 1000, 1));
        await OwnerAsync(damage);
        InvalidDataException refused = await Assert.ThrowsAsync<InvalidDataException>(() => ExportAsync(sweep));
        Assert.Contains(said, refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void More_than_a_sweep_carries_is_refused_by_the_largest_files_name()
    {
        CarriedFile half = new("/data/half.npy", new string('0', 64), CarriedFile.MostBytes / 2);
        CarriedFile rest = new("/data/rest.npy", new string('1', 64), 1 + (CarriedFile.MostBytes / 2));
        Assert.Null(CarriedFile.Refusal([half, rest with { Bytes = half.Bytes }]));
        Assert.Contains("/data/rest.npy alone 8.0", CarriedFile.Refusal([half, rest]), StringComparison.Ordinal);
        Assert.NotNull(CarriedFile.Refusal([half with { Bytes = long.MaxValue }, rest with { Bytes = long.MaxValue }]));
    }

    private CarriedFile Write(string name, int bytes, int seed)
    {
        byte[] random = new byte[bytes];
        new Random(seed).NextBytes(random);
        string path = Path.Combine(_folder, name);
        File.WriteAllBytes(path, random);
        return new CarriedFile(path, Convert.ToHexStringLower(SHA256.HashData(random)), bytes);
    }

    private Task<long> CreateAsync(params CarriedFile[] files) =>
        Store.CreateSweepAsync(Make.Sweep(4) with { Files = files }, Make.Shards(1, 4), Cancellation);

    private async Task<byte[]> ExportAsync(long sweep)
    {
        await using ResultStore reader = await ResultStore.OpenReaderAsync(Address, Cancellation);
        using MemoryStream file = new();
        await reader.ExportArchiveAsync(sweep, file, Build, () => Task.FromResult<ResultStore?>(Store), Cancellation);
        return file.ToArray();
    }

    private async Task<long> CountAsync(string table) => (long)(await ScalarAsync($"SELECT count(*) FROM experiments.{table}"))!;
}
