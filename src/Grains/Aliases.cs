namespace Experiments.Grains;

/// <summary>Every name that goes over the wire between silos, in one place: a duplicate crashes a silo at start-up, and a
/// changed one breaks a cluster that is being upgraded.</summary>
internal static class Aliases
{
    public const string SweepGrain = "experiments.ISweepGrain";
    public const string ShardGrain = "experiments.IShardGrain";
    public const string ShardLease = "experiments.ShardLease";
    public const string LeaseRequest = "experiments.LeaseRequest";
    public const string LeaseGrant = "experiments.LeaseGrant";
    public const string LedgerProgress = "experiments.LedgerProgress";
    public const string ShardStart = "experiments.ShardStart";
}
