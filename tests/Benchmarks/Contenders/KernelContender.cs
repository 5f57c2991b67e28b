using System.Globalization;
using System.Numerics;
using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Benchmarks.Contenders;

/// <summary>One of our kernels, with its settings, on a problem.</summary>
internal sealed class KernelContender<T>(KernelChoice choice, AttentionProblem<T> problem, int threads) : IContender
    where T : unmanaged, IBinaryFloatingPointIeee754<T>
{
    private readonly GradientOutput<T> _output = new(problem.N, problem.D);
    private readonly KernelContext _context = new(CancellationToken.None, threads);

    public string Name => choice.Name;

    public KernelChoice Choice => choice;

    public double PredictedExpError => _output.PredictedExpError;

    public void Prepare()
    {
    }

    public void Compute() => choice.Kernel.Compute(problem, choice.Settings, _output, _context);

    public double[] Gradient() => Array.ConvertAll(_output.DX, double.CreateTruncating);

    public void Dispose()
    {
    }
}

/// <summary>A kernel and its settings, by the names that a sweep file uses.</summary>
internal sealed record KernelChoice(IGradientKernel Kernel, Settings Settings)
{
    public bool Exact => Kernel.Name != "low-rank";

    public string Name => Kernel.Name + string.Concat(Settings.Values.Select(s => $" {s.Key} {s.Value}"));

    /// <exception cref="ArgumentException">No kernel has this name.</exception>
    public static KernelChoice Of(string name, int degree)
    {
        IGradientKernel kernel = BuiltIn.Kernel(name);
        bool takesDegree = kernel.Axes.Any(a => a.Name == "degree");
        return new(kernel, takesDegree ? new(new Dictionary<string, object> { ["degree"] = (long)degree }) : Settings.None);
    }

    /// <summary>Floating-point operations of a call by the model that shares of peak are counted in: 2 a multiply-add.</summary>
    /// <remarks>
    /// Exact: four products of length d a pair, nothing for the exponential. Low-rank, paper form: n (d + 1) (2 k' + k)
    /// multiply-adds, k = C(d + g, g), k' = C(d + g + 1, g + 1). They are the least that either method needs, so that a
    /// kernel which does more is not flattered by it.
    /// </remarks>
    public double ModelFlops(int n, int d)
    {
        if (Exact)
        {
            return 8.0 * d * n * n;
        }

        int degree = Settings.Integer("degree", 0);
        return 2.0 * n * (d + 1) * ((2 * Binomial(d + degree + 1, degree + 1)) + Binomial(d + degree, degree));
    }

    public string Model => Exact ? "4d FMA a pair" : "n(d+1)(2k'+k) FMA";

    private static double Binomial(int n, int k)
    {
        double value = 1;
        for (int i = 1; i <= k; i++)
        {
            value = value * (n - k + i) / i;
        }

        return Math.Round(value);
    }

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Name}");
}
