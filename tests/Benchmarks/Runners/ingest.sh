#!/usr/bin/env bash
# How fast trials of a kernel that does nothing are stored, rows, samples and spans, fsync on: from one silo and from three, beside a bare COPY of the very
# rows that the one has stored; what tracing costs; and how full lanes are of trials of 50 ms. PostgreSQL and all silos are on this machine's cores. Needs
# the .NET SDK and PostgreSQL's binaries; of the program as it is installed (deploy/package.sh, the tarball unpacked), or a built client's
# experiments. Writes a Markdown table.
#
#     tests/Benchmarks/Runners/ingest.sh PROGRAM [TRIALS] [ROUNDS]
set -euo pipefail
program=$(realpath "${1:?the experiments program is needed}") trials=${2:-4000000} rounds=${3:-5}
root=$(cd "$(dirname "$0")/../../.." && pwd)
folder=$(mktemp -d)
# Root's server runs as another user, who is to reach it.
chmod 755 "$folder"
export XDG_DATA_HOME=$folder XDG_CONFIG_HOME=$folder XDG_STATE_HOME=$folder EXPERIMENTS_PLUGINS=$folder/nothing/out
experiments() { "$program" "$@"; }
finish() {
    experiments cluster down > /dev/null 2>&1 || true
    experiments database stop > /dev/null 2>&1 || true
    rm -rf "$folder"
}
trap finish EXIT

# A kernel of one's own, as src/Kernels/WRITING-A-KERNEL.md has it.
mkdir "$folder/nothing"
cat > "$folder/nothing/nothing.csproj" <<XML
<Project Sdk="Microsoft.NET.Sdk">
  <PropertyGroup><TargetFramework>net10.0</TargetFramework><ImplicitUsings>enable</ImplicitUsings></PropertyGroup>
  <ItemGroup><ProjectReference Include="$root/src/Kernels/Kernels.csproj" /></ItemGroup>
</Project>
XML
cat > "$folder/nothing/Nothing.cs" <<'CS'
using System.Numerics;
using Experiments.Kernels;
using Experiments.Kernels.AttentionGradient;

public sealed class Nothing : IGradientKernel
{
    public string Name => "nothing";

    public string Summary => "Zeros, whatever it is given.";

    public IReadOnlyList<Axis> Axes { get; } = [];

    public KernelCost Predict(int n, int d, int bytesPerNumber, int threads, Settings settings) => new(Flops: 1, StateBytes: 0, Rank: null);

    public void Compute<T>(AttentionProblem<T> problem, Settings settings, GradientOutput<T> output, KernelContext context)
        where T : unmanaged, IBinaryFloatingPointIeee754<T>
    {
        Array.Clear(output.DX);
        Array.Clear(output.Forward);
        output.Loss = 0;
        output.MinRowSumOverN = 1;
    }
}
CS
dotnet build -c Release -v q -o "$folder/nothing/out" "$folder/nothing" > "$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }

cat > "$folder/nothing.yaml" <<YAML
name: nothing
instances: {family: uniform, n: 1, d: 1, bound: 1, repeats: $trials}
kernels: {kernel: nothing}
measure: {rounds: 1, min_time: 0, max_noise: 0, reference: none, sharing: true}
YAML
cat > "$folder/tiny.yaml" <<YAML
name: tiny
instances: {family: uniform, n: 16, d: 4, bound: 1, repeats: 250000}
kernels:
  - {kernel: exact, precision: float32}
  - {kernel: low-rank, degree: 2, precision: float32}
measure: {rounds: 1, min_time: 0, max_noise: 0, reference: none, sharing: true}
YAML
# Trials of some 2 ms: each has spans of its own, which one of a few microseconds has not.
cat > "$folder/traced.yaml" <<YAML
name: traced
instances: {family: uniform, n: 1024, d: 16, bound: 1, repeats: 10000}
kernels: {kernel: exact, precision: float64}
measure: {rounds: 1, min_time: 0, max_noise: 0, reference: none, sharing: true}
YAML
# Instances of some 50 ms, drawn and timed.
cat > "$folder/fifty.yaml" <<YAML
name: fifty
instances: {family: uniform, n: 4096, d: 16, bound: 1, repeats: 600}
kernels: {kernel: exact, precision: float32}
measure: {rounds: 2, min_time: 0, max_noise: 0, reference: none, sharing: true}
YAML

query() { experiments query --csv "$1" | tail -n 1; }
client=$(find /usr/lib/postgresql -name psql | sort -V | tail -n 1)
psql() { "$client" -qXAt -v ON_ERROR_STOP=1 "${connection[@]}" "$@"; }
last="(SELECT max(id) FROM experiments.sweep)"
rate="SELECT round(count(*) / extract(epoch FROM max(s.committed_at) - w.created_at)) FROM experiments.sweep w
    JOIN experiments.shard s ON s.sweep_id = w.id JOIN experiments.trial t ON (t.sweep_id, t.shard) = (s.sweep_id, s.number) WHERE w.id = $last GROUP BY w.created_at"
