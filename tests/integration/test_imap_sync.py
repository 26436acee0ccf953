"""Two sessions on one mailbox: neither loses a change, whatever is silent, refused or held back."""

import random
import re
import unittest

from harness import ServerTest, eventually
from imap_wire import Session

PLAIN = b"From: carol@example.test\r\nSubject: plain\r\n\r\nplain text\r\n"


def modseq(answer):
    return int(re.search(rb"MODSEQ \(?(\d+)", answer).group(1))


class SyncTest(ServerTest):
    accounts = ("silent", "conflict", "held", "keyword", "search", "saved", "select", "log")
    workers = 1

    def session(self, user, letters=0, enable=""):
        s = Session(self.server, user)
        self.addCleanup(s.close)
        for _ in range(letters):
            s.append("INBOX", PLAIN)
        if enable:
            s.ok(f"ENABLE {enable}")
        s.selected = s.ok("SELECT INBOX")
        return s

    def test_a_silent_store_tells_what_others_changed_meanwhile(self):
        s, other = self.session("silent", 3), self.session("silent")
        other.ok("STORE 1 +FLAGS.SILENT (\\Flagged)")
        self.assertEqual(s.ok("STORE 1 +FLAGS.SILENT (\\Seen)"), [b"* 1 FETCH (FLAGS (\\Flagged \\Seen))\r\n"])
        other.ok("STORE 2 +FLAGS.SILENT (theirs)")
        self.assertEqual(s.ok("STORE 2 +FLAGS.SILENT (ours)")[-1], b"* 2 FETCH (FLAGS (ours theirs))\r\n")
        for change in ("+FLAGS.SILENT (\\Seen)", "-FLAGS.SILENT (ours)", "+FLAGS.SILENT (OURS)", "FLAGS.SILENT (theirs \\Draft)"):
            self.assertEqual(s.ok(f"STORE 3 {change}"), [], change)
        other.ok("NOOP")
        self.assertEqual(other.ok("NOOP"), [])

    def test_a_refused_conditional_store_tells_the_flags(self):
        s, other = self.session("conflict", 2, "CONDSTORE"), self.session("conflict")
        known = modseq(b"".join(s.selected))
        other.ok("STORE 1 +FLAGS.SILENT (\\Flagged)")
        untagged, answer = s.command(f"STORE 1:2 (UNCHANGEDSINCE {known}) +FLAGS.SILENT (\\Deleted)")
        self.assertRegex(answer, rb"^OK \[MODIFIED 1\]")
        self.assertRegex(untagged[0], rb"^\* 1 FETCH \(UID 1 MODSEQ \(\d+\) FLAGS \(\\Flagged\)\)\r\n$")
        self.assertRegex(untagged[1], rb"^\* 2 FETCH \(UID 2 MODSEQ \(\d+\)\)\r\n$")
        self.assertEqual(len(untagged), 2, untagged)

    def test_highestmodseq_stays_behind_while_removals_are_held_back(self):
        s, other = self.session("held", 4, "QRESYNC"), self.session("held")
        known = modseq(b"".join(s.selected))
        other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        other.ok("EXPUNGE")
        self.assertEqual(other.ok("STORE 3 +FLAGS.SILENT (\\Seen)"), [])
        told = eventually(lambda: (lambda t: t if any(b"UID 4" in r for r in t) else None)(s.ok("FETCH 2 FLAGS")))
        self.assertNotIn(b"VANISHED", b"".join(told))
        self.assertIn(b"* OK [HIGHESTMODSEQ ", told[-1])
        self.assertLessEqual(modseq(told[-1]), known)
        untagged, answer = s.command("NOOP")
        self.assertEqual(untagged, [b"* VANISHED 1\r\n"])
        self.assertRegex(answer, rb"^OK \[HIGHESTMODSEQ \d+\]")
        self.assertGreater(modseq(answer), known)
        untagged, answer = s.command("MOVE 1 Archive")
        self.assertRegex(b"".join(untagged), rb"COPYUID(.|\r\n)*\* VANISHED 2\r\n")
        self.assertRegex(answer, rb"^OK \[HIGHESTMODSEQ \d+\]")

    def test_a_new_keyword_of_an_arrival_is_among_the_flags(self):
        s, other = self.session("keyword"), self.session("keyword")
        other.append("INBOX", PLAIN, "$Fresh")
        told = eventually(lambda: s.ok("NOOP"))
        self.assertRegex(told[0], rb"^\* FLAGS \(.*\$Fresh\)")
        self.assertEqual(told[2:], [b"* 1 EXISTS\r\n", b"* 0 RECENT\r\n"])

    def test_search_results_have_the_modseq_of_what_they_name(self):
        s = self.session("search", 3)
        s.ok("STORE 2 +FLAGS.SILENT (\\Seen)")
        s.ok("STORE 1 +FLAGS.SILENT (\\Seen)")
        of = {n: modseq(s.ok(f"FETCH {n} MODSEQ")[-1]) for n in (1, 2, 3)}
        highest = max(of.values())
        for options, wanted in {"MIN": of[1], "MAX": of[3], "MIN MAX": max(of[1], of[3]), "MAX COUNT": highest, "ALL": highest, "": highest}.items():
            self.assertEqual(modseq(s.ok(f"SEARCH RETURN ({options}) MODSEQ 1")[-1]), wanted, options)

    def test_a_search_refused_with_no_empties_the_saved_result(self):
        s = self.session("saved", 1)
        s.ok("SEARCH RETURN (SAVE) 1")
        s.refused("SEARCH RETURN (SAVE) NONSENSE")
        self.assertEqual(len(s.ok("FETCH $ UID")), 1)
        self.assertRegex(s.refused("SEARCH RETURN (SAVE) CHARSET KLINGON ALL"), rb"^NO ")
        self.assertEqual(s.ok("FETCH $ UID"), [])

    def test_a_select_refused_with_no_leaves_nothing_selected(self):
        for name in ('"a*b"', '"a&b"', "a//b", "nothing"):
            s = self.session("select")
            self.assertRegex(s.refused(f"SELECT {name}"), rb"^NO ", name)
            self.assertRegex(s.refused("FETCH 1:* FLAGS"), rb"^BAD .*selected", name)
        s = self.session("select")
        self.assertRegex(s.refused("SELECT nothing x"), rb"^BAD ")
        s.ok("CHECK")

    def test_a_log_in_is_logged_once_with_its_session(self):
        s = self.session("log")
        s.ok("NOOP")
        lines = [line for line in self.server.log().splitlines() if "log@example.test" in line]
        self.assertEqual(len(lines), 1, lines)
        self.assertRegex(lines[0], r"event=login_ok .*session=\S+.*peer=127\.0\.0\.1.*mechanism=LOGIN")


