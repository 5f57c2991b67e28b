namespace Experiments.Results.Store;

/// <summary>The store could not be reached, started or used: exit code 4. The message is for a person and holds no password.</summary>
public sealed class StoreUnavailableException(string message, Exception? inner = null) : Exception(message, inner)
{
    /// <summary>Whether the same may succeed later without anybody's asking otherwise: the server is away, or has no room left.</summary>
    public bool MayPass { get; init; }
}
