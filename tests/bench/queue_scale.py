#!/usr/bin/env python3
"""queue_scale.py - a long queue of which half is for dead servers: is the live half delayed, does memory stay flat?

usage: queue_scale.py [MESSAGES] [DESTINATIONS]         default 100000 1000; 5 KB each

Two servers, one after the other, each with a queue filled over SMTP (held back by FUTURERELEASE) and then made due:
first the live half alone, then both halves. The ratio of the two times is what counts. The dead destinations are, in equal
parts: closed ports, servers that accept and never greet, servers that say 421, addresses that answer nothing, and domains
whose DNS fails. Everything is on this machine: Postfix's smtp-sink is the live server, nsd the DNS server. Settings are the
defaults, timeouts and pauses included. Prints a table; nothing here is a test."""

import base64
import multiprocessing
import os
import pathlib
import re
import resource
import socket
import subprocess
import sys
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))
from dns_server import DnsServer                 # noqa: E402
from harness import PASSWORD, SETTINGS, Server              # noqa: E402

LIVE, SILENT, BUSY, CLOSED, AWAY = "127.1.0.1", "127.2.0.1", "127.3.0.1", "127.4.0.1", "127.5.0.1"
KINDS = ("closed", "silent", "busy", "away", "servfail")
SIZE, SESSIONS, PORT = 5120, 8, 22525
LIMIT_S = int(os.environ.get("LIMIT_S", "1800"))


# ---- the world --------------------------------------------------------------------------------------

