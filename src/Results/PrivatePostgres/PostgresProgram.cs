namespace Experiments.Results.PrivatePostgres;

/// <summary>A PostgreSQL server that is installed here, for a person who wonders which one is taken.</summary>
/// <param name="Folder">Where postgres, initdb and pg_ctl lie.</param>
/// <param name="Version">15.18, …</param>
/// <param name="IsUsable">New enough for the private server.</param>
public sealed record PostgresProgram(string Folder, string Version, bool IsUsable);
