using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using Experiments.Client.Terminals;
using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Contract;
using Experiments.Kernels.Instances;
using Experiments.Results.Sweeps;
using Experiments.Silo;
using AxisKind = Experiments.Results.Sweeps.AxisKind;

namespace Experiments.Client.Verbs;

/// <summary>What can be swept here: kernels, families, and every axis with its default and range.</summary>
internal static class KernelsVerb
{
    public static Command Create(Terminal terminal)
    {
        Verb verb = List(terminal);
        verb.Subcommands.Add(Check(terminal));
        return verb;
    }

    private static Verb List(Terminal terminal) =>
        new Verb("kernels", "List the kernels and instance families that can run here, with their axes")
        {
            Examples =
            [
                ("experiments kernels", "every kernel, family and axis"),
                ("experiments kernels --plugins my-kernels/bin/Release/net10.0", "with those of your own"),
                ("experiments kernels --json", "the same for a program"),
            ],
            Options = { GlobalOptions.Plugins, GlobalOptions.Json },
        }.Runs(terminal, invocation =>
        {
            Catalog catalog = invocation.Catalog;
            if (invocation.Json)
            {
                JsonOutput.Write(terminal.Out, new JsonObject
                {
                    ["kernels"] = new JsonArray([.. catalog.Kernels.Select(k => new JsonObject
                    {
                        ["name"] = k.Name, ["summary"] = k.Summary, ["axes"] = AxesJson(k.Axes),
                    })]),
                    ["families"] = new JsonArray([.. catalog.Families.Select(f => new JsonObject
                    {
                        ["name"] = f.Name, ["summary"] = f.Summary, ["needs_bound"] = f.NeedsBound, ["axes"] = AxesJson(f.Axes),
                    })]),
                    ["plugins"] = PlugInsJson(invocation.PlugIns),
                });
                return Task.FromResult(ExitCode.Done);
            }

            TextTable names = new TextTable().Left("kernel", "what it is");
            foreach (KernelDefinition kernel in catalog.Kernels)
            {
                names.Row(kernel.Name, kernel.Summary);
            }

            names.Write(terminal, "Kernels");
            terminal.Out.WriteLine();
            names = new TextTable().Left("family", "what it draws");
            foreach (FamilyDefinition family in catalog.Families)
            {
                names.Row(family.Name, family.Summary);
            }

            names.Write(terminal, "Instance families");
            terminal.Out.WriteLine();
            TextTable axes = new TextTable().Left("of", "axis", "values", "default", "what it is");
            foreach ((string owner, AxisDefinition axis) in ByOwner(catalog.Kernels.Select(k => (k.Name, k.Axes)), "every kernel")
                .Concat(ByOwner(catalog.Families.Select(f => (f.Name, f.Axes)), "every family")))
            {
                axes.Row(owner, axis.Name, Values(axis), axis.Required ? "(required)" : Format.Value(axis.Default), axis.Summary
                    + (axis.AppliesTo is { } only ? $" Only with {only.Axis}: {string.Join(", ", only.Words)}." : ""));
            }

            axes.Write(terminal, "Axes");
            terminal.Out.WriteLine();
            foreach (PlugIn plugIn in invocation.PlugIns)
            {
                terminal.Out.WriteLine($"{string.Join(", ", plugIn.Kernels.Select(k => k.Name).Concat(plugIn.Families.Select(f => f.Name)))}: "
                    + $"of {plugIn.Name} {plugIn.Version}, sha256 {plugIn.Sha256[..16]}…");
            }

            terminal.Out.WriteLine("Every kernel also has precision (float32, float64) and threads; every family n, d, bound and repeats.");
            return Task.FromResult(ExitCode.Done);
        });

    internal static JsonArray PlugInsJson(IReadOnlyList<PlugIn> plugIns) => new([.. plugIns.Select(p => new JsonObject
    {
        ["name"] = p.Name,
        ["version"] = p.Version,
        ["sha256"] = p.Sha256,
        ["file"] = p.File,
        ["kernels"] = new JsonArray([.. p.Kernels.Select(k => JsonValue.Create(k.Name))]),
        ["families"] = new JsonArray([.. p.Families.Select(f => JsonValue.Create(f.Name))]),
    })]);

