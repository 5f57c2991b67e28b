using System.Buffers.Binary;
using System.Globalization;
using System.Text;

namespace Experiments.Client.Tests.Driving;

/// <summary>Inputs of a gradient and its exact answer, by code that shares nothing with the program's.</summary>
public sealed class Matrices
{
    public required int N { get; init; }

    public required int D { get; init; }

    public required Dictionary<string, double[]> Values { get; init; }

    public static Matrices Random(int n, int d, int seed, double scale = 1)
    {
        Random random = new(seed);
        double[] Draw(int count) => [.. Enumerable.Range(0, count).Select(_ => (double)(float)(scale * ((2 * random.NextDouble()) - 1)))];
        return new Matrices
        {
            N = n,
            D = d,
            Values = new Dictionary<string, double[]>
            {
                ["a1"] = Draw(n * d), ["a2"] = Draw(n * d), ["a3"] = Draw(n * d), ["e"] = Draw(n * d),
                ["x"] = Draw(d * d), ["y"] = Draw(d * d),
            },
        };
    }

    /// <summary>Writes the six files; float32 unless <paramref name="wide"/>.</summary>
    public Matrices Save(string folder, bool wide = true)
    {
        foreach ((string name, double[] values) in Values)
        {
            int rows = name is "x" or "y" ? D : N;
            File.WriteAllBytes(Path.Combine(folder, name + ".npy"), Npy(values, wide ? "<f8" : "<f4", false, rows, D));
        }

        return this;
    }

    /// <summary>Bytes of a .npy file, version 1.0.</summary>
    public static byte[] Npy(double[] values, string type, bool fortran, params int[] shape)
    {
        string dims = string.Join(", ", shape.Select(s => s.ToString(CultureInfo.InvariantCulture))) + (shape.Length == 1 ? "," : "");
        string header = $"{{'descr': '{type}', 'fortran_order': {(fortran ? "True" : "False")}, 'shape': ({dims}), }}";
        header = header.PadRight(((header.Length + 10 + 1 + 63) / 64 * 64) - 10 - 1) + "\n";
        using MemoryStream bytes = new();
        bytes.Write([0x93, .. "NUMPY"u8, 1, 0, (byte)(header.Length & 255), (byte)(header.Length >> 8)]);
        bytes.Write(Encoding.ASCII.GetBytes(header));
        Span<byte> number = stackalloc byte[8];
        foreach (double value in values)
        {
            switch (type)
            {
                case "<f8":
                    BinaryPrimitives.WriteDoubleLittleEndian(number, value);
                    bytes.Write(number);
                    break;
                case ">f8":
                    BinaryPrimitives.WriteDoubleBigEndian(number, value);
                    bytes.Write(number);
                    break;
                case "<f4":
                    BinaryPrimitives.WriteSingleLittleEndian(number, (float)value);
                    bytes.Write(number[..4]);
                    break;
                default:
                    BinaryPrimitives.WriteInt64LittleEndian(number, (long)value);
                    bytes.Write(number);
                    break;
            }
        }

        return bytes.ToArray();
    }

    /// <summary>The values of a .npy file of doubles or floats, whatever its shape.</summary>
    public static double[] Load(string path)
    {
        byte[] bytes = File.ReadAllBytes(path);
        int start = 10 + bytes[8] + (256 * bytes[9]);
        bool wide = Encoding.ASCII.GetString(bytes, 10, start - 10).Contains("<f8", StringComparison.Ordinal);
        int size = wide ? 8 : 4;
        return [.. Enumerable.Range(0, (bytes.Length - start) / size).Select(i => wide
            ? BinaryPrimitives.ReadDoubleLittleEndian(bytes.AsSpan(start + (8 * i)))
            : BinaryPrimitives.ReadSingleLittleEndian(bytes.AsSpan(start + (4 * i))))];
    }

    /// <summary>Loss and gradient by the definition: dX = A1ᵀ p A2 / d.</summary>
    public (double Loss, double[] Gradient) Exact()
    {
        double[] q = Product(Values["a1"], Values["x"], N, D, D);
        double[] h = Product(Values["a3"], Values["y"], N, D, D);
        double[] p = new double[N * N];
        double loss = 0;
        for (int i = 0; i < N; i++)
        {
            double[] f = new double[N];
            for (int j = 0; j < N; j++)
            {
                f[j] = Enumerable.Range(0, D).Sum(k => q[(i * D) + k] * Values["a2"][(j * D) + k]) / D;
            }

            double top = f.Max();
            f = [.. f.Select(s => Math.Exp(s - top))];
            double sum = f.Sum();
            double[] forward = [.. Enumerable.Range(0, D).Select(k => Enumerable.Range(0, N).Sum(j => f[j] / sum * h[(j * D) + k]))];
            double[] c = [.. Enumerable.Range(0, D).Select(k => forward[k] - Values["e"][(i * D) + k])];
            loss += 0.5 * c.Sum(v => v * v);
            double r = Enumerable.Range(0, D).Sum(k => c[k] * forward[k]);
            for (int j = 0; j < N; j++)
            {
                p[(i * N) + j] = f[j] / sum * (Enumerable.Range(0, D).Sum(k => c[k] * h[(j * D) + k]) - r);
            }
        }

        double[] right = Product(p, Values["a2"], N, N, D);
        double[] gradient = new double[D * D];
        for (int a = 0; a < D; a++)
        {
            for (int b = 0; b < D; b++)
            {
                gradient[(a * D) + b] = Enumerable.Range(0, N).Sum(i => Values["a1"][(i * D) + a] * right[(i * D) + b]) / D;
            }
        }

        return (loss, gradient);
    }

    private static double[] Product(double[] a, double[] b, int rows, int inner, int columns)
    {
        double[] c = new double[rows * columns];
        for (int i = 0; i < rows; i++)
        {
            for (int j = 0; j < columns; j++)
            {
                c[(i * columns) + j] = Enumerable.Range(0, inner).Sum(k => a[(i * inner) + k] * b[(k * columns) + j]);
            }
        }

        return c;
    }
}
