using System.Numerics;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Contract;

namespace Experiments.Kernels.Tests.AttentionGradient;

/// <summary>The suite that <see cref="VectorWidthTests"/> runs again with narrower vectors and without any.</summary>
public sealed class KernelContractTests
{
    private static readonly double[] AnyLogit = [1e-3, 1, 30, 1e4];

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    [Fact]
    public void Vectors_are_as_wide_as_was_asked() => LesserProcessor.AssertWidth();

    [Theory]
    [InlineData("exact")]
    [InlineData("reference")]
    public void A_kernel_is_as_good_as_plain_code_in_float64(string kernel) =>
        KernelContract.Exact<double>(BuiltIn.Kernel(kernel), Settings.None, AnyLogit, kernel == "exact" ? 30 : 10, Stop);

    [Theory]
    [InlineData("exact")]
    [InlineData("reference")]
    public void A_kernel_is_as_good_as_plain_code_in_float32(string kernel) =>
        KernelContract.Exact<float>(BuiltIn.Kernel(kernel), Settings.None, AnyLogit, kernel == "exact" ? 30 : 10, Stop);

    [Fact]
    public void Low_rank_of_a_high_degree_is_as_good_as_plain_code_where_logits_are_small()
    {
        Settings settings = Problems.Set(("degree", 4L), ("basis", "minimax"));
        KernelContract.Exact<float>(BuiltIn.Kernel("low-rank"), settings, [1e-3, 1e-2], 20, Stop);
        KernelContract.Exact<double>(BuiltIn.Kernel("low-rank"), settings, [1e-5, 1e-4], 20, Stop);
    }

    [Theory]
    [InlineData(1, "taylor", "paper")]
    [InlineData(4, "taylor", "paper")]
    [InlineData(4, "taylor", "reverse")]
    [InlineData(3, "minimax", "paper")]
    [InlineData(4, "minimax", "reverse")]
    [InlineData(6, "minimax", "paper")]
    [InlineData(3, "chebyshev", "paper")]
    [InlineData(4, "chebyshev", "reverse")]
    [InlineData(3, "hermite", "paper")]
    [InlineData(4, "hermite", "reverse")]
    [InlineData(4, "least-squares", "paper")]
    [InlineData(3, "least-squares", "reverse")]
    public void Low_rank_is_the_polynomial_on_dense_logits(int degree, string basis, string form)
    {
        PolynomialContract.Polynomial<double>(degree, basis, form, 0.5, 12);
        PolynomialContract.Polynomial<float>(degree, basis, form, 0.5, 12);
    }

    public static TheoryData<string> BuiltIns => [.. BuiltIn.Kernels.Select(k => k.Name)];

    [Theory]
    [MemberData(nameof(BuiltIns))]
    public void Every_rule_holds_for_every_kernel(string name)
    {
        IGradientKernel kernel = BuiltIn.Kernel(name);
        Settings settings = KernelContract.Usual(kernel.Axes, new Dictionary<string, object>());

        foreach (ContractResult result in KernelContract.Check(
            kernel, settings, TimeSpan.FromMinutes(2), Stop))
        {
            Assert.True(result.Holds, $"{name}: {result.Rule}: {result.Detail}");
        }
    }

    [Fact]
    public void The_contract_rejects_a_kernel_with_one_entry_a_thousandth_off()
    {
        Assert.Throws<ContractException>(() => KernelContract.Exact<double>(new Canary(), Settings.None, [1], 10, Stop));
        Assert.Throws<ContractException>(() => KernelContract.Exact<float>(new Canary(), Settings.None, [1], 10, Stop));
    }

