using BenchmarkDotNet.Attributes;
using Experiments.Benchmarks.Measuring;

namespace Experiments.Benchmarks.Micro;

/// <summary>The pure multiply-add loop: what a perfect kernel could do.</summary>
public class FmaBenchmarks
{
    private const long Turns = 100_000;

    private readonly FmaLoop _single = FmaLoop.For<float>()[^1], _double = FmaLoop.For<double>()[^1];

    /// <summary>A hundred thousand turns of twelve multiply-adds, in the widest float32 vectors.</summary>
    [Benchmark]
    public double Float32() => _single.Run(Turns);

    /// <summary>The same in float64.</summary>
    [Benchmark]
    public double Float64() => _double.Run(Turns);
}