busy="SELECT sum(duration_seconds) FROM experiments.span WHERE sweep_id = $last AND name = 'instance'"
wall="SELECT extract(epoch FROM max(committed_at) - min(granted_at)) FROM experiments.shard WHERE sweep_id = $last"
run() { experiments run "$folder/$1.yaml" --lanes 2 > "$folder/log" 2>&1 || { cat "$folder/log" >&2; exit 1; }; }

experiments database start > /dev/null 2>&1
run nothing
read -ra connection <<< "$(experiments database | sed -n 's/.*psql \(-h .*\)/\1/p' | head -n 1)"
psql -c 'CREATE SCHEMA bare' -c 'CREATE TABLE bare.trial (LIKE experiments.trial INCLUDING ALL)' \
    -c 'CREATE TABLE bare.sample (LIKE experiments.sample INCLUDING ALL)' -c 'CREATE TABLE bare.span (LIKE experiments.span INCLUDING ALL)'
for table in trial sample span; do
    psql -c "COPY (SELECT * FROM experiments.$table WHERE sweep_id = $last) TO STDOUT (FORMAT binary)" > "$folder/$table"
done

copy() {
    psql -c 'TRUNCATE bare.trial, bare.sample, bare.span' -c CHECKPOINT
    local start
    start=$(date +%s.%N)
    psql -c BEGIN -c "\\copy bare.trial FROM '$folder/trial' (FORMAT binary)" -c "\\copy bare.sample FROM '$folder/sample' (FORMAT binary)" \
        -c "\\copy bare.span FROM '$folder/span' (FORMAT binary)" -c COMMIT
    awk -v n="$trials" -v s="$start" -v e="$(date +%s.%N)" 'BEGIN { printf "%.0f", n / (e - s) }'
}

# By how much the lanes' time beside the kernels' own is more, the kernels' own being two calls a trial, one of them untimed: machines get slower and
# faster by more within minutes than tracing costs, and the kernels' seconds say by how much. Half a minute each, for what the runtime compiles of it at the start
# counts too; as much later as sooner.
traced_by() {
    local kernels="SELECT sum(2 * seconds_median) FROM experiments.trial WHERE sweep_id = $last" on=0 off=0 sampler
    for sampler in always_on always_off always_off always_on; do
        OTEL_TRACES_SAMPLER=$sampler run traced
        if [ $sampler = always_on ]; then on=$(query "SELECT $on + ($wall) / ($kernels)"); else off=$(query "SELECT $off + ($wall) / ($kernels)"); fi
    done
    awk -v a="$on" -v b="$off" 'BEGIN { printf "%.4f", a / b - 1 }'
}

# What share the last number of one row is of the last of another.
last_of() { awk -v o="${1##* }" -v b="${2##* }" 'BEGIN { printf "%.3f", o / b }'; }

one='' bare='' tiny='' share='' three='' third='' lanes=''
for _ in $(seq "$rounds"); do
    psql -c CHECKPOINT
    run nothing
    one+="$(query "$rate") "
    bare+="$(copy) "
    share+="$(last_of "${one% }" "${bare% }") "
    psql -c CHECKPOINT
    run tiny
    tiny+="$(query "$rate") "
    run fifty
    lanes+="$(awk -v b="$(query "$busy")" -v w="$(query "$wall")" 'BEGIN { printf "%.4f", b / w / 2 }') "
done

spans=$(traced_by)
experiments cluster up --silos 3 --lanes 1 > /dev/null 2>&1
for _ in $(seq "$rounds"); do
    psql -c CHECKPOINT
    experiments submit "$folder/nothing.yaml" > /dev/null 2>&1
    experiments watch last > /dev/null 2>&1
    three+="$(query "$rate") "
    bare+="$(copy) "
    third+="$(last_of "${three% }" "${bare% }") "
done

middle() { tr ' ' '\n' <<< "$1" | grep . | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
percent() { awk -v v="$1" 'BEGIN { printf "%.1f %%", 100 * v }'; }
printf '%s trials, %s cores, median of %s rounds.\n\n' "$trials" "$(nproc)" "$rounds"
printf '| | |\n| --- | ---: |\n'
printf '| a bare COPY of the same rows, samples and spans, one transaction, trials a second | %s |\n' "$(middle "$bare")"
printf '| one silo of two lanes, from the sweep in the store to its last commit | %s |\n' "$(middle "$one")"
printf '| of the COPY, round by round | %s |\n' "$(percent "$(middle "$share")")"
printf '| three silos of one lane | %s |\n' "$(middle "$three")"
printf '| of the COPY after it | %s |\n' "$(percent "$(middle "$third")")"
printf '| one silo, pairs of two kernels at n = 16 | %s |\n' "$(middle "$tiny")"
printf '| trials of 2 ms, with spans of their own: time more than untraced | %s |\n' "$(percent "$spans")"
printf '| time of lanes that instances of 50 ms fill | %s |\n' "$(percent "$(middle "$lanes")")"
