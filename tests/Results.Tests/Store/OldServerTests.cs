using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Experiments.Results.Migrations;
using Experiments.Results.Store;

namespace Experiments.Results.Tests.Store;

/// <summary>A server that says it is old, as far as a client asks before it looks at the version.</summary>
public sealed class OldServerTests
{
    [Fact]
    public async Task A_server_that_is_too_old_is_refused_with_its_version_and_what_is_needed()
    {
        CancellationToken cancellation = TestContext.Current.CancellationToken;
        using TcpListener listener = new(IPAddress.Loopback, 0);
        listener.Start();
        Task serving = GreetAsync(listener, cancellation);
        string owner = $"Host=127.0.0.1;Port={((IPEndPoint)listener.LocalEndpoint).Port};Username=me;Password=sekrit;Database=old;"
            + "SSL Mode=Disable;GSS Encryption Mode=Disable;Pooling=false;Server Compatibility Mode=NoTypeLoading";
        StoreUnavailableException fault = await Assert.ThrowsAsync<StoreUnavailableException>(
            () => Migrator.MigrateAsync(owner, null, Assert.Fail, cancellation));
        Assert.Contains("is PostgreSQL 13.14; 14 or newer is needed", fault.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("sekrit", fault.Message, StringComparison.Ordinal);
        await serving;
    }

    /// <summary>Lets a client in without asking for a password, then waits until it goes.</summary>
    private static async Task GreetAsync(TcpListener listener, CancellationToken cancellation)
    {
        using TcpClient client = await listener.AcceptTcpClientAsync(cancellation);
        NetworkStream stream = client.GetStream();
        byte[] length = new byte[4];
        await stream.ReadExactlyAsync(length, cancellation);
        await stream.ReadExactlyAsync(new byte[BinaryPrimitives.ReadInt32BigEndian(length) - 4], cancellation);
        using MemoryStream greeting = new();
        Message(greeting, 'R', [0, 0, 0, 0]);
        Message(greeting, 'S', Encoding.ASCII.GetBytes("server_version\0" + "13.14\0"));
        Message(greeting, 'S', Encoding.ASCII.GetBytes("client_encoding\0UTF8\0"));
        Message(greeting, 'K', new byte[8]);
        Message(greeting, 'Z', "I"u8.ToArray());
        await stream.WriteAsync(greeting.ToArray(), cancellation);
        byte[] rest = new byte[256];
        try
        {
            while (await stream.ReadAsync(rest, cancellation) > 0)
            {
                // Whatever else it says is its goodbye.
            }
        }
        catch (IOException)
        {
            // Gone without a goodbye.
        }
    }

    private static void Message(MemoryStream to, char kind, byte[] body)
    {
        byte[] length = new byte[4];
        BinaryPrimitives.WriteInt32BigEndian(length, body.Length + 4);
        to.WriteByte((byte)kind);
        to.Write(length);
        to.Write(body);
    }
}
