using System.Globalization;
using System.Numerics;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Experiments.Grains.Running;
using Experiments.Kernels.Numbers;
using Experiments.Results.Store;

namespace Experiments.Silo;

/// <summary>What is recorded of the machine and build that computed a trial.</summary>
public static class NodeFacts
{
    private static readonly string[] Packages =
        ["Orleans.Core", "Orleans.Runtime", "Npgsql", "OpenTelemetry", "StackExchange.Redis", "System.IO.Hashing"];

    /// <summary>This process as a row of the table <c>node</c>.</summary>
    /// <param name="name">The node's name; the machine's when null.</param>
    /// <param name="plugIns">What it loaded beside the built-in kernels and families.</param>
    /// <param name="memory">What its trials may take, where it is a silo.</param>
    /// <param name="attends">Whether it takes up every sweep that runs.</param>
    public static NodeRow OfThisProcess(string? name, IReadOnlyList<PlugIn> plugIns, MemoryBudget? memory = null, bool attends = false) =>
        new(name ?? Environment.MachineName, Environment.MachineName, Environment.ProcessId, Json(plugIns, memory, attends));

    /// <summary>The build's git commit, from the assembly's informational version <c>0.1.0+commit</c>; null without one.</summary>
    public static string? GitCommit =>
        Build.Split('+', 2) is [_, { Length: > 0 } commit] ? commit : null;

    /// <summary>The assembly's informational version, <c>0.1.0+commit</c>.</summary>
    public static string Build =>
        typeof(NodeFacts).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "";

    private static string Json(IReadOnlyList<PlugIn> plugIns, MemoryBudget? memory, bool attends)
    {
        using MemoryStream stream = new();
        using (Utf8JsonWriter json = new(stream))
        {
            json.WriteStartObject();
            json.WriteString("cpu", Processor());
            json.WriteNumber("cores", Environment.ProcessorCount);
            json.WriteStartArray("pinning_cores");
            foreach (int core in Pinning.Cores)
            {
                json.WriteNumberValue(core);
            }

            json.WriteEndArray();
            json.WriteNumber("memory_bytes", GC.GetGCMemoryInfo().TotalAvailableMemoryBytes);
            if (memory is not null)
            {
                json.WriteNumber("memory_free_bytes", memory.Free);
            }

            json.WriteBoolean("attends", attends);
            json.WriteNumber("vector_bits", Vector<byte>.Count * 8);
            json.WriteString("architecture", RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant());
            json.WriteString("runtime", RuntimeInformation.FrameworkDescription);
            json.WriteString("os", RuntimeInformation.OSDescription);
            json.WriteString("build", Build);
            json.WriteString("git_commit", GitCommit);
            json.WriteStartObject("packages");
            foreach (Assembly assembly in AppDomain.CurrentDomain.GetAssemblies()
                .Where(a => Packages.Contains(a.GetName().Name, StringComparer.Ordinal))
                .OrderBy(a => a.GetName().Name, StringComparer.Ordinal))
            {
                string version = assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion
                    ?? assembly.GetName().Version?.ToString() ?? "";
                json.WriteString(assembly.GetName().Name!, version.Split('+')[0]);
            }

            json.WriteEndObject();
            json.WriteStartArray("plugins");
            foreach (PlugIn plugIn in plugIns)
            {
                json.WriteStartObject();
                json.WriteString("name", plugIn.Name);
                json.WriteString("version", plugIn.Version);
                json.WriteString("sha256", plugIn.Sha256);
                WriteNames("kernels", plugIn.Kernels.Select(k => k.Name));
                WriteNames("families", plugIn.Families.Select(f => f.Name));
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();

            void WriteNames(string what, IEnumerable<string> names)
            {
                json.WriteStartArray(what);
                foreach (string name in names)
                {
                    json.WriteStringValue(name);
                }

                json.WriteEndArray();
            }
        }

        return Encoding.UTF8.GetString(stream.ToArray());
    }

    private static string Processor()
    {
        const string Key = "model name";
        if (File.Exists("/proc/cpuinfo")
            && File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith(Key, StringComparison.Ordinal)) is string line)
        {
            return line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim();
        }

        return Environment.GetEnvironmentVariable("PROCESSOR_IDENTIFIER")
            ?? string.Create(CultureInfo.InvariantCulture, $"{RuntimeInformation.ProcessArchitecture}");
    }
}
