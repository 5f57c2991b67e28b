using Microsoft.Extensions.Logging;

namespace Experiments.Silo.Security;

/// <summary>The node's certificate as its files last held a good one. A new one takes effect at the next handshake; connections that
/// are open stay open.</summary>
/// <remarks>
/// The files are compared by content: their times say too little. What Kubernetes mounts is a link to a link whose own time never
/// changes, and `cp -p` keeps the old one. A certificate and its key are two files, so between the two writes they do not fit
/// together; like any other fault that keeps the present certificate, and is said once.
/// </remarks>
internal sealed class ClusterCertificateSource : IDisposable
{
    // What is left of a certificate's life when its end is announced.
    private const double WarnedShare = 0.1;

    private readonly ClusterTlsOptions _options;
    private readonly ILogger _log;
    private readonly ITimer _timer;
    private volatile ClusterCertificate _current;
    private string? _said;
    private ClusterCertificate? _warned;

    public ClusterCertificateSource(ClusterTlsOptions options, ClusterCertificate first, ILogger<ClusterCertificateSource> log)
    {
        _options = options;
        _current = first;
        _log = log;
        _timer = options.Time.CreateTimer(_ => LookAndGoOn(), null, options.LookEvery, Timeout.InfiniteTimeSpan);
    }

    public ClusterCertificate Current => _current;

    public void Dispose() => _timer.Dispose();

    private void LookAndGoOn()
    {
        try
        {
            Look();
            WarnOfTheEnd();
        }
#pragma warning disable CA1031 // Nobody stands above a timer: what escaped here would end the process.
        catch (Exception fault)
        {
            Keep(PemFiles.OneLine(fault));
        }
#pragma warning restore CA1031

        // One look at a time, however long a network file system takes over it.
        _timer.Change(_options.LookEvery, Timeout.InfiniteTimeSpan);
    }

    private void Look()
    {
        ClusterTlsFiles files = ClusterTlsFiles.Read(_options);
        if (_current.IsOf(files))
        {
            _said = null;
            return;
        }

        // Broken files are tried again at every look, not only when they change: a certificate may not be valid yet.
        ClusterCertificate next = ClusterCertificate.Load(_options, files);
        // The old one is left to the collector: handshakes may be under way with it.
        _current = next;
        _said = null;
        _log.LogInformation(
            "New handshakes use the TLS certificate {Certificate}, valid until {Until}.",
            PeerRules.Describe(next.Own), PeerRules.Stamp(next.Own.NotAfter));
    }

    private void Keep(string why)
    {
        if (why == _said)
        {
            return;
        }

        _said = why;
        _log.LogWarning(
            "The TLS files are not taken as they are now; {Certificate}, valid until {Until}, stays in use. {Why}",
            PeerRules.Describe(_current.Own), PeerRules.Stamp(_current.Own.NotAfter), why);
    }

    private void WarnOfTheEnd()
    {
        ClusterCertificate current = _current;
        TimeSpan life = current.Own.NotAfter - current.Own.NotBefore;
        TimeSpan left = current.Own.NotAfter.ToUniversalTime() - _options.Time.GetUtcNow().UtcDateTime;
        if (left < life * WarnedShare && _warned != current)
        {
            _warned = current;
            _log.LogWarning(
                "The TLS certificate {Certificate} is valid until {Until} only. Put a new one in its place; it is taken without a restart.",
                PeerRules.Describe(current.Own), PeerRules.Stamp(current.Own.NotAfter));
        }
    }
}
