using YamlDotNet.Core;
using YamlDotNet.Serialization;

namespace Experiments.Client.Tests.Driving;

/// <summary>A node of a YAML file, merge keys resolved; one that is not there fails the test and names itself.</summary>
public sealed class Yaml
{
    private readonly object? _node;
    private readonly string _path;

    private Yaml(object? node, string path) => (_node, _path) = (node, path);

    public string Text => _node as string ?? throw new InvalidOperationException($"{_path} is no text.");

    public Yaml this[string key] => Has(key)
        ? new Yaml(((Dictionary<object, object?>)_node!)[key], $"{_path}/{key}")
        : throw new InvalidOperationException($"{_path} has no '{key}'.");

    public static IEnumerable<Yaml> Documents(string text)
    {
        MergingParser parser = new(new Parser(new StringReader(text)));
        IDeserializer reader = new DeserializerBuilder().Build();
        parser.Consume<YamlDotNet.Core.Events.StreamStart>();
        for (int number = 0; parser.Accept<YamlDotNet.Core.Events.DocumentStart>(out _); number++)
        {
            yield return new Yaml(reader.Deserialize<object?>(parser), $"document {number}");
        }
    }

    public bool Has(string key) => _node is Dictionary<object, object?> map && map.ContainsKey(key);

    public IEnumerable<Yaml> Items() => ((_node as List<object?>) ?? throw new InvalidOperationException($"{_path} is no list."))
        .Select((item, at) => new Yaml(item, $"{_path}/{at}"));

    public string[] Texts() => [.. Items().Select(item => item.Text)];

    public IEnumerable<KeyValuePair<string, Yaml>> Pairs() =>
        ((_node as Dictionary<object, object?>) ?? throw new InvalidOperationException($"{_path} is no map."))
        .Select(pair => KeyValuePair.Create((string)pair.Key, new Yaml(pair.Value, $"{_path}/{pair.Key}")));
}
