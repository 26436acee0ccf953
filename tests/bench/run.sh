#!/usr/bin/env bash
# run.sh - measures Merpati beside Postfix + Dovecot and Postfix + Cyrus on this machine, in one run, fsync on for all.
#
# usage: run.sh [SECTIONS]        default: "small smtp lmtp login noop append pop3 fill suite move idle"
#   PEERS_WANTED="dovecot cyrus"  which peers (empty: none); RUNS=3 how often each measure is taken (the median counts);
#   KEEP=DIR                      where the drivers' output is copied to
# One mailbox is measured (suite) once the server has done what it does behind the filling.
# The load drivers and the peers' start scripts are not part of this repository: BENCH_DRIVERS names their
# folder (default ../shared/bench). Nothing here is a test: it prints figures and never fails because of one.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
drivers=${BENCH_DRIVERS:-$root/../shared/bench}
sections=${1:-small smtp lmtp login noop append pop3 fill suite move idle}
wanted=${PEERS_WANTED-dovecot cyrus}
runs=${RUNS:-3}
work=$(mktemp -d /tmp/merpati-bench-XXXXXX)
chmod 755 "$work"
export PEERS=$work/peers MB=$work/mbench RUNS=$runs
[ -f "$drivers/mbench.c" ] || { echo "bench: no load drivers in $drivers; name their folder in BENCH_DRIVERS" >&2; exit 2; }
cc -O2 -o "$MB" "$drivers/mbench.c" -lssl -lcrypto -lpthread
mkdir -p "$PEERS"

offset=20000
server_pid=
peer_script=
finish() {
	[ -z "$server_pid" ] || { kill "$server_pid" 2>/dev/null && wait "$server_pid" || true; }
	[ -z "$peer_script" ] || "$drivers/peers/$peer_script" stop >/dev/null 2>&1 || true
	rm -rf "$work"
}
trap finish EXIT

need() {
	local missing=
	for p in "$@"; do dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"; done
	[ -z "$missing" ] || { echo "Installing for the peers:$missing"; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null; }
}

# Cyrus and Dovecot cannot be installed beside each other: the former's daemons are only unpacked.
unpack_cyrus() {
	mkdir -p "$PEERS/debs/x"
	(cd "$PEERS/debs" && chmod 777 . && apt-get download -qq cyrus-imapd cyrus-pop3d && for d in cyrus-*.deb; do dpkg -x "$d" x; done) >/dev/null 2>&1
}

# What a server does behind a mass of deliveries (indexing, cleaning up) is over when the machine is idle for three seconds.
settle() {
	local quiet=0 idle total idle_before=0 total_before=0
	for _ in $(seq 120); do
		read -r idle total < <(awk '/^cpu /{for (i = 2; i <= 9; i++) t += $i; print $5 + $6, t}' /proc/stat)
		if [ $((100 * (idle - idle_before))) -gt $((90 * (total - total_before))) ]; then quiet=$((quiet + 1)); else quiet=0; fi
		[ "$quiet" -lt 4 ] || return 0
		idle_before=$idle total_before=$total
		sleep 1
	done
}

# measure NAME SMTP LMTP IMAP IMAPS POP3 POP3S PIDS IDLE-PIDS
measure() {
	local out=$work/$1.out mail=
	for s in $sections; do case $s in suite | move | idle) ;; *) mail="$mail $s" ;; esac; done
	"$drivers/bench-mail.sh" "$2" "$3" "$4" "$5" "$6" "$7" "$8" "$mail" >"$out"
	case $sections in *suite*)
		settle
		"$drivers/bench-mail.sh" "$2" "$3" "$4" "$5" "$6" "$7" "$8" suite >>"$out" ;;
	esac
	case $sections in *move*) for _ in $(seq "$runs"); do python3 tests/bench/move.py "$4" u0101@example.test secret >>"$out" 2>&1 || true; done ;; esac
	case $sections in *idle*)
		"$MB" idle -p "$5" -s tls -c 2000 -N 200 -S "$2" -n 200 -R 10 -k 5 -u u%04d@example.test -w secret \
			-x "python3 tests/bench/pss.py $9" >>"$out" 2>&1 || true ;;
	esac
}

measure_peer() { # NAME SCRIPT FIRST-PORT PIDFILES IDLE-PIDFILE
	peer_script=$2
	"$drivers/peers/$2" start >"$work/peer.log" 2>&1 || { cat "$work/peer.log"; return; }
	measure "$1" $(($3 + 25)) $(($3 + 24)) $(($3 + 143)) $(($3 + 993)) $(($3 + 110)) $(($3 + 995)) "$4" "$(cat "$5")"
	"$drivers/peers/$2" stop >/dev/null 2>&1 || true
	peer_script=
	sleep 2
}

ulimit -n "$(ulimit -Hn)"
for peer in $wanted; do
	case $peer in
	dovecot)
		need postfix dovecot-imapd dovecot-pop3d dovecot-lmtpd
		measure_peer Dovecot postfix-dovecot.sh 12000 "$PEERS/dovecot/run/master.pid,$PEERS/postfix-spool/pid/master.pid" "$PEERS/dovecot/run/master.pid"
		;;
	cyrus)
		need postfix cyrus-common cyrus-admin sasl2-bin libsasl2-modules libsasl2-modules-db
		unpack_cyrus
		# -Q acknowledges at once: without it each answer of Cyrus waits 40 ms for Nagle's algorithm
		XOPT=-Q measure_peer Cyrus cyrus.sh 13000 "$PEERS/cyrus/master.pid,$PEERS/postfix-cyrus-spool/pid/master.pid" "$PEERS/cyrus/master.pid"
		;;
	esac
done

cat >"$work/merpati.conf" <<CONF
hostname = mail.example.test
log_level = warn
login_plaintext_loopback = yes
auth_limit = no
CONF
build/merpati serve --config "$work/merpati.conf" --data "$work/data" --port-offset $offset >"$work/serve.out" 2>"$work/serve.log" &
server_pid=$!
for _ in $(seq 600); do grep -q 'merpati: ready' "$work/serve.out" && break; sleep 0.1; done
build/merpati domain add example.test --config "$work/merpati.conf" --data "$work/data"
{
	echo address,name,password
	for i in $(seq -f %04g 200); do echo "u$i@example.test,User $i,secret"; done
} | build/merpati account add --from-csv - --config "$work/merpati.conf" --data "$work/data" >/dev/null
measure Merpati $((offset + 25)) $((offset + 24)) $((offset + 143)) $((offset + 993)) $((offset + 110)) $((offset + 995)) $server_pid "$server_pid"
python3 tests/bench/compare.py "Merpati=$work/Merpati.out" "Dovecot=$work/Dovecot.out" "Cyrus=$work/Cyrus.out"
[ -z "${KEEP:-}" ] || { mkdir -p "$KEEP" && cp "$work"/*.out "$KEEP"; }
