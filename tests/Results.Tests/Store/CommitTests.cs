using Experiments.Results.Outcomes;
using Experiments.Results.Store;

namespace Experiments.Results.Tests.Store;

public sealed class CommitTests : StoreTest
{
    [Fact]
    public async Task A_committed_trial_reads_back_as_it_was()
    {
        long sweep = await Make.SweepAsync(Store, 1, 8);
        int node = await Make.NodeAsync(Store);
        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, node);
        ShardCommit commit = Make.Commit(lease, node);
        Assert.Equal(CommitResult.Stored, await Store.CommitAsync(commit, Cancellation));

        Dictionary<string, object?> row = (await Store.FindTrialAsync(sweep, 5, Cancellation))!.ToDictionary(c => c.Column, c => c.Value);
        TrialOutcome given = Make.Outcome(5);
        Assert.Equal("low-rank", row["kernel"]);
        Assert.Equal(given.Instance.N, row["n"]);
        Assert.Equal(2, row["degree"]);
        Assert.Equal(true, row["centred"]);
        Assert.Equal(given.SecondsMedian, row["seconds_median"]);
        Assert.Equal(given.Instance.Key, row["instance_key"]);
        Assert.Equal(given.Spec.KeyOn(given.Instance), row["trial_key"]);
        Assert.Equal(given.Digest, row["digest"]);
        Assert.Equal(commit.Rows.TraceId.ToString("N"), row["trace_id"]);
        Assert.Equal(given.SpanId!.Value.ToString("x16"), row["span_id"]);
        Assert.Equal(given.StartedAt.UtcDateTime, row["started_at"]);
        Assert.Null(row["parameters"]);
        Assert.Equal(24L, await ScalarAsync("SELECT count(*) FROM experiments.samples WHERE seconds > 0"));
        Assert.Equal(SweepState.Done, (await Store.FindSweepAsync(sweep, Cancellation))!.State);
    }

    [Fact]
    public async Task What_Postgres_cannot_hold_does_not_poison_a_commit()
    {
        long sweep = await Make.SweepAsync(Store, 1, 1);
        int node = await Make.NodeAsync(Store);
        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, node);
        TrialOutcome outcome = Make.Outcome(0, TrialStatus.Failed);
        outcome.Reason = "NUL \0, lone \uD800 surrogate";
        outcome.Loss = double.NaN;
        outcome.GradientRelativeError = double.PositiveInfinity;
        SpanRecord[] spans =
        [
            Make.Span(lease, attributes: """{"a":"\u0000","b\ud800":1e999}"""), Make.Span(lease, attributes: "no json \0"),
            Make.Span(lease, "na\0me", attributes: null), Make.Span(lease, attributes: "{\"a\":\"\uD800\"}"),
        ];
        ShardCommit commit = Make.Commit(lease, node, [outcome], spans);
        Assert.Equal(CommitResult.Stored, await Store.CommitAsync(commit, Cancellation));
        Dictionary<string, object?> row = (await Store.FindTrialAsync(sweep, 0, Cancellation))!.ToDictionary(c => c.Column, c => c.Value);
        Assert.Equal("NUL \uFFFD, lone \uFFFD surrogate", row["reason"]);
        Assert.Null(row["loss"]);
        Assert.Equal(double.PositiveInfinity, row["gradient_relative_error"]);
        Assert.Equal(4L, await ScalarAsync("SELECT count(*) FROM experiments.span"));
    }

    [Fact]
    public async Task A_zombies_commit_is_fenced_and_writes_nothing()
    {
        long sweep = await Make.SweepAsync(Store, 1, 4);
        int zombie = await Make.NodeAsync(Store);
        ShardLease old = Assert.Single(await Store.GrantAsync(sweep, [0], zombie, TimeSpan.Zero, Cancellation));
        int successor = await Make.NodeAsync(Store);
        ShardLease fresh = await Make.GrantOneAsync(Store, sweep, 0, successor);
        Assert.True(fresh.Epoch > old.Epoch);
        Assert.Equal(CommitResult.Fenced, await Store.CommitAsync(Make.Commit(old, zombie), Cancellation));
        Assert.Equal(0L, await ScalarAsync("SELECT count(*) FROM experiments.trial"));
        Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(fresh, successor), Cancellation));
        Assert.Equal(CommitResult.Fenced, await Store.CommitAsync(Make.Commit(old, zombie), Cancellation));
        Assert.Equal(4L, await ScalarAsync("SELECT count(*) FROM experiments.trial"));
    }

    [Fact]
    public async Task A_lost_acknowledgement_of_ones_own_commit_is_success_andStores_nothing_twice()
    {
        long sweep = await Make.SweepAsync(Store, 1, 4);
        int node = await Make.NodeAsync(Store);
        ShardCommit commit = Make.Commit(await Make.GrantOneAsync(Store, sweep, 0, node), node);
        Assert.Equal(CommitResult.Stored, await Store.CommitAsync(commit, Cancellation));
        Assert.Equal(CommitResult.Stored, await Store.CommitAsync(commit, Cancellation));
        Assert.Equal(4L, await ScalarAsync("SELECT count(*) FROM experiments.trial"));
    }

    [Fact]
    public async Task A_released_lease_cannot_commit()
    {
        long sweep = await Make.SweepAsync(Store, 1, 4);
        int node = await Make.NodeAsync(Store);
        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, node);
        await Store.ReleaseAsync([lease], node, Cancellation);
        Assert.Equal(CommitResult.Fenced, await Store.CommitAsync(Make.Commit(lease, node), Cancellation));
    }

    [Fact]
    public async Task A_commit_that_lacks_or_repeats_trials_is_refused_whole()
    {
        long sweep = await Make.SweepAsync(Store, 1, 4);
        int node = await Make.NodeAsync(Store);
        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, node);
        foreach (long[] trials in (long[][])[[0, 1, 2], [0, 1, 2, 2], [0, 1, 2, 4]])
        {
            await Assert.ThrowsAsync<ArgumentException>(
                () => Store.CommitAsync(Make.Commit(lease, node, trials: trials), Cancellation));
        }

        Assert.Equal(0L, await ScalarAsync("SELECT count(*) FROM experiments.trial"));
        Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(lease, node), Cancellation));
    }

    [Fact]
    public async Task Rows_that_were_sent_take_no_more_trials()
    {
        long sweep = await Make.SweepAsync(Store, 1, 3);
        int node = await Make.NodeAsync(Store);
        ShardLease lease = (await Make.GrantOneAsync(Store, sweep, 0, node)) with { Trials = 4 };
        ShardCommit commit = Make.Commit(lease, node, trials: [0, 1, 2]);
        Assert.Equal(CommitResult.Stored, await Store.CommitAsync(commit, Cancellation));
        Assert.Throws<InvalidOperationException>(() => commit.Rows.Add(Make.Outcome(3)));
        Assert.Equal((3, 3, 0, 0), (commit.Rows.Count, commit.Rows.Done, commit.Rows.Failed, commit.Rows.Skipped));
        Assert.Equal(3L, await ScalarAsync("SELECT count(*) FROM experiments.trial"));
    }

    [Fact]
    public async Task Rows_whose_memory_was_given_back_are_not_committed_as_none()
    {
        long sweep = await Make.SweepAsync(Store, 1, 3);
        int node = await Make.NodeAsync(Store);
        ShardCommit commit = Make.Commit(await Make.GrantOneAsync(Store, sweep, 0, node), node);
        commit.Rows.Dispose();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => Store.CommitAsync(commit, Cancellation));
        Assert.Equal(0, (await Store.ProgressAsync(sweep, Cancellation)).Done);
    }

    [Fact]
    public async Task The_sweep_is_done_when_its_last_shards_commit_at_the_same_time()
    {
        for (int round = 0; round < 20; round++)
        {
            long sweep = await Make.SweepAsync(Store, 8, 2);
            int node = await Make.NodeAsync(Store);
            IReadOnlyList<ShardLease> leases = await Store.GrantAsync(sweep, [.. Enumerable.Range(0, 8)], node, Make.LongLease, Cancellation);
            await Task.WhenAll(leases.Select(l => Store.CommitAsync(Make.Commit(l, node), Cancellation)));
            SweepProgress progress = await Store.ProgressAsync(sweep, Cancellation);
            Assert.Equal(new SweepProgress(SweepState.Done, 16, 16, 0, 0, 8, 8, 0), progress);
            Assert.NotNull((await Store.FindSweepAsync(sweep, Cancellation))!.FinishedAt);
        }
    }

    [Theory]
    [InlineData("53100", "no room left")]
    [InlineData("22003", "22003")]
    public async Task A_copy_that_fails_midway_leaves_nothing(string state, string said)
    {
        long sweep = await Make.SweepAsync(Store, 1, 100);
        int node = await Make.NodeAsync(Store);
        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, node);
        // The server's own fault at the 60th row, as a full disk is raised in the middle of a COPY.
        await OwnerAsync($"""
            CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN IF NEW.trial = 60 THEN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '{state}'; END IF; RETURN NEW; END $$;
            CREATE TRIGGER fail BEFORE INSERT ON experiments.trial FOR EACH ROW EXECUTE FUNCTION public.fail();
            """);
        StoreUnavailableException fault = await Assert.ThrowsAsync<StoreUnavailableException>(
            () => Store.CommitAsync(Make.Commit(lease, node), Cancellation));
        Assert.Contains(said, fault.Message, StringComparison.Ordinal);
        Assert.Equal(0L, await ScalarAsync("SELECT count(*) FROM experiments.trial"));
        Assert.Equal(ShardState.Leased, Assert.Single(await Store.LoadShardsAsync(sweep, Cancellation)).State);

        await OwnerAsync("DROP TRIGGER fail ON experiments.trial");
        Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(lease, node), Cancellation));
    }

    [Fact]
    public async Task A_deadlock_or_a_broken_connection_in_the_middle_is_tried_again()
    {
        long sweep = await Make.SweepAsync(Store, 1, 10);
        int node = await Make.NodeAsync(Store);
        ShardLease lease = await Make.GrantOneAsync(Store, sweep, 0, node);
        // A sequence is not rolled back, so it counts the tries: a deadlock first, then a killed backend, then success.
        await OwnerAsync("""
            CREATE SEQUENCE public.tries;
            CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
            BEGIN
                IF NEW.trial = 5 THEN
                    CASE nextval('public.tries')
                        WHEN 1 THEN RAISE EXCEPTION 'deadlock' USING ERRCODE = '40P01';
                        WHEN 2 THEN PERFORM pg_terminate_backend(pg_backend_pid());
                        ELSE NULL;
                    END CASE;
                END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER fail BEFORE INSERT ON experiments.trial FOR EACH ROW EXECUTE FUNCTION public.fail();
            """);
        Assert.Equal(CommitResult.Stored, await Store.CommitAsync(Make.Commit(lease, node), Cancellation));
        Assert.Equal(10L, await ScalarAsync("SELECT count(*) FROM experiments.trial"));
        Assert.Equal(3L, await ScalarAsync("SELECT last_value FROM public.tries"));
    }

    [Fact]
    public async Task A_reference_is_kept_once_and_found_by_its_instance()
    {
        long sweep = await Make.SweepAsync(Store, 2, 1);
        int node = await Make.NodeAsync(Store);
        ReferenceRecord reference = new(Guid.NewGuid(), [1, 2, double.MinValue, 4], [0.5, double.Epsilon], 0.25, 3, 1, 0.125);
        for (int shard = 0; shard < 2; shard++)
        {
            ShardLease lease = await Make.GrantOneAsync(Store, sweep, shard, node);
            await Store.CommitAsync(Make.Commit(lease, node) with { References = [reference, reference] }, Cancellation);
        }

        ReferenceRecord found = (await Store.FindReferenceAsync(reference.InstanceKey, Cancellation))!;
        Assert.Equal(reference.Gradient, found.Gradient);
        Assert.Equal(reference.Forward, found.Forward);
        Assert.Equal((0.25, 3, 1, 0.125), (found.Loss, found.MaxLogit, found.RmsLogit, found.Seconds));
        Assert.Null(await Store.FindReferenceAsync(Guid.NewGuid(), Cancellation));
    }

    [Fact]
    public async Task Estimates_are_stored_with_their_standard_errors_and_a_sampled_reference_with_its_rows()
    {
        long sweep = await Make.SweepAsync(Store, 1, 4);
        int node = await Make.NodeAsync(Store);
        ShardCommit commit = Make.Commit(await Make.GrantOneAsync(Store, sweep, 0, node), node, (place, outcome) =>
        {
            if (place == 1)
            {
                outcome.ReferenceRows = 4096;
                outcome.GradientErrorStandardError = 2e-7;
                outcome.LossErrorStandardError = 3e-9;
            }
        });
        ReferenceRecord reference = new(Guid.NewGuid(), [1, 2, 3, 4], [5, 6, 7, 8], 0.25, 3, 1, 0.125) { Rows = 2 };
        await Store.CommitAsync(commit with { References = [reference] }, Cancellation);
        Assert.Equal(2, (await Store.FindReferenceAsync(reference.InstanceKey, Cancellation))!.Rows);

        Dictionary<string, object?> row = (await Store.FindTrialAsync(sweep, 1, Cancellation))!.ToDictionary(c => c.Column, c => c.Value);
        Assert.Equal(4096, row["reference_rows"]);
        Assert.Equal(2e-7, row["gradient_error_standard_error"]);
        Assert.Equal(3e-9, row["loss_error_standard_error"]);
        Assert.Null((await Store.FindTrialAsync(sweep, 2, Cancellation))!.Single(c => c.Column == "reference_rows").Value);

        // The error is 1e-6, 0.1 of the gradient: in those units the standard error is 0.02.
        SummaryCell[] cells = [.. (await Store.SummariseAsync(sweep, Cancellation))!.Configurations];
        SummaryCell one = cells.Single(c => c.Estimated > 0);
        Assert.Equal(1, one.Estimated);
        Assert.Equal(0.02, one.ErrorStandardError!.Value, 12);
        Assert.All(cells.Where(c => c != one), c => Assert.Null(c.ErrorStandardError));
        Assert.Equal(0.02, (double)(await ScalarAsync(
            "SELECT gradient_relative_standard_error_median FROM experiments.error_by_degree WHERE estimated = 1"))!, 12);
    }

    [Fact]
    public async Task Spans_come_back_with_their_ids()
    {
        SpanRecord span = new(
            Guid.NewGuid(), ulong.MaxValue, 5, "commit", "client", new DateTimeOffset(2026, 1, 2, 3, 4, 5, TimeSpan.Zero), 0.25, "boom", 1, 2, 3,
            """{"a": 1}""");
        await Store.WriteSpansAsync([span], Cancellation);
        Assert.Equal(span, Assert.Single(await Store.SpansAsync(span.TraceId, Cancellation)));
    }
}