class Believer:
    """A session and the flags that its client believes in, by what it did and what it was told."""

    def __init__(self, session, count):
        self.session, self.flags = session, {n: frozenset() for n in range(1, count + 1)}

    def send_store(self, number, sign, names):
        s = self.session
        self.tag = s.tag()
        s.send(self.tag + f" STORE {number} {sign}FLAGS.SILENT ({' '.join(names)})\r\n".encode())
        old, new = self.flags[number], frozenset(n.lower().encode() for n in names)
        self.flags[number] = old | new if sign == "+" else old - new if sign == "-" else new

    def take(self, responses):
        for r in responses:
            if (m := re.match(rb"\* (\d+) FETCH \(.*FLAGS \(([^)]*)\)", r)):
                self.flags[int(m.group(1))] = frozenset(m.group(2).lower().split())

    def finish(self):
        untagged, answer = self.session.finish(self.tag)
        assert answer.startswith(b"OK"), answer
        self.take(untagged)


class SilenceTest(ServerTest):
    accounts = ("alice",)
    workers = 2

    def believer(self):
        s = Session(self.server, "alice", "INBOX")
        self.addCleanup(s.close)
        return Believer(s, 6)

    def settled(self, believers):
        """The news of another worker may still be on its way; none may ever be missing in the end."""
        for b in believers:
            b.take(b.session.ok("NOOP"))
        truth = self.believer()
        truth.take(truth.session.ok("FETCH 1:* FLAGS"))
        truth.session.close()
        return all(b.flags == truth.flags for b in believers)

    def test_silent_stores_at_once_in_several_sessions_lose_nothing(self):
        first = Session(self.server, "alice")
        self.addCleanup(first.close)
        for _ in range(6):
            first.append("INBOX", PLAIN)
        believers = [self.believer() for _ in range(4)]
        rng = random.Random(5)
        for number in range(300):
            busy = rng.sample(believers, rng.randint(1, 4))
            for b in busy:
                b.send_store(rng.randint(1, 6), rng.choice(("+", "-", "")),
                             rng.sample(("\\Seen", "\\Flagged", "\\Draft", "k1", "K2"), rng.randint(0, 2)))
            for b in busy:
                b.finish()
            if number % 20 == 19:
                self.assertTrue(eventually(lambda: self.settled(believers), timeout=10), number)


if __name__ == "__main__":
    unittest.main()
