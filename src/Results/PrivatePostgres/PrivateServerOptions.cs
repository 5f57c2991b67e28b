namespace Experiments.Results.PrivatePostgres;

/// <param name="Folder">Holds the data, the log and the locks.</param>
/// <param name="KeeperCommand">The command line that runs <see cref="PostgresKeeper.RunAsync"/>; the folder is added as its
/// last word. Null starts no keeper: whoever asked for the server stops it.</param>
/// <param name="Settings">Server settings beside ours, or instead of them; plain words only, as a shell reads them.</param>
public sealed record PrivateServerOptions(
    string Folder, IReadOnlyList<string>? KeeperCommand, IReadOnlyDictionary<string, string>? Settings = null);

/// <param name="Running">Whether a server runs on the folder now.</param>
/// <param name="ProcessId">Of the server, when it runs.</param>
/// <param name="Folder">Where the data, the log and the locks lie.</param>
/// <param name="PsqlLine">What to type for a prompt.</param>
/// <param name="SizeBytes">Of the database, when the server runs.</param>
/// <param name="Version">Of the server, when it runs.</param>
public sealed record PrivateServerStatus(
    bool Running, int? ProcessId, string Folder, string PsqlLine, long? SizeBytes, string? Version);
