using System.CommandLine;
using System.Text;
using System.Text.Json.Nodes;
using Experiments.Client.Terminals;
using Experiments.Client.Tests.Driving;
using Experiments.Grains;
using Experiments.Results.Sweeps;

namespace Experiments.Client.Tests;

public sealed class CommandLineTests
{
    public static TheoryData<string> EveryVerb => [.. Verbs(Tree(), "").Select(v => v.Path)];

    [Theory]
    [MemberData(nameof(EveryVerb))]
    public async Task Every_verb_explains_itself_with_examples(string path)
    {
        Ran ran = await Cli.RunAsync([.. path.Split(' '), "--help"]);
        ran.Expect(ExitCode.Done);
        Assert.Contains("Usage:", ran.Out, StringComparison.Ordinal);
        Assert.Contains("Examples:", ran.Out, StringComparison.Ordinal);
        Assert.Equal("", ran.Error);
    }

    [Theory]
    [MemberData(nameof(EveryVerb))]
    public void Every_example_of_the_help_parses(string path)
    {
        RootCommand root = Tree();
        Verb verb = Verbs(root, "").Single(v => v.Path == path).Verb;
        foreach ((string line, string does) in verb.Examples)
        {
            string[] words = Words(line);
            Assert.Equal("experiments", words[0]);
            Assert.NotEmpty(does);
            ParseResult parsed = root.Parse(words[1..], CommandTree.Parsing);
            Assert.True(parsed.Errors.Count == 0, $"{line}: {string.Join(' ', parsed.Errors.Select(e => e.Message))}");
            Assert.Same(path.Split(' ')[0] is "database" or "cluster" ? parsed.CommandResult.Command : verb, parsed.CommandResult.Command);
        }
    }

    [Fact]
    public void Every_verb_of_the_contract_is_there()
    {
        string[] names = [.. Tree().Subcommands.Where(c => !c.Hidden).Select(c => c.Name).Order(StringComparer.Ordinal)];
        Assert.Equal(
            ["cancel", "certificates", "cluster", "completion", "database", "doctor", "export", "extend", "gradient", "import", "kernels", "list", "plan", "query",
                "resume", "retry", "run", "show", "silo", "submit", "trace", "watch"], names);
    }

    [Fact]
    public void Every_verb_that_lists_something_has_json()
    {
        foreach ((string path, Verb verb) in Verbs(Tree(), "").Where(v => v.Path is not "completion" and not "export" and not "database reset" and not "silo"))
        {
            Assert.True(verb.Options.Contains(GlobalOptions.Json), path);
        }
    }

    [Theory]
    [InlineData("rnu", "'run'")]
    [InlineData("gradiant", "'gradient'")]
    [InlineData("exprot", "'export'")]
    public async Task A_mistyped_verb_gets_the_nearest(string typed, string nearest)
    {
        string error = (await Cli.RunAsync(typed)).ExpectRefusal(ExitCode.Invalid);
        Assert.Contains($"'{typed}'", error, StringComparison.Ordinal);
        Assert.Contains($"Did you mean {nearest}?", error, StringComparison.Ordinal);
    }

