using System.CommandLine;
using System.Net;
using System.Net.Sockets;
using Experiments.Client.Configuration;
using Experiments.Client.Running;
using Experiments.Client.Terminals;
using Experiments.Results.Store;
using Experiments.Silo;
using Experiments.Silo.OneMachine;
using Experiments.Silo.Security;
using Npgsql;

namespace Experiments.Client.Verbs;

/// <summary>Runs a silo of a cluster until it is told to stop.</summary>
internal static class SiloVerb
{
    private static readonly TimeSpan FirstPause = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(15);

    public static Command Create(Terminal terminal)
    {
        Option<string> redis = new("--redis")
        {
            HelpName = "CONNECTION", Description = "StackExchange.Redis connection string of the cluster's membership [EXPERIMENTS_REDIS]",
        };
        Option<string> bind = new("--bind")
        {
            HelpName = "ADDRESS", Description = "IP address to listen on and be reached by (default: 127.0.0.1) [EXPERIMENTS_SILO_BIND]",
        };
        Option<int?> port = SweepOptions.Integer("--port", "PORT", "TCP port of the silo; 0 for one that is free (default: 11111) [EXPERIMENTS_SILO_PORT]", 0, 65535);
        Option<string> health = new("--health")
        {
            HelpName = "ADDRESS:PORT", Description = "Where /health/live, /health/ready and /metrics are served, or none (default: none) [EXPERIMENTS_SILO_HEALTH]",
        };
        Option<string> cluster = new("--cluster")
        {
            HelpName = "NAME", Description = "Silos of one name form one cluster (default: experiments) [EXPERIMENTS_SILO_CLUSTER]",
        };
        Option<string> name = new("--name") { HelpName = "NAME", Description = "The node's name in the store (default: the machine's) [EXPERIMENTS_SILO_NAME]" };
        Option<int?> lanes = SweepOptions.Integer("--lanes", "N", "How many shards run side by side, for sweeps that share [EXPERIMENTS_LANES]", 1, 4096);
        Option<int?> drain = SweepOptions.Integer("--drain", "SECONDS", "How long running shards may go on after SIGTERM (default: 20) [EXPERIMENTS_SILO_DRAIN]", 0, 3600);
        Option<string> certificate = new("--tls-certificate") { HelpName = "FILE", Description = "The node's certificate (PEM), as 'experiments certificates' makes it [EXPERIMENTS_SILO_TLS_CERTIFICATE]" };
        Option<string> key = new("--tls-key") { HelpName = "FILE", Description = "Its key (PEM) [EXPERIMENTS_SILO_TLS_KEY]" };
        Option<string> authority = new("--tls-authority") { HelpName = "FILE", Description = "Who signs the cluster's certificates (PEM) [EXPERIMENTS_SILO_TLS_AUTHORITY]" };
        Option<string> state = new("--state-file")
        {
            HelpName = "FILE", Description = "Where its process number and addresses stand, as JSON; locked while it runs",
        };
        Option<bool> json = new("--json-log") { Description = "Log JSON lines instead of plain ones [EXPERIMENTS_SILO_JSON_LOG]" };
        return new Verb("silo", "Run a silo of a cluster: it takes up every running sweep of the store")
        {
            Examples =
            [
                ("experiments silo --redis 127.0.0.1:6379", "a silo on this machine, for sweeps that are submitted"),
                ("experiments silo --bind 10.0.0.5 --tls-certificate node.crt --tls-key node.key --tls-authority ca.crt --health 0.0.0.0:8080 --json-log",
                    "one of many machines, EXPERIMENTS_REDIS and EXPERIMENTS_POSTGRES being set"),
            ],
            Options = { redis, bind, port, health, cluster, name, lanes, drain, certificate, key, authority, state, json, GlobalOptions.Plugins },
        }.Runs(terminal, invocation =>
        {
            ClientSettings settings = invocation.Settings;
            Setting Of(Option<string> option, string key) => invocation.Value(option) is string given ? new Setting(given, option.Name) : settings[key];
            Setting setting = Of(redis, "redis");
            if (string.IsNullOrWhiteSpace(setting.Value))
            {
                throw CommandException.Invalid(
                    "A silo finds its cluster by Redis, and none is named. Set EXPERIMENTS_REDIS or give --redis, such as 127.0.0.1:6379; "
                    + "without a cluster, 'experiments run' needs none.");
            }

            return RunAsync(invocation, invocation.Value(state), new ClusterSiloOptions(
                setting.Value, AddressOf(Of(bind, "silo_bind")), invocation.Value(port) ?? settings.SiloPort ?? 11111)
            {
                Cluster = Of(cluster, "silo_cluster").Value ?? "experiments",
                Name = Of(name, "silo_name").Value,
                Lanes = invocation.Value(lanes) ?? settings.Lanes,
                Drain = TimeSpan.FromSeconds(invocation.Value(drain) ?? settings.SiloDrain ?? 20),
                Tls = TlsOf(Of(certificate, "silo_tls_certificate").Value, Of(key, "silo_tls_key").Value, Of(authority, "silo_tls_authority").Value),
                Health = HealthOf(Of(health, "silo_health")),
                Workbench = invocation.Workbench,
                PlugIns = invocation.PlugIns,
                Isolation = IsolatedVerb.OptionsOf(invocation),
                Files = settings.FilesCache,
                TraceShare = settings.TraceShare,
                JsonLog = invocation.Value(json) || settings.SiloJsonLog == true,
            });
        });
    }

