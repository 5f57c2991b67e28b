using System.Net.Security;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace Experiments.Silo.Security;

/// <summary>The three files as they were at one moment, not yet understood.</summary>
/// <remarks>No record: one would print the key.</remarks>
internal sealed class ClusterTlsFiles
{
    private readonly byte[] _hash;

    private ClusterTlsFiles(string certificate, string key, string authority)
    {
        Certificate = certificate;
        Key = key;
        Authority = authority;
        _hash = SHA256.HashData(Encoding.ASCII.GetBytes($"{certificate}\0{key}\0{authority}"));
    }

    public string Certificate { get; }

    public string Key { get; }

    public string Authority { get; }

    /// <exception cref="ClusterTlsException">One is missing, or may not be read.</exception>
    public static ClusterTlsFiles Read(ClusterTlsOptions options) => new(
        PemFiles.Read("certificate", options.Certificate),
        PemFiles.Read("key", options.Key),
        PemFiles.Read("authority", options.Authority));

    public bool Differs(ReadOnlySpan<byte> hash) => !hash.SequenceEqual(_hash);

    public ReadOnlySpan<byte> Hash => _hash;
}

/// <summary>A node's certificate with its key, and the authorities it trusts: all that a handshake needs, from one moment.</summary>
internal sealed class ClusterCertificate
{
    private readonly byte[] _hash;

    private ClusterCertificate(X509Certificate2 own, X509Certificate2Collection between, X509Certificate2Collection authorities, byte[] hash)
    {
        Own = own;
        Authorities = authorities;
        _hash = hash;
        // Offline: what is missing between it and the authority is asked of nobody.
        Context = SslStreamCertificateContext.Create(own, between, offline: true);
    }

    public X509Certificate2 Own { get; }

    public X509Certificate2Collection Authorities { get; }

    public SslStreamCertificateContext Context { get; }

    /// <summary>Whether it is what those files hold.</summary>
    public bool IsOf(ClusterTlsFiles files) => !files.Differs(_hash);

    /// <exception cref="ClusterTlsException">The files cannot be used; the message is one line.</exception>
    public static ClusterCertificate Load(ClusterTlsOptions options) => Load(options, ClusterTlsFiles.Read(options));

    /// <exception cref="ClusterTlsException">The files cannot be used; the message is one line.</exception>
    public static ClusterCertificate Load(ClusterTlsOptions options, ClusterTlsFiles files)
    {
        X509Certificate2Collection shown = PemFiles.Certificates("certificate", options.Certificate, files.Certificate);
        X509Certificate2Collection authorities = PemFiles.Certificates("authority", options.Authority, files.Authority);
        if (authorities.FirstOrDefault(a => !IsAuthority(a)) is X509Certificate2 other)
        {
            throw new ClusterTlsException($"The TLS authority file '{options.Authority}' holds {PeerRules.Describe(other)}, "
                + "which is no authority's (basic constraints). The authority's own certificate is needed there, such as ca.crt.");
        }

        X509Certificate2Collection between = [.. shown.Skip(1)];
        RefuseWhatPeersWould(options, shown[0], between, authorities);
        X509Certificate2 own = PemFiles.WithKey(shown[0], options.Certificate, options.Key, files.Key);
        return new ClusterCertificate(own, between, authorities, files.Hash.ToArray());
    }

    private static void RefuseWhatPeersWould(
        ClusterTlsOptions options, X509Certificate2 own, X509Certificate2Collection between, X509Certificate2Collection authorities)
    {
        DateTimeOffset now = options.Time.GetUtcNow();
        foreach (string purpose in (string[])[PeerRules.ServerPurpose, PeerRules.ClientPurpose])
        {
            using X509Chain chain = new() { ChainPolicy = PeerRules.Policy(authorities, purpose, now) };
            chain.ChainPolicy.ExtraStore.AddRange(between);
            chain.Build(own);
            if (PeerRules.Refusal(own, chain, purpose, options.RequiredName, now) is string why)
            {
                throw new ClusterTlsException(
                    $"The TLS certificate in '{options.Certificate}', {PeerRules.Describe(own)}, {why}; every other silo would refuse it. "
                    + $"'experiments certificates DIR' makes one; its authority belongs in '{options.Authority}'.");
            }
        }
    }

    private static bool IsAuthority(X509Certificate2 certificate) =>
        certificate.Extensions.OfType<X509BasicConstraintsExtension>().Any(b => b.CertificateAuthority);
}
