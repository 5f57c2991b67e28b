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
            HelpName = "ADDRESS", Description = "IP address to listen on and be reached by", DefaultValueFactory = _ => "127.0.0.1",
        };
        Option<int?> port = SweepOptions.Integer("--port", "PORT", "TCP port of the silo; 0 for one that is free", 0, 65535);
        port.DefaultValueFactory = _ => 11111;
        Option<string> health = new("--health")
        {
            HelpName = "ADDRESS:PORT", Description = "Where /health/live, /health/ready and /metrics are served, or none",
            DefaultValueFactory = _ => "none",
        };
        Option<string> cluster = new("--cluster")
        {
            HelpName = "NAME", Description = "Silos of one name form one cluster", DefaultValueFactory = _ => "experiments",
        };
        Option<string> name = new("--name") { HelpName = "NAME", Description = "The node's name in the store [the machine's]" };
        Option<int?> lanes = SweepOptions.Integer("--lanes", "N", "How many shards run side by side, for sweeps that share [EXPERIMENTS_LANES]", 1, 4096);
        Option<int?> drain = SweepOptions.Integer("--drain", "SECONDS", "How long running shards may go on after SIGTERM", 0, 3600);
        drain.DefaultValueFactory = _ => 20;
        Option<string> certificate = new("--tls-certificate") { HelpName = "FILE", Description = "The node's certificate (PEM), as 'experiments certificates' makes it" };
        Option<string> key = new("--tls-key") { HelpName = "FILE", Description = "Its key (PEM)" };
        Option<string> authority = new("--tls-authority") { HelpName = "FILE", Description = "Who signs the cluster's certificates (PEM)" };
        Option<string> state = new("--state-file")
        {
            HelpName = "FILE", Description = "Where its process number and addresses stand, as JSON; locked while it runs",
        };
        Option<bool> json = new("--json-log") { Description = "Log JSON lines instead of plain ones" };
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
            Setting setting = invocation.Value(redis) is string given ? new Setting(given, "--redis") : invocation.Settings.Redis;
            if (string.IsNullOrWhiteSpace(setting.Value))
            {
                throw CommandException.Invalid(
                    "A silo finds its cluster by Redis, and none is named. Set EXPERIMENTS_REDIS or give --redis, such as 127.0.0.1:6379; "
                    + "without a cluster, 'experiments run' needs none.");
            }

            return RunAsync(invocation, invocation.Value(state), new ClusterSiloOptions(setting.Value, AddressOf(invocation.Value(bind)!), invocation.Value(port)!.Value)
            {
                Cluster = invocation.Value(cluster)!,
                Name = invocation.Value(name),
                Lanes = invocation.Value(lanes) ?? invocation.Settings.Lanes,
                Drain = TimeSpan.FromSeconds(invocation.Value(drain)!.Value),
                Tls = TlsOf(invocation.Value(certificate), invocation.Value(key), invocation.Value(authority)),
                Health = HealthOf(invocation.Value(health)!),
                Workbench = invocation.Workbench,
                PlugIns = invocation.PlugIns,
                Files = invocation.Settings.FilesCache,
                JsonLog = invocation.Value(json),
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

    private static IPAddress AddressOf(string text) => IPAddress.TryParse(text, out IPAddress? address)
        ? address
        : throw CommandException.Invalid($"--bind is '{text}'; an IP address of this machine is needed, such as 127.0.0.1 or 10.0.0.5.");

    private static ClusterTlsOptions? TlsOf(string? certificate, string? key, string? authority) =>
        (certificate, key, authority) switch
        {
            (null, null, null) => null,
            (string, string, string) => new ClusterTlsOptions(certificate, key, authority),
            _ => throw CommandException.Invalid("--tls-certificate, --tls-key and --tls-authority go together: give all three, or none on loopback."),
        };

    private static IPEndPoint? HealthOf(string text) => text == "none" ? null
        : text.Contains(':', StringComparison.Ordinal) && IPEndPoint.TryParse(text, out IPEndPoint? at) ? at
        : throw CommandException.Invalid($"--health is '{text}'; an address and a port are needed, such as 127.0.0.1:8080, or none.");
}
