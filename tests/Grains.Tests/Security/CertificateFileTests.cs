using System.Net;
using Experiments.Silo.Security;
using Microsoft.Extensions.Time.Testing;

namespace Experiments.Grains.Tests.Security;

/// <summary>Files that cannot be used, and files that change.</summary>
public sealed class CertificateFileTests : IDisposable
{
    private static readonly TimeSpan Look = TimeSpan.FromSeconds(5);

    private readonly FakeTimeProvider _clock = new(new DateTimeOffset(2031, 5, 1, 12, 0, 0, TimeSpan.Zero));
    private readonly TestCertificates _cluster;

    public CertificateFileTests() => _cluster = new TestCertificates(_clock);

    public static TheoryData<string, string> Faults => new()
    {
        { "no certificate", "does not exist. 'experiments certificates DIR'" },
        { "no key", "does not exist. 'experiments certificates DIR'" },
        { "no authority", "does not exist. 'experiments certificates DIR'" },
        { "a folder for a key", "cannot be read" },
        { "an empty certificate", "holds no certificate in PEM" },
        { "an empty authority", "holds no certificate in PEM" },
        { "a torn certificate", "holds a malformed certificate" },
        { "a certificate for a key", "holds no private key in PEM" },
        { "another's key", "does not hold the key of the certificate" },
        { "a torn key", "does not hold the key of the certificate" },
        { "an encrypted key", "is encrypted" },
        { "expired", "expired 2031-05-01 11:00:00Z" },
        { "too early", "is not valid before 2031-05-01 13:00:00Z" },
        { "for servers only", "is not one for clients (extended key usage clientAuth)" },
        { "for clients only", "is not one for servers (extended key usage serverAuth)" },
        { "for nothing", "is not one for servers (extended key usage serverAuth)" },
        { "another's authority", "was not signed by an authority of this cluster" },
        { "a node for an authority", "is no authority's (basic constraints)" },
        { "another name", "does not carry the name 'silo-2'" },
    };

    [Theory]
    [MemberData(nameof(Faults))]
    public void What_cannot_be_used_gets_one_line_that_names_the_file(string fault, string says)
    {
        ClusterTlsOptions node = Broken(fault);
        string message = Assert.Throws<ClusterTlsException>(() => ClusterCertificate.Load(node)).Message;
        Assert.Contains(says, message, StringComparison.Ordinal);
        Assert.Contains(_cluster.Folder, message, StringComparison.Ordinal);
        Assert.Single(message.Split('\n'));
        if (File.Exists(node.Key))
        {
            Assert.DoesNotContain(File.ReadLines(node.Key), l => l.Length > 20 && message.Contains(l, StringComparison.Ordinal));
        }
    }

    [Fact]
    public void A_good_pair_is_used_with_all_that_it_holds()
    {
        IssuedCertificate issued = _cluster.Issue();
        ClusterCertificate loaded = ClusterCertificate.Load(_cluster.Node(issued));
        Assert.True(loaded.Own.HasPrivateKey);
        Assert.Equal(issued.Serial, loaded.Own.SerialNumber);
        Assert.Equal(_cluster.Own.Subject, Assert.Single(loaded.Authorities).Subject);
    }

