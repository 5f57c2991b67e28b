namespace Experiments.Silo.Security;

/// <summary>Mutual TLS between the silos of a cluster: which certificate a node shows, and whose word it takes for the others'.</summary>
/// <param name="Certificate">PEM file: the node's certificate, then those between it and its authority, if any.</param>
/// <param name="Key">PEM file: the certificate's private key, ECDSA or RSA, not encrypted.</param>
/// <param name="Authority">PEM file: the certificates of one or more authorities. Nothing else is trusted, not the system's
/// authorities either.</param>
public sealed record ClusterTlsOptions(string Certificate, string Key, string Authority)
{
    /// <summary>A DNS name or address that every peer's certificate must carry; null takes any that the authorities signed,
    /// which is enough where they sign for this cluster alone.</summary>
    public string? RequiredName { get; init; }

    /// <summary>How often the files are looked at for a change.</summary>
    public TimeSpan LookEvery { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How long a peer may take for its handshake before the connection is aborted.</summary>
    public TimeSpan HandshakeWithin { get; init; } = TimeSpan.FromSeconds(10);

    public TimeProvider Time { get; init; } = TimeProvider.System;
}

/// <summary>A certificate, key or authority that cannot be used. The message is one line for whoever starts the silo: which
/// file, what is wrong with it, what to do.</summary>
public sealed class ClusterTlsException(string message, Exception? inner = null) : Exception(message, inner);
