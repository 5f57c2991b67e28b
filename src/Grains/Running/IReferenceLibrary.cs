using Experiments.Results.Outcomes;

namespace Experiments.Grains.Running;

/// <summary>Where references of earlier sweeps are found. Called on a lane's thread, which may wait.</summary>
public interface IReferenceLibrary
{
    ReferenceRecord? Find(Guid instanceKey, CancellationToken cancellation);
}
