#!/usr/bin/env bash
# Silos on machines that are reached by ssh, and have nothing but bash and tar:
#
#   silos.sh install HOSTS artifacts/experiments-0.1.0-linux-x64.tar.gz config.yaml
#   silos.sh start HOSTS
#   silos.sh status HOSTS
#   silos.sh stop HOSTS          # drains: what runs has 20 s, the rest is given back
#
# HOSTS is a file with a line a silo: what ssh calls the machine, and the address that the others reach it by.
# config.yaml names the Postgres and the Redis (see systemd/config.yaml). The cluster's authority is made in pki/ beside HOSTS;
# its key, ca.key, never leaves this machine. Ports, users and jump hosts belong into ~/.ssh/config; SILOS_SSH="ssh -F file" names another.
set -euo pipefail

usage() { sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 1; }
if [ $# -lt 2 ] || [ ! -r "$2" ]; then usage; fi
verb=$1
pki=$(cd "$(dirname "$2")" && pwd)/pki
mapfile -t lines < <(grep -Ev '^[[:space:]]*(#|$)' "$2")
read -ra ssh <<< "${SILOS_SSH:-ssh -o BatchMode=yes}"

# What runs there is given as a script on standard input, with its words behind it: no quoting by two shells.
there() { local host=$1; shift; "${ssh[@]}" "$host" bash -s -- "$@"; }

# Each step ends it: `set -e` does not hold in what an || follows.
install_one() {
  local host=$1 address=$2 tarball=$3 config=$4 staged=$staging/$2
  [ -e "$pki/$address/node.crt" ] ||
    "$staging/program/experiments" certificates "$pki/$address" --authority "$pki" --names "$address" > "$staging/said" || return
  mkdir -p "$staged" || return
  cp "$pki/$address"/{node.crt,node.key,ca.crt} "$staged/" || return
  cp "$config" "$staged/config.yaml" || return
  "${ssh[@]}" "$host" "umask 077 && mkdir -p experiments-silo/$address/program && tar -xzf - --strip-components=1 -C experiments-silo/$address/program" \
    < "$tarball" || return
  tar -C "$staged" -cf - . | "${ssh[@]}" "$host" "umask 077 && tar --no-same-permissions -xf - -C experiments-silo/$address" || return
  echo "installed in ~/experiments-silo/$address"
}

start_one() {
  there "$1" "$2" <<'THERE'
cd "experiments-silo/$1"
if [ -e silo.pid ] && kill -0 "$(cat silo.pid)" 2> /dev/null; then echo "runs already"; exit; fi
umask 077; : > silo.log
EXPERIMENTS_CONFIG=$PWD/config.yaml nohup setsid program/experiments silo --bind "$1" --port 11111 --health 127.0.0.1:0 --drain 20 --json-log \
  --tls-certificate node.crt --tls-key node.key --tls-authority ca.crt < /dev/null > silo.log 2>&1 &
echo $! > silo.pid
for (( tries = 0; tries < 300; tries++ )); do
  if grep -q 'health on' silo.log; then echo "started"; exit; fi
  kill -0 "$(cat silo.pid)" 2> /dev/null || break
  sleep 0.1
done
echo "did not start:"; tail -n 3 silo.log; exit 1
THERE
}

status_one() {
  there "$1" "$2" <<'THERE'
cd "experiments-silo/$1"
if ! { [ -e silo.pid ] && kill -0 "$(cat silo.pid)" 2> /dev/null; }; then echo "does not run"; exit 1; fi
port=$(sed -n 's/.*health on 127\.0\.0\.1:\([0-9]*\).*/\1/p' silo.log | tail -n 1)
exec 3<> "/dev/tcp/127.0.0.1/$port"
printf 'GET /health/ready HTTP/1.1\r\nHost: silo\r\nConnection: close\r\n\r\n' >&3
tail -n 1 <&3
THERE
}

stop_one() {
  there "$1" "$2" <<'THERE'
cd "experiments-silo/$1"
if [ -e silo.pid ] && kill -TERM "$(cat silo.pid)" 2> /dev/null; then
  for (( tries = 0; tries < 400; tries++ )); do
    kill -0 "$(cat silo.pid)" 2> /dev/null || { rm silo.pid; echo "stopped"; exit; }
    sleep 0.1
  done
  echo "is still there after 40 s"; exit 1
fi
echo "does not run"
THERE
}

if [ "$verb" = install ]; then
  if [ $# != 4 ] || [ ! -r "$3" ] || [ ! -r "$4" ]; then usage; fi
  staging=$(umask 077 && mktemp -d)
  trap 'rm -rf "$staging"' EXIT
  mkdir "$staging/program"
  tar -xzf "$3" --strip-components=1 -C "$staging/program"
  # The certificate that comes with a new authority is this machine's own, and of no use here.
  [ -e "$pki/ca.crt" ] || "$staging/program/experiments" certificates "$pki" > "$staging/said"
fi

failed=0
for line in "${lines[@]}"; do
  read -r host address _ <<< "$line"
  [[ $address =~ ^[0-9a-fA-F.:]+$ ]] || { echo "'$line': a machine and its address are needed, such as: silo-1 10.0.0.5" >&2; exit 1; }
  case $verb in
    install) said=$(install_one "$host" "$address" "$3" "$4" 2>&1) || failed=1 ;;
    start) said=$(start_one "$host" "$address" 2>&1) || failed=1 ;;
    status) said=$(status_one "$host" "$address" 2>&1) || failed=1 ;;
    stop) said=$(stop_one "$host" "$address" 2>&1) || failed=1 ;;
    *) usage ;;
  esac
  echo "$host $address: $said"
done
exit "$failed"
