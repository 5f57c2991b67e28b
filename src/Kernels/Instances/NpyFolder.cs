using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Instances;

/// <summary>A folder of a1, a2, a3, e, x, y .npy: one gradient's own matrices.</summary>
public static class NpyFolder
{
    /// <summary>Reads the six matrices, widened to double. x and y are the identity where their files are absent.</summary>
    /// <returns>The problem, and the widest precision found: 4 if every file is float32, else 8.</returns>
    /// <exception cref="InvalidDataException">A file is missing or wrong; the message is one sentence for a person.</exception>
    public static (AttentionProblem<double> Problem, int BytesPerNumber) Load(string folder)
    {
        if (!Directory.Exists(folder))
        {
            throw new InvalidDataException(
                $"{folder} is not a folder. Name one that holds a1.npy, a2.npy, a3.npy, e.npy, x.npy and y.npy.");
        }

        int widest = 4;
        NpyFile a1 = NpyFile.Open(Path.Combine(folder, "a1.npy"));
        int n = a1.Rows, d = a1.Columns;
        double[] Tall(string name) => Read(name, n, "n", optional: false);
        double[] Square(string name) => Read(name, d, "d", optional: true);

        double[] Read(string name, int rows, string letter, bool optional)
        {
            string path = Path.Combine(folder, name + ".npy");
            if (optional && !Path.Exists(path))
            {
                return Identity(d);
            }

            NpyFile file = NpyFile.Open(path);
            if (file.Rows != rows || file.Columns != d)
            {
                throw new InvalidDataException(
                    $"{path} has shape ({file.Rows}, {file.Columns}); a1.npy has ({n}, {d}), so {name} must be ({letter}, d) = "
                    + $"({rows}, {d}).");
            }

            widest = Math.Max(widest, file.BytesPerNumber);
            return file.ReadAll();
        }

        return (new(n, d, Tall("a1"), Tall("a2"), Tall("a3"), Tall("e"), Square("x"), Square("y")), widest);
    }

    internal static double[] Identity(int d)
    {
        double[] identity = new double[d * d];
        for (int k = 0; k < d; k++)
        {
            identity[(k * d) + k] = 1;
        }

        return identity;
    }
}
