"""News cross the border between workers: deliveries, flags and expunges reach every session, numbered rightly."""

import random
import re
import unittest

from harness import ServerTest, eventually
from imap_wire import Session, one_per_worker

MESSAGE = b"From: a@elsewhere.test\r\nTo: alice@example.test\r\nSubject: %s\r\n\r\nHello.\r\n"


class Smtp:
    """An SMTP connection of which we know the worker."""

    def __init__(self, server):
        self.raw = server.raw("smtp")
        self.sock = self.raw.sock
        self.raw.reply()
        self.say(b"EHLO client.test\r\n")

    def say(self, data):
        self.raw.send(data)
        return self.raw.reply()

    def deliver(self, to, message):
        for line in (b"MAIL FROM:<s@elsewhere.test>", b"RCPT TO:<%s>" % to.encode(), b"DATA"):
            self.say(line + b"\r\n")
        answer = self.say(message + b".\r\n")
        if not answer.startswith(b"250"):
            raise AssertionError(answer)

    def close(self):
        self.raw.close()


class Mirror:
    """What a client believes of its mailbox, from untagged responses alone; raises when it is told nonsense."""

    def __init__(self, session):
        self.session = session
        self.uids, self.flags = [], []
        self.take(session.selected)
        self.take(session.ok("FETCH 1:* (UID FLAGS)") if self.uids else [])

    def take(self, responses):
        for r in responses:
            if m := re.match(rb"\* (\d+) EXISTS\r", r):
                count = int(m.group(1))
                if count < len(self.uids):
                    raise AssertionError(f"EXISTS shrank from {len(self.uids)} to {count}")
                self.flags += [None] * (count - len(self.uids))
                self.uids += [None] * (count - len(self.uids))
            elif m := re.match(rb"\* (\d+) EXPUNGE\r", r):
                number = int(m.group(1))
                if not 1 <= number <= len(self.uids):
                    raise AssertionError(f"EXPUNGE {number} of {len(self.uids)}")
                del self.uids[number - 1], self.flags[number - 1]
            elif m := re.match(rb"\* (\d+) FETCH \((.*)\)\r", r, re.S):
                self.take_fetch(int(m.group(1)), m.group(2))

    def take_fetch(self, number, items):
        if not 1 <= number <= len(self.uids):
            raise AssertionError(f"FETCH {number} of {len(self.uids)}")
        if m := re.search(rb"UID (\d+)", items):
            if self.uids[number - 1] not in (None, int(m.group(1))):
                raise AssertionError(f"message {number} was {self.uids[number - 1]}, is {m.group(1)}")
            self.uids[number - 1] = int(m.group(1))
        if m := re.search(rb"FLAGS \(([^)]*)\)", items):
            self.flags[number - 1] = frozenset(m.group(1).split())

    def run(self, text):
        """A message that another session expunged meanwhile may be refused (RFC 5530), nothing else."""
        untagged, answer = self.session.command(text)
        if not answer.startswith((b"OK", b"NO [EXPUNGEISSUED]")):
            raise AssertionError(f"{text}: {answer!r}")
        self.take(untagged)

    def settle(self):
        """All that is new, then what the server says beside what we believe."""
        self.run("NOOP")
        told = list(self.flags)
        self.run("FETCH 1:* (UID FLAGS)") if self.uids else None
        for number, (before, now) in enumerate(zip(told, self.flags), 1):
            if before is not None and before != now:
                raise AssertionError(f"message {number} changed from {before} to {now} and nobody told")
        return list(zip(self.uids, self.flags))


