using System.Net;
using System.Net.Sockets;

namespace Experiments.Results.Store;

/// <summary>IP addresses as people mean them.</summary>
/// <remarks>The system's parser takes "10" for 0.0.0.10, "10.1" for 10.0.0.1, "010.0.0.1" for 8.0.0.1 and "[::1]:80" for ::1: whoever leaves something out
/// gets another address, and no word.</remarks>
public static class NetworkAddress
{
    /// <summary>An IPv4 address of four decimal numbers or an IPv6 address; null for all else.</summary>
    public static IPAddress? Find(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        return IPAddress.TryParse(text, out IPAddress? address)
            && (address.AddressFamily == AddressFamily.InterNetwork ? address.ToString() == text : !text.Contains('[', StringComparison.Ordinal))
                ? address : null;
    }

    /// <summary>Such an address with a port, an IPv6 address in brackets; null for all else.</summary>
    public static IPEndPoint? FindEndPoint(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        int colon = text.LastIndexOf(':');
        return colon > 0 && ushort.TryParse(text.AsSpan(colon + 1), System.Globalization.NumberStyles.None, null, out ushort port)
            && Find(text[..colon] is ['[', .. string inner, ']'] && inner.Contains(':', StringComparison.Ordinal) ? inner
                : text[..colon].Contains(':', StringComparison.Ordinal) ? "" : text[..colon]) is IPAddress address
                ? new IPEndPoint(address, port) : null;
    }

    /// <summary>The host, where a name that is looked up would be taken for an address that nobody wrote; null where all is well.</summary>
    /// <param name="host">A name or an address, with a port or without one.</param>
    public static string? Shortened(string host)
    {
        ArgumentNullException.ThrowIfNull(host);
        string name = host.Count(c => c == ':') == 1 ? host[..host.IndexOf(':', StringComparison.Ordinal)] : host;
        return !name.Contains(':', StringComparison.Ordinal) && IPAddress.TryParse(name, out _) && Find(name) is null ? name : null;
    }

    /// <summary>What follows the host as its port, whatever that is; null where nothing does, as after a socket's path.</summary>
    public static string? PortOf(string host)
    {
        ArgumentNullException.ThrowIfNull(host);
        int colon = host.LastIndexOf(':');
        bool isAlone = colon >= 0 && (host[..colon].EndsWith(']') || !host[..colon].Contains(':', StringComparison.Ordinal));
        return isAlone && host[0] is not ('/' or '@') ? host[(colon + 1)..] : null;
    }
}
