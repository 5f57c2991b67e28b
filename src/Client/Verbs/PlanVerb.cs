using System.CommandLine;
using System.Text.Json.Nodes;
using Experiments.Client.Terminals;
using Experiments.Grains.Running;
using Experiments.Results.PrivatePostgres;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;

namespace Experiments.Client.Verbs;

/// <summary>Exact counts, predicted time and memory; runs nothing and starts nothing.</summary>
internal static class PlanVerb
{
    // So many keys are made and looked up in a fifth of a second; of a larger sweep the beginning is looked at.
    private const int MostKeys = 20_000;
    private const long MostLookedAt = 200_000;

    // Trials are counted by structure, shards one instance after another: a hundred million take some seconds.
    private const long MostSharded = 100_000_000;

    public static Command Create(Terminal terminal)
    {
        Argument<string> sweep = SweepOptions.FileOrPreset();
        Option<string[]> set = SweepOptions.Set();
        return new Verb("plan", "Count a sweep's trials and predict its time and memory; run nothing")
        {
            Examples =
            [
                ("experiments plan quickstart", "what the quickstart would run"),
                ("experiments plan my-sweep.yaml --json", "the same numbers for a program"),
                ("experiments plan my-sweep.yaml --set instances.repeats=20", "and with one value changed"),
            ],
            Arguments = { sweep },
            Options = { set, GlobalOptions.Plugins, GlobalOptions.Json },
        }.Runs(terminal, invocation => PlanAsync(invocation, SweepSource.Find(invocation.Value(sweep), invocation.Value(set) ?? [])));
    }

    private static async Task<ExitCode> PlanAsync(Invocation invocation, SweepSource source)
    {
        CancellationToken cancellation = invocation.Cancellation;
        Catalog catalog = invocation.Catalog;
        SweepSpec spec = source.Parse(catalog);

        // What a run on this machine would skip, whether the sweep names a limit or not.
        using MemoryBudget memory = MemoryBudget.OfThisMachine();
        long limit = Math.Min(spec.Limits.MemoryBytes ?? memory.Default, memory.Limit);
        SweepExpansion expansion = new(spec, catalog);
        await using ResultStore? store = await StoreLocator.PeekAsync(invocation.Settings.Postgres.Value, cancellation);
        CostModel model = new() { MemoryBytes = limit };
        if (store is not null)
        {
            model = model with { MeasuredRates = await store.MeasuredRatesAsync(cancellation) };
        }
        else if (!string.IsNullOrWhiteSpace(invocation.Settings.Postgres.Value))
        {
            invocation.Terminal.Error.WriteLine("The store that was named does not answer, or no run has made its tables yet: this is planned without what it would tell.");
        }

        SweepForecast forecast = expansion.Forecast(model, cancellation);
        long? shards = forecast.Counts.Instances <= MostSharded ? expansion.Shards(model, cancellation).LongCount() : null;
        SweepCounts counts = forecast.Counts;
        string[] measured = [.. spec.Names.Where(name => model.MeasuredRates.Keys.Any(k => k.Kernel == name)).Order(StringComparer.Ordinal)];
        KnownReferences? known = store is null ? null : await CountKnownAsync(store, spec, expansion, counts.Instances, cancellation);
        Room? room = forecast.TrialsOverMemory > 0 ? await CountRoomAsync(store, spec, forecast, cancellation) : null;
        if (invocation.Json)
        {
            JsonObject json = ToJson(spec, expansion, forecast, shards, limit, known, room, measured);
            json["plugins"] = KernelsVerb.PlugInsJson(invocation.PlugIns);
            json["needs"] = new JsonArray([.. spec.PlugIns.Select(p => NeedJson(p, catalog.Count(p)))]);
            JsonOutput.Write(invocation.Terminal.Out, json);
        }
        else
        {
            Write(invocation.Terminal, spec, forecast, shards, limit, known, room, measured, Used(spec, catalog));
        }

        if (counts.Trials == 0)
        {
            throw CommandException.Invalid($"{source.Name} holds no trial: its 'where' leaves every one out.");
        }

        return ExitCode.Done;
    }

