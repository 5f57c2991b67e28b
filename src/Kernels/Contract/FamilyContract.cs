using System.Text.RegularExpressions;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;

namespace Experiments.Kernels.Contract;

/// <summary>What every family of instances must do; <c>experiments kernels check</c> holds a user's own to it.</summary>
public static partial class FamilyContract
{
    /// <summary>Every rule in turn, each as it is found.</summary>
    public static IEnumerable<ContractResult> Check(IInstanceFamily family, Settings settings)
    {
        ArgumentNullException.ThrowIfNull(family);
        ArgumentNullException.ThrowIfNull(settings);
        (string, Func<string>)[] rules =
        [
            ("its name and axes can stand in a sweep file", () => Names(family)),
            ("it draws the shapes asked for, of finite numbers", () => Draws(family, settings)),
            ("a request is the same bits each time, and another key other bits where it depends on the key", () => Repeats(family, settings)),
            .. family.NeedsBound
                ? (ReadOnlySpan<(string, Func<string>)>)[("it hits the bound", () => HitsBound(family, settings))]
                : [],
        ];
        foreach ((string rule, Func<string> run) in rules)
        {
            ContractResult result;
            try
            {
                result = new(rule, true, run());
            }
            catch (Exception fault) when (fault is not OutOfMemoryException)
            {
                result = new(rule, false, fault is ContractException ? fault.Message : $"it threw {fault.GetType().Name}: {fault.Message}");
            }

            yield return result;
        }
    }

    /// <summary>Holds the name and the axes to what a sweep file can say.</summary>
    public static string Names(IInstanceFamily family)
    {
        ArgumentNullException.ThrowIfNull(family);
        Require(FamilyName().IsMatch(family.Name ?? ""),
            $"its name is '{family.Name}'; lower case, digits and hyphens are needed, such as my-family");
        Require(!string.IsNullOrWhiteSpace(family.Summary), "its Summary is empty; one sentence is needed");
        KernelContract.Axes(family.Axes);
        return $"{family.Name}, {family.Axes.Count} {(family.Axes.Count == 1 ? "axis" : "axes")}";
    }

    private static string Draws(IInstanceFamily family, Settings settings)
    {
        foreach ((int n, int d) in ((int, int)[])[(16, 1), (33, 4), (256, 8)])
        {
            AttentionProblem<double> problem = family.Draw(Request(family, settings, n, d, 1));
            Require(problem.N == n && problem.D == d, $"asked for n = {n} and d = {d} it drew n = {problem.N} and d = {problem.D}");
            Require(problem.FirstNonFinite() is not string fault, $"at n = {n}, d = {d} {problem.FirstNonFinite()}");
        }

        return "three shapes";
    }

    private static string Repeats(IInstanceFamily family, Settings settings)
    {
        AttentionProblem<double> first = family.Draw(Request(family, settings, 33, 4, 7));
        AttentionProblem<double> again = family.Draw(Request(family, settings, 33, 4, 7));
        AttentionProblem<double> other = family.Draw(Request(family, settings, 33, 4, 8));
        string[] names = ["a1", "a2", "a3", "e", "x", "y"];
        double[][] one = All(first), two = All(again);
        for (int m = 0; m < names.Length; m++)
        {
            Require(one[m].AsSpan().SequenceEqual(two[m]),
                $"{names[m]} differs from one drawing of a request to the next: draw it from the request's key alone");
        }

        Require(!family.DependsOnKey || !All(other).Zip(one).All(pair => pair.First.AsSpan().SequenceEqual(pair.Second)),
            "two keys draw the same instance: draw it from the request's key");
        return "three drawings";
    }

    private static string HitsBound(IInstanceFamily family, Settings settings)
    {
        const int N = 40, D = 4;
        foreach (double bound in (double[])[0.5, 1, 3])
        {
            AttentionProblem<double> problem = family.Draw(new InstanceRequest(N, D, bound, 5, settings));
            double ofQueries = RandomProblem.Product(problem.A1, problem.X, N, D).Max(Math.Abs), ofKeys = problem.A2.Max(Math.Abs);
            Require(Math.Abs(ofQueries - bound) <= 1e-12 * bound && Math.Abs(ofKeys - bound) <= 1e-12 * bound,
                FormattableString.Invariant($"for bound {bound} the largest entry of A1 X is {ofQueries:G6} and that of A2 {ofKeys:G6}"));
        }

        return "three bounds";
    }

    private static InstanceRequest Request(IInstanceFamily family, Settings settings, int n, int d, ulong key) =>
        new(n, d, family.NeedsBound ? 1 : null, key, settings) { TakesAnyContent = true };

    private static double[][] All(AttentionProblem<double> problem) =>
        [problem.A1, problem.A2, problem.A3, problem.E, problem.X, problem.Y];

    private static void Require(bool holds, string broken)
    {
        if (!holds)
        {
            throw new ContractException(broken);
        }
    }

    [GeneratedRegex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$")]
    private static partial Regex FamilyName();
}
