"""Starts a real server on a private data directory and free ports, and stops it by its pid.

Every test class derives from ServerTest, which starts one server for the class (`settings` are its
configuration) with the domain example.test and the accounts named in `accounts`, password "secret".
Only loopback is used. Everything waits with a bound."""

import imaplib
import json
import os
import pathlib
import random
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("MERPATI_BINARY", ROOT / "build/asan/merpati"))
SHARED_DATA = pathlib.Path(os.environ.get("MERPATI_SHARED_DATA", ROOT.parent / "shared/data"))
PORTS = {"smtp": 25, "submission": 587, "submissions": 465, "lmtp": 24, "imap": 143, "imaps": 993,
         "pop3": 110, "pop3s": 995, "managesieve": 4190, "http": 80, "https": 443}
PASSWORD = "secret"

SETTINGS = {
    "hostname": "mail.example.test",
    "listen_smtp": "127.0.0.1", "listen_submission": "127.0.0.1", "listen_submissions": "127.0.0.1",
    "listen_lmtp": "127.0.0.1", "listen_imap": "127.0.0.1", "listen_imaps": "127.0.0.1",
    "listen_pop3": "127.0.0.1", "listen_pop3s": "127.0.0.1",
    "listen_managesieve": "127.0.0.1", "listen_http": "127.0.0.1", "listen_https": "127.0.0.1",
    "login_plaintext_loopback": "yes", "auth_failure_delay": "0s", "tls_reload_interval": "200ms",
    "delivery_routes": "*=127.0.0.1:9",         # nothing leaves this machine
    "database_shared_buffers": "32M", "database_connections": "4",
}


def free_offset():
    """A port offset at which every standard port is free, away from the range the kernel hands out. Tests that
    run beside each other have ranges of their own: a port that is free now is so when the server starts, too."""
    first = 12000 + 10000 * int(os.environ.get("MERPATI_TEST_PORT_RANGE", "0"))
    for _ in range(200):
        offset = random.randrange(first, first + 5000)
        socks = []
        try:
            for port in PORTS.values():
                s = socket.socket()
                s.bind(("127.0.0.1", port + offset))
                socks.append(s)
            return offset
        except OSError:
            continue
        finally:
            for s in socks:
                s.close()
    raise RuntimeError("no free ports")


