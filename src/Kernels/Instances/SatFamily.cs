using System.Numerics;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Instances;

/// <summary>Satisfiability as an attention problem, the paper's lower bound: the loss exceeds 1/8 exactly where a formula can be satisfied.</summary>
/// <remarks>
/// SAT → orthogonal vectors. The v variables are split in two, ⌈v/2⌉ and ⌊v/2⌋. For each assignment t of the first part a_t[c] is 0 if t satisfies clause c
/// and 1 if not; likewise b_u for the second. So ⟨a_t, b_u⟩ is how many of the M clauses t and u together leave unsatisfied, and the orthogonal pairs are
/// the satisfying assignments.
///
/// Orthogonal vectors → attention. With P keys of padding, those that no b_u needs, β = 3 ln P, s = √(β d) and σ = √½:
///     rows of an a_t      Q = s [a_t, σ, 0…]      keys of a b_u     K = −s [b_u, 0, 0…]    V = [1, 0…]
///     the other rows      Q = s [0, −σ, 0…]       the other keys    K = −s [0, σ, 0…]      V = 0
/// The logits of an a_t are −β ⟨a_t, b_u⟩, and −β/2 for padding. A1 = Q, A2 = K, A3 = V, X = λ I, Y = I, E = 0.
///
/// Why it decides, at λ = 1, for P ≥ 4 and at least as many as rows of either part. Twice the loss is φ = Σ t_i², t_i the weight that row i gives to keys of
/// a b_u. One partner makes t_i ≥ 1 / (1 + P e^(−β/2)) = 1 / (1 + P^(−1/2)) ≥ 2/3, so φ ≥ 4/9. With none, t_i ≤ P e^(−β) / (P e^(−β/2)) = P^(−3/2), the rows of
/// padding have t_i ≤ P / (P e^(β/2)) = P^(−3/2) whatever the formula, and φ ≤ 2 / P² ≤ 1/8. The threshold is φ = 1/4. Under scale: sqrt-d the gaps only
/// widen. Under mask: causal a row cannot see all keys, and the loss decides nothing.
///
/// n and d. A formula needs n of at least 2 · 2^⌈v/2⌉, and 8, and d of at least M + 1. More rows are more padding, and more columns are zero, as of clauses
/// that always hold: neither changes what is decided. A formula that is drawn takes all that n and d leave it: v = 2 ⌊log2(n/2)⌋ and M = d − 1.
///
/// B is s or s/√2: Θ(log n) where d is. Source: Alman and Song 2024, appendix E, for the shape; the half-way padding, by which the signal does not
/// vanish with n, and the split of odd v are ours.
/// </remarks>
public sealed class SatFamily : ICheckedFamily
{
    private const int UsualWidth = 3;

    // With 2 rows of padding an unsatisfiable formula can reach φ = 0.27.
    private const int FewestRows = 8;

    // 2 · 2^30 rows are more than an n can say.
    private const int MostVariables = 58;

    private volatile Known? _last;

    public string Name => "sat";

    public string Summary => "k-SAT as attention, the lower bound's own instances: the loss exceeds 1/8 exactly where the formula can be satisfied.";

    public IReadOnlyList<Axis> Axes { get; } =
    [
        new("formula", AxisKind.Choice,
            "A DIMACS .cnf file of v variables and M clauses, which needs n ≥ 2 · 2^⌈v/2⌉ and d > M; left out, a formula is drawn, of v = 2 ⌊log2(n/2)⌋ and M = d − 1.")
        { IsFile = true },
        new("width", AxisKind.Integer, "Literals in each clause of a formula that is drawn; left out, 3.", Minimum: 1, Maximum: MostVariables),
        new("lambda", AxisKind.Real, "λ of X = λ I. The loss decides at 1; between 0 and 1 lies the path that gradients are summed along.",
            Default: 1.0, Minimum: 0, Maximum: 1),
    ];

    public bool NeedsBound => false;

    public void Check(InstanceRequest request)
    {
        if (GivenOf(request) is null)
        {
            SizesOf(request);
        }
    }

    public AttentionProblem<double> Draw(InstanceRequest request)
    {
        (int variables, IReadOnlyList<IReadOnlyList<int>> clauses) = FormulaOf(request);
        int n = request.N, d = request.D, m = clauses.Count;
        int first = (variables + 1) / 2;
        int rows = 1 << first, keys = 1 << (variables - first);
        double s = Math.Sqrt(3 * Normal.Log(n - keys) * d), sigma = Math.Sqrt(0.5);
        double[] a1 = new double[n * d], a2 = new double[n * d], a3 = new double[n * d];
        for (int t = 0; t < n; t++)
        {
            request.Cancellation.ThrowIfCancellationRequested();
            for (int c = 0; c < m; c++)
            {
                if (t < rows && !IsSatisfied(clauses[c], t, 1, first))
                {
                    a1[(t * d) + c] = s;
                }

                if (t < keys && !IsSatisfied(clauses[c], t, first + 1, variables))
                {
                    a2[(t * d) + c] = -s;
                }
            }

            a1[(t * d) + m] = t < rows ? s * sigma : -s * sigma;
            if (t < keys)
            {
                a3[t * d] = 1;
            }
            else
            {
                a2[(t * d) + m] = -s * sigma;
            }
        }

        double[] x = NpyFolder.Identity(d);
        double lambda = request.Settings.Real("lambda", 1);
        for (int k = 0; k < d; k++)
        {
            x[(k * d) + k] = lambda;
        }

        return new(n, d, a1, a2, a3, new double[n * d], x, NpyFolder.Identity(d));
    }

