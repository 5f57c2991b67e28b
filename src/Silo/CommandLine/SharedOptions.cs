using System.CommandLine;
using System.Globalization;

namespace Experiments.Silo.CommandLine;

/// <summary>Options that mean the same to each of our programs.</summary>
public static class SharedOptions
{
    /// <summary>For whatever checks a sweep file or starts a silo.</summary>
    public static readonly Option<string> Plugins = new("--plugins")
    {
        Description = "Folder of kernels and families of your own [EXPERIMENTS_PLUGINS]", HelpName = "DIR",
    };

    public static readonly Option<bool> Verbose = new("--verbose")
    {
        Description = "Show stack traces with errors", Recursive = true,
    };

    public static readonly Option<string> Postgres = new("--postgres")
    {
        Description = "Npgsql connection string of the store [EXPERIMENTS_POSTGRES]; none: a private server",
        HelpName = "CONNECTION",
        Recursive = true,
    };

    /// <summary>Of these, what was typed, by the settings' keys; nulls are options not given.</summary>
    public static IReadOnlyDictionary<string, string?> Given(ParseResult parsed) => new Dictionary<string, string?>
    {
        ["postgres"] = parsed.GetValue(Postgres),
        ["plugins"] = parsed.GetResult(Plugins) is null ? null : parsed.GetValue(Plugins),
    };

    /// <summary>A whole number within bounds, with a message of its own when it is not.</summary>
    public static Option<int?> Integer(string name, string help, string description, int least, int most = int.MaxValue) =>
        new(name)
        {
            HelpName = help,
            Description = description,
            CustomParser = result =>
            {
                string text = result.Tokens.Count > 0 ? result.Tokens[^1].Value : "";
                if (int.TryParse(text, CultureInfo.InvariantCulture, out int value)
                    && value >= least && value <= most)
                {
                    return value;
                }

                result.AddError(most == int.MaxValue
                    ? $"{name} is '{text}'; a whole number of at least {least} is needed."
                    : $"{name} is '{text}'; a whole number from {least} to {most} is needed.");
                return null;
            },
        };
}
