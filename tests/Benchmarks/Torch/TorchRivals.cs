using System.Numerics;
using System.Runtime.InteropServices;
using Experiments.Benchmarks.Contenders;
using Experiments.Benchmarks.Measuring;
using Experiments.Kernels.AttentionGradient;
using TorchSharp;
using static TorchSharp.torch;

namespace Experiments.Torch;

/// <summary>libtorch on the processor, in the four ways that its users have of computing this gradient.</summary>
/// <remarks>
/// All see L(X) = ½ ‖softmax(A1 X A2ᵀ / d) A3 Y − E‖² and begin from the six matrices, as ours do. Tensors are made once,
/// untimed; every call ends with dX in an array. torch's thread count is set to ours.
/// </remarks>
internal sealed class TorchRivals : IRivals
{
    public string Name => "torch";

    public string Describe()
    {
        using Tensor loaded = torch.ones(1);
        return $"libtorch {torch.__version__} through TorchSharp {typeof(torch).Assembly.GetName().Version}, CPU capability {Capability()}, "
            + $"MKL {Environment.GetEnvironmentVariable("MKL_ENABLE_INSTRUCTIONS") ?? "as it chooses"}, "
            + $"freed memory {(Environment.GetEnvironmentVariable("GLIBC_TUNABLES") is null ? "as glibc has it" : "kept")}";
    }

    // A function that returns a std::string is given the address of one to make: pointer, length, 16 bytes of its own.
    [DllImport("libtorch_cpu", EntryPoint = "_ZN2at18get_cpu_capabilityB5cxx11Ev")]
    private static extern unsafe void GetCpuCapability(nint* text);

    private static unsafe string Capability()
    {
        nint* text = stackalloc nint[4];
        GetCpuCapability(text);
        return Marshal.PtrToStringUTF8(text[0], (int)text[1]);
    }

    /// <summary>Loads libtorch and computes a product whose answer is known.</summary>
    /// <exception cref="NotSupportedException">The product is wrong.</exception>
    public static string Prove()
    {
        using Tensor ones = torch.ones(3, 3, dtype: ScalarType.Float64);
        using Tensor product = ones.mm(ones);
        return product.data<double>().All(v => v == 3)
            ? new TorchRivals().Describe()
            : throw new NotSupportedException("libtorch loads but multiplies wrongly.");
    }

    public IReadOnlyList<IContender> Ways<T>(AttentionProblem<T> problem, int threads, Action<string> decline)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        ArgumentNullException.ThrowIfNull(problem);
        ArgumentNullException.ThrowIfNull(decline);
        int n = problem.N, size = typeof(T) == typeof(float) ? 4 : 8;
        Tensors inputs = new(problem.N, problem.D, Make(problem.A1, n), Make(problem.A2, n), Make(problem.A3, n), Make(problem.E, n),
            Make(problem.X, problem.D), Make(problem.Y, problem.D));
        List<IContender> ways = [];

        // Logits, their exponentials and the gradients of both, and one of them twice: five matrices of n × n at a time.
        double materialised = 5.0 * n * n * size;
        if (materialised < 0.6 * Machine.FreeMemory())
        {
            ways.Add(new Way("torch autograd, n × n materialised", inputs, threads, Materialised));
        }
        else
        {
            decline($"torch autograd materialised at n = {n} needs {materialised / (1L << 30):0.0} GiB, more than 60 % of what is free");
        }

        ways.Add(new Way("torch SDPA", inputs, threads, t => Sdpa(t, 1)));
        if (threads > 1 && n % threads == 0)
        {
            ways.Add(new Way($"torch SDPA, queries in {threads} batches", inputs, threads, t => Sdpa(t, threads)));
        }
        else if (threads > 1)
        {
            decline($"torch SDPA in {threads} batches: n = {n} is not a multiple of them");
        }

        // Which is the fastest depends on n, d and the caches: 32 at n = 4096 and d = 8, 512 at n = 1024.
        foreach (int rows in (int[])[32, 64, 128, 256, 512])
        {
            ways.Add(new Way($"torch by hand, chunks of {rows} rows", inputs, threads, t => Chunked(t, rows)));
        }

