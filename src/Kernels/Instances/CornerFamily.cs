using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Instances;

/// <summary>Entries of A1 X and A2 are −B or B: the logits take d + 1 values, up to ±B².</summary>
public sealed class CornerFamily : IInstanceFamily
{
    public string Name => "corner";

    public string Summary => "Every entry of A1 X and A2 is −B or B.";

    public IReadOnlyList<Axis> Axes { get; } = [];

    public bool NeedsBound => true;

    public AttentionProblem<double> Draw(InstanceRequest request)
    {
        Draws.CheckShape(request);
        int count = request.N * request.D;
        return Draws.Finish(request, Draws.Signs(request, Draws.A1, count), Draws.Signs(request, Draws.A2, count));
    }
}
