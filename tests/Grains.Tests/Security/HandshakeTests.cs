using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using Experiments.Silo.Security;
using Microsoft.AspNetCore.Connections;
using Microsoft.Extensions.Time.Testing;

namespace Experiments.Grains.Tests.Security;

/// <summary>Who gets through a handshake and who does not, with both middlewares on a connection in memory. The clock stands in another
/// year than the machine's, so that no answer can come from the machine's.</summary>
public sealed class HandshakeTests : IDisposable
{
#pragma warning disable CA5359 // A stranger's own choice: it is our side that has to refuse.
    private static readonly RemoteCertificateValidationCallback Anyone = (_, _, _, _) => true;
#pragma warning restore CA5359

    private readonly FakeTimeProvider _clock = new(new DateTimeOffset(2031, 5, 1, 12, 0, 0, TimeSpan.Zero));
    private readonly TestCertificates _cluster;

    public HandshakeTests() => _cluster = new TestCertificates(_clock);

    public void Dispose() => _cluster.Dispose();

    [Theory]
    [InlineData(1)]
    [InlineData(16 * 1024)]
    [InlineData(3_000_001)]
    public async Task What_one_member_sends_another_receives(int bytes)
    {
        byte[] payload = new byte[bytes];
        new Random(bytes).NextBytes(payload);
        using Side here = new(_cluster.Node());
        using Side there = new(_cluster.Node());
        (byte[] echo, Exception? calling, Exception? called) = await Handshake.ExchangeAsync(here, there, payload);
        Assert.Null(calling);
        Assert.Null(called);
        Assert.Equal(payload, echo);
        Assert.Empty(here.Log.All);
        Assert.Empty(there.Log.All);
    }

    [Fact]
    public async Task Members_of_two_authorities_refuse_each_other()
    {
        ClusterAuthority other = _cluster.NewAuthority();
        using Side ours = new(_cluster.Node());
        using Side theirs = new(_cluster.Node(_cluster.Issue(other), trusts: other));
        await RefusedByTheCallerAsync(ours, theirs, "was not signed by an authority of this cluster");
        await RefusedByTheCallerAsync(theirs, ours, "was not signed by an authority of this cluster");
    }

    [Fact]
    public async Task A_stranger_that_trusts_us_is_refused_by_the_called_side()
    {
        ClusterAuthority other = _cluster.NewAuthority();
        using Side ours = new(_cluster.Node());
        ClusterTlsOptions both = _cluster.Node(_cluster.Issue(other), trusts: other);
        await File.AppendAllTextAsync(both.Authority, "\n" + _cluster.Own.CertificatePem, TestContext.Current.CancellationToken);
        using Side theirs = new(both);
        await RefusedByTheCalledAsync(theirs, ours, "was not signed by an authority of this cluster");
    }

    [Fact]
    public async Task Two_authorities_in_one_file_are_both_trusted_so_that_one_can_follow_the_other()
    {
        ClusterAuthority next = _cluster.NewAuthority();
        ClusterTlsOptions old = _cluster.Node();
        ClusterTlsOptions renewed = _cluster.Node(_cluster.Issue(next), trusts: next);
        foreach (ClusterTlsOptions node in (ClusterTlsOptions[])[old, renewed])
        {
            await File.WriteAllTextAsync(
                node.Authority, $"{_cluster.Own.CertificatePem}\n{next.CertificatePem}", TestContext.Current.CancellationToken);
        }

        using Side here = new(old);
        using Side there = new(renewed);
        Assert.Equal([7], (await Handshake.ExchangeAsync(here, there, [7])).Echo);
        Assert.Equal([7], (await Handshake.ExchangeAsync(there, here, [7])).Echo);
    }

