using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using Experiments.Client.Terminals;
using Experiments.Results.PrivatePostgres;
using Experiments.Silo;
using Experiments.Silo.Configuration;
using Experiments.Silo.OneMachine;

namespace Experiments.Client.Verbs;

/// <summary>A cluster on this one machine: a Redis, silos and, where none is named, the private Postgres.</summary>
internal static class ClusterVerb
{
    public static Command Create(Terminal terminal)
    {
        Option<string> name = new("--cluster") { HelpName = "NAME", Description = "The cluster's name", DefaultValueFactory = _ => "experiments" };
        Option<int?> silos = SweepOptions.Integer("--silos", "N", "How many silos are to run", 1, 64);
        silos.DefaultValueFactory = _ => 3;
        Option<int?> lanes = SweepOptions.Integer(
            "--lanes", "N", "How many shards each silo runs side by side, for sweeps that share [the cores, less one, shared out]", 1, Settings.MostLanes);
        Option<int?> drain = SweepOptions.Integer("--drain", "SECONDS", "How long running shards may go on", 0, 3600);
        drain.DefaultValueFactory = _ => 20;
        Command cluster = new Verb("cluster", "A cluster on this machine: silos as processes, an embedded Redis, the store")
        {
            Examples =
            [
                ("experiments cluster up --silos 3", "three silos, a Redis and, where no Postgres is named, the private one"),
                ("experiments cluster", "which of them run; 'experiments submit' hands them a sweep"),
                ("experiments cluster down", "drain the silos, end it all"),
            ],
            Options = { name, GlobalOptions.Json },
        }.Runs(terminal, invocation => StatusAsync(invocation, invocation.Value(name)!));
        cluster.Add(new Verb("up", "Start what is missing, so that this many silos run")
        {
            Examples =
            [
                ("experiments cluster up", "three silos; again, it starts those that have died"),
                ("experiments cluster up --silos 5 --lanes 1", "two more, of one lane each"),
            ],
            Options = { silos, lanes, name, GlobalOptions.Plugins, GlobalOptions.Json },
        }.Runs(terminal, invocation => UpAsync(invocation, invocation.Value(name)!, invocation.Value(silos)!.Value, invocation.Value(lanes))));
        cluster.Add(new Verb("down", "Drain the silos, end Redis, stop the private Postgres unless others use it")
        {
            Examples = [("experiments cluster down --drain 60", "running shards may take a minute")],
            Options = { drain, name, GlobalOptions.Json },
        }.Runs(terminal, invocation => DownAsync(invocation, invocation.Value(name)!, invocation.Value(drain)!.Value)));
        cluster.Add(new Verb("status", "Say which processes run, and where")
        {
            Examples = [("experiments cluster status --json", "the same for a program")],
            Options = { name, GlobalOptions.Json },
        }.Runs(terminal, invocation => StatusAsync(invocation, invocation.Value(name)!)));
        cluster.Add(Redis(terminal));
        return cluster;
    }

    private static async Task<ExitCode> UpAsync(Invocation invocation, string name, int silos, int? lanes)
    {
        MachineCluster cluster = Of(name);

        // Started and migrated once, not by each silo.
        await Stores.LocateAsync(invocation, invocation.Cancellation);
        Dictionary<string, string> environment = [];
        if (invocation.Settings.Postgres.Value is string store)
        {
            environment["EXPERIMENTS_POSTGRES"] = store;
        }

        // A silo stands in another folder than whoever starts it.
        // Relative to where this command runs, as its plug-ins are.
        (environment["EXPERIMENTS_FILES_CACHE"], long most) = invocation.Settings.FilesCache;
        environment["EXPERIMENTS_FILES_CACHE_SIZE"] = most.ToString(CultureInfo.InvariantCulture);
        environment["OTEL_TRACES_SAMPLER"] = "traceidratio";
        environment["OTEL_TRACES_SAMPLER_ARG"] = invocation.Settings.TraceShare.ToString("R", CultureInfo.InvariantCulture);
        if (invocation.Settings.PlugIns.Value is string plugins)
        {
            _ = invocation.PlugIns; // What cannot be loaded is told here, not in the log of each silo.
            environment["EXPERIMENTS_PLUGINS"] = string.Join(Path.PathSeparator, plugins
                .Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Select(Path.GetFullPath));
        }

        if (File.Exists(invocation.Settings.File))
        {
            environment["EXPERIMENTS_CONFIG"] = Path.GetFullPath(invocation.Settings.File);
        }

        List<string> options = ["--lanes", (lanes ?? Math.Max(1, (Environment.ProcessorCount - 1) / silos)).ToString(CultureInfo.InvariantCulture)];
        await Told(() => cluster.UpAsync(silos, options, environment, invocation.Terminal.Notice, invocation.Cancellation));
        return await StatusAsync(invocation, name);
    }

