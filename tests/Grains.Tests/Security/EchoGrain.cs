using Orleans.Placement;

namespace Experiments.Grains.Tests.Security;

/// <summary>Says where it runs, and gives back what it was given.</summary>
public interface IEchoGrain : IGrainWithIntegerKey
{
    Task<(string Silo, byte[] Payload)> EchoAsync(byte[] payload);
}

[RandomPlacement]
public sealed class EchoGrain(ILocalSiloDetails silo) : Grain, IEchoGrain
{
    public Task<(string Silo, byte[] Payload)> EchoAsync(byte[] payload) => Task.FromResult((silo.SiloAddress.ToString(), payload));
}
