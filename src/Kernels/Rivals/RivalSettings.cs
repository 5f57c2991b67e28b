using System.Globalization;
using System.Numerics;

namespace Experiments.Kernels.Rivals;

/// <summary>What the rivals' axes have in common, and how they are checked.</summary>
internal static class RivalSettings
{
    public static Axis Orthogonal { get; } = new("orthogonal", AxisKind.Flag,
        "Whether the random vectors are orthogonal in blocks of d, which lowers the variance, or independent.", Default: true);

    public static Axis Seed { get; } = new("seed", AxisKind.Integer,
        "Which random vectors: the same bits for a seed on every machine.", Default: 0L, Minimum: 0, Maximum: int.MaxValue);

    public static Axis Centred { get; } = new("centred", AxisKind.Flag,
        "Whether the mean key is subtracted first, which leaves the exact gradient unchanged.", Default: true);

    /// <exception cref="ArgumentException">The axis is missing or out of range.</exception>
    public static int Count(Settings settings, string kernel, string axis, int most, int usual = -1)
    {
        if (!settings.Has(axis) && usual < 0)
        {
            throw new ArgumentException($"{kernel} was given no {axis}. Name a number of them, such as {axis}: 256.");
        }

        int count = settings.Integer(axis, usual);
        return count >= 1 && count <= most
            ? count
            : throw new ArgumentException($"{axis} = {count}: {kernel} takes a whole number from 1 to {most}.");
    }

    /// <exception cref="ArgumentException">The panel of so many columns is larger than an array.</exception>
    public static void CheckPanel(string kernel, string axis, int count, int d)
    {
        // [d + 2] rows of columns that padding lengthens by 31 at most.
        long most = (Array.MaxLength / (d + 2)) - 64;
        if (count > most)
        {
            throw new ArgumentException(
                $"{axis} = {count} at d = {d}: {kernel} keeps {axis} × (d + 2) numbers in one array, which holds 2^31 of them. "
                + string.Create(CultureInfo.InvariantCulture, $"Lower {axis} to {most} at most, or d."));
        }
    }

    /// <summary>[d][columns] from [count][d], the padding 0.</summary>
    public static void Transpose<T>(ReadOnlySpan<double> rows, int count, int d, Span<T> panel, int columns)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        panel[..(d * columns)].Clear();
        for (int a = 0; a < count; a++)
        {
            for (int k = 0; k < d; k++)
            {
                panel[(k * columns) + a] = T.CreateTruncating(rows[(a * d) + k]);
            }
        }
    }
}
