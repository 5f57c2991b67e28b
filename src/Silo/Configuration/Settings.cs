using System.Globalization;
using Experiments.Grains.Running;
using Experiments.Results.Sweeps;
using Experiments.Silo.CommandLine;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace Experiments.Silo.Configuration;

/// <summary>A setting's value and where it came from.</summary>
/// <param name="Source">"--postgres", "EXPERIMENTS_POSTGRES", the file's path, or "default".</param>
public readonly record struct Setting(string? Value, string Source);

/// <summary>Every setting of the programs, from one place: command line over environment over file over default.</summary>
/// <remarks>The file is YAML: <c>$XDG_CONFIG_HOME/experiments/config.yaml</c> (<c>~/.config</c> where that is unset;
/// <c>%APPDATA%</c> on Windows), or the one that EXPERIMENTS_CONFIG names.</remarks>
public sealed class Settings
{
    /// <summary>Every setting: its key in the file, its variable, and what it is.</summary>
    public static readonly IReadOnlyList<(string Key, string Variable, string Summary)> Known =
    [
        ("postgres", "EXPERIMENTS_POSTGRES", "Npgsql connection string of the store; none: a private server is started"),
        ("redis", "EXPERIMENTS_REDIS", "StackExchange.Redis connection string for clusters"),
        ("lanes", "EXPERIMENTS_LANES", "how many shards run side by side; none: as the sweep asks"),
        ("silo_bind", "EXPERIMENTS_SILO_BIND", "IP address that a silo listens on and is reached by"),
        ("silo_port", "EXPERIMENTS_SILO_PORT", "TCP port of a silo; 0 for one that is free"),
        ("silo_health", "EXPERIMENTS_SILO_HEALTH", "ADDRESS:PORT of a silo's health and metrics, or none"),
        ("silo_cluster", "EXPERIMENTS_SILO_CLUSTER", "silos of one name form one cluster"),
        ("silo_name", "EXPERIMENTS_SILO_NAME", "a silo's name in the store; none: the machine's"),
        ("silo_drain", "EXPERIMENTS_SILO_DRAIN", "seconds that a silo's running shards may go on after SIGTERM"),
        ("silo_tls_certificate", "EXPERIMENTS_SILO_TLS_CERTIFICATE", "file of a silo's certificate (PEM)"),
        ("silo_tls_key", "EXPERIMENTS_SILO_TLS_KEY", "file of its key (PEM)"),
        ("silo_tls_authority", "EXPERIMENTS_SILO_TLS_AUTHORITY", "file of who signs the cluster's certificates (PEM)"),
        ("silo_json_log", "EXPERIMENTS_SILO_JSON_LOG", "true logs JSON lines"),
        ("plugins", "EXPERIMENTS_PLUGINS", "folders of kernels and families of one's own; several are joined as in PATH"),
        ("files_cache", "EXPERIMENTS_FILES_CACHE", "folder for the files that sweeps carry, where trials run; none: in the user's cache"),
        ("files_cache_size", "EXPERIMENTS_FILES_CACHE_SIZE", "what may lie in it, such as 50GiB; none: 16GiB"),
        ("otlp_endpoint", "OTEL_EXPORTER_OTLP_ENDPOINT", "where traces also go by OTLP"),
        ("traces_sampler", "OTEL_TRACES_SAMPLER", "which shards are traced: always_on, always_off, traceidratio; none: all"),
        ("traces_sampler_arg", "OTEL_TRACES_SAMPLER_ARG", "the share that traceidratio keeps, from 0 to 1; none: 1"),
        ("color", "EXPERIMENTS_COLOR", "false turns colours off, as NO_COLOR does"),
    ];

    /// <summary>Each lane is a thread: far more of them than any machine's cores end the process.</summary>
    public const int MostLanes = 4096;

    private readonly Dictionary<string, Setting> _values = [];

    private readonly Func<string, string?> _environment;