    [Fact]
    public async Task A_certificate_is_refused_from_the_moment_it_expires()
    {
        using Side lasting = new(_cluster.Node(_cluster.Issue(until: TimeSpan.FromDays(30))));
        using Side ending = new(_cluster.Node(_cluster.Issue(until: TimeSpan.FromHours(1))));
        _clock.Advance(TimeSpan.FromHours(1) - TimeSpan.FromSeconds(1));
        Assert.Equal([7], (await Handshake.ExchangeAsync(lasting, ending, [7])).Echo);
        _clock.Advance(TimeSpan.FromSeconds(1));
        await RefusedByTheCallerAsync(lasting, ending, "expired 2031-05-01 13:00:00Z");
        await RefusedByTheCalledAsync(ending, lasting, "expired 2031-05-01 13:00:00Z");
    }

    [Fact]
    public async Task A_certificate_without_the_required_name_is_refused()
    {
        using Side strict = new(_cluster.Node(_cluster.Issue(name: "silo.example.org")) with { RequiredName = "silo.example.org" });
        using Side named = new(_cluster.Node(_cluster.Issue(name: "*.example.org")));
        using Side other = new(_cluster.Node(_cluster.Issue(name: "silo.example.com")));
        Assert.Equal([7], (await Handshake.ExchangeAsync(strict, named, [7])).Echo);
        Assert.Equal([7], (await Handshake.ExchangeAsync(named, strict, [7])).Echo);
        await RefusedByTheCallerAsync(strict, other, "does not carry the name 'silo.example.org'");
        await RefusedByTheCalledAsync(other, strict, "does not carry the name 'silo.example.org'");
    }

