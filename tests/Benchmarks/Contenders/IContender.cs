namespace Experiments.Benchmarks.Contenders;

/// <summary>One way to compute the gradient of the attention loss, on inputs it was given once, with its threads.</summary>
public interface IContender : IDisposable
{
    /// <summary>As printed: <c>exact</c>, <c>torch SDPA</c>.</summary>
    string Name { get; }

    /// <summary>Called once, untimed, before the calls of a sample: what a change of thread count costs is not the work's.</summary>
    void Prepare();

    /// <summary>One whole call: from the inputs A1, A2, A3, E, X, Y to the loss and dX.</summary>
    void Compute();

    /// <summary>dX of the last call, (d, d), row-major, widened to double.</summary>
    double[] Gradient();
}
