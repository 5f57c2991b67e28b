using System.Buffers;
using System.Buffers.Text;
using System.Text;

namespace Experiments.Results.Archives;

/// <summary>What becomes of the fields that lead the rows of an import.</summary>
/// <param name="From">The sweep's number in the archive, and in this store.</param>
/// <param name="Nodes">Numbers of nodes in the archive, and in this store.</param>
/// <param name="Known">Keys of references that this store has.</param>
internal sealed record LeadMap(
    long From, long To, IReadOnlyDictionary<long, int> Nodes, Guid Submission, IReadOnlySet<Guid> Known);

/// <summary>Rows in the text format of COPY: fields between tabs, a row a line; what is neither is escaped.</summary>
internal static class ArchivedRows
{
    private const int PieceBytes = 1 << 17;

    // The longest field that leads a row is a key of 36 characters.
    private const int MostLeadBytes = 256;

    /// <summary>Copies rows with their leading fields mapped. Memory does not grow with the rows, nor with one row's length.</summary>
    /// <exception cref="ArchiveFault">A leading field is not what it must be.</exception>
    internal static async Task CopyAsync(
        Stream from, Stream to, IReadOnlyList<Lead> leads, LeadMap map, CancellationToken cancellation)
    {
        byte[] buffer = new byte[PieceBytes];
        ArrayBufferWriter<byte> mapped = new(PieceBytes + MostLeadBytes);
        int filled = 0;
        bool inRow = false;
        bool kept = true;
        while (true)
        {
            int read = await from.ReadAsync(buffer.AsMemory(filled), cancellation);
            filled += read;
            int used = Map(buffer.AsSpan(0, filled), mapped, leads, map, ref inRow, ref kept);
            await to.WriteAsync(mapped.WrittenMemory, cancellation);
            mapped.ResetWrittenCount();
            buffer.AsSpan(used, filled - used).CopyTo(buffer);
            filled -= used;
            if (read == 0)
            {
                if (inRow || filled > 0)
                {
                    throw new ArchiveFault("has a row without an end");
                }

                return;
            }
        }
    }

    /// <summary>The fields of every row; null for <c>\N</c>. For parts of a few short rows.</summary>
    internal static async IAsyncEnumerable<string?[]> ReadAsync(
        Stream from, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellation)
    {
        using StreamReader reader = new(from, new UTF8Encoding(false, throwOnInvalidBytes: true), detectEncodingFromByteOrderMarks: false);
        while (await reader.ReadLineAsync(cancellation) is string line)
        {
            yield return [.. line.Split('\t').Select(Unescape)];
        }
    }

    /// <summary>The first field of every row, whatever follows it.</summary>
    internal static async IAsyncEnumerable<Guid> KeysAsync(
        Stream from, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellation)
    {
        byte[] buffer = new byte[PieceBytes];
        int filled = 0;
        bool inRow = false;
        List<Guid> keys = [];
        int read;
        do
        {
            read = await from.ReadAsync(buffer.AsMemory(filled), cancellation);
            filled += read;
            int used = Keys(buffer.AsSpan(0, filled), keys, ref inRow);
            buffer.AsSpan(used, filled - used).CopyTo(buffer);
            filled -= used;
            foreach (Guid key in keys)
            {
                yield return key;
            }

            keys.Clear();
        }
        while (read > 0);
    }

    /// <summary>Maps what is whole so far and returns how much that was; a row whose leading fields are not all there waits.</summary>
    private static int Map(
        ReadOnlySpan<byte> data, ArrayBufferWriter<byte> to, IReadOnlyList<Lead> leads, LeadMap map, ref bool inRow, ref bool kept)
    {
        int at = 0;
        while (at < data.Length)
        {
            if (!inRow)
            {
                if (!TryLead(data[at..], leads.Count, out int length))
                {
                    return at;
                }

                kept = MapLead(data.Slice(at, length), to, leads, map);
                at += length;
                inRow = true;
            }

            int end = data[at..].IndexOf((byte)'\n');
            ReadOnlySpan<byte> rest = end < 0 ? data[at..] : data.Slice(at, end + 1);
            if (kept)
            {
                to.Write(rest);
            }

            at += rest.Length;
            inRow = end < 0;
        }

        return at;
    }

