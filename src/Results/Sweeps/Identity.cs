using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Experiments.Results.Sweeps;

/// <summary>Canonical text and the keys made of it. Changing anything here orphans every stored reference.</summary>
public static class Identity
{
    // A key is made for every trial, and thousands are made a second: a thread uses the same memory and the same hash again.
    [ThreadStatic]
    private static StringBuilder? _text;

    [ThreadStatic]
    private static IncrementalHash? _hash;

    public static string Canonical(InstanceSpec instance) => Write(new StringBuilder(256), instance).ToString();

    private static StringBuilder Write(StringBuilder text, InstanceSpec instance)
    {
        text.Append("instance/1");
        Append(text, "family", instance.Family);
        text.Append(CultureInfo.InvariantCulture, $"\nn={instance.N}\nd={instance.D}");
        if (instance.Bound is double bound)
        {
            text.Append(CultureInfo.InvariantCulture, $"\nbound={bound:R}");
        }

        text.Append(CultureInfo.InvariantCulture, $"\nrepeat={instance.Repeat}\nseed={instance.Seed}");
        AppendAll(text, instance.Settings);
        return text;
    }

    public static string Canonical(TrialSpec trial)
    {
        StringBuilder text = new("kernel/1");
        Append(text, "kernel", trial.Kernel);
        Append(text, "precision", trial.Precision);
        Append(text, "threads", (long)trial.Threads);
        AppendAll(text, trial.Settings);
        return text.ToString();
    }

    public static Guid KeyOf(InstanceSpec instance)
    {
        StringBuilder text = Write((_text ??= new StringBuilder(256)).Clear(), instance);
        if (text.Length > 512)
        {
            return Hash(Encoding.UTF8.GetBytes(text.ToString()));
        }

        Span<char> characters = stackalloc char[text.Length];
        Span<byte> bytes = stackalloc byte[3 * characters.Length];
        text.CopyTo(0, characters, characters.Length);
        return Hash(bytes[..Encoding.UTF8.GetBytes(characters, bytes)]);
    }

    public static Guid KeyOf(InstanceSpec instance, TrialSpec trial) =>
        KeyOf(instance.Key, Encoding.UTF8.GetBytes(Canonical(trial)));

    /// <summary>Of an instance's reference on so many drawn rows.</summary>
    public static Guid KeyOfReference(Guid instance, int rows) =>
        KeyOf(instance, Encoding.UTF8.GetBytes(string.Create(CultureInfo.InvariantCulture, $"reference/1\nrows={rows}")));

    /// <summary>The same, for many instances with one configuration: <paramref name="trial"/> is its canonical text in UTF-8.</summary>
    internal static Guid KeyOf(Guid instance, ReadOnlySpan<byte> trial)
    {
        const int Digits = 32;
        int length = Digits + 1 + trial.Length;
        Span<byte> text = length <= 512 ? stackalloc byte[length] : new byte[length];
        instance.TryFormat(text, out _, "N");
        text[Digits] = (byte)'\n';
        trial.CopyTo(text[(Digits + 1)..]);
        return Hash(text);
    }

    /// <summary>A value as canonical text: the shortest form that reads back to the same bits.</summary>
    public static string Text(object value) => value switch
    {
        long integer => integer.ToString(CultureInfo.InvariantCulture),
        double real => real.ToString("R", CultureInfo.InvariantCulture),
        bool flag => flag ? "true" : "false",
        string word => word,
        _ => throw new ArgumentException($"A setting is a {value.GetType().Name}; long, double, bool or string is needed."),
    };

    internal static string Describe(TrialSpec trial)
    {
        StringBuilder text = new($"{trial.Kernel} {trial.Precision}");
        foreach ((string name, object value) in trial.Settings.OrderBy(s => s.Key, StringComparer.Ordinal))
        {
            text.Append(CultureInfo.InvariantCulture, $" {name}={Text(value)}");
        }

        return trial.Threads == 1 ? text.ToString() : $"{text} threads={trial.Threads}";
    }

    private static void AppendAll(StringBuilder text, IReadOnlyDictionary<string, object> settings)
    {
        if (settings.Count == 0)
        {
            return;
        }

        // A folder is where the inputs lie on this machine; what they hold is named by their content hashes.
        foreach ((string name, object value) in settings.Where(s => s.Key != "folder")
            .OrderBy(s => s.Key, StringComparer.Ordinal))
        {
            Append(text, name, value);
        }
    }

    private static void Append(StringBuilder text, string name, object value) =>
        text.Append('\n').Append(name).Append('=').Append(Text(value).Replace("\n", "\\n", StringComparison.Ordinal));

    private static Guid Hash(ReadOnlySpan<byte> text)
    {
        Span<byte> hash = stackalloc byte[SHA256.HashSizeInBytes];
        IncrementalHash sha = _hash ??= IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        sha.AppendData(text);
        sha.GetHashAndReset(hash);
        return new Guid(hash[..16], bigEndian: true);
    }
}