    /// <summary>How many instances have a stored reference already; null where none is asked for.</summary>
    private static async Task<KnownReferences?> CountKnownAsync(
        ResultStore store, SweepSpec spec, SweepExpansion expansion, long instances, CancellationToken cancellation)
    {
        if (instances == 0 || spec.Measure.Reference == ReferenceMode.None)
        {
            return null;
        }

        List<Guid> keys = [];
        for (long i = 0; i < expansion.ProductSize && keys.Count < MostKeys && i < MostLookedAt; i++)
        {
            if (expansion.At(i) is InstancePlan plan)
            {
                keys.Add(spec.Measure.ReferenceKeyOf(plan.Instance));
            }
        }

        return new KnownReferences(await store.CountReferencesAsync(keys, cancellation), keys.Count);
    }

    /// <summary>How many silos have room for the largest trial that the sweep lets run: this one has not, and those count that are alive in a store
    /// that is up and take up every sweep.</summary>
    private static async Task<Room?> CountRoomAsync(
        ResultStore? store, SweepSpec spec, SweepForecast forecast, CancellationToken cancellation)
    {
        double largest = Math.Min(forecast.LargestBytes, spec.Limits.MemoryBytes ?? long.MaxValue);
        using MemoryBudget here = MemoryBudget.OfThisMachine();
        List<double> free = [here.Free];
        if (store is not null)
        {
            free.AddRange(await store.LiveMemoryAsync(Environment.MachineName, Environment.ProcessId, cancellation));
        }

        return new Room(
            largest, free.Count(f => f >= MemoryBudget.FreeFor(largest, named: spec.Limits.MemoryBytes is not null)), free.Count);
    }

    // What of the sweep is not built in, and how many silos have it: this one, and those that are alive in a store that is up.
    private static IReadOnlyList<string> Used(SweepSpec spec, Catalog catalog) =>
    [
        .. spec.PlugIns.SelectMany(plugIn =>
        {
            (int able, int all) = catalog.Count(plugIn);
            return plugIn.Names.Select(name => $"{able} of {all} silos can run {name}, of {plugIn}");
        }),
    ];

    private static JsonObject NeedJson(PlugInIdentity plugIn, (int Able, int All) silos) => new()
    {
        ["name"] = plugIn.Name,
        ["version"] = plugIn.Version,
        ["sha256"] = plugIn.Sha256,
        ["kernels"] = new JsonArray([.. plugIn.Kernels.Select(k => JsonValue.Create(k))]),
        ["families"] = new JsonArray([.. plugIn.Families.Select(f => JsonValue.Create(f))]),
        ["silos_able"] = silos.Able,
        ["silos"] = silos.All,
    };

    private sealed record KnownReferences(long Stored, long Of);

    /// <param name="Bytes">That the largest trial needs which the sweep lets run.</param>
    private sealed record Room(double Bytes, int Able, int All);

    private static JsonObject ToJson(
        SweepSpec spec, SweepExpansion expansion, SweepForecast forecast, long? shards, long limit, KnownReferences? known, Room? room, string[] measured)
    {
        SweepCounts counts = forecast.Counts;
        return new JsonObject
        {
            ["name"] = spec.Name,
            ["question"] = spec.Question,
            ["seed"] = spec.Seed,
            ["hash"] = spec.Hash.ToString("N"),
            ["instances"] = counts.Instances,
            ["trials"] = counts.Trials,
            ["product_size"] = expansion.ProductSize,
            ["filtered_instances"] = counts.FilteredInstances,
            ["filtered_trials"] = counts.FilteredTrials,
            ["duplicates_dropped"] = counts.Duplicates,
            ["kernels"] = new JsonArray([.. counts.KernelBlocks.Select(b => new JsonObject
            {
                ["kernel"] = b.Kernels,
                ["trials"] = b.Trials,
                ["filtered_trials"] = b.FilteredTrials,
                ["duplicates_dropped"] = b.Duplicates,
            })]),
            ["shards"] = shards,
            ["predicted_seconds"] = JsonOutput.Number(forecast.Seconds),
            ["kernels_measured"] = new JsonArray([.. measured.Select(m => JsonValue.Create(m))]),
            ["largest_bytes"] = forecast.LargestBytes,
            ["largest_instance"] = forecast.LargestInstance is null ? null : Describe(forecast.LargestInstance),
            ["largest_trial"] = forecast.LargestTrial?.ToString(),
            ["memory_limit_bytes"] = limit,
            ["trials_over_memory"] = forecast.TrialsOverMemory,
            ["silos_with_room"] = room?.Able,
            ["silos"] = room?.All,
            ["references_stored"] = known?.Stored,
            ["references_looked_for"] = known?.Of,
        };
    }

