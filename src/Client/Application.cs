using Experiments.Client.Terminals;

namespace Experiments.Client;

/// <summary>One command from its words to its exit code.</summary>
public static class Application
{
    public static Task<int> RunAsync(IReadOnlyList<string> args, Terminal terminal) => CommandLineProgram.RunAsync(
        "experiments", () => CommandTree.Build(terminal), args, terminal.Out, terminal.Error,
        whenNothingIsTyped: "A verb is needed, such as 'experiments run quickstart'.");
}
