using System.CommandLine;
using Experiments.Client.Terminals;
using Experiments.Client.Verbs;

namespace Experiments.Client;

/// <summary>Every verb, in the order in which the help lists them.</summary>
public static class CommandTree
{
    public static readonly ParserConfiguration Parsing = CommandLineProgram.Parsing;

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
        HelpWithExamples.Install(
            root,
            command => command switch
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
            },
            "Exit codes: 0 done, 1 usage or invalid input, 2 some trials failed or were skipped,",
            "            3 interrupted but resumable, 4 the store could not be reached.");
        return root;
    }
}
