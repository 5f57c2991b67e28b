using CsCheck;
using Experiments.Results.Outcomes;
using Experiments.Results.Store;
using Experiments.Testing;

namespace Experiments.Results.Tests.Store;

/// <summary>Random interleavings of everything that happens to shards, beside a model in memory that says what must come of it.</summary>
public sealed class ModelTests : StoreTest
{
    private const int Shards = 3;
    private const int TrialsEach = 3;

    private enum Act
    {
        Grant,
        GrantSecond,
        Renew,
        Release,
        Commit,
        CommitFailing,
        Expire,
        ExpireSecond,
        Retry,
        Cancel,
        Resume,
    }

    [Fact]
    public async Task The_store_does_what_the_model_does()
    {
        int[] nodes = [await Make.NodeAsync(Store), await Make.NodeAsync(Store)];
        Gen<(Act Act, int Shard, int Node, int Lease)[]> scripts =
            Gen.Select(Gen.Enum<Act>(), Gen.Int[0, Shards - 1], Gen.Int[0, 1], Gen.Int[0, 30]).Array[5, 40];
        await scripts.SampleFixedAsync(script => PlayAsync(script, nodes), 60);
    }

    private async Task PlayAsync((Act Act, int Shard, int Node, int Lease)[] script, int[] nodes)
    {
        long sweep = await Make.SweepAsync(Store, Shards, TrialsEach);
        Model model = new();
        List<(ShardLease Lease, int Node)> leases = [];
        foreach ((Act act, int shard, int node, int which) in script)
        {
            (ShardLease lease, int holder) = leases.Count > 0 ? leases[which % leases.Count] : (new ShardLease(sweep, 0, 99, 0, 1, 0, TrialsEach, 0), 0);
            switch (act)
            {
                case Act.Grant:
                    IReadOnlyList<ShardLease> granted = await Store.GrantAsync(sweep, [shard], nodes[node], Make.LongLease, Cancellation);
                    Assert.Equal(model.Grant(shard, node), granted.Count == 1 ? granted[0].Epoch : null);
                    leases.AddRange(granted.Select(g => (g, node)));
                    break;
                case Act.GrantSecond:
                    IReadOnlyList<ShardLease> second = await Store.GrantSecondAsync(sweep, [shard], nodes[node], Make.LongLease, Cancellation);
                    Assert.Equal(model.GrantSecond(shard, node), second.Count == 1 ? second[0].Epoch : null);
                    leases.AddRange(second.Select(g => (g, node)));
                    break;
                case Act.Renew:
                    Assert.Equal(
                        model.Renew(lease, holder), (await Store.RenewAsync([lease], nodes[holder], Make.LongLease, Cancellation)).Count == 1);
                    break;
                case Act.Release:
                    await Store.ReleaseAsync([lease], nodes[holder], Cancellation);
                    model.Release(lease, holder);
                    break;
                case Act.Commit or Act.CommitFailing:
                    await CommitAsync(model, lease, holder, nodes[holder], act == Act.CommitFailing);
                    break;
                case Act.Expire:
                    await OwnerAsync($"UPDATE experiments.shard SET lease_until = now() - interval '1 s' WHERE sweep_id = {sweep} AND number = {shard}");
                    model.Shards[shard].Expired = true;
                    break;
                case Act.ExpireSecond:
                    await OwnerAsync($"UPDATE experiments.shard SET second_until = now() - interval '1 s' WHERE sweep_id = {sweep} AND number = {shard} AND second_node IS NOT NULL");
                    model.Shards[shard].SecondExpired = true;
                    break;
                case Act.Retry:
                    Assert.Equal(model.Retry(), await Store.RetryAsync(sweep, failed: true, skipped: false, Cancellation));
                    break;
                case Act.Cancel:
                    Assert.Equal(model.Cancel(), await Store.SetSweepStateAsync(sweep, SweepState.Cancelled, Cancellation));
                    break;
                default:
                    Assert.Equal(model.Resume(), await Store.SetSweepStateAsync(sweep, SweepState.Running, Cancellation));
                    break;
            }

            await CompareAsync(sweep, model);
        }

        await Store.DeleteSweepAsync(sweep, Cancellation);
    }

    private async Task CommitAsync(Model model, ShardLease lease, int holder, int node, bool failing)
    {
        HashSet<long> stored = model.Shards[lease.Shard].Stored.Keys.ToHashSet();
        long[] missing = [.. Enumerable.Range(0, TrialsEach).Select(i => lease.FirstTrial + i).Where(t => !stored.Contains(t))];
        ShardCommit commit = Make.Commit(lease, node, failing ? TrialStatus.Failed : TrialStatus.Done, missing);
        Assert.Equal(model.Commit(lease, holder, missing, failing), await Store.CommitAsync(commit, Cancellation));
    }

