using System.Diagnostics;
using System.Globalization;
using System.Net;

namespace Experiments.Cluster.Tests.Driving;

/// <summary>A network of this machine's own: a bridge, and namespaces for silos, whose cables can be cut without either end's being told.</summary>
/// <remarks>A shell waits on a pipe whose other end is ours, and takes it down when that closes, however we end. The addresses are of those that
/// RFC 2544 sets aside for trying out networks.</remarks>
internal sealed class TestNetwork : IAsyncDisposable
{
    private static int _made;

    private readonly string _name;
    private readonly string _net;
    private readonly Process? _guardian;

    private TestNetwork(string name, string net, Process? guardian, string? unavailable) =>
        (_name, _net, _guardian, Unavailable) = (name, net, guardian, unavailable);

    /// <summary>Why there is none; null when there is.</summary>
    public string? Unavailable { get; }

    /// <summary>Where this process's servers are reached.</summary>
    public string Host => $"{_net}.254";

    /// <summary>All addresses, as Postgres writes them.</summary>
    public string Range => $"{_net}.0/24";

    public static async Task<TestNetwork> MakeAsync(int members)
    {
        // Of a process's second network the first's servers know nothing.
        int made = Interlocked.Increment(ref _made);
        int number = (3 * Environment.ProcessId) + made;
        string name = string.Create(CultureInfo.InvariantCulture, $"ex{Environment.ProcessId}-{made}");
        string net = string.Create(CultureInfo.InvariantCulture, $"198.{18 + (number & 1)}.{number >> 1 & 255}");
        string take = string.Join("; ", Enumerable.Range(1, members).Select(i => $"ip netns del {name}-{i}").Append($"ip link del {name}"));
        Process guardian = Process.Start(new ProcessStartInfo("/bin/sh", ["-c", $"trap '' INT HUP TERM; read -r _; exec 2>/dev/null; {take}"])
        {
            RedirectStandardInput = true,
        })!;
        TestNetwork network = new(name, net, guardian, null);
        List<string> commands = [$"link add {name} type bridge", $"addr add {net}.254/24 dev {name}", $"link set {name} up"];
        for (int i = 1; i <= members; i++)
        {
            commands.AddRange(
            [
                $"netns add {name}-{i}", $"link add {name}v{i} type veth peer name eth0 netns {name}-{i}", $"link set {name}v{i} master {name} up",
                $"-n {name}-{i} link set lo up", $"-n {name}-{i} addr add {net}.{i}/24 dev eth0", $"-n {name}-{i} link set eth0 up",
            ]);
        }

        foreach (string command in commands)
        {
            if (await IpAsync(command) is string why)
            {
                await network.DisposeAsync();
                return new TestNetwork(name, net, null, $"no network of its own can be made here: ip {command}: {why}");
            }
        }

        return network;
    }

    public IPAddress AddressOf(int member) => IPAddress.Parse($"{_net}.{member}");

    /// <summary>What goes before a command that is to run there.</summary>
    public string[] At(int member) => ["ip", "netns", "exec", $"{_name}-{member}"];

    /// <summary>What a member sends there is lost on the way from now on.</summary>
    public Task CutAsync(int member, IPAddress there) =>
        MustAsync($"-n {_name}-{member} neigh replace {there} lladdr 02:00:00:00:00:01 dev eth0 nud permanent");

    public Task MendAsync(int member, IPAddress there) => MustAsync($"-n {_name}-{member} neigh del {there} dev eth0");

    /// <summary>A member's cable carries no more than that from now on, either way; what has waited for it for half a second is lost. Says why where
    /// the kernel has no such thing.</summary>
    public async Task<string?> SlowAsync(int member, string rate) =>
        await RunAsync("tc", $"qdisc replace dev {_name}v{member} root tbf rate {rate} burst 4kb latency 500ms")
        ?? await RunAsync("tc", $"-n {_name}-{member} qdisc replace dev eth0 root tbf rate {rate} burst 4kb latency 500ms");

    public async ValueTask DisposeAsync()
    {
        if (_guardian is not null)
        {
            _guardian.StandardInput.Close();
            await _guardian.WaitForExitAsync();
            _guardian.Dispose();
        }
    }

    private static async Task MustAsync(string command) => Assert.Null(await IpAsync(command));

    /// <summary>Null, or why not.</summary>
    private static Task<string?> IpAsync(string command) => RunAsync("ip", command);

    private static async Task<string?> RunAsync(string program, string command)
    {
        try
        {
            using Process process = Process.Start(new ProcessStartInfo(program, command.Split(' ')) { RedirectStandardError = true })!;
            string said = await process.StandardError.ReadToEndAsync();
            await process.WaitForExitAsync();
            return process.ExitCode == 0 ? null : said.Trim();
        }
        catch (System.ComponentModel.Win32Exception missing)
        {
            return missing.Message;
        }
    }
}
