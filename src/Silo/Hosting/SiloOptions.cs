using System.CommandLine;
using System.Net;
using Experiments.Results.Store;
using Experiments.Silo.CommandLine;
using Experiments.Silo.Configuration;
using Experiments.Silo.Security;

namespace Experiments.Silo.Hosting;

/// <summary>What a silo is told on its command line, and what that and the settings come to: the same for <c>experiments silo</c> and for the
/// silo's own program.</summary>
public sealed class SiloOptions
{
    private readonly Option<string> _redis = new("--redis")
    {
        HelpName = "CONNECTION", Description = "StackExchange.Redis connection string of the cluster's membership [EXPERIMENTS_REDIS]",
    };

    private readonly Option<string> _bind = new("--bind")
    {
        HelpName = "ADDRESS", Description = "IP address to listen on and be reached by (default: 127.0.0.1) [EXPERIMENTS_SILO_BIND]",
    };

    private readonly Option<int?> _port = SharedOptions.Integer(
        "--port", "PORT", "TCP port of the silo; 0 for one that is free (default: 11111) [EXPERIMENTS_SILO_PORT]", 0, 65535);

    private readonly Option<string> _health = new("--health")
    {
        HelpName = "ADDRESS:PORT", Description = "Where /health/live, /health/ready and /metrics are served, or none (default: none) [EXPERIMENTS_SILO_HEALTH]",
    };

    private readonly Option<string> _cluster = new("--cluster")
    {
        HelpName = "NAME", Description = "Silos of one name form one cluster (default: experiments) [EXPERIMENTS_SILO_CLUSTER]",
    };

    private readonly Option<string> _name = new("--name")
    {
        HelpName = "NAME", Description = "The node's name in the store (default: the machine's) [EXPERIMENTS_SILO_NAME]",
    };

    private readonly Option<int?> _lanes = SharedOptions.Integer(
        "--lanes", "N", "How many shards run side by side, for sweeps that share [EXPERIMENTS_LANES]", 1, Settings.MostLanes);

    private readonly Option<int?> _drain = SharedOptions.Integer(
        "--drain", "SECONDS", "How long running shards may go on after SIGTERM (default: 20) [EXPERIMENTS_SILO_DRAIN]", 0, 3600);

    private readonly Option<string> _certificate = new("--tls-certificate")
    {
        HelpName = "FILE", Description = "The node's certificate (PEM), as 'experiments certificates' makes it [EXPERIMENTS_SILO_TLS_CERTIFICATE]",
    };

    private readonly Option<string> _key = new("--tls-key") { HelpName = "FILE", Description = "Its key (PEM) [EXPERIMENTS_SILO_TLS_KEY]" };

    private readonly Option<string> _authority = new("--tls-authority")
    {
        HelpName = "FILE", Description = "Who signs the cluster's certificates (PEM) [EXPERIMENTS_SILO_TLS_AUTHORITY]",
    };

    private readonly Option<string> _state = new("--state-file")
    {
        HelpName = "FILE", Description = "Where its process number and addresses stand, as JSON; locked while it runs",
    };

    private readonly Option<bool> _json = new("--json-log") { Description = "Log JSON lines instead of plain ones [EXPERIMENTS_SILO_JSON_LOG]" };

    /// <summary>In the order of the help.</summary>
    public IReadOnlyList<Option> All =>
        [_redis, _bind, _port, _health, _cluster, _name, _lanes, _drain, _certificate, _key, _authority, _state, _json, SharedOptions.Plugins];

    /// <summary>Command line over environment over file over default.</summary>
    /// <exception cref="CommandException">Something is missing, or is not what it has to be.</exception>
    public ClusterSiloOptions Read(ParseResult parsed, Settings settings)
    {
        ArgumentNullException.ThrowIfNull(parsed);
        ArgumentNullException.ThrowIfNull(settings);
        Setting redis = Of(_redis, "redis");
        if (string.IsNullOrWhiteSpace(redis.Value))
        {
            throw CommandException.Invalid(
                "A silo finds its cluster by Redis, and none is named. Set EXPERIMENTS_REDIS or give --redis, such as 127.0.0.1:6379; "
                + "without a cluster, 'experiments run' needs none.");
        }

        ClusterSiloOptions options = new(redis.Value, AddressOf(Of(_bind, "silo_bind")), parsed.GetValue(_port) ?? settings.SiloPort ?? 11111)
        {
            Cluster = Of(_cluster, "silo_cluster").Value ?? "experiments",
            Name = Of(_name, "silo_name").Value,
            Lanes = parsed.GetValue(_lanes) ?? settings.Lanes,
            Drain = TimeSpan.FromSeconds(parsed.GetValue(_drain) ?? settings.SiloDrain ?? 20),
            Tls = TlsOf(Of(_certificate, "silo_tls_certificate").Value, Of(_key, "silo_tls_key").Value, Of(_authority, "silo_tls_authority").Value),
            Health = HealthOf(Of(_health, "silo_health")),
            Isolation = IsolatedProcess.OptionsOf(settings),
            Files = settings.FilesCache,
            TraceShare = settings.TraceShare,
            JsonLog = parsed.GetValue(_json) || settings.SiloJsonLog == true,
        };

        // Last, since it runs others' code.
        IReadOnlyList<PlugIn> plugIns = settings.LoadPlugIns();
        return options with { PlugIns = plugIns, Workbench = PlugIns.Workbench(plugIns) };

        Setting Of(Option<string> option, string key) => parsed.GetValue(option) is string given ? new Setting(given, option.Name) : settings[key];
    }

    /// <summary>Null for none.</summary>
    public string? StateFile(ParseResult parsed) => parsed.GetValue(_state);

    private static IPAddress AddressOf(Setting bind)
    {
        IPAddress address = NetworkAddress.Find(bind.Value ?? "127.0.0.1")
            ?? throw CommandException.Invalid($"{bind.Source} is '{bind.Value}'; a whole IP address of this machine is needed, such as 127.0.0.1 or 10.0.0.5.");
        return !address.Equals(IPAddress.Any) && !address.Equals(IPAddress.IPv6Any) ? address : throw CommandException.Invalid(
            $"{bind.Source} is '{bind.Value}', which is every address, and the others reach a silo by the one that it listens on. Name one of this machine, such as 10.0.0.5.");
    }

    private static ClusterTlsOptions? TlsOf(string? certificate, string? key, string? authority) =>
        (certificate, key, authority) switch
        {
            (null, null, null) => null,
            (string, string, string) => new ClusterTlsOptions(certificate, key, authority),
            _ => throw CommandException.Invalid("--tls-certificate, --tls-key and --tls-authority (or their EXPERIMENTS_SILO_TLS_ variables) go together: give all three, or none on loopback."),
        };

    private static IPEndPoint? HealthOf(Setting health) => health.Value is null or "none" ? null
        : NetworkAddress.FindEndPoint(health.Value)
        ?? throw CommandException.Invalid($"{health.Source} is '{health.Value}'; a whole IP address and a port are needed, such as 127.0.0.1:8080 or [::1]:8080, or none.");
}