class PushTest(ServerTest):
    accounts = ("alice", "bob", "carol", "dave", "erin", "frank", "gina", "hana", "ivan")

    def pair(self, user):
        """A session in each worker, INBOX selected."""
        both = one_per_worker(self.server, lambda: Session(self.server, user, "INBOX"))
        for session in both.values():
            self.addCleanup(session.close)
        return list(both.items())

    def smtp_of(self, pid):
        both = one_per_worker(self.server, lambda: Smtp(self.server))
        for p, smtp in both.items():
            self.addCleanup(smtp.close)
        return both[pid]

    def fill(self, user, count):
        with Session(self.server, user) as s:
            for i in range(count):
                s.append("INBOX", MESSAGE % b"filler %d" % i)

    def test_delivery_in_one_worker_is_told_in_the_other(self):
        (pid_a, a), (pid_b, b) = self.pair("alice")
        count = 0
        for session, other in ((a, pid_b), (b, pid_a)):
            session.idle()
            self.smtp_of(other).deliver("alice@example.test", MESSAGE % b"pushed")
            count += 1
            session.until_told(rb"\* %d EXISTS\r" % count)
            session.done()

    def test_every_idling_session_of_the_account_is_told_and_no_other(self):
        sessions = [Session(self.server, "bob", "INBOX") for _ in range(20)]
        stranger = Session(self.server, "alice", "INBOX")
        for s in sessions + [stranger]:
            self.addCleanup(s.close)
            s.idle()
        self.server.deliver("bob@example.test", MESSAGE % b"for all")
        for s in sessions:
            s.until_told(rb"\* 1 EXISTS\r")
        self.assertEqual([r for r in stranger.done() if b"EXISTS" in r], [])

    def test_flags_set_in_one_worker_are_told_in_the_other(self):
        self.fill("carol", 5)
        (_, a), (_, b) = self.pair("carol")
        a.idle()
        b.ok(r"STORE 3 +FLAGS.SILENT (\Flagged $Work)")
        told = a.until_told(rb"\* 3 FETCH ")[-1]
        self.assertIn(rb"\Flagged", told)
        self.assertIn(rb"$Work", told)
        a.done()
        a.idle()
        b.ok(r"STORE 3,5 -FLAGS (\Flagged)")
        a.until_told(rb"\* 3 FETCH \(.*FLAGS \(\$Work\)")
        a.done()

    def test_expunges_in_one_worker_are_told_in_the_other_with_running_numbers(self):
        self.fill("dave", 6)
        (_, a), (_, b) = self.pair("dave")
        mirror = Mirror(a)
        before = list(mirror.uids)
        a.idle()
        b.ok(r"STORE 2,4,5 +FLAGS.SILENT (\Deleted)")
        b.ok("EXPUNGE")
        told = []
        while sum(b"EXPUNGE" in r for r in told) < 3:
            told += a.until_told(rb"\* \d+ EXPUNGE\r")
        mirror.take(told + a.done())
        self.assertEqual(mirror.uids, [before[0], before[2], before[5]])
        mirror.settle()

    def test_what_one_worker_acknowledged_is_there_for_who_selects_in_another(self):
        (_, a), (_, b) = self.pair("gina")
        for i in range(1, 21):
            b.append("INBOX", MESSAGE % b"acknowledged")
            self.assertIn(b"* %d EXISTS\r\n" % i, a.ok("SELECT INBOX"))
            with Session(self.server, "gina", "INBOX") as other:
                self.assertIn(b"* %d EXISTS\r\n" % i, other.selected)

    def test_a_mailbox_that_another_session_removes_or_renames(self):
        (_, a), (_, b) = self.pair("hana")
        b.ok("CREATE Old")
        b.append("Old", MESSAGE % b"in the old folder")
        a.ok("SELECT Old")
        b.ok("RENAME Old New")
        self.assertEqual(len(a.ok("FETCH 1 (UID FLAGS)")), 1)
        a.idle()
        b.append("New", MESSAGE % b"in the new folder")
        a.until_told(rb"\* 2 EXISTS\r")
        b.ok("DELETE New")
        try:
            told = a.until_told(rb"\* (BYE|OK \[CLOSED\]|NO)")
        except EOFError:
            return
        if not told[-1].startswith(b"* BYE"):
            a.done()
            a.ok("SELECT INBOX")

    def test_idle_may_end_in_the_same_packet_and_ends_with_done_only(self):
        with Session(self.server, "hana", "INBOX") as s:
            s.send(b"i1 IDLE\r\nDONE\r\ni2 NOOP\r\n")
            self.assertTrue(s.until_told(rb"i1 ")[-1].startswith(b"i1 OK"))
            self.assertTrue(s.until_told(rb"i2 ")[-1].startswith(b"i2 OK"))
            s.send(b"i3 IDLE\r\ni4 NOOP\r\n")
            self.assertTrue(s.until_told(rb"i3 ")[-1].startswith(b"i3 BAD"))
            s.ok("NOOP")
        with Session(self.server, "hana") as s:
            s.idle()                    # without a mailbox there is no news, and no harm
            s.done()

    def test_a_burst_is_told_whole_and_in_order(self):
        (pid_a, a), (pid_b, _) = self.pair("ivan")
        a.idle()
        smtp = self.smtp_of(pid_b)
        for i in range(200):
            smtp.deliver("ivan@example.test", MESSAGE % b"burst %d" % i)
        counts = [int(r.split()[1]) for r in a.until_told(rb"\* 200 EXISTS\r") if r.endswith(b"EXISTS\r\n")]
        self.assertEqual(counts, sorted(set(counts)))
        a.done()
        subjects = [r.split(b"Subject: ")[1].split(b"\r")[0] for r in a.ok("FETCH 1:* (BODY.PEEK[HEADER.FIELDS (SUBJECT)])")]
        self.assertEqual(subjects, [b"burst %d" % i for i in range(200)])

    def test_no_expunge_is_told_while_numbers_are_in_use(self):
        self.fill("erin", 4)
        (_, a), (_, b) = self.pair("erin")
        b.ok(r"STORE 1 +FLAGS.SILENT (\Deleted)")
        b.ok("EXPUNGE")
        for text in ("FETCH 1:* (UID)", "STORE 4 +FLAGS (\\Seen)", "SEARCH ALL"):
            self.assertEqual([r for r in a.ok(text) if b"EXPUNGE" in r], [], text)
        self.assertEqual([r for r in a.ok("NOOP") if b"EXPUNGE" in r], [b"* 1 EXPUNGE\r\n"])

    def step(self, rng, mirror, message_number):
        """One random command that a mail program may send; nothing is asked of its answer but OK."""
        count = len(mirror.uids)
        pick = rng.randrange(6)
        if pick == 0 or count == 0:
            message = MESSAGE % b"n%d" % message_number
            mirror.take(mirror.session.append("INBOX", message, rng.choice(("", r"\Seen", "$Tag"))))
        elif pick == 1:
            flag = rng.choice((r"\Seen", r"\Flagged", r"\Answered", "$Tag"))
            mirror.run(f"STORE {rng.randint(1, count)} {rng.choice('+-')}FLAGS ({flag})")
        elif pick == 2:
            mirror.run(rf"STORE {rng.randint(1, count)} +FLAGS (\Deleted)")
        elif pick == 3 and count > 8:
            mirror.run("EXPUNGE")
        elif pick == 4:
            mirror.session.idle()
            mirror.take(mirror.session.done())
        else:
            mirror.run("NOOP")

    def test_four_sessions_at_work_agree_about_everything(self):
        rng = random.Random(20)
        self.fill("frank", 10)
        sessions = [s for _, s in self.pair("frank") + self.pair("frank")]
        mirrors = [Mirror(s) for s in sessions]
        for number in range(300):
            self.step(rng, rng.choice(mirrors), number)
            if number % 50 == 49:
                self.assertTrue(eventually(lambda: self.agree(mirrors)), [m.settle() for m in mirrors])

    def agree(self, mirrors):
        """News of another worker may be on its way for a moment; none may ever contradict what was told."""
        truths = [m.settle() for m in mirrors]
        return all(truth == truths[0] for truth in truths)


if __name__ == "__main__":
    unittest.main()
