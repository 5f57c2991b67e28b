using System.Globalization;
using System.Text.RegularExpressions;
using Experiments.Kernels.AttentionGradient;

namespace Experiments.Kernels.Instances;

/// <summary>Matrices of one's own: a folder of .npy files, whole or by slices, with n and d as axes over them.</summary>
/// <remarks>
/// Each of a1, a2, a3, e, x, y names a file in the folder (with or without .npy) and, optionally, a slice of it as NumPy
/// writes one: tokens[0:256, 0:4], tokens[1:257], a1. Without a slice the leading n rows and d columns are taken (d and d
/// for x and y). Left out, a matrix is the file of its own name; x and y are the identity if there is none, or where the
/// word identity stands.
///
/// Where a sweep was frozen with its files' contents (content_a1, …: the first 128 bits of a file's SHA-256, as hex), a file
/// that has changed since is refused: its numbers would be stored under another instance's name. Where the request says that
/// a content lies elsewhere on this machine, it is read from there.
/// </remarks>
public sealed partial class FilesFamily : IInstanceFamily
{
    private static readonly string[] Matrices = ["a1", "a2", "a3", "e", "x", "y"];

    public string Name => "files";

    public string Summary => "Matrices of your own: a folder of .npy files, whole or by slices.";

    public IReadOnlyList<Axis> Axes { get; } =
    [
        new("folder", AxisKind.Choice, "The folder that the .npy files lie in.", Required: true),
        .. Matrices.Select(name => new Axis(name, AxisKind.Choice,
            $"The file of {name} and, optionally, its slice: tokens[0:256, 0:4]."
            + (name is "x" or "y" ? " The word identity needs no file." : ""))),
    ];

    public bool NeedsBound => false;

    public bool DependsOnKey => false;

    /// <exception cref="InvalidDataException">A file is missing or not such a matrix.</exception>
    public AttentionProblem<double> Draw(InstanceRequest request)
    {
        Draws.CheckShape(request);
        int n = request.N, d = request.D;
        string folder = request.Settings.Word("folder", "");
        if (folder.Length == 0)
        {
            throw new ArgumentException("The family files was given no folder. Name one: folder: data.");
        }

        double[] Load(string name, int rows)
        {
            string content = request.Settings.Word(FileContents.SettingPrefix + name, "");
            return Read(folder, name, request.Settings.Word(name, ""), content, request.Located.GetValueOrDefault(content), rows, d);
        }

        return new(n, d, Load("a1", n), Load("a2", n), Load("a3", n), Load("e", n), Load("x", d), Load("y", d));
    }

    private static double[] Read(string folder, string name, string spec, string content, string? located, int rows, int columns)
    {
        bool square = name is "x" or "y";
        if (square && (spec == "identity" || (spec.Length == 0 && !Path.Exists(Path.Combine(folder, name + ".npy")))))
        {
            return NpyFolder.Identity(columns);
        }

        Match match = SpecPattern().Match(spec.Length == 0 ? name : spec);
        if (!match.Success)
        {
            throw new ArgumentException(
                $"{name}: {spec} is not understood. Name a file, and a slice where one is wanted: tokens[0:256, 0:4].");
        }

        string file = match.Groups["file"].Value;
        MatrixCache.Matrix matrix = MatrixCache.Open(located
            ?? Path.Combine(folder, file.EndsWith(".npy", StringComparison.Ordinal) ? file : file + ".npy"));
        if (content.Length > 0 && content != matrix.Content)
        {
            throw FileContents.Changed(matrix.File.Path, matrix.Content, content);
        }

        (int firstRow, int lastRow) = Range(match.Groups["rows"], matrix.File.Rows, rows);
        (int firstColumn, int lastColumn) = Range(match.Groups["columns"], matrix.File.Columns, columns);
        if (lastRow - firstRow != rows || lastColumn - firstColumn != columns)
        {
            string shape = square ? "(d, d)" : "(n, d)";
            throw new ArgumentException(
                $"{name}: {match.Value} has shape ({Math.Max(0, lastRow - firstRow)}, {Math.Max(0, lastColumn - firstColumn)}), "
                + $"and {shape} = ({rows}, {columns}) is needed; {matrix.File.Path} has ({matrix.File.Rows}, "
                + $"{matrix.File.Columns}).");
        }

        return matrix.Read(firstRow, rows, firstColumn, columns);
    }

    // No slice at all takes the leading part that is needed; a slice means what it says.
    private static (int First, int Last) Range(Group slice, int size, int needed)
    {
        if (!slice.Success)
        {
            return (0, Math.Min(size, needed));
        }

        string[] ends = slice.Value.Split(':', StringSplitOptions.TrimEntries);
        int first = ends[0].Length == 0 ? 0 : End(ends[0]);
        int last = ends[1].Length == 0 ? size : End(ends[1]);
        return (Math.Min(first, size), Math.Min(last, size));

        static int End(string text) => int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int end)
            ? end
            : throw new ArgumentException($"{text} is too large for a slice's end.");
    }

    [GeneratedRegex(@"^\s*(?<file>[^\[\]]*[^\[\]\s])\s*(\[\s*(?<rows>\d*\s*:\s*\d*)\s*(,\s*(?<columns>\d*\s*:\s*\d*)\s*)?\]\s*)?$")]
    private static partial Regex SpecPattern();
}
