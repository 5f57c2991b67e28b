using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Experiments.Client.Terminals;

/// <summary>JSON on standard output: one document, indented, keys in snake_case, no NaN (null instead).</summary>
public static class JsonOutput
{
    // Reflection-free: nodes are written by hand, which keeps start-up and trimming simple.
    private static readonly JsonWriterOptions Options = new()
    {
        Indented = true,
        NewLine = "\n",
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    public static void Write(TextWriter output, JsonNode node)
    {
        using MemoryStream buffer = new();
        using (Utf8JsonWriter writer = new(buffer, Options))
        {
            node.WriteTo(writer);
        }

        output.WriteLine(System.Text.Encoding.UTF8.GetString(buffer.GetBuffer(), 0, (int)buffer.Length));
        output.Flush();
    }

    /// <summary>A number, or null where JSON has no word for it.</summary>
    public static JsonNode? Number(double? value) =>
        value is double number && double.IsFinite(number) ? JsonValue.Create(number) : null;

    public static JsonNode? Time(DateTimeOffset? value) =>
        value is DateTimeOffset time
            ? JsonValue.Create(time.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.ffffff'Z'", CultureInfo.InvariantCulture))
            : null;

    /// <summary>A value of the store or a setting: numbers stay numbers, JSON columns are expanded.</summary>
    public static JsonNode? Value(object? value) => value switch
    {
        null or DBNull => null,
        string text => JsonValue.Create(text),
        bool flag => JsonValue.Create(flag),
        short number => JsonValue.Create(number),
        int number => JsonValue.Create(number),
        long number => JsonValue.Create(number),
        decimal number => JsonValue.Create(number),
        float number => Number(number),
        double number => Number(number),
        DateTime time => Time(new DateTimeOffset(DateTime.SpecifyKind(time, DateTimeKind.Utc))),
        DateTimeOffset time => Time(time),
        Array array and not byte[] => new JsonArray([.. Format.Elements(array).Select(Value)]),
        _ => JsonValue.Create(Format.Value(value)),
    };

    public static JsonObject Object(IEnumerable<KeyValuePair<string, object>> values)
    {
        JsonObject node = [];
        foreach ((string name, object value) in values)
        {
            node[name] = Value(value);
        }

        return node;
    }
}
