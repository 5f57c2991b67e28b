using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Instances;

/// <summary>Entries of A1 X and A2 standard normal, then scaled so that each one's largest is exactly B.</summary>
public sealed class GaussianFamily : IInstanceFamily
{
    public string Name => "gaussian";

    public string Summary => "Entries of A1 X and A2 normal, scaled so that the largest is B.";

    public IReadOnlyList<Axis> Axes { get; } = [];

    public bool NeedsBound => true;

    public AttentionProblem<double> Draw(InstanceRequest request)
    {
        Draws.CheckShape(request);
        int count = request.N * request.D;
        return Draws.Finish(request, Draws.Gaussian(request, Draws.A1, count), Draws.Gaussian(request, Draws.A2, count));
    }
}
