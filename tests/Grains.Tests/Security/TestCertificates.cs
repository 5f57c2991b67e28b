using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Experiments.Silo.Security;

namespace Experiments.Grains.Tests.Security;

/// <summary>A cluster's authority and the files of its nodes, in a folder that goes with the test.</summary>
internal sealed class TestCertificates : IDisposable
{
    public static readonly string[] BothPurposes = [PeerRules.ServerPurpose, PeerRules.ClientPurpose];

    private readonly List<ClusterAuthority> _authorities = [];
    private int _nodes;

    /// <param name="clock">The nodes' and the certificates' clock.</param>
    public TestCertificates(TimeProvider clock)
    {
        Clock = clock;
        Own = NewAuthority();
    }

    public TimeProvider Clock { get; }

    public DateTimeOffset Now => Clock.GetUtcNow();

    public string Folder { get; } = Directory.CreateTempSubdirectory("experiments-tls-").FullName;

    public ClusterAuthority Own { get; }

    public ClusterAuthority NewAuthority()
    {
        ClusterAuthority authority = ClusterAuthority.Create(Now.AddYears(-1), Now.AddYears(1));
        _authorities.Add(authority);
        return authority;
    }

    /// <summary>A certificate valid from a day ago until a day from now, unless said otherwise.</summary>
    public IssuedCertificate Issue(
        ClusterAuthority? by = null, string name = "silo-1", TimeSpan? from = null, TimeSpan? until = null, string[]? purposes = null) =>
        (by ?? Own).Issue([name], Now + (from ?? TimeSpan.FromDays(-1)), Now + (until ?? TimeSpan.FromDays(1)), purposes ?? BothPurposes);

    /// <summary>The options of a node that has that certificate and trusts that authority.</summary>
    public ClusterTlsOptions Node(IssuedCertificate? certificate = null, ClusterAuthority? trusts = null)
    {
        string stem = Path.Combine(Folder, $"node-{Interlocked.Increment(ref _nodes)}");
        ClusterTlsOptions options = new($"{stem}.crt", $"{stem}.key", $"{stem}-ca.crt") { Time = Clock };
        Write(options, certificate ?? Issue());
        File.WriteAllText(options.Authority, (trusts ?? Own).CertificatePem);
        return options;
    }

    public static void Write(ClusterTlsOptions node, IssuedCertificate certificate)
    {
        File.WriteAllText(node.Key, certificate.KeyPem);
        File.WriteAllText(node.Certificate, certificate.CertificatePem);
    }

    /// <summary>As a program that is none of ours would hold it.</summary>
    public static X509Certificate2 WithKey(IssuedCertificate issued) => X509Certificate2.CreateFromPem(issued.CertificatePem, issued.KeyPem);

    public static string Encrypted(IssuedCertificate issued)
    {
        using ECDsa key = ECDsa.Create();
        key.ImportFromPem(issued.KeyPem);
        return key.ExportEncryptedPkcs8PrivateKeyPem("open sesame", new PbeParameters(PbeEncryptionAlgorithm.Aes256Cbc, HashAlgorithmName.SHA256, 1000));
    }

    public void Dispose()
    {
        _authorities.ForEach(a => a.Dispose());
        Directory.Delete(Folder, recursive: true);
    }
}
