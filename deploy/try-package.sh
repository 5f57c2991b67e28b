#!/usr/bin/env bash
# Installs what package.sh left in artifacts/, or in the folder that is named, into a temporary place, and uses it as a person
# would: a plan, a run, a query, a plug-in, and the private Postgres, whose keeper has to start from there and stop it.
# The silo's own program does a sweep that is submitted. Needs the .NET SDK, redis-server and PostgreSQL's server binaries. Leaves nothing behind.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$(cd "${1:-$root/artifacts}" && pwd)
version=$(dotnet msbuild "$root/src/Client" -getProperty:Version)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# For root the server runs as another user, who has to come by here.
chmod 755 "$work"

fail() { echo "try-package: $*" >&2; exit 1; }

cat > "$work/small.yaml" <<'YAML'
name: small
seed: 1
instances: {family: uniform, n: [32, 64], d: 3, bound: 1}
kernels:
  - kernel: exact
  - kernel: low-rank
    degree: [2, 4]
measure: {rounds: 2, min_time: 1ms, max_noise: 0}
YAML
cat > "$work/plugged.yaml" <<'YAML'
name: plugged
seed: 1
instances: {family: walk, memory: 0.5, n: 48, d: 3, bound: 2}
kernels:
  - kernel: exact
    precision: float64
  - kernel: window
    half_width: 4
    precision: float64
measure: {rounds: 2, min_time: 1ms, max_noise: 0}
YAML
dotnet build "$root/tests/Plugins.Sample" -c Release -v quiet -nologo > "$work/build.txt" || fail "the sample plug-in does not build: $(cat "$work/build.txt")"
plugins=$root/tests/Plugins.Sample/bin/Release/net10.0

# Processes whose command line has a word in it; not grep itself, which gets the word by another way.
# shellcheck disable=SC2062  # the pattern is --file's; what follows are files
processes() { grep -lsF --file=<(echo "$1") /proc/[0-9]*/cmdline | cut -d/ -f3 || :; }

# NAME FOLDER: the private Postgres in it is stopped by its keeper.
ends() {
  local waited
  for (( waited = 0; waited < 300; waited++ )); do
    [ -n "$(processes "$2")" ] || return 0
    sleep 0.1
  done
  fail "$1: the private Postgres runs on, 30 s after its last use"
}

# NAME PROGRAM [VARIABLE=VALUE…]: everything that is expected of one way to install.
try() {
  local name=$1 program=$2
  shift 2
  local data=$work/$name-data
  run() {
    env -i PATH=/usr/local/bin:/usr/bin:/bin HOME="$work/$name-home" XDG_DATA_HOME="$data" EXPERIMENTS_POSTGRES_IDLE=3s \
      "$@" "$program" "${words[@]}" || fail "$name: '${words[*]}' ended with $?"
  }
  mkdir -p "$work/$name-home"

  local words=(plan quickstart)
  run "$@" | grep -q '240' || fail "$name: the preset does not plan its 240 trials"
  words=(run "$work/small.yaml")
  run "$@" > "$work/$name.txt" 2> "$work/$name.err"
  local keeper
  keeper=$(for id in $(processes "$data"); do tr '\0' ' ' 2> "$work/gone" < "/proc/$id/cmdline" | grep -F 'database keeper' || :; done)
  [ -n "$keeper" ] || fail "$name: no keeper watches the private Postgres"
  words=(query 'select count(*) as stored from trials where sweep_id = 1' --json)
  [ "$(run "$@" | tr -cd '0-9')" = 6 ] || fail "$name: the run did not store its 6 trials"
  words=(run "$work/plugged.yaml" --plugins "$plugins")
  run "$@" >> "$work/$name.txt" 2>> "$work/$name.err"

  ends "$name" "$data"
  echo "$name: plan, run, query, plug-in and private Postgres work; the keeper was ${keeper%% database keeper*} and stopped it"
}

mkdir "$work/tarball"
tar -C "$work/tarball" -xzf "$out/experiments-$version-linux-x64.tar.gz"
# A root that is not there: the runtime is the tarball's own.
tarball=$work/tarball/experiments-$version-linux-x64
try tarball "$tarball/experiments" DOTNET_ROOT=/nowhere

# The silo's own program lies beside it: it does a sweep that is submitted, and drains.
mkdir "$work/silo-home"
surroundings=(PATH=/usr/local/bin:/usr/bin:/bin HOME="$work/silo-home" XDG_DATA_HOME="$work/silo-data" DOTNET_ROOT=/nowhere
  EXPERIMENTS_POSTGRES_IDLE=3s EXPERIMENTS_REDIS=127.0.0.1:$(( 20000 + RANDOM % 10000 )))
redis-server --bind 127.0.0.1 --port "${surroundings[-1]##*:}" --save '' > "$work/redis.txt" &
redis=$!
trap 'kill "$redis" ${silo:+"$silo"} 2> "$work/gone" || :; rm -rf "$work"' EXIT
env -i "${surroundings[@]}" "$tarball/experiments-silo" --port 0 2> "$work/silo.err" &
silo=$!
env -i "${surroundings[@]}" "$tarball/experiments" submit "$work/small.yaml" > "$work/submit.txt" 2>&1 || fail "silo: submit ended with $?: $(cat "$work/submit.txt")"
env -i "${surroundings[@]}" timeout 60 "$tarball/experiments" watch 1 > "$work/watch.txt" 2>&1 || fail "silo: the sweep is not done: $(cat "$work/silo.err")"
kill -TERM "$silo"
wait "$silo" || fail "silo: it drained with $?: $(cat "$work/silo.err")"
silo=
ends silo "$work/silo-data"
echo "silo: experiments-silo does a sweep that is submitted, and drains"

# From this folder and nowhere else: a registry might have a package of that name.
cat > "$work/nuget.config" <<XML
<configuration><packageSources><clear /><add key="here" value="$out" /></packageSources></configuration>
XML
dotnet tool install Experiments --version "$version" --tool-path "$work/tool" --configfile "$work/nuget.config" > "$work/install.txt" \
  || fail "the tool cannot be installed: $(cat "$work/install.txt")"
try tool "$work/tool/experiments" DOTNET_ROOT="$(dirname "$(readlink -f "$(command -v dotnet)")")"
