using Experiments.Client.Configuration;
using Experiments.Client.Terminals;
using Experiments.Client.Tests.Driving;

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
        ClientSettings settings = Load(environment, "Host=option");
        Assert.Equal(new Setting("Host=option", "--postgres"), settings.Postgres);
        Assert.Equal(new Setting("environment:6379", "EXPERIMENTS_REDIS"), settings.Redis);
        Assert.Equal(3, settings.Lanes);
        Assert.Null(settings.OtlpEndpoint.Value);
        Assert.Equal("Host=environment", Load(environment, null).Postgres.Value);
        environment.Remove("EXPERIMENTS_POSTGRES");
        Assert.Equal("Host=file", Load(environment, null).Postgres.Value);
    }

    [Theory]
    [InlineData("postgers: x\n", "Did you mean 'postgres'?")]
    [InlineData("- a\n- b\n", "a map of settings")]
    [InlineData("postgres: [1, 2\n", "config.yaml:")]
    [InlineData("lanes: many\n", "a whole number")]
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

    private static ClientSettings Load(Dictionary<string, string?> environment, string? postgres)
    {
        using Terminal terminal = new()
        {
            Out = TextWriter.Null, Error = TextWriter.Null, Environment = name => environment.GetValueOrDefault(name),
        };
        return ClientSettings.Load(terminal, new Dictionary<string, string?> { ["postgres"] = postgres });
    }
}
