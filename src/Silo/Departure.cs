using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Experiments.Silo;

/// <summary>Stands between what runs shards and Orleans, and is stopped after the one and before the other: looks whether the membership can be told that
/// this silo leaves, and if not, lets it leave without.</summary>
/// <remarks>Orleans tries to tell it until it is stopped itself, which is the whole of the drain and ten seconds; the others find out by its silence, as of a
/// silo that is killed, once there is a Redis again. The drain is over by then and is not shortened.</remarks>
internal sealed partial class Departure(IMembershipTable table, TimeProvider time, ILogger<Departure> log) : IHostedService, IDisposable
{
    // A Redis that is there answers in a millisecond, on an overrun machine in a tenth of a second.
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    private readonly CancellationTokenSource _untold = new();

    /// <summary>Cancelled once nothing runs here any more and nobody can be told.</summary>
    public CancellationToken Untold => _untold.Token;

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public async Task StopAsync(CancellationToken cancellationToken)
    {
        try
        {
            await table.ReadAllAsync(cancellationToken).WaitAsync(Patience, time, cancellationToken);
        }
        catch (Exception fault) when (!cancellationToken.IsCancellationRequested)
        {
            // Whatever its client calls it: it could not be read.
            IsAway(log, fault.Message);
            await _untold.CancelAsync();
        }
    }

    public void Dispose() => _untold.Dispose();

    [LoggerMessage(Level = LogLevel.Warning, Message = "The Redis is away, so that the others cannot be told that this silo leaves: {Reason}")]
    private static partial void IsAway(ILogger log, string reason);
}