    [Fact]
    public async Task A_certificate_for_servers_only_calls_nobody_and_one_for_clients_only_is_not_called()
    {
        using Side ours = new(_cluster.Node());
        foreach (string[] purposes in (string[][])[[PeerRules.ServerPurpose], []])
        {
            Assert.Contains("is not one for clients", await CallAsync(ours, _cluster.Issue(purposes: purposes)), StringComparison.Ordinal);
        }

        foreach (string[] purposes in (string[][])[[PeerRules.ClientPurpose], []])
        {
            Assert.Contains("is not one for servers", await BeCalledAsync(ours, _cluster.Issue(purposes: purposes)), StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task Nobody_calls_without_a_certificate_nor_by_an_older_protocol()
    {
        using Side ours = new(_cluster.Node());
        Assert.Contains("it showed no certificate", await CallAsync(ours, null), StringComparison.Ordinal);
        Assert.Contains("refused", await CallAsync(ours, _cluster.Issue(), SslProtocols.Tls12), StringComparison.Ordinal);
        // The same caller with the right protocol, so that it was that which was refused.
        Assert.Equal("", await CallAsync(ours, _cluster.Issue()));
    }

    [Fact]
    public async Task A_peer_that_does_not_speak_TLS_is_told_from_one_that_fails_at_it()
    {
        using Side ours = new(_cluster.Node());
        (DefaultConnectionContext here, DefaultConnectionContext there) = Handshake.Connection();
        Task<Exception?> called = Handshake.RunAsync(ours.Called, there, _ => Task.CompletedTask);
        // How a silo without TLS begins: the length of its preamble.
        await here.Transport.Output.WriteAsync(new byte[] { 40, 0, 0, 0, 1, 2, 3 }, TestContext.Current.CancellationToken);
        Assert.Contains("does not speak TLS", Assert.IsType<ConnectionAbortedException>(await called).Message, StringComparison.Ordinal);
        string line = Assert.Single(ours.Log.All);
        Assert.StartsWith("Warning: TLS with 192.0.2.7:11111 was refused: it does not speak TLS", line, StringComparison.Ordinal);
        AssertClosed(there);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_silent_peer_is_cut_off_when_its_time_is_over(bool called)
    {
        using Side ours = new(_cluster.Node() with { HandshakeWithin = TimeSpan.FromSeconds(10) });
        (DefaultConnectionContext context, _) = Handshake.Connection();
        Task<Exception?> handshake = Handshake.RunAsync(called ? ours.Called : ours.Calling, context, _ => Task.CompletedTask);
        _clock.Advance(TimeSpan.FromSeconds(9));
        Assert.False(handshake.IsCompleted);
        _clock.Advance(TimeSpan.FromSeconds(1));
        Exception? cut = await handshake.WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        Assert.Contains("did not finish its handshake within 10 s", cut!.Message, StringComparison.Ordinal);
        AssertClosed(context);
    }

    // Said on another thread, a moment later; the limit is there to end a test that will fail.
    private static void AssertClosed(DefaultConnectionContext context) =>
        Assert.True(context.ConnectionClosed.WaitHandle.WaitOne(TimeSpan.FromSeconds(60)));

    private static async Task RefusedByTheCallerAsync(Side calling, Side called, string why)
    {
        int before = calling.Log.All.Length;
        (byte[] echo, Exception? refusal, _) = await Handshake.ExchangeAsync(calling, called, [7]);
        Assert.Empty(echo);
        Assert.Contains(why, Assert.IsType<ConnectionAbortedException>(refusal).Message, StringComparison.Ordinal);
        string line = Assert.Single(calling.Log.All.Skip(before), l => l.Contains("refused", StringComparison.Ordinal));
        Assert.StartsWith("Warning: TLS with 192.0.2.7:11111 was refused: its certificate 'CN=", line, StringComparison.Ordinal);
        Assert.Contains(why, line, StringComparison.Ordinal);
    }

    private static async Task RefusedByTheCalledAsync(Side calling, Side called, string why)
    {
        int before = called.Log.All.Length;
        (byte[] echo, _, Exception? refusal) = await Handshake.ExchangeAsync(calling, called, [7]);
        Assert.Empty(echo);
        Assert.Contains(why, Assert.IsType<ConnectionAbortedException>(refusal).Message, StringComparison.Ordinal);
        string line = Assert.Single(called.Log.All.Skip(before), l => l.Contains("refused", StringComparison.Ordinal));
        Assert.StartsWith("Warning: TLS with 192.0.2.7:11111 was refused: its certificate 'CN=", line, StringComparison.Ordinal);
        Assert.Contains(why, line, StringComparison.Ordinal);
    }

    /// <summary>A program of somebody else's calls; why it was refused, empty where it was not.</summary>
    private static async Task<string> CallAsync(Side called, IssuedCertificate? certificate, SslProtocols protocol = SslProtocols.Tls13)
    {
        (DefaultConnectionContext here, DefaultConnectionContext there) = Handshake.Connection();
        Task<Exception?> server = Handshake.RunAsync(called.Called, there, _ => Task.CompletedTask);
        using SslStream tls = new(new DuplexStream(here.Transport));
        try
        {
            await tls.AuthenticateAsClientAsync(new SslClientAuthenticationOptions
            {
                EnabledSslProtocols = protocol,
                RemoteCertificateValidationCallback = Anyone,
                ClientCertificateContext = certificate is null ? null : SslStreamCertificateContext.Create(
                    TestCertificates.WithKey(certificate), null, offline: true),
            });
            await tls.ReadExactlyAsync(new byte[1]);
        }
        catch (Exception refused) when (refused is IOException or AuthenticationException)
        {
            // The server's reason is the one that is looked at.
        }

        return (await server)?.Message ?? "";
    }

    /// <summary>A program of somebody else's is called; why it was refused, empty where it was not.</summary>
    private static async Task<string> BeCalledAsync(Side calling, IssuedCertificate certificate)
    {
        (DefaultConnectionContext here, DefaultConnectionContext there) = Handshake.Connection();
        Task<Exception?> client = Handshake.RunAsync(calling.Calling, here, _ => Task.CompletedTask);
        using SslStream tls = new(new DuplexStream(there.Transport));
        using X509Certificate2 own = TestCertificates.WithKey(certificate);
        try
        {
            await tls.AuthenticateAsServerAsync(new SslServerAuthenticationOptions
            {
                ServerCertificateContext = SslStreamCertificateContext.Create(own, null, offline: true),
                ClientCertificateRequired = true,
                RemoteCertificateValidationCallback = Anyone,
            });
        }
        catch (Exception refused) when (refused is IOException or AuthenticationException)
        {
            // The client's reason is the one that is looked at.
        }

        return (await client)?.Message ?? "";
    }
}
