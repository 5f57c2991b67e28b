using System.Security.Cryptography;
using Experiments.Results.Sweeps.Expressions;

namespace Experiments.Results.Sweeps.Reading;

/// <summary>Reads the <c>files</c> family's own keys: the folder, and which part of which file is which matrix; and what files hold that axes of other
/// families name.</summary>
/// <param name="known">Of the sweep whose file is read again, perhaps longer; none of a new one.</param>
internal sealed class FilesReader(
    FaultList faults, ScalarReader scalars, IReadOnlySet<string> words, string baseFolder, IReadOnlyList<FilesSpec> known)
{
    /// <summary>What a matrix may be instead of a file.</summary>
    private const string Identity = "identity";

    public static readonly string[] Matrices = ["a1", "a2", "a3", "e", "x", "y"];

    public static bool Owns(string key) => key == "folder" || Matrices.Contains(key);

    /// <summary>Null after a fault.</summary>
    public FilesSpec? Read(IReadOnlyDictionary<string, RawAxis> keys, Place block)
    {
        int before = faults.Count;
        string folder = baseFolder;
        string named = "";
        Place folderPlace = block;
        if (keys.TryGetValue("folder", out RawAxis? given))
        {
            folderPlace = given.Value.Place;
            if (scalars.Scalar(given.Value, "folder") is not SourceScalar scalar)
            {
                return null;
            }

            if (scalar.Value.Contains('\0', StringComparison.Ordinal))
            {
                faults.Add(folderPlace, "folder holds a character no path may hold.");
                return null;
            }

            named = scalar.Value;
            folder = Path.Combine(baseFolder, named);
        }

        folder = KnownFolder(named) ?? Path.GetFullPath(folder);
        Dictionary<string, FileContent> there = Known.Where(k => k.Folder == folder).SelectMany(k => k.Contents)
            .DistinctBy(c => c.Key).ToDictionary(StringComparer.Ordinal);
        if (there.Count == 0 && !Directory.Exists(folder))
        {
            faults.Add(folderPlace, $"There is no folder '{folder}'; folder is relative to the sweep file.");
            return null;
        }

        List<SliceSpec> slices = [];
        foreach (string matrix in Matrices)
        {
            SliceSpec? slice = keys.TryGetValue(matrix, out RawAxis? raw)
                ? ReadSlice(matrix, raw.Value)
                : Whole(matrix, Default(matrix, folder, there), block);
            if (slice is not null)
            {
                slices.Add(slice);
            }
        }

        SortedDictionary<string, FileContent> contents = new(StringComparer.Ordinal);
        foreach (SliceSpec slice in slices.Where(s => !s.IsIdentity))
        {
            if (!contents.ContainsKey(slice.File) && (there.GetValueOrDefault(slice.File) ?? ReadContent(
                Path.Combine(folder, slice.File + ".npy"), slice.Matrix, slice.Place, ".npy file", "save the matrix with numpy.save", NpyHeader.Read))
                is FileContent content)
            {
                contents.Add(slice.File, content);
            }
        }

        return faults.Count > before ? null : new FilesSpec(folder, slices, contents);
    }

    /// <summary>The files that axes name, whole; the place of each is where it is named.</summary>
    public FilesSpec? ReadNamed(IReadOnlyList<ReadAxis> axes)
    {
        int before = faults.Count;
        FilesSpec[] carried = [.. known.Where(k => k.Matrices.Count == 0)];
        string folder = carried.FirstOrDefault()?.Folder ?? Path.GetFullPath(baseFolder);
        SortedDictionary<string, FileContent> contents = new(StringComparer.Ordinal);
        foreach (ReadAxis axis in axes)
        {
            IEnumerable<SourceNode> nodes = axis.Raw.Value is SourceList list ? list.Items : [axis.Raw.Value];
            foreach (SourceScalar named in nodes.OfType<SourceScalar>().Where(n => !n.IsNull && !contents.ContainsKey(n.Value)))
            {
                if (named.Value.Length == 0 || named.Value.Contains('\0', StringComparison.Ordinal))
                {
                    faults.Add(named.Place, $"{axis.Raw.Name} needs the name of a file, and {(named.Value.Length == 0 ? "has none" : "this holds a character no path may hold")}.");
                }
                else if ((carried.Select(k => k.Contents.GetValueOrDefault(named.Value)).FirstOrDefault(c => c is not null)
                    ?? ReadContent(Path.Combine(folder, named.Value), axis.Raw.Name, named.Place, "file", "name one", _ => (0, 0))) is FileContent content)
                {
                    contents.Add(named.Value, content);
                }
            }
        }

        return faults.Count > before ? null : new FilesSpec(folder, [], contents);
    }

    private IEnumerable<FilesSpec> Known => known.Where(k => k.Matrices.Count > 0);

    // X and Y are the identity where there is no file of them, as in the paper's hard instances.
    private static string Default(string matrix, string folder, Dictionary<string, FileContent> there) =>
        matrix is not ("x" or "y") || (there.Count > 0 ? there.ContainsKey(matrix) : Path.Exists(Path.Combine(folder, matrix + ".npy"))) ? matrix : Identity;

    /// <summary>The folder that the sweep has under this name: as it stands in the file, or below the folder that the file lay in, which nobody noted.</summary>
    private string? KnownFolder(string named)
    {
        // What leads out of that folder is in the part that is not known.
        string[] parts = [.. named.Split('/', Path.DirectorySeparatorChar).Where(p => p is not ("" or ".")).SkipWhile(p => p == "..")];
        string end = string.Concat(parts.Select(p => Path.DirectorySeparatorChar + p));
        return Known.Select(k => k.Folder).Distinct().OrderBy(k => k.Length)
            .FirstOrDefault(k => Path.IsPathRooted(named) ? k == Path.GetFullPath(named) : k.EndsWith(end, StringComparison.Ordinal));
    }

    /// <summary>A file without a slice is its leading part of the size that is needed.</summary>
    private static SliceSpec Whole(string matrix, string file, Place place) =>
        new(matrix, file, file == Identity ? null : [Zero, Extent(matrix, rows: true), Zero, Extent(matrix, rows: false)], place);

    private static NumberExpression Zero => new(0, 0);

    private static NameExpression Extent(string matrix, bool rows) => new(0, rows && matrix is not ("x" or "y") ? "n" : "d");

    private SliceSpec? ReadSlice(string matrix, SourceNode node)
    {
        if (node is not SourceScalar)
        {
            faults.Add(node.Place, $"{matrix} needs one file or slice, such as tokens[0:n, 0:d]; a list of them is not an axis (quote it inside braces).");
            return null;
        }

        if (scalars.Scalar(node, matrix) is not SourceScalar scalar)
        {
            return null;
        }

        string text = scalar.Value;
        int open = text.IndexOf('[', StringComparison.Ordinal);
        string file = (open < 0 ? text : text[..open]).Trim();
        file = file.EndsWith(".npy", StringComparison.Ordinal) ? file[..^4] : file;
        if (file.Length == 0 || file.Any(c => !char.IsAsciiLetterOrDigit(c) && c is not ('_' or '-' or '.')))
        {
            faults.Add(scalar.Place, $"{matrix} is '{text}' and needs the name of a file in the folder, such as tokens or tokens[0:n, 0:d].");
            return null;
        }

        if (open < 0)
        {
            if (file == Identity && matrix is not ("x" or "y"))
            {
                faults.Add(scalar.Place, $"{matrix} cannot be the identity; only x and y are square.");
                return null;
            }

            return Whole(matrix, file, scalar.Place);
        }

        if (file == Identity)
        {
            faults.Add(scalar.Place, "identity takes no slice; it has the size that is needed.");
            return null;
        }

        return ReadBounds(matrix, text, open + 1, scalar) is Expression?[] bounds ? new SliceSpec(matrix, file, bounds, scalar.Place) : null;
    }

    private Expression?[]? ReadBounds(string matrix, string text, int start, SourceScalar scalar)
    {
        string trimmed = text.TrimEnd();
        if (!trimmed.EndsWith(']'))
        {
            faults.Add(scalar.Place, $"'{text}' does not end its slice; close it with ']'.");
            return null;
        }

        List<(int Start, int End)> parts = [];
        List<char> separators = [];
        int depth = 0;
        int begin = start;
        for (int i = start; i < trimmed.Length - 1; i++)
        {
            depth += trimmed[i] is '(' ? 1 : trimmed[i] is ')' ? -1 : 0;
            if (depth == 0 && trimmed[i] is ':' or ',')
            {
                parts.Add((begin, i));
                separators.Add(trimmed[i]);
                begin = i + 1;
            }
        }

        parts.Add((begin, trimmed.Length - 1));
        string shape = string.Concat(separators);
        if (shape is not (":,:" or ":"))
        {
            faults.Add(scalar.PlaceOf(start - 1), $"'{text}' needs rows and columns: tokens[first:end, first:end], the ends exclusive.");
            return null;
        }

        Expression?[] bounds = new Expression?[4];
        if (shape == ":")
        {
            (bounds[2], bounds[3]) = (Zero, Extent(matrix, rows: false));
        }

        for (int i = 0; i < parts.Count; i++)
        {
            string part = text[parts[i].Start..parts[i].End];
            if (string.IsNullOrWhiteSpace(part))
            {
                continue;
            }

            try
            {
                bounds[i] = Shift(ExpressionParser.Parse(part, words), parts[i].Start);
            }
            catch (ExpressionException ex)
            {
                faults.Add(scalar.PlaceOf(parts[i].Start + ex.Position), ex.Message);
                return null;
            }
        }

        return bounds;
    }

    /// <summary>Moves positions from the bound to the whole slice, for later faults.</summary>
    private static Expression Shift(Expression e, int by) => e switch
    {
        UnaryExpression u => u with { Position = u.Position + by, Operand = Shift(u.Operand, by) },
        BinaryExpression b => b with { Position = b.Position + by, Left = Shift(b.Left, by), Right = Shift(b.Right, by) },
        CallExpression c => c with { Position = c.Position + by, Arguments = [.. c.Arguments.Select(a => Shift(a, by))] },
        _ => e with { Position = e.Position + by },
    };

    /// <param name="what">The key that names it.</param>
    /// <param name="kind">What is needed, after "a regular".</param>
    private FileContent? ReadContent(
        string path, string what, Place place, string kind, string remedy, Func<Stream, (long Rows, long Columns)> shapeOf)
    {
        try
        {
            if (Directory.Exists(path))
            {
                throw new FormatException($"is a folder; a regular {kind} is needed.");
            }

            // Opening a pipe waits for whoever writes into it, perhaps for ever. The system gives it, and every device, a length of 0.
            if (new FileInfo(File.ResolveLinkTarget(path, returnFinalTarget: true)?.FullName ?? path).Length == 0)
            {
                throw new FormatException($"is empty, or a pipe or device; a regular {kind} is needed: {remedy}.");
            }

            using FileStream stream = new(path, FileMode.Open, FileAccess.Read, FileShare.Read);
            (long rows, long columns) = shapeOf(stream);
            stream.Position = 0;
            string hash = Convert.ToHexStringLower(SHA256.HashData(stream));
            return new FileContent(rows, columns, hash[..CarriedFile.NameDigits]) { Source = new CarriedFile(path, hash, stream.Position) };
        }
        catch (FormatException ex)
        {
            faults.Add(place, $"{what}: '{path}' {ex.Message}");
        }
        catch (Exception ex) when (ex is FileNotFoundException or DirectoryNotFoundException)
        {
            faults.Add(place, $"{what} needs the file '{path}', and there is none.");
        }
        catch (Exception ex) when (ex is IOException or UnauthorizedAccessException)
        {
            faults.Add(place, $"{what}: '{path}' cannot be read: {ex.Message}");
        }

        return null;
    }
}
