namespace Experiments.Results.Sweeps;

/// <summary>One assembly of kernels or instance families that is not built in: what a silo offers, or what a sweep needs of it.</summary>
/// <param name="Name">The assembly's name.</param>
/// <param name="Version">The assembly's informational version.</param>
/// <param name="Sha256">Of its file, in lower-case hexadecimal.</param>
/// <param name="Kernels">Those it brings, or those of them that are needed.</param>
public sealed record PlugInIdentity(
    string Name, string Version, string Sha256, IReadOnlyList<string> Kernels, IReadOnlyList<string> Families)
{
    public IEnumerable<string> Names => Kernels.Concat(Families);

    /// <summary>Whether it is the very file that is needed, and brings what is needed of it.</summary>
    public bool Offers(PlugInIdentity needed)
    {
        ArgumentNullException.ThrowIfNull(needed);
        return (Name, Version, Sha256) == (needed.Name, needed.Version, needed.Sha256)
            && !needed.Kernels.Except(Kernels).Any() && !needed.Families.Except(Families).Any();
    }

    /// <summary>As people are shown it.</summary>
    public override string ToString() => $"{Name} {Version}, sha256 {Sha256[..Math.Min(16, Sha256.Length)]}…";
}
