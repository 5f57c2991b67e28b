using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;

namespace Experiments.Kernels.Instances;

/// <summary>One matrix, or a stack of matrices, in NumPy's .npy format: versions 1.0 to 3.0, little-endian float32 or float64, C
/// order, 2-d unless a stack is asked for.</summary>
/// <remarks>Source: the format's description in numpy.lib.format.</remarks>
public sealed partial class NpyFile
{
    private readonly long _offset;

    private NpyFile(string path, int[] stack, int rows, int columns, int bytesPerNumber, long offset)
    {
        Path = path;
        Stack = stack;
        Rows = rows;
        Columns = columns;
        BytesPerNumber = bytesPerNumber;
        _offset = offset;
    }

    public string Path { get; }

    /// <summary>The sizes before those of each matrix, such as batch and heads; none for a lone matrix.</summary>
    public IReadOnlyList<int> Stack { get; }

    /// <summary>How many matrices there are.</summary>
    public int Count => Stack.Aggregate(1, (product, size) => product * size);

    /// <summary>Of each matrix.</summary>
    public int Rows { get; }

    public int Columns { get; }

    /// <summary>4 for float32, 8 for float64.</summary>
    public int BytesPerNumber { get; }

    /// <summary>Reads and checks the header, and the file's length against it.</summary>
    /// <exception cref="InvalidDataException">It is not such a file; one sentence says what it is and what to do.</exception>
    public static NpyFile Open(string path) => Open(path, mostStacked: 0);

    /// <summary>The same for a stack of matrices: up to so many more sizes before rows and columns.</summary>
    /// <exception cref="InvalidDataException">It is not such a file.</exception>
    public static NpyFile Open(string path, int mostStacked)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        if (Directory.Exists(path))
        {
            throw new InvalidDataException($"{path} is a folder; a .npy file is needed. Write it with numpy.save.");
        }

        try
        {
            // Opening a pipe waits for whoever writes into it, perhaps for ever. The system gives it, and every device, a length of 0.
            if (new FileInfo(File.ResolveLinkTarget(path, returnFinalTarget: true)?.FullName ?? path).Length == 0)
            {
                throw new InvalidDataException(
                    $"{path} is not a .npy file but empty, or a pipe or device. Write it with numpy.save.");
            }

            using FileStream file = File.OpenRead(path);
            return Parse(path, file, mostStacked);
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

    /// <summary>One matrix of the stack as double, row-major.</summary>
    /// <exception cref="InvalidDataException">An entry is NaN or infinite; the message says where.</exception>
    public double[] ReadOne(int number)
    {
        double[] values = ReadUnchecked(checked(number * Rows), Rows, 0, Columns, checked(Count * Rows));
        ThrowIfNotFinite(values, number * Rows, 0, Columns);
        return values;
    }

    internal void ThrowIfNotFinite(double[] values, int firstRow, int firstColumn, int columns)
    {
        for (int i = 0; i < values.Length; i++)
        {
            if (!double.IsFinite(values[i]))
            {
                int row = firstRow + (i / columns);
                string where = Stack.Count == 0 ? $"{row}" : $"{Position(row / Rows)}{row % Rows}";
                throw new InvalidDataException(
                    $"{Path}[{where}, {firstColumn + (i % columns)}] is "
                    + $"{values[i].ToString(CultureInfo.InvariantCulture)}; every entry must be finite.");
            }
        }
    }

    internal double[] ReadUnchecked(int firstRow, int rows, int firstColumn, int columns) =>
        ReadUnchecked(firstRow, rows, firstColumn, columns, Rows);

    // A number within the stack by its place in each size: "1, 0, ".
    private string Position(int number)
    {
        string position = "";
        foreach (int size in Stack.Reverse())
        {
            position = $"{number % size}, {position}";
            number /= size;
        }

        return position;
    }

    private double[] ReadUnchecked(int firstRow, int rows, int firstColumn, int columns, int rowsInAll)
    {
        if (firstRow < 0 || rows < 1 || firstColumn < 0 || columns < 1
            || (long)firstRow + rows > rowsInAll || (long)firstColumn + columns > Columns)
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
        where T : unmanaged => Write(path, values, [rows, columns]);

    /// <summary>The same of any shape, in C order.</summary>
    /// <exception cref="ArgumentException">T is another type, or the values are not as many as the shape says.</exception>
    public static void Write<T>(string path, ReadOnlySpan<T> values, IReadOnlyList<int> shape)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(shape);
        long count = shape.Aggregate(1L, (product, size) => product * size);
        string sizes = string.Join(", ", shape.Select(s => s.ToString(CultureInfo.InvariantCulture)));
        string type = typeof(T) == typeof(float) ? "<f4" : typeof(T) == typeof(double) ? "<f8"
            : throw new ArgumentException($"{typeof(T).Name} was given; float or double is needed.");
        if (values.Length != count)
        {
            throw new ArgumentException($"{values.Length} values were given but shape ({sizes}) needs {count}.");
        }

        string header = $"{{'descr': '{type}', 'fortran_order': False, 'shape': ({sizes}), }}";

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

    private static NpyFile Parse(string path, FileStream file, int mostStacked)
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

        int[] sizes = ShapeOf(path, shape.Groups[1].Value, mostStacked);
        long expected = offset + (sizes.Aggregate(1L, (product, s) => product * s) * size);
        if (file.Length != expected)
        {
            string what = file.Length < expected ? "truncated" : "too long";
            throw new InvalidDataException(
                $"{path} is {what}: shape ({string.Join(", ", sizes)}) of {size}-byte numbers needs {expected} bytes, and it has "
                + $"{file.Length}. Copy or save it anew.");
        }

        return new(path, sizes[..^2], sizes[^2], sizes[^1], size, offset);
    }

    // What a file says of itself goes to a terminal: one short line of it, and no control characters.
    internal static string Shown(string text)
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

    private static int[] ShapeOf(string path, string shape, int mostStacked)
    {
        string[] sizes = shape.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        if (sizes.Length < 2 || sizes.Length > 2 + mostStacked)
        {
            string needed = mostStacked == 0 ? "2 are" : $"2 to {2 + mostStacked} are";
            throw new InvalidDataException(
                $"{path} has shape ({Shown(shape)}), of {sizes.Length} dimensions; {needed} needed. Save a.reshape(n, d).");
        }

        int[] parsed = new int[sizes.Length];
        long count = 1;
        for (int i = 0; i < sizes.Length; i++)
        {
            if (!int.TryParse(sizes[i].TrimEnd('L'), NumberStyles.None, CultureInfo.InvariantCulture, out parsed[i])
                || parsed[i] < 1 || parsed[i] > Array.MaxLength || (count *= parsed[i]) > int.MaxValue
                || (i == sizes.Length - 1 && parsed[i] > Array.MaxLength / 8))
            {
                throw new InvalidDataException(
                    $"{path} has shape ({Shown(shape)}); every size must be at least 1, and fewer than 2^31 entries in all.");
            }
        }

        return parsed;
    }

    [GeneratedRegex("""['"]descr['"]\s*:\s*['"]([^'"]*)['"]""")]
    private static partial Regex DescrPattern();

    [GeneratedRegex("""['"]fortran_order['"]\s*:\s*(True|False)""")]
    private static partial Regex OrderPattern();

    [GeneratedRegex("""['"]shape['"]\s*:\s*\(([^)]*)\)""")]
    private static partial Regex ShapePattern();
}
