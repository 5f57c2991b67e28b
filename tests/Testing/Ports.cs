using System.Net;
using System.Net.Sockets;

namespace Experiments.Testing;

/// <summary>Ports of the loopback address.</summary>
public static class Ports
{
    /// <summary>One that nobody listened on just now.</summary>
    public static int Free()
    {
        using TcpListener probe = new(IPAddress.Loopback, 0);
        probe.Start();
        return ((IPEndPoint)probe.LocalEndpoint).Port;
    }
}
