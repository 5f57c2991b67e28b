using Experiments.Client.Terminals;

namespace Experiments.Client.Tests.Driving;

/// <summary>What one command did.</summary>
public sealed record Ran(int Code, string Out, string Error)
{
    /// <summary>Standard error's lines; the last is where an error ends up.</summary>
    public string[] ErrorLines => Error.Split('\n', StringSplitOptions.RemoveEmptyEntries);

    public override string ToString() => $"exit {Code}\n-- stdout --\n{Out}\n-- stderr --\n{Error}";
}

/// <summary>The real command tree in this process, with its own writers and environment.</summary>
public static class Cli
{
    public static Task<Ran> RunAsync(params string[] args) => RunAsync(new Dictionary<string, string?>(), args);

    public static async Task<Ran> RunAsync(IReadOnlyDictionary<string, string?> environment, params string[] args)
    {
        using StringWriter output = new();
        using StringWriter error = new();
        using Terminal terminal = new()
        {
            Out = output,
            Error = TextWriter.Synchronized(error),
            // Nothing of the machine's own settings may leak into a test.
            Environment = name => environment.GetValueOrDefault(name) ?? (name == "HOME" ? "/nonexistent" : null),
        };
        int code = await Application.RunAsync(args, terminal);
        return new Ran(code, output.ToString(), error.ToString());
    }

    /// <summary>Fails with everything the command printed.</summary>
    public static Ran Expect(this Ran ran, ExitCode code)
    {
        Assert.True(ran.Code == (int)code, $"{code} was expected, but: {ran}");
        return ran;
    }

    /// <summary>A refusal as users should see it: the code, a line or a few, no stack trace, nothing on standard output.</summary>
    public static string ExpectRefusal(this Ran ran, ExitCode code, int mostLines = 3)
    {
        ran.Expect(code);
        Assert.Equal("", ran.Out);
        Assert.InRange(ran.ErrorLines.Length, 1, mostLines);
        Assert.DoesNotContain("   at ", ran.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("Exception", ran.Error, StringComparison.Ordinal);
        Assert.DoesNotContain("Something went wrong", ran.Error, StringComparison.Ordinal);
        return ran.Error.Trim();
    }
}
