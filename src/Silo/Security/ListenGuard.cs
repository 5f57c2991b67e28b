using System.Net;

namespace Experiments.Silo.Security;

/// <summary>Orleans' protocol authenticates nobody, so without TLS a silo listens on loopback or not at all.</summary>
public static class ListenGuard
{
    /// <summary>Why a silo must not listen on that address, in one line; null when it may.</summary>
    /// <param name="bound">What the silo's or gateway's socket is bound to; 0.0.0.0 and :: are every address.</param>
    public static string? Refusal(IPAddress bound, bool tls)
    {
        ArgumentNullException.ThrowIfNull(bound);
        return tls || IPAddress.IsLoopback(bound.IsIPv4MappedToIPv6 ? bound.MapToIPv4() : bound)
            ? null
            : $"silo would listen on {bound} without TLS: anyone who reaches it can call any grain. "
                + "Give --tls-certificate, --tls-key and --tls-authority, or bind to 127.0.0.1.";
    }
}