    private static void Write(Terminal terminal, SweepSpec spec, SweepForecast forecast, long? shards, long limit, KnownReferences? known,
        Room? room, string[] measured, IReadOnlyList<string> plugIns)
    {
        TextWriter output = terminal.Out;
        SweepCounts counts = forecast.Counts;
        output.WriteLine(Format.Shown(spec.Question is null ? spec.Name : $"{spec.Name}: {spec.Question}"));
        output.WriteLine();
        Fact("instances", Format.Count(counts.Instances)
            + (counts.FilteredInstances > 0 ? $" ({Format.Count(counts.FilteredInstances)} filtered out)" : ""));
        Fact("trials", Format.Count(counts.Trials)
            + (counts.FilteredTrials > 0 ? $" ({Format.Count(counts.FilteredTrials)} filtered out)" : "")
            + (counts.Duplicates > 0 ? $" ({Format.Count(counts.Duplicates)} duplicates dropped)" : ""));
        Fact("shards", shards is long counted ? Format.Count(counted) : $"not counted for more than {Format.Count(MostSharded)} instances");
        Fact("time", $"about {Format.Duration(TimeSpan.FromSeconds(Math.Min(forecast.Seconds, 1e9)))} on one lane, by "
            + (measured.Length > 0 ? $"what stored trials of {string.Join(", ", measured)} took" : "its kernels' own predictions; no trial of them is stored yet"));
        if (forecast is { LargestInstance: not null, LargestTrial: not null })
        {
            Fact("memory", $"{Format.Bytes(forecast.LargestBytes)} at most, for {forecast.LargestTrial} on "
                + Describe(forecast.LargestInstance));
        }

        if (spec.Measure is { Reference: ReferenceMode.ExactFloat64, ReferenceRows: int rows })
        {
            Fact("errors", $"estimated from {Format.Count(rows, "row")} of each instance that has more");
        }

        if (forecast.TrialsOverMemory > 0)
        {
            Fact("skipped", $"{Format.Count(forecast.TrialsOverMemory, "trial")} would be skipped here for needing more than "
                + $"{Format.Bytes(limit)}, " + (limit == spec.Limits.MemoryBytes ? "the sweep's own limit" : "what this machine has free now"));
            if (room is not null && limit != spec.Limits.MemoryBytes)
            {
                Fact("room", $"{room.Able} of {room.All} silos can run the largest, of {Format.Bytes((long)room.Bytes)}"
                    + (room.Able > 0 ? "; in that cluster it goes there" : ""));
            }
        }

        if (known is not null)
        {
            Fact("references", $"{Format.Count(known.Stored)} of "
                + (known.Of < counts.Instances ? "the first " : "") + $"{Format.Count(known.Of)} are stored already");
        }

        foreach (string plugIn in plugIns)
        {
            Fact("plug-in", plugIn);
        }

        output.WriteLine();
        TextTable table = new TextTable().Left("kernels").Right("trials", "filtered", "duplicates");
        foreach (KernelBlockCounts block in counts.KernelBlocks)
        {
            table.Row(block.Kernels, Format.Count(block.Trials), Format.Count(block.FilteredTrials), Format.Count(block.Duplicates));
        }

        table.Write(terminal);

        void Fact(string name, string value) => output.WriteLine($"  {name,-10} {value}");
    }

    internal static string Describe(InstanceSpec instance) =>
        $"{instance.Family} n={instance.N} d={instance.D}"
        + (instance.Bound is double bound ? $" bound={Format.Number(bound)}" : "");
}
