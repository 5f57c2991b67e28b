namespace Experiments.Results.Archives;

/// <summary>What is wrong with an archive, as a sentence whose subject, the file, is the caller's to name.</summary>
internal sealed class ArchiveFault(string message, Exception? cause = null) : Exception(message, cause);
