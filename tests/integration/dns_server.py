"""A DNS server for tests: Debian's nsd with one zone, the root, made from a dict of records.

    dns = DnsServer({"example.org": [("MX", "10 mx.example.org"), ("TXT", "v=spf1 mx -all")],
                     "mx.example.org": [("A", "127.0.0.1")]},
                    {"slow.example.org": "timeout", ("example.org", "TLSA"): "servfail"}).start()
    dns.address         # "127.0.0.1:port" for the setting dns_server
    dns.trust_anchor    # with signed=True: a file for the setting dns_trust_anchor
    dns.stop()

nsd stands behind a proxy (UDP and TCP), which makes its answers look like a resolver's and does what no
server does. A behaviour belongs to a name or to (name, type), as it is asked for (what nsd adds to an
answer by following a CNAME is not looked at):

    "timeout"    no answer ever                "servfail", "refused", "nxdomain"  that answer code
    "garbage"    bytes that are no DNS         "truncated"  UDP says "ask by TCP", TCP is closed
    "tcp"        UDP says "ask by TCP"         "liar"       the answer to another question
    "loop"       a CNAME to itself             a function   query -> answer (bytes; None: no answer)

TXT data may be a text (quoted and split here), bytes, or a list of either, one per string; one that
begins with a double quote is taken as it is. Other data is written as in a zone file, with absolute names."""

import os
import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TYPES = {1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 43: "DS",
         46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 52: "TLSA", 99: "SPF", 257: "CAA"}
RCODES = {"servfail": 2, "nxdomain": 3, "refused": 5}


def find_nsd():
    """Unpacked by `make test-deps`, for an installed one would run as a service."""
    for path in (ROOT / "build/nsd/usr/sbin/nsd", "/usr/sbin/nsd"):
        if os.access(path, os.X_OK):
            return str(path)
    raise FileNotFoundError("nsd is missing: make test-deps")


def free_port():
    """Free for UDP and TCP."""
    for _ in range(200):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            try:
                udp.bind(tcp.getsockname())
                return tcp.getsockname()[1]
            except OSError:
                continue
    raise RuntimeError("no free port")


# ---- zone files ----------------------------------------------------------------------------------

def escape_name(name):
    """As a zone file writes it; only dots between labels mean anything."""
    if name in ("", "."):
        return "."
    safe = lambda c: c.isascii() and (c.isalnum() or c in "-_.*")
    raw = name.encode("latin-1", "strict") if not name.isascii() else name.encode()
    return "".join(chr(b) if safe(chr(b)) else f"\\{b:03d}" for b in raw).rstrip(".") + "."


def quote(data):
    raw = data if isinstance(data, bytes) else data.encode("latin-1") if is_latin(data) else data.encode()
    chunks = [raw[i:i + 255] for i in range(0, len(raw), 255)] or [b""]
    plain = lambda b: 32 <= b < 127 and b not in b'"\\;'
    return " ".join('"' + "".join(chr(b) if plain(b) else f"\\{b:03d}" for b in c) + '"' for c in chunks)


def is_latin(text):
    try:
        text.encode("latin-1")
        return True
    except UnicodeEncodeError:
        return False


def rdata_text(kind, data):
    if kind not in ("TXT", "SPF"):
        return data
    if isinstance(data, (list, tuple)):
        return " ".join(quote(part) for part in data) or '""'
    return data if isinstance(data, str) and data.startswith('"') else quote(data)


def zone_text(records, ttl, serial):
    lines = ["$ORIGIN .", f"$TTL {ttl}", f". IN SOA ns.dns-server.test. root.dns-server.test. {serial} 3600 900 86400 {ttl}",
             ". IN NS ns.dns-server.test.", "ns.dns-server.test. IN A 127.0.0.1"]
    for name, entries in records.items():
        lines += [f"{escape_name(name)} IN {kind} {rdata_text(kind, data)}" for kind, data in entries]
    return "\n".join(lines) + "\n"


# ---- messages ------------------------------------------------------------------------------------

