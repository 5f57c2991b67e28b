using System.CommandLine;
using System.Globalization;
using System.Text.Json.Nodes;
using Experiments.Client.Terminals;
using Experiments.Silo.Security;

namespace Experiments.Client.Verbs;

/// <summary>What silos need for TLS between them: an authority of the cluster's own, made once, and a certificate a node.</summary>
internal static class CertificatesVerb
{
    // What the CA/Browser Forum allowed until 2020, and Apple's systems still hold certificates of private authorities to.
    private const int DefaultDays = 825;

    private const int AuthorityDays = 3650;

    // Clocks of other machines may be behind; a certificate must not be from their future.
    private static readonly TimeSpan Backdated = TimeSpan.FromHours(1);

    public static Command Create(Terminal terminal)
    {
        Argument<string> folder = new("folder") { HelpName = "DIR", Description = "Where to: ca.crt, ca.key, node.crt, node.key" };
        Option<string> names = new("--names")
        {
            HelpName = "NAME,…", Description = "DNS names and addresses of the node; default: this machine's name, localhost, 127.0.0.1",
        };
        Option<int?> days = SweepOptions.Integer("--days", "N", $"How long the node's certificate is valid ({DefaultDays})", 1, AuthorityDays);
        Option<string> authority = new("--authority")
        {
            HelpName = "DIR", Description = "Folder of the ca.crt and ca.key that sign, when it is another; ca.crt is copied from there",
        };
        Option<bool> force = new("--force") { Description = "Replace the node's certificate and key that are there" };
        return new Verb("certificates", "Make the certificates with which the silos of a cluster know each other")
        {
            Examples =
            [
                ("experiments certificates pki", "a new authority, and a certificate for this machine"),
                ("experiments certificates silo-2 --authority pki --names silo-2,10.0.0.5",
                    "one for another node: all of that folder goes there, and ca.key stays here"),
                ("experiments certificates pki --force --days 90", "a new node's certificate; silos take it without a restart"),
            ],
            Arguments = { folder },
            Options = { names, days, authority, force, GlobalOptions.Json },
        }.Runs(terminal, invocation => RunAsync(
            invocation,
            new Place(invocation.Value(folder), invocation.Value(authority) ?? invocation.Value(folder)),
            Names(invocation.Value(names)), invocation.Value(days) ?? DefaultDays, invocation.Value(force)));
    }

    private static async Task<ExitCode> RunAsync(
        Invocation invocation, Place place, IReadOnlyList<string> names, int days, bool force)
    {
        if (!force && (File.Exists(place.NodeKey) ? place.NodeKey : File.Exists(place.Node) ? place.Node : null) is string there)
        {
            throw CommandException.Invalid($"'{there}' is there already. Add --force to replace node.crt and node.key, or name another "
                + $"folder: experiments certificates OTHER --authority {place.AuthorityFolder}");
        }

        if (!place.AuthorityElsewhere)
        {
            MakeFolder(place.AuthorityFolder);
        }

        DateTimeOffset now = invocation.Terminal.Clock.GetUtcNow();
        (ClusterAuthority authority, bool made) = await AuthorityAsync(place, now);
        using (authority)
        {
            MakeFolder(place.Folder);
            DateTimeOffset from = now - Backdated < authority.From ? authority.From : now - Backdated;
            IssuedCertificate node = authority.Issue(names, from, now.AddDays(days));
            await WriteAsync(place.NodeKey, node.KeyPem, secret: true);
            await WriteAsync(place.Node, node.CertificatePem, secret: false);
            if (place.AuthorityElsewhere)
            {
                await WriteAsync(Path.Combine(place.Folder, "ca.crt"), authority.CertificatePem + "\n", secret: false);
            }

            Report(invocation, place, names, node, authority, made);
        }

        return ExitCode.Done;
    }

    /// <summary>The authority of the folder, made when there is none: whatever signed the other nodes is never replaced.</summary>
    private static async Task<(ClusterAuthority Authority, bool Made)> AuthorityAsync(Place place, DateTimeOffset now)
    {
        bool certificate = File.Exists(place.Authority);
        bool key = File.Exists(place.AuthorityKey);
        if (certificate && key)
        {
            return (ClusterAuthority.Load(place.Authority, place.AuthorityKey), false);
        }

        if (certificate || key)
        {
            throw CommandException.Invalid($"'{(certificate ? place.Authority : place.AuthorityKey)}' is there, but "
                + $"'{(certificate ? place.AuthorityKey : place.Authority)}' is not, and nothing can be signed without it. Name the folder that "
                + "has both: --authority DIR");
        }

        if (place.AuthorityElsewhere)
        {
            throw CommandException.Invalid($"--authority '{place.AuthorityFolder}' has no ca.crt and ca.key. "
                + $"'experiments certificates {place.AuthorityFolder}' makes them.");
        }

        ClusterAuthority made = ClusterAuthority.Create(now - Backdated, now.AddDays(AuthorityDays));
        await WriteAsync(place.AuthorityKey, made.ExportKeyPem() + "\n", secret: true);
        await WriteAsync(place.Authority, made.CertificatePem + "\n", secret: false);
        return (made, true);
    }

