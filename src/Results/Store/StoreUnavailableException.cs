namespace Experiments.Results.Store;

/// <summary>The store could not be reached, started or used: exit code 4. The message is for a person and holds no password.</summary>
public sealed class StoreUnavailableException(string message, Exception? inner = null) : Exception(message, inner);
