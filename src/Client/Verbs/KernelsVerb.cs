using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using Experiments.Client.Terminals;
using Experiments.Grains;
using Experiments.Results.Sweeps;

namespace Experiments.Client.Verbs;

/// <summary>What can be swept here: kernels, families, and every axis with its default and range.</summary>
internal static class KernelsVerb
{
    public static Command Create(Terminal terminal) =>
        new Verb("kernels", "List the kernels and instance families of this build, with their axes")
        {
            Examples =
            [
                ("experiments kernels", "every kernel, family and axis"),
                ("experiments kernels --json", "the same for a program"),
            ],
            Options = { GlobalOptions.Json },
        }.Runs(terminal, invocation =>
        {
            Catalog catalog = BuiltInCatalog.Create();
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
            foreach ((string owner, AxisDefinition axis) in catalog.Kernels.SelectMany(k => k.Axes.Select(a => (k.Name, a)))
                .Concat(catalog.Families.SelectMany(f => f.Axes.Select(a => (f.Name, a)))))
            {
                axes.Row(owner, axis.Name, Values(axis), axis.Required ? "(required)" : Format.Value(axis.Default), axis.Summary
                    + (axis.AppliesTo is { } only ? $" Only with {only.Axis}: {string.Join(", ", only.Words)}." : ""));
            }

            axes.Write(terminal, "Axes of their own");
            terminal.Out.WriteLine();
            terminal.Out.WriteLine("Every kernel also has precision (float32, float64) and threads; every family n, d, bound and repeats.");
            return Task.FromResult(ExitCode.Done);
        });

    private static JsonArray AxesJson(IReadOnlyList<AxisDefinition> axes) => new([.. axes.Select(a => new JsonObject
    {
        ["name"] = a.Name,
        ["kind"] = a.Kind.ToString().ToLowerInvariant(),
        ["summary"] = a.Summary,
        ["default"] = JsonOutput.Value(a.Default),
        ["minimum"] = JsonOutput.Number(a.Minimum),
        ["maximum"] = JsonOutput.Number(a.Maximum),
        ["choices"] = new JsonArray([.. a.Choices.Select(c => JsonValue.Create(c))]),
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
        return (double.IsFinite(axis.Minimum), double.IsFinite(axis.Maximum)) switch
        {
            (true, true) => string.Create(CultureInfo.InvariantCulture, $"{kind}, {axis.Minimum} to {axis.Maximum}"),
            (true, false) => string.Create(CultureInfo.InvariantCulture, $"{kind}, at least {axis.Minimum}"),
            (false, true) => string.Create(CultureInfo.InvariantCulture, $"{kind}, at most {axis.Maximum}"),
            _ => kind,
        };
    }
}