    private async Task CompareAsync(long sweep, Model model)
    {
        IReadOnlyList<ShardRow> rows = await Store.LoadShardsAsync(sweep, Cancellation);
        foreach (ShardRow row in rows)
        {
            Shard expected = model.Shards[row.Number];
            Assert.Equal((expected.State, expected.Epoch, expected.Stored.Count), (row.State, row.Epoch, row.StoredTrials));
            Assert.Equal(
                expected.Stored.Keys.Order(), (await Store.StoredTrialsAsync(sweep, row.Number, Cancellation)).Order());
        }

        int failed = model.Shards.Sum(s => s.Stored.Values.Count(f => f));
        int all = model.Shards.Sum(s => s.Stored.Count);
        Assert.Equal(
            new SweepProgress(
                model.State, Shards * TrialsEach, all - failed, failed, 0, Shards,
                model.Shards.Count(s => s.State == ShardState.Done),
                model.State == SweepState.Done ? 0 : model.Shards.Count(s => s.State == ShardState.Leased)),
            await Store.ProgressAsync(sweep, Cancellation));
        Assert.Equal((long)all, await ScalarAsync($"SELECT count(*) FROM experiments.trial WHERE sweep_id = {sweep}"));
    }

    private sealed class Shard
    {
        internal ShardState State { get; set; }

        internal int Epoch { get; set; }

        internal int? CommittedEpoch { get; set; }

        internal bool Expired { get; set; }

        internal int Holder { get; set; }

        internal int? Second { get; set; }

        internal bool SecondExpired { get; set; }

        internal int CommittedBy { get; set; }

        /// <summary>Trial to whether it failed.</summary>
        internal Dictionary<long, bool> Stored { get; } = [];
    }

    private sealed class Model
    {
        internal Shard[] Shards { get; } = [.. Enumerable.Range(0, ModelTests.Shards).Select(_ => new Shard())];

        internal SweepState State { get; private set; } = SweepState.Running;

        internal int? Grant(int number, int node)
        {
            Shard shard = Shards[number];
            if (State != SweepState.Running || shard.State == ShardState.Done
                || (shard.State == ShardState.Leased && !(shard.Expired && (shard.Second is null || shard.SecondExpired))))
            {
                return null;
            }

            (shard.State, shard.Holder, shard.Expired, shard.Second) = (ShardState.Leased, node, false, null);
            return ++shard.Epoch;
        }

        internal int? GrantSecond(int number, int node)
        {
            Shard shard = Shards[number];
            if (State != SweepState.Running || shard.State != ShardState.Leased || shard.Expired || shard.Holder == node
                || (shard.Second is not null && !shard.SecondExpired))
            {
                return null;
            }

            (shard.Second, shard.SecondExpired) = (node, false);
            return shard.Epoch;
        }

        internal bool Renew(ShardLease lease, int node)
        {
            if (!Holds(lease, node) || State != SweepState.Running)
            {
                return false;
            }

            Shard shard = Shards[lease.Shard];
            shard.Expired &= shard.Holder != node;
            shard.SecondExpired &= shard.Second != node;
            return true;
        }

        internal void Release(ShardLease lease, int node)
        {
            Shard shard = Shards[lease.Shard];
            if (!Holds(lease, node))
            {
                return;
            }

            if (shard.Second is null)
            {
                shard.State = ShardState.Ready;
            }
            else if (shard.Holder == node)
            {
                (shard.Holder, shard.Expired) = (shard.Second.Value, shard.SecondExpired);
            }

            shard.Second = null;
        }

        internal CommitResult Commit(ShardLease lease, int node, long[] trials, bool failing)
        {
            Shard shard = Shards[lease.Shard];

            // Whoever has that epoch may, once: rows under one epoch are of one plan.
            if (shard.State != ShardState.Leased || shard.Epoch != lease.Epoch)
            {
                return (shard.CommittedEpoch, shard.CommittedBy) == (lease.Epoch, node) ? CommitResult.Stored : CommitResult.Fenced;
            }

            (shard.CommittedBy, shard.Second) = (node, null);
            foreach (long trial in trials)
            {
                shard.Stored.Add(trial, failing);
            }

            (shard.State, shard.CommittedEpoch) = (ShardState.Done, lease.Epoch);
            if (State == SweepState.Running && AllDone)
            {
                State = SweepState.Done;
            }

            return CommitResult.Stored;
        }

        internal long Retry()
        {
            long moved = 0;
            foreach (Shard shard in Shards.Where(s => s.State != ShardState.Leased && s.Stored.ContainsValue(true)))
            {
                foreach (long trial in shard.Stored.Where(t => t.Value).Select(t => t.Key).ToList())
                {
                    shard.Stored.Remove(trial);
                    moved++;
                }

                shard.State = ShardState.Ready;
            }

            if (moved > 0 && State == SweepState.Done)
            {
                State = SweepState.Running;
            }

            return moved;
        }

        internal bool Cancel()
        {
            bool running = State == SweepState.Running;
            State = running ? SweepState.Cancelled : State;
            return running;
        }

        internal bool Resume()
        {
            if (State != SweepState.Cancelled)
            {
                return false;
            }

            foreach (Shard shard in Shards.Where(s => s.State == ShardState.Leased))
            {
                shard.State = ShardState.Ready;
            }

            State = AllDone ? SweepState.Done : SweepState.Running;
            return true;
        }

        private bool AllDone => Shards.All(s => s.State == ShardState.Done);

        private bool Holds(ShardLease lease, int node) =>
            Shards[lease.Shard].State == ShardState.Leased && Shards[lease.Shard].Epoch == lease.Epoch
            && (Shards[lease.Shard].Holder == node || Shards[lease.Shard].Second == node);
    }
}