    private static Verb Check(Terminal terminal)
    {
        Argument<string> file = new("file") { HelpName = "X.dll", Description = "An assembly with kernels or instance families of your own" };
        Option<string> only = new("--kernel") { HelpName = "NAME", Description = "Only this kernel or family of it" };
        Option<string[]> set = new("--set")
        {
            HelpName = "AXIS=VALUE", Description = "An axis to try it with, such as degree=4; may be repeated",
            DefaultValueFactory = _ => [],
        };
        return new Verb("check", "Hold the kernels and families of an assembly to the contract of the built-in ones")
        {
            Examples =
            [
                ("experiments kernels check my-kernels/bin/Release/net10.0/my-kernels.dll", "every kernel and family in it"),
                ("experiments kernels check my-kernels.dll --kernel window --set half_width=8", "one, with an axis of its own set"),
            ],
            Arguments = { file },
            Options = { only, set, GlobalOptions.Json },
        }.Runs(terminal, invocation =>
        {
            string path = invocation.Value(file);
            if (!File.Exists(path))
            {
                throw CommandException.Invalid($"There is no file '{path}'. Build your kernel first; the assembly lies in bin/Release/net10.0.");
            }

            PlugIn plugIn;
            try
            {
                plugIn = PlugIns.LoadFile(path);
            }
            catch (PlugInException fault)
            {
                throw CommandException.Invalid(fault.Message, fault);
            }

            Dictionary<string, string?> typed = [];
            KernelSettings.Add(typed, invocation.Value(set) ?? []);
            List<(string Name, string Tried, IEnumerable<ContractResult> Results)> all = [];
            foreach (IGradientKernel kernel in plugIn.Kernels.Where(k => invocation.Value(only) is not string name || name == k.Name))
            {
                Settings settings = KernelContract.Usual(kernel.Axes, KernelSettings.Values(kernel.Axes, typed));
                all.Add(("kernel " + kernel.Name, Tried(settings),
                    KernelContract.Check(kernel, settings, cancellation: invocation.Cancellation)
                        .Prepend(Free(kernel.Name, BuiltIn.Kernels.Select(k => k.Name)))));
            }

            foreach (IInstanceFamily family in plugIn.Families.Where(f => invocation.Value(only) is not string name || name == f.Name))
            {
                Settings settings = KernelContract.Usual(family.Axes, KernelSettings.Values(family.Axes, typed));
                all.Add(("family " + family.Name, Tried(settings),
                    FamilyContract.Check(family, settings).Prepend(Free(family.Name, BuiltIn.Families.Select(f => f.Name)))));
            }

            if (all.Count == 0)
            {
                throw CommandException.Invalid(invocation.Value(only) is string wanted
                    ? $"{Path.GetFileName(path)} has no kernel and no family '{wanted}'; it has "
                        + $"{string.Join(", ", plugIn.Kernels.Select(k => k.Name).Concat(plugIn.Families.Select(f => f.Name)))}."
                    : $"{Path.GetFileName(path)} has no kernel and no family: no public class in it implements IGradientKernel or IInstanceFamily.");
            }

            return Task.FromResult(Report(invocation, plugIn, all));
        });

        static string Tried(Settings settings) => settings.Values.Count == 0 ? "" : " with " + string.Join(
            ", ", settings.Values.OrderBy(v => v.Key, StringComparer.Ordinal).Select(v => $"{v.Key} = {Format.Value(v.Value)}"));
    }

    // The built-in ones pass every other rule under these very names, so it is no rule of the contract's own.
    internal static ContractResult Free(string name, IEnumerable<string> taken) => taken.Contains(name)
        ? new("its name is nobody else's", Holds: false, $"one that is built in is called '{name}', and --plugins will refuse this one; rename it")
        : new("its name is nobody else's", Holds: true, name);

