using System.Buffers.Binary;
using System.Reflection;
using Experiments.Grains.Running;
using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;
using Experiments.Results.Sweeps;

namespace Experiments.Grains;

/// <summary>The catalog that sweep files are checked against, made from the kernels and families of this build.</summary>
public static class BuiltInCatalog
{
    /// <summary>Results' view of everything that can run here.</summary>
    public static Catalog Create() => Create(Workbench.BuiltIn);

    /// <summary>Results' view of the kernels and families of a workbench, a user's own among them.</summary>
    public static Catalog Create(Workbench workbench)
    {
        ArgumentNullException.ThrowIfNull(workbench);
        return new Catalog(
            [.. workbench.Families.Select(f => new FamilyDefinition(
                f.Name, f.Summary, [.. AxesOf(f).Select(Mirror)], f.NeedsBound) { Refuse = f is ICheckedFamily c ? i => Refuse(c, i) : null })],
            [.. workbench.Kernels.Select(k => new KernelDefinition(
                k.Name, k.Summary, [.. AxesOf(k).Select(Mirror)], (instance, trial) => Predict(k, instance, trial))
            {
                PredictsByBound = LooksAtBound(k),
            })])
        {
            PlugIns = workbench.PlugIns,
        };
    }

    /// <summary>What a family needs to draw the instance; the key of its random numbers is the first 8 bytes of
    /// <see cref="InstanceSpec.Key"/>, big-endian.</summary>
    public static InstanceRequest RequestOf(InstanceSpec instance)
    {
        ArgumentNullException.ThrowIfNull(instance);
        Span<byte> key = stackalloc byte[16];
        instance.Key.TryWriteBytes(key, bigEndian: true, out _);
        return new InstanceRequest(
            instance.N, instance.D, instance.Bound, BinaryPrimitives.ReadUInt64BigEndian(key), new Settings(instance.Settings));
    }

    /// <summary>Bytes of one number of a precision as typed in a sweep file.</summary>
    /// <exception cref="ArgumentException">Neither float32 nor float64.</exception>
    public static int BytesPerNumber(string precision) => precision switch
    {
        "float32" => 4,
        "float64" => 8,
        _ => throw new ArgumentException($"precision is '{precision}'; float32 or float64 is needed."),
    };

    /// <summary>What the instance asks of a call.</summary>
    public static CallShape ShapeOf(InstanceSpec instance)
    {
        ArgumentNullException.ThrowIfNull(instance);
        Settings settings = new(instance.Settings);

        // No entry of A1 X or A2 exceeds B, and none of the centred keys 2 B.
        double reach = settings.Word("scale", "d") == "sqrt-d" ? Math.Sqrt(instance.D) : 1;
        double logitBound = instance.Bound is double bound ? 2 * bound * bound * reach : double.PositiveInfinity;
        return new CallShape(
            instance.N, instance.D, checked((int)instance.Parts), InstanceAxes.IsCausal(settings), logitBound);
    }

    private static string? Refuse(ICheckedFamily family, InstanceSpec instance)
    {
        // A sweep of files that lie elsewhere was looked at there, when it was made.
        if (!instance.Files.All(f => FileContents.Holds(f.Path, f.Content)))
        {
            return null;
        }

        try
        {
            family.Check(RequestOf(instance));
            return null;
        }
        catch (Exception refused) when (refused is ArgumentException or InvalidDataException)
        {
            return refused.Message;
        }
        catch (Exception fault) when (fault is not OperationCanceledException)
        {
            // Somebody's own family, whose draws would end so too.
            return $"the family {family.Name} could not check it: {Describe.Exception(fault)}";
        }
    }

    /// <exception cref="ArgumentException">The family has an axis of its own that is every family's, or one of files that cannot be.</exception>
    private static IEnumerable<Axis> AxesOf(IInstanceFamily family)
    {
        if (family.Axes.FirstOrDefault(a => a.IsFile && (a.Kind != Kernels.AxisKind.Choice || a.Default is not null || a.Choices is { Count: > 0 })) is Axis file)
        {
            throw new ArgumentException(
                $"The family {family.Name} has an axis '{file.Name}' of files, which are named in the sweep file. Make it a Choice without Choices and without Default.");
        }

        IReadOnlyList<Axis> common = InstanceAxes.Of(family);
        return family.Axes.FirstOrDefault(a => common.Any(c => c.Name == a.Name)) is Axis twice
            ? throw new ArgumentException(
                $"The family {family.Name} has an axis '{twice.Name}', which is every family's. Give it another name.")
            : family.Axes.Concat(common);
    }

    /// <exception cref="ArgumentException">The kernel has an axis of its own that is every kernel's, or one of files.</exception>
    private static IEnumerable<Axis> AxesOf(IGradientKernel kernel) =>
        kernel.Axes.FirstOrDefault(a => a.IsFile) is Axis file
            ? throw new ArgumentException(
                $"The kernel {kernel.Name} has an axis '{file.Name}' of files, which only families read. Leave IsFile out.")
        : kernel.Axes.FirstOrDefault(a => GradientCall.Axes.Any(c => c.Name == a.Name)) is Axis twice
            ? throw new ArgumentException(
                $"The kernel {kernel.Name} has an axis '{twice.Name}', which is every kernel's. Give it another name.")
            : kernel.Axes.Concat(GradientCall.Axes);

    /// <summary>Whether it has a <see cref="IGradientKernel.PredictWithin"/> of its own: the interface's looks at no bound.</summary>
    private static bool LooksAtBound(IGradientKernel kernel)
    {
        InterfaceMapping map = kernel.GetType().GetInterfaceMap(typeof(IGradientKernel));
        int within = Array.FindIndex(map.InterfaceMethods, m => m.Name == nameof(IGradientKernel.PredictWithin));
        return map.TargetMethods[within].DeclaringType != typeof(IGradientKernel);
    }

    private static Prediction Predict(IGradientKernel kernel, InstanceSpec instance, TrialSpec trial)
    {
        KernelCost cost = GradientCall.Predict(
            kernel, ShapeOf(instance), BytesPerNumber(trial.Precision), trial.Threads, new Settings(trial.Settings));
        return new Prediction(cost.Flops, cost.StateBytes, cost.Rank);
    }

    private static AxisDefinition Mirror(Axis axis) => new(
        axis.Name,
        axis.Kind switch
        {
            Kernels.AxisKind.Integer => Results.Sweeps.AxisKind.Integer,
            Kernels.AxisKind.Real => Results.Sweeps.AxisKind.Real,
            Kernels.AxisKind.Choice => Results.Sweeps.AxisKind.Choice,
            Kernels.AxisKind.Flag => Results.Sweeps.AxisKind.Flag,
            _ => throw new ArgumentException($"Axis {axis.Name} is of the unknown kind {axis.Kind}."),
        },
        axis.Summary,
        axis.Default,
        axis.Minimum,
        axis.Maximum,
        axis.Choices ?? [],
        axis.AppliesTo,
        axis.Required,
        axis.Word) { NoMoreThan = axis.NoMoreThan, IsFile = axis.IsFile };
}
