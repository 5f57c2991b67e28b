namespace Experiments.Kernels.Tests.AttentionGradient;

/// <summary>Runs the contract in processes of their own, on a lesser processor.</summary>
public sealed class VectorWidthTests
{
    public static TheoryData<string, int> Lesser => LesserProcessor.Lesser;

    [Theory]
    [MemberData(nameof(Lesser))]
    public async Task The_contract_holds_with(string setting, int bits)
    {
        (int exitCode, string output) = await ChildProcess.RunAsync(
            // The kernels that break a rule break it at any width.
            ["--filter-class", typeof(KernelContractTests).FullName!, "--filter-not-method", "*Each_rule_finds*"], LesserProcessor.Environment(setting, bits));
        Assert.True(exitCode == 0, $"{setting} gave exit code {exitCode}:\n{output}");
        Assert.True(ChildProcess.Total(output) > 20, output);
    }
}
