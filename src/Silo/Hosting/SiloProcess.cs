using System.Globalization;
using System.Net;
using System.Net.Sockets;
using Experiments.Results.PrivatePostgres;
using Experiments.Results.Store;
using Experiments.Silo.CommandLine;
using Experiments.Silo.Configuration;
using Experiments.Silo.OneMachine;
using Npgsql;

namespace Experiments.Silo.Hosting;

/// <summary>The life of a process that is one silo of a cluster: up before its store is, until a signal drains it.</summary>
/// <param name="notice">Gets what a person should know, a sentence each.</param>
public sealed class SiloProcess(Settings settings, Interrupts interrupts, Action<string> notice, TimeProvider clock)
{
    private static readonly TimeSpan FirstPause = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(15);

    /// <param name="stateFile">Where the process says who it is; null for nowhere.</param>
    /// <exception cref="CommandException">It cannot start as it was asked to.</exception>
    public async Task<ExitCode> RunAsync(ClusterSiloOptions options, string? stateFile)
    {
        ArgumentNullException.ThrowIfNull(options);
        interrupts.Signalled += count => notice(count == 1
            ? string.Create(CultureInfo.InvariantCulture, $"Draining for up to {options.Drain.TotalSeconds:F0} s, then leaving. A second signal leaves now.")
            : "Leaving now.");
        using CancellationTokenSource over = CancellationTokenSource.CreateLinkedTokenSource(interrupts.Finish);
        Task<ResultStore> opening = OpenAsync(over.Token);
        try
        {
            using MemberFile? state = stateFile is null ? null : await MemberFile.HoldAsync(stateFile, over.Token);
            // A connection string that can never be right is told at once; a server that is away is waited for.
            await Task.WhenAny(opening, Task.Delay(TimeSpan.FromMilliseconds(200), clock, over.Token));
            if (opening.IsFaulted)
            {
                await opening;
            }

            SecondLife second = new(interrupts, notice);
            await using ClusterSilo silo = await ClusterSilo.StartAsync(options with { DeclaredDead = second.Begin }, opening, over.Token);
            notice($"Silo of cluster '{options.Cluster}' on {silo.Endpoint}"
                + (silo.Health is IPEndPoint at ? $", health on {at}." : "."));
            state?.Say(silo.Endpoint.ToString(), silo.Health?.ToString());
            await Task.WhenAny(opening, Task.Delay(Timeout.InfiniteTimeSpan, clock, over.Token));
            if (opening.IsFaulted)
            {
                await opening;
            }

            await Task.Delay(Timeout.InfiniteTimeSpan, clock, over.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await silo.StopAsync(interrupts.Now);
            if (silo.OtlpFault is string fault)
            {
                notice(settings.NotDelivered(fault));
            }

            return ExitCode.Done;
        }
        catch (OperationCanceledException) when (interrupts.Finish.IsCancellationRequested)
        {
            return ExitCode.Done;
        }
        catch (ClusterSiloException fault)
        {
            throw new CommandException(
                fault.InnerException is StackExchange.Redis.RedisException ? ExitCode.StoreUnreachable : ExitCode.Invalid, fault.Message, fault);
        }
        finally
        {
            await over.CancelAsync();
            await ((Task)opening).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (opening.IsCompletedSuccessfully)
            {
                await opening.Result.DisposeAsync();
            }
        }
    }

    private async Task<ResultStore> OpenAsync(CancellationToken cancellation)
    {
        for (TimeSpan pause = FirstPause; ; pause = pause * 2 < LongestPause ? pause * 2 : LongestPause)
        {
            try
            {
                return await ResultStore.OpenAsync(await StoreLocator.ResolveAsync(settings.Postgres.Value, notice, cancellation), cancellation);
            }
            catch (StoreUnavailableException fault) when (fault.InnerException is NpgsqlException or SocketException or TimeoutException)
            {
                notice(ErrorBoundary.Redact($"{fault.Message} Waiting for it."));
                await Task.Delay(pause, clock, cancellation);
            }
        }
    }
}