    private static async Task<ExitCode> RunAsync(Invocation invocation, string? stateFile, ClusterSiloOptions options)
    {
        Terminal terminal = invocation.Terminal;
        Interrupts interrupts = terminal.Interrupts;
        interrupts.Signalled += count => terminal.Notice(count == 1
            ? string.Create(System.Globalization.CultureInfo.InvariantCulture, $"Draining for up to {options.Drain.TotalSeconds:F0} s, then leaving. A second signal leaves now.")
            : "Leaving now.");
        using CancellationTokenSource over = CancellationTokenSource.CreateLinkedTokenSource(interrupts.Finish);
        Task<ResultStore> opening = OpenAsync(invocation, over.Token);
        try
        {
            using MemberFile? state = stateFile is null ? null : await MemberFile.HoldAsync(stateFile, over.Token);
            // A connection string that can never be right is told at once; a server that is away is waited for.
            await Task.WhenAny(opening, Task.Delay(TimeSpan.FromMilliseconds(200), terminal.Clock, over.Token));
            if (opening.IsFaulted)
            {
                await opening;
            }

            await using ClusterSilo silo = await ClusterSilo.StartAsync(options, opening, over.Token);
            terminal.Notice($"Silo of cluster '{options.Cluster}' on {silo.Endpoint}"
                + (silo.Health is IPEndPoint at ? $", health on {at}." : "."));
            state?.Say(silo.Endpoint.ToString(), silo.Health?.ToString());
            await Task.WhenAny(opening, Task.Delay(Timeout.InfiniteTimeSpan, terminal.Clock, over.Token));
            if (opening.IsFaulted)
            {
                await opening;
            }

            await Task.Delay(Timeout.InfiniteTimeSpan, terminal.Clock, over.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await silo.StopAsync(interrupts.Now);
            SweepRunner.TellOfOtlp(invocation, silo.OtlpFault);
            return ExitCode.Done;
        }
        catch (OperationCanceledException) when (interrupts.Finish.IsCancellationRequested)
        {
            return ExitCode.Done;
        }
        catch (ClusterSiloException fault)
        {
            throw new CommandException(
                fault.InnerException is StackExchange.Redis.RedisException ? ExitCode.StoreUnreachable : ExitCode.Invalid, fault.Message, fault);
        }
        finally
        {
            await over.CancelAsync();
            await ((Task)opening).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (opening.IsCompletedSuccessfully)
            {
                await opening.Result.DisposeAsync();
            }
        }
    }

    private static async Task<ResultStore> OpenAsync(Invocation invocation, CancellationToken cancellation)
    {
        for (TimeSpan pause = FirstPause; ; pause = pause * 2 < LongestPause ? pause * 2 : LongestPause)
        {
            try
            {
                return await ResultStore.OpenAsync(await Stores.LocateAsync(invocation, cancellation), cancellation);
            }
            catch (StoreUnavailableException fault) when (fault.InnerException is NpgsqlException or SocketException or TimeoutException)
            {
                invocation.Terminal.Notice(ErrorBoundary.Redact($"{fault.Message} Waiting for it."));
                await Task.Delay(pause, invocation.Terminal.Clock, cancellation);
            }
        }
    }

    private static IPAddress AddressOf(Setting bind) => IPAddress.TryParse(bind.Value ?? "127.0.0.1", out IPAddress? address)
        ? address
        : throw CommandException.Invalid($"{bind.Source} is '{bind.Value}'; an IP address of this machine is needed, such as 127.0.0.1 or 10.0.0.5.");

    private static ClusterTlsOptions? TlsOf(string? certificate, string? key, string? authority) =>
        (certificate, key, authority) switch
        {
            (null, null, null) => null,
            (string, string, string) => new ClusterTlsOptions(certificate, key, authority),
            _ => throw CommandException.Invalid("--tls-certificate, --tls-key and --tls-authority (or their EXPERIMENTS_SILO_TLS_ variables) go together: give all three, or none on loopback."),
        };

    private static IPEndPoint? HealthOf(Setting health) => health.Value is null or "none" ? null
        : health.Value.Contains(':', StringComparison.Ordinal) && IPEndPoint.TryParse(health.Value, out IPEndPoint? at) ? at
        : throw CommandException.Invalid($"{health.Source} is '{health.Value}'; an address and a port are needed, such as 127.0.0.1:8080, or none.");
}
