"""A PostgreSQL server of the operator's own, and two hosts that serve one database, also when one of them is lost."""

import glob
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

from harness import PASSWORD, Server, eventually
from smtp_peer import Peer, polite


def bin_dir():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"), key=lambda p: int(p.split("/")[4]))
    return pathlib.Path(found[-1]).parent if found else None


def as_user():
    """initdb refuses root: what to put in front of a command."""
    return ["setpriv", "--reuid=merpati", "--regid=merpati", "--clear-groups"] if os.geteuid() == 0 else []


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Postgres:
    """A private cluster on a TCP port of loopback, with a password."""

    def __init__(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="merpati-pg-", dir="/tmp"))
        if os.geteuid() == 0:
            shutil.chown(self.base, "merpati", "merpati")
        self.port = free_port()
        password = self.base / "password"
        password.write_text("s3cret\n")
        os.chmod(password, 0o644)
        subprocess.run([*as_user(), str(bin_dir() / "initdb"), "-D", str(self.base / "data"), "-U", "owner", "-A",
                        "scram-sha-256", f"--pwfile={password}", "-E", "UTF8", "--locale=C.UTF-8"],
                       check=True, capture_output=True, timeout=120)
        self.process = subprocess.Popen(
            [*as_user(), str(bin_dir() / "postgres"), "-D", str(self.base / "data"), "-p", str(self.port),
             "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not eventually(lambda: self.psql("CREATE DATABASE groupware").returncode == 0):
            raise RuntimeError("PostgreSQL does not start")

    def psql(self, statement, database="postgres"):
        return subprocess.run(["psql", "-X", "-c", statement, self.uri(database)], capture_output=True, text=True, timeout=60)

    def uri(self, database="groupware"):
        return f"postgresql://owner:s3cret@127.0.0.1:{self.port}/{database}"

    def remove(self):
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(60)
        shutil.rmtree(self.base, ignore_errors=True)


class Sink:
    """A mail server that may be slow: it reads messages and keeps its answers, and then takes none of those."""

    def __init__(self):
        self.is_quick = threading.Event()
        self.is_quick.set()
        self.taken, self.waiting = [], 0
        self.peer = Peer(polite(answers={r"\.$": self.end}))
        self.port, self.close = self.peer.port, self.peer.close

    def end(self, peer, wire, command):
        if self.is_quick.is_set():
            self.taken.append(int(re.search(rb"^Subject: (\d+)\r$", wire.message, re.M)[1]))
            return wire.send("250 2.0.0 taken\r\n")
        self.waiting += 1
        self.is_quick.wait(60)
        wire.send("451 4.3.0 too slow\r\n")


@unittest.skipIf(bin_dir() is None, "PostgreSQL's programs are not here")
class ExternalDatabaseTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.postgres = Postgres()
        cls.hosts, cls.sink = [], Sink()
        queue = {"delivery_routes": f"remote.test=127.0.0.1:{cls.sink.port}", "smtp_trusted_networks": "127.0.0.0/8",
                 "queue_backoff_min": "1s", "queue_backoff_max": "1s", "queue_retry_min": "1s", "queue_retry_max": "1s",
                 "queue_poll_interval": "50ms"}
        try:
            for name in ("one", "two"):
                host = Server({"database": cls.postgres.uri(), "hostname": f"{name}.example.test", **queue}, workers=1)
                cls.hosts.append(host)
                host.start()
            cls.hosts[0].cli("domain", "add", "example.test")
            cls.hosts[0].add_accounts("alice")
        except BaseException:
            for host in cls.hosts:
                print(host.log()[-3000:])
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        statuses = [host.stop() for host in cls.hosts]
        for host in cls.hosts:
            host.remove()
        cls.postgres.remove()
        cls.sink.close()
        if any(statuses):
            raise AssertionError(f"the servers ended with {statuses}")

    def test_no_cluster_of_our_own_is_made(self):
        self.assertFalse((self.hosts[0].data / "pg").exists())
        self.assertEqual(self.hosts[0].named("postgres"), [])

    def test_what_one_host_takes_the_other_shows_and_announces(self):
        one, two = self.hosts
        with two.raw("imap") as idler:
            idler.line()
            for tag, command in (("a", f"LOGIN alice@example.test {PASSWORD}"), ("b", "SELECT INBOX")):
                idler.send(f"{tag} {command}\r\n")
                idler.until(tag.encode())
            idler.send("c IDLE\r\n")
            self.assertTrue(idler.line().startswith(b"+"))
            one.deliver("alice@example.test", b"Subject: across hosts\r\n\r\nhello\r\n")
            self.assertTrue(idler.until(b"* 1 EXISTS")[-1].startswith(b"* 1 EXISTS"))
        with two.imap("alice") as client:
            client.select("INBOX", readonly=True)
            self.assertIn(b"across hosts", client.fetch("1", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1][0][1])

    def submit(self, host, numbers):
        with host.smtp() as client:
            for n in numbers:
                client.sendmail("alice@example.test", ["friend@remote.test"], f"Subject: {n}\r\n\r\nhello\r\n")

    def is_queue_empty(self):
        return self.hosts[1].cli_json("queue", "list") == []

    def test_what_a_killed_host_had_in_hand_goes_out_through_the_other(self):
        one = self.hosts[0]
        self.submit(one, range(5))
        self.assertTrue(eventually(self.is_queue_empty))
        self.sink.is_quick.clear()
        self.submit(one, range(5, 35))
        self.assertTrue(eventually(lambda: self.sink.waiting >= 1))
        one.kill()
        self.sink.is_quick.set()
        try:
            self.assertTrue(eventually(self.is_queue_empty, timeout=120), self.hosts[1].log()[-3000:])
            self.assertEqual(sorted(self.sink.taken), list(range(35)))
        finally:
            one.start()

    def test_a_password_in_the_setting_stays_out_of_the_log(self):
        self.assertNotIn("s3cret", self.hosts[0].log())


if __name__ == "__main__":
    unittest.main()