        return ways;

        static Tensor Make(T[] values, int rows) => typeof(T) == typeof(float)
            ? torch.tensor((float[])(object)values, [rows, values.Length / rows])
            : torch.tensor((double[])(object)values, [rows, values.Length / rows]);
    }

    /// <summary>As the formula is written, and autograd for the rest.</summary>
    private static Tensor Materialised(Tensors t)
    {
        Tensor x = t.X.clone().requires_grad_(true);
        Tensor f = nn.functional.softmax(t.A1.mm(x).mm(t.A2.t()) / t.D, 1);
        return Backward(t, x, f.mm(t.A3.mm(t.Y)));
    }

    /// <summary>The fused attention, forward and backward. Its scale is 1/√d, so the queries carry 1/√d more.</summary>
    /// <remarks>libtorch's backward pass is parallel over batches and heads only. One head of ours gives it one thread; the same
    /// keys and values seen as several batches, each with a part of the queries, give it as many.</remarks>
    private static Tensor Sdpa(Tensors t, int batches)
    {
        Tensor x = t.X.clone().requires_grad_(true);
        Tensor queries = (t.A1.mm(x) * (1 / Math.Sqrt(t.D))).view(batches, 1, t.N / batches, t.D);
        Tensor keys = t.A2.view(1, 1, t.N, t.D).expand(batches, 1, t.N, t.D);
        Tensor values = t.A3.mm(t.Y).view(1, 1, t.N, t.D).expand(batches, 1, t.N, t.D);
        Tensor output = nn.functional.scaled_dot_product_attention(queries, keys, values);
        return Backward(t, x, output.reshape(t.N, t.D));
    }

    private static Tensor Backward(Tensors t, Tensor x, Tensor output)
    {
        Tensor c = output - t.E;
        (0.5 * (c * c).sum()).backward();
        return x.grad!;
    }

    /// <summary>What one writes who knows the formula: row sums for r, no autograd, chunks of rows that stay in the cache.</summary>
    private static Tensor Chunked(Tensors t, int rows)
    {
        using IDisposable inference = torch.no_grad();
        Tensor queries = t.A1.mm(t.X) / t.D, h = t.A3.mm(t.Y), hT = h.t(), keysT = t.A2.t();
        Tensor gradient = torch.zeros(t.D, t.D, dtype: t.X.dtype), loss = torch.zeros(1, dtype: t.X.dtype);
        for (int first = 0; first < t.N; first += rows)
        {
            using DisposeScope chunk = torch.NewDisposeScope();
            TensorIndex part = TensorIndex.Slice(first, Math.Min(t.N, first + rows));
            Tensor f = queries[part].mm(keysT).softmax(1), output = f.mm(h), c = output - t.E[part];
            loss.add_((c * c).sum());
            Tensor p = c.mm(hT).sub_((c * output).sum(1, keepdim: true)).mul_(f);
            gradient.add_(t.A1[part].t().mm(p.mm(t.A2)));
        }

        return gradient.div_(t.D);
    }

    private sealed record Tensors(int N, int D, Tensor A1, Tensor A2, Tensor A3, Tensor E, Tensor X, Tensor Y);

    private sealed class Way(string name, Tensors inputs, int threads, Func<Tensors, Tensor> gradient) : IContender
    {
        private double[] _last = [];

        public string Name => name;

        public void Prepare()
        {
            if (torch.get_num_threads() != threads)
            {
                torch.set_num_threads(threads);
            }

            // The first parallel loop after a change makes the threads.
            using Tensor touched = torch.ones(1 << 18).sum();
        }

        public void Compute()
        {
            using DisposeScope scope = torch.NewDisposeScope();
            using Tensor wide = gradient(inputs).to(ScalarType.Float64).contiguous();
            _last = wide.data<double>().ToArray();
        }

        public double[] Gradient() => _last;

        public void Dispose()
        {
            // The tensors are shared by all the ways of a thread count; disposing twice is allowed.
            foreach (Tensor tensor in (Tensor[])[inputs.A1, inputs.A2, inputs.A3, inputs.E, inputs.X, inputs.Y])
            {
                tensor.Dispose();
            }
        }
    }
}