    private Settings(string file, Func<string, string?> environment) => (File, _environment) = (file, environment);

    /// <summary>Where the file is, or would be.</summary>
    public string File { get; }

    public Setting Postgres => _values["postgres"];

    public Setting Redis => _values["redis"];

    public Setting PlugIns => _values["plugins"];

    public Setting OtlpEndpoint => _values["otlp_endpoint"];

    public int? Lanes => Parsed("lanes", text => int.TryParse(text, CultureInfo.InvariantCulture, out int n) && n is >= 1 and <= MostLanes
        ? n
        : (int?)null, $"a whole number from 1 to {MostLanes}");

    public int? SiloPort => Parsed("silo_port", text => int.TryParse(text, CultureInfo.InvariantCulture, out int n) && n is >= 0 and <= 65535
        ? n
        : (int?)null, "a port from 0 to 65535");

    public int? SiloDrain => Parsed("silo_drain", text => int.TryParse(text, CultureInfo.InvariantCulture, out int n) && n is >= 0 and <= 3600
        ? n
        : (int?)null, "a number of seconds from 0 to 3600");

    public bool? SiloJsonLog => Parsed("silo_json_log", text => bool.TryParse(text, out bool on) ? on : (bool?)null, "true or false");

    /// <summary>Where the files that sweeps carry are kept when trials run here.</summary>
    public FileCacheOptions FilesCache
    {
        get
        {
            FileCacheOptions cache = FileCacheOptions.Of(_environment);
            return new FileCacheOptions(
                _values["files_cache"].Value is string folder ? Path.GetFullPath(folder) : cache.Folder,
                Parsed("files_cache_size", SweepFile.SizeOf, "a size such as 50GiB") ?? cache.MostBytes);
        }
    }

