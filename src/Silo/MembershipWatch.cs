using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Clustering.Redis;
using StackExchange.Redis;

namespace Experiments.Silo;

/// <summary>Looks whether the cluster's Redis still knows this silo, and tells it of the cluster if not.</summary>
/// <remarks>
/// A Redis that comes back without what it kept has the silos know each other from before, and nobody else know them: who joins then forms a cluster
/// of his own, and of one that dies nobody can say so, whereupon what its part of the grain directory led to is never found again. Nor do
/// silos take a table whose version is lower than the one they know. So everyone whom this silo takes to be alive is written back, and then its own
/// row again and again, each time a version more, until the table is younger than what anyone remembers. All of them may do
/// so at once: every write is conditional on the version. One that is written back and is dead is found out by its silence, as any other.
/// A Redis that is merely away is waited for.
/// </remarks>
internal sealed partial class MembershipWatch(
    IMembershipTable table, IClusterMembershipService cluster, ILocalSiloDetails self, TimeProvider time, ILogger<MembershipWatch> log) : BackgroundService
{
    private static readonly TimeSpan Every = TimeSpan.FromSeconds(3);

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        while (!stoppingToken.IsCancellationRequested)
        {
            try
            {
                await Task.Delay(Every, time, stoppingToken);

                // The version is taken first: the table's grows before anyone's.
                long version = cluster.CurrentSnapshot.Version.Value;
                if (await ReadAsync(stoppingToken) is not MembershipTableData known
                    || RowOf(known, self.SiloAddress) is null || known.Version.Version < version)
                {
                    IsForgotten(log, self.SiloAddress);
                    await RestoreAsync(stoppingToken);
                }
            }
            catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
            {
                return;
            }
            catch (Exception fault) when (fault is RedisException or RedisClusteringException or TimeoutException or OperationCanceledException)
            {
                // Away again (its client cancels what waits on a connection that breaks), or lost again; the next look is soon.
                IsAway(log, fault.Message);
            }
        }
    }

    private async Task RestoreAsync(CancellationToken cancellation)
    {
        await table.InitializeMembershipTableAsync(true, cancellation);
        while (await ReadAsync(cancellation) is MembershipTableData found)
        {
            ClusterMembershipSnapshot known = cluster.CurrentSnapshot;
            ClusterMember? missing = known.Members.Values
                .Where(m => m.Status == SiloStatus.Active && RowOf(found, m.SiloAddress) is null)
                .OrderBy(m => m.SiloAddress.Equals(self.SiloAddress)).FirstOrDefault();
            if (missing is not null)
            {
                await table.InsertRowAsync(Entry(missing), found.Version.Next(), cancellation);
            }
            else if (found.Version.Version <= known.Version.Value && RowOf(found, self.SiloAddress) is (MembershipEntry mine, string etag))
            {
                await table.UpdateRowAsync(mine, etag, found.Version.Next(), cancellation);
            }
            else
            {
                return;
            }
        }
    }

    /// <summary>Null when there is no table at all.</summary>
    private async Task<MembershipTableData?> ReadAsync(CancellationToken cancellation)
    {
        try
        {
            return await table.ReadAllAsync(cancellation);
        }
        catch (RedisClusteringException)
        {
            return null;
        }
    }

    private static (MembershipEntry Entry, string Etag)? RowOf(MembershipTableData data, SiloAddress silo) =>
        data.Members.Where(m => m.Item1.SiloAddress.Equals(silo)).Select(m => ((MembershipEntry, string)?)(m.Item1, m.Item2)).FirstOrDefault();

    private MembershipEntry Entry(ClusterMember member)
    {
        DateTime now = time.GetUtcNow().UtcDateTime;
        return new MembershipEntry
        {
            SiloAddress = member.SiloAddress,
            SiloName = member.Name,
            HostName = member.SiloAddress.Endpoint.Address.ToString(),
            Status = SiloStatus.Active,
            StartTime = now,
            IAmAliveTime = now,
        };
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The Redis has lost its record of {Silo}; the cluster as this silo knows it is written back")]
    private static partial void IsForgotten(ILogger log, SiloAddress silo);

    [LoggerMessage(Level = LogLevel.Warning, Message = "The Redis is away: {Reason}")]
    private static partial void IsAway(ILogger log, string reason);
}