    private static ExitCode Report(
        Invocation invocation, PlugIn plugIn, List<(string Name, string Tried, IEnumerable<ContractResult> Results)> all)
    {
        TextWriter output = invocation.Terminal.Out;
        JsonArray json = [];
        int broken = 0;
        foreach ((string name, string tried, IEnumerable<ContractResult> results) in all)
        {
            if (!invocation.Json)
            {
                output.WriteLine($"{name}{tried}, of {plugIn.Name} {plugIn.Version}");
            }

            // Printed as they come: an exact kernel's rules take seconds.
            foreach (ContractResult result in results)
            {
                broken += result.Holds ? 0 : 1;
                if (invocation.Json)
                {
                    json.Add(new JsonObject
                    {
                        ["of"] = name, ["rule"] = result.Rule, ["holds"] = result.Holds, ["detail"] = result.Detail,
                    });
                    continue;
                }

                output.WriteLine($"  {(result.Holds ? "ok    " : "BROKEN")}  {result.Rule}: {result.Detail}");
                output.Flush();
            }
        }

        if (invocation.Json)
        {
            JsonOutput.Write(output, json);
        }
        else
        {
            output.WriteLine(broken == 0 ? "The contract is kept." : $"{Format.Count(broken, "rule")} {(broken == 1 ? "is" : "are")} broken.");
        }

        return broken == 0 ? ExitCode.Done : ExitCode.SomeFailed;
    }

    /// <summary>Each axis once, with those that have it.</summary>
    private static IEnumerable<(string Owner, AxisDefinition Axis)> ByOwner(
        IEnumerable<(string Name, IReadOnlyList<AxisDefinition> Axes)> owners, string all)
    {
        (string Name, IReadOnlyList<AxisDefinition> Axes)[] every = [.. owners];
        foreach (IGrouping<AxisDefinition, (string Name, AxisDefinition Axis)> axis in every
            .SelectMany(o => o.Axes.Select(a => (o.Name, Axis: a))).GroupBy(a => a.Axis)
            .OrderBy(g => g.Count() > 1).ToArray())
        {
            string[] without = [.. every.Select(o => o.Name).Except(axis.Select(a => a.Name))];
            yield return (
                every.Length > 1 && without.Length == 0 ? all
                : every.Length > 3 && without.Length == 1 ? $"{all} but {without[0]}"
                : string.Join(", ", axis.Select(a => a.Name)), axis.Key);
        }
    }

    private static JsonArray AxesJson(IReadOnlyList<AxisDefinition> axes) => new([.. axes.Select(a => new JsonObject
    {
        ["name"] = a.Name,
        ["kind"] = a.Kind.ToString().ToLowerInvariant(),
        ["summary"] = a.Summary,
        ["default"] = JsonOutput.Value(a.Default),
        ["minimum"] = JsonOutput.Number(a.Minimum),
        ["maximum"] = JsonOutput.Number(a.Maximum),
        ["choices"] = new JsonArray([.. a.Choices.Select(c => JsonValue.Create(c))]),
        ["word"] = a.Word,
        ["required"] = a.Required,
        ["applies_to"] = a.AppliesTo is { } only
            ? new JsonObject { ["axis"] = only.Axis, ["words"] = new JsonArray([.. only.Words.Select(w => JsonValue.Create(w))]) }
            : null,
    })]);

    private static string Values(AxisDefinition axis)
    {
        if (axis.Kind == AxisKind.Choice)
        {
            return string.Join(", ", axis.Choices);
        }

        if (axis.Kind == AxisKind.Flag)
        {
            return "true, false";
        }

        string kind = axis.Kind == AxisKind.Integer ? "whole" : "real";
        string range = (double.IsFinite(axis.Minimum), double.IsFinite(axis.Maximum)) switch
        {
            (true, true) => string.Create(CultureInfo.InvariantCulture, $"{kind}, {axis.Minimum} to {axis.Maximum}"),
            (true, false) => string.Create(CultureInfo.InvariantCulture, $"{kind}, at least {axis.Minimum}"),
            (false, true) => string.Create(CultureInfo.InvariantCulture, $"{kind}, at most {axis.Maximum}"),
            _ => kind,
        };
        return axis.Word is null ? range : $"{range}, or {axis.Word}";
    }
}
