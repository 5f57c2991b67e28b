using System.Net;
using Experiments.Results.Store;

namespace Experiments.Results.Tests.Store;

public sealed class NetworkAddressTests
{
    [Theory]
    [InlineData("127.0.0.1")]
    [InlineData("0.0.0.0")]
    [InlineData("::1")]
    [InlineData("2001:db8::5")]
    public void A_whole_address_is_itself(string text)
    {
        Assert.Equal(IPAddress.Parse(text), NetworkAddress.Find(text));
        Assert.Null(NetworkAddress.Shortened(text));
        string withPort = text.Contains(':', StringComparison.Ordinal) ? $"[{text}]:8080" : $"{text}:8080";
        Assert.Equal(new IPEndPoint(IPAddress.Parse(text), 8080), NetworkAddress.FindEndPoint(withPort));
        Assert.Null(NetworkAddress.FindEndPoint(text));
    }

    [Theory]
    [InlineData("10")]
    [InlineData("10.1")]
    [InlineData("10.0.1")]
    [InlineData("0x7f000001")]
    [InlineData("010.0.0.1")]
    public void What_the_system_would_complete_is_none(string text)
    {
        Assert.True(IPAddress.TryParse(text, out _), "the system takes it, or there would be nothing to refuse");
        Assert.Null(NetworkAddress.Find(text));
        Assert.Null(NetworkAddress.FindEndPoint(text + ":8080"));
        Assert.Equal(text, NetworkAddress.Shortened(text));
        Assert.Equal(text, NetworkAddress.Shortened(text + ":6379"));
    }

    [Theory]
    [InlineData("")]
    [InlineData("localhost:80")]
    [InlineData("127.0.0.1:")]
    [InlineData("127.0.0.1:-1")]
    [InlineData("127.0.0.1: 80")]
    [InlineData("127.0.0.1:65536")]
    [InlineData("::1:8080")]
    [InlineData("[127.0.0.1]:8080")]
    [InlineData("[::1:8080")]
    public void What_is_no_address_with_a_port_is_none(string text) => Assert.Null(NetworkAddress.FindEndPoint(text));

    [Theory]
    [InlineData("redis")]
    [InlineData("redis-10.example:6379")]
    [InlineData("/var/run/postgresql")]
    public void A_name_is_nobodys_address(string host)
    {
        Assert.Null(NetworkAddress.Find(host));
        Assert.Null(NetworkAddress.Shortened(host));
    }

    [Theory]
    [InlineData("db:5433", "5433")]
    [InlineData("[::1]:x", "x")]
    [InlineData("db:", "")]
    [InlineData("db", null)]
    [InlineData("::1", null)]
    [InlineData("[::1]", null)]
    [InlineData("/tmp/a:5", null)]
    [InlineData("", null)]
    public void What_follows_a_host_is_its_port(string host, string? port) => Assert.Equal(port, NetworkAddress.PortOf(host));
}
