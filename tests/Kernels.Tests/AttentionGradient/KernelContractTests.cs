using System.Numerics;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Tests.AttentionGradient;

/// <summary>The suite that <see cref="VectorWidthTests"/> runs again with narrower vectors and without any.</summary>
public sealed class KernelContractTests
{
    private static readonly double[] AnyLogit = [1e-3, 1, 30, 1e4];

    [Theory]
    [InlineData("exact")]
    [InlineData("reference")]
    public void A_kernel_is_as_good_as_plain_code_in_float64(string kernel) =>
        KernelContract.Exact<double>(BuiltIn.Kernel(kernel), Settings.None, AnyLogit, kernel == "exact" ? 30 : 10);

    [Theory]
    [InlineData("exact")]
    [InlineData("reference")]
    public void A_kernel_is_as_good_as_plain_code_in_float32(string kernel) =>
        KernelContract.Exact<float>(BuiltIn.Kernel(kernel), Settings.None, AnyLogit, kernel == "exact" ? 30 : 10);

    [Fact]
    public void Low_rank_of_a_high_degree_is_as_good_as_plain_code_where_logits_are_small()
    {
        Settings settings = Problems.Set(("degree", 4L), ("basis", "minimax"));
        KernelContract.Exact<float>(BuiltIn.Kernel("low-rank"), settings, [1e-3, 1e-2], 20);
        KernelContract.Exact<double>(BuiltIn.Kernel("low-rank"), settings, [1e-5, 1e-4], 20);
    }

    [Theory]
    [InlineData(1, "taylor", "paper")]
    [InlineData(4, "taylor", "paper")]
    [InlineData(4, "taylor", "reverse")]
    [InlineData(3, "minimax", "paper")]
    [InlineData(4, "minimax", "reverse")]
    [InlineData(6, "minimax", "paper")]
    public void Low_rank_is_the_polynomial_on_dense_logits(int degree, string basis, string form)
    {
        KernelContract.Polynomial<double>(degree, basis, form, 0.5, 12);
        KernelContract.Polynomial<float>(degree, basis, form, 0.5, 12);
    }

    [Fact]
    public void The_contract_rejects_a_kernel_with_one_entry_a_thousandth_off()
    {
        Assert.ThrowsAny<Exception>(() => KernelContract.Exact<double>(new Canary(), Settings.None, [1], 10));
        Assert.ThrowsAny<Exception>(() => KernelContract.Exact<float>(new Canary(), Settings.None, [1], 10));
    }

    /// <summary>Exact but for its largest entry, which is 0.1 % off: kept so that the contract is known to bite.</summary>
    private sealed class Canary : IGradientKernel
    {
        public string Name => "canary";

        public string Summary => "Wrong on purpose.";

        public IReadOnlyList<Axis> Axes => [];

        public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings) => default;

        public void Compute<T>(
            AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
            where T : unmanaged, IBinaryFloatingPointIeee754<T>
        {
            new ExactGradient().Compute(problem, settings, output, context);
            int largest = 0;
            for (int i = 0; i < output.DX.Length; i++)
            {
                largest = T.Abs(output.DX[i]) > T.Abs(output.DX[largest]) ? i : largest;
            }

            output.DX[largest] *= T.CreateTruncating(1.001);
        }
    }
}
