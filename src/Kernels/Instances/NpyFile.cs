using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;

namespace Experiments.Kernels.Instances;

/// <summary>One matrix in NumPy's .npy format: versions 1.0 to 3.0, little-endian float32 or float64, C order, 2-d.</summary>
/// <remarks>Source: the format's description in numpy.lib.format.</remarks>
public sealed partial class NpyFile
{
    private readonly long _offset;

    private NpyFile(string path, int rows, int columns, int bytesPerNumber, long offset)
    {
        Path = path;
        Rows = rows;
        Columns = columns;
        BytesPerNumber = bytesPerNumber;
        _offset = offset;
    }

    public string Path { get; }

    public int Rows { get; }

    public int Columns { get; }

    /// <summary>4 for float32, 8 for float64.</summary>
    public int BytesPerNumber { get; }

    /// <summary>Reads and checks the header, and the file's length against it.</summary>
    /// <exception cref="InvalidDataException">It is not such a file; one sentence says what it is and what to do.</exception>
    public static NpyFile Open(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (Directory.Exists(path))
        {
            throw new InvalidDataException($"{path} is a folder; a .npy file is needed. Write it with numpy.save.");
        }

        try
        {
            using FileStream file = File.OpenRead(path);
            return Parse(path, file);
        }
        catch (Exception error) when (error is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new InvalidDataException($"{path} does not exist. Write it with numpy.save, or name another place.", error);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new InvalidDataException($"{path} cannot be read: {error.Message}", error);
        }
    }

    /// <summary>Reads a rectangle of it as double, row-major; only the rows that are wanted are read from the disk.</summary>
    /// <exception cref="ArgumentException">The rectangle is not inside the matrix.</exception>
    /// <exception cref="InvalidDataException">An entry is NaN or infinite; the message says where.</exception>
    public double[] Read(int firstRow, int rows, int firstColumn, int columns)
    {
        double[] values = ReadUnchecked(firstRow, rows, firstColumn, columns);
        ThrowIfNotFinite(values, firstRow, firstColumn, columns);
        return values;
    }

    public double[] ReadAll() => Read(0, Rows, 0, Columns);

    internal void ThrowIfNotFinite(double[] values, int firstRow, int firstColumn, int columns)
    {
        for (int i = 0; i < values.Length; i++)
        {
            if (!double.IsFinite(values[i]))
            {
                throw new InvalidDataException(
                    $"{Path}[{firstRow + (i / columns)}, {firstColumn + (i % columns)}] is "
                    + $"{values[i].ToString(CultureInfo.InvariantCulture)}; every entry must be finite.");
            }
        }
    }

    internal double[] ReadUnchecked(int firstRow, int rows, int firstColumn, int columns)
    {
        if (firstRow < 0 || rows < 1 || firstColumn < 0 || columns < 1
            || (long)firstRow + rows > Rows || (long)firstColumn + columns > Columns)
        {
            throw new ArgumentException(
                $"{Path} has shape ({Rows}, {Columns}), and [{firstRow}:{(long)firstRow + rows}, "
                + $"{firstColumn}:{(long)firstColumn + columns}] is not inside it. Slice less of it.");
        }

        double[] values = new double[checked(rows * columns)];
        byte[] line = new byte[(long)Columns * BytesPerNumber];
        try
        {
            using FileStream file = File.OpenRead(Path);
            file.Seek(_offset + ((long)firstRow * line.Length), SeekOrigin.Begin);
            for (int row = 0; row < rows; row++)
            {
                file.ReadExactly(line);
                for (int column = 0; column < columns; column++)
                {
                    values[(row * columns) + column] = BytesPerNumber == 4
                        ? MemoryMarshal.Read<float>(line.AsSpan((firstColumn + column) * 4))
                        : MemoryMarshal.Read<double>(line.AsSpan((firstColumn + column) * 8));
                }
            }
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new InvalidDataException($"{Path} cannot be read: {error.Message}", error);
        }

        return values;
    }

    /// <summary>Writes a matrix of float or double, row-major, version 1.0, to be read by NumPy or here.</summary>
    /// <exception cref="ArgumentException">T is another type, or the values are not rows times columns.</exception>
    public static void Write<T>(string path, ReadOnlySpan<T> values, int rows, int columns)
        where T : unmanaged
    {
        string type = typeof(T) == typeof(float) ? "<f4" : typeof(T) == typeof(double) ? "<f8"
            : throw new ArgumentException($"{typeof(T).Name} was given; float or double is needed.");
        if (values.Length != (long)rows * columns)
        {
            throw new ArgumentException(
                $"{values.Length} values were given but shape ({rows}, {columns}) needs {(long)rows * columns}.");
        }

        string header = $"{{'descr': '{type}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}";

        // The numbers begin at a multiple of 64 bytes: six of magic, two of version, two of length, the text, a line feed.
        int length = ((10 + header.Length + 1 + 63) / 64 * 64) - 10;
        byte[] start = new byte[10 + length];
        start[0] = 0x93;
        "NUMPY"u8.CopyTo(start.AsSpan(1));
        start[6] = 1;
        start[8] = (byte)length;
        start[9] = (byte)(length >> 8);
        Encoding.ASCII.GetBytes(header.PadRight(length - 1) + "\n").CopyTo(start.AsSpan(10));
        using FileStream file = File.Create(path);
        file.Write(start);
        file.Write(MemoryMarshal.AsBytes(values));
    }

