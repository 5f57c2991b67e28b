using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;

namespace Experiments.Grains.Tests.Security;

/// <summary>What was logged by our TLS, a line a call.</summary>
internal sealed class LogLines : ILoggerProvider, ILoggerFactory
{
    private readonly ConcurrentQueue<string> _lines = new();

    public string[] All => [.. _lines];

    public ILogger CreateLogger(string categoryName) => new Logger(this, categoryName);

    public void AddProvider(ILoggerProvider provider) => throw new NotSupportedException();

    public void Dispose()
    {
    }

    /// <summary>Waits for such a line; the limit is there to end a test that will fail.</summary>
    public async Task<string> WaitAsync(string fragment)
    {
        using CancellationTokenSource limit = new(TimeSpan.FromSeconds(60));
        while (true)
        {
            if (_lines.FirstOrDefault(l => l.Contains(fragment, StringComparison.Ordinal)) is string line)
            {
                return line;
            }

            Assert.False(limit.IsCancellationRequested, $"no line has '{fragment}': {string.Join('\n', _lines)}");
            await Task.Delay(20, CancellationToken.None);
        }
    }

    private sealed class Logger(LogLines lines, string category) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => category.StartsWith("Experiments.Silo.Security", StringComparison.Ordinal);

        public void Log<TState>(
            LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            if (IsEnabled(logLevel))
            {
                lines._lines.Enqueue($"{logLevel}: {formatter(state, exception)}");
            }
        }
    }
}
