namespace Experiments.Results.Sweeps.Reading;

/// <summary>Gathers the faults of a file, each place and sentence once.</summary>
internal sealed class FaultList
{
    private readonly HashSet<SweepFault> _faults = [];

    public bool Any => _faults.Count > 0;

    public int Count => _faults.Count;

    public void Add(Place place, string message) => _faults.Add(new SweepFault(place.Line, place.Column, message));

    public void ThrowIfAny(string file)
    {
        if (Any)
        {
            throw new SweepFileException(file, [.. _faults.OrderBy(f => f.Line).ThenBy(f => f.Column)]);
        }
    }
}
