using System.Globalization;
using System.Security.Cryptography.X509Certificates;

namespace Experiments.Silo.Security;

/// <summary>Which certificates are a member's. A node holds its own to the same rules, so that it does not start with one
/// that every other would refuse.</summary>
internal static class PeerRules
{
    /// <summary>Extended key usages, RFC 5280 section 4.2.1.12.</summary>
    public const string ServerPurpose = "1.3.6.1.5.5.7.3.1";

    public const string ClientPurpose = "1.3.6.1.5.5.7.3.2";

    /// <summary>Trusts the authorities and nobody else, at the clock's time, and asks nothing of the network: an address inside a
    /// stranger's certificate is nowhere to connect to.</summary>
    public static X509ChainPolicy Policy(X509Certificate2Collection authorities, string purpose, DateTimeOffset now)
    {
        X509ChainPolicy policy = new()
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            // A cluster's own authority publishes no lists; a lost key is answered by a new authority.
            RevocationMode = X509RevocationMode.NoCheck,
            DisableCertificateDownloads = true,
            VerificationTime = now.LocalDateTime,
        };
        policy.CustomTrustStore.AddRange(authorities);
        policy.ApplicationPolicy.Add(new(purpose));
        return policy;
    }

    /// <summary>Why that certificate is none of a member's, to follow "its certificate"; null when it is one.</summary>
    /// <param name="chain">Built by <see cref="Policy"/>.</param>
    public static string? Refusal(
        X509Certificate2 certificate, X509Chain chain, string purpose, string? requiredName, DateTimeOffset now)
    {
        if (OutOfTime(certificate, now) is string time)
        {
            return time;
        }

        // No usage at all would mean every usage to a chain; an authority's own certificate is such a one, and no node.
        if (!Allows(certificate, purpose))
        {
            return purpose == ServerPurpose
                ? "is not one for servers (extended key usage serverAuth)"
                : "is not one for clients (extended key usage clientAuth)";
        }

        if (ChainFault(chain, now) is string fault)
        {
            return fault;
        }

        return requiredName is null || certificate.MatchesHostname(requiredName, allowWildcards: true, allowCommonName: false)
            ? null
            : $"does not carry the name '{requiredName}'";
    }

    /// <summary>The certificate as a log line names it: who, and which of theirs.</summary>
    public static string Describe(X509Certificate2 certificate) => $"'{certificate.Subject}' (serial {certificate.SerialNumber})";

    public static string Stamp(DateTime time) => time.ToUniversalTime().ToString("yyyy-MM-dd HH:mm:ss'Z'", CultureInfo.InvariantCulture);

    private static string? OutOfTime(X509Certificate2 certificate, DateTimeOffset now) =>
        now.UtcDateTime >= certificate.NotAfter.ToUniversalTime() ? $"expired {Stamp(certificate.NotAfter)}"
        : now.UtcDateTime < certificate.NotBefore.ToUniversalTime() ? $"is not valid before {Stamp(certificate.NotBefore)}"
        : null;

    private static bool Allows(X509Certificate2 certificate, string purpose) =>
        certificate.Extensions.OfType<X509EnhancedKeyUsageExtension>()
            .Any(usage => usage.EnhancedKeyUsages.Cast<System.Security.Cryptography.Oid>().Any(oid => oid.Value == purpose));

    private static string? ChainFault(X509Chain chain, DateTimeOffset now)
    {
        const X509ChainStatusFlags Stranger = X509ChainStatusFlags.UntrustedRoot | X509ChainStatusFlags.PartialChain
            | X509ChainStatusFlags.NotSignatureValid;
        if (chain.ChainStatus.Length == 0)
        {
            return null;
        }

        if (chain.ChainStatus.Any(s => (s.Status & Stranger) != 0))
        {
            return "was not signed by an authority of this cluster";
        }

        foreach (X509Certificate2 above in chain.ChainElements.Skip(1).Select(e => e.Certificate))
        {
            if (OutOfTime(above, now) is string time)
            {
                return $"was signed by {Describe(above)}, which {time}";
            }
        }

        return "does not hold: " + string.Join(", ", chain.ChainStatus.Select(s => s.Status));
    }
}
