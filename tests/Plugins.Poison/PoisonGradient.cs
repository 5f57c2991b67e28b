using System.Numerics;
using System.Runtime.InteropServices;
using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;

namespace Poison;

/// <summary>Does to its process what real kernels do by accident. What it computes is no gradient.</summary>
public sealed class PoisonGradient : IGradientKernel
{
    // Kept, or it would be collected before it strikes.
    private static Timer? s_late;

    public string Name => "poison";

    public string Summary => "Kills its process on purpose.";

    public IReadOnlyList<Axis> Axes { get; } =
    [
        new("how", AxisKind.Choice, "What it does.", Default: "not", Choices: ["not", "abort", "exit", "crash", "overflow", "late", "hang", "print"]),
    ];

    public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings) => new(Flops: n * d, StateBytes: 8, Rank: null);

    public void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        switch (settings.Word("how", "not"))
        {
            case "abort":
                Environment.FailFast("poisoned on purpose");
                break;
            case "exit":
                Environment.Exit(7);
                break;
            case "crash":
                // Beyond the first pages, where the runtime makes an exception of it.
                Marshal.WriteByte(unchecked((nint)0x7000_0000_0001), 0);
                break;
            case "overflow":
                Descend(0);
                break;
            case "late":
                // Its timer outlives the call, and strikes while another's runs.
                s_late = new Timer(_ => Environment.FailFast("poisoned later"), null, TimeSpan.FromMilliseconds(100), Timeout.InfiniteTimeSpan);
                break;
            case "hang":
                // For what never comes, and deaf to its token.
                using (SemaphoreSlim never = new(0))
                {
                    never.Wait(CancellationToken.None);
                }

                break;
            case "print":
                Console.Out.WriteLine("{\"Ended\":true}");
                Console.Error.WriteLine("printed");
                break;
        }

        for (int i = 0; i < output.DX.Length; i++)
        {
            output.DX[i] = problem.X[i] + problem.Y[i];
        }

        problem.A3.CopyTo(output.Forward.AsSpan());
        output.Loss = 1;
        output.NonPositiveRowSums = 0;
    }

    private static int Descend(int depth)
    {
        Span<byte> room = stackalloc byte[1024];
        room[depth % 1024] = 1;
        return Descend(depth + 1) + room[0];
    }
}
