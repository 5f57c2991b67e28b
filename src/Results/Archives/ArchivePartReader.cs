using System.Security.Cryptography;

namespace Experiments.Results.Archives;

/// <summary>A part's bytes; at their end they must be as many, as many rows and of the hash that the manifest names.</summary>
/// <remarks>What is longer than the manifest says ends there, so that a few kilobytes which unpack to terabytes cost nothing.</remarks>
/// <param name="name">What a fault calls it.</param>
/// <param name="rows">Null of a file that the sweep carries, which has none.</param>
internal sealed class ArchivePartReader(Stream inner, string name, long? rows, long bytes, string sha256) : Stream
{
    private readonly IncrementalHash _hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private long _bytes;
    private long _rows;
    private bool _ended;

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => _bytes;
        set => throw new NotSupportedException();
    }

    /// <exception cref="ArchiveFault">The part is not what the manifest says.</exception>
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        int count = await inner.ReadAsync(buffer, cancellationToken);
        return Note(buffer.Span, count);
    }

    public override int Read(Span<byte> buffer) => Note(buffer, inner.Read(buffer));

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    public override void Flush()
    {
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            inner.Dispose();
            _hash.Dispose();
        }

        base.Dispose(disposing);
    }

    private int Note(ReadOnlySpan<byte> buffer, int count)
    {
        ReadOnlySpan<byte> read = buffer[..count];
        _hash.AppendData(read);
        _rows += rows is null ? 0 : read.Count((byte)'\n');
        _bytes += count;
        if (_bytes > bytes || (count == 0 && buffer.Length > 0 && !_ended && !IsAsTold()))
        {
            throw new ArchiveFault(
                $"is damaged: its part {name} is not the {(rows is long known ? $"{known} rows in {bytes} bytes" : $"{bytes} bytes")} that its manifest names");
        }

        _ended |= count == 0 && buffer.Length > 0;
        return count;
    }

    private bool IsAsTold() => _bytes == bytes && _rows == (rows ?? 0)
        && Convert.ToHexStringLower(_hash.GetHashAndReset()) == sha256;
}
