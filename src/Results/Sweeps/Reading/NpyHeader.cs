using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace Experiments.Results.Sweeps.Reading;

/// <summary>The header of a NumPy .npy file: enough to check slices against its shape before anything runs.</summary>
/// <remarks>Source: NumPy's format specification, versions 1.0 to 3.0.</remarks>
internal static partial class NpyHeader
{
    /// <returns>Rows and columns of the matrix.</returns>
    /// <exception cref="FormatException">The file is no matrix this project reads; the message is a sentence without the path.</exception>
    public static (long Rows, long Columns) Read(Stream stream)
    {
        byte[] start = new byte[12];
        int read = stream.ReadAtLeast(start, 12, throwOnEndOfStream: false);
        if (read < 10 || !IsMagic(start))
        {
            throw new FormatException("is not a .npy file; save the matrix with numpy.save.");
        }

        int major = start[6];
        (int headerStart, long length) = major >= 2
            ? (12, BitConverter.ToUInt32(start, 8))
            : (10, BitConverter.ToUInt16(start, 8));
        if (length is <= 0 or > 65536 || major is < 1 or > 3)
        {
            throw new FormatException("has a damaged .npy header; save it again with numpy.save.");
        }

        byte[] header = new byte[length];
        stream.Position = headerStart;
        if (stream.ReadAtLeast(header, header.Length, throwOnEndOfStream: false) < header.Length)
        {
            throw new FormatException("is cut off within its .npy header; save it again.");
        }

        return Interpret(Encoding.Latin1.GetString(header), stream.Length - headerStart - length);
    }

    private static bool IsMagic(byte[] start) => start[0] == 0x93 && start.AsSpan(1, 5).SequenceEqual("NUMPY"u8);

    private static (long Rows, long Columns) Interpret(string header, long dataBytes)
    {
        Match descr = Descr().Match(header);
        Match order = Order().Match(header);
        Match shape = Shape().Match(header);
        if (!descr.Success || !order.Success || !shape.Success)
        {
            throw new FormatException("has a .npy header without descr, fortran_order and shape; save it again with numpy.save.");
        }

        string type = descr.Groups[1].Value;
        if (type.StartsWith('>'))
        {
            throw new FormatException($"holds big-endian numbers ('{type}'); save it as '<f4' or '<f8'.");
        }

        if (type is not ("<f4" or "<f8" or "=f4" or "=f8"))
        {
            throw new FormatException($"holds numbers of type '{type}'; float32 or float64 is needed ('<f4' or '<f8').");
        }

        if (order.Groups[1].Value == "True")
        {
            throw new FormatException("is in Fortran order; save numpy.ascontiguousarray of it (C order is needed).");
        }

        long[] extents = [.. shape.Groups[1].Value.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries)
            .Select(e => long.TryParse(e.TrimEnd('L'), NumberStyles.None, CultureInfo.InvariantCulture, out long n) ? n : -1)];
        if (extents.Length != 2 || extents.Any(e => e is < 1 or > int.MaxValue))
        {
            throw new FormatException($"has shape ({shape.Groups[1].Value}); a matrix of two extents, each at least 1, is needed.");
        }

        double needed = (double)extents[0] * extents[1] * (type[2] - '0');
        if (dataBytes != needed)
        {
            string what = dataBytes < needed ? "cut off" : "too long";
            throw new FormatException($"is {what}: shape ({extents[0]}, {extents[1]}) needs {needed:F0} bytes of numbers and it has {dataBytes}.");
        }

        return (extents[0], extents[1]);
    }

    [GeneratedRegex("""['"]descr['"]\s*:\s*['"]([^'"]*)['"]""")]
    private static partial Regex Descr();

    [GeneratedRegex("""['"]fortran_order['"]\s*:\s*(True|False)""")]
    private static partial Regex Order();

    [GeneratedRegex("""['"]shape['"]\s*:\s*\(([^)]*)\)""")]
    private static partial Regex Shape();
}
