using System.Collections.Immutable;
using Experiments.Results.Store;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <summary>Where the files of an instance lie on this machine. Called on a lane's thread, which may wait.</summary>
public interface IFileLibrary
{
    /// <summary>Finds those that are not where the sweep says, and holds them there until the answer is disposed of. One that is nowhere is left out:
    /// whoever reads the instance says so.</summary>
    /// <exception cref="InvalidDataException">One is there, and cannot be had; the message is a sentence for a person.</exception>
    LocatedFiles Locate(InstanceSpec instance, CancellationToken cancellation);
}

/// <summary>The store's side of files that sweeps carry.</summary>
public interface IFileSource
{
    Task<StoredFile?> FindAsync(Guid content, CancellationToken cancellation);

    Task<byte[]?> FindPieceAsync(Guid content, int number, CancellationToken cancellation);
}

/// <summary>Files that lie elsewhere than the instance says.</summary>
public sealed class LocatedFiles : IDisposable
{
    /// <summary>Nothing lies elsewhere.</summary>
    public static readonly LocatedFiles InPlace = new([], []);

    private readonly IReadOnlyList<(InstanceFile File, string At)> _files;
    private readonly IReadOnlyList<IDisposable> _held;

    /// <param name="held">What keeps them where they are.</param>
    public LocatedFiles(IReadOnlyList<(InstanceFile File, string At)> files, IReadOnlyList<IDisposable> held)
    {
        _files = files;
        _held = held;
        Paths = files.ToImmutableDictionary(f => f.File.Content, f => f.At, StringComparer.Ordinal);
    }

    /// <summary>By content.</summary>
    public IReadOnlyDictionary<string, string> Paths { get; }

    /// <summary>A message with the files called as the sweep's author does.</summary>
    public string Named(string message) =>
        _files.Aggregate(message, (text, f) => text.Replace(f.At, f.File.Path, StringComparison.Ordinal));

    public void Dispose()
    {
        foreach (IDisposable one in _held)
        {
            one.Dispose();
        }
    }
}
