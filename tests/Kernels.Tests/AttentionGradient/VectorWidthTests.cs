using System.Diagnostics;
using System.Text.RegularExpressions;

namespace Experiments.Kernels.Tests.AttentionGradient;

/// <summary>Runs the contract in processes of their own, on a lesser processor.</summary>
public sealed partial class VectorWidthTests
{
    [Theory]
    [InlineData("DOTNET_EnableAVX2")]
    [InlineData("DOTNET_EnableHWIntrinsic")]
    public async Task The_contract_holds_without(string feature)
    {
        // The runner's own test may be hosted by dotnet; the executable beside the assembly is the same program.
        string executable = Path.Combine(
            AppContext.BaseDirectory, "Experiments.Kernels.Tests" + (OperatingSystem.IsWindows() ? ".exe" : ""));
        ProcessStartInfo start = new(executable)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
        };
        start.ArgumentList.Add("--filter-class");
        start.ArgumentList.Add(typeof(KernelContractTests).FullName!);
        start.ArgumentList.Add("--no-ansi");
        start.Environment[feature] = "0";
        using Process process = Process.Start(start)!;
        try
        {
            CancellationToken cancellation = TestContext.Current.CancellationToken;
            Task<string> errors = process.StandardError.ReadToEndAsync(cancellation);
            string output = await process.StandardOutput.ReadToEndAsync(cancellation);
            await process.WaitForExitAsync(cancellation);
            Assert.True(process.ExitCode == 0, $"{feature}=0 gave exit code {process.ExitCode}:\n{output}\n{await errors}");
            Match total = TotalPattern().Match(output);
            Assert.True(total.Success && int.Parse(total.Groups[1].ValueSpan) > 5, output);
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill(entireProcessTree: true);
            }
        }
    }

    [GeneratedRegex(@"total:\s*(\d+)")]
    private static partial Regex TotalPattern();
}
