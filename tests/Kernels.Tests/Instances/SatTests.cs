using System.Numerics;
using System.Security.Cryptography;
using System.Text;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;

namespace Experiments.Kernels.Tests.Instances;

/// <summary>The reduction from satisfiability, held to the formula itself, assignment by assignment.</summary>
public sealed class SatTests(ITestOutputHelper log) : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("experiments-sat-").FullName;
    private readonly SatFamily _family = new();

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    public static TheoryData<int, int, int> Drawn => new(
        (8, 9, 1), (8, 12, 2), (9, 40, 3), (15, 12, 2), (16, 27, 3), (16, 60, 3), (33, 20, 2), (32, 34, 3), (64, 60, 3), (64, 12, 2), (100, 46, 3), (128, 12, 1));

    /// <summary>Each pair of an a_t and a b_u has the logit −β times the clauses that t and u leave unsatisfied; so the pairs at 0 are the satisfying assignments.</summary>
    [Theory]
    [MemberData(nameof(Drawn))]
    public void Every_logit_counts_the_clauses_that_an_assignment_leaves_unsatisfied(int n, int d, int width)
    {
        int satisfied = 0;
        for (ulong key = 0; key < 8; key++)
        {
            InstanceRequest request = new(n, d, null, key, Problems.Set(("width", (long)width)));
            (int v, IReadOnlyList<IReadOnlyList<int>> clauses) = new SatFamily().FormulaOf(request);
            Assert.Equal((2 * (int)Math.Log2(n / 2), d - 1), (v, clauses.Count));
            Assert.All(clauses, c => Assert.Equal(width, c.Select(Math.Abs).Distinct().Count(x => x >= 1 && x <= v)));
            satisfied += HoldLogits(_family.Draw(request), v, clauses);
        }

        log.WriteLine($"{satisfied} satisfying assignments of 8 formulas");
    }

    /// <summary>More variables than clauses use, of odd number, in one clause alone, repeated, beside their opposites; empty clauses; more rows and columns than needed.</summary>
    [Theory]
    [InlineData("p cnf 1 1\n1 0", 1)]
    [InlineData("p cnf 1 2\n1 0 -1 0", 0)]
    [InlineData("p cnf 2 4\n1 2 0 1 -2 0 -1 2 0 -1 -2 0", 0)]
    [InlineData("p cnf 3 0", 8)]
    [InlineData("p cnf 3 1\n0", 0)]
    [InlineData("p cnf 3 2\n1 -1 0 3 0", 4)]
    [InlineData("p cnf 3 2\n2 2 2 0 -3 -3 0", 2)]
    [InlineData("p cnf 5 4\n1 -2 0 2 -3 0 3 -4 0 4 -1 0", 4)]
    [InlineData("p cnf 7 5\n1 4 7 0 -1 -4 -7 0 2 5 0 -2 0 3 -6 7 0", 21)]
    [InlineData("p cnf 6 7\n1 0 -1 2 0 -2 3 0 -3 4 0 -4 5 0 -5 6 0 -6 -1 0", 0)]
    [InlineData("p cnf 6 6\n1 0 -1 2 0 -2 3 0 -3 4 0 -4 5 0 -5 6 0", 1)]
    public void A_formula_of_a_file_is_satisfied_by_as_many_assignments_as_there_are_orthogonal_pairs(string text, int assignments)
    {
        string path = Write("f.cnf", text);
        DimacsFile formula = DimacsFile.Parse(new GivenFile(path, Encoding.ASCII.GetBytes(text)));
        int v = formula.Variables, least = Math.Max(8, 2 << ((v + 1) / 2));
        foreach ((int n, int d) in ((int, int)[])[(least, formula.Clauses.Count + 1), (least + 3, formula.Clauses.Count + 1), (5 * least, formula.Clauses.Count + 4)])
        {
            AttentionProblem<double> problem = _family.Draw(Request(n, d, ("formula", path)));
            Assert.Equal(assignments, HoldLogits(problem, v, formula.Clauses));
            HoldDecision(problem, assignments > 0);
        }
    }

    [Fact]
    public void The_loss_tells_the_formulas_that_can_be_satisfied_from_those_that_cannot()
    {
        int yes = 0, no = 0;
        foreach ((int n, int d, int width) in Drawn.Select(row => row.Data))
        {
            for (ulong key = 100; key < 106; key++)
            {
                InstanceRequest request = new(n, d, null, key, Problems.Set(("width", (long)width)));
                (int v, IReadOnlyList<IReadOnlyList<int>> clauses) = new SatFamily().FormulaOf(request);
                bool satisfiable = Enumerable.Range(0, 1 << v).Any(a => Unsatisfied(clauses, a) == 0);
                AttentionProblem<double> problem = _family.Draw(request);
                HoldDecision(problem, satisfiable);
                HoldDecision(problem.With(LogitScale.SqrtD, causal: false), satisfiable);
                (yes, no) = satisfiable ? (yes + 1, no) : (yes, no + 1);
            }
        }

        log.WriteLine($"{yes} satisfiable, {no} not");
        Assert.True(yes > 20 && no > 20, $"{yes} satisfiable, {no} not");
    }

    /// <summary>The paper's algorithm with the exact oracle: φ(1) = φ(0) + ∫ 2 tr ∇L(λ I) dλ, by Gauss and Legendre on dyadic panels.</summary>
    [Theory]
    [InlineData(16, 40)]
    [InlineData(32, 20)]
    public void Gradients_along_lambda_add_up_to_the_same_answer(int n, int d)
    {
        (double At, double Weight)[] nodes =
        [
            (0.1834346424956498, 0.3626837833783620), (0.5255324099163290, 0.3137066458778873),
            (0.7966664774136267, 0.2223810344533745), (0.9602898564975363, 0.1012285362903763),
        ];
        foreach (ulong key in (ulong[])[1, 2, 3])
        {
            double sum = 0;
            for (int panel = 0; panel <= 8; panel++)
            {
                double low = panel == 0 ? 0 : Math.ScaleB(1, panel - 9), high = Math.ScaleB(1, panel - 8);
                foreach ((double at, double weight) in nodes)
                {
                    foreach (double side in (double[])[-1, 1])
                    {
                        double lambda = ((high + low) / 2) + (side * at * (high - low) / 2);
                        double[] gradient = Compute<double>(Draw(lambda), "exact").DX;
                        sum += (high - low) / 2 * weight * 2 * Enumerable.Range(0, d).Sum(k => gradient[(k * d) + k]);
                    }
                }
            }

            double start = 2 * Compute<double>(Draw(0), "exact").Loss, end = 2 * Compute<double>(Draw(1), "exact").Loss;
            log.WriteLine($"φ(0) = {start}, φ(1) = {end}, off by {start + sum - end:G3}");
            int keys = 1 << (int)Math.Log2(n / 2);
            Assert.Equal((double)keys * keys / n, start, 1e-12);
            Assert.Equal(end, start + sum, 1e-8);

            AttentionProblem<double> Draw(double lambda) => _family.Draw(new(n, d, null, key, Problems.Set(("lambda", lambda))));
        }
    }

    [Fact]
    public void The_bound_is_of_the_order_that_the_paper_says()
    {
        AttentionProblem<double> problem = _family.Draw(Request(256, 61));
        Assert.Equal(Math.Sqrt(3 * 61 * Math.Log(128)), problem.A1.Max(), 1e-12);
        Assert.Equal(-Math.Sqrt(3 * 61 * Math.Log(128)), problem.A2.Min(), 1e-12);
    }

    [Fact]
    public void Drawn_clauses_are_over_all_variables_alike_and_of_either_sign()
    {
        (int v, IReadOnlyList<IReadOnlyList<int>> clauses) = new SatFamily().FormulaOf(Request(32, 20_001));
        foreach (int variable in Enumerable.Range(1, v))
        {
            // 60000 literals over 8 variables of two signs: 3750 each, give or take 60.
            Assert.InRange(clauses.Sum(c => c.Count(l => l == variable)), 3500, 4000);
            Assert.InRange(clauses.Sum(c => c.Count(l => l == -variable)), 3500, 4000);
        }
    }

    [Theory]
    [InlineData(7, 6, "n = 7: the family sat needs an n of at least 8.")]
    [InlineData(8, 6, "has 5 variables and 4 clauses, and n = 8 and d = 6 do not hold it. Write n: 16 and d: 5, or more.")]
    [InlineData(16, 4, "has 5 variables and 4 clauses, and n = 16 and d = 4 do not hold it. Write n: 16 and d: 5, or more.")]
    public void A_formula_that_n_or_d_does_not_hold_is_a_line_that_says_which_to_write(int n, int d, string said)
    {
        InstanceRequest request = Request(n, d, ("formula", Write("f.cnf", "p cnf 5 4\n1 -2 0 2 -3 0 3 -4 0 4 -1 0")));
        Assert.EndsWith(said, Assert.Throws<ArgumentException>(() => _family.Check(request)).Message, StringComparison.Ordinal);
        Assert.EndsWith(said, Assert.Throws<ArgumentException>(() => _family.Draw(request)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void What_makes_no_sense_of_a_formula_is_refused()
    {
        string path = Write("f.cnf", "p cnf 2 1\n1 2 0"), large = Write("large.cnf", "p cnf 59 1\n1 2 0");
        Assert.Contains("leave it out where formula names a file", Refused<ArgumentException>(("formula", path), ("width", 2L)), StringComparison.Ordinal);
        Assert.Contains("heads and batch make 6 problems", Refused<ArgumentException>(("formula", path), ("heads", 2L), ("batch", 3L)), StringComparison.Ordinal);
        Assert.Contains("has 59 variables, and n would have to be 2^31; a formula may have 58 at most", Refused<ArgumentException>(("formula", large)), StringComparison.Ordinal);
        Assert.Contains("width = 5 with n = 8: clauses of different variables can have 1 to 4 literals there. Lower width, or write n: 16.",
            Assert.Throws<ArgumentException>(() => _family.Check(Request(8, 3, ("width", 5L)))).Message, StringComparison.Ordinal);
        Assert.Contains("is a folder; a file is needed", Refused<InvalidDataException>(("formula", _folder)), StringComparison.Ordinal);
        Assert.Contains("none.cnf does not exist", Refused<InvalidDataException>(("formula", "none.cnf"), ("folder", _folder)), StringComparison.Ordinal);
        Assert.Contains("is empty, or a pipe or device", Refused<InvalidDataException>(("formula", Write("empty.cnf", ""))), StringComparison.Ordinal);
        using (FileStream endless = File.Create(Path.Combine(_folder, "endless.cnf")))
        {
            endless.SetLength((65 << 20) + 1);
        }

        Assert.Contains("endless.cnf has 65 MiB; at most 64 can be read.", Refused<InvalidDataException>(("formula", Path.Combine(_folder, "endless.cnf"))), StringComparison.Ordinal);

        string Refused<T>(params (string, object)[] settings)
            where T : Exception => Assert.Throws<T>(() => _family.Draw(Request(16, 6, settings))).Message;
    }

    [Fact]
    public void The_file_that_is_read_is_the_one_that_the_sweep_was_made_of()
    {
        string text = "p cnf 2 1\n1 2 0", other = "p cnf 2 1\n1 -2 0";
        string path = Write("f.cnf", text), located = Path.Combine(_folder, "elsewhere");
        string content = Convert.ToHexStringLower(SHA256.HashData(Encoding.ASCII.GetBytes(text)).AsSpan(0, 16));
        InstanceRequest request = new(8, 2, null, 5, Problems.Set(("formula", "f.cnf"), ("folder", _folder), ("content_formula", content)));
        Assert.True(FileContents.Holds(path, content));
        double[] right = _family.Draw(request).A1;

        Write("f.cnf", other);
        File.SetLastWriteTimeUtc(path, new DateTime(2001, 2, 3, 4, 5, 6, DateTimeKind.Utc));
        Assert.False(FileContents.Holds(path, content));
        Assert.Contains($"f.cnf has changed since the sweep was made: its content is", Assert.Throws<InvalidDataException>(() => _family.Draw(request)).Message, StringComparison.Ordinal);
        File.WriteAllText(located, text);
        Assert.Equal(right, _family.Draw(request with { Located = new Dictionary<string, string> { [content] = located } }).A1);
        File.WriteAllText(located, other);
        Assert.Throws<InvalidDataException>(() => _family.Draw(request with { Located = new Dictionary<string, string> { [content] = located } }));
    }

    [Fact]
    public void A_sweep_that_does_not_know_what_a_file_held_is_told_nothing_of_it()
    {
        string path = Write("secret", "the secret");
        foreach (string content in (string[])["", new('0', 32)])
        {
            InstanceRequest request = new(8, 2, null, 5, Problems.Set(("formula", path), ("content_formula", content)));
            Assert.DoesNotContain("the secret", Assert.Throws<InvalidDataException>(() => _family.Draw(request)).Message, StringComparison.Ordinal);
            Assert.DoesNotContain("the secret", Assert.Throws<InvalidDataException>(() => _family.Check(request)).Message, StringComparison.Ordinal);
        }
    }

    private string Write(string name, string text)
    {
        string path = Path.Combine(_folder, name);
        File.WriteAllText(path, text);
        return path;
    }

    private static InstanceRequest Request(int n, int d, params (string, object)[] settings) =>
        new(n, d, null, 5, Problems.Set(settings)) { TakesAnyContent = true };

    /// <summary>How many clauses an assignment, bit i − 1 for variable i, leaves unsatisfied.</summary>
    private static int Unsatisfied(IReadOnlyList<IReadOnlyList<int>> clauses, int assignment) =>
        clauses.Count(c => !c.Any(l => (assignment >> (Math.Abs(l) - 1) & 1) != 0 == l > 0));

    /// <summary>Holds all logits to the formula and the loss to what follows from it; the number of satisfying assignments.</summary>
    private static int HoldLogits(AttentionProblem<double> problem, int v, IReadOnlyList<IReadOnlyList<int>> clauses)
    {
        int n = problem.N, first = (v + 1) / 2, rows = 1 << first, keys = 1 << (v - first);
        double beta = 3 * Math.Log(n - keys), padding = (n - keys) * Math.Exp(-beta / 2), phi = 0;
        double[] logits = Problems.Logits(problem);
        int satisfying = 0;
        for (int i = 0; i < n; i++)
        {
            double weight = 0;
            for (int j = 0; j < n; j++)
            {
                int unsatisfied = i < rows && j < keys ? Unsatisfied(clauses, i | (j << first)) : 0;
                double right = j >= keys ? i < rows ? -beta / 2 : beta / 2 : -beta * unsatisfied;
                Assert.Equal(right, logits[(i * n) + j], 1e-12 * beta * (clauses.Count + 1));
                satisfying += i < rows && j < keys && Math.Abs(logits[(i * n) + j]) < beta / 4 ? 1 : 0;
                weight += j < keys ? Math.Exp(-beta * unsatisfied) : 0;
            }

            double t = weight / (weight + (i < rows ? padding : (n - keys) * Math.Exp(beta / 2)));
            phi += t * t;
        }

        Assert.Equal(Enumerable.Range(0, 1 << v).Count(a => Unsatisfied(clauses, a) == 0), satisfying);
        Assert.Equal(phi, 2 * Compute<double>(problem, "reference").Loss, 1e-11 * (1 + phi));
        return satisfying;
    }

    /// <summary>With room to spare on either side of 1/4, in every kernel that is exact and in both precisions.</summary>
    private static void HoldDecision(AttentionProblem<double> problem, bool satisfiable)
    {
        foreach (double phi in (double[])[
            2 * Compute<double>(problem, "reference").Loss, 2 * Compute<double>(problem, "exact").Loss, 2 * Compute<float>(problem.To<float>(), "exact").Loss])
        {
            Assert.True(satisfiable ? phi > 4 / 9.0 - 1e-6 : phi < 1 / 8.0 + 1e-6, $"φ = {phi}, satisfiable: {satisfiable}");
        }
    }

    private static GradientOutput<T> Compute<T>(AttentionProblem<T> problem, string kernel)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        GradientOutput<T> output = new(problem.N, problem.D);
        BuiltIn.Kernel(kernel).Compute(problem, Settings.None, output, KernelContext.Default);
        return output;
    }
}
