using System.Text.Json.Nodes;
using Experiments.Client.Tests.Driving;
using Experiments.Silo.Configuration;

namespace Experiments.Client.Tests;

public sealed class SettingsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void The_command_line_comes_before_the_environment_and_that_before_the_file()
    {
        Directory.CreateDirectory(_folder.File("experiments"));
        _folder.Write("experiments/config.yaml", "postgres: Host=file\nredis: file:6379\nlanes: 3\n");
        Dictionary<string, string?> environment = new()
        {
            ["XDG_CONFIG_HOME"] = _folder.Path,
            ["EXPERIMENTS_POSTGRES"] = "Host=environment",
            ["EXPERIMENTS_REDIS"] = "environment:6379",
        };
        Settings settings = Load(environment, "Host=option");
        Assert.Equal(new Setting("Host=option", "--postgres"), settings.Postgres);
        Assert.Equal(new Setting("environment:6379", "EXPERIMENTS_REDIS"), settings.Redis);
        Assert.Equal(3, settings.Lanes);
        Assert.Null(settings.OtlpEndpoint.Value);
        Assert.Equal("Host=environment", Load(environment, null).Postgres.Value);
        environment.Remove("EXPERIMENTS_POSTGRES");
        Assert.Equal("Host=file", Load(environment, null).Postgres.Value);
    }

    [Theory]
    [InlineData(null, null, 1)]
    [InlineData("always_on", "0.25", 1)]
    [InlineData("always_off", "0.25", 0)]
    [InlineData("traceidratio", "0.25", 0.25)]
    [InlineData("parentbased_traceidratio", null, 1)]
    public void Traces_are_sampled_as_OpenTelemetrys_variables_say(string? sampler, string? argument, double share) => Assert.Equal(
        share, Load(new() { ["OTEL_TRACES_SAMPLER"] = sampler, ["OTEL_TRACES_SAMPLER_ARG"] = argument }, null).TraceShare);

    [Theory]
    [InlineData("postgers: x\n", "Did you mean 'postgres'?")]
    [InlineData("- a\n- b\n", "a map of settings")]
    [InlineData("postgres: [1, 2\n", "config.yaml:")]
    [InlineData("lanes: many\n", "a whole number")]
    [InlineData("lanes: 100000\n", "a whole number from 1 to 4096")]
    public async Task A_bad_settings_file_gets_one_line(string text, string needed)
    {
        string file = _folder.Write("config.yaml", text);
        string error = (await Cli.RunAsync(new Dictionary<string, string?>
        {
            ["EXPERIMENTS_CONFIG"] = file,
            ["EXPERIMENTS_POSTGRES"] = "Host=/nonexistent",
        }, "resume", "last")).ExpectRefusal(ExitCode.Invalid, 1);
        Assert.Contains(needed, error, StringComparison.Ordinal);
    }

    /// <summary>A container or a unit says them by variables, a machine by its file; the line names whichever it was.</summary>
    [Theory]
    [InlineData("EXPERIMENTS_SILO_BIND", "here", "EXPERIMENTS_SILO_BIND is 'here'")]
    [InlineData("EXPERIMENTS_SILO_PORT", "65536", "EXPERIMENTS_SILO_PORT: silo_port is '65536'")]
    [InlineData("EXPERIMENTS_SILO_DRAIN", "-1", "from 0 to 3600")]
    [InlineData("EXPERIMENTS_SILO_HEALTH", "8080", "EXPERIMENTS_SILO_HEALTH is '8080'")]
    [InlineData("EXPERIMENTS_SILO_JSON_LOG", "yes", "true or false")]
    [InlineData("EXPERIMENTS_SILO_TLS_KEY", "node.key", "go together")]
    [InlineData("OTEL_TRACES_SAMPLER", "off", "OTEL_TRACES_SAMPLER: traces_sampler is 'off'; always_on, always_off or traceidratio is needed")]
    [InlineData("OTEL_TRACES_SAMPLER_ARG", "10%", "a number from 0 to 1")]
    public async Task What_is_wrong_with_a_silos_variable_or_line_of_the_file_is_told_before_anything_is_asked(string variable, string value, string needed)
    {
        Dictionary<string, string?> environment = new() { ["EXPERIMENTS_REDIS"] = "127.0.0.1:1", [variable] = value };
        string error = (await Cli.RunAsync(environment, "silo")).ExpectRefusal(ExitCode.Invalid, 1);
        Assert.Contains(needed, error, StringComparison.Ordinal);

        string key = Settings.Known.Single(k => k.Variable == variable).Key, file = _folder.Write("config.yaml", $"{key}: '{value}'\n");
        environment.Remove(variable);
        environment["EXPERIMENTS_CONFIG"] = file;
        error = (await Cli.RunAsync(environment, "silo")).ExpectRefusal(ExitCode.Invalid, 1);
        Assert.Contains(needed.Replace(variable, file, StringComparison.Ordinal), error, StringComparison.Ordinal);

        // What is typed comes first.
        if (variable.EndsWith("BIND", StringComparison.Ordinal))
        {
            Assert.Contains("--bind is 'there'", (await Cli.RunAsync(environment, "silo", "--bind", "there")).ExpectRefusal(ExitCode.Invalid, 1), StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task The_doctor_reads_every_setting()
    {
        Dictionary<string, string?> environment = new()
        {
            ["EXPERIMENTS_CONFIG"] = _folder.Write("config.yaml", "silo_drain: soon\n"), ["EXPERIMENTS_POSTGRES"] = "Host=/nonexistent",
        };
        string said = (await Cli.RunAsync(environment, "doctor", "--json")).Out;
        JsonNode check = JsonNode.Parse(said)!.AsArray().Single(c => (string)c!["check"]! == "settings")!;
        Assert.False((bool)check["ok"]!);
        Assert.Contains("silo_drain is 'soon'; a number of seconds", said, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_settings_file_that_is_named_must_exist()
    {
        string error = (await Cli.RunAsync(
            new Dictionary<string, string?> { ["EXPERIMENTS_CONFIG"] = _folder.File("none.yaml") }, "list")).ExpectRefusal(ExitCode.Invalid, 1);
        Assert.Contains("none.yaml", error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("Host=h;Password=s3cret;Username=u")]
    [InlineData("host=h;PASSWORD = s3cret")]
    [InlineData("host=h;pwd='s3cret'")]
    [InlineData("postgres://u:s3cret@h/db")]
    public void Passwords_are_taken_out_of_what_is_printed(string text) =>
        Assert.DoesNotContain("s3cret", ErrorBoundary.Redact(text), StringComparison.Ordinal);

    private static Settings Load(Dictionary<string, string?> environment, string? postgres) =>
        Settings.Load(environment.GetValueOrDefault, new Dictionary<string, string?> { ["postgres"] = postgres });
}
