"""Contexts (RFC 5267): lists that the server keeps up to date, followed by a client that believes what it is told.
PARTIAL (RFC 9394), INPROGRESS (RFC 9585), CANCELUPDATE."""

import random
import re

from harness import ServerTest, eventually
from imap_mail import expand, letter, load
from imap_wire import Session

ONE = letter(subject="one", body="x")


class Follower:
    """A client's copy of one list, changed as RFC 5267, 4.3 says."""

    def __init__(self, tag, by_uid, members):
        self.tag, self.by_uid, self.members = tag, by_uid, list(members)

    def hear(self, response):
        if not self.by_uid and (m := re.match(rb"\* (\d+) EXPUNGE", response)):
            gone = int(m.group(1))
            if gone in self.members:
                raise AssertionError(f"{gone} was expunged while it was in the list")
            self.members = [n - (n > gone) for n in self.members]
        if not response.startswith(b'* ESEARCH (TAG "%s")' % self.tag):
            return
        for word, body in re.findall(rb"(ADDTO|REMOVEFROM) \(([^)]*)\)", response):
            items = body.decode().split()
            for position, numbers in zip(map(int, items[::2]), map(expand, items[1::2])):
                (self.add if word == b"ADDTO" else self.remove)(position, numbers)

    def add(self, position, numbers):
        if set(numbers) & set(self.members):
            raise AssertionError(f"{numbers} are in the list already")
        if position == 0:
            self.members = sorted(self.members + numbers)
        else:
            if position > len(self.members) + 1:
                raise AssertionError(f"no position {position} in {self.members}")
            self.members[position - 1:position - 1] = numbers

    def remove(self, position, numbers):
        if position == 0:
            if not set(numbers) <= set(self.members):
                raise AssertionError(f"{numbers} are not in the list")
            self.members = [n for n in self.members if n not in numbers]
        else:
            if self.members[position - 1:position - 1 + len(numbers)] != numbers:
                raise AssertionError(f"{numbers} are not at {position} of {self.members}")
            del self.members[position - 1:position - 1 + len(numbers)]


