namespace Experiments.Results.Store;

/// <summary>Where the store is, and how each role logs in to it.</summary>
/// <param name="Owner">Npgsql connection string of the role that migrates.</param>
/// <param name="Writer">… of the role that silos use.</param>
/// <param name="Reader">… of the role that queries use; it can write nothing.</param>
/// <param name="PrivateFolder">The folder of the private server, or null for a server the user named.</param>
public sealed record StoreAddress(string Owner, string Writer, string Reader, string? PrivateFolder)
{
    public bool IsPrivate => PrivateFolder is not null;
}