    private static async Task<ExitCode> DownAsync(Invocation invocation, string name, int drain)
    {
        // A silo that has drained still leaves the cluster and closes its connections.
        TimeSpan patience = TimeSpan.FromSeconds(drain + 10);
        (int ended, int killed) = (0, 0);
        await Told(async () => (ended, killed) = await Of(name).DownAsync(patience, invocation.Terminal.Notice, invocation.Cancellation));
        bool stopped = invocation.Settings.Postgres.Value is null && ended > 0 && await StoreLocator.Private().StopUnusedAsync(invocation.Cancellation);
        if (invocation.Json)
        {
            JsonOutput.Write(invocation.Terminal.Out, new JsonObject { ["ended"] = ended, ["killed"] = killed, ["postgres_stopped"] = stopped });
            return ExitCode.Done;
        }

        invocation.Terminal.Out.WriteLine(ended == 0 ? $"Cluster '{name}' was not up."
            : $"Cluster '{name}' is down: {ended} processes ended"
                + (killed > 0 ? $", {killed} of them killed, for they did not within {patience.TotalSeconds:F0} s" : "")
                + (stopped ? "; the private PostgreSQL is stopped." : "."));
        return ExitCode.Done;
    }

    private static Task<ExitCode> StatusAsync(Invocation invocation, string name)
    {
        IReadOnlyList<ClusterProcess> members = Of(name).Members();
        TextWriter output = invocation.Terminal.Out;
        if (invocation.Json)
        {
            JsonOutput.Write(output, new JsonObject
            {
                ["cluster"] = name,
                ["members"] = new JsonArray([.. members.Select(m => new JsonObject
                {
                    ["name"] = m.Name,
                    ["process"] = m.State?.Process,
                    ["endpoint"] = m.State?.Endpoint,
                    ["health"] = m.State?.Health,
                    ["log"] = m.Log,
                })]),
            });
            return Task.FromResult(ExitCode.Done);
        }

        if (members.Count == 0)
        {
            output.WriteLine($"Cluster '{name}' is not up; 'experiments cluster up' starts it.");
            return Task.FromResult(ExitCode.Done);
        }

        int running = members.Count(m => m.State is not null && m.Name != "redis");
        output.WriteLine($"Cluster '{name}': {(running == 1 ? "1 silo runs" : $"{running} silos run")}.");
        foreach (ClusterProcess member in members)
        {
            output.WriteLine(member.State is MemberState state
                ? $"  {member.Name,-8}{(state.Process is int id ? $"process {id}, on {state.Endpoint ?? "its way"}" : "runs, and has not said as which process")}" + (state.Health is string health ? $", health on {health}" : "")
                : $"  {member.Name,-8}does not run; its log is {member.Log}");
        }

        output.WriteLine(members.Any(m => m.State is null)
            ? "'experiments cluster up' starts what does not run."
            : "'experiments submit SWEEP' hands it work; 'experiments cluster down' ends it.");
        return Task.FromResult(ExitCode.Done);
    }

    // Started by the cluster itself: its folder says on which port, and by which password.
    private static Verb Redis(Terminal terminal)
    {
        Argument<string> folder = new("folder") { Description = "The cluster's folder" };
        return new Verb("redis", "Serve a cluster's membership")
        {
            Hidden = true,
            Arguments = { folder },
        }.Runs(terminal, async invocation =>
        {
            await Told(() => MachineCluster.ServeRedisAsync(invocation.Value(folder)!, invocation.Cancellation));
            return ExitCode.Done;
        });
    }

    // Beside the private server's own folder, which for root too is one that can be used.
    private static MachineCluster Of(string name)
    {
        try
        {
            return new(Path.Combine(Path.GetDirectoryName(PrivateServer.DefaultFolder())!, "clusters"), name);
        }
        catch (ClusterSiloException fault)
        {
            throw CommandException.Invalid(fault.Message);
        }
    }

    private static async Task Told(Func<Task> action)
    {
        try
        {
            await action();
        }
        catch (ClusterSiloException fault)
        {
            throw new CommandException(ExitCode.Invalid, fault.Message, fault);
        }
    }
}