class Server:
    def __init__(self, settings=None, workers=2, binary=None, env=None):
        self.binary = str(binary or BINARY)
        self.workers = workers
        self.env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0:exitcode=99",
                    "UBSAN_OPTIONS": "print_stacktrace=1", **(env or {})}
        base = tempfile.mkdtemp(prefix="merpati-", dir="/tmp")
        os.chmod(base, 0o755)
        self.base = pathlib.Path(base)
        self.data = self.base / "data"
        self.config = self.base / "merpati.conf"
        self.log_path, self.out_path = self.base / "serve.log", self.base / "serve.out"
        self.offset = free_offset()
        self.process = None
        self.write_config(settings or {})

    def write_config(self, settings):
        self.settings = {**SETTINGS, **settings}
        self.config.write_text("".join(f"{k} = {v}\n" for k, v in self.settings.items()))

    def port(self, name):
        return PORTS[name] + self.offset

    def command(self):
        return [self.binary, "serve", "--config", str(self.config), "--data", str(self.data),
                "--port-offset", str(self.offset), "--workers", str(self.workers)]

    def start(self, timeout=120):
        self.out_path.write_bytes(b"")
        log, out = open(self.log_path, "ab"), open(self.out_path, "ab")
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=self.env)
        log.close()
        out.close()
        deadline = time.monotonic() + timeout
        while "merpati: ready" not in self.out_path.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no start: {self.out_path.read_text()}\n{self.log()}")
            time.sleep(0.02)
        return self

    def stop(self, timeout=60):
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout)
        self.process = None
        return status

    def kill(self):
        """The whole tree, as a power cut does: every process that descends from ours."""
        pids = self.descendants()
        for pid in [self.process.pid] + pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(30)
        self.process = None

    def supervisor(self):
        """The guard's only child."""
        return self.children_of().get(self.process.pid, [None])[0]

    def children_of(self):
        children = {}
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                text = stat.read_text()
            except OSError:
                continue
            pid, parent = int(text.split()[0]), int(text.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(pid)
        return children

    def descendants(self):
        children = self.children_of()
        found, todo = [], [self.process.pid]
        while todo:
            for pid in children.get(todo.pop(), []):
                found.append(pid)
                todo.append(pid)
        return found

    def named(self, name):
        """Pids of descendants whose command name is `name` (worker-0, postgres, ...)."""
        pids = []
        for pid in self.descendants():
            try:
                if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == name:
                    pids.append(pid)
            except OSError:
                pass
        return pids

    def remove(self):
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.kill()
        finally:
            shutil.rmtree(self.base, ignore_errors=True)

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def cli(self, *args, input=None, check=True, timeout=120):
        result = subprocess.run([self.binary, *args, "--config", str(self.config), "--data", str(self.data)],
                                input=input, capture_output=True, text=True, env=self.env, timeout=timeout)
        if check and result.returncode != 0:
            raise RuntimeError(f"merpati {' '.join(args)}: {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def cli_json(self, *args, **kw):
        return json.loads(self.cli(*args, "--json", **kw).stdout)

    def add_accounts(self, *names, domain="example.test", password=PASSWORD):
        rows = "address,name,password\n" + "".join(f"{n}@{domain},{n},{password}\n" for n in names)
        self.cli("account", "add", "--from-csv", "-", input=rows)

    # ---- clients ---------------------------------------------------------------------------------
    def tls_context(self):
        return ssl.create_default_context(cafile=str(self.data / "tls/ca.pem"))

    def imap(self, user=None, password=PASSWORD, tls=False, timeout=60):
        if tls:
            c = imaplib.IMAP4_SSL("localhost", self.port("imaps"), ssl_context=self.tls_context(), timeout=timeout)
        else:
            c = imaplib.IMAP4("127.0.0.1", self.port("imap"), timeout=timeout)
        if user:
            c.login(user if "@" in user else f"{user}@example.test", password)
        return c

    def smtp(self, port="smtp", timeout=60):
        if port == "submissions":
            return smtplib.SMTP_SSL("localhost", self.port(port), context=self.tls_context(), timeout=timeout)
        if port == "lmtp":
            return smtplib.LMTP("127.0.0.1", self.port(port), local_hostname="client.test")
        return smtplib.SMTP("127.0.0.1", self.port(port), local_hostname="client.test", timeout=timeout)

    def raw(self, port, timeout=60):
        return Raw(self.port(port), timeout)

    def deliver(self, to, message, sender="sender@elsewhere.test"):
        with self.smtp() as s:
            s.sendmail(sender, [to] if isinstance(to, str) else to, message)


class Raw:
    """A socket that speaks lines, for what well-behaved clients cannot say."""

    def __init__(self, port, timeout=60):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.file = self.sock.makefile("rb")

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def line(self):
        return self.file.readline()

    def reply(self):
        """A whole SMTP answer."""
        lines = []
        while True:
            line = self.line()
            lines.append(line)
            if len(line) < 4 or line[3:4] != b"-":
                return b"".join(lines)

    def until(self, start):
        """Lines up to the one that begins with `start` (or the end)."""
        lines = []
        while True:
            line = self.line()
            lines.append(line)
            if line.startswith(start) or not line:
                return lines

    def at_end(self):
        return self.sock.recv(1) == b"" if not self.file.peek(1) else False

    def close(self):
        self.file.close()
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()


def eventually(check, timeout=60, pause=0.05):
    """Asks until the answer is true or the time is over; returns the last answer."""
    deadline = time.monotonic() + timeout
    while True:
        answer = check()
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(pause)


class ServerTest(unittest.TestCase):
    settings = {}
    accounts = ("alice", "bob")
    workers = 2
    binary = None                       # another build than the one under sanitizers

    @classmethod
    def setUpClass(cls):
        cls.server = Server(cls.settings, cls.workers, cls.binary)
        try:
            cls.server.start()
            cls.server.cli("domain", "add", "example.test")
            if cls.accounts:
                cls.server.add_accounts(*cls.accounts)
        except BaseException:
            print(cls.server.log()[-4000:])
            cls.server.remove()
            raise

    @classmethod
    def tearDownClass(cls):
        server = cls.server
        try:
            status, log = server.stop(), server.log()
        finally:
            server.remove()
        problems = [line for line in log.splitlines() if "Sanitizer" in line or "worker_lost" in line
                    or "runtime error" in line or "assertion" in line.lower()]
        if status != 0 or (problems and not getattr(cls, "expects_losses", False)):
            raise AssertionError(f"the server ended with {status}: {problems[:5]}\n{log[-3000:]}")
