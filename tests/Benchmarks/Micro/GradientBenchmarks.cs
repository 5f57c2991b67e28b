using BenchmarkDotNet.Attributes;
using Experiments.Benchmarks.Commands;
using Experiments.Benchmarks.Contenders;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Benchmarks.Micro;

/// <summary>Whole calls of the public kernels, small enough that a change of one stage shows; one thread.</summary>
public class GradientBenchmarks
{
    private KernelChoice? _kernel;
    private AttentionProblem<float>? _single;
    private AttentionProblem<double>? _double;
    private GradientOutput<float>? _singleOutput;
    private GradientOutput<double>? _doubleOutput;

    [Params("exact", "low-rank")]
    public string Kernel { get; set; } = "exact";

    [Params(256, 1024)]
    public int N { get; set; }

    [Params(8, 16, 64)]
    public int D { get; set; }

    [GlobalSetup]
    public void Draw()
    {
        // Degree 2 is the lowest whose gradient is an approximation worth the name; higher ones outgrow n at d = 64.
        _kernel = KernelChoice.Of(Kernel, degree: 2);
        _double = Inputs.Draw(N, D, bound: 1);
        _single = _double.To<float>();
        _singleOutput = new(N, D);
        _doubleOutput = new(N, D);
    }

    [Benchmark]
    public void Float32() => _kernel!.Kernel.Compute(_single!, _kernel.Settings, _singleOutput!, KernelContext.Default);

    [Benchmark]
    public void Float64() => _kernel!.Kernel.Compute(_double!, _kernel.Settings, _doubleOutput!, KernelContext.Default);
}