    [Theory]
    [InlineData(Fault.AThousandthOff, "it is exact in float64, as it claims")]
    [InlineData(Fault.AThousandthOffInKeys, "it is exact in float64, as it claims")]
    [InlineData(Fault.AThousandthOffInValues, "it is exact in float32, as it claims")]
    [InlineData(Fault.AThousandthOffInY, "it is exact in float64, as it claims")]
    [InlineData(Fault.OtherLoss, "it is exact in float64, as it claims")]
    [InlineData(Fault.BadName, "its name and axes can stand in a sweep file")]
    [InlineData(Fault.NoPrediction, "it predicts its cost")]
    [InlineData(Fault.RemembersCalls, "it repeats its bits, writes all of its output and none of its input")]
    [InlineData(Fault.AddsToOutput, "it repeats its bits, writes all of its output and none of its input")]
    [InlineData(Fault.LeavesKeys, "it repeats its bits, writes all of its output and none of its input")]
    [InlineData(Fault.WritesInput, "it repeats its bits, writes all of its output and none of its input")]
    [InlineData(Fault.ThreadBits, "its bits do not depend on the number of threads")]
    [InlineData(Fault.ThreadBitsOfKeys, "its bits do not depend on the number of threads")]
    [InlineData(Fault.LetsNaNOut, "it answers NaN and infinity with a KernelFailure")]
    [InlineData(Fault.LetsOverflowOut, "it answers overflow with a KernelFailure")]
    [InlineData(Fault.NeverStops, "it stops when it is cancelled")]
    public void Each_rule_finds_the_kernel_that_breaks_it(Fault fault, string rule)
    {
        ContractResult[] broken = [.. KernelContract.Check(
            new Canary(fault), Settings.None, TimeSpan.FromMinutes(2), Stop).Where(r => !r.Holds)];
        Assert.Contains(rule, broken.Select(r => r.Rule));
        Assert.All(broken, r => Assert.False(string.IsNullOrWhiteSpace(r.Detail)));
    }

    public enum Fault
    {
        AThousandthOff,
        AThousandthOffInKeys,
        AThousandthOffInValues,
        AThousandthOffInY,
        OtherLoss,
        BadName,
        NoPrediction,
        RemembersCalls,
        AddsToOutput,
        LeavesKeys,
        WritesInput,
        ThreadBits,
        ThreadBitsOfKeys,
        LetsNaNOut,
        LetsOverflowOut,
        NeverStops,
    }

    /// <summary>Exact but for one fault: kept so that the contract is known to bite.</summary>
    private sealed class Canary(Fault fault = Fault.AThousandthOff) : IGradientKernel
    {
        private int _calls;

        public string Name => fault == Fault.BadName ? "My Canary" : "canary";

        public string Summary => "Wrong on purpose.";

        public IReadOnlyList<Axis> Axes => [];

        public bool IsExact => true;

        public bool GivesAll =>
            fault is Fault.LeavesKeys or Fault.AThousandthOffInKeys or Fault.AThousandthOffInValues or Fault.AThousandthOffInY;

        public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings) =>
            fault == Fault.NoPrediction ? default : new((double)n * n * d, 1, null);

        public void Compute<T>(
            AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            // A shape too large to be waited for; a kernel that does not look at the token cannot tell.
            bool large = fault == Fault.NeverStops && problem.N > 1000;
            if (large)
            {
                Array.Clear(output.DX);
                return;
            }

            T[] before = [.. output.DX], keysBefore = [.. output.DK ?? []];
            try
            {
                new ExactGradient().Compute(problem, settings, output, context);
            }
            catch (KernelFailure) when (fault == Fault.LetsNaNOut || (fault == Fault.LetsOverflowOut && problem.FirstNonFinite() is null))
            {
                Array.Clear(output.DX);
                return;
            }

            T[] spoilt = fault switch
            {
                Fault.AThousandthOffInKeys => output.DK ?? output.DX,
                Fault.AThousandthOffInValues => output.DV ?? output.DX,
                Fault.AThousandthOffInY => output.DY,
                _ => output.DX,
            };
            int largest = 0;
            for (int i = 0; i < spoilt.Length; i++)
            {
                largest = T.Abs(spoilt[i]) > T.Abs(spoilt[largest]) ? i : largest;
            }

            ref T entry = ref spoilt[largest];
            switch (fault)
            {
                case Fault.AThousandthOff:
                case Fault.AThousandthOffInKeys:
                case Fault.AThousandthOffInValues:
                case Fault.AThousandthOffInY:
                    entry *= T.CreateTruncating(1.001);
                    break;
                case Fault.OtherLoss:
                    output.Loss *= 2;
                    break;
                case Fault.RemembersCalls:
                    entry += T.CreateTruncating(_calls++);
                    break;
                case Fault.AddsToOutput:
                    entry += before[largest];
                    break;
                case Fault.LeavesKeys when output.DK is T[] keys:
                    keysBefore.CopyTo(keys, 0);
                    break;
                case Fault.WritesInput:
                    problem.E[0] += T.One;
                    break;
                case Fault.ThreadBits:
                    entry = T.BitIncrement(entry) * T.CreateTruncating(context.Threads);
                    break;
                case Fault.ThreadBitsOfKeys when output.DK is T[] keys && context.Threads > 1:
                    keys[^1] = T.BitIncrement(keys[^1]);
                    break;
                default:
                    break;
            }
        }
    }
}