def question(message):
    """(name in lower case, type, where it ends), or None when this is no question."""
    labels, at = [], 12
    try:
        while message[at]:
            labels.append(message[at + 1:at + 1 + message[at]].decode("latin-1"))
            at += 1 + message[at]
        kind = struct.unpack_from("!H", message, at + 1)[0]
    except (IndexError, struct.error):
        return None
    return ".".join(labels).lower(), TYPES.get(kind, str(kind)), at + 5


def header(query, flags, answers=0):
    return query[:2] + struct.pack("!HHHHH", 0x8180 | flags, 1, answers, 0, 0)


def as_resolver(answer):
    """Recursion available, not authoritative."""
    return answer[:2] + bytes([answer[2] & ~0x04, answer[3] | 0x80]) + answer[4:] if len(answer) > 3 else answer


def cname_loop(query, end):
    return header(query, 0, 1) + query[12:end] + b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 60, 2) + b"\xc0\x0c"


def answer_by(behaviour, query, end, by_tcp, ask):
    """The answer, or None for silence."""
    if callable(behaviour):
        return behaviour(query)
    if behaviour in RCODES:
        return header(query, RCODES[behaviour]) + query[12:end]
    if behaviour in ("tcp", "truncated"):
        if not by_tcp:
            return header(query, 0x0200) + query[12:end]
        return ask(query) if behaviour == "tcp" else None
    if behaviour == "garbage":
        return query[:2] + bytes(range(7, 250, 3))
    if behaviour == "liar":
        other = b"\x04lies\x04test\x00" + query[end - 4:end]
        data = b"\x0bv=spf1 +all" if query[end - 4:end - 2] == b"\0\x10" else b"\x7f\0\0\2"
        return header(query, 0, 1) + other + b"\xc0\x0c" + query[end - 4:end] + struct.pack("!IH", 60, len(data)) + data
    if behaviour == "loop":
        return cname_loop(query, end)
    if behaviour == "timeout":
        return None
    raise ValueError(f"unknown behaviour {behaviour!r}")


