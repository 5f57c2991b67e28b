using System.Security.Cryptography;
using Experiments.Results.Sweeps;
using Npgsql;

namespace Experiments.Results.Store;

/// <summary>Files that sweeps carry: by content, in pieces, never a whole one in memory.</summary>
public sealed partial class ResultStore
{
    /// <summary>What a file is cut into: some milliseconds each, so that a distant server's answers are not most of the time.</summary>
    public const int FilePieceBytes = 4 << 20;

    /// <summary>What is stored under a content; null for nothing.</summary>
    public async Task<StoredFile?> FindFileAsync(Guid content, CancellationToken cancellation) =>
        (await QueryAsync("find-file", FileOf, cancellation, content)).SingleOrDefault();

    /// <summary>The files that a sweep carries.</summary>
    public async Task<IReadOnlyList<StoredFile>> FilesOfSweepAsync(long sweepId, CancellationToken cancellation) =>
        await QueryAsync("files-of-sweep", FileOf, cancellation, sweepId);

    /// <summary>Whether this login may read their bytes.</summary>
    public async Task<bool> MayReadFilesAsync(CancellationToken cancellation) =>
        (await QueryAsync("may-read-files", r => r.GetBoolean(0), cancellation)).Single();

    /// <summary>One piece of a file; null where there is none. The reader has no right to it.</summary>
    /// <remarks>A piece a statement: each is retried by itself, and a file of gigabytes holds no transaction open meanwhile.</remarks>
    public async Task<byte[]?> FindFilePieceAsync(Guid content, int number, CancellationToken cancellation) =>
        (await QueryAsync("find-file-piece", r => r.GetFieldValue<byte[]>(0), cancellation, content, number)).SingleOrDefault();

    private static StoredFile FileOf(NpgsqlDataReader row) => new(Convert.ToHexStringLower(row.GetFieldValue<byte[]>(0)), row.GetInt64(1));

    /// <summary>Makes a sweep carry files, storing those that are not there. Part of the caller's transaction.</summary>
    private static async Task CarryAsync(
        NpgsqlConnection connection, long sweepId, IReadOnlyList<CarriedFile> files, CancellationToken cancellation)
    {
        // In one order everywhere: two submissions of the same files wait for each other, and never each for the other.
        foreach (CarriedFile file in files.OrderBy(f => f.Sha256, StringComparer.Ordinal))
        {
            await CarryAsync(
                connection, sweepId, new StoredFile(file.Sha256, file.Bytes), () => OpenUnchanged(file),
                fault => new InvalidDataException(
                    $"'{file.Path}' {(fault is null ? "changed" : $"could not be read ({fault.Message.TrimEnd('.')})")} while it was stored with the sweep. "
                    + "Nothing was stored; leave the file alone and try again.", fault),
                cancellation);
        }
    }

    /// <param name="wrong">What is thrown when the stream is not, or gives not, what was promised.</param>
    private static async Task CarryAsync(
        NpgsqlConnection connection, long sweepId, StoredFile file, Func<Stream> open, Func<Exception?, Exception> wrong,
        CancellationToken cancellation)
    {
        await using (NpgsqlCommand hold = Command(connection, "hold-file", file.Content, Convert.FromHexString(file.Sha256), file.Bytes))
        {
            // Whoever stores the same file now may take minutes.
            hold.CommandTimeout = 0;
            if (!(bool)(await hold.ExecuteScalarAsync(cancellation))!)
            {
                throw new InvalidDataException(
                    $"The store has another file whose SHA-256 begins as that of this one ({file.Sha256}); one of the two was made to deceive. Nothing was stored.");
            }
        }

        await using NpgsqlCommand look = Command(connection, "file-has-pieces", file.Content);
        if (!(bool)(await look.ExecuteScalarAsync(cancellation))!)
        {
            await CopyAsync(
                connection, SqlText.Named("copy-file-pieces"), Pieces(file, open, wrong),
                (rows, piece) =>
                {
                    rows.StartRow(3);
                    rows.Uuid(file.Content);
                    rows.Int(piece.Number);
                    rows.Bytea(piece.Bytes.Span);
                },
                cancellation);
        }

        await using NpgsqlCommand name = Command(connection, "insert-sweep-file", sweepId, file.Content);
        await name.ExecuteNonQueryAsync(cancellation);
    }

    /// <summary>The stream in pieces, each good until the next is asked for. At the end all of it must be of the file's length and hash.</summary>
    private static IEnumerable<(int Number, ReadOnlyMemory<byte> Bytes)> Pieces(StoredFile file, Func<Stream> open, Func<Exception?, Exception> wrong)
    {
        using Stream stream = Guard(open);
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] piece = new byte[FilePieceBytes];
        long bytes = 0;
        for (int number = 0; ; number++)
        {
            int count = Guard(() => stream.ReadAtLeast(piece, piece.Length, throwOnEndOfStream: false));
            bytes += count;
            if (count == 0 || bytes > file.Bytes)
            {
                break;
            }

            hash.AppendData(piece, 0, count);
            yield return (number, piece.AsMemory(0, count));
        }

        if (bytes != file.Bytes || Convert.ToHexStringLower(hash.GetHashAndReset()) != file.Sha256)
        {
            throw wrong(null);
        }

        // A fault of this disk must not be taken for one of the connection, which is tried again.
        T Guard<T>(Func<T> read)
        {
            try
            {
                return read();
            }
            catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
            {
                throw wrong(fault);
            }
        }
    }

    // What became a pipe meanwhile would be waited for.
    private static FileStream OpenUnchanged(CarriedFile file) =>
        new FileInfo(File.ResolveLinkTarget(file.Path, returnFinalTarget: true)?.FullName ?? file.Path).Length == file.Bytes
            ? new FileStream(file.Path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0)
            : throw new IOException("its length is another");

    /// <summary>Deletes what no sweep carries. Part of the transaction that deleted a sweep.</summary>
    private static async Task DeleteUnusedFilesAsync(NpgsqlConnection connection, CancellationToken cancellation)
    {
        await using NpgsqlCommand turn = Command(connection, "unused-files-turn");
        turn.CommandTimeout = 0;
        await turn.ExecuteNonQueryAsync(cancellation);
        await using NpgsqlCommand look = Command(connection, "unused-files-lock");
        List<Guid> unused = await ReadAllAsync(look, r => r.GetGuid(0), cancellation);
        if (unused.Count > 0)
        {
            await using NpgsqlCommand delete = Command(connection, "delete-unused-files", unused.ToArray());
            delete.CommandTimeout = 0;
            await delete.ExecuteNonQueryAsync(cancellation);
        }
    }
}
