using System.Collections.Concurrent;
using System.Reflection;

namespace Experiments.Results.Store;

/// <summary>The statements of Store/Sql, by file name without its ending.</summary>
internal static class SqlText
{
    private static readonly ConcurrentDictionary<string, string> Cache = new(StringComparer.Ordinal);

    internal static string Named(string name) => Cache.GetOrAdd(name, static n => Read($"Experiments.Results.Store.Sql.{n}.sql"));

    internal static string Read(string resource)
    {
        using Stream stream = Assembly.GetExecutingAssembly().GetManifestResourceStream(resource)
            ?? throw new InvalidOperationException($"The statement {resource} is not embedded in this build.");
        using StreamReader reader = new(stream);
        return reader.ReadToEnd();
    }
}
