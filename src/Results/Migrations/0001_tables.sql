-- The store's tables. Names end in their unit; text is UTF-8; times are UTC.

CREATE TABLE experiments.sweep (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    seed               bigint NOT NULL,
    instances          bigint NOT NULL,
    trials             bigint NOT NULL,
    trials_done        bigint NOT NULL DEFAULT 0,
    trials_failed      bigint NOT NULL DEFAULT 0,
    trials_skipped     bigint NOT NULL DEFAULT 0,
    created_at         timestamptz NOT NULL DEFAULT now(),
    finished_at        timestamptz,
    submission         uuid NOT NULL UNIQUE,
    specification_hash uuid NOT NULL,
    shards             int NOT NULL DEFAULT 0,
    shards_left        int NOT NULL DEFAULT 0,
    state              text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'cancelled')),
    name               text NOT NULL,
    question           text,
    -- json, not jsonb: the text is what was hashed.
    specification      json NOT NULL,
    source             text NOT NULL,
    traceparent        text,
    git_commit         text,
    CHECK (shards_left BETWEEN 0 AND shards),
    CHECK (trials_done >= 0 AND trials_failed >= 0 AND trials_skipped >= 0
           AND trials_done + trials_failed + trials_skipped <= trials)
);
-- Every commit updates the counters: room on the page keeps those updates off the index.
ALTER TABLE experiments.sweep SET (fillfactor = 50);
CREATE INDEX sweep_running ON experiments.sweep (id) WHERE state = 'running';

CREATE TABLE experiments.node (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    process_id int NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    name       text NOT NULL,
    host       text NOT NULL,
    facts      jsonb NOT NULL
);

CREATE TABLE experiments.shard (
    sweep_id          bigint NOT NULL REFERENCES experiments.sweep ON DELETE CASCADE,
    number            int NOT NULL,
    epoch             int NOT NULL DEFAULT 0,
    committed_epoch   int,
    node_id           int REFERENCES experiments.node,
    first_instance    bigint NOT NULL,
    end_instance      bigint NOT NULL,
    first_trial       bigint NOT NULL,
    predicted_seconds float8 NOT NULL,
    lease_until       timestamptz,
    granted_at        timestamptz,
    committed_at      timestamptz,
    trials            int NOT NULL,
    trials_done       int NOT NULL DEFAULT 0,
    trials_failed     int NOT NULL DEFAULT 0,
    trials_skipped    int NOT NULL DEFAULT 0,
    state             text NOT NULL DEFAULT 'ready' CHECK (state IN ('ready', 'leased', 'done')),
    PRIMARY KEY (sweep_id, number),
    CHECK (trials_done >= 0 AND trials_failed >= 0 AND trials_skipped >= 0
           AND trials_done + trials_failed + trials_skipped <= trials),
    CHECK (state <> 'done' OR trials_done + trials_failed + trials_skipped = trials)
);
ALTER TABLE experiments.shard SET (fillfactor = 70);

-- The hot table: no key of its own, since the fenced shard makes its rows unique, and a unique index would cost more than
-- half of the commit rate. The one index has a handful of distinct keys a shard, so deduplication keeps it tiny.
-- Words are grouped and compared, never shown in a language's order: byte order makes a summary twice as fast.
CREATE TABLE experiments.trial (
    sweep_id                bigint NOT NULL,
    trial                   bigint NOT NULL,
    instance                bigint NOT NULL,
    seed                    bigint NOT NULL,
    started_at              timestamptz NOT NULL,
    bound                   float8,
    radius                  float8,
    rank                    bigint,
    seconds_min             float8,
    seconds_median          float8,
    seconds_mad             float8,
    core_seconds            float8,
    flops                   float8,
    state_bytes             float8,
    max_logit               float8,
    rms_logit               float8,
    bound_measured          float8,
    loss                    float8,
    gradient_absolute_error float8,
    gradient_relative_error float8,
    loss_relative_error     float8,
    forward_relative_error  float8,
    min_row_sum_over_n      float8,
    nonpositive_row_sums    bigint,
    fitted_radius           float8,
    predicted_exp_error     float8,
    theorem_bound           float8,
    theorem_slack           float8,
    speedup_over_exact      float8,
    project_seconds         float8,
    moments_seconds         float8,
    rows_seconds            float8,
    reduce_seconds          float8,
    span_id                 bigint,
    trial_key               uuid NOT NULL,
    instance_key            uuid NOT NULL,
    trace_id                uuid NOT NULL,
    digest                  uuid,
    shard                   int NOT NULL,
    epoch                   int NOT NULL,
    node_id                 int NOT NULL,
    n                       int NOT NULL,
    d                       int NOT NULL,
    repeat                  int NOT NULL,
    threads                 int NOT NULL,
    attempts                int NOT NULL,
    degree                  int,
    centred                 bool,
    status                  text COLLATE "C" NOT NULL,
    family                  text COLLATE "C" NOT NULL,
    kernel                  text COLLATE "C" NOT NULL,
    precision               text COLLATE "C" NOT NULL,
    basis                   text COLLATE "C",
    form                    text COLLATE "C",
    reason                  text,
    kernel_parameters       jsonb,
    parameters              jsonb
);
CREATE INDEX trial_shard ON experiments.trial (sweep_id, shard);
-- Rows are only ever appended: freeze and analyse them as they come, not when a fifth of a great table is new.
ALTER TABLE experiments.trial SET (
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05, fillfactor = 100);