    /// <summary>The share of shards that are traced, as OpenTelemetry's own variables say it. A shard's root span has no parent, so that
    /// the samplers that are based on a parent are the others.</summary>
    public double TraceShare
    {
        get
        {
            double share = Parsed("traces_sampler_arg", text => double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double d) && d is >= 0 and <= 1
                ? d
                : (double?)null, "a number from 0 to 1") ?? 1;
            return Parsed("traces_sampler", text => text switch
            {
                "always_on" or "parentbased_always_on" => 1,
                "always_off" or "parentbased_always_off" => 0,
                "traceidratio" or "parentbased_traceidratio" => share,
                _ => (double?)null,
            }, "always_on, always_off or traceidratio") ?? 1;
        }
    }

    /// <summary>Reads every setting that has a form of its own, whoever may want it.</summary>
    /// <exception cref="CommandException">One has not.</exception>
    public void Check()
    {
        _ = (Lanes, SiloPort, SiloDrain, SiloJsonLog, FilesCache, TraceShare, Color);
    }

    public bool? Color => Parsed("color", text => bool.TryParse(text, out bool on) ? on : (bool?)null, "true or false");

    public Setting this[string key] => _values[key];

    /// <param name="commandLine">Settings that options gave, by key; nulls are options not given.</param>
    /// <exception cref="CommandException">The file cannot be read, or holds an unknown key.</exception>
    public static Settings Load(Func<string, string?> environment, IReadOnlyDictionary<string, string?> commandLine)
    {
        Settings settings = new(FileOf(environment), environment);
        Dictionary<string, string> file = ReadFile(settings.File, environment("EXPERIMENTS_CONFIG") is { Length: > 0 });
        foreach ((string key, string variable, _) in Known)
        {
            settings._values[key] = commandLine.GetValueOrDefault(key) is string option ? new(option, "--" + key)
                : environment(variable) is { Length: > 0 } text ? new(text, variable)
                : file.TryGetValue(key, out string? value) ? new(value, settings.File)
                : new(null, "default");
        }

        return settings;
    }

    /// <summary>The plug-ins that the settings name.</summary>
    /// <exception cref="CommandException">One cannot be used.</exception>
    public IReadOnlyList<PlugIn> LoadPlugIns()
    {
        try
        {
            return Silo.PlugIns.Load(PlugIns.Value);
        }
        catch (PlugInException fault)
        {
            throw CommandException.Invalid(PlugIns.Source == "--plugins" ? fault.Message : $"{PlugIns.Source}: {fault.Message}", fault);
        }
    }

    /// <summary>Tells OpenTelemetry of a collector that only the file names: it reads the environment alone, and all else that goes with the
    /// endpoint is there.</summary>
    public void ShareOtlpEndpoint()
    {
        if (OtlpEndpoint is { Value: string endpoint } && OtlpEndpoint.Source == File)
        {
            Environment.SetEnvironmentVariable("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        }
    }

    /// <summary>One line for all that a collector did not get.</summary>
    public string NotDelivered(string fault) => ErrorBoundary.Redact(
        $"Not all traces and metrics reached the collector at '{OtlpEndpoint.Value}' ({OtlpEndpoint.Source}): {fault}. The store has the traces; "
        + "'experiments doctor' looks for the collector.");

    private static string FileOf(Func<string, string?> environment)
    {
        if (environment("EXPERIMENTS_CONFIG") is { Length: > 0 } named)
        {
            return named;
        }

        string folder = environment("XDG_CONFIG_HOME") is { Length: > 0 } configured
            ? configured
            : OperatingSystem.IsWindows()
                ? Environment.GetFolderPath(Environment.SpecialFolder.ApplicationData)
                : Path.Combine(environment("HOME") ?? "/", ".config");
        return Path.Combine(folder, "experiments", "config.yaml");
    }

    private static Dictionary<string, string> ReadFile(string path, bool mustExist)
    {
        Dictionary<string, string> values = [];
        if (!System.IO.File.Exists(path))
        {
            return mustExist
                ? throw CommandException.Invalid(
                    $"EXPERIMENTS_CONFIG names '{path}', which {(Directory.Exists(path) ? "is a folder; a file is needed" : "does not exist")}.")
                : values;
        }

        try
        {
            YamlStream yaml = YamlText.Load(System.IO.File.ReadAllText(path));
            if (yaml.Documents.Count == 0)
            {
                return values;
            }

            if (yaml.Documents[0].RootNode is not YamlMappingNode map)
            {
                throw CommandException.Invalid($"{path}: a map of settings is needed, such as 'lanes: 2'.");
            }

            foreach ((YamlNode keyNode, YamlNode valueNode) in map.Children)
            {
                string key = (keyNode as YamlScalarNode)?.Value ?? "";
                if (!Known.Any(k => k.Key == key))
                {
                    throw CommandException.Invalid(
                        $"{path}:{keyNode.Start.Line}:{keyNode.Start.Column}: unknown setting '{key}'."
                        + NearestName.Hint(key, Known.Select(k => k.Key))
                        + $" The settings are {string.Join(", ", Known.Select(k => k.Key))}.");
                }

                values[key] = (valueNode as YamlScalarNode)?.Value is { Length: > 0 } value
                    ? value
                    : throw CommandException.Invalid($"{path}:{valueNode.Start.Line}: '{key}' needs one value.");
            }

            return values;
        }
        catch (YamlException fault)
        {
            throw CommandException.Invalid($"{path}:{fault.Start.Line}:{fault.Start.Column}: {fault.Message}", fault);
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            throw CommandException.Invalid($"The settings file '{path}' cannot be read: {fault.Message}", fault);
        }
    }

    private T? Parsed<T>(string key, Func<string, T?> parse, string needed)
        where T : struct
    {
        Setting setting = _values[key];
        return setting.Value is null
            ? null
            : parse(setting.Value)
                ?? throw CommandException.Invalid($"{setting.Source}: {key} is '{setting.Value}'; {needed} is needed.");
    }
}
