using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json.Nodes;
using Experiments.Client.Tests.Driving;

namespace Experiments.Client.Tests;

/// <summary>What <c>experiments certificates</c> leaves in a folder, read by the runtime's own means and not by ours.</summary>
public sealed class CertificatesTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    private string Pki => _folder.File("pki");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_first_call_makes_an_authority_and_a_node_that_it_vouches_for()
    {
        Ran ran = (await Cli.RunAsync("certificates", Pki, "--names", "silo-1, *.silos.example.org,10.0.0.5,2001:db8::5", "--days", "90"))
            .Expect(ExitCode.Done);
        Assert.Equal(["ca.crt", "ca.key", "node.crt", "node.key"], Directory.GetFiles(Pki).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        Assert.DoesNotContain("PRIVATE KEY", ran.Out, StringComparison.Ordinal);

        using X509Certificate2 authority = X509CertificateLoader.LoadCertificateFromFile(Path.Combine(Pki, "ca.crt"));
        using X509Certificate2 node = X509Certificate2.CreateFromPemFile(Path.Combine(Pki, "node.crt"), Path.Combine(Pki, "node.key"));
        X509SubjectAlternativeNameExtension names = node.Extensions.OfType<X509SubjectAlternativeNameExtension>().Single();
        Assert.Equal(["silo-1", "*.silos.example.org"], names.EnumerateDnsNames());
        Assert.Equal([IPAddress.Parse("10.0.0.5"), IPAddress.Parse("2001:db8::5")], names.EnumerateIPAddresses());
        Assert.Equal(
            ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"],
            node.Extensions.OfType<X509EnhancedKeyUsageExtension>().Single().EnhancedKeyUsages.Cast<Oid>().Select(o => o.Value));
        foreach (X509Certificate2 certificate in (X509Certificate2[])[authority, node])
        {
            Assert.Equal("1.2.840.10045.3.1.7", certificate.GetECDsaPublicKey()!.ExportParameters(false).Curve.Oid.Value);
        }

        Assert.True(authority.Extensions.OfType<X509BasicConstraintsExtension>().Single().CertificateAuthority);
        Assert.False(node.Extensions.OfType<X509BasicConstraintsExtension>().Single().CertificateAuthority);
        Assert.InRange(node.NotAfter - TimeProvider.System.GetLocalNow().DateTime, TimeSpan.FromDays(89.9), TimeSpan.FromDays(90));
        Assert.True(node.NotBefore < TimeProvider.System.GetLocalNow().DateTime);
        AssertSigned(node, authority);
    }

    [Fact]
    public async Task Keys_are_readable_by_their_owner_alone()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows(), "Windows has other means");
        (await Cli.RunAsync("certificates", Pki)).Expect(ExitCode.Done);
        (await Cli.RunAsync("certificates", Pki, "--force")).Expect(ExitCode.Done);
        foreach (string key in (string[])["ca.key", "node.key"])
        {
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, Mode(Path.Combine(Pki, key)));
        }

        Assert.Equal(
            UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute, Mode(Pki));
    }

    [Fact]
    public async Task A_nodes_key_is_replaced_only_with_force_and_the_authority_never()
    {
        (await Cli.RunAsync("certificates", Pki)).Expect(ExitCode.Done);
        Dictionary<string, string> first = Contents(Pki);
        string refusal = (await Cli.RunAsync("certificates", Pki)).ExpectRefusal(ExitCode.Invalid, 1);
        Assert.Contains("node.key' is there already. Add --force", refusal, StringComparison.Ordinal);
        Assert.Equal(first, Contents(Pki));

        Ran forced = (await Cli.RunAsync("certificates", Pki, "--force")).Expect(ExitCode.Done);
        Assert.Contains("as it was", forced.Out, StringComparison.Ordinal);
        Dictionary<string, string> second = Contents(Pki);
        Assert.Equal((first["ca.crt"], first["ca.key"]), (second["ca.crt"], second["ca.key"]));
        Assert.NotEqual(first["node.crt"], second["node.crt"]);
        Assert.NotEqual(first["node.key"], second["node.key"]);
    }

    [Fact]
    public async Task Another_nodes_folder_gets_all_it_needs_and_not_the_authoritys_key()
    {
        (await Cli.RunAsync("certificates", Pki)).Expect(ExitCode.Done);
        string other = _folder.File("silo-2");
        (await Cli.RunAsync("certificates", other, "--authority", Pki, "--names", "silo-2")).Expect(ExitCode.Done);
        Assert.Equal(["ca.crt", "node.crt", "node.key"], Contents(other).Keys.Order(StringComparer.Ordinal));
        using X509Certificate2 authority = X509CertificateLoader.LoadCertificateFromFile(Path.Combine(other, "ca.crt"));
        using X509Certificate2 node = X509Certificate2.CreateFromPemFile(Path.Combine(other, "node.crt"), Path.Combine(other, "node.key"));
        Assert.Equal(
            authority.Thumbprint, X509CertificateLoader.LoadCertificateFromFile(Path.Combine(Pki, "ca.crt")).Thumbprint);
        AssertSigned(node, authority);
    }

    [Fact]
    public async Task An_authority_with_an_RSA_key_signs_too()
    {
        Directory.CreateDirectory(Pki);
        using (RSA key = RSA.Create(2048))
        {
            CertificateRequest request = new("CN=a house's own authority", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1);
            request.CertificateExtensions.Add(new X509BasicConstraintsExtension(true, false, 0, true));
            request.CertificateExtensions.Add(new X509SubjectKeyIdentifierExtension(request.PublicKey, false));
            DateTimeOffset now = TimeProvider.System.GetUtcNow();
            using X509Certificate2 made = request.CreateSelfSigned(now.AddDays(-1), now.AddDays(100));
            await File.WriteAllTextAsync(Path.Combine(Pki, "ca.crt"), made.ExportCertificatePem(), TestContext.Current.CancellationToken);
            await File.WriteAllTextAsync(Path.Combine(Pki, "ca.key"), key.ExportPkcs8PrivateKeyPem(), TestContext.Current.CancellationToken);
        }

        string late = (await Cli.RunAsync("certificates", Pki)).ExpectRefusal(ExitCode.Invalid, 1);
        Assert.Contains("Ask for fewer days", late, StringComparison.Ordinal);
        (await Cli.RunAsync("certificates", Pki, "--days", "30")).Expect(ExitCode.Done);
        using X509Certificate2 authority = X509CertificateLoader.LoadCertificateFromFile(Path.Combine(Pki, "ca.crt"));
        using X509Certificate2 node = X509CertificateLoader.LoadCertificateFromFile(Path.Combine(Pki, "node.crt"));
        AssertSigned(node, authority);
    }

    [Theory]
    [InlineData("ca.key")]
    [InlineData("ca.crt")]
    public async Task Half_an_authority_is_refused_and_left_alone(string missing)
    {
        (await Cli.RunAsync("certificates", Pki)).Expect(ExitCode.Done);
        File.Delete(Path.Combine(Pki, missing));
        Dictionary<string, string> left = Contents(Pki);
        string refusal = (await Cli.RunAsync("certificates", Pki, "--force")).ExpectRefusal(ExitCode.Invalid, 1);
        Assert.Contains($"{missing}' is not, and nothing can be signed without it", refusal, StringComparison.Ordinal);
        Assert.Equal(left, Contents(Pki));
    }

    [Theory]
    [InlineData("--names", "silo 1")]
    [InlineData("--names", "10.0.0.300")]
    [InlineData("--names", "10.1")]
    [InlineData("--names", "-silo")]
    [InlineData("--names", "a..b")]
    [InlineData("--names", ",")]
    [InlineData("--days", "0")]
    [InlineData("--days", "3651")]
    [InlineData("--authority", "/nonexistent/pki")]
    public async Task What_makes_no_certificate_is_refused_and_writes_no_key(string option, string value)
    {
        string refusal = (await Cli.RunAsync("certificates", Pki, option, value)).ExpectRefusal(ExitCode.Invalid, 2);
        Assert.Contains(value.Trim(), refusal, StringComparison.Ordinal);
        Assert.False(File.Exists(Path.Combine(Pki, "node.key")));
        Assert.False(Directory.Exists("/nonexistent"), "the folder of an authority that is elsewhere was made");
    }

    [Fact]
    public async Task A_node_is_no_authority()
    {
        (await Cli.RunAsync("certificates", Pki)).Expect(ExitCode.Done);
        File.Copy(Path.Combine(Pki, "node.crt"), Path.Combine(Pki, "ca.crt"), overwrite: true);
        File.Copy(Path.Combine(Pki, "node.key"), Path.Combine(Pki, "ca.key"), overwrite: true);
        string refusal = (await Cli.RunAsync("certificates", Pki, "--force")).ExpectRefusal(ExitCode.Invalid, 1);
        Assert.Contains("is no authority's", refusal, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Json_says_what_the_files_hold()
    {
        Ran ran = (await Cli.RunAsync("certificates", Pki, "--names", "silo-1,10.0.0.5", "--json")).Expect(ExitCode.Done);
        JsonNode json = JsonNode.Parse(ran.Out)!;
        Assert.True((bool)json["authority"]!["made"]!);
        Assert.Equal(["silo-1", "10.0.0.5"], json["node"]!["names"]!.AsArray().Select(n => (string)n!));
        using X509Certificate2 node = X509CertificateLoader.LoadCertificateFromFile((string)json["node"]!["certificate"]!);
        Assert.Equal(node.SerialNumber, (string)json["node"]!["serial"]!);
        Assert.Equal(
            node.NotAfter.ToUniversalTime(),
            DateTimeOffset.Parse((string)json["node"]!["until"]!, System.Globalization.CultureInfo.InvariantCulture).UtcDateTime);
        Assert.True(File.Exists((string)json["node"]!["key"]!));
        Assert.False((bool)JsonNode.Parse((await Cli.RunAsync("certificates", Pki, "--force", "--json")).Expect(ExitCode.Done).Out)!
            ["authority"]!["made"]!);
    }

    private static UnixFileMode Mode(string path) => OperatingSystem.IsWindows() ? default : File.GetUnixFileMode(path);

    private static Dictionary<string, string> Contents(string folder) =>
        Directory.GetFiles(folder).ToDictionary(f => Path.GetFileName(f), File.ReadAllText);

    private static void AssertSigned(X509Certificate2 node, X509Certificate2 authority)
    {
        using X509Chain chain = new();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.Add(authority);
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        Assert.True(chain.Build(node), string.Join(", ", chain.ChainStatus.Select(s => s.StatusInformation)));
    }
}