class DnsServer:
    def __init__(self, records=None, behaviours=None, signed=False, ttl=60):
        self.records, self.signed, self.ttl = dict(records or {}), signed, ttl
        self.behaviours = {}
        for name, behaviour in (behaviours or {}).items():
            self.set_behaviour(name, behaviour)
        self.queries = []                       # (name, type) of every query, in order
        self.serial = 1
        self.process = self.base = self.trust_anchor = None

    def set_behaviour(self, name, behaviour):
        """None gives the name back to nsd. May be called while the server runs."""
        key = tuple([name[0].lower().rstrip("."), name[1]]) if isinstance(name, tuple) else name.lower().rstrip(".")
        if behaviour is None:
            self.behaviours.pop(key, None)
        else:
            self.behaviours[key] = behaviour

    def set_records(self, records):
        """Takes the place of all records. nsd starts anew behind the same address."""
        self.records, self.serial = dict(records), self.serial + 1
        self.stop_nsd()
        self.write_zone()
        self.start_nsd()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    # ---- nsd -------------------------------------------------------------------------------------
    def start(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="merpati-dns-", dir="/tmp"))
        try:
            self.nsd_port = free_port()
            self.write_zone()
            self.start_nsd()
            self.start_proxy()
        except BaseException:
            self.stop()
            raise
        return self

    def write_zone(self):
        zone = self.base / "root.zone"
        zone.write_text(zone_text(self.records, self.ttl, self.serial))
        if self.signed:
            self.sign(zone)
        (self.base / "nsd.conf").write_text(f"""\
server:
    ip-address: 127.0.0.1@{self.nsd_port}
    username: ""
    chroot: ""
    zonesdir: "{self.base}"
    pidfile: ""
    xfrdfile: "{self.base}/xfrd.state"
    xfrdir: "{self.base}"
    zonelistfile: "{self.base}/zone.list"
    database: ""
    server-count: 1
    rrl-ratelimit: 0
remote-control:
    control-enable: no
zone:
    name: "."
    zonefile: "{self.base}/{'root.zone.signed' if self.signed else 'root.zone'}"
""")

    def sign(self, zone):
        """One key that signs keys and records alike; it is made once, so that the trust anchor stays."""
        tool = lambda *args: subprocess.run(args, cwd=self.base, check=True, capture_output=True, text=True).stdout
        if self.trust_anchor is None:
            self.key = tool("ldns-keygen", "-a", "ECDSAP256SHA256", "-k", ".").strip()
            self.trust_anchor = str(self.base / "root.anchor")
            shutil.copy(self.base / (self.key + ".key"), self.trust_anchor)
            os.chmod(self.base, 0o755)
            os.chmod(self.trust_anchor, 0o644)
        tool("ldns-signzone", "-f", "root.zone.signed", "-o", ".", zone.name, self.key)

    def start_nsd(self):
        self.log = open(self.base / "nsd.log", "ab")
        self.process = subprocess.Popen([find_nsd(), "-d", "-c", str(self.base / "nsd.conf")],
                                        stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 60
        probe = struct.pack("!HHHHHH", 7, 0, 1, 0, 0, 0) + b"\0" + struct.pack("!HH", 6, 1)
        while True:
            answer = self.ask_udp(probe, 0.2)
            if answer is not None and answer[3] & 15 == 0:
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nsd does not start: {(self.base / 'nsd.log').read_text()}")

    def stop_nsd(self):
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(30)
            self.process = None
            self.log.close()

    def ask_udp(self, query, timeout=10):
        with socket.socket(type=socket.SOCK_DGRAM) as s:
            s.settimeout(timeout)
            try:
                s.connect(("127.0.0.1", self.nsd_port))
                s.send(query)
                return s.recv(65535)
            except OSError:
                time.sleep(0.02)
                return None

    def ask_tcp(self, query):
        try:
            with socket.create_connection(("127.0.0.1", self.nsd_port), timeout=10) as s, s.makefile("rwb") as f:
                f.write(struct.pack("!H", len(query)) + query)
                f.flush()
                return f.read(struct.unpack("!H", f.read(2))[0])
        except (OSError, struct.error):
            return None

    # ---- the proxy -------------------------------------------------------------------------------
    def start_proxy(self):
        self.port = free_port()
        self.udp = socket.socket(type=socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", self.port))
        self.tcp = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.threads = [threading.Thread(target=run, daemon=True) for run in (self.serve_udp, self.serve_tcp)]
        for thread in self.threads:
            thread.start()

    def answer(self, query, by_tcp):
        asked = question(query)
        if asked is None:
            return None
        name, kind, end = asked
        self.queries.append((name, kind))
        ask = self.ask_tcp if by_tcp else self.ask_udp
        behaviour = self.behaviours.get((name, kind), self.behaviours.get(name))
        if behaviour is not None:
            answer = answer_by(behaviour, query, end, by_tcp, ask)
        else:
            answer = ask(query)
        return answer if answer is None or callable(behaviour) else as_resolver(answer)

    def serve_udp(self):
        while True:
            try:
                query, client = self.udp.recvfrom(65535)
                if len(query) < 12:             # stop() says so
                    return
                answer = self.answer(query, False)
                if answer is not None:
                    self.udp.sendto(answer, client)
            except OSError:
                return

    def serve_tcp(self):
        while True:
            try:
                client, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.serve_tcp_client, args=(client,), daemon=True).start()

    def serve_tcp_client(self, client):
        client.settimeout(30)
        try:
            with client, client.makefile("rwb") as f:
                while len(size := f.read(2)) == 2:
                    answer = self.answer(f.read(struct.unpack("!H", size)[0]), True)
                    if answer is None:
                        return
                    f.write(struct.pack("!H", len(answer)) + answer)
                    f.flush()
        except OSError:
            pass

    def stop_proxy(self):
        if not hasattr(self, "threads"):
            return
        with socket.socket(type=socket.SOCK_DGRAM) as s:
            s.sendto(b"end", ("127.0.0.1", self.port))
        self.tcp.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(10)
        self.udp.close()
        self.tcp.close()
        del self.threads

    def stop(self):
        self.stop_proxy()
        self.stop_nsd()
        if self.base is not None:
            shutil.rmtree(self.base, ignore_errors=True)
            self.base = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *unused):
        self.stop()
