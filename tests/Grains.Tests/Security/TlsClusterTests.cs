using System.Net;
using System.Net.Sockets;
using Experiments.Silo.Security;
using Experiments.Testing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Configuration;

namespace Experiments.Grains.Tests.Security;

/// <summary>Whole silos, each a host of its own, that meet over loopback with TLS.</summary>
public sealed class TlsClusterTests
{
    private static CancellationToken Test => TestContext.Current.CancellationToken;

    [Fact]
    public async Task Two_silos_form_a_cluster_and_call_each_others_grains()
    {
        using TestCertificates cluster = new(TimeProvider.System);
        int port = Ports.Free();
        await using TlsSilo first = await TlsSilo.StartAsync(cluster.Node(), port, port);
        await using TlsSilo second = await TlsSilo.StartAsync(cluster.Node(), Ports.Free(), port);

        // Larger than a TLS record and than any pipe's buffer.
        byte[] payload = new byte[1_000_000];
        new Random(1).NextBytes(payload);
        foreach (TlsSilo silo in (TlsSilo[])[first, second])
        {
            HashSet<string> answered = [];
            // A grain's place is drawn by chance: 40 on one silo of two happens once in 10^12.
            for (int key = 0; key < 40; key++)
            {
                (string where, byte[] echo) = await silo.Grains.GetGrain<IEchoGrain>(key).EchoAsync(key == 0 ? payload : [(byte)key]);
                Assert.Equal(key == 0 ? payload : [(byte)key], echo);
                answered.Add(where);
            }

            Assert.Equal(2, answered.Count);
        }

        Assert.Empty(first.Log.All);
        Assert.Empty(second.Log.All);
    }

    [Theory]
    [InlineData("none", "does not speak TLS")]
    [InlineData("another's", "was not signed by an authority of this cluster")]
    public async Task A_silo_without_the_clusters_TLS_cannot_join(string tls, string why)
    {
        Assert.SkipWhen(RedisServer.Unavailable is not null, RedisServer.Unavailable ?? "");
        await using RedisServer redis = await RedisServer.StartAsync();
        using TestCertificates cluster = new(TimeProvider.System);
        ClusterAuthority other = cluster.NewAuthority();
        ClusterTlsOptions foreign = cluster.Node(cluster.Issue(other), trusts: other);
        // One that does not mind whom it calls, so that it is the cluster that refuses and not the stranger.
        await File.AppendAllTextAsync(foreign.Authority, "\n" + cluster.Own.CertificatePem, Test);

        await using TlsSilo member = await TlsSilo.StartAsync(cluster.Node(), Ports.Free(), redis: redis.Port);
        Exception refused = await Assert.ThrowsAnyAsync<Exception>(
            () => TlsSilo.StartAsync(tls == "none" ? null : foreign, Ports.Free(), redis: redis.Port));
        Assert.IsNotType<TimeoutException>(refused);
        Assert.Contains(why, await member.Log.WaitAsync(why), StringComparison.Ordinal);
        Dictionary<SiloAddress, SiloStatus> hosts = await member.Grains.GetGrain<IManagementGrain>(0).GetHosts(true, Test);
        Assert.Single(hosts);

        // The same silo with the cluster's certificate does join, so that it was that which was missing.
        await using TlsSilo second = await TlsSilo.StartAsync(cluster.Node(), Ports.Free(), redis: redis.Port);
        Assert.Equal(2, (await member.Grains.GetGrain<IManagementGrain>(0).GetHosts(true, Test)).Count);
    }

    [Fact]
    public async Task A_gateway_takes_clients_with_a_certificate_and_no_others()
    {
        using TestCertificates cluster = new(TimeProvider.System);
        int port = Ports.Free();
        int gateway = Ports.Free();
        await using TlsSilo silo = await TlsSilo.StartAsync(cluster.Node(), port, port, gateway);

        using IHost member = Client(gateway, cluster.Node());
        await member.StartAsync(Test);
        (_, byte[] echo) = await member.Services.GetRequiredService<IGrainFactory>().GetGrain<IEchoGrain>(3).EchoAsync([1, 2, 3]);
        Assert.Equal([1, 2, 3], echo);
        await member.StopAsync(Test);
        Assert.Empty(silo.Log.All);

        using IHost stranger = Client(gateway, null);
        using CancellationTokenSource enough = CancellationTokenSource.CreateLinkedTokenSource(Test);
        Task started = stranger.StartAsync(enough.Token);
        await silo.Log.WaitAsync("does not speak TLS");
        // It would go on trying for minutes.
        await enough.CancelAsync();
        await Assert.ThrowsAnyAsync<Exception>(() => started);
    }

