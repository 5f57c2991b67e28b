using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace Experiments.Silo.Configuration;

/// <summary>YAML as nodes, for what is edited or read before a sweep file's own reader looks at it.</summary>
public static class YamlText
{
    // The library reads nodes by recursion: some ten thousand brackets would end the process, which no handler can prevent.
    private const int DeepestNesting = 64;

    /// <exception cref="YamlException">It is not YAML, or is nested too deeply.</exception>
    public static YamlStream Load(string text)
    {
        Parser events = new(new StringReader(text));
        for (int depth = 0; events.MoveNext();)
        {
            depth += events.Current!.NestingIncrease;
            if (depth > DeepestNesting)
            {
                throw new YamlException(events.Current.Start, events.Current.End, $"It is nested deeper than {DeepestNesting} levels.");
            }
        }

        YamlStream yaml = [];
        yaml.Load(new StringReader(text));
        return yaml;
    }
}
