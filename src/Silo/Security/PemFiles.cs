using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace Experiments.Silo.Security;

/// <summary>Certificates and keys out of PEM, with a line for each way in which a file may not be what it is said to be.</summary>
internal static class PemFiles
{
    private const string Rsa = "1.2.840.113549.1.1.1";
    private const string EllipticCurve = "1.2.840.10045.2.1";

    /// <param name="kind">"certificate", "key" or "authority": what the message calls the file.</param>
    /// <exception cref="ClusterTlsException">There is no such file, or it may not be read.</exception>
    public static string Read(string kind, string path)
    {
        try
        {
            return File.ReadAllText(path, Encoding.ASCII);
        }
        catch (Exception fault) when (fault is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new ClusterTlsException(
                $"The TLS {kind} file '{path}' does not exist. 'experiments certificates DIR' makes a cluster's certificates.", fault);
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw new ClusterTlsException($"The TLS {kind} file '{path}' cannot be read: {OneLine(fault)}", fault);
        }
    }

    /// <summary>Every certificate of a file, in its order; at least one.</summary>
    /// <exception cref="ClusterTlsException">There is none, or one is malformed.</exception>
    public static X509Certificate2Collection Certificates(string kind, string path, string text)
    {
        X509Certificate2Collection certificates = [];
        try
        {
            certificates.ImportFromPem(text);
        }
        catch (CryptographicException fault)
        {
            throw new ClusterTlsException($"The TLS {kind} file '{path}' holds a malformed certificate: {OneLine(fault)}", fault);
        }

        return certificates.Count > 0
            ? certificates
            : throw new ClusterTlsException($"The TLS {kind} file '{path}' holds no certificate in PEM (-----BEGIN CERTIFICATE-----).");
    }

    /// <summary>The certificate with its private key, ready for a handshake.</summary>
    /// <exception cref="ClusterTlsException">The key is encrypted, malformed, of an algorithm we have no use for, or another's.</exception>
    public static X509Certificate2 WithKey(X509Certificate2 certificate, string certificatePath, string keyPath, string text)
    {
        if (text.Contains("ENCRYPTED", StringComparison.Ordinal))
        {
            throw new ClusterTlsException($"The TLS key file '{keyPath}' is encrypted, and nobody is there to type its pass phrase when a "
                + "silo starts. Write it without one, readable by the silo's user alone.");
        }

        if (!text.Contains("PRIVATE KEY-----", StringComparison.Ordinal))
        {
            throw new ClusterTlsException($"The TLS key file '{keyPath}' holds no private key in PEM (-----BEGIN PRIVATE KEY-----).");
        }

        try
        {
            using X509Certificate2 ephemeral = Combine(certificate, certificatePath, text);
            // Windows' TLS takes no key that lives in memory only; a round through PKCS #12 gives it one of its own kind.
            return OperatingSystem.IsWindows()
                ? X509CertificateLoader.LoadPkcs12(ephemeral.Export(X509ContentType.Pkcs12), null)
                : new X509Certificate2(ephemeral);
        }
        catch (Exception fault) when (fault is ArgumentException or CryptographicException)
        {
            throw new ClusterTlsException(
                $"The TLS key file '{keyPath}' does not hold the key of the certificate in '{certificatePath}' ({certificate.Subject}): "
                + OneLine(fault), fault);
        }
    }

    public static string OneLine(Exception fault) => fault.Message.ReplaceLineEndings(" ").Trim();

    private static X509Certificate2 Combine(X509Certificate2 certificate, string path, string keyText)
    {
        switch (certificate.GetKeyAlgorithm())
        {
            case EllipticCurve:
                using (ECDsa key = ECDsa.Create())
                {
                    key.ImportFromPem(keyText);
                    return certificate.CopyWithPrivateKey(key);
                }

            case Rsa:
                using (RSA key = RSA.Create())
                {
                    key.ImportFromPem(keyText);
                    return certificate.CopyWithPrivateKey(key);
                }

            default:
                throw new ClusterTlsException($"The TLS certificate file '{path}' has a key of algorithm "
                    + $"{certificate.PublicKey.Oid.FriendlyName ?? certificate.GetKeyAlgorithm()}; ECDSA or RSA is needed.");
        }
    }
}
