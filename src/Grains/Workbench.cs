using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;
using Experiments.Results.Sweeps;

namespace Experiments.Grains;

/// <summary>The kernels and families that a process can run, by the names that sweep files use.</summary>
public sealed class Workbench
{
    private readonly Dictionary<string, IGradientKernel> _kernels;
    private readonly Dictionary<string, IInstanceFamily> _families;

    /// <exception cref="ArgumentException">Two kernels or two families share a name.</exception>
    public Workbench(IReadOnlyList<IGradientKernel> kernels, IReadOnlyList<IInstanceFamily> families)
    {
        Kernels = kernels;
        Families = families;
        _kernels = kernels.ToDictionary(k => k.Name, StringComparer.Ordinal);
        _families = families.ToDictionary(f => f.Name, StringComparer.Ordinal);
    }

    /// <summary>What this build brings.</summary>
    public static Workbench BuiltIn { get; } = new(Experiments.Kernels.BuiltIn.Kernels, Experiments.Kernels.BuiltIn.Families);

    /// <summary>The assemblies that those come from which are not built in.</summary>
    public IReadOnlyList<PlugInIdentity> PlugIns { get; init; } = [];

    public IReadOnlyList<IGradientKernel> Kernels { get; }

    public IReadOnlyList<IInstanceFamily> Families { get; }

    /// <exception cref="ArgumentException">No kernel has that name; the message lists those that exist.</exception>
    public IGradientKernel Kernel(string name) => _kernels.TryGetValue(name, out IGradientKernel? kernel)
        ? kernel
        : throw new ArgumentException(
            $"kernel is '{name}', which this build does not have. It has: {string.Join(", ", _kernels.Keys)}.");

    /// <exception cref="ArgumentException">No family has that name; the message lists those that exist.</exception>
    public IInstanceFamily Family(string name) => _families.TryGetValue(name, out IInstanceFamily? family)
        ? family
        : throw new ArgumentException(
            $"family is '{name}', which this build does not have. It has: {string.Join(", ", _families.Keys)}.");
}
