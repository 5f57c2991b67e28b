using Experiments.Client.Terminals;
using Experiments.Silo.Hosting;

namespace Experiments.Client.Verbs;

/// <summary>What <see cref="IsolatedProcess"/> is, of this program.</summary>
internal static class IsolatedVerb
{
    public static Verb Create(Terminal terminal) =>
        new Verb(IsolatedProcess.Verb, "Compute the shards that standard input asks for")
        {
            Hidden = true,
        }.Runs(terminal, invocation => Task.FromResult(IsolatedProcess.Serve(() => invocation.Workbench, terminal.Clock)));
}
