"""Starting, draining, stopping, dying: what an operator and a client see of it."""

import fcntl
import http.client
import os
import pathlib
import pwd
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
import unittest

from harness import ROOT, Server, ServerTest, eventually
from imap_wire import Session, one_per_worker, worker_of

MESSAGE = b"From: a@elsewhere.test\r\nTo: alice@example.test\r\nSubject: %s\r\n\r\nHello.\r\n"


def is_alive(pid):
    """Zombies that nobody fetched yet are as good as gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def get(server, path, headers=None):
    c = http.client.HTTPConnection("127.0.0.1", server.port("http"), timeout=60)
    try:
        c.request("GET", path, headers=headers or {})
        answer = c.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        c.close()


class StartTest(unittest.TestCase):
    """Each case starts a server under odd circumstances."""

    def test_sigterm_ends_a_start_that_waits_for_a_silent_database(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            silent.settimeout(60)
            server = Server({"database": f"postgresql://x@127.0.0.1:{silent.getsockname()[1]}/x"})
            self.addCleanup(server.remove)
            with open(server.log_path, "ab") as log:
                server.process = subprocess.Popen(server.command(), stdout=log, stderr=log, env=server.env)
            with silent.accept()[0] as client:
                client.recv(1)
                server.process.send_signal(signal.SIGTERM)
                self.assertEqual(server.process.wait(20), 0, server.log())

    def test_descriptors_are_as_many_as_the_system_allows(self):
        server = Server()
        self.addCleanup(server.remove)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        before = resource.prlimit(0, resource.RLIMIT_NOFILE, (256, hard))
        try:
            server.start()
        finally:
            resource.prlimit(0, resource.RLIMIT_NOFILE, before)
        limits = pathlib.Path(f"/proc/{server.named('worker-0')[0]}/limits").read_text()
        self.assertRegex(limits, rf"Max open files +{hard} +{hard} ")

    def test_sighup_does_not_kill_a_worker_that_is_being_started(self):
        server = Server(workers=1)
        self.addCleanup(server.remove)
        server.start()
        supervisor, is_over = server.supervisor(), threading.Event()

        def hang_up():
            while not is_over.is_set():
                os.kill(supervisor, signal.SIGHUP)
        flood = threading.Thread(target=hang_up)
        flood.start()
        try:
            for _ in range(3):
                victim = server.named("worker-0")[0]
                os.kill(victim, signal.SIGKILL)
                self.assertTrue(eventually(lambda: server.named("worker-0") not in ([], [victim])))
        finally:
            is_over.set()
            flood.join()
        self.assertNotIn(f"signal={int(signal.SIGHUP)}\n", server.log())


class StopTest(unittest.TestCase):
    """Each case stops or kills its own server."""

    def setUp(self):
        self.server = Server({"drain_timeout": "30s"})
        self.addCleanup(self.server.remove)
        self.server.start()
        self.server.cli("domain", "add", "example.test")
        self.server.add_accounts("alice", "bob")

    def keep(self, closeable):
        self.addCleanup(closeable.close)
        return closeable

    def open_data(self):
        raw = self.keep(self.server.raw("smtp"))
        raw.reply()
        raw.send(b"EHLO client.test\r\n")
        raw.reply()
        raw.send(b"MAIL FROM:<s@elsewhere.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n")
        self.assertEqual([raw.reply()[:3] for _ in range(3)], [b"250", b"250", b"354"])
        raw.send(b"Subject: in flight\r\n\r\nfirst half, ")
        return raw

    def subjects(self, user="alice"):
        with self.server.imap(user) as c:
            c.select("INBOX", readonly=True)
            if not int(c.response("EXISTS")[1][0] or 0):
                return []
            data = c.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
            return [m[1].decode().strip()[9:] for m in data if isinstance(m, tuple)]

    def refuses_connections(self):
        try:
            self.server.raw("smtp").close()
            return False
        except OSError:
            return True

    def test_sigterm_lets_a_message_finish_says_bye_to_idlers_and_exits_0(self):
        idle = self.keep(Session(self.server, "alice", "INBOX"))
        idle.idle()
        resting = self.keep(self.server.raw("smtp"))
        resting.reply()
        raw = self.open_data()
        process = self.server.process
        process.send_signal(signal.SIGTERM)
        self.assertTrue(any(r.startswith(b"* BYE") for r in idle.until_told(rb"\* BYE")))
        self.assertTrue(resting.reply().startswith(b"421 4.3.2"))
        self.assertTrue(eventually(self.refuses_connections))
        raw.send(b"second half\r\n.\r\n")
        self.assertRegex(raw.reply(), rb"^250 2\.0\.0")
        self.assertEqual(self.server.stop(), 0)
        self.assertIn("event=draining", self.server.log())
        self.server.start()
        self.assertEqual(self.subjects(), ["in flight"])

    def test_sigint_is_as_good(self):
        self.server.process.send_signal(signal.SIGINT)
        self.assertEqual(self.server.process.wait(60), 0)
        self.server.start()

    def test_nothing_runs_and_no_port_is_held_after_the_end(self):
        pids = self.server.descendants()
        self.assertGreater(len(pids), 4)
        self.assertEqual(self.server.stop(), 0)
        self.assertTrue(eventually(lambda: not any(map(is_alive, pids))))
        self.assertTrue(self.refuses_connections())

    def test_restart_keeps_everything(self):
        for i in range(5):
            self.server.deliver("alice@example.test", MESSAGE % b"kept %d" % i)
        with Session(self.server, "alice", "INBOX") as s:
            s.ok(r"STORE 2 +FLAGS (\Seen $Label)")
            s.ok("CREATE Work/Invoices")
            s.ok("COPY 3 Work/Invoices")
            s.ok(r"STORE 1 +FLAGS (\Deleted)")
            s.ok("EXPUNGE")
            before = self.picture(s)
        self.assertEqual(self.server.stop(), 0)
        self.server.start()
        with Session(self.server, "alice", "INBOX") as s:
            self.assertEqual(self.picture(s), before)
            uid = int(re.search(rb"APPENDUID \d+ (\d+)", s.command(b"APPEND INBOX {4+}\r\nx: y")[1]).group(1))
        self.assertGreater(uid, max(int(u) for u in re.findall(rb"UID (\d+)", b"".join(before[0]))))

    def picture(self, s):
        return (s.ok("FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])"), s.ok('LIST "" "*"'),
                s.ok("STATUS Work/Invoices (MESSAGES UIDVALIDITY UIDNEXT)"), s.ok("STATUS INBOX (UIDVALIDITY UIDNEXT)"))

    def test_kill_of_the_guard_ends_all_and_a_new_start_finds_all(self):
        self.server.deliver("alice@example.test", MESSAGE % b"before the axe")
        pids = self.server.descendants()
        os.kill(self.server.process.pid, signal.SIGKILL)
        self.server.process.wait(30)
        self.server.process = None
        self.assertTrue(eventually(lambda: not any(map(is_alive, pids))), [p for p in pids if is_alive(p)])
        self.server.start()
        self.assertEqual(self.subjects(), ["before the axe"])

    def test_power_cut_then_start(self):
        self.server.deliver("alice@example.test", MESSAGE % b"before the dark")
        self.server.kill()
        self.server.start()
        self.assertEqual(self.subjects(), ["before the dark"])

    def test_second_server_on_the_directory_is_refused_and_the_first_lives(self):
        other = Server()
        self.addCleanup(other.remove)
        result = subprocess.run([self.server.binary, "serve", "--config", str(other.config), "--data", str(self.server.data),
                                 "--port-offset", str(other.offset)], capture_output=True, text=True, timeout=120,
                                env=self.server.env)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"data directory .* is in use by process \d+")
        self.assertEqual(self.subjects(), [])

    def test_a_server_that_starts_waits_for_a_command_on_the_directory(self):
        """An administrator may ask something just when it starts."""
        self.server.stop()
        starting = threading.Thread(target=self.server.start)
        with open(self.server.data / "lock", "r+b") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX, 1, 0)              # what a command holds
            starting.start()
            self.assertTrue(eventually(lambda: self.is_locked(lock, 1)))
        starting.join(120)
        self.assertEqual(self.subjects(), [])

    @staticmethod
    def is_locked(file, byte):
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except OSError:
            return True
        fcntl.lockf(file, fcntl.LOCK_UN, 1, byte)
        return False

    def test_taken_port_is_named(self):
        other = Server()
        self.addCleanup(other.remove)
        other.offset = self.server.offset
        with self.assertRaises(RuntimeError) as caught:
            other.start()
        self.assertRegex(str(caught.exception), rf"(?i)merpati: .*{self.server.port('smtp')}.*in use")


class DeathTest(ServerTest):
    expects_losses = True

    def test_dead_worker_is_replaced_and_the_others_sessions_live(self):
        both = one_per_worker(self.server, lambda: Session(self.server, "alice", "INBOX"))
        for session in both.values():
            self.addCleanup(session.close)
        victim, survivor = both
        both[survivor].idle()
        os.kill(victim, signal.SIGKILL)
        self.assertEqual(both[victim].line(), b"")
        self.server.deliver("alice@example.test", MESSAGE % b"meanwhile")
        both[survivor].until_told(rb"\* \d+ EXISTS\r")
        both[survivor].done()

        def meets_a_new_one():
            try:
                with Session(self.server, "alice", "INBOX") as s:
                    return worker_of(self.server, s.sock) not in (victim, survivor)
            except (OSError, EOFError):
                return False
        self.assertTrue(eventually(meets_a_new_one))
        self.assertIn("event=worker_lost", self.server.log())
        self.assertRegex(get(self.server, "/metrics")[1], r"(?m)^merpati_workers_lost_total [1-9]")

    def test_dead_supervisor_comes_back(self):
        victim = self.server.supervisor()
        os.kill(victim, signal.SIGKILL)

        def served():
            try:
                with Session(self.server, "alice", "INBOX"):
                    return self.server.supervisor() not in (None, victim)
            except (OSError, EOFError, AssertionError):
                return False
        self.assertTrue(eventually(served, timeout=120), self.server.log()[-2000:])


@unittest.skipUnless((ROOT / "build/merpati").exists(), "sanitizers bring reports of their own")
class CrashTest(unittest.TestCase):
    def test_crash_leaves_a_backtrace_in_the_log(self):
        server = Server(binary=ROOT / "build/merpati")
        self.addCleanup(server.remove)
        server.start()
        victim = server.named("worker-1")[0]
        os.kill(victim, signal.SIGSEGV)
        self.assertTrue(eventually(lambda: "event=worker_lost" in server.log()))
        self.assertRegex(server.log(), rf"event=crashed process=worker-1 pid={victim} signal=SIGSEGV fiber=\S+\n(.*\[0x[0-9a-f]+\]\n){{4}}")


class WatchdogTest(ServerTest):
    expects_losses = True
    settings = {"watchdog_timeout": "5s"}

    def test_hanging_worker_is_replaced(self):
        victim = self.server.named("worker-0")[0]
        os.kill(victim, signal.SIGSTOP)
        self.assertTrue(eventually(lambda: not is_alive(victim), timeout=120))
        self.assertTrue(eventually(lambda: self.server.named("worker-0") not in ([], [victim])))
        self.assertIn("event=worker_hangs", self.server.log())


class WatchedTest(ServerTest):
    """healthz and metrics."""

    def test_healthz_is_200_while_all_is_well(self):
        status, body, headers = get(self.server, "/healthz")
        self.assertEqual((status, body), (200, "ok\n"))
        self.assertEqual(headers["Cache-Control"], "no-store")

    def test_metrics_are_prometheus_text_and_count(self):
        def value(name):
            return int(re.search(rf"(?m)^merpati_{name} (\d+)$", get(self.server, "/metrics")[1]).group(1))
        before = value("smtp_messages_accepted_total"), value("logins_ok_total"), value("mail_deliveries_total")
        self.server.deliver(["alice@example.test", "bob@example.test"], MESSAGE % b"counted")
        self.server.imap("alice").logout()
        after = value("smtp_messages_accepted_total"), value("logins_ok_total"), value("mail_deliveries_total")
        self.assertEqual([b - a for a, b in zip(before, after)], [1, 1, 2])
        text, headers = get(self.server, "/metrics")[1:]
        self.assertTrue(headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        names = set()
        for line in text.splitlines():
            self.assertRegex(line, r"^(# HELP merpati_\w+ \S.*|# TYPE merpati_\w+ (counter|gauge)|merpati_\w+(\{[^}]*\})? -?\d+(\.\d+)?)$")
            if line.startswith("# TYPE"):
                self.assertNotIn(line, names)
                names.add(line)
                self.assertEqual(line.endswith("counter"), line.split()[2].endswith("_total"))
        self.assertGreater(len(names), 20)

    def test_open_connections_are_counted_and_discounted(self):
        def value():
            return int(re.search(r"(?m)^merpati_imap_sessions_idle (\d+)$", get(self.server, "/metrics")[1]).group(1))
        start = value()
        sessions = [Session(self.server, "alice", "INBOX") for _ in range(5)]
        for s in sessions:
            s.idle()
        self.assertEqual(value(), start + 5)
        for s in sessions:
            s.close()
        self.assertTrue(eventually(lambda: value() == start))

    def test_unknown_paths_and_methods(self):
        self.assertEqual(get(self.server, "/no/such/thing")[0], 404)
        self.assertEqual(get(self.server, "/../etc/passwd")[0] // 100, 4)
        c = http.client.HTTPConnection("127.0.0.1", self.server.port("http"), timeout=60)
        self.addCleanup(c.close)
        c.request("DELETE", "/healthz")
        answer = c.getresponse()
        self.assertEqual(answer.status, 405)
        self.assertIn("GET", answer.getheader("Allow"))
        answer.read()
        c.request("GET", "/healthz")    # the same connection goes on
        self.assertEqual(c.getresponse().status, 200)

    def test_sighup_disturbs_nobody(self):
        with Session(self.server, "alice", "INBOX") as s:
            before = self.server.named("worker-0") + self.server.named("worker-1")
            self.server.process.send_signal(signal.SIGHUP)
            self.server.deliver("alice@example.test", MESSAGE % b"hup")
            s.ok("NOOP")
            self.assertEqual(self.server.named("worker-0") + self.server.named("worker-1"), before)

    def test_log_lines_are_events_with_fields(self):
        self.server.imap("alice").logout()
        lines = [line for line in self.server.log().splitlines() if "level=" in line]
        self.assertTrue(lines)
        for line in lines:
            self.assertRegex(line, r'level=(debug|info|warn|error) .*event=\w+( \w+=("(\\.|[^"\\])*"|[^\s"]*))*$')
        self.assertNotIn("secret", self.server.log())


@unittest.skipUnless(os.geteuid() == 0, "needs root to become somebody else")
class UnprivilegedTest(unittest.TestCase):
    def run_as_nobody(self, settings, offset):
        server = Server(settings)
        self.addCleanup(server.remove)
        nobody = pwd.getpwnam("nobody")
        os.chmod(server.base, 0o777)
        binary = shutil.copy(server.binary, server.base)        # where it was built nobody may be able to look
        return subprocess.run([binary, "serve", "--config", str(server.config), "--data", str(server.base / "mine"),
                               "--port-offset", str(offset)], capture_output=True, text=True, timeout=120, env=server.env,
                              user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])

    def test_ports_below_1024_are_refused_with_a_clear_sentence(self):
        limit = int(pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
        if limit <= 25:
            self.skipTest("this machine lets anybody have every port")
        result = self.run_as_nobody({}, 0)
        self.assertEqual(result.returncode, 1, result.stderr)
        sentences = [line for line in result.stderr.splitlines() if line.startswith("merpati: ")]
        self.assertEqual(len(sentences), 1, result.stderr)
        self.assertRegex(sentences[0], r"\b(24|25)\b.*(root|privilege|1024)")

    def test_data_directory_of_somebody_else_is_refused_with_a_clear_sentence(self):
        server = Server()
        self.addCleanup(server.remove)
        server.data.mkdir(mode=0o700)
        (server.data / "precious").write_text("x")
        result = subprocess.run([server.binary, "serve", "--config", str(server.config), "--data", str(server.data),
                                 "--port-offset", str(server.offset)], capture_output=True, text=True, timeout=120,
                                env=server.env)
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"merpati: .*does not belong to .*chown")


@unittest.skipUnless(os.geteuid() == 0, "only root gives directories away")
class DataDirectoryTest(unittest.TestCase):
    """What root may hand to a server that then is nobody special."""

    def start(self, directory):
        server = Server()
        self.addCleanup(server.remove)
        server.data = directory(server.base)
        return server

    def test_an_empty_directory_of_roots_is_taken(self):
        def directory(base):
            (base / "data").mkdir()
            return base / "data"
        server = self.start(directory)
        server.start()
        self.assertNotEqual(server.data.stat().st_uid, 0)

    def test_one_with_files_of_others_is_refused(self):
        def directory(base):
            (base / "data").mkdir()
            (base / "data/precious").write_text("x")
            return base / "data"
        server = self.start(directory)
        with self.assertRaisesRegex(RuntimeError, 'does not belong to the user merpati: run "chown -R merpati '):
            server.start()

    def test_a_closed_way_is_named(self):
        def directory(base):
            (base / "closed").mkdir(mode=0o700)
            return base / "closed/data"
        server = self.start(directory)
        with self.assertRaisesRegex(RuntimeError, 'open the way with "chmod o\\+x .*/closed"'):
            server.start()


if __name__ == "__main__":
    unittest.main()