    [Fact]
    public async Task A_new_certificate_is_used_by_the_next_handshake_without_a_restart()
    {
        using Side peer = new(_cluster.Node());
        IssuedCertificate first = _cluster.Issue();
        IssuedCertificate second = _cluster.Issue();
        ClusterTlsOptions node = _cluster.Node(first);
        using Side renewed = new(node);
        Assert.Equal(first.Serial, await ShownToAsync(peer, renewed));

        // Kept times, as with `cp -p` or a link to another folder: only the content tells.
        DateTime written = File.GetLastWriteTimeUtc(node.Certificate);
        TestCertificates.Write(node, second);
        File.SetLastWriteTimeUtc(node.Certificate, written);
        File.SetLastWriteTimeUtc(node.Key, written);
        Assert.Equal(first.Serial, await ShownToAsync(peer, renewed));
        _clock.Advance(Look);
        Assert.Equal(second.Serial, await ShownToAsync(peer, renewed));
        Assert.Contains(second.Serial, Assert.Single(renewed.Log.All), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_broken_pair_keeps_the_present_one_and_is_said_once()
    {
        using Side peer = new(_cluster.Node());
        IssuedCertificate first = _cluster.Issue();
        IssuedCertificate second = _cluster.Issue();
        ClusterTlsOptions node = _cluster.Node(first);
        using Side renewed = new(node);

        // Half of it is written: the certificate, and not yet its key.
        await File.WriteAllTextAsync(node.Certificate, second.CertificatePem, TestContext.Current.CancellationToken);
        for (int look = 0; look < 3; look++)
        {
            _clock.Advance(Look);
        }

        Assert.Equal(first.Serial, await ShownToAsync(peer, renewed));
        string line = Assert.Single(renewed.Log.All);
        Assert.Contains("does not hold the key of the certificate", line, StringComparison.Ordinal);
        Assert.Contains(first.Serial, line, StringComparison.Ordinal);

        await File.WriteAllTextAsync(node.Key, second.KeyPem, TestContext.Current.CancellationToken);
        _clock.Advance(Look);
        Assert.Equal(second.Serial, await ShownToAsync(peer, renewed));

        // Gone, back, and gone again: the second time is news.
        for (int time = 0; time < 2; time++)
        {
            File.Delete(node.Key);
            _clock.Advance(Look);
            await File.WriteAllTextAsync(node.Key, second.KeyPem, TestContext.Current.CancellationToken);
            _clock.Advance(Look);
        }

        Assert.Equal(2, renewed.Log.All.Count(l => l.Contains("does not exist", StringComparison.Ordinal)));
        Assert.Equal(second.Serial, await ShownToAsync(peer, renewed));
    }

    [Fact]
    public async Task A_certificate_that_is_not_valid_yet_is_taken_once_it_is()
    {
        using Side peer = new(_cluster.Node());
        ClusterTlsOptions node = _cluster.Node();
        using Side renewed = new(node);
        IssuedCertificate tomorrow = _cluster.Issue(from: TimeSpan.FromMinutes(1));
        TestCertificates.Write(node, tomorrow);
        _clock.Advance(Look);
        Assert.NotEqual(tomorrow.Serial, await ShownToAsync(peer, renewed));
        _clock.Advance(TimeSpan.FromMinutes(1));
        Assert.Equal(tomorrow.Serial, await ShownToAsync(peer, renewed));
    }

    [Fact]
    public void The_end_of_a_certificate_is_announced_once()
    {
        using Side node = new(_cluster.Node(_cluster.Issue(until: TimeSpan.FromHours(10))));
        _clock.Advance(TimeSpan.FromHours(6));
        Assert.Empty(node.Log.All);
        _clock.Advance(TimeSpan.FromHours(1));
        _clock.Advance(TimeSpan.FromHours(1));
        Assert.Contains("valid until 2031-05-01 22:00:00Z only", Assert.Single(node.Log.All), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("127.0.0.1", true)]
    [InlineData("127.8.0.1", true)]
    [InlineData("::1", true)]
    [InlineData("::ffff:127.0.0.1", true)]
    [InlineData("0.0.0.0", false)]
    [InlineData("::", false)]
    [InlineData("10.0.0.5", false)]
    [InlineData("::ffff:10.0.0.5", false)]
    [InlineData("fe80::1", false)]
    public void Without_TLS_a_silo_listens_on_loopback_only(string address, bool allowed)
    {
        IPAddress bound = IPAddress.Parse(address);
        Assert.Null(ListenGuard.Refusal(bound, tls: true));
        string? refusal = ListenGuard.Refusal(bound, tls: false);
        Assert.Equal(allowed, refusal is null);
        if (!allowed)
        {
            Assert.StartsWith($"silo would listen on {address} without TLS: anyone who reaches it can call any grain. "
                + "Give --tls-certificate", refusal, StringComparison.Ordinal);
            Assert.Single(refusal!.Split('\n'));
        }
    }

    public void Dispose() => _cluster.Dispose();

    /// <summary>The serial number of what a node shows to a peer that calls it.</summary>
    private static async Task<string> ShownToAsync(Side peer, Side node)
    {
        (byte[] echo, _, _) = await Handshake.ExchangeAsync(peer, node, [7]);
        Assert.Equal([7], echo);
        string called = peer.Shown!;
        (echo, _, _) = await Handshake.ExchangeAsync(node, peer, [7]);
        Assert.Equal([7], echo);
        Assert.Equal(called, peer.Shown);
        return called;
    }

    private ClusterTlsOptions Broken(string fault)
    {
        ClusterTlsOptions node = _cluster.Node();
        ClusterAuthority other = _cluster.NewAuthority();
        string pem = File.ReadAllText(node.Certificate);
        string key = File.ReadAllText(node.Key);
        switch (fault)
        {
            case "no certificate":
                File.Delete(node.Certificate);
                break;
            case "no key":
                File.Delete(node.Key);
                break;
            case "no authority":
                File.Delete(node.Authority);
                break;
            case "a folder for a key":
                File.Delete(node.Key);
                Directory.CreateDirectory(node.Key);
                break;
            case "an empty certificate":
                File.WriteAllText(node.Certificate, "");
                break;
            case "an empty authority":
                File.WriteAllText(node.Authority, "");
                break;
            case "a torn certificate":
                File.WriteAllText(node.Certificate, pem.Replace("\nMI", "\nAA", StringComparison.Ordinal));
                break;
            case "a certificate for a key":
                File.WriteAllText(node.Key, pem);
                break;
            case "another's key":
                File.WriteAllText(node.Key, _cluster.Issue().KeyPem);
                break;
            case "a torn key":
                File.WriteAllText(node.Key, key.Replace(key[40..80], "", StringComparison.Ordinal));
                break;
            case "an encrypted key":
                File.WriteAllText(node.Key, TestCertificates.Encrypted(_cluster.Issue()));
                break;
            case "another's authority":
                File.WriteAllText(node.Authority, other.CertificatePem);
                break;
            case "a node for an authority":
                File.WriteAllText(node.Authority, pem);
                break;
            case "another name":
                return node with { RequiredName = "silo-2" };
            default:
                TestCertificates.Write(node, fault switch
                {
                    "expired" => _cluster.Issue(until: TimeSpan.FromHours(-1)),
                    "too early" => _cluster.Issue(from: TimeSpan.FromHours(1)),
                    "for servers only" => _cluster.Issue(purposes: [PeerRules.ServerPurpose]),
                    "for clients only" => _cluster.Issue(purposes: [PeerRules.ClientPurpose]),
                    "for nothing" => _cluster.Issue(purposes: []),
                    _ => throw new ArgumentException(fault),
                });
                break;
        }

        return node;
    }
}
