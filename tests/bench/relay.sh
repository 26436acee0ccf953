#!/usr/bin/env bash
# relay.sh - messages in over SMTP and out to a sink: Merpati beside Postfix on this machine, in one run, fsync on for both.
#
# usage: relay.sh [MESSAGES] [SESSIONS]     default 5000 16; 5 KB each, RUNS=3 (the median counts)
# Postfix's own smtp-source sends, its smtp-sink receives and ends when it has them all: the time until then is measured.
# The peers' start scripts are not part of this repository: BENCH_DRIVERS names their folder (default ../shared/bench).
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
drivers=${BENCH_DRIVERS:-$root/../shared/bench}
messages=${1:-5000}
sessions=${2:-16}
runs=${RUNS:-3}
work=$(mktemp -d /tmp/merpati-relay-XXXXXX)
chmod 755 "$work"
export PEERS=$work/peers
mkdir -p "$PEERS"
offset=21000
sink_port=21999
peer_port=12026
server_pid=
finish() {
	[ -z "$server_pid" ] || { kill "$server_pid" 2>/dev/null && wait "$server_pid" || true; }
	[ ! -d "$PEERS/relay" ] || postfix -c "$PEERS/relay" stop >/dev/null 2>&1 || true
	rm -rf "$work"
}
trap finish EXIT

# CPU seconds of a process and all that descends from it, the finished ones included.
cpu_of() {
	python3 tests/bench/tree_cpu.py "$1"
}

# one_run NAME PORT PID: milliseconds from the first byte sent to the last one received.
one_run() {
	local began ended cpu
	cpu=$(cpu_of "$3")
	smtp-sink -u nobody -M "$messages" "127.0.0.1:$sink_port" 1000 >/dev/null 2>&1 &
	local sink=$!
	sleep 0.5
	began=$(date +%s%N)
	smtp-source -s "$sessions" -m "$messages" -l 5120 -f sender@example.test -t someone@elsewhere.test "127.0.0.1:$2"
	wait "$sink"
	ended=$(date +%s%N)
	echo "$1 $(((ended - began) / 1000000)) $(echo "$(cpu_of "$3") - $cpu" | bc)"
}

measure() {
	one_run warm "$2" "$3" >/dev/null
	# A sink ends with its last message, whoever is still talking to it: that one is to be over before the next begins.
	for _ in $(seq "$runs"); do sleep 3; one_run "$1" "$2" "$3"; done | tee -a "$work/results"
}

ulimit -n "$(ulimit -Hn)"
# --- Postfix
. "$drivers/peers/postfix.inc"
cert
POSTFIX_EXTRA="relayhost = [127.0.0.1]:$sink_port
default_process_limit = 200
smtp_tls_security_level = none" postfix_conf relay "$peer_port" "error:nothing is local"
sed -i -e 's/^default_transport.*/default_transport = smtp/' -e '/^relay_transport/d' "$PEERS/relay/main.cf"
postfix -c "$PEERS/relay" start 2>&1 | grep -v symlink || true
sleep 2
measure Postfix "$peer_port" "$(cat "$PEERS/relay-spool/pid/master.pid")"
postfix -c "$PEERS/relay" stop >/dev/null 2>&1 || true
sleep 2

# --- Merpati
cat >"$work/merpati.conf" <<CONF
hostname = mail.example.test
log_level = warn
smtp_trusted_networks = 127.0.0.0/8
smtp_rate_network_messages = 0
smtp_rate_network_recipients = 0
smtp_messages_max = 1000000
delivery_routes = *=127.0.0.1:$sink_port
queue_backoff_min = 1s
CONF
build/merpati serve --config "$work/merpati.conf" --data "$work/data" --port-offset $offset >"$work/serve.out" 2>"$work/serve.log" &
server_pid=$!
for _ in $(seq 600); do grep -q 'merpati: ready' "$work/serve.out" && break; sleep 0.1; done
build/merpati domain add example.test --config "$work/merpati.conf" --data "$work/data" >/dev/null
measure Merpati $((offset + 25)) $server_pid

python3 - "$work/results" "$messages" <<'PY'
import statistics, sys
runs = {}
for line in open(sys.argv[1]):
    name, ms, cpu = line.split()
    runs.setdefault(name, []).append((float(ms), float(cpu)))
rate = {}
for name, v in runs.items():
    ms = statistics.median(m for m, _ in v)
    rate[name] = int(sys.argv[2]) * 1000 / ms
    print(f"{name:8} {rate[name]:8.0f} messages/s, {statistics.median(c for _, c in v) * 1000 / int(sys.argv[2]):6.2f} ms CPU each")
if len(rate) == 2:
    print(f"ratio    {rate['Merpati'] / rate['Postfix']:8.2f}")
PY
