using System.Numerics;
using System.Runtime.CompilerServices;

namespace Experiments.Kernels.AttentionGradient;

/// <summary>The exact answer of a sample of rows, as <see cref="ExactRows"/> computes it in double.</summary>
/// <param name="Rows">Their numbers, ascending; at least two, and the same of each problem.</param>
/// <param name="DQ">The rows of dQ, (rows, d), one matrix a problem.</param>
/// <param name="Forwards">The rows of F, (rows, d), one matrix a problem.</param>
public sealed record SampledAnswer(int[] Rows, double[][] DQ, double[][] Forwards);

/// <summary>How far a kernel's answer is from the exact one, estimated from the exact answer of a sample of its rows.</summary>
/// <remarks>
/// dX = A1ᵀ dQ, so that with the kernel's own dX' and dQ', of all rows, and S the m rows that were drawn,
///   dX' − dX = (dX' − A1ᵀ dQ') + Σ_i a1_i ⊗ (dQ'_i − dQ_i) ≈ (dX' − A1ᵀ dQ') + n/m Σ_(i ∈ S) a1_i ⊗ (dQ'_i − dQ_i).
/// The first term is computed whole: it is what the kernel's own sum, and dQ' rounded to its precision, are off by. The second is the
/// estimate of a total from paired differences, unbiased whatever dQ' is, with the standard error
///   n √((1 − m/n) s² / m), s² the sample variance of an entry's terms, 1 − m/n because rows are drawn once each.
/// The exact gradient is estimated by dX' less this. The loss goes the same way, with ½‖F'_i − E_i‖² for the terms.
///
/// The largest of d² estimates has an expectation not below the largest error, and above it where they are noisy: an error of
///   0 would be estimated at σ √(2 ln 2d²) or so, which is 3.1 σ at d = 8. So an estimate within some four standard errors says how
///   large the error is at most; beyond that it says how large it is. Nothing is subtracted for it: the sum of signed terms that
///   cancel over all rows can be smaller than any sample sees, by √(n/m).
/// A row that is far off, alone, and not drawn, is not seen by the estimate nor by its standard error.
/// Rounding  A1ᵀ dQ' is summed in double over blocks of 256 rows: below 1e-14 of the gradient an estimate is rounding.
/// Cost      O((n + m) d²) a problem.
/// Source    the difference estimator: Särndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992, 6.3.
/// </remarks>
public readonly record struct SampledErrors
{
    private const int Block = 256;

    /// <summary>The largest estimate of an entry of dX' − dX, in absolute value, over all problems; NaN where the kernel gave no
    /// dQ.</summary>
    public double Gradient { get; private init; }

    /// <summary>The standard error of that entry's estimate.</summary>
    public double GradientStandardError { get; private init; }

    /// <summary>The largest entry of the exact gradient, by the same estimate.</summary>
    public double GradientScale { get; private init; }

    /// <summary>The estimate of loss' − loss, summed over the problems, and its standard error.</summary>
    public double Loss { get; private init; }

    public double LossStandardError { get; private init; }

    /// <summary>The exact loss, by the same estimate.</summary>
    public double ExactLoss { get; private init; }

    /// <summary>‖F' − F‖∞ and ‖F‖∞ over the rows that were drawn: not more than over all.</summary>
    public double Forward { get; private init; }

    public double ForwardScale { get; private init; }

    /// <param name="problems">In double, as the exact answer saw them.</param>
    /// <param name="outputs">The kernel's, finite, with dQ asked for; one that was left NaN was not given.</param>
    public static SampledErrors Of<T>(
        IReadOnlyList<AttentionProblem<double>> problems, IReadOnlyList<GradientOutput<T>> outputs, SampledAnswer exact)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(problems);
        ArgumentNullException.ThrowIfNull(outputs);
        ArgumentNullException.ThrowIfNull(exact);
        double error = double.NegativeInfinity, standardError = 0, gradientScale = 0, loss = 0, variance = 0, exactLoss = 0, forward = 0, forwardScale = 0;
        for (int part = 0; part < problems.Count; part++)
        {
            AttentionProblem<double> problem = problems[part];
            GradientOutput<T> output = outputs[part];
            Estimate gradient = GradientErrors(problem, output, exact.Rows, exact.DQ[part]);
            for (int i = 0; i < gradient.Values.Length; i++)
            {
                // A NaN, of a kernel without dQ, stays.
                double entry = Math.Abs(gradient.Values[i]);
                if (entry > error || double.IsNaN(entry))
                {
                    (error, standardError) = (entry, gradient.StandardErrors[i]);
                }

                gradientScale = Math.Max(gradientScale, Math.Abs(double.CreateTruncating(output.DX[i]) - gradient.Values[i]));
            }

            Estimate ofLoss = LossError(problem, output, exact.Rows, exact.Forwards[part]);
            loss += ofLoss.Values[0];
            exactLoss += output.Loss - ofLoss.Values[0];
            variance += ofLoss.StandardErrors[0] * ofLoss.StandardErrors[0];
            (double off, double largest) = ForwardError(output.Forward, exact.Rows, exact.Forwards[part], problem.D);
            (forward, forwardScale) = (Math.Max(forward, off), Math.Max(forwardScale, largest));
        }

        return new()
        {
            Gradient = error,
            GradientStandardError = standardError,
            GradientScale = gradientScale,
            Loss = loss,
            LossStandardError = Math.Sqrt(variance),
            ExactLoss = exactLoss,
            Forward = forward,
            ForwardScale = forwardScale,
        };
    }

    private static Estimate GradientErrors<T>(
        AttentionProblem<double> problem, GradientOutput<T> output, int[] rows, double[] exact)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int n = problem.N, d = problem.D;
        if (output.DQ is not T[] dQ || !IsFinite<T>(dQ))
        {
            return new(Filled(d * d), Filled(d * d));
        }

        Total known = new(d * d), terms = new(d * d);
        double[] row = new double[d];
        for (int i = 0; i < n; i++)
        {
            for (int k = 0; k < d; k++)
            {
                row[k] = -double.CreateTruncating(dQ[((long)i * d) + k]);
            }

            known.AddProduct(problem.A1.AsSpan(i * d, d), row);
        }

        void Differences(Total total)
        {
            for (int s = 0; s < rows.Length; s++)
            {
                for (int k = 0; k < d; k++)
                {
                    row[k] = double.CreateTruncating(dQ[((long)rows[s] * d) + k]) - exact[((long)s * d) + k];
                }

                total.AddProduct(problem.A1.AsSpan(rows[s] * d, d), row);
            }
        }

        Differences(terms);
        double[] whole = [.. known.Sums().Zip(output.DX, (sum, entry) => sum + double.CreateTruncating(entry))];
        Total squares = terms.Squares(rows.Length);
        Differences(squares);
        return Estimate.Of(whole, terms.Sums(), squares.Sums(), rows.Length, n);
    }

    private static Estimate LossError<T>(
        AttentionProblem<double> problem, GradientOutput<T> output, int[] rows, double[] exact)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        int n = problem.N, d = problem.D;
        Total known = new(1), terms = new(1);
        double[] one = [1], term = new double[1];
        for (int i = 0; i < n; i++)
        {
            term[0] = -HalfSquare<T>(output.Forward.AsSpan(i * d, d), problem.E.AsSpan(i * d, d));
            known.AddProduct(one, term);
        }

        void Differences(Total total)
        {
            for (int s = 0; s < rows.Length; s++)
            {
                ReadOnlySpan<double> target = problem.E.AsSpan(rows[s] * d, d);
                term[0] = HalfSquare<T>(output.Forward.AsSpan(rows[s] * d, d), target)
                    - HalfSquare<double>(exact.AsSpan(s * d, d), target);
                total.AddProduct(one, term);
            }
        }

        Differences(terms);
        Total squares = terms.Squares(rows.Length);
        Differences(squares);
        return Estimate.Of([output.Loss + known.Sums()[0]], terms.Sums(), squares.Sums(), rows.Length, n);
    }

    private static double HalfSquare<T>(ReadOnlySpan<T> forward, ReadOnlySpan<double> target)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        double sum = 0;
        for (int k = 0; k < target.Length; k++)
        {
            double c = double.CreateTruncating(forward[k]) - target[k];
            sum += c * c;
        }

        return sum / 2;
    }

    private static (double Error, double Scale) ForwardError<T>(T[] forward, int[] rows, double[] exact, int d)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        double error = 0, scale = 0;
        for (int s = 0; s < rows.Length; s++)
        {
            for (int k = 0; k < d; k++)
            {
                double gold = exact[((long)s * d) + k];
                error = Math.Max(error, Math.Abs(double.CreateTruncating(forward[((long)rows[s] * d) + k]) - gold));
                scale = Math.Max(scale, Math.Abs(gold));
            }
        }

        return (error, scale);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static bool IsFinite<T>(ReadOnlySpan<T> values)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        foreach (T value in values)
        {
            if (!T.IsFinite(value))
            {
                return false;
            }
        }

        return true;
    }

    private static double[] Filled(int length)
    {
        double[] values = new double[length];
        Array.Fill(values, double.NaN);
        return values;
    }

    /// <summary>Estimates with their standard errors.</summary>
    private readonly record struct Estimate(double[] Values, double[] StandardErrors)
    {
        /// <param name="known">What is known without a sample.</param>
        /// <param name="sums">Sums of the m terms that were drawn of n.</param>
        /// <param name="squares">Sums of squares of their distances from the mean.</param>
        public static Estimate Of(double[] known, double[] sums, double[] squares, int m, int n)
        {
            double[] values = new double[sums.Length], errors = new double[sums.Length];
            for (int i = 0; i < sums.Length; i++)
            {
                values[i] = known[i] + (sums[i] * n / m);
                errors[i] = n * Math.Sqrt((1 - ((double)m / n)) * squares[i] / (m - 1.0) / m);
            }

            return new(values, errors);
        }
    }

    /// <summary>Sums of outer products of two vectors, or of the squares of their entries' distances from a mean.</summary>
    private sealed class Total(int length)
    {
        private readonly double[] _sums = new double[length], _part = new double[length];
        private readonly double[]? _means;
        private int _inPart;

        private Total(double[] means)
            : this(means.Length) => _means = means;

        /// <summary>The sums of all that was added.</summary>
        public double[] Sums()
        {
            Flush();
            return _sums;
        }

        /// <summary>For a second pass: around the means of so many terms.</summary>
        public Total Squares(int count) => new([.. Sums().Select(sum => sum / count)]);

        [MethodImpl(MethodImplOptions.AggressiveOptimization)]
        public void AddProduct(ReadOnlySpan<double> left, ReadOnlySpan<double> right)
        {
            for (int a = 0; a < left.Length; a++)
            {
                Span<double> into = _part.AsSpan(a * right.Length, right.Length);
                if (_means is null)
                {
                    for (int b = 0; b < into.Length; b++)
                    {
                        into[b] += left[a] * right[b];
                    }

                    continue;
                }

                ReadOnlySpan<double> means = _means.AsSpan(a * right.Length, right.Length);
                for (int b = 0; b < into.Length; b++)
                {
                    double distance = (left[a] * right[b]) - means[b];
                    into[b] += distance * distance;
                }
            }

            if (++_inPart == Block)
            {
                Flush();
            }
        }

        private void Flush()
        {
            for (int i = 0; i < _sums.Length; i++)
            {
                _sums[i] += _part[i];
            }

            Array.Clear(_part);
            _inPart = 0;
        }
    }
}
