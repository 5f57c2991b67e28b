using System.Buffers;
using System.Buffers.Binary;
using System.Text;
using System.Text.Json;

namespace Experiments.Results.Store;

/// <summary>Rows in Postgres' binary COPY format.</summary>
/// <remarks>Npgsql's own importer asks for a converter a value; some fifty columns a trial make that most of a commit. Source:
/// the PostgreSQL manual, COPY, "Binary Format".</remarks>
internal sealed class CopyBuffer : IDisposable
{
    // 2000-01-01, from which Postgres counts microseconds.
    private const long EpochTicks = 630822816000000000;
    private const byte JsonbVersion = 1;
    private const uint FloatOid = 701;
    private static readonly byte[] Header = [.. "PGCOPY\n"u8, 0xFF, .. "\r\n\0"u8, 0, 0, 0, 0, 0, 0, 0, 0];

    private byte[] _bytes;
    private int _length;

    /// <param name="capacity">Bytes that are expected; it grows when there are more.</param>
    internal CopyBuffer(int capacity = 1 << 16)
    {
        _bytes = ArrayPool<byte>.Shared.Rent(Math.Max(capacity, 2 * Header.Length));
        Write(Header);
    }

    internal ReadOnlyMemory<byte> Bytes => _bytes.AsMemory(0, _length);

    /// <summary>Forgets what was sent; what follows goes on where it ended.</summary>
    internal void Clear() => _length = 0;

    internal void StartRow(short columns) => BinaryPrimitives.WriteInt16BigEndian(Take(2), columns);

    internal void End() => BinaryPrimitives.WriteInt16BigEndian(Take(2), -1);

    internal void Null() => BinaryPrimitives.WriteInt32BigEndian(Take(4), -1);

    internal void Long(long value)
    {
        Span<byte> span = Take(12);
        BinaryPrimitives.WriteInt32BigEndian(span, 8);
        BinaryPrimitives.WriteInt64BigEndian(span[4..], value);
    }

    internal void Long(long? value)
    {
        if (value is long given)
        {
            Long(given);
        }
        else
        {
            Null();
        }
    }

    internal void Int(int value)
    {
        Span<byte> span = Take(8);
        BinaryPrimitives.WriteInt32BigEndian(span, 4);
        BinaryPrimitives.WriteInt32BigEndian(span[4..], value);
    }

    internal void Int(int? value)
    {
        if (value is int given)
        {
            Int(given);
        }
        else
        {
            Null();
        }
    }

    internal void Bool(bool? value)
    {
        if (value is bool given)
        {
            Span<byte> span = Take(5);
            BinaryPrimitives.WriteInt32BigEndian(span, 1);
            span[4] = given ? (byte)1 : (byte)0;
        }
        else
        {
            Null();
        }
    }

    internal void Double(double value)
    {
        Span<byte> span = Take(12);
        BinaryPrimitives.WriteInt32BigEndian(span, 8);
        BinaryPrimitives.WriteDoubleBigEndian(span[4..], value);
    }

    /// <summary>NaN is what was not measured, so it is stored as null; an infinity is a result, and stored.</summary>
    internal void Metric(double? value)
    {
        if (value is double given && !double.IsNaN(given))
        {
            Double(given);
        }
        else
        {
            Null();
        }
    }

    internal void Uuid(Guid value)
    {
        Span<byte> span = Take(20);
        BinaryPrimitives.WriteInt32BigEndian(span, 16);
        value.TryWriteBytes(span[4..], bigEndian: true, out _);
    }

    internal void Uuid(Guid? value)
    {
        if (value is Guid given)
        {
            Uuid(given);
        }
        else
        {
            Null();
        }
    }

    internal void Bytea(ReadOnlySpan<byte> value)
    {
        Span<byte> span = Take(4 + value.Length);
        BinaryPrimitives.WriteInt32BigEndian(span, value.Length);
        value.CopyTo(span[4..]);
    }

    internal void Time(DateTimeOffset value) => Long((value.UtcTicks - EpochTicks) / TimeSpan.TicksPerMicrosecond);

    internal void Text(string? value)
    {
        if (value is null)
        {
            Null();
            return;
        }

        string clean = CleanText(value);
        Span<byte> span = Take(4 + Encoding.UTF8.GetMaxByteCount(clean.Length));
        int written = Encoding.UTF8.GetBytes(clean, span[4..]);
        BinaryPrimitives.WriteInt32BigEndian(span, written);
        _length -= span.Length - 4 - written;
    }

    internal void Jsonb(ReadOnlySpan<byte> utf8)
    {
        Span<byte> span = Take(5 + utf8.Length);
        BinaryPrimitives.WriteInt32BigEndian(span, utf8.Length + 1);
        span[4] = JsonbVersion;
        utf8.CopyTo(span[5..]);
    }