    /// <summary>How many bytes the leading fields take with the tabs that end them; false when they are not all there.</summary>
    private static bool TryLead(ReadOnlySpan<byte> row, int fields, out int length)
    {
        length = 0;
        for (int i = 0; i < fields; i++)
        {
            int end = row[length..].IndexOfAny((byte)'\t', (byte)'\n');
            if (end < 0 && row.Length < MostLeadBytes)
            {
                return false;
            }

            if (end < 0 || row[length + end] == '\n')
            {
                throw new ArchiveFault("has a row without the fields that lead it");
            }

            length += end + 1;
        }

        return true;
    }

    /// <summary>False when the row is to be left out.</summary>
    private static bool MapLead(ReadOnlySpan<byte> lead, ArrayBufferWriter<byte> to, IReadOnlyList<Lead> leads, LeadMap map)
    {
        foreach (Lead kind in leads)
        {
            int end = lead.IndexOf((byte)'\t');
            ReadOnlySpan<byte> field = lead[..end];
            lead = lead[(end + 1)..];
            if (kind == Lead.KnownKey)
            {
                if (map.Known.Contains(Key(field)))
                {
                    return false;
                }

                to.Write(field);
            }
            else if (field.SequenceEqual("\\N"u8))
            {
                to.Write(field);
            }
            else
            {
                Span<byte> text = to.GetSpan(MostLeadBytes);
                int written = 0;
                bool fits = kind switch
                {
                    Lead.Sweep when Number(field) == map.From => Utf8Formatter.TryFormat(map.To, text, out written),
                    Lead.Sweep => throw new ArchiveFault($"has a row of sweep {Quote(field)} among those of sweep {map.From}"),
                    Lead.Node when Number(field) is long node && map.Nodes.TryGetValue(node, out int here) =>
                        Utf8Formatter.TryFormat(here, text, out written),
                    Lead.Node => throw new ArchiveFault($"has a row of node {Quote(field)}, which it does not describe"),
                    _ => Utf8Formatter.TryFormat(map.Submission, text, out written),
                };
                System.Diagnostics.Debug.Assert(fits, "A number or a key fits in the space that was asked for.");
                to.Advance(written);
            }

            to.Write("\t"u8);
        }

        return true;
    }

    private static int Keys(ReadOnlySpan<byte> data, List<Guid> keys, ref bool inRow)
    {
        int at = 0;
        while (at < data.Length)
        {
            if (!inRow)
            {
                if (!TryLead(data[at..], 1, out int length))
                {
                    return at;
                }

                keys.Add(Key(data.Slice(at, length - 1)));
                at += length;
                inRow = true;
            }

            int end = data[at..].IndexOf((byte)'\n');
            at = end < 0 ? data.Length : at + end + 1;
            inRow = end < 0;
        }

        return at;
    }

    private static Guid Key(ReadOnlySpan<byte> field) => Utf8Parser.TryParse(field, out Guid key, out int used) && used == field.Length
        ? key : throw new ArchiveFault($"has a reference under the key {Quote(field)}");

    private static long? Number(ReadOnlySpan<byte> field) =>
        Utf8Parser.TryParse(field, out long number, out int used) && used == field.Length ? number : null;

    private static string Quote(ReadOnlySpan<byte> field) =>
        $"'{Encoding.UTF8.GetString(field.Length > 40 ? field[..40] : field).ReplaceLineEndings(" ")}'";

    private static string? Unescape(string field)
    {
        if (field == "\\N")
        {
            return null;
        }

        if (!field.Contains('\\', StringComparison.Ordinal))
        {
            return field;
        }

        StringBuilder text = new(field.Length);
        for (int i = 0; i < field.Length; i++)
        {
            text.Append(field[i] != '\\' || ++i == field.Length ? field[Math.Min(i, field.Length - 1)] : field[i] switch
            {
                'b' => '\b',
                'f' => '\f',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\v',
                char other => other,
            });
        }

        return text.ToString();
    }
}