CREATE TABLE experiments.sample (
    sweep_id bigint NOT NULL,
    trial    bigint NOT NULL,
    shard    int NOT NULL,
    seconds  float8[] NOT NULL
);
CREATE INDEX sample_shard ON experiments.sample (sweep_id, shard);
ALTER TABLE experiments.sample SET (
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.1);

CREATE TABLE experiments.trial_attempt (
    LIKE experiments.trial,
    replaced_at timestamptz NOT NULL,
    seconds     float8[]
);
CREATE INDEX trial_attempt_shard ON experiments.trial_attempt (sweep_id, shard);

CREATE TABLE experiments.span (
    trace_id         uuid NOT NULL,
    span_id          bigint NOT NULL,
    parent_id        bigint,
    started_at       timestamptz NOT NULL,
    duration_seconds float8 NOT NULL,
    sweep_id         bigint,
    trial            bigint,
    shard            int,
    name             text NOT NULL,
    kind             text NOT NULL,
    error            text,
    attributes       jsonb
);
CREATE INDEX span_trace ON experiments.span (trace_id);
CREATE INDEX span_shard ON experiments.span (sweep_id, shard);
ALTER TABLE experiments.span SET (
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.1);

CREATE TABLE experiments.reference (
    instance_key uuid PRIMARY KEY,
    loss         float8 NOT NULL,
    max_logit    float8 NOT NULL,
    rms_logit    float8 NOT NULL,
    seconds      float8 NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    gradient     bytea NOT NULL,
    forward      bytea NOT NULL
);
-- Random mantissas do not compress; trying costs more than the answer.
ALTER TABLE experiments.reference ALTER gradient SET STORAGE EXTERNAL, ALTER forward SET STORAGE EXTERNAL;

COMMENT ON TABLE experiments.sweep IS 'A grid of trials, as it was asked for. The counters are kept by the commits themselves.';
COMMENT ON COLUMN experiments.sweep.specification IS 'The frozen, canonical spec that silos run.';
COMMENT ON COLUMN experiments.sweep.source IS 'The sweep file as it was written.';
COMMENT ON COLUMN experiments.sweep.submission IS 'Drawn by the client, so that a submission whose answer was lost is not stored twice.';
COMMENT ON TABLE experiments.node IS 'A process that ran shards, and what it ran on. It lives while it holds its advisory lock: see live_node.';
COMMENT ON TABLE experiments.shard IS 'A run of whole instances with their trials, leased and committed together.';
COMMENT ON COLUMN experiments.shard.epoch IS 'Fencing token: grows with every lease. Only the newest may commit.';
COMMENT ON COLUMN experiments.shard.committed_epoch IS 'The lease that committed last: one whose acknowledgement was lost finds itself here.';
COMMENT ON COLUMN experiments.shard.lease_until IS 'By this server''s clock.';
COMMENT ON TABLE experiments.trial IS 'One row a trial: its inputs, its kernel, what was measured. Null is what was not measured.';
COMMENT ON COLUMN experiments.trial.trial IS 'Number within the sweep, from 0.';
COMMENT ON COLUMN experiments.trial.instance IS 'Number of the instance within the sweep''s product of axes.';
COMMENT ON COLUMN experiments.trial.bound IS 'B: the largest absolute entry of A1 X and of A2.';
COMMENT ON COLUMN experiments.trial.rank IS 'k: columns of the low-rank factor.';
COMMENT ON COLUMN experiments.trial.seconds_median IS 'Of one call, over the rounds.';
COMMENT ON COLUMN experiments.trial.seconds_mad IS 'Median absolute deviation of a call''s seconds over the rounds.';
COMMENT ON COLUMN experiments.trial.core_seconds IS 'Processor seconds of one call.';
COMMENT ON COLUMN experiments.trial.flops IS 'Floating-point operations of one call by the kernel''s own model.';
COMMENT ON COLUMN experiments.trial.gradient_relative_error IS 'Largest absolute difference from the exact float64 gradient, over that gradient''s largest entry.';
COMMENT ON COLUMN experiments.trial.speedup_over_exact IS 'Median over the rounds of the exact kernel''s seconds over this one''s, same precision, same inputs, same round.';
COMMENT ON COLUMN experiments.trial.theorem_slack IS 'The theorem''s bound over the measured absolute error.';
COMMENT ON COLUMN experiments.trial.digest IS '128-bit hash of the gradient''s bytes.';
COMMENT ON COLUMN experiments.trial.trial_key IS 'Hash of what names the trial: the same in every sweep.';
COMMENT ON COLUMN experiments.trial.kernel_parameters IS 'The kernel''s settings that have no column; null when there are none.';
COMMENT ON COLUMN experiments.trial.parameters IS 'The family''s settings and the sweep file''s own names; null when there are none.';
COMMENT ON TABLE experiments.sample IS 'Raw timings, one row a trial. The view samples has one row a round.';
COMMENT ON TABLE experiments.trial_attempt IS 'Rows of trials that were put back by a retry, with their timings.';
COMMENT ON TABLE experiments.span IS 'Traces. span_id and parent_id are the 64 bits of the hexadecimal ids; the view spans prints them.';
COMMENT ON TABLE experiments.reference IS 'Exact float64 answers by instance: gradient (d, d) and forward (n, d), row-major little-endian doubles.';
