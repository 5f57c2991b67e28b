using System.Buffers;
using System.IO.Pipelines;
using System.Net;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Experiments.Silo.Security;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Logging;

namespace Experiments.Grains.Tests.Security;

/// <summary>One side of a connection: a node's middleware, with a log of its own.</summary>
internal sealed class Side : IDisposable
{
    private readonly ClusterTlsOptions _options;

    public Side(ClusterTlsOptions options)
    {
        _options = options;
        Source = new ClusterCertificateSource(options, ClusterCertificate.Load(options), new Logger<ClusterCertificateSource>(Log));
    }

    public LogLines Log { get; } = new();

    public ClusterCertificateSource Source { get; }

    /// <summary>The serial number of the certificate that the other side last showed to this one.</summary>
    public string? Shown { get; private set; }

    public ClusterTlsServer Called => new(_options, Source, new Logger<ClusterTls>(Log));

    public ClusterTlsClient Calling => new(_options, Source, new Logger<ClusterTls>(Log));

    public void Dispose() => Source.Dispose();

    public void Look(ConnectionContext context)
    {
        SslStream tls = context.Features.Get<SslStream>()!;
        Assert.Equal(SslProtocols.Tls13, tls.SslProtocol);
        Assert.True(tls.IsMutuallyAuthenticated);
        Shown = ((X509Certificate2)tls.RemoteCertificate!).SerialNumber;
    }
}

/// <summary>Two middlewares, one of each kind, on a connection in memory.</summary>
internal static class Handshake
{
    /// <summary>The calling side sends that and takes the other's echo; what each side threw, null where nothing.</summary>
    public static async Task<(byte[] Echo, Exception? Calling, Exception? Called)> ExchangeAsync(Side calling, Side called, byte[] payload)
    {
        (DefaultConnectionContext here, DefaultConnectionContext there) = Connection();
        byte[] echo = [];
        Task<Exception?> client = RunAsync(calling.Calling, here, async context =>
        {
            calling.Look(context);
            Task<byte[]> read = ReadAsync(context.Transport.Input, payload.Length);
            await context.Transport.Output.WriteAsync(payload);
            echo = await read;
        });
        Task<Exception?> server = RunAsync(called.Called, there, async context =>
        {
            called.Look(context);
            byte[] read = await ReadAsync(context.Transport.Input, payload.Length);
            await context.Transport.Output.WriteAsync(read);
            // The other side closes when it has everything.
            await ReadAsync(context.Transport.Input, 1);
        });
        await Task.WhenAll(client, server);
        return (echo, await client, await server);
    }

    /// <summary>Two ends of a connection in memory.</summary>
    public static (DefaultConnectionContext Here, DefaultConnectionContext There) Connection()
    {
        Pipe to = new();
        Pipe fro = new();
        return (Context(new Ends(fro.Reader, to.Writer)), Context(new Ends(to.Reader, fro.Writer)));

        static DefaultConnectionContext Context(IDuplexPipe ends) => new("test", ends, ends)
        {
            RemoteEndPoint = new IPEndPoint(IPAddress.Parse("192.0.2.7"), 11111),
        };
    }

    /// <summary>Runs a middleware to its end and closes the connection, as Orleans does; what it threw.</summary>
    public static async Task<Exception?> RunAsync(ClusterTls tls, DefaultConnectionContext context, ConnectionDelegate next)
    {
        IDuplexPipe transport = context.Transport;
        Exception? fault = null;
        try
        {
            await tls.OnConnectionAsync(context, next);
        }
        catch (Exception thrown) when (thrown is not OutOfMemoryException)
        {
            fault = thrown;
        }

        Assert.Same(transport, context.Transport);
        await transport.Output.CompleteAsync();
        await transport.Input.CompleteAsync();
        return fault;
    }

    private static async Task<byte[]> ReadAsync(PipeReader reader, int count)
    {
        ReadResult read = await reader.ReadAtLeastAsync(count);
        byte[] bytes = read.Buffer.ToArray();
        reader.AdvanceTo(read.Buffer.End);
        return bytes;
    }

    private sealed record Ends(PipeReader Input, PipeWriter Output) : IDuplexPipe;
}
