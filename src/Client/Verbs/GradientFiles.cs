using System.Numerics;
using Experiments.Client.Terminals;
using Experiments.Kernels.AttentionGradient;
using Experiments.Kernels.Instances;

namespace Experiments.Client.Verbs;

/// <summary>Every gradient of a call as .npy files of one folder: dx, dy (d, d), dq, dk, dv and the forward output f (n, d).</summary>
internal static class GradientFiles
{
    private const string Option = "--outputs";

    private static readonly string[] All = ["dx.npy", "dy.npy", "dq.npy", "dk.npy", "dv.npy", "f.npy"];

    /// <summary>An output with room for what nobody gets unasked; NaN where the kernel may leave it.</summary>
    public static GradientOutput<T> Room<T>(int n, int d)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        return new(n, d) { DQ = Unknown(), DK = Unknown(), DV = Unknown() };

        T[] Unknown()
        {
            T[] values = new T[checked(n * d)];
            Array.Fill(values, T.NaN);
            return values;
        }
    }

    /// <summary>Refuses early what could only fail late.</summary>
    /// <exception cref="CommandException">There is a file of that name, or no folder to make it in.</exception>
    public static void CheckFolder(string folder)
    {
        if (folder.Length == 0 || File.Exists(folder))
        {
            throw CommandException.Invalid($"{Option} is '{folder}'; the name of a folder is needed, which is made if it is not there.");
        }

        if (!Directory.Exists(folder))
        {
            AtomicFile.CheckPlace(Path.TrimEndingDirectorySeparator(folder), Option);
        }
    }

    /// <summary>Writes what the kernel gives, each of the stack's shape and then the matrix' own, and returns the files' names.</summary>
    /// <exception cref="CommandException">One could not be written.</exception>
    public static async Task<IReadOnlyList<string>> WriteAsync<T>(
        string folder, GradientOutput<T>[] outputs, IReadOnlyList<int> stack, int n, int d)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        try
        {
            Directory.CreateDirectory(folder);
        }
        catch (Exception fault) when (fault is IOException or UnauthorizedAccessException)
        {
            throw CommandException.Invalid($"{Option} '{folder}' cannot be made: {fault.Message}", fault);
        }

        List<string> written = [];
        foreach ((string name, int rows, Func<GradientOutput<T>, T[]> matrix) in ((string, int, Func<GradientOutput<T>, T[]>)[])
            [
                (All[0], d, o => o.DX), (All[1], d, o => o.DY), (All[2], n, o => o.DQ!), (All[3], n, o => o.DK!),
                (All[4], n, o => o.DV!), (All[5], n, o => o.Forward),
            ])
        {
            string path = Path.Combine(folder, name);
            if (outputs.Any(o => Array.Exists(matrix(o), T.IsNaN)))
            {
                // Not what an earlier call left there: it would pass for this one's.
                File.Delete(path);
                continue;
            }

            await AtomicFile.WriteAsync(path, Option, temporary =>
            {
                NpyFile.Write<T>(temporary, outputs.SelectMany(matrix).ToArray(), [.. stack, rows, d]);
                return Task.CompletedTask;
            });
            written.Add(name);
        }

        return written;
    }

    /// <summary>Those that the kernel does not give, for a person; empty when it gives all.</summary>
    public static string Missing(IReadOnlyList<string> written) =>
        string.Join(", ", All.Except(written).Select(f => Path.GetFileNameWithoutExtension(f)));
}
