using System.CommandLine;

namespace Experiments.Client.Verbs;

/// <summary>Arguments that several verbs share.</summary>
internal static class SweepOptions
{
    public static Argument<string> FileOrPreset()
    {
        Argument<string> argument = new("sweep")
        {
            HelpName = "FILE|PRESET",
            Description = "A sweep file (YAML), or a preset: " + string.Join(", ", SweepSource.Presets),
        };
        argument.CompletionSources.Add(_ => SweepSource.Presets);
        return argument;
    }

    public static Option<string> Name() => new("--name") { HelpName = "NAME", Description = "Call the sweep this instead of what its file says" };

    public static Option<string[]> Set() => new("--set")
    {
        HelpName = "KEY=VALUE",
        Description = "Change one value of the file, such as measure.rounds=3 or kernels.1.degree=[2,4]; may be repeated",
        DefaultValueFactory = _ => [],
    };

    public static Option<int?> Priority(string otherwise) => Integer(
        "--priority", "N",
        "Where silos attend several sweeps, larger goes first and the others together keep one lane-second in twenty; "
            + $"-100 to 100, {otherwise}",
        -100, 100);

    public static Option<bool> LeaveFiles() => new("--leave-files")
    {
        Description = "Do not store the .npy files of a sweep over files with it: whoever runs it must then see the same ones under the same paths",
    };

    public static Argument<string> SweepId() => new("id")
    {
        HelpName = "ID",
        Description = "The sweep's number, or 'last'",
    };

    /// <summary>A whole number within bounds, with a message of its own when it is not.</summary>
    public static Option<int?> Integer(string name, string help, string description, int least, int most = int.MaxValue) =>
        SharedOptions.Integer(name, help, description, least, most);
}