class ContextTest(ServerTest):
    accounts = ("alice", "own", "other", "sorted", "walk", "refuse", "partial", "idle", "few")

    def with_letters(self, user, count=5):
        s = Session(self.server, user, "INBOX")
        load(s, [letter(subject="subject %d" % (i % 3), date=f"{i % 28 + 1:02d} Jan 2023 00:00:00 +0000", body="text %d" % i) for i in range(count)])
        return s

    def test_own_changes_are_told(self):
        s = self.with_letters("own")
        tag = b"t%d" % (s.number + 1)
        self.assertRegex(s.ok("UID SEARCH RETURN (UPDATE COUNT) FLAGGED")[-1], rb"UID COUNT 0\r\n")
        told = s.ok("STORE 2:3 +FLAGS (\\Flagged)")
        self.assertEqual(told[-1], b'* ESEARCH (TAG "%s") UID ADDTO (0 2:3)\r\n' % tag)
        self.assertRegex(told[0], rb"^\* 2 FETCH")
        self.assertEqual(s.ok("STORE 2 -FLAGS.SILENT (\\Flagged)"), [b'* ESEARCH (TAG "%s") UID REMOVEFROM (0 2)\r\n' % tag])
        self.assertEqual(s.ok("STORE 4 +FLAGS.SILENT (\\Seen)"), [])
        s.ok("STORE 3 +FLAGS.SILENT (\\Deleted)")
        self.assertEqual(s.ok("EXPUNGE"), [b'* ESEARCH (TAG "%s") UID REMOVEFROM (0 3)\r\n' % tag, b"* 3 EXPUNGE\r\n"])
        told = s.append("INBOX", ONE, "\\Flagged")
        self.assertEqual(told[-1], b'* ESEARCH (TAG "%s") UID ADDTO (0 6)\r\n' % tag)
        self.assertIn(b"* 5 EXISTS\r\n", told[:-1])
        s.ok(f'CANCELUPDATE "{tag.decode()}"')
        self.assertEqual(s.ok("STORE 1 +FLAGS.SILENT (\\Flagged)"), [])

    def test_others_changes_are_told(self):
        s = self.with_letters("other")
        o = Session(self.server, "other", "INBOX")
        tag = b"t%d" % (s.number + 1)
        self.assertRegex(s.ok("SEARCH RETURN (UPDATE ALL) UNSEEN")[-1], rb"ALL 1:5\r\n")
        follower = Follower(tag, False, [1, 2, 3, 4, 5])

        def hear(told):
            for r in told:
                follower.hear(r)
            return follower.members

        def becomes(members):           # news of other workers take a moment
            eventually(lambda: hear(s.ok("NOOP")) == members)
            self.assertEqual(follower.members, members)

        o.ok("STORE 1,3 +FLAGS (\\Seen)")
        becomes([2, 4, 5])
        o.ok("STORE 1:2 +FLAGS (\\Deleted)")
        o.ok("EXPUNGE")
        self.assertEqual(hear(s.ok("FETCH 3 (UID)")), [2, 4, 5], "removals wait where sequence numbers must not move")
        becomes([2, 3])
        o.append("INBOX", ONE)
        becomes([2, 3, 4])
        s.idle()
        o.ok("STORE 4 +FLAGS (\\Seen)")
        self.assertEqual(hear(s.until_told(rb"\* ESEARCH")), [2, 3])
        s.done()

    def test_a_sorted_list_has_positions(self):
        s = self.with_letters("sorted", 0)
        load(s, [letter(subject=x) for x in "dbfaec"])
        tag = b"t%d" % (s.number + 1)
        self.assertRegex(s.ok("UID SORT RETURN (UPDATE ALL) (SUBJECT) UTF-8 UNDELETED")[-1], rb"UID ALL 4,2,6,1,5,3\r\n")
        name = b'* ESEARCH (TAG "%s") UID ' % tag
        self.assertEqual(s.ok("STORE 2,6,3 +FLAGS.SILENT (\\Deleted)"), [name + b"REMOVEFROM (2 2,6 4 3)\r\n"])
        self.assertEqual(s.ok("STORE 2,6,3 -FLAGS.SILENT (\\Deleted)"), [name + b"ADDTO (2 2,6 6 3)\r\n"])
        self.assertEqual(s.append("INBOX", letter(subject="bb"))[-1], name + b"ADDTO (3 7)\r\n")
        s.ok(f'CANCELUPDATE "{tag.decode()}"')

    def test_sequence_numbers_mean_what_they_meant(self):
        s = self.with_letters("few")
        s.ok("UID SEARCH RETURN (UPDATE ALL) 2:3 UNSEEN")
        s.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        s.ok("EXPUNGE")
        self.assertEqual(s.ok("STORE 3 +FLAGS.SILENT (\\Seen)"), [])
        self.assertRegex(s.ok("STORE 1 +FLAGS.SILENT (\\Seen)")[-1], rb"REMOVEFROM \(0 2\)\r\n$")

    def test_refusals(self):
        s = self.with_letters("refuse")
        for n in range(20):
            s.ok(b"SEARCH RETURN (UPDATE) ALL")
        told, answer = s.command("SEARCH RETURN (UPDATE COUNT) ALL")
        self.assertEqual(told, [b'* ESEARCH (TAG "t%d") COUNT 5\r\n' % s.number, b'* NO [NOUPDATE "t%d"] Too many contexts\r\n' % s.number])
        self.assertRegex(answer, b"^OK ")
        tags = [b"t%d" % (s.number - n) for n in range(1, 3)]
        s.send(tags[0] + b" SEARCH RETURN (UPDATE) ALL\r\n")
        self.assertEqual(s.finish(tags[0])[1][:4], b"BAD ")
        s.send(tags[0] + b" SEARCH RETURN (COUNT) ALL\r\n")
        self.assertEqual(s.finish(tags[0])[1][:3], b"OK ")
        s.ok(b'CANCELUPDATE "%s" "%s"' % tuple(tags))
        for text in ("CANCELUPDATE", 'CANCELUPDATE "nobody"', "CANCELUPDATE t1", b'CANCELUPDATE "%s"' % tags[0], 'CANCELUPDATE "t3" x'):
            self.assertRegex(s.refused(text), rb"^BAD ", text)
        s.ok("SEARCH RETURN (UPDATE CONTEXT COUNT) ALL")
        s.ok("SELECT INBOX")
        for n in range(20):
            self.assertEqual(len(s.ok(b"SEARCH RETURN (UPDATE) SEEN")), 1, "selecting a mailbox ends its contexts")
        s.ok("UNSELECT")
        self.assertRegex(s.refused('CANCELUPDATE "t3"'), rb"^BAD ")

    def test_followers_of_a_random_walk(self):
        rnd, s = random.Random(5267), self.with_letters("walk", 12)
        others = [Session(self.server, "walk", "INBOX") for _ in range(2)]
        programs = [("UID SEARCH", "", "UNSEEN"), ("SEARCH", "", "FLAGGED"), ("UID SEARCH", "", "OR KEYWORD x SUBJECT 1"), ("UID SORT", "(REVERSE SUBJECT DATE) UTF-8 ", "ALL"),
                    ("SORT", "(DATE) UTF-8 ", "UNFLAGGED"), ("UID SORT", "(SIZE REVERSE ARRIVAL) UTF-8 ", "UNSEEN UNDELETED"), ("SEARCH", "", "NOT DELETED")]
        followers = []
        for verb, order, keys in programs:
            told = s.ok(f"{verb} RETURN (UPDATE ALL) {order}{keys}")[-1]
            m = re.search(rb" ALL ([0-9:,]+)\r\n", told)
            followers.append(Follower(b"t%d" % s.number, verb.startswith("UID"), expand(m.group(1).decode()) if m else []))

        def hear(told):
            for r in told:
                for f in followers:
                    f.hear(r)

        for step in range(120):
            o = rnd.choice(others + [s])
            told = o.ok("NOOP")
            if o is s:
                hear(told)
            action = rnd.random()
            if action < 0.6:
                flags = rnd.choice(["\\Seen", "\\Flagged", "\\Deleted", "x"])
                told = o.ok(f"UID STORE {rnd.randint(1, 40)}:{rnd.randint(1, 40)} {rnd.choice('+-')}FLAGS ({flags})")
            elif action < 0.9:
                told = o.append("INBOX", letter(subject="subject %d" % rnd.randrange(4), date=f"{rnd.randint(1, 28):02d} Jan 2023 00:00:00 +0000", body="y" * rnd.randrange(30)),
                                rnd.choice(["", "\\Seen", "\\Flagged", "x"]))
            else:
                told = o.ok("EXPUNGE")
            if o is s:
                hear(told)
            if step % 6 == 5:
                hear(s.ok("NOOP"))
                for (verb, order, keys), f in zip(programs, followers):
                    while len(answer := s.ok(f"{verb} {order}{keys}")) > 1:     # news came in between
                        hear(answer)
                    self.assertEqual(f.members, [int(n) for n in answer[0].split()[2:]], (step, verb, order, keys))

    def test_partial(self):
        s = self.with_letters("partial", 10)
        s.ok("STORE 2,4,6,8,10 +FLAGS.SILENT (\\Flagged)")
        for text, wanted in {"1:2": b"(1:2 2,4)", "2:1": b"(2:1 2,4)", "4:9": b"(4:9 8,10)", "6:9": b"(6:9 NIL)", "-1:-2": b"(-1:-2 8,10)", "-2:-9": b"(-2:-9 2,4,6,8)",
                             "-6:-7": b"(-6:-7 NIL)", "1:4294967295": b"(1:4294967295 2,4,6,8,10)"}.items():
            self.assertEqual(s.ok(f"SEARCH RETURN (PARTIAL {text}) FLAGGED"), [b'* ESEARCH (TAG "t%d") PARTIAL %s\r\n' % (s.number, wanted)])
        for options, saved in {"SAVE PARTIAL 1:2": b"2 4", "SAVE PARTIAL 2:2 MIN": b"2 4", "SAVE PARTIAL -2:-3 MAX": b"6 8 10", "SAVE PARTIAL 2:2 MIN MAX": b"2 4 10",
                               "SAVE PARTIAL 2:2 COUNT": b"2 4 6 8 10", "SAVE PARTIAL 7:9": b""}.items():
            s.ok(f"SEARCH RETURN ({options}) FLAGGED")
            self.assertEqual(s.ok("SEARCH $")[-1].split()[2:], saved.split(), options)
        for text in ("RETURN (PARTIAL 1:2 ALL) ALL", "RETURN (PARTIAL 1:2 PARTIAL 1:2) ALL", "RETURN (PARTIAL 1) ALL", "RETURN (PARTIAL 0:1) ALL", "RETURN (PARTIAL 1:-1) ALL",
                     "RETURN (PARTIAL -1:1) ALL", "RETURN (PARTIAL *:1) ALL", "RETURN (PARTIAL) ALL", "RETURN (PARTIAL 1:4294967296) ALL"):
            self.assertRegex(s.refused("SEARCH " + text), rb"^BAD ", text)
        uids = lambda text: [int(re.search(rb"UID (\d+)", r).group(1)) for r in s.ok(text)]
        self.assertEqual(uids("UID FETCH 1:* (UID) (PARTIAL 2:3)"), [2, 3])
        self.assertEqual(uids("UID FETCH 3:7,9 (UID) (PARTIAL -1:-3)"), [6, 7, 9])
        self.assertEqual(uids("UID FETCH 3:7,9 (UID) (PARTIAL -7:-5)"), [3, 4])
        self.assertEqual(uids("UID FETCH 3:5 (UID) (PARTIAL 4:9)"), [])
        modseq = re.search(rb"MODSEQ \((\d+)\)", s.ok("FETCH 10 MODSEQ")[-1]).group(1).decode()
        s.ok("STORE 9 +FLAGS.SILENT (\\Seen)")
        self.assertEqual(uids(f"UID FETCH 1:* (UID) (PARTIAL -1:-3 CHANGEDSINCE {modseq})"), [9])
        self.assertEqual(uids(f"UID FETCH 1:* (UID) (CHANGEDSINCE {modseq} PARTIAL 1:3)"), [])
        self.assertRegex(s.refused("FETCH 1:* (UID) (PARTIAL 1:2)"), rb"^BAD ")
        self.assertRegex(s.refused("UID FETCH 1:* (UID) (PARTIAL x)"), rb"^BAD ")


class ProgressTest(ServerTest):
    accounts = ("slow",)
    settings = {"imap_progress_interval": "1ms", "text_index_delay": "1h", "text_index_messages": "10000"}

    def test_a_long_search_tells_its_progress(self):
        s = Session(self.server, "slow", "INBOX")
        load(s, [letter(subject="long", body="word after word " * 3000) for _ in range(400)])   # several reads of the database
        told = s.ok("SEARCH BODY nowhere")
        self.assertEqual(told[-1], b"* SEARCH\r\n")
        self.assertGreater(len(told), 1)
        for response in told[:-1]:
            m = re.match(rb'\* OK \[INPROGRESS \("t%d" (\d+) (\d+)\)\] ' % s.number, response)
            self.assertIsNotNone(m, response)
            self.assertLess(int(m.group(1)), int(m.group(2)))
