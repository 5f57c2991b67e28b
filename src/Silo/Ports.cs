using System.Net;
using System.Net.Sockets;

namespace Experiments.Silo;

/// <summary>TCP ports, asked of the system.</summary>
/// <remarks>Orleans binds with address reuse, by which on Linux two silos share a port without a word; a listener without it is refused.</remarks>
internal static class Ports
{
    /// <summary>A port that was free a moment ago: the one that is named, or for 0 any.</summary>
    /// <exception cref="SocketException">It is taken, or the address is not this machine's.</exception>
    public static int Probe(IPAddress address, int port)
    {
        using TcpListener probe = new(address, port);
        probe.Start();
        return ((IPEndPoint)probe.LocalEndpoint).Port;
    }

    /// <summary>Any port of loopback that is free.</summary>
    public static int FreeOnLoopback() => Probe(IPAddress.Loopback, 0);

    public static bool IsFreeOnLoopback(int port)
    {
        try
        {
            return Probe(IPAddress.Loopback, port) == port;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}