    /// <summary>The changed text has other lines than the file, and nobody sees it.</summary>
    [Fact]
    public async Task A_fault_beside_set_is_told_where_it_comes_from()
    {
        using TemporaryFolder folder = new();
        string file = Path.Combine(folder.Path, "sweep.yaml");
        await File.WriteAllTextAsync(file, """
            # A line that the changed text lacks.

            name: told
            instances:
              family: uniform
              # Another.
              n: {pow2: [6, 8]}
              d: 4
              bund: 1
            kernels:
              - {kernel: exact,   presision: float32}
              - {kernel: low-rank, degree: 2}
            """, TestContext.Current.CancellationToken);
        string error = (await Cli.RunAsync("plan", file, "--set", "instances.d=[4,0]", "--set", "kernels.1.degre=4", "--set", "instances.n.pow2=[6,x]"))
            .ExpectRefusal(ExitCode.Invalid, 5);
        string[] begun =
        [
            "--set 'instances.n.pow2=[6,x]': ", "--set 'instances.d=[4,0]': d is 0 ", $"{file}:9:3: 'bund' ", $"{file}:11:", "--set 'kernels.1.degre=4': 'degre' ",
        ];
        string[] lines = error.Split('\n');
        Assert.Equal(begun.Length, lines.Length);
        Assert.All(lines.Zip(begun), l => Assert.StartsWith(l.Second, l.First, StringComparison.Ordinal));
        Assert.Contains("'presision'", lines[3], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("measure.ronds=3", "--set 'measure.ronds=3': 'ronds' ")]
    [InlineData("measure={ronds: 3}", "--set 'measure={ronds: 3}': 'ronds' ")]
    [InlineData("kernels.0={kernel: exakt}", "--set 'kernels.0={kernel: exakt}': kernel is 'exakt' ")]
    [InlineData("instances.d.pow2.0=x", "--set 'instances.d.pow2.0=x': ")]
    public async Task A_fault_of_a_block_that_was_set_is_told_of_the_set(string set, string begun)
    {
        using TemporaryFolder folder = new();
        string file = Path.Combine(folder.Path, "sweep.yaml");
        await File.WriteAllTextAsync(file, """
            name: told
            instances: {family: uniform, n: 64, d: {pow2: [2, 3]}, bound: 1}
            kernels: [{kernel: exact}]
            """, TestContext.Current.CancellationToken);
        string error = (await Cli.RunAsync("plan", file, "--set", set)).ExpectRefusal(ExitCode.Invalid, 1);
        Assert.StartsWith(begun, error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("kernels: &all [{kernel: exact}, *all]", ":4:33: ", "'&all' would hold itself")]
    [InlineData("kernels: [{kernel: exact}]\n---\nname: other", ":6:1: ", "A second document")]
    public async Task A_file_of_more_than_a_tree_takes_set(string rest, string place, string what)
    {
        using TemporaryFolder folder = new();
        string file = Path.Combine(folder.Path, "sweep.yaml");
        await File.WriteAllTextAsync(
            file, $"# One line.\nname: told\ninstances: {{family: uniform, n: 64, d: 4, bound: 1}}\n{rest}\n", TestContext.Current.CancellationToken);
        string error = (await Cli.RunAsync("plan", file, "--set", "instances.d=8")).ExpectRefusal(ExitCode.Invalid, 1);
        Assert.StartsWith(file + place, error, StringComparison.Ordinal);
        Assert.Contains(what, error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task An_anchor_that_is_given_again_stays_what_it_is_beside_set()
    {
        using TemporaryFolder folder = new();
        string file = Path.Combine(folder.Path, "sweep.yaml");
        await File.WriteAllTextAsync(file, """
            name: told
            instances:
              - family: uniform
                n: &a 16
                d: &b 2
                bound: 1
              - family: uniform
                n: *a
                d: &a 4
                bound: 1
              - family: uniform
                n: 64
                d: *a
                bound: 1
            kernels: [{kernel: exact}]
            """, TestContext.Current.CancellationToken);
        SweepSource changed = SweepSource.Find(file, ["seed=1", "kernels.0.threads=&b 1"]);
        Assert.Equal([(16, 2), (16, 4), (64, 4)], Sizes(SweepSource.Find(file, [])));
        Assert.Equal([(16, 2), (16, 4), (64, 4)], Sizes(changed));

        static (int, int)[] Sizes(SweepSource source)
        {
            Catalog catalog = BuiltInCatalog.Create();
            SweepExpansion expansion = new(source.Parse(catalog), catalog);
            return [.. Enumerable.Range(0, (int)expansion.ProductSize).Select(i => expansion.At(i)!.Instance).Select(i => (i.N, i.D))];
        }
    }

    [Fact]
    public async Task A_mistyped_option_gets_the_nearest()
    {
        string error = (await Cli.RunAsync("plan", "x.yaml", "--jsno")).ExpectRefusal(ExitCode.Invalid);
        Assert.Contains("Did you mean '--json'?", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_mistyped_option_in_front_of_the_arguments_is_told_and_no_more()
    {
        string error = (await Cli.RunAsync("run", "--lans", "3", "quickstart")).ExpectRefusal(ExitCode.Invalid);
        Assert.Equal("'experiments run' has no option '--lans'. Did you mean '--lanes'?\nHelp: experiments run --help", error.ReplaceLineEndings("\n"));
    }

    [Fact]
    public async Task A_mistyped_options_value_is_no_second_fault()
    {
        string error = (await Cli.RunAsync("run", "quickstart", "--lane", "3")).ExpectRefusal(ExitCode.Invalid);
        Assert.Equal("'experiments run' has no option '--lane'. Did you mean '--lanes'?\nHelp: experiments run --help", error.ReplaceLineEndings("\n"));
        string two = (await Cli.RunAsync("show", "1", "2", "--jsno")).ExpectRefusal(ExitCode.Invalid, 4);
        Assert.Contains("has no use for '2'", two, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("plan")]
    [InlineData("gradient")]
    [InlineData("query")]
    [InlineData("export")]
    [InlineData("trace", "last", "minus-one")]
    [InlineData("run", "x.yaml", "--lanes", "none")]
    [InlineData("run", "x.yaml", "--lanes", "0")]
    [InlineData("run", "x.yaml", "--priority", "101")]
    [InlineData("submit", "x.yaml", "--priority", "-101")]
    [InlineData("resume", "1", "--priority", "high")]
    [InlineData("list", "--limit", "-3")]
    [InlineData("list", "--state", "finished")]
    [InlineData("export", "1", "--format", "xml")]
    [InlineData("completion", "tcsh")]
    [InlineData("show", "1", "2")]
    [InlineData()]
    public async Task A_bad_command_line_gets_a_line_or_two(params string[] args)
    {
        string error = (await Cli.RunAsync(args)).ExpectRefusal(ExitCode.Invalid, 4);
        Assert.Contains("--help", error, StringComparison.Ordinal);
        Assert.DoesNotContain("System.", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Response_files_are_off_so_that_a_query_may_begin_with_an_at_sign()
    {
        ParseResult parsed = Tree().Parse(["query", "@nosuchfile"], CommandTree.Parsing);
        Assert.Empty(parsed.Errors);
        await Task.CompletedTask;
    }

    [Theory]
    [InlineData("bash", "complete -o default")]
    [InlineData("zsh", "compdef")]
    [InlineData("fish", "complete -c experiments")]
    [InlineData("powershell", "Register-ArgumentCompleter")]
    public async Task Completion_scripts_are_printed(string shell, string marker)
    {
        Ran ran = (await Cli.RunAsync("completion", shell)).Expect(ExitCode.Done);
        Assert.Contains(marker, ran.Out, StringComparison.Ordinal);
        Assert.Contains("[suggest:", ran.Out, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("experiments ru", "run")]
    [InlineData("experiments gradient --ker", "--kernel")]
    [InlineData("experiments gradient --kernel lo", "low-rank")]
    public async Task Completion_suggests(string line, string expected)
    {
        Ran ran = (await Cli.RunAsync($"[suggest:{line.Length}]", line)).Expect(ExitCode.Done);
        Assert.Contains(expected, ran.Out.Split('\n').Select(l => l.Trim()));
    }

    [Fact]
    public async Task The_version_is_one_line()
    {
        Ran ran = (await Cli.RunAsync("--version")).Expect(ExitCode.Done);
        Assert.Single(ran.Out.Trim().Split('\n'));
    }

    [Fact]
    public async Task Kernels_are_listed_for_people_and_programs()
    {
        Ran text = (await Cli.RunAsync("kernels")).Expect(ExitCode.Done);
        Ran json = (await Cli.RunAsync("kernels", "--json")).Expect(ExitCode.Done);
        JsonNode node = JsonNode.Parse(json.Out)!;
        foreach (string name in (string[])["exact", "low-rank", "reference"])
        {
            Assert.Contains(name, text.Out, StringComparison.Ordinal);
            Assert.Contains(node["kernels"]!.AsArray(), k => (string)k!["name"]! == name);
        }

        foreach (string name in (string[])["uniform", "gaussian", "corner", "planted", "sat", "files"])
        {
            Assert.Contains(name, text.Out, StringComparison.Ordinal);
            Assert.Contains(node["families"]!.AsArray(), f => (string)f!["name"]! == name);
        }

        JsonNode degree = node["kernels"]!.AsArray().Single(k => (string)k!["name"]! == "low-rank")!["axes"]!.AsArray()
            .Single(a => (string)a!["name"]! == "degree")!;
        Assert.Equal("integer", (string)degree["kind"]!);
        Assert.True((bool)degree["required"]!);
    }

    private static RootCommand Tree() => CommandTree.Build(new Terminal { Out = TextWriter.Null, Error = TextWriter.Null });

    private static IEnumerable<(string Path, Verb Verb)> Verbs(Command parent, string path)
    {
        foreach (Verb verb in parent.Subcommands.OfType<Verb>().Where(v => !v.Hidden))
        {
            string here = path.Length == 0 ? verb.Name : $"{path} {verb.Name}";
            yield return (here, verb);
            foreach ((string Path, Verb Verb) below in Verbs(verb, here))
            {
                yield return below;
            }
        }
    }

    // As a shell splits: quotes hold words together; a pipe or a redirection ends the command.
    private static string[] Words(string line)
    {
        List<string> words = [];
        StringBuilder word = new();
        bool quoted = false;
        foreach (char c in line + " ")
        {
            if (c == '"')
            {
                quoted = !quoted;
            }
            else if (c == ' ' && !quoted)
            {
                if (word.Length > 0)
                {
                    words.Add(word.ToString());
                }

                word.Clear();
            }
            else
            {
                word.Append(c);
            }
        }

        int end = words.FindIndex(w => w is "|" or ">" or ">>");
        return [.. end < 0 ? words : words[..end]];
    }
}
