namespace Experiments.Results.Outcomes;

/// <summary>Takes what a shard's trials came to, one after another, in the order of their numbers.</summary>
public interface IOutcomes
{
    /// <exception cref="ArgumentException">The trial is not the shard's, or came before.</exception>
    void Add(TrialOutcome outcome);
}

/// <summary>Keeps the outcomes as they are, for whoever looks at them in this process.</summary>
public sealed class OutcomeList : List<TrialOutcome>, IOutcomes;
