"""PostgreSQL stopped, killed or out of disk: clients are told to try again, stay logged in, and lose nothing."""

import itertools
import os
import pwd
import re
import shutil
import signal
import subprocess
import threading
import unittest

from harness import Server, ServerTest, eventually
from imap_wire import Session
from pop3_wire import Pop3
from test_lifecycle import get

MESSAGE = b"From: a@elsewhere.test\r\nTo: alice@example.test\r\nSubject: %s\r\n\r\nHello.\r\n"
SHORT = {"database_wait": "1s", "database_timeout": "3s"}


class Letters:
    """Delivers over one SMTP connection and remembers what was acknowledged. No subject is ever used twice."""
    numbers = itertools.count(1)

    def __init__(self, server):
        self.raw = server.raw("smtp")
        self.raw.reply()
        self.acked = []
        self.say(b"EHLO client.test")

    def say(self, line):
        self.raw.send(line + b"\r\n")
        return self.raw.reply()

    def deliver(self, body=b"x"):
        """None when acknowledged, else the refusal."""
        subject = f"letter-{next(self.numbers)}"
        for line in (b"MAIL FROM:<s@elsewhere.test>", b"RCPT TO:<alice@example.test>", b"DATA",
                     b"Subject: " + subject.encode() + b"\r\n\r\n" + body + b"\r\n."):
            answer = self.say(line)
            if answer[:1] not in b"23":
                self.say(b"RSET")
                return answer
        self.acked.append(subject)
        return None


def subjects(server, user="alice"):
    with Session(server, user, "INBOX") as s:
        return re.findall(rb"(?m)^Subject: (\S+)\r$", b"".join(s.ok("FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])")))


