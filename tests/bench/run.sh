#!/usr/bin/env bash
# run.sh - measures Merpati beside Postfix + Dovecot on this machine, in one run, fsync on for both.
#
# usage: run.sh [SECTIONS]        default: "small smtp login fill suite idle"
#   PEER=no leaves the peer out; RUNS=3 how often each measure is taken (the median counts)
# The load drivers and the peers' start scripts are not part of this repository: BENCH_DRIVERS names their
# folder (default ../shared/bench). Nothing here is a test: it prints figures and never fails because of one.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
drivers=${BENCH_DRIVERS:-$root/../shared/bench}
sections=${1:-small smtp login fill suite idle}
runs=${RUNS:-3}
work=$(mktemp -d /tmp/merpati-bench-XXXXXX)
chmod 755 "$work"
export PEERS=$work/peers MB=$work/mbench RUNS=$runs
[ -f "$drivers/mbench.c" ] || { echo "bench: no load drivers in $drivers; name their folder in BENCH_DRIVERS" >&2; exit 2; }
cc -O2 -o "$MB" "$drivers/mbench.c" -lssl -lcrypto -lpthread

mail_sections=${sections//idle/}
offset=20000
server_pid=
peer_is_up=
finish() {
	[ -z "$server_pid" ] || { kill "$server_pid" 2>/dev/null && wait "$server_pid" || true; }
	[ -z "$peer_is_up" ] || "$drivers/peers/postfix-dovecot.sh" stop >/dev/null 2>&1 || true
	rm -rf "$work"
}
trap finish EXIT

if [ "${PEER:-yes}" = yes ]; then
	for p in postfix dovecot-imapd dovecot-pop3d dovecot-lmtpd; do
		dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || { echo "Installing the peer: $p"; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$p" >/dev/null; }
	done
	mkdir -p "$PEERS"
	peer_is_up=yes
	"$drivers/peers/postfix-dovecot.sh" start >"$work/peer.log" 2>&1 || { cat "$work/peer.log"; exit 1; }
	pids=$PEERS/dovecot/run/master.pid,$PEERS/postfix-spool/pid/master.pid
	"$drivers/bench-mail.sh" 12025 0 12143 12993 0 0 "$pids" "$mail_sections" >"$work/peer.out"
	case $sections in *idle*) "$drivers/bench-idle.sh" 12993 12025 "$PEERS/dovecot/run/master.pid" >>"$work/peer.out" 2>&1 || true ;; esac
	"$drivers/peers/postfix-dovecot.sh" stop >/dev/null 2>&1
	peer_is_up=
	sleep 2
fi

cat >"$work/merpati.conf" <<CONF
hostname = mail.example.test
log_level = warn
login_plaintext_loopback = yes
auth_limit = no
CONF
ulimit -n "$(ulimit -Hn)"
build/merpati serve --config "$work/merpati.conf" --data "$work/data" --port-offset $offset >"$work/serve.out" 2>"$work/serve.log" &
server_pid=$!
for _ in $(seq 600); do grep -q 'merpati: ready' "$work/serve.out" && break; sleep 0.1; done
build/merpati domain add example.test --config "$work/merpati.conf" --data "$work/data"
{
	echo address,name,password
	for i in $(seq -f %04g 200); do echo "u$i@example.test,User $i,secret"; done
} | build/merpati account add --from-csv - --config "$work/merpati.conf" --data "$work/data" >/dev/null
"$drivers/bench-mail.sh" $((offset + 25)) 0 $((offset + 143)) $((offset + 993)) 0 0 $server_pid "$mail_sections" >"$work/merpati.out"
case $sections in *idle*)
	"$MB" idle -p $((offset + 993)) -s tls -c 2000 -N 200 -S $((offset + 25)) -n 200 -R 10 -k 5 \
		-u u%04d@example.test -w secret -x "python3 tests/bench/pss.py $server_pid" >>"$work/merpati.out" 2>&1 || true
	;;
esac
python3 tests/bench/compare.py "$work/merpati.out" "$work/peer.out"
[ -z "${KEEP:-}" ] || cp "$work"/*.out "$KEEP"