    internal void Jsonb(string? json)
    {
        if (json is null)
        {
            Null();
        }
        else
        {
            Jsonb(CleanJson(json));
        }
    }

    internal void Doubles(ReadOnlySpan<double> values)
    {
        Span<byte> span = Take(4 + 20 + (12 * values.Length));
        BinaryPrimitives.WriteInt32BigEndian(span, span.Length - 4);
        BinaryPrimitives.WriteInt32BigEndian(span[4..], 1); // dimensions
        BinaryPrimitives.WriteInt32BigEndian(span[8..], 0); // no nulls
        BinaryPrimitives.WriteUInt32BigEndian(span[12..], FloatOid);
        BinaryPrimitives.WriteInt32BigEndian(span[16..], values.Length);
        BinaryPrimitives.WriteInt32BigEndian(span[20..], 1); // lower bound
        span = span[24..];
        foreach (double value in values)
        {
            BinaryPrimitives.WriteInt32BigEndian(span, 8);
            BinaryPrimitives.WriteDoubleBigEndian(span[4..], value);
            span = span[12..];
        }
    }

    public void Dispose()
    {
        byte[] bytes = _bytes;
        _bytes = [];
        _length = 0;
        if (bytes.Length > 0)
        {
            ArrayPool<byte>.Shared.Return(bytes);
        }
    }

    /// <summary>Postgres' text holds any character but NUL; a lone surrogate is none, and becomes U+FFFD in UTF-8.</summary>
    internal static string CleanText(string text)
    {
        if (text.Contains('\0', StringComparison.Ordinal))
        {
            text = text.Replace('\0', '\uFFFD');
        }

        return text;
    }

    /// <summary>The same JSON as UTF-8 that <c>jsonb</c> takes: without NUL, lone surrogates or numbers beyond its range. What is no
    /// JSON at all is kept as text, in an object.</summary>
    internal static byte[] CleanJson(string json)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(CleanText(json));
        if (!json.Contains("\\u", StringComparison.Ordinal) && IsPlainJson(utf8))
        {
            return utf8;
        }

        try
        {
            using JsonDocument document = JsonDocument.Parse(utf8);
            ArrayBufferWriter<byte> buffer = new();
            using (Utf8JsonWriter writer = new(buffer))
            {
                Rewrite(document.RootElement, writer);
            }

            return buffer.WrittenSpan.ToArray();
        }
        catch (Exception fault) when (fault is JsonException or InvalidOperationException)
        {
            return JsonSerializer.SerializeToUtf8Bytes(new Dictionary<string, string> { ["text"] = CleanText(json) });
        }
    }

    private static bool IsPlainJson(ReadOnlySpan<byte> utf8)
    {
        try
        {
            Utf8JsonReader reader = new(utf8);
            while (reader.Read())
            {
                if (reader.TokenType == JsonTokenType.Number && !(reader.TryGetDouble(out double value) && double.IsFinite(value)))
                {
                    return false;
                }
            }

            return true;
        }
        catch (JsonException)
        {
            return false;
        }
    }

    private static void Rewrite(JsonElement element, Utf8JsonWriter writer)
    {
        switch (element.ValueKind)
        {
            case JsonValueKind.Object:
                writer.WriteStartObject();
                foreach (JsonProperty property in element.EnumerateObject())
                {
                    writer.WritePropertyName(CleanText(property.Name));
                    Rewrite(property.Value, writer);
                }

                writer.WriteEndObject();
                break;
            case JsonValueKind.Array:
                writer.WriteStartArray();
                foreach (JsonElement item in element.EnumerateArray())
                {
                    Rewrite(item, writer);
                }

                writer.WriteEndArray();
                break;
            case JsonValueKind.String:
                writer.WriteStringValue(CleanText(element.GetString()!));
                break;
            case JsonValueKind.Number when !(element.TryGetDouble(out double value) && double.IsFinite(value)):
                writer.WriteStringValue(element.GetRawText());
                break;
            default:
                element.WriteTo(writer);
                break;
        }
    }

    private void Write(ReadOnlySpan<byte> bytes) => bytes.CopyTo(Take(bytes.Length));

    private Span<byte> Take(int count)
    {
        if (_length + count > _bytes.Length)
        {
            Grow(count);
        }

        Span<byte> span = _bytes.AsSpan(_length, count);
        _length += count;
        return span;
    }

    private void Grow(int count)
    {
        byte[] larger = ArrayPool<byte>.Shared.Rent(checked(Math.Max(_bytes.Length * 2, _length + count)));
        _bytes.AsSpan(0, _length).CopyTo(larger);
        ArrayPool<byte>.Shared.Return(_bytes);
        _bytes = larger;
    }
}