class AwayTest(ServerTest):
    settings = SHORT
    expects_losses = True

    def setUp(self):
        self.session = Session(self.server, "alice", "INBOX")
        self.addCleanup(self.session.close)
        self.letters = Letters(self.server)
        self.addCleanup(self.letters.raw.close)

    def postgres(self, signal_number):
        for pid in self.server.named("postgres"):
            try:
                os.kill(pid, signal_number)
            except ProcessLookupError:
                pass

    def assert_back(self):
        """The very same connections work again, and everything acknowledged is there once."""
        self.assertTrue(eventually(lambda: self.letters.deliver() is None, timeout=120), self.server.log()[-3000:])
        self.assertTrue(eventually(lambda: self.session.command("NOOP")[1].startswith(b"OK") and
                                   self.session.command("STATUS INBOX (MESSAGES)")[1].startswith(b"OK")))
        got = subjects(self.server)
        self.assertEqual([a for a in self.letters.acked if got.count(a.encode()) != 1], [])
        self.assertTrue(eventually(lambda: get(self.server, "/healthz")[0] == 200))

    def assert_refused_everywhere(self):
        self.assertRegex(self.letters.deliver(), rb"^451 4\.3\.0 \w")
        self.assertRegex(self.letters.deliver(), rb"^451 4\.3\.0 \w")
        self.assertRegex(self.session.command("STATUS Sent (MESSAGES)")[1], rb"^NO \[UNAVAILABLE\] \w")
        self.assertRegex(self.session.command("CREATE NotNow")[1], rb"^NO \[UNAVAILABLE\] \w")
        self.assertRegex(self.session.command(b"APPEND INBOX {4+}\r\nx: y")[1], rb"^NO \[UNAVAILABLE\] \w")
        with Session(self.server) as stranger:
            self.assertRegex(stranger.command("LOGIN bob@example.test secret")[1], rb"^NO \[UNAVAILABLE\] \w")
            self.assertRegex(stranger.command("NOOP")[1], rb"^OK")
        self.assertEqual(get(self.server, "/healthz")[0], 503)

    def test_stopped_postgres_is_told_and_waited_for(self):
        self.assertIsNone(self.letters.deliver())
        self.postgres(signal.SIGSTOP)
        try:
            self.assert_refused_everywhere()
        finally:
            self.postgres(signal.SIGCONT)
        self.assert_back()
        self.assertNotIn(b"NotNow", b"".join(self.session.ok('LIST "" "*"')))

    def test_pop3_quit_removes_nothing_that_it_cannot_answer_for(self):
        """Not even later, when a PostgreSQL that was only slow reads what we sent it."""
        self.letters.deliver()
        with Pop3(self.server, "alice") as p:
            self.assertTrue(p.say("DELE 1").startswith(b"+OK"))
            self.postgres(signal.SIGSTOP)
            try:
                self.assertTrue(p.say("QUIT").startswith(b"-ERR [SYS/TEMP] "))
                self.assertEqual(p.raw.line(), b"")
            finally:
                self.postgres(signal.SIGCONT)
        self.assert_back()

    def test_killed_postgres_comes_back_by_itself(self):
        for _ in range(3):
            self.letters.deliver()
            self.postgres(signal.SIGKILL)
            self.assert_back()

    def test_one_killed_backend_is_nobodys_business(self):
        """PostgreSQL restarts all its backends then; it must be back before anybody gives up waiting or be told."""
        main = min(self.server.named("postgres"))
        for pid in self.server.named("postgres"):
            if pid != main:
                os.kill(pid, signal.SIGTERM)
                break
        self.assert_back()

    def test_idling_client_stays_and_hears_the_news_afterwards(self):
        self.session.idle()
        self.postgres(signal.SIGKILL)
        self.assertTrue(eventually(lambda: self.letters.deliver() is None, timeout=120))
        self.session.until_told(rb"\* \d+ EXISTS\r")
        self.session.done()
        self.assert_back()

    def test_rows_that_wait_for_a_lock_do_not_hold_others_up(self):
        """A transaction of somebody else keeps alice's row: bob is served, alice's sender is told to try again."""
        if not shutil.which("psql"):
            self.skipTest("no psql")
        psql = subprocess.Popen(["psql", "-XqAt", "-h", str(self.server.data / "run"), "-U", "merpati", "-d", "merpati"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            psql.stdin.write("BEGIN;\nSELECT 'held' FROM account_state WHERE account_id IN (SELECT account_id FROM "
                             "address WHERE address = 'alice@example.test') FOR UPDATE;\n")
            psql.stdin.flush()
            self.assertEqual(psql.stdout.readline().strip(), "held")
            self.assertRegex(self.letters.deliver() or b"", rb"^4\d\d ")
            self.server.deliver("bob@example.test", MESSAGE % b"not held up")
        finally:
            psql.stdin.close()
            psql.wait(60)
            psql.stdout.close()
        self.assert_back()


class SenderDuringRestarts(ServerTest):
    settings = {"database_wait": "20s"}
    expects_losses = True

    def test_short_absence_is_not_even_noticed(self):
        """With a patient database_wait a restart of PostgreSQL costs time, not a refusal."""
        letters, refusals = Letters(self.server), []
        self.addCleanup(letters.raw.close)
        stop = threading.Event()

        def work():
            while not stop.is_set():
                refusal = letters.deliver()
                if refusal:
                    refusals.append(refusal)
        thread = threading.Thread(target=work)
        thread.start()
        try:
            for _ in range(3):
                main = min(self.server.named("postgres"))
                os.kill(main, signal.SIGINT)            # fast shutdown: transactions are rolled back
                count = len(letters.acked)
                self.assertTrue(eventually(lambda: len(letters.acked) > count + 5, timeout=120), refusals)
        finally:
            stop.set()
            thread.join(60)
        for refusal in refusals:        # a commit whose answer was lost must not be called a success, nor be repeated
            self.assertRegex(refusal, rb"^451 4\.3\.0 ")
        got = subjects(self.server)
        self.assertEqual(sorted(set(got)), sorted(got), "delivered twice")
        self.assertEqual(set(a.encode() for a in letters.acked) - set(got), set())


@unittest.skipUnless(os.geteuid() == 0, "needs root to mount a small disk")
class DiskFullTest(unittest.TestCase):
    SIZE = "220M"

    def setUp(self):
        self.server = Server(SHORT)
        self.addCleanup(self.server.remove)
        user = pwd.getpwnam("merpati")
        self.server.data.mkdir()
        options = f"size={self.SIZE},mode=700,uid={user.pw_uid},gid={user.pw_gid}"
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.server.data)],
                          capture_output=True).returncode != 0:
            self.skipTest("mounting is not allowed here")
        self.addCleanup(self.unmount)
        self.server.start()
        self.server.cli("domain", "add", "example.test")
        self.server.add_accounts("alice", "bob")

    def unmount(self):
        self.server.stop()
        subprocess.run(["umount", str(self.server.data)], check=True)

    def fill(self, leave):
        """A file that takes all but `leave` bytes."""
        st = os.statvfs(self.server.data)
        self.ballast = self.server.data / "ballast"
        with open(self.ballast, "wb") as f:
            os.posix_fallocate(f.fileno(), 0, st.f_bavail * st.f_bsize - leave)

    def test_full_disk_is_told_and_freed_space_is_used_without_a_restart(self):
        letters = Letters(self.server)
        self.addCleanup(letters.raw.close)
        session = Session(self.server, "alice", "INBOX")
        self.addCleanup(session.close)
        self.assertIsNone(letters.deliver())
        self.fill(leave=1 << 20)
        body = b"\r\n".join(os.urandom(36).hex().encode() for _ in range(14000))
        refusal = next((r for r in (letters.deliver(body) for _ in range(150)) if r), None)
        self.assertIsNotNone(refusal, "150 MB went into a full disk")
        self.assertRegex(refusal, rb"^4\d\d 4\.\d\.\d \w.{10}")
        answer = session.command(b"APPEND INBOX {%d+}\r\n" % len(body) + body)[1]
        self.assertRegex(answer, rb"^NO \[(UNAVAILABLE|OVERQUOTA|SERVERBUG|LIMIT)\] \w.{10}")
        self.ballast.unlink()
        self.assertTrue(eventually(lambda: letters.deliver() is None, timeout=120), self.server.log()[-3000:])
        self.assertTrue(eventually(lambda: session.command("NOOP")[1].startswith(b"OK")))
        session.append("INBOX", b"Subject: roomy\r\n\r\nx\r\n")
        got = subjects(self.server)
        self.assertEqual([a for a in letters.acked if got.count(a.encode()) != 1], [])
        self.assertEqual(self.server.stop(), 0)


if __name__ == "__main__":
    unittest.main()
