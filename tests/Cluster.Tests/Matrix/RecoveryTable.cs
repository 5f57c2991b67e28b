using System.Globalization;
using System.Text;

namespace Experiments.Cluster.Tests.Matrix;

/// <summary>How long a cluster took to recover from each fault.</summary>
/// <remarks>Kept as lines of a file, so that the table is of several runs, and of one that was itself killed.</remarks>
internal sealed class RecoveryTable(string path)
{
    private readonly Lock _lock = new();

    /// <param name="fault">What was done.</param>
    /// <param name="seed">Of the run.</param>
    /// <param name="commit">From the fault to the next commit of anyone.</param>
    /// <param name="elsewhere">From the fault until nothing was leased to its victims any more; null where it had none, or they held nothing.</param>
    public void Add(Fault fault, int seed, TimeSpan commit, TimeSpan? elsewhere)
    {
        lock (_lock)
        {
            File.AppendAllText(
                path,
                string.Create(CultureInfo.InvariantCulture, $"{fault} {seed} {commit.TotalSeconds:F3} {(elsewhere is TimeSpan e ? e.TotalSeconds : double.NaN):F3}\n"));
        }
    }

    public override string ToString()
    {
        string[][] lines = [.. File.ReadLines(path).Select(l => l.Split(' '))];
        StringBuilder table = new();
        table.AppendLine(CultureInfo.InvariantCulture, $"| fault | times | next commit: median | largest, s | shards elsewhere: median | largest, s |");
        table.AppendLine("| --- | ---: | ---: | ---: | ---: | ---: |");
        foreach (Fault fault in Enum.GetValues<Fault>())
        {
            string[][] its = [.. lines.Where(l => l[0] == fault.ToString())];
            if (its.Length > 0)
            {
                table.AppendLine(CultureInfo.InvariantCulture, $"| {fault} | {its.Length} | {Figures(its, 2)} | {Figures(its, 3)} |");
            }
        }

        table.AppendLine(CultureInfo.InvariantCulture, $"| all | {lines.Length} | {Figures(lines, 2)} | {Figures(lines, 3)} |");
        return table.ToString();
    }

    private static string Figures(string[][] lines, int column)
    {
        double[] values = [.. lines.Select(l => double.Parse(l[column], CultureInfo.InvariantCulture)).Where(double.IsFinite).Order()];
        return values.Length == 0 ? "– | –"
            : string.Create(CultureInfo.InvariantCulture, $"{(values[(values.Length - 1) / 2] + values[values.Length / 2]) / 2:F2} | {values[^1]:F2}");
    }
}