    [Fact]
    public async Task Whoever_speaks_plainly_to_a_silos_port_is_hung_up_on()
    {
        using TestCertificates cluster = new(TimeProvider.System);
        int port = Ports.Free();
        await using TlsSilo silo = await TlsSilo.StartAsync(cluster.Node(), port, port);
        using TcpClient caller = new();
        await caller.ConnectAsync(IPAddress.Loopback, port, Test);
        NetworkStream stream = caller.GetStream();
        await stream.WriteAsync("GET / HTTP/1.1\r\n\r\n"u8.ToArray(), Test);
        Assert.Equal(0, await EndAsync(stream));
        string line = await silo.Log.WaitAsync("does not speak TLS");
        Assert.Contains(((IPEndPoint)caller.Client.LocalEndPoint!).Port.ToString(System.Globalization.CultureInfo.InvariantCulture), line, StringComparison.Ordinal);
    }

    // Closed by the other side, with or without a reset.
    private static async Task<int> EndAsync(NetworkStream stream)
    {
        try
        {
            return await stream.ReadAsync(new byte[100], Test);
        }
        catch (IOException)
        {
            return 0;
        }
    }

    private static IHost Client(int gateway, ClusterTlsOptions? tls)
    {
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings());
        builder.UseOrleansClient(client =>
        {
            client.UseLocalhostClustering(gateway);
            client.Configure<ClientMessagingOptions>(o => o.ResponseTimeout = TimeSpan.FromSeconds(5));
            if (tls is not null)
            {
                client.UseClusterTls(tls);
            }
        });
        return builder.Build();
    }
}

/// <summary>A silo in a host of its own, clustered through a first one or through Redis.</summary>
internal sealed class TlsSilo : IAsyncDisposable
{
    // A silo that reaches nobody gives up after this long; what a test of it costs.
    private static readonly TimeSpan JoinsWithin = TimeSpan.FromSeconds(5);

    private readonly IHost _host;
    private readonly Ended _ended;

    private TlsSilo(IHost host, LogLines log, Ended ended) => (_host, Log, _ended) = (host, log, ended);

    public LogLines Log { get; }

    public IGrainFactory Grains => _host.Services.GetRequiredService<IGrainFactory>();

    public static async Task<TlsSilo> StartAsync(ClusterTlsOptions? tls, int port, int? first = null, int gateway = 0, int? redis = null)
    {
        LogLines log = new();
        Ended ended = new();
        HostApplicationBuilder builder = Host.CreateEmptyApplicationBuilder(new HostApplicationBuilderSettings());
        builder.Logging.AddProvider(log);
        builder.UseOrleans(silo =>
        {
            if (redis is int server)
            {
                silo.UseRedisClustering($"127.0.0.1:{server}");
                silo.Configure<ClusterOptions>(o => (o.ClusterId, o.ServiceId) = ("tls", "tls"));
                silo.Configure<EndpointOptions>(o => (o.AdvertisedIPAddress, o.SiloPort, o.GatewayPort) = (IPAddress.Loopback, port, 0));
            }
            else
            {
                silo.UseLocalhostClustering(port, gateway, new IPEndPoint(IPAddress.Loopback, first ?? port));
            }

            silo.Configure<ClusterMembershipOptions>(o => o.MaxJoinAttemptTime = JoinsWithin);
            silo.Services.AddSingleton<IFatalErrorHandler>(ended);
            if (tls is not null)
            {
                silo.UseClusterTls(tls);
            }
        });
        IHost host = builder.Build();
        TlsSilo started = new(host, log, ended);
        try
        {
            // Far more than it gives itself: a silo that neither joins nor gives up fails the test.
            await host.StartAsync(TestContext.Current.CancellationToken).WaitAsync(TimeSpan.FromMinutes(2));
            return started;
        }
        catch
        {
            await started.StopAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        if (_ended.Reason is string reason)
        {
            Assert.Fail($"A silo that had joined would have ended its process: {reason}");
        }
    }

    private async Task StopAsync()
    {
        try
        {
            await _host.StopAsync(CancellationToken.None);
        }
        finally
        {
            await ((IAsyncDisposable)_host).DisposeAsync();
        }
    }

    /// <summary>What Orleans ends a process for, kept instead, or the test program would end with it.</summary>
    /// <remarks>A stranger learns that it is dead where a member finds that it does not answer before it has given up by itself.</remarks>
    private sealed class Ended : IFatalErrorHandler
    {
        public string? Reason { get; private set; }

        public bool IsUnexpected(Exception exception) => true;

        public void OnFatalException(object? sender = null, string? context = null, Exception? exception = null) =>
            Reason = $"{context} {exception?.Message}";
    }
}
