using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Experiments.Results.Store;

namespace Experiments.Silo.Security;

/// <summary>What an authority signed, as it goes to files.</summary>
/// <param name="KeyPem">PKCS #8, not encrypted.</param>
public sealed record IssuedCertificate(string CertificatePem, string KeyPem, string Serial, DateTimeOffset From, DateTimeOffset Until)
{
    /// <summary>Without the key: records print themselves.</summary>
    public override string ToString() => $"serial {Serial}, from {From:u} until {Until:u}";
}

/// <summary>A cluster's own certificate authority: what it signs is a member. Keys that are made here are ECDSA on P-256.</summary>
public sealed class ClusterAuthority : IDisposable
{
    // More than chance ever repeats.
    private const int SerialBytes = 16;

    // The longest common name that X.520 allows.
    private const int LongestCommonName = 64;

    private readonly X509Certificate2 _certificate;

    private ClusterAuthority(X509Certificate2 certificate) => _certificate = certificate;

    public string CertificatePem => _certificate.ExportCertificatePem();

    public string Subject => _certificate.Subject;

    public DateTimeOffset From => _certificate.NotBefore;

    public DateTimeOffset Until => _certificate.NotAfter;

    /// <summary>A new authority with a key of its own, for this cluster alone.</summary>
    public static ClusterAuthority Create(DateTimeOffset from, DateTimeOffset until)
    {
        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        string name = $"Experiments cluster authority {Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(4))}";
        CertificateRequest request = new(Common(name), key, HashAlgorithmName.SHA256);
        // It signs nodes and no other authorities.
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, true, 0, critical: true));
        request.CertificateExtensions.Add(
            new X509KeyUsageExtension(X509KeyUsageFlags.KeyCertSign | X509KeyUsageFlags.CrlSign, critical: true));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, critical: false));
        return new ClusterAuthority(request.CreateSelfSigned(from, until));
    }

    /// <exception cref="ClusterTlsException">The files cannot be used; the message is one line.</exception>
    public static ClusterAuthority Load(string certificateFile, string keyFile)
    {
        X509Certificate2 certificate = PemFiles.Certificates("authority", certificateFile, PemFiles.Read("authority", certificateFile))[0];
        if (!certificate.Extensions.OfType<X509BasicConstraintsExtension>().Any(b => b.CertificateAuthority))
        {
            throw new ClusterTlsException(
                $"The certificate in '{certificateFile}', {PeerRules.Describe(certificate)}, is no authority's (basic constraints): it may sign nothing.");
        }

        return new ClusterAuthority(PemFiles.WithKey(certificate, certificateFile, keyFile, PemFiles.Read("authority's key", keyFile)));
    }

    /// <summary>The private key in PEM, to be written where its owner alone reads it.</summary>
    public string ExportKeyPem()
    {
        using AsymmetricAlgorithm key = (AsymmetricAlgorithm?)_certificate.GetECDsaPrivateKey() ?? _certificate.GetRSAPrivateKey()!;
        return key.ExportPkcs8PrivateKeyPem();
    }

    /// <summary>A node's certificate, for both ends of a connection.</summary>
    /// <param name="names">At least one DNS name or address.</param>
    /// <exception cref="ArgumentException">A name is none, or the time is not within the authority's own.</exception>
    public IssuedCertificate Issue(IReadOnlyList<string> names, DateTimeOffset from, DateTimeOffset until) =>
        Issue(names, from, until, [PeerRules.ServerPurpose, PeerRules.ClientPurpose]);

    internal IssuedCertificate Issue(
        IReadOnlyList<string> names, DateTimeOffset from, DateTimeOffset until, IReadOnlyList<string> purposes)
    {
        ArgumentNullException.ThrowIfNull(names);
        if (until > Until || from < From)
        {
            throw new ArgumentException(
                $"A certificate from {from:u} until {until:u} was asked of an authority whose own is from {From:u} until {Until:u}. "
                + "Ask for fewer days, or make a new authority.");
        }

        using ECDsa key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        CertificateRequest request = new(
            Common(names[0].Length <= LongestCommonName ? names[0] : "Experiments node"), key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(false, false, 0, critical: true));
        request.CertificateExtensions.Add(new X509KeyUsageExtension(X509KeyUsageFlags.DigitalSignature, critical: true));
        if (purposes.Count > 0)
        {
            request.CertificateExtensions.Add(
                new X509EnhancedKeyUsageExtension([.. purposes.Select(p => new Oid(p))], critical: false));
        }

        request.CertificateExtensions.Add(Alternatives(names));
        request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, critical: false));
        request.CertificateExtensions.Add(
            X509AuthorityKeyIdentifierExtension.CreateFromCertificate(_certificate, includeKeyIdentifier: true, includeIssuerAndSerial: false));
        using X509Certificate2 made = request.Create(_certificate.SubjectName, Signer(), from, until, Serial());
        return new IssuedCertificate(
            made.ExportCertificatePem() + "\n", key.ExportPkcs8PrivateKeyPem() + "\n", made.SerialNumber, made.NotBefore, made.NotAfter);
    }

    /// <summary>Whether that may stand in a certificate: an IPv4 or IPv6 address, or a DNS name whose first label may be <c>*</c>.</summary>
    public static bool IsName(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return IsAddress(name) || IsDnsName(name);
    }

    public void Dispose() => _certificate.Dispose();

    private static X500DistinguishedName Common(string name)
    {
        X500DistinguishedNameBuilder builder = new();
        builder.AddCommonName(name);
        return builder.Build();
    }

    private static X509Extension Alternatives(IReadOnlyList<string> names)
    {
        SubjectAlternativeNameBuilder alternatives = new();
        foreach (string name in names)
        {
            if (IsAddress(name))
            {
                alternatives.AddIpAddress(IPAddress.Parse(name));
            }
            else if (IsDnsName(name))
            {
                alternatives.AddDnsName(name);
            }
            else
            {
                throw new ArgumentException($"'{name}' is neither a DNS name nor an address.");
            }
        }

        return alternatives.Build();
    }

    private static bool IsAddress(string name) => NetworkAddress.Find(name) is not null;

    private static bool IsDnsName(string name)
    {
        string[] labels = name.Split('.');
        bool wild = labels is ["*", _, ..];
        return name.Length <= 253 && !labels.All(l => l.All(char.IsAsciiDigit)) && labels.Skip(wild ? 1 : 0).All(
            l => l is { Length: > 0 and <= 63 } && l.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_') && l[0] != '-' && l[^1] != '-');
    }

    private static byte[] Serial()
    {
        // Positive, and of full length: RFC 5280 section 4.1.2.2.
        byte[] serial = RandomNumberGenerator.GetBytes(SerialBytes);
        serial[0] = (byte)((serial[0] & 0x7F) | 0x40);
        return serial;
    }

    private X509SignatureGenerator Signer() => _certificate.GetECDsaPrivateKey() is ECDsa curve
        ? X509SignatureGenerator.CreateForECDsa(curve)
        : X509SignatureGenerator.CreateForRSA(_certificate.GetRSAPrivateKey()!, RSASignaturePadding.Pkcs1);
}
