"""SORT (RFC 5256), SORT=DISPLAY (RFC 5957) and ESORT (RFC 5267) beside a model written from the RFCs."""

import random
import re
import unittest

import imap_sort_model as model
from harness import SHARED_DATA, ServerTest
from imap_mail import expand, is_plain, letter, load, messages_of
from imap_wire import Session

WORDS = ["apple", "Banana", "cherry", "Éclair", "eclair", "_under", "Zebra", "zebra", "ﬁsh", "ǆemal", "straße", "ÅNGSTRÖM", "ångström", "日本"]


def numbers(answer):
    return [int(n) for n in answer.split()[2:]]


class SortTest(ServerTest):
    accounts = ("alice", "few", "random", "corpus", "empty", "fuzzy")

    def few(self):
        s = Session(self.server, "few", "INBOX")
        if b"* 0 EXISTS\r\n" in s.selected:
            load(s, [
                letter(subject="Re: banana", sender="Carl <carl@z.test>", to="zoe@a.test", date="Mon, 02 Jan 2023 10:00:00 +0700"),
                letter(subject="apple", sender="anna@b.test", to="Yves <yves@a.test>", cc="mm@c.test", date="Mon, 02 Jan 2023 04:00:00 +0000"),
                letter(subject="[list] APPLE (fwd)", sender="Bert <bert@c.test>", to="xx@a.test", cc="aa@c.test", date="Sun, 01 Jan 2023 23:30:00 -0500", body="longer " * 50),
                letter(subject="cherry", sender='"ada" <zz@c.test>', to="ww@a.test", date="not a date"),
            ])
        return s

    def sort(self, s, text):
        untagged = s.ok(f"SORT {text}")
        self.assertEqual(len(untagged), 1)
        return numbers(untagged[0])

    def test_every_key(self):
        s = self.few()
        for keys, wanted in {"SUBJECT": [2, 3, 1, 4], "REVERSE SUBJECT": [4, 1, 2, 3], "DATE": [1, 2, 3, 4], "REVERSE DATE": [4, 3, 2, 1],
                             "FROM": [2, 3, 1, 4], "TO": [4, 3, 2, 1], "CC": [1, 4, 3, 2], "REVERSE CC": [2, 3, 1, 4], "SIZE": [4, 1, 2, 3],
                             "ARRIVAL": [1, 2, 3, 4], "REVERSE ARRIVAL": [4, 3, 2, 1], "DISPLAYFROM": [4, 2, 3, 1], "DISPLAYTO": [4, 3, 2, 1],
                             "SUBJECT REVERSE DATE": [3, 2, 1, 4], "subject reverse size": [3, 2, 1, 4], "SUBJECT REVERSE SUBJECT DATE": [2, 3, 1, 4]}.items():
            self.assertEqual(self.sort(s, f"({keys}) UTF-8 ALL"), wanted, keys)
        self.assertEqual(self.sort(s, "(SUBJECT) US-ASCII NOT SUBJECT apple"), [1, 4])
        self.assertEqual(s.ok("SORT (SUBJECT) UTF-8 BODY nowhere"), [b"* SORT\r\n"])
        self.assertEqual(s.ok("UID SORT (SUBJECT) UTF-8 UID 2:*"), [b"* SORT 2 3 4\r\n"])
        self.assertRegex(s.ok("SORT (DATE) UTF-8 MODSEQ 1")[-1], rb"^\* SORT 1 2 3 4 \(MODSEQ \d+\)\r\n$")

    def test_extended(self):
        s = self.few()
        for text, wanted in {"RETURN () (REVERSE DATE) UTF-8 ALL": rb"ALL 4,3,2,1", "RETURN (MIN) (SUBJECT) UTF-8 ALL": rb"MIN 2",
                             "RETURN (MAX) (SUBJECT) UTF-8 ALL": rb"MAX 4", "RETURN (COUNT) (SUBJECT) UTF-8 ALL": rb"COUNT 4",
                             "RETURN (MIN MAX COUNT ALL) (SUBJECT) UTF-8 ALL": rb"MIN 2 MAX 4 COUNT 4 ALL 2:3,1,4",
                             "RETURN (PARTIAL 1:2) (SUBJECT) UTF-8 ALL": rb"PARTIAL \(1:2 2:3\)", "RETURN (PARTIAL -1:-1) (SUBJECT) UTF-8 ALL": rb"PARTIAL \(-1:-1 4\)",
                             "RETURN (PARTIAL 9:5) (SUBJECT) UTF-8 ALL": rb"PARTIAL \(9:5 NIL\)", "RETURN (COUNT ALL) (DATE) UTF-8 SUBJECT nowhere": rb"COUNT 0"}.items():
            self.assertRegex(s.ok(f"SORT {text}")[-1], rb'^\* ESEARCH \(TAG "t\d+"\) ' + wanted + rb"\r\n$")
        self.assertRegex(s.ok("UID SORT RETURN (ALL) (DATE) UTF-8 MODSEQ 1")[-1], rb'^\* ESEARCH \(TAG "t\d+"\) UID ALL 1:4 MODSEQ \d+\r\n$')
        for options, saved in {"SAVE": b"1 2 3 4", "SAVE MIN": b"2", "SAVE MAX MIN": b"2 4", "SAVE PARTIAL 2:3": b"1 3", "SAVE COUNT MIN": b"1 2 3 4"}.items():
            told = s.ok(f"SORT RETURN ({options}) (SUBJECT) UTF-8 ALL")
            self.assertEqual(len(told), int(options != "SAVE"))
            self.assertEqual(s.ok("SEARCH $"), [b"* SEARCH " + saved + b"\r\n"], options)

    def test_relevancy(self):
        s = Session(self.server, "fuzzy", "INBOX")
        load(s, [letter(subject=x) for x in ("nothing", "bananna", "banana split", "more bananas", "banana", "NOTHING")])
        answer = s.ok("SORT RETURN (RELEVANCY ALL COUNT) (RELEVANCY) UTF-8 FUZZY SUBJECT banana")[-1]
        m = re.fullmatch(rb'\* ESEARCH \(TAG "t\d+"\) COUNT (\d+) ALL ([0-9,:]+) RELEVANCY \(([0-9 ]+)\)\r\n', answer)
        order, scores = expand(m.group(2).decode()), [int(n) for n in m.group(3).split()]
        self.assertEqual((sorted(order), len(scores), int(m.group(1))), ([2, 3, 4, 5], 4, 4))
        self.assertEqual(scores, sorted(scores, reverse=True))
        self.assertEqual(order[-1], 2, "the misspelled one is the last")
        self.assertTrue(all(1 <= n <= 100 for n in scores))
        self.assertEqual(self.sort(s, "(RELEVANCY) UTF-8 FUZZY SUBJECT banana"), order)
        best_last = self.sort(s, "(REVERSE RELEVANCY) UTF-8 FUZZY SUBJECT banana")
        self.assertEqual([dict(zip(order, scores))[n] for n in best_last], sorted(scores))
        by_number = [n for _, n in sorted(zip(order, scores))]
        self.assertRegex(s.ok("SEARCH RETURN (ALL RELEVANCY) FUZZY SUBJECT banana")[-1], rb"ALL 2:5 RELEVANCY \(%s\)\r\n$" % " ".join(map(str, by_number)).encode())
        self.assertRegex(s.ok("SEARCH RETURN (PARTIAL 2:3 RELEVANCY) FUZZY SUBJECT banana")[-1], rb"PARTIAL \(2:3 3:4\) RELEVANCY \(%d %d\)\r\n$" % tuple(by_number[1:3]))
        self.assertRegex(s.ok("ESEARCH RETURN (RELEVANCY) FUZZY SUBJECT banana")[-1], rb"UID RELEVANCY \(%s\)\r\n$" % " ".join(map(str, by_number)).encode())
        told = s.ok("SORT RETURN (UPDATE COUNT) (RELEVANCY) UTF-8 FUZZY SUBJECT banana")
        self.assertRegex(told[-1], rb"^\* NO \[NOUPDATE ")
        s.ok("SEARCH RETURN (UPDATE COUNT) FUZZY SUBJECT banana")
        self.assertRegex(s.append("INBOX", letter(subject="bananna"))[-1], rb"ADDTO \(0 7\)\r\n$")
        for text in ("SORT (RELEVANCY) UTF-8 SUBJECT banana", "SEARCH RETURN (RELEVANCY) SUBJECT banana", "ESEARCH RETURN (ALL RELEVANCY) ALL"):
            self.assertRegex(s.refused(text), rb"^BAD ", text)

    def test_refusals(self):
        s = self.few()
        for text in ("SORT", "SORT ()", "SORT () UTF-8 ALL", "SORT (DATE", "SORT (NONSENSE) UTF-8 ALL", "SORT (REVERSE) UTF-8 ALL", "SORT (REVERSE REVERSE DATE) UTF-8 ALL",
                     "SORT DATE UTF-8 ALL", "SORT (DATE) UTF-8", "SORT (DATE) ALL", "SORT (DATE)UTF-8 ALL", "SORT RETURN (X) (DATE) UTF-8 ALL", "SORT RETURN (DATE) UTF-8 ALL",
                     "SORT (DATE) UTF-8 NONSENSE", "SORT RETURN (ALL PARTIAL 1:2) (DATE) UTF-8 ALL", "SORT RETURN (PARTIAL 1:2 PARTIAL 3:4) (DATE) UTF-8 ALL",
                     "SORT RETURN (PARTIAL 0:2) (DATE) UTF-8 ALL", "SORT RETURN (PARTIAL 1:-2) (DATE) UTF-8 ALL", "SORT RETURN (PARTIAL 1:*) (DATE) UTF-8 ALL"):
            self.assertRegex(s.refused(text), rb"^BAD ", text)
        self.assertRegex(s.refused("SORT (DATE) KLINGON ALL"), rb"^NO \[BADCHARSET")
        self.assertRegex(s.refused("SORT (" + " ".join(["DATE"] * 21) + ") UTF-8 ALL"), rb"^NO \[LIMIT\]")
        self.assertEqual(len(self.sort(s, "(" + " ".join(["REVERSE DATE"] * 20) + ") UTF-8 ALL")), 4)
        s.ok("UNSELECT")
        self.assertRegex(s.refused("SORT (DATE) UTF-8 ALL"), rb"^BAD ")

    def test_an_empty_mailbox(self):
        s = Session(self.server, "empty", "INBOX")
        self.assertEqual(s.ok("SORT (DATE) UTF-8 ALL"), [b"* SORT\r\n"])
        self.assertRegex(s.ok("SORT RETURN (MIN COUNT PARTIAL 1:2) (DATE) UTF-8 ALL")[-1], rb'"\) COUNT 0 PARTIAL \(1:2 NIL\)\r\n$')

    def compare(self, s, rounds=30):
        rnd = random.Random(5256)
        messages = messages_of(s)
        names = {"subject": "SUBJECT", "sent": "DATE", "arrival": "ARRIVAL", "size": "SIZE", "from": "FROM", "to": "TO", "cc": "CC",
                 "displayfrom": "DISPLAYFROM", "displayto": "DISPLAYTO"}
        for round_ in range(rounds):
            chosen = rnd.sample(list(names), rnd.randint(1, 4)) if round_ >= len(names) else [list(names)[round_]]
            criteria = [(name, rnd.random() < 0.4) for name in chosen]
            text = " ".join(("REVERSE " if r else "") + names[n] for n, r in criteria)
            self.assertEqual(self.sort(s, f"({text}) UTF-8 ALL"), model.sort(messages, criteria), text)

    def test_random_mail_sorts_as_the_model_does(self):
        s, rnd = Session(self.server, "random", "INBOX"), random.Random(1)
        load(s, [letter(subject=rnd.choice(["", "Re: ", "[x] ", "fwd: [y] re: "]) + rnd.choice(WORDS) + rnd.choice(["", " (fwd)", " 2"]),
                        sender=rnd.choice([f"{rnd.choice(WORDS)} <{rnd.choice('abCD')}{i % 9}@x.test>", f"{rnd.choice('abCD')}@x.test", "undisclosed:;"]),
                        to=rnd.choice([f"{rnd.choice(WORDS)} <t{i % 5}@x.test>", f"T{i % 7}@y.test", "Group: a@b.test, c@d.test;", ""]),
                        cc=rnd.choice(["", "cc@x.test", "Cc <BB@x.test>, dd@e.test"]),
                        date=rnd.choice(["Mon, %02d Jan 2023 %02d:00:00 %s" % (rnd.randint(1, 5), rnd.randint(0, 23), rnd.choice(["+0000", "-0800", "+0530", "EST"])), ""]),
                        body="x" * rnd.randrange(40)) for i in range(300)])
        self.compare(s, 60)

    @unittest.skipUnless((SHARED_DATA / "mail").is_dir(), "the shared collection is not here")
    def test_the_collection_sorts_as_the_model_does(self):
        from test_corpus import corpus
        s = Session(self.server, "corpus", "INBOX", timeout=300)
        plain = [raw for _, raw in corpus() if is_plain(raw)]
        self.assertGreater(len(plain), 600)
        load(s, plain)
        self.compare(s)


if __name__ == "__main__":
    unittest.main()
