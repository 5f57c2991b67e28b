using System.Diagnostics;
using Experiments.Mutations;

// Spoils the kernels in one place at a time and asks the tests of the kernels whether they notice. Half an hour; see RESULTS.md.
//   dotnet run -c Release --project tests/Mutations [-- PART-OF-A-FILE-NAME-OR-TEXT ...]
const int FuzzCases = 60;
string[] quick = ["AttentionGradient.FuzzTests", "AttentionGradient.GradientsTests", "AttentionGradient.GradientCallTests", "Numbers.ExponentialTests"];
string[] slow =
[
    "AttentionGradient.MetTargetsTests", "Numbers.DoubleDoublesTests", "AttentionGradient.AccuracyTests", "AttentionGradient.KernelContractTests", "AttentionGradient.ConductTests", "AttentionGradient.RowsInLanesTests", "AttentionGradient.LowRankGradientTests",
    "AttentionGradient.ReferenceGradientTests", "AttentionGradient.ManyTokensTests", "Polynomials.ExpPolynomialTests",
];

string? folder = Environment.CurrentDirectory;
while (folder is not null && !File.Exists(Path.Combine(folder, "Experiments.sln")))
{
    folder = Path.GetDirectoryName(folder);
}

if (folder is null)
{
    Console.Error.WriteLine("No Experiments.sln here or above: run this inside the repository.");
    return 1;
}

Mutation[] mutations = [.. Mutation.Read(Path.Combine(folder, "tests/Mutations/mutations.txt"))
    .Where(m => args.Length == 0 || args.Any(
        part => m.File.Contains(part, StringComparison.Ordinal) || m.Text.Contains(part, StringComparison.Ordinal)))];
using WorkingCopy copy = new(folder);
copy.BuildAll();
if (Found(quick.Concat(slow), TimeSpan.FromMinutes(10)) is string broken)
{
    Console.Error.WriteLine($"The kernels fail as they are: {broken}.");
    return 1;
}

int killed = 0, equivalent = 0;
List<string> survivors = [];
Console.WriteLine("| where | what becomes of it | what that would be | found by |\n| --- | --- | --- | --- |");
foreach (Mutation mutation in mutations)
{
    Stopwatch watch = Stopwatch.StartNew();
    if (!copy.Apply(mutation))
    {
        // Says nothing of the tests; the compiler's words are on standard error.
        survivors.Add($"{mutation.File}: {mutation.Text} (does not compile)");
        Console.WriteLine($"| {Path.GetFileName(mutation.File)} | {Code(mutation.Text)} → {Code(mutation.Replacement)} | {mutation.Meaning} | **does not compile** |");
        continue;
    }

    string? found = copy.Test(quick, FuzzCases, TimeSpan.FromMinutes(1)) ?? Found(slow, TimeSpan.FromMinutes(4));
    killed += found is null ? 0 : 1;
    equivalent += found is null && mutation.Equivalent is not null ? 1 : 0;
    if (found is null && mutation.Equivalent is null)
    {
        survivors.Add($"{mutation.File}: {mutation.Text}");
    }

    string verdict = found ?? (mutation.Equivalent is string why ? $"lives: {why}" : "**survives**");
    Console.WriteLine($"| {Path.GetFileName(mutation.File)} | {Code(mutation.Text)} → {Code(mutation.Replacement)} | {mutation.Meaning} | {verdict} |");
    Console.Error.WriteLine($"{watch.Elapsed.TotalSeconds:F0} s");
}

Console.WriteLine($"\n{killed} of {mutations.Length} found, {equivalent} that may live, {survivors.Count} that survive or do not compile.");
return survivors.Count == 0 ? 0 : 2;

// Between guard pages only on this processor as it is: the child's own test, without the parent.
string? Found(IEnumerable<string> classes, TimeSpan limit) =>
    copy.Test(classes, FuzzCases, limit) ?? copy.TestMethod("Guarded.GuardedCallTests.Calls_between_guard_pages", limit);

static string Code(string text) => $"`{text.Replace("|", "\\|", StringComparison.Ordinal)}`";
