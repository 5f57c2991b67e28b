using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Instances;

/// <summary>Entries of A1 X and A2 uniform in [−1, 1], then scaled so that each one's largest is exactly B.</summary>
public sealed class UniformFamily : IInstanceFamily
{
    public string Name => "uniform";

    public string Summary => "Entries of A1 X and A2 uniform in [−B, B].";

    public IReadOnlyList<Axis> Axes { get; } = [];

    public bool NeedsBound => true;

    public AttentionProblem<double> Draw(InstanceRequest request)
    {
        Draws.CheckShape(request);
        int count = request.N * request.D;
        return Draws.Finish(request, Draws.Uniform(request, Draws.A1, count), Draws.Uniform(request, Draws.A2, count));
    }
}