    private static NpyFile Parse(string path, FileStream file)
    {
        byte[] start = new byte[12];
        int read = file.ReadAtLeast(start, start.Length, throwOnEndOfStream: false);
        if (read < 10 || start[0] != 0x93 || !start.AsSpan(1, 5).SequenceEqual("NUMPY"u8))
        {
            throw new InvalidDataException($"{path} is not a .npy file. Write it with numpy.save.");
        }

        if (start[6] is not (1 or 2 or 3))
        {
            throw new InvalidDataException(
                $"{path} is .npy version {start[6]}.{start[7]}; 1.0, 2.0 or 3.0 is needed. Write it with numpy.save.");
        }

        long length = start[6] == 1 ? start[8] | (start[9] << 8) : BitConverter.ToUInt32(start, 8);
        long offset = (start[6] == 1 ? 10 : 12) + length;
        if (offset > file.Length || length > 1 << 20)
        {
            throw new InvalidDataException($"{path} is truncated: its header alone should reach to byte {offset}. Copy it anew.");
        }

        byte[] bytes = new byte[length];
        file.Seek(offset - length, SeekOrigin.Begin);
        file.ReadExactly(bytes);
        string header = Encoding.UTF8.GetString(bytes);
        Match descr = DescrPattern().Match(header), order = OrderPattern().Match(header), shape = ShapePattern().Match(header);
        if (!descr.Success || !order.Success || !shape.Success)
        {
            throw new InvalidDataException(
                $"{path} has a header that is not a plain array's: {Shown(header)}. Save a 2-d array of float32 or float64.");
        }

        int size = BytesOf(path, descr.Groups[1].Value);
        if (order.Groups[1].Value == "True")
        {
            throw new InvalidDataException(
                $"{path} is in Fortran order; C order is needed. Save numpy.ascontiguousarray(a).");
        }

        (int rows, int columns) = ShapeOf(path, shape.Groups[1].Value);
        long expected = offset + ((long)rows * columns * size);
        if (file.Length != expected)
        {
            string what = file.Length < expected ? "truncated" : "too long";
            throw new InvalidDataException(
                $"{path} is {what}: shape ({rows}, {columns}) of {size}-byte numbers needs {expected} bytes, and it has "
                + $"{file.Length}. Copy or save it anew.");
        }

        return new(path, rows, columns, size, offset);
    }

    // What a file says of itself goes to a terminal: one short line of it, and no control characters.
    private static string Shown(string text)
    {
        text = text.Trim();
        string line = string.Concat(text.Take(100).Select(c => char.IsControl(c) ? '?' : c));
        return text.Length > 100 ? line + "…" : line;
    }

    private static int BytesOf(string path, string type) => type switch
    {
        "<f4" or "=f4" => 4,
        "<f8" or "=f8" => 8,
        ">f4" or ">f8" => throw new InvalidDataException(
            $"{path} is big-endian ({type}); little-endian is needed. Save a.astype('<{type[1..]}')."),
        _ => throw new InvalidDataException(
            $"{path} holds numbers of type {Shown(type)}; float32 (<f4) or float64 (<f8) is needed. Save a.astype('<f8')."),
    };

    private static (int Rows, int Columns) ShapeOf(string path, string shape)
    {
        string[] sizes = shape.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        if (sizes.Length != 2)
        {
            throw new InvalidDataException(
                $"{path} has shape ({Shown(shape)}), of {sizes.Length} dimensions; 2 are needed. Save a.reshape(n, d).");
        }

        if (!long.TryParse(sizes[0].TrimEnd('L'), NumberStyles.None, CultureInfo.InvariantCulture, out long rows)
            || !long.TryParse(sizes[1].TrimEnd('L'), NumberStyles.None, CultureInfo.InvariantCulture, out long columns)
            || rows < 1 || columns < 1 || rows > Array.MaxLength || columns > Array.MaxLength / 8)
        {
            throw new InvalidDataException(
                $"{path} has shape ({Shown(shape)}); both sizes must be at least 1, and fewer than 2^31 entries in all.");
        }

        return ((int)rows, (int)columns);
    }

    [GeneratedRegex("""['"]descr['"]\s*:\s*['"]([^'"]*)['"]""")]
    private static partial Regex DescrPattern();

    [GeneratedRegex("""['"]fortran_order['"]\s*:\s*(True|False)""")]
    private static partial Regex OrderPattern();

    [GeneratedRegex("""['"]shape['"]\s*:\s*\(([^)]*)\)""")]
    private static partial Regex ShapePattern();
}
