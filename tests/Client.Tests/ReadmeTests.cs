using System.CommandLine;
using System.CommandLine.Parsing;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Experiments.Client.Terminals;
using Experiments.Client.Tests.Driving;

namespace Experiments.Client.Tests;

/// <summary>The README says what the program does: its commands parse, its sweep file plans, its links lead somewhere.</summary>
public sealed partial class ReadmeTests
{
    internal static readonly string Root = FindRoot();

    /// <summary>The SQL that the README types.</summary>
    internal static IEnumerable<string> Queries => IndentedCommand().Matches(File.ReadAllText(Path.Combine(Root, "README.md")))
        .Select(m => CommandLineParser.SplitCommandLine(m.Groups[1].Value).ToArray())
        .Where(words => words[0] == "query")
        .Select(words => words[1]);

    public static TheoryData<string> Pages => ["README.md", "deploy/README.md", "deploy/BACKUP.md", "deploy/THREATS.md", "src/Kernels/WRITING-A-KERNEL.md"];

    [Theory]
    [MemberData(nameof(Pages))]
    public void Every_command_parses(string page)
    {
        RootCommand root = CommandTree.Build(new Terminal { Out = TextWriter.Null, Error = TextWriter.Null });
        string text = File.ReadAllText(Path.Combine(Root, page));
        string[] commands =
        [
            .. IndentedCommand().Matches(text).Select(m => m.Groups[1].Value.Split(" #")[0]),
            // In tables a verb's alternatives are escaped as \| and its arguments are in capitals.
            .. QuotedCommand().Matches(text).Select(m => m.Groups[1].Value.Replace("csv\\|json\\|parquet", "csv", StringComparison.Ordinal))
                .Select(c => c.Replace(" [TRIAL]", " 3", StringComparison.Ordinal)),
        ];
        Assert.True(page != "README.md" || commands.Length > 10, $"only {commands.Length} commands were found in {page}");
        foreach (string command in commands)
        {
            ParseResult parsed = root.Parse([.. CommandLineParser.SplitCommandLine(command)], CommandTree.Parsing);
            Assert.True(parsed.Errors.Count == 0, $"{command}: {string.Join(' ', parsed.Errors.Select(e => e.Message))}");
        }
    }

    [Fact]
    public async Task The_sweep_file_plans()
    {
        string text = await File.ReadAllTextAsync(Path.Combine(Root, "README.md"), TestContext.Current.CancellationToken);
        using TemporaryFolder folder = new();
        string file = folder.Write("sweep.yaml", SweepFileBlock().Match(text).Groups[1].Value);
        JsonNode plan = JsonNode.Parse((await Cli.RunAsync("plan", file, "--json")).Expect(ExitCode.Done).Out)!;

        // 5 n × 3 kappa × 5 repeats, each with exact, and 2 bases × 2 forms of those of 4 degrees whose rank is at most n,
        // counted here with C(d + g, g).
        int exact = 5 * 3 * 5;
        int lowRank = 0;
        foreach (int n in new[] { 256, 512, 1024, 2048, 4096 })
        {
            int d = (int)Math.Ceiling(Math.Log(n));
            lowRank += new[] { 2, 4, 6, 8 }.Count(g => Choose(d + g, g) <= n) * 4 * 3 * 5;
        }

        Assert.Equal(exact + lowRank, (int)plan["trials"]!);
    }

    [Theory]
    [MemberData(nameof(Pages))]
    public void Every_link_leads_somewhere(string page)
    {
        string folder = Path.GetDirectoryName(Path.Combine(Root, page))!;
        foreach (Match link in Link().Matches(File.ReadAllText(Path.Combine(Root, page))))
        {
            string target = link.Groups[1].Value;
            bool there = target[0] == '#'
                // A heading's anchor, as GitHub makes it: in lower case, blanks as hyphens, without punctuation.
                ? Heading().Matches(File.ReadAllText(Path.Combine(Root, page))).Any(h => target[1..] == NotInAnchor()
                    .Replace(h.Groups[1].Value.ToLowerInvariant().Replace(' ', '-'), ""))
                : target.StartsWith("https://", StringComparison.Ordinal) || Path.Exists(Path.Combine(folder, target));
            Assert.True(there, $"{page} links to {target}, which is not there.");
        }
    }

    private static double Choose(int n, int k) => Enumerable.Range(1, k).Aggregate(1.0, (c, i) => c * (n - k + i) / i);

    private static string FindRoot()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "Experiments.sln")))
        {
            folder = Path.GetDirectoryName(folder);
        }

        return folder ?? throw new InvalidOperationException("The tests run outside a checkout: no Experiments.sln above them.");
    }

    [GeneratedRegex(@"^#+ (.*)$", RegexOptions.Multiline)]
    private static partial Regex Heading();

    [GeneratedRegex("[^a-z0-9_-]")]
    private static partial Regex NotInAnchor();

    [GeneratedRegex("^    experiments (.+)$", RegexOptions.Multiline)]
    private static partial Regex IndentedCommand();

    [GeneratedRegex("^\\| `experiments ([^`]+)`", RegexOptions.Multiline)]
    private static partial Regex QuotedCommand();

    [GeneratedRegex("```yaml\n(.*?)```", RegexOptions.Singleline)]
    private static partial Regex SweepFileBlock();

    [GeneratedRegex("\\]\\(([^)#]+)\\)")]
    private static partial Regex Link();
}
