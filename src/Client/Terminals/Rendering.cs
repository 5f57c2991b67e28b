using Spectre.Console;

namespace Experiments.Client.Terminals;

internal static class Rendering
{
    /// <summary>A Spectre console on one of the terminal's writers, as wide as the terminal.</summary>
    public static IAnsiConsole Console(TextWriter writer, Terminal terminal, bool interactive)
    {
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = terminal.Color || interactive ? AnsiSupport.Yes : AnsiSupport.No,
            ColorSystem = terminal.Color ? ColorSystemSupport.Standard : ColorSystemSupport.NoColors,
            Interactive = interactive ? InteractionSupport.Yes : InteractionSupport.No,
            Out = new AnsiConsoleOutput(writer),
            Enrichment = new ProfileEnrichment { UseDefaultEnrichers = false },
        });
        console.Profile.Width = terminal.Width;
        return console;
    }
}