    /// <summary>Whether the variables from <paramref name="first"/> to <paramref name="last"/> satisfy a clause by themselves; bit 0 of
    /// <paramref name="assignment"/> is the first one's value.</summary>
    private static bool IsSatisfied(IReadOnlyList<int> clause, int assignment, int first, int last)
    {
        for (int k = 0; k < clause.Count; k++)
        {
            int variable = Math.Abs(clause[k]);
            if (variable >= first && variable <= last && ((assignment >> (variable - first)) & 1) == (clause[k] > 0 ? 1 : 0))
            {
                return true;
            }
        }

        return false;
    }

    internal (int Variables, IReadOnlyList<IReadOnlyList<int>> Clauses) FormulaOf(InstanceRequest request) =>
        GivenOf(request) is DimacsFile given ? (given.Variables, given.Clauses) : Drawn(request);

    /// <summary>Null where a formula is to be drawn.</summary>
    private DimacsFile? GivenOf(InstanceRequest request)
    {
        Draws.CheckShape(request);
        if (request.N < FewestRows)
        {
            throw new ArgumentException($"n = {request.N}: the family sat needs an n of at least {FewestRows}.");
        }

        return request.ReadFile("formula") is GivenFile file ? Fitting(request, Parsed(file)) : null;
    }

    // A formula is one for all the instances that differ in n, d or lambda.
    private DimacsFile Parsed(GivenFile file)
    {
        if (_last is not (GivenFile known, DimacsFile formula) || known.Path != file.Path || !known.Bytes.Span.SequenceEqual(file.Bytes.Span))
        {
            formula = DimacsFile.Parse(file);
            _last = new Known(file, formula);
        }

        return formula;
    }

    private static DimacsFile Fitting(InstanceRequest request, DimacsFile formula)
    {
        if (request.Settings.Has("width"))
        {
            throw new ArgumentException("width is of a formula that is drawn; leave it out where formula names a file.");
        }

        if (InstanceAxes.Parts(request.Settings) is > 1 and int parts)
        {
            throw new ArgumentException($"heads and batch make {parts} problems, and {formula.Path} gives the same one each time. Leave them out.");
        }

        int v = formula.Variables, m = formula.Clauses.Count;
        if (v > MostVariables)
        {
            throw new ArgumentException(
                $"{formula.Path} has {v} variables, and n would have to be 2^{((v + 1L) / 2) + 1}; a formula may have {MostVariables} at most.");
        }

        int rows = Math.Max(FewestRows, 2 << ((v + 1) / 2));
        return request.N >= rows && request.D > m
            ? formula
            : throw new ArgumentException(
                $"{formula.Path} has {v} variables and {m} clauses, and n = {request.N} and d = {request.D} do not hold it. Write n: {rows} and d: {m + 1}, or more.");
    }

    private static (int Variables, int Width) SizesOf(InstanceRequest request)
    {
        int v = 2 * (BitOperations.Log2((uint)request.N) - 1);
        int width = request.Settings.Integer("width", UsualWidth);
        return width >= 1 && width <= v
            ? (v, width)
            : throw new ArgumentException(
                $"width = {width} with n = {request.N}: clauses of different variables can have 1 to {v} literals there. Lower width, or write n: "
                + $"{2L << ((width + 1) / 2)}.");
    }

    private static (int Variables, IReadOnlyList<IReadOnlyList<int>> Clauses) Drawn(InstanceRequest request)
    {
        (int v, int width) = SizesOf(request);
        int[][] clauses = new int[request.D - 1][];
        int[] variables = [.. Enumerable.Range(1, v)];
        for (int c = 0; c < clauses.Length; c++)
        {
            clauses[c] = new int[width];
            for (int k = 0; k < width; k++)
            {
                // Fisher and Yates; that the order is left from the clause before makes no set of variables likelier.
                ulong index = ((ulong)c * (uint)width) + (uint)k;
                int at = k + (int)Math.BigMul(Philox.Bits(request.Key, Draws.Plan, index), (ulong)(v - k), out _);
                (variables[k], variables[at]) = (variables[at], variables[k]);
                clauses[c][k] = Philox.Bits(request.Key, Draws.Plan + 1, index) >> 63 == 0 ? variables[k] : -variables[k];
            }
        }

        return (v, clauses);
    }

    private sealed record Known(GivenFile File, DimacsFile Formula);
}