    private static void Report(
        Invocation invocation, Place place, IReadOnlyList<string> names, IssuedCertificate node, ClusterAuthority authority, bool made)
    {
        if (invocation.Json)
        {
            JsonOutput.Write(invocation.Terminal.Out, new JsonObject
            {
                ["authority"] = new JsonObject
                {
                    ["certificate"] = place.Authority,
                    ["key"] = place.AuthorityKey,
                    ["made"] = made,
                    ["subject"] = authority.Subject,
                    ["until"] = JsonOutput.Time(authority.Until),
                },
                ["node"] = new JsonObject
                {
                    ["certificate"] = place.Node,
                    ["key"] = place.NodeKey,
                    ["names"] = new JsonArray([.. names.Select(n => JsonValue.Create(n))]),
                    ["serial"] = node.Serial,
                    ["from"] = JsonOutput.Time(node.From),
                    ["until"] = JsonOutput.Time(node.Until),
                },
            });
            return;
        }

        TextWriter output = invocation.Terminal.Out;
        output.WriteLine($"authority  {place.Authority}, {(made ? "made now" : "as it was")}, valid until {Day(authority.Until)}");
        output.WriteLine($"node       {place.Node} and {Path.GetFileName(place.NodeKey)} for {string.Join(", ", names)}, "
            + $"valid until {Day(node.Until)}");
        output.WriteLine("A silo needs node.crt, node.key and ca.crt. Whoever has ca.key can join the cluster: keep it off the silos.");
    }

    private static string Day(DateTimeOffset time) => time.UtcDateTime.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture);

    private static List<string> Names(string? typed)
    {
        List<string> names = typed is null
            ? [.. ((string[])[Environment.MachineName, "localhost", "127.0.0.1"]).Where(ClusterAuthority.IsName)]
            : [.. typed.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Distinct(StringComparer.OrdinalIgnoreCase)];
        if (names.Count == 0)
        {
            throw CommandException.Invalid($"--names is '{typed}'; DNS names or addresses are needed, such as silo-1,10.0.0.5.");
        }

        return names.FirstOrDefault(n => !ClusterAuthority.IsName(n)) is not string wrong
            ? names
            : throw CommandException.Invalid($"--names: '{wrong}' is neither a DNS name nor an address. Such as silo-1,10.0.0.5 is needed.");
    }

    private static void MakeFolder(string folder)
    {
        try
        {
            // The owner's alone when it is made here; a folder that is there keeps its rights.
            if (OperatingSystem.IsWindows())
            {
                Directory.CreateDirectory(folder);
            }
            else
            {
                Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
            }
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            throw CommandException.Invalid($"The folder '{folder}' cannot be made: {fault.Message}", fault);
        }
    }

    private static Task WriteAsync(string path, string text, bool secret) => AtomicFile.WriteAsync(path, "DIR", async temporary =>
    {
        FileStreamOptions options = new() { Mode = FileMode.CreateNew, Access = FileAccess.Write };
        if (!OperatingSystem.IsWindows())
        {
            const UnixFileMode Owner = UnixFileMode.UserRead | UnixFileMode.UserWrite;
            // From its first byte: a key that is closed to others only afterwards was open for a moment.
            options.UnixCreateMode = secret ? Owner : Owner | UnixFileMode.GroupRead | UnixFileMode.OtherRead;
        }

        await using StreamWriter writer = new(temporary, options);
        await writer.WriteAsync(text);
    });

    private sealed record Place(string Folder, string AuthorityFolder)
    {
        public string Node => Path.Combine(Folder, "node.crt");

        public string NodeKey => Path.Combine(Folder, "node.key");

        public string Authority => Path.Combine(AuthorityFolder, "ca.crt");

        public string AuthorityKey => Path.Combine(AuthorityFolder, "ca.key");

        public bool AuthorityElsewhere => Path.GetFullPath(Folder) != Path.GetFullPath(AuthorityFolder);
    }
}
