using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;
using Experiments.Kernels.Rivals;

namespace Experiments.Kernels;

/// <summary>The kernels and instance families that come with the program, in the order a listing shows them.</summary>
public static class BuiltIn
{
    public static IReadOnlyList<IGradientKernel> Kernels { get; } =
    [
        new ReferenceGradient(), new ExactGradient(), new LowRankGradient(),
        new DensePolynomialGradient(), new PerformerGradient(), new RandomFourierGradient(), new NystromGradient(),
    ];

    public static IReadOnlyList<IInstanceFamily> Families { get; } =
        [new UniformFamily(), new GaussianFamily(), new CornerFamily(), new PlantedFamily(), new SatFamily(), new FilesFamily()];

    /// <exception cref="ArgumentException">No kernel has this name; the message lists those there are.</exception>
    public static IGradientKernel Kernel(string name)
    {
        foreach (IGradientKernel kernel in Kernels)
        {
            if (kernel.Name == name)
            {
                return kernel;
            }
        }

        throw new ArgumentException(
            $"There is no kernel '{name}'. There are {string.Join(", ", Kernels.Select(k => k.Name))}.", nameof(name));
    }

    /// <exception cref="ArgumentException">No family has this name; the message lists those there are.</exception>
    public static IInstanceFamily Family(string name)
    {
        foreach (IInstanceFamily family in Families)
        {
            if (family.Name == name)
            {
                return family;
            }
        }

        throw new ArgumentException(
            $"There is no instance family '{name}'. There are {string.Join(", ", Families.Select(f => f.Name))}.",
            nameof(name));
    }
}
