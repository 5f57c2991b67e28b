#!/usr/bin/env bash
# Ten thousand tasks that do nothing, by this runner, by Dask distributed and by GNU parallel, one after the other on the same cores: what a task costs
# beside its work. Needs python3-distributed and parallel (Debian's packages), PostgreSQL's binaries and a built client; writes a Markdown table.
#
#     dotnet build -c Release src/Client && tests/Benchmarks/Runners/beside.sh [TASKS] [ROUNDS]
set -euo pipefail
tasks=${1:-10000} rounds=${2:-3}
cores=$(nproc)
root=$(cd "$(dirname "$0")/../../.." && pwd)
folder=$(mktemp -d)
# Root's server runs as another user, who is to reach it.
chmod 755 "$folder"
export XDG_DATA_HOME=$folder XDG_CONFIG_HOME=$folder OMP_NUM_THREADS=1
experiments() { dotnet "$root/src/Client/bin/Release/net10.0/experiments.dll" "$@"; }
trap 'experiments database stop > /dev/null 2>&1 || true; rm -rf "$folder"' EXIT

cat > "$folder/nothing.yaml" <<YAML
name: nothing
instances: {family: uniform, n: 1, d: 1, bound: 1, repeats: $tasks}
kernels: {kernel: exact}
measure: {rounds: 1, min_time: 0, max_noise: 0, reference: none, sharing: true}
YAML
cat > "$folder/gather.py" <<'PYTHON'
import sys, time
from distributed import Client, LocalCluster


def nothing(i):
    return i


if __name__ == "__main__":
    tasks, cores = int(sys.argv[1]), int(sys.argv[2])
    with LocalCluster(n_workers=cores, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        client.gather(client.map(nothing, range(100), pure=False))
        start = time.perf_counter()
        client.gather(client.map(nothing, range(tasks), pure=False))
        print(time.perf_counter() - start)
PYTHON

# The server is up and has been used once, as Dask's cluster is.
experiments run "$folder/nothing.yaml" --set instances.repeats=100 > /dev/null 2>&1
rate() { awk -v n="$tasks" -v s="$1" 'BEGIN { printf "%.0f ", n / s }'; }
ours='' whole='' dask='' parallel=''
for _ in $(seq "$rounds"); do
    start=$(date +%s.%N)
    experiments run "$folder/nothing.yaml" > /dev/null 2>&1
    whole+=$(rate "$(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { print b - a }')")' '
    ours+=$(rate "$(experiments query --csv 'SELECT extract(epoch FROM finished_at - created_at) FROM experiments.sweep ORDER BY id DESC LIMIT 1' | tail -1)")' '
    dask+=$(rate "$(/usr/bin/python3 "$folder/gather.py" "$tasks" "$cores" 2> /dev/null)")' '
    start=$(date +%s.%N)
    seq "$tasks" | parallel --will-cite -j "$cores" true > /dev/null 2>&1
    parallel+=$(rate "$(awk -v a="$start" -v b="$(date +%s.%N)" 'BEGIN { print b - a }')")' '
done

median() { tr ' ' '\n' <<< "$1" | grep . | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
stored=$(experiments query --csv 'SELECT count(*) FROM experiments.trial WHERE sweep_id = (SELECT max(id) FROM experiments.sweep)' | tail -1)
printf '%s tasks, %s cores, median of %s rounds; %s rows of the last round are stored.\n\n' "$tasks" "$cores" "$rounds" "$stored"
printf '| runner | tasks a second |\n| --- | ---: |\n'
printf '| Experiments, from the sweep in the store to its last commit | %s |\n' "$(median "$ours")"
printf '| Experiments, the whole command | %s |\n' "$(median "$whole")"
printf '| Dask distributed, map to gather | %s |\n' "$(median "$dask")"
printf '| GNU parallel, the whole command | %s |\n' "$(median "$parallel")"
