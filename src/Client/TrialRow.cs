using System.Text.Json.Nodes;
using Experiments.Client.Terminals;

namespace Experiments.Client;

/// <summary>A row of the view trials, by column name.</summary>
internal sealed class TrialRow(IReadOnlyList<(string Column, object? Value)> columns)
{
    private readonly Dictionary<string, object?> _values = columns.ToDictionary(c => c.Column, c => c.Value, StringComparer.Ordinal);

    public object? this[string column] => _values[column];

    public string? Text(string column) => _values[column] as string;

    public double? Real(string column) => _values[column] as double?;

    public JsonObject ToJson()
    {
        JsonObject json = [];
        foreach ((string name, object? value) in columns)
        {
            json[name] = JsonOutput.Value(value);
        }

        return json;
    }
}
