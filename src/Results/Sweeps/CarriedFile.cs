using System.Globalization;

namespace Experiments.Results.Sweeps;

/// <summary>A file that goes into the store with a sweep.</summary>
/// <param name="Path">Where it lies.</param>
/// <param name="Sha256">Of its bytes when the sweep was frozen, 64 lower-case hexadecimal digits.</param>
public sealed record CarriedFile(string Path, string Sha256, long Bytes)
{
    /// <summary>The most that the files of one sweep may come to. What is larger is better left where it is: it would cross the network and lie on the
    /// disk of every silo, however little of it an instance needs.</summary>
    public const long MostBytes = 16L << 30;

    /// <summary>The digits that name a content in specifications: the first 128 bits of its SHA-256.</summary>
    public const int NameDigits = 32;

    /// <summary>Null, or why a sweep cannot carry these: a sentence.</summary>
    public static string? Refusal(IReadOnlyList<CarriedFile> files)
    {
        ArgumentNullException.ThrowIfNull(files);
        decimal bytes = files.Sum(f => (decimal)f.Bytes);
        return bytes <= MostBytes ? null : string.Create(
            CultureInfo.InvariantCulture,
            $"The files of this sweep have {bytes / (1 << 30):F1} GiB, {files.MaxBy(f => f.Bytes)!.Path} alone {files.Max(f => f.Bytes) / (double)(1 << 30):F1}; a "
            + $"sweep carries {MostBytes >> 30} GiB at most.");
    }
}
