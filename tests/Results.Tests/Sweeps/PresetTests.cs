using System.Diagnostics;
using Experiments.Results.Sweeps;

namespace Experiments.Results.Tests.Sweeps;

public sealed class PresetTests
{
    [Theory]
    [InlineData("quickstart", 24, 240)]
    [InlineData("genesis", 9, 0)]
    [InlineData("accuracy", 100, 0)]
    [InlineData("scaling", 42, 336)]
    public void A_preset_is_a_sweep_with_a_question(string name, int instances, int trials)
    {
        SweepSpec spec = SweepFile.Read(Path.Combine(AppContext.BaseDirectory, "Presets", name + ".yaml"), TestCatalog.Catalog);
        Assert.Equal(name, spec.Name);
        Assert.EndsWith("?", spec.Question, StringComparison.Ordinal);
        SweepForecast forecast = new SweepExpansion(spec, TestCatalog.Catalog).Forecast(new CostModel(), TestContext.Current.CancellationToken);
        TestContext.Current.SendDiagnosticMessage($"{name}: {forecast}");
        Assert.Equal(instances, forecast.Counts.Instances);
        Assert.True(trials == 0 || trials == forecast.Counts.Trials, $"{forecast}");
    }

    [Fact]
    public void Inputs_from_files_are_sliced_by_the_axes_and_named_by_their_content()
    {
        SweepSpec spec = SweepFile.Read(Path.Combine(AppContext.BaseDirectory, "Presets", "genesis.yaml"), TestCatalog.Catalog);
        InstanceSpec instance = new SweepExpansion(spec, TestCatalog.Catalog).At(1)!.Instance;
        Assert.Equal((256, 4, null), (instance.N, instance.D, instance.Bound));
        Assert.Equal("tokens[0:256, 0:4]", instance.Settings["a1"]);
        Assert.Equal("tokens[1:257, 0:4]", instance.Settings["e"]);
        Assert.Equal("identity", instance.Settings["x"]);
        Assert.True(Path.IsPathFullyQualified((string)instance.Settings["folder"]));
        Assert.Equal(32, ((string)instance.Settings["content_a1"]).Length);
        Assert.False(instance.Settings.ContainsKey("content_x"));

        SweepSpec back = SweepSpec.FromJson(spec.ToJson());
        Assert.Equal(instance.Key, new SweepExpansion(back, TestCatalog.Catalog).At(1)!.Instance.Key);
    }

    [Theory]
    [InlineData("a1: tokens[0:n, 0:d]", "n: 16385", "e: tokens[1:n+1, 0:d]", "e = tokens[1:16386, 0:4] does not lie within tokens.npy, which has shape (16385, 32)")]
    [InlineData("a1: tokens", "n: 64", "e: tokens[1:n, 0:d]", "e = tokens[1:64, 0:4] has shape (63, 4) and needs (64, 4)")]
    [InlineData("a1: tokns", "n: 64", "e: tokens", "a1 needs the file '")]
    [InlineData("a1: tokens[0:m]", "n: 64", "e: tokens", "'m' is not known here.")]
    [InlineData("a1: tokens[0]", "n: 64", "e: tokens", "'tokens[0]' needs rows and columns")]
    [InlineData("a1: README", "n: 64", "e: tokens", "is not a .npy file")]
    [InlineData("a1: fifo", "n: 64", "e: tokens", "is empty, or a pipe or device; a regular .npy file is needed")]
    public void A_slice_that_does_not_fit_is_a_fault(string a1, string n, string e, string message)
    {
        string folder = Path.Combine(AppContext.BaseDirectory, "Presets", "genesis");
        File.Copy(Path.Combine(folder, "README.md"), Path.Combine(folder, "README.npy"), overwrite: true);
        if (a1 == "a1: fifo")
        {
            // Whoever opened it would wait for ever.
            File.Delete(Path.Combine(folder, "fifo.npy"));
            using Process made = Process.Start("mkfifo", [Path.Combine(folder, "fifo.npy")]);
            made.WaitForExit();
        }

        string text = $"name: f\ninstances:\n  family: files\n  folder: Presets/genesis\n  {n}\n  d: 4\n  {a1}\n  a2: tokens\n  a3: tokens\n  {e}\nkernels: {{kernel: exact}}\n";
        SweepFault fault = Assert.Single(Assert.Throws<SweepFileException>(() => Sweeps.Read(text)).Faults);
        Assert.Contains(message, fault.Message, StringComparison.Ordinal);
        Assert.Equal(message.StartsWith("e ", StringComparison.Ordinal) ? 10 : 7, fault.Line);
    }

    [Fact]
    public void The_extent_of_files_is_read_from_them_when_no_axis_names_it()
    {
        SweepExpansion expansion = Sweeps.Expand(
            "name: f\ninstances: {family: files, folder: Presets/genesis, a1: tokens, a2: tokens, a3: tokens, e: tokens}\nkernels: {kernel: exact}\n");
        InstanceSpec instance = Assert.Single(Sweeps.All(expansion)).Instance;
        Assert.Equal((16385, 32), (instance.N, instance.D));
    }
}
