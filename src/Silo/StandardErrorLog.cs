using System.Globalization;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;

namespace Experiments.Silo;

/// <summary>What is logged, as single lines on standard error: plain ones, or one JSON object each.</summary>
internal sealed class StandardErrorLog(bool json = false) : ILoggerProvider
{
    public ILogger CreateLogger(string categoryName) => new Logger(categoryName[(categoryName.LastIndexOf('.') + 1)..], json);

    public void Dispose()
    {
    }

    private sealed class Logger(string category, bool json) : ILogger
    {
        // Said at every start, and false: the first health check compares with the machine's boot; and a local silo wants
        // the workstation collector.
        private static readonly int[] Noise = [100150, 100405];

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        // The filters of the host decide what comes here.
        public bool IsEnabled(LogLevel logLevel) => logLevel >= LogLevel.Information;

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (!IsEnabled(logLevel) || Noise.Contains(eventId.Id))
            {
                return;
            }

            if (json)
            {
                Console.Error.WriteLine(Line(logLevel, state, exception, formatter));
            }
            else
            {
                Console.Error.WriteLine($"{logLevel}: {category}: {formatter(state, exception)}{(exception is null ? "" : " " + exception)}");
            }
        }

        private string Line<TState>(LogLevel level, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            JsonObject line = new()
            {
                ["time"] = TimeProvider.System.GetUtcNow().ToString("O", CultureInfo.InvariantCulture),
                ["level"] = level.ToString().ToLowerInvariant(),
                ["from"] = category,
                ["message"] = formatter(state, exception),
            };
            foreach ((string name, object? value) in state as IEnumerable<KeyValuePair<string, object?>> ?? [])
            {
                if (name != "{OriginalFormat}")
                {
                    line[char.ToLowerInvariant(name[0]) + name[1..]] = Convert.ToString(value, CultureInfo.InvariantCulture);
                }
            }

            line["exception"] = exception?.ToString();
            return line.ToJsonString();
        }
    }
}
