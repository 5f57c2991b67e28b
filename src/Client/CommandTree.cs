using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using Experiments.Client.Terminals;
using Experiments.Client.Verbs;

namespace Experiments.Client;

/// <summary>Every verb, in the order in which the help lists them.</summary>
public static class CommandTree
{
    /// <summary>No response files: '@' may begin a word of a query.</summary>
    public static readonly ParserConfiguration Parsing = new() { ResponseFileTokenReplacer = null };

    public static RootCommand Build(Terminal terminal)
    {
        RootCommand root = new("Runs sweeps of exact and low-rank attention-gradient kernels, and keeps every number and trace in Postgres.")
        {
            PlanVerb.Create(terminal),
            RunVerb.Create(terminal),
            SubmitVerb.Create(terminal),
            ListVerb.Create(terminal),
            ShowVerb.Create(terminal),
            LifeVerbs.Watch(terminal),
            LifeVerbs.Cancel(terminal),
            LifeVerbs.Resume(terminal),
            LifeVerbs.Retry(terminal),
            ExtendVerb.Create(terminal),
            QueryVerb.Create(terminal),
            ExportVerb.Create(terminal),
            ImportVerb.Create(terminal),
            TraceVerb.Create(terminal),
            GradientVerb.Create(terminal),
            KernelsVerb.Create(terminal),
            DoctorVerb.Create(terminal),
            DatabaseVerb.Create(terminal),
            SiloVerb.Create(terminal),
            ClusterVerb.Create(terminal),
            CertificatesVerb.Create(terminal),
            CompletionVerb.Create(terminal),
            IsolatedVerb.Create(terminal),
        };
        root.Options.Add(GlobalOptions.Postgres);
        root.Options.Add(GlobalOptions.NoColor);
        root.Options.Add(GlobalOptions.Verbose);
        HelpOption help = root.Options.OfType<HelpOption>().Single();
        help.Aliases.Clear();
        help.Aliases.Add("-h");
        help.Action = new HelpWithExamples((HelpAction)help.Action!);
        return root;
    }

    private sealed class HelpWithExamples(HelpAction standard) : SynchronousCommandLineAction
    {
        public override bool ClearsParseErrors => true;

        public override int Invoke(ParseResult parseResult)
        {
            standard.MaxWidth = 110;
            int code = standard.Invoke(parseResult);
            TextWriter output = parseResult.InvocationConfiguration.Output;
            IReadOnlyList<(string Line, string Does)> examples = parseResult.CommandResult.Command switch
            {
                Verb verb => verb.Examples,
                RootCommand =>
                [
                    ("experiments run quickstart", "run a small sweep here, from nothing"),
                    ("experiments plan my-sweep.yaml", "count a sweep's trials; run nothing"),
                    ("experiments show last", "what the last sweep found"),
                    ("experiments query \"select * from trials limit 5\"", "ask the store in SQL"),
                ],
                _ => [],
            };
            if (examples.Count > 0)
            {
                output.WriteLine("Examples:");
                foreach ((string line, string does) in examples)
                {
                    output.WriteLine($"  {line}");
                    output.WriteLine($"      {does}");
                }

                output.WriteLine();
            }

            if (parseResult.CommandResult.Command is RootCommand)
            {
                output.WriteLine("Exit codes: 0 done, 1 usage or invalid input, 2 some trials failed or were skipped,");
                output.WriteLine("            3 interrupted but resumable, 4 the store could not be reached.");
                output.WriteLine();
            }

            return code;
        }
    }
}
