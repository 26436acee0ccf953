"""THREAD (RFC 5256): REFERENCES and ORDEREDSUBJECT beside a model written from the RFC."""

import random
import re
import unittest

import imap_sort_model as model
from harness import SHARED_DATA, ServerTest
from imap_mail import is_plain, letter, load, messages_of
from imap_wire import Session


def day(n):
    return f"{n % 28 + 1:02d} Jan 2023 {n // 28 % 24:02d}:00:00 +0000"


class ThreadTest(ServerTest):
    accounts = ("alice", "bob", "random", "hostile", "corpus", "deep", "empty")

    def thread(self, s, text):
        untagged = s.ok(text)
        self.assertEqual(len(untagged), 1)
        self.assertRegex(untagged[0], rb"^\* THREAD( [() 0-9]+)?\r\n$")
        return untagged[0][len("* THREAD "):-2].decode()

    def make(self, user, letters):
        s = Session(self.server, user, "INBOX", timeout=300)
        s.ok("STORE 1:* +FLAGS.SILENT (\\Deleted)") if b"* 0 EXISTS\r\n" not in s.selected else None
        s.ok("EXPUNGE")
        load(s, letters)
        return s

    def references(self, *letters):
        return self.thread(self.make("alice", letters), "THREAD REFERENCES UTF-8 ALL")

    def test_shapes(self):
        a, b, c, d, e = ("<%s@x.test>" % x for x in "abcde")
        one = lambda i, subject="s%d", **kw: letter(subject=subject % i if "%" in subject else subject, date=day(i), **kw)
        for name, wanted, letters in [
            ("a chain", "(1 2 3)", [one(1, msgid=a), one(2, msgid=b, refs=[a]), one(3, msgid=c, refs=[a, b])]),
            ("a fork", "(1 (2)(3))", [one(1, msgid=a), one(2, msgid=b, refs=[a]), one(3, msgid=c, refs=[a])]),
            ("a fork further down", "(1 2 (3)(4 5))", [one(1, msgid=a), one(2, msgid=b, refs=[a]), one(3, msgid=c, refs=[a, b]), one(4, msgid=d, refs=[a, b]), one(5, refs=[a, b, d])]),
            ("siblings of a parent that is not there", "((1)(2))", [one(1, msgid=b, refs=[a]), one(2, msgid=c, refs=[a])]),
            ("one child of a parent that is not there", "(1)", [one(1, msgid=b, refs=[a])]),
            ("a gap inside", "(1 2)", [one(1, msgid=a), one(2, msgid=c, refs=[a, b])]),
            ("gaps above siblings", "((1)(2)(3))", [one(1, refs=[a, b]), one(2, refs=[a, b]), one(3, refs=[a, c])]),
            ("In-Reply-To when there are no References", "(1 2)", [one(1, msgid=a), one(2, reply_to=f"{a} {b}")]),
            ("quoting does not matter", "(1 2)", [one(1, msgid='<"a"@x.test>'), one(2, refs=[a])]),
            ("nor do comments and blanks", "(1 2)", [one(1, msgid="<a (who) @ x . test>"), one(2, refs=[a])]),
            ("case does", "(1)(2)", [one(1, msgid="<A@x.test>"), one(2, refs=[a])]),
            ("the answer came first", "(2 1)", [one(1, msgid=b, refs=[a]), one(2, msgid=a)]),
            ("of two with one id the first has it", "(1 3)(2)", [one(1, msgid=a), one(2, msgid=a), one(3, refs=[a])]),
            ("its own parent", "(1)", [one(1, msgid=a, refs=[a])]),
            ("a loop of two", "(2 1)", [one(1, msgid=a, refs=[b]), one(2, msgid=b, refs=[a])]),
            ("a loop within one field", "(1 2)", [one(1, msgid=a), one(2, msgid=b, refs=[a, b, a])]),
            ("same subject, a reply", "(1 2)", [one(1, subject="hello"), one(2, subject="Re: hello")]),
            ("same subject, the reply came first", "(2 1)", [one(1, subject="Re: hello"), one(2, subject="hello")]),
            ("same subject, no replies", "((1)(2))", [one(1, subject="hello"), one(2, subject="HELLO")]),
            ("same subject, two replies", "((1)(2))", [one(1, subject="re: hello"), one(2, subject="fwd: hello")]),
            ("three of one subject", "((1)(2)(3))", [one(1, subject="hello"), one(2, subject="hello"), one(3, subject="hello")]),
            ("a new link replaces one that was guessed", "(1 2 3)(4)", [one(1, msgid=a, subject="w"), one(2, msgid=b, refs=[a], subject="x"), one(3, msgid=c, refs=[d, b], subject="y"), one(4, msgid=d, subject="z")]),
            ("no subject gathers nothing", "(1)(2)", [one(1, subject=""), one(2, subject="")]),
            ("Re: alone is no subject", "(1)(2)", [one(1, subject="Re:"), one(2, subject="re: ")]),
            ("roots by date", "(2)(1)", [one(5), one(2)]),
            ("the thread's first member says when it was", "((2)(3))(1)", [one(4), one(2, refs=[a]), one(9, refs=[a])]),
        ]:
            self.assertEqual(self.references(*letters), wanted, name)

    def test_forms(self):
        s = self.make("bob", [letter(subject="one", msgid="<1@x>", date=day(1)), letter(subject="Re: one", refs=["<1@x>"], date=day(2)), letter(subject="two", date=day(3))])
        s.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        s.ok("EXPUNGE")
        self.assertEqual(self.thread(s, "THREAD REFERENCES UTF-8 ALL"), "(1)(2)")
        self.assertEqual(self.thread(s, "UID THREAD REFERENCES UTF-8 ALL"), "(2)(3)")
        self.assertEqual(self.thread(s, "uid thread orderedsubject us-ascii subject two"), "(3)")
        self.assertEqual(s.ok("THREAD REFERENCES UTF-8 MODSEQ 1")[-1], b"* THREAD (1)(2)\r\n")
        self.assertEqual(s.ok("THREAD REFERENCES UTF-8 BODY nowhere"), [b"* THREAD\r\n"])
        for text in ("THREAD", "THREAD REFERENCES", "THREAD REFERENCES UTF-8", "THREAD NONSENSE UTF-8 ALL", "THREAD REFERENCES UTF-8 NONSENSE", "THREAD REFERENCES ALL",
                     "THREAD (REFERENCES) UTF-8 ALL", "THREAD RETURN () REFERENCES UTF-8 ALL"):
            self.assertRegex(s.refused(text), rb"^BAD ", text)
        self.assertRegex(s.refused("THREAD REFERENCES KLINGON ALL"), rb"^NO \[BADCHARSET")
        self.assertEqual(Session(self.server, "empty", "INBOX").ok("THREAD REFERENCES UTF-8 ALL"), [b"* THREAD\r\n"])

    def test_ordered_subject(self):
        s = self.make("alice", [letter(subject=x, date=day(n)) for n, x in ((5, "a"), (2, "b"), (1, "Re: a"), (9, "B (fwd)"), (3, "fwd: a"), (4, ""), (6, "c"))])
        self.assertEqual(self.thread(s, "THREAD ORDEREDSUBJECT UTF-8 ALL"), "(3 (5)(1))(2 4)(6)(7)")

    def compare(self, s):
        messages = messages_of(s)
        self.assertEqual(self.thread(s, "THREAD REFERENCES UTF-8 ALL"), model.show_all(model.thread_references(messages)))
        self.assertEqual(self.thread(s, "THREAD ORDEREDSUBJECT UTF-8 ALL"), model.show_all(model.thread_subject(messages)))

    def random_letters(self, rnd, count, ids, subjects):
        mine = ["<%d@x.test>" % rnd.randrange(ids) if rnd.random() < 0.9 else "" for _ in range(count)]
        return [letter(subject=rnd.choice(["", "Re: ", "fwd: "]) + rnd.choice(["", "%d" % rnd.randrange(subjects)]), date=day(rnd.randrange(100)), msgid=mine[i],
                       refs=["<%d@x.test>" % rnd.randrange(ids) for _ in range(rnd.choice([0, 0, 1, 1, 2, 3, 9]))],
                       reply_to=rnd.choice(["", "<%d@x.test>" % rnd.randrange(ids)])) for i in range(count)]

    def test_random_mail_threads_as_the_model_does(self):
        rnd = random.Random(5256)
        for count, ids, subjects in ((30, 10, 4), (60, 40, 9), (100, 200, 30), (300, 100, 1000), (400, 800, 20)):
            self.compare(self.make("random", self.random_letters(rnd, count, ids, subjects)))

    def test_endless_chains_and_loops_end(self):
        count, rnd = 2000, random.Random(7)
        ids = [f"<{i}@x.test>" for i in range(count)]
        chain = [letter(subject="x%d" % i, date=day(i), msgid=ids[i], refs=[ids[(i + 1) % count]]) for i in range(count)]
        rnd.shuffle(chain)
        s = self.make("deep", chain)
        text = self.thread(s, "THREAD REFERENCES UTF-8 ALL")
        self.assertEqual(sorted(int(n) for n in re.findall(r"\d+", text)), list(range(1, count + 1)))
        self.assertEqual((text.count("("), text.count(")")), (1, 1))

    @unittest.skipUnless((SHARED_DATA / "mail").is_dir(), "the shared collection is not here")
    def test_the_collection_threads_as_the_model_does(self):
        from test_corpus import corpus
        self.compare(self.make("corpus", [raw for _, raw in corpus() if is_plain(raw)]))


if __name__ == "__main__":
    unittest.main()