def world(count):
    """The names of the live and dead domains; DNS records and behaviours."""
    live = [f"live-{i}.test" for i in range(count // 2)]
    dead = [f"{KINDS[i % len(KINDS)]}-{i}.test" for i in range(count - len(live))]
    address = {"live": LIVE, "silent": SILENT, "busy": BUSY, "closed": CLOSED, "away": AWAY, "servfail": CLOSED}
    records, behaviours = {}, {}
    for name in live + dead:
        kind = name.split("-")[0]
        records[name] = [("MX", f"10 mx.{name}")]
        records[f"mx.{name}"] = [("A", address[kind])]
        if kind == "servfail":
            behaviours[name] = "servfail"
    return live, dead, records, behaviours


class DeadServers:
    """Count the connections that they get."""

    def __init__(self, port):
        self.counts, self.open, self.port = {"silent": 0, "busy": 0}, [], port
        self.sockets = [self.listen(SILENT, "silent", b""), self.listen(BUSY, "busy", b"421 4.3.2 out of service\r\n")]
        # Nobody accepts here, and the queue of those who knock is full: to the next ones it is as if no host were there.
        self.away = socket.create_server((AWAY, port), backlog=0)
        self.knocking = []
        for _ in range(3):
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex((AWAY, port))
            self.knocking.append(s)

    def listen(self, address, kind, greeting):
        server = socket.create_server((address, self.port), backlog=1000)
        threading.Thread(target=self.serve, args=(server, kind, greeting), daemon=True).start()
        return server

    def serve(self, server, kind, greeting):
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            self.counts[kind] += 1
            if greeting:
                client.sendall(greeting)
                client.close()
            else:
                self.open = [c for c in self.open if not hung_up(c)] + [client]

    def close(self):
        for s in self.sockets:
            s.shutdown(socket.SHUT_RDWR)    # wakes who waits in accept()
        for s in self.sockets + [self.away] + self.knocking + self.open:
            s.close()


def hung_up(client):
    try:
        return client.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


# ---- filling ----------------------------------------------------------------------------------------

def fill_some(port, first, count, domains):
    """One client: COUNT messages over port 587, the next envelope sent while the last answer is on its way."""
    text = b"From: alice@example.test\r\nSubject: letter\r\n\r\n" + (b"x" * 70 + b"\r\n") * (SIZE // 72) + b".\r\n"
    sock = socket.create_connection(("127.0.0.1", port))
    f = sock.makefile("rb")

    def answer(expected):
        while (line := f.readline())[3:4] == b"-":
            pass
        if not line.startswith(expected):
            raise RuntimeError(line)

    answer(b"220")
    token = base64.b64encode(b"\0alice@example.test\0" + PASSWORD.encode()).decode()
    for command, expected in (("EHLO client.test", b"250"), (f"AUTH PLAIN {token}", b"235")):
        sock.sendall(command.encode() + b"\r\n")
        answer(expected)
    for i in range(first, first + count):
        sock.sendall(f"MAIL FROM:<alice@example.test> HOLDFOR=86400\r\nRCPT TO:<r{i}@{domains[i % len(domains)]}>\r\nDATA\r\n".encode())
        for expected in (b"250", b"250", b"354"):
            answer(expected)
        sock.sendall(text)
        answer(b"250")
    sock.close()


def fill(server, count, domains):
    began = time.monotonic()
    share = -(-count // SESSIONS)
    clients = [multiprocessing.Process(target=fill_some, args=(server.port("submission"), i * share,
                                                               max(0, min(share, count - i * share)), domains))
               for i in range(SESSIONS)]
    for c in clients:
        c.start()
    for c in clients:
        c.join()
    if any(c.exitcode for c in clients):
        raise RuntimeError("filling failed")
    return time.monotonic() - began


# ---- measuring --------------------------------------------------------------------------------------

def metric(server, name):
    text = urllib.request.urlopen(f"http://127.0.0.1:{server.port('http')}/metrics", timeout=30).read().decode()
    return sum(float(v) for v in re.findall(rf"(?m)^merpati_{name}(?:_total)?(?:\{{[^}}]*\}})? ([\d.e+]+)$", text))


def memory_mb(server):
    """PSS of the workers."""
    total = 0
    for i in range(server.workers):
        for pid in server.named(f"worker-{i}"):
            with open(f"/proc/{pid}/smaps_rollup") as f:
                total += next(int(line.split()[1]) for line in f if line.startswith("Pss:"))
    return total / 1024


def cpu_s(server):
    ticks = 0
    for pid in [server.process.pid] + server.descendants():
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(t) for t in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def sql(server, statement):
    done = subprocess.run(["psql", "-XqAt", "-h", str(server.data / "run"), "-U", "merpati", "-d", "merpati", "-c", statement],
                          capture_output=True, text=True, timeout=300)
    return done.stdout.strip()


def rows_read(server):
    sql(server, "SELECT pg_stat_force_next_flush()")
    return {name: int(float(n or 0)) for name, n in (line.split("|") for line in sql(server, """
        SELECT relname, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables
         WHERE relname IN ('queue_recipient', 'queue_destination', 'queue_message') ORDER BY 1""").splitlines())}


def delivered_over_time(server, count, began):
    """When the shares of `count` were delivered, and what the workers had in memory then."""
    shares, out = [0.0001, 0.1, 0.5, 0.9, 0.99, 1.0], []
    while shares and time.monotonic() - began < LIMIT_S:
        done = metric(server, "queue_delivered")
        while shares and done >= max(1, shares[0] * count):
            out.append((shares.pop(0), time.monotonic() - began, memory_mb(server)))
        time.sleep(0.1)
    return out


def timed(server, *command):
    """A command of the administrator's: its time and the most memory it had."""
    began = time.monotonic()
    done = subprocess.run(["/usr/bin/time", "-f", "%M", server.binary, "queue", *command, "--config", str(server.config),
                           "--data", str(server.data)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    print(f"  queue {' '.join(command):<42} {time.monotonic() - began:7.2f} s   {int(done.stderr.split()[-1]) / 1024:7.1f} MB",
          flush=True)


def settings_for(dns):
    return {"delivery_routes": "", "delivery_refused_networks": "", "delivery_port": str(PORT), "delivery_ipv6": "no",
            "dns_server": dns.address, "guard": "no", "dkim_make_keys": "no", "log_level": "warn",
            "smtp_rate_account_messages": "0", "smtp_rate_account_recipients": "0", "smtp_messages_max": "1000000",
            "database_shared_buffers": "128M", "database_connections": "8"}


def run(title, count, domains, live_count, records, behaviours, has_commands):
    print(f"\n{title}: {count} messages to {len(domains)} destinations", flush=True)
    with DnsServer(records, behaviours, ttl=3600) as dns:
        for name in ("delivery_routes", "database_shared_buffers", "database_connections"):
            SETTINGS.pop(name, None)
        server = Server(settings_for(dns), binary=ROOT / "build/merpati")
        sink = subprocess.Popen(["smtp-sink", "-u", "nobody", f"{LIVE}:{PORT}", "1000"], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)
        dead = DeadServers(PORT)
        try:
            server.start()
            server.cli("domain", "add", "example.test")
            server.add_accounts("alice")
            seconds = fill(server, count, domains)
            print(f"  filled over SMTP in {seconds:.1f} s: {count / seconds:.0f}/s; workers {memory_mb(server):.0f} MB", flush=True)
            if has_commands:
                timed(server, "list")
                timed(server, "status")
            server.stop()
            timed(server, "retry", "--all")     # all is due: the server finds it when it starts
            began = time.monotonic()
            server.start()
            print(f"  started with the queue full in {time.monotonic() - began:.2f} s", flush=True)
            before, cpu = rows_read(server), cpu_s(server)
            shares = delivered_over_time(server, live_count, began)
            after = rows_read(server)
            for share, seconds, mb in shares:
                name = "first message" if share < 0.01 else f"{share:4.0%} of the live"
                print(f"  {name:<16} after {seconds:7.2f} s   workers {mb:6.1f} MB", flush=True)
            print(f"  server's CPU {cpu_s(server) - cpu:.1f} s; rows read a delivery: " +
                  ", ".join(f"{k} {(after[k] - before[k]) / live_count:.1f}" for k in after), flush=True)
            if count > live_count:
                cpu, at, failed = cpu_s(server), time.monotonic(), metric(server, "delivery_connections_failed")
                time.sleep(20)
                elapsed = time.monotonic() - at
                print(f"  only dead mail left: CPU {100 * (cpu_s(server) - cpu) / elapsed:.1f} % of a core, "
                      f"{(metric(server, 'delivery_connections_failed') - failed) / elapsed:.1f} failing connections/s, "
                      f"{metric(server, 'queue_running'):.0f} deliveries under way, workers {memory_mb(server):.1f} MB")
                print(f"  connections to servers that never greet: {dead.counts['silent']}, that say 421: {dead.counts['busy']}; "
                      f"all that failed: {metric(server, 'delivery_connections_failed'):.0f}", flush=True)
                for command in (["list"], ["hold", "--all"], ["release", "--all"], ["retry", "--destination", domains[1]],
                                ["delete", "--all"]):
                    timed(server, *command)
            return next((s for share, s, _ in shares if share == 1.0), None)
        finally:
            print("\n".join(server.log().splitlines()[-5:]))
            server.remove()
            dead.close()
            sink.terminate()
            sink.wait(30)


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100000
    destinations = int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    live, dead, records, behaviours = world(destinations)
    both = [name for pair in zip(live, dead) for name in pair]
    alone = run("live alone", count // 2, live, count // 2, records, behaviours, False)
    mixed = run("live and dead", count, both, count // 2, records, behaviours, True)
    if alone and mixed:
        print(f"\nthe live half beside the dead one: {mixed:.1f} s; alone: {alone:.1f} s; ratio {mixed / alone:.2f}")
    else:
        print(f"\nthe live half was not delivered within {LIMIT_S} s")


if __name__ == "__main__":
    main()
