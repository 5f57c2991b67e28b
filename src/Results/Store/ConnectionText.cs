using System.Data.Common;
using System.Globalization;
using System.Text.RegularExpressions;
using Experiments.Results.Sweeps;
using Npgsql;

namespace Experiments.Results.Store;

/// <summary>A connection string as a person typed it.</summary>
public static partial class ConnectionText
{
    private const string Example = "One looks like `Host=db.example.org;Database=experiments;Username=me`, with a Password where the "
        + "server asks for one.";

    // Those that people set, for a hint; the driver knows many more.
    private static readonly string[] Settings =
    [
        "Host", "Port", "Database", "Username", "Password", "Passfile", "SSL Mode", "SSL Certificate", "SSL Key", "Root Certificate", "Timeout",
        "Command Timeout", "Search Path", "Application Name", "Pooling", "Maximum Pool Size", "Minimum Pool Size", "Keepalive", "Options",
    ];

    /// <param name="given">What was typed.</param>
    /// <param name="where">Where, such as a variable's name.</param>
    /// <exception cref="ArgumentException">It is none; the message says which part, and never a password.</exception>
    public static NpgsqlConnectionStringBuilder Read(string given, string where)
    {
        ArgumentNullException.ThrowIfNull(given);
        NpgsqlConnectionStringBuilder settings;
        try
        {
            settings = new NpgsqlConnectionStringBuilder(given);
        }
        catch (Exception fault) when (fault is ArgumentException or FormatException or KeyNotFoundException)
        {
            throw new ArgumentException($"{where} is {Explain(given, fault)} {Example}", fault);
        }

        if (string.IsNullOrEmpty(settings.Host))
        {
            throw new ArgumentException($"{where} names no Host. {Example}");
        }

        if (settings.Host.Split(',').Select(h => NetworkAddress.Shortened(h.Trim())).FirstOrDefault(h => h is not null) is string shortened)
        {
            throw new ArgumentException($"{where} has Host '{shortened}', which is no whole address. A name is needed, or one such as 10.0.0.5.");
        }

        // The driver reads it no sooner than it connects, and throws whatever its parser does.
        if (settings.Host.Split(',').Select(h => NetworkAddress.PortOf(h.Trim()))
            .FirstOrDefault(p => p is not null && (!ushort.TryParse(p, NumberStyles.None, CultureInfo.InvariantCulture, out ushort port) || port == 0)) is string wrong)
        {
            throw new ArgumentException($"{where} has a Host with the port '{wrong}'; one from 1 to {ushort.MaxValue} is needed.");
        }

        if (settings.Port > ushort.MaxValue)
        {
            throw new ArgumentException($"{where} has Port {settings.Port}; one from 1 to {ushort.MaxValue} is needed.");
        }

        return settings;
    }

    // The parser's own words are not repeated: they may quote what it was given, password and all.
    private static string Explain(string given, Exception fault)
    {
        if (given.TrimStart().StartsWith("postgres", StringComparison.OrdinalIgnoreCase) && given.Contains("://", StringComparison.Ordinal))
        {
            return "a postgres:// address, and an Npgsql connection string is needed.";
        }

        const string Not = "not an Npgsql connection string:";
        if (fault is ArgumentException { ParamName: { Length: > 0 } key })
        {
            // Its first place is where the parser stood; what a semicolon cuts off a password would be named here otherwise.
            Match place = Regex.Match(given, $@"(?<=^|;)\s*{Regex.Escape(key)}\s*=", RegexOptions.IgnoreCase);
            string name = place.Success ? place.Value.TrimEnd('=').Trim() : key;
            if (fault.InnerException is not KeyNotFoundException)
            {
                object? value = new DbConnectionStringBuilder { ConnectionString = given }[key];
                return $"{Not} its {name} is '{value}', which is no value of it.";
            }

            return place.Success && Password().IsMatch(given[..place.Index])
                ? $"{Not} its {Part(given, place.Index)} after the Password, is no setting. A password that holds a semicolon goes in quotes."
                : $"{Not} it has no setting '{name}'.{NearestName.Hint(name, Settings)}";
        }

        Match index = Index().Match(fault.Message);
        return index.Success && int.TryParse(index.Value, CultureInfo.InvariantCulture, out int at) && at <= given.Length
            ? $"{Not} its {Part(given, at)} is not setting=value."
            : "not an Npgsql connection string.";
    }

    private static string Part(string given, int at) => string.Create(
        CultureInfo.InvariantCulture, $"part {given.AsSpan(0, at).Count(';') + 1}, from character {at + 1} on,");

    [GeneratedRegex(@"(?<=\bindex )\d+")]
    private static partial Regex Index();

    [GeneratedRegex(@"(^|;)\s*(password|pwd|pass)\s*=", RegexOptions.IgnoreCase)]
    private static partial Regex Password();
}
