using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;
using Experiments.Results.Sweeps;

namespace Experiments.Grains.Running;

/// <summary>A kernel configuration as a lane calls it: understood once, and used by every trial that has it.</summary>
internal sealed class Configuration(TrialSpec spec, IGradientKernel kernel, Warmth warmth)
{
    private CallShape? _shape;
    private KernelCost _cost;
    private string? _impossible;

    public TrialSpec Spec { get; } = spec;

    public IGradientKernel Kernel { get; } = kernel;

    public Settings Settings { get; } = new(spec.Settings);

    /// <summary>Whether each thread of a call is to have a core of its own.</summary>
    public bool IsPinned { get; } = GradientCall.IsPinned(new(spec.Settings));

    /// <summary>Whether a call gives dQ, dK and dV too.</summary>
    public bool AsksForAll { get; } = GradientCall.AsksForAll(new(spec.Settings));

    public bool IsSingle { get; } = spec.Precision == "float32";

    /// <summary>Of the kernel in this precision, shared by all its configurations in the process.</summary>
    public Warmth Warmth { get; } = warmth;

    /// <summary>What a call will cost; or false, and why the settings are impossible. Consecutive instances mostly share their
    /// shape, so the last answer is kept.</summary>
    public bool TryPredict(CallShape shape, out KernelCost cost, out string? impossible)
    {
        if (_shape != shape)
        {
            (_shape, _cost, _impossible) = (shape, default, null);
            try
            {
                _cost = GradientCall.Predict(Kernel, shape, IsSingle ? 4 : 8, Spec.Threads, Settings);
            }
            catch (ArgumentException fault)
            {
                _impossible = Describe.Exception(fault);
            }
        }

        (cost, impossible) = (_cost, _impossible);
        return impossible is null;
    }
}
