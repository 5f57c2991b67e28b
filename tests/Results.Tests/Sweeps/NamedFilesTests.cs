using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using Experiments.Results.Sweeps;

namespace Experiments.Results.Tests.Sweeps;

/// <summary>Axes whose words name files: what these hold is part of the instance, and goes with the sweep.</summary>
public sealed class NamedFilesTests : IDisposable
{
    private const string Text = """
        name: f
        instances: {family: sat, formula: [a.cnf, sub/b.cnf], n: [8, 16], d: 4, repeats: 2}
        kernels: {kernel: exact}
        """;

    private static readonly Catalog Catalog = TestCatalog.Catalog with
    {
        Families =
        [
            .. TestCatalog.Catalog.Families,
            new FamilyDefinition(
                "sat", "Of formulas.",
                [new AxisDefinition("formula", AxisKind.Choice, "A file.", null, double.NegativeInfinity, double.PositiveInfinity, [], null, Required: false) { IsFile = true }],
                NeedsBound: false)
            {
                Refuse = i => i.N < 8 ? $"n is {i.N} for {i.Settings["formula"]} and {i.Settings["content_formula"]}." : null,
            },
        ],
    };

    private readonly string _folder = Directory.CreateTempSubdirectory("experiments-named-").FullName;

    public NamedFilesTests()
    {
        Directory.CreateDirectory(Path.Combine(_folder, "sub"));
        File.WriteAllText(Path.Combine(_folder, "a.cnf"), "a");
        File.WriteAllText(Path.Combine(_folder, "sub", "b.cnf"), "b");
    }

    public void Dispose()
    {
        if (Directory.Exists(_folder))
        {
            Directory.Delete(_folder, recursive: true);
        }
    }

    [Fact]
    public void An_instance_knows_its_file_by_content_and_its_sweep_carries_it()
    {
        SweepSpec spec = Read(Text);
        Assert.Equal([Hash("b"), Hash("a")], spec.Files.Select(f => f.Sha256).Order());
        Assert.Equal([Path.Combine(_folder, "a.cnf"), Path.Combine(_folder, "sub/b.cnf")], spec.Files.Select(f => f.Path).Order());
        foreach (SweepSpec one in (SweepSpec[])[spec, SweepSpec.FromJson(spec.ToJson())])
        {
            Assert.Equal(spec.Hash, one.Hash);
            InstancePlan[] plans = [.. Sweeps.All(new SweepExpansion(one, Catalog))];
            Assert.Equal(8, plans.Select(p => p.Instance.Key).Distinct().Count());
            foreach (InstanceSpec instance in plans.Select(p => p.Instance))
            {
                string named = (string)instance.Settings["formula"];
                Assert.Equal(
                    new InstanceFile(Path.Combine(_folder, named), Hash(named == "a.cnf" ? "a" : "b")[..32]), Assert.Single(instance.Files));
            }
        }

        // Of a frozen sweep nobody knows whether the files still are what they were.
        Assert.Empty(SweepSpec.FromJson(spec.ToJson()).Files);
    }

    [Fact]
    public void The_key_is_of_the_content_and_not_of_the_folder()
    {
        Guid key = First(Read(Text)).Key;
        string moved = _folder + "-moved";
        Directory.Move(_folder, moved);
        try
        {
            Assert.Equal(key, First(SweepFile.Parse(Text, "test.yaml", moved, Catalog)).Key);
            File.WriteAllText(Path.Combine(moved, "a.cnf"), "changed");
            Assert.NotEqual(key, First(SweepFile.Parse(Text, "test.yaml", moved, Catalog)).Key);
        }
        finally
        {
            Directory.Move(moved, _folder);
        }
    }

    [Fact]
    public void A_family_without_a_file_names_none()
    {
        SweepSpec spec = Read("name: f\ninstances: {family: sat, n: 8, d: 4}\nkernels: {kernel: exact}\n");
        Assert.Empty(spec.Files);
        Assert.Empty(First(spec).Settings);
        Assert.Empty(First(spec).Files);
    }

    [Fact]
    public void A_sweep_is_read_again_with_what_it_carries_whatever_became_of_the_files()
    {
        SweepSpec spec = SweepSpec.FromJson(Read(Text).ToJson());
        Directory.Delete(_folder, recursive: true);
        SweepSpec longer = SweepFile.Parse(Text.Replace("[8, 16]", "[8, 16, 32]", StringComparison.Ordinal), "test.yaml", "/nowhere", Catalog, spec);
        Assert.Empty(longer.Files);
        Assert.Equal(First(spec).Key, First(longer).Key);
        Assert.Contains(
            $"formula needs the file '{Path.Combine(_folder, "c.cnf")}', and there is none.",
            Assert.Throws<SweepFileException>(() => SweepFile.Parse(Text.Replace("a.cnf", "c.cnf", StringComparison.Ordinal), "test.yaml", "/nowhere", Catalog, spec)).Message,
            StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("none.cnf", "formula needs the file '", "none.cnf', and there is none.")]
    [InlineData("sub", "formula: '", "sub' is a folder; a regular file is needed.")]
    [InlineData("empty", "formula: '", "empty' is empty, or a pipe or device; a regular file is needed: name one.")]
    [InlineData("pipe", "formula: '", "pipe' is empty, or a pipe or device; a regular file is needed: name one.")]
    [InlineData("''", "formula needs the name of a file, and has none.", "")]
    [InlineData("\"a\\0b\"", "formula needs the name of a file, and this holds a character no path may hold.", "")]
    public void What_is_no_file_is_a_fault_where_it_is_named(string named, string start, string end)
    {
        File.WriteAllText(Path.Combine(_folder, "empty"), "");
        using (Process made = Process.Start("mkfifo", [Path.Combine(_folder, "pipe")]))
        {
            made.WaitForExit();
        }

        SweepFault fault = Assert.Single(Assert.Throws<SweepFileException>(
            () => Read(Text.Replace("sub/b.cnf", named, StringComparison.Ordinal))).Faults);
        Assert.StartsWith(start, fault.Message, StringComparison.Ordinal);
        Assert.EndsWith(end, fault.Message, StringComparison.Ordinal);
        Assert.Equal((2, 43), (fault.Line, fault.Column));
    }

    [Fact]
    public void What_the_family_refuses_is_a_fault_where_the_file_is_named()
    {
        SweepFault fault = Assert.Throws<SweepFileException>(() => Read(Text.Replace("[8, 16]", "[4, 16]", StringComparison.Ordinal))).Faults[0];
        Assert.Equal($"n is 4 for a.cnf and {Hash("a")[..32]}.", fault.Message);
        Assert.Equal((2, 35), (fault.Line, fault.Column));
    }

    private SweepSpec Read(string text) => SweepFile.Parse(text, "test.yaml", _folder, Catalog);

    private static InstanceSpec First(SweepSpec spec) => new SweepExpansion(spec, Catalog).At(0)!.Instance;

    private static string Hash(string text) => Convert.ToHexStringLower(SHA256.HashData(Encoding.ASCII.GetBytes(text)));
}
