"""Searches answered with the text index find exactly what searches without it find, whatever happens to the
messages and to the workers."""

import email
import email.policy
import os
import random
import re
import signal
import threading
import unittest
import urllib.request

from harness import SHARED_DATA, ServerTest, eventually
from imap_wire import Session, one_per_worker

SOON = {"text_index_delay": "0s", "text_index_messages": "1"}
NEVER = {"text_index_delay": "1h", "text_index_messages": "10000"}


def indexed(server):
    """How many messages all workers have put into the index."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port('http')}/metrics", timeout=30) as r:
        return int(re.search(rb"merpati_text_messages_indexed_total (\d+)", r.read()).group(1))


def search(s, keys):
    keys = keys if isinstance(keys, bytes) else keys.encode()
    return [int(n) for line in s.ok(b"UID SEARCH " + keys) if line.startswith(b"* SEARCH") for n in line.split()[2:]]


def quoted(text):
    return b'"' + text.encode().replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def letter(subject, body, more=""):
    return f"Subject: {subject}\r\nFrom: Ani <ani@example.org>\r\n{more}\r\n{body}\r\n".encode()


class IndexedTest(ServerTest):
    def settled(self, count):
        self.assertTrue(eventually(lambda: indexed(self.server) >= count, timeout=120), indexed(self.server))


class SearchIndexTest(IndexedTest):
    settings = SOON
    accounts = ("ani", "budi", "citra", "dewi", "eka", "fajar", "gita")

    def fill(self, user, count, start=0):
        """More than a search reads without asking the index."""
        before = indexed(self.server)
        s = Session(self.server, user, "INBOX")
        for i in range(start, start + count):
            s.append("INBOX", letter(f"topic{i} x", f"all of them\r\nmarker{i}end", f"X-Trace: trace{i}y\r\n"))
        self.settled(before + count)
        return s

    def test_each_key_looks_in_its_own_place(self):
        s = self.fill("ani", 60)
        for keys, wanted in {
                "TEXT marker17end": [18], "BODY marker17end": [18], "BODY MARKER17END": [18], "SUBJECT marker17end": [],
                "SUBJECT \"topic17 \"": [18], "BODY topic17": [], "TEXT \"subject: topic17 \"": [18], "HEADER X-Trace trace17y": [18],
                "HEADER Subject trace17y": [], "HEADER X-Trace \"\"": list(range(1, 61)), "HEADER X-None \"\"": [], "TEXT trace17y": [18],
                "OR TEXT marker3end TEXT marker5end": [4, 6], "TEXT marker3end TEXT marker5end": [], "NOT TEXT them": [],
                "NOT BODY marker3end UID 3:5": [3, 5], "TEXT \"of them\"": list(range(1, 61)), "BODY \"nowhere at all\"": [],
                "BODY \"x\"": [], "FROM ani@": list(range(1, 61)), "FROM trace17y": []}.items():
            self.assertEqual(search(s, keys), wanted, keys)
        self.assertEqual(search(s, b"BODY {17+}\r\nthem\r\nmarker17end"), [18])
        self.assertEqual(search(s, b"BODY {16+}\r\nthem\nmarker17end"), [18])
        self.assertEqual(search(s, b"TEXT {25+}\r\ntopic17 x\r\nfrom: ani <ani"), [])

    def test_what_was_just_appended_is_found(self):
        s = self.fill("budi", 40)
        for i in range(40, 60):
            s.append("INBOX", letter("late", f"marker{i}end"))
            self.assertEqual(search(s, f"BODY marker{i}end"), [i + 1])
            self.assertEqual(search(s, f"TEXT marker{i - 20}end"), [i - 19])

    def test_copies_moves_and_removals(self):
        s = self.fill("citra", 50)
        count = indexed(self.server)
        s.ok("COPY 1:40 Archive")
        s.ok("MOVE 41:45 Sent")
        s.ok("STORE 1:5 +FLAGS.SILENT (\\Deleted)")
        s.ok("EXPUNGE")
        self.assertEqual(search(s, "BODY marker2end"), [])
        self.assertEqual(search(s, "BODY marker42end"), [])
        self.assertEqual(search(s, "BODY marker30end"), [31])
        s.ok("SELECT Archive")
        for _ in range(2):                      # first read, then from the index
            self.assertEqual(search(s, "BODY marker2end"), [3])
            self.assertEqual(search(s, "TEXT \"of them\""), list(range(1, 41)))
            self.settled(count + 40)
        s.ok("SELECT Sent")
        self.assertEqual(search(s, "BODY marker42end"), [3])

    def test_fuzzy_finds_what_is_near(self):
        s = self.fill("dewi", 40)
        count = indexed(self.server)
        s.append("INBOX", letter("Rapat anggaran", "Mohon kirimkan laporan tentang pembayaran ke caf\u00e9", "Content-Type: text/plain; charset=utf-8\r\n"))
        s.append("INBOX", letter("Invoices for meetings", "Please receive the planned budget"))
        for _ in range(2):
            for keys, wanted in {
                    "FUZZY SUBJECT invoce": [42], "SUBJECT invoce": [], "FUZZY TEXT \"meeting invoice\"": [42], "FUZZY BODY recieve": [42],
                    "FUZZY BODY planning": [42], "FUZZY BODY mengirim": [41], "FUZZY BODY dibayar": [41], "FUZZY BODY cafe": [41],
                    "FUZZY (SUBJECT anggaran NOT BODY budget)": [41], "FUZZY SUBJECT zzzzzz": [], "NOT FUZZY SUBJECT invoce UID 41:42": [41],
                    "FUZZY SEEN": [], "FUZZY BODY \"budget nothing\"": []}.items():
                self.assertEqual(search(s, keys), wanted, keys)
            self.settled(count + 2)
        self.assertIn(b"SEARCH=FUZZY", b"".join(s.ok("CAPABILITY")))
        for bad in ("SEARCH FUZZY", "SEARCH FUZZY FUZZY", "SEARCH FUZZY NOPE"):
            self.assertRegex(s.refused(bad), rb"^BAD ")

    def test_the_ends_alone_are_those_of_all(self):
        s = self.fill("fajar", 60)
        rng = random.Random(3)
        s.ok("STORE %s +FLAGS.SILENT (\\Flagged)" % ",".join(str(n) for n in sorted(rng.sample(range(1, 61), 20))))
        for keys in ("ALL", "FLAGGED", "FLAGGED BODY marker", "NOT FLAGGED TEXT them", "BODY marker7end", "BODY nowhere", "UID 10:20,40:50 FLAGGED", "SUBJECT topic1"):
            found = search(s, keys)
            for ends, wanted in {"MIN MAX": set(found[:1] + found[-1:]), "MIN MAX PARTIAL 2:3": set(found[:1] + found[1:3] + found[-1:]),
                                 "MAX PARTIAL 1:4": set(found[:4] + found[-1:]), "MIN PARTIAL -1:-30": set(found[:1] + found[-30:]),
                                 "MIN MAX PARTIAL -4294967295:-1": set(found), "MAX PARTIAL 4294967295:4294967294": set(found[-1:])}.items():
                answer = s.ok(f"UID SEARCH RETURN (SAVE {ends}) {keys}")[-1]
                for name, number in (("MIN", found[:1]), ("MAX", found[-1:])):
                    told = re.findall(rb" %s (\d+)" % name.encode(), answer)
                    self.assertEqual([int(n) for n in told], number if name in ends else [], (ends, keys))
                self.assertEqual(set(search(s, "$")), wanted, (ends, keys))

    def test_charsets_whose_bytes_are_ascii(self):
        s = Session(self.server, "gita", "INBOX")
        s.append("INBOX", "Subject: \u65e5\u672c\r\n\r\n".encode())
        s.append("INBOX", b"Subject: +ZeVnLA- s1\r\n\r\n")
        jis = "\u65e5\u672c".encode("iso-2022-jp")
        self.assertEqual(search(s, b"CHARSET ISO-2022-JP SUBJECT {%d+}\r\n%s" % (len(jis), jis)), [1])
        self.assertEqual(search(s, b"CHARSET UTF-7 SUBJECT +ZeVnLA-"), [1])
        self.assertEqual(search(s, b"CHARSET US-ASCII SUBJECT +ZeVnLA-"), [2])

    def test_many_texts_in_one_search(self):
        s = self.fill("eka", 40)
        keys = " ".join(f"OR TEXT marker{i}end" for i in range(200)) + " TEXT marker5end"
        self.assertEqual(search(s, " ".join(["OR TEXT nothing1"] * 40) + " TEXT marker5end"), [6])
        self.assertRegex(s.refused(f"SEARCH {keys}"), rb"^NO \[LIMIT\]")


@unittest.skipUnless((SHARED_DATA / "mail").is_dir(), "the shared collection is not here")
class CorpusSearchTest(IndexedTest):
    """The same messages, once read for every search, once indexed."""
    settings = NEVER
    accounts = ("ani",)

    def messages(self):
        files = sorted(p for p in (SHARED_DATA / "mail").rglob("*") if p.is_file() and p.name != "SOURCES.md")
        return [raw for raw in (p.read_bytes() for p in files) if 0 < len(raw) < 300000 and b"\0" not in raw]

    def simple_body(self, raw):
        """The text where there is no doubt about it: one ASCII part, nothing encoded."""
        message = email.message_from_bytes(raw, policy=email.policy.compat32)
        if (message.defects or message.is_multipart() or not raw.isascii() or message.get_content_type() != "text/plain"
                or str(message.get("Content-Transfer-Encoding", "7bit")).strip().lower() != "7bit" or "\x1b" in raw.decode()
                or str(message.get_content_charset() or "us-ascii").lower() not in ("us-ascii", "utf-8", "iso-8859-1")):
            return None
        return message.get_payload().replace("\r\n", "\n").lower()

    def needles(self, bodies, rng):
        words = sorted({w for b in bodies.values() for w in re.findall(r"[a-z0-9]{3,20}", b)})
        picked = rng.sample(words, min(60, len(words)))
        for body in rng.sample(sorted(bodies.values()), min(60, len(bodies))):
            line = rng.choice([x for x in body.split("\n") if len(x) > 5] or ["none"])
            at = rng.randrange(max(1, len(line) - 12))
            picked.append(line[at:at + rng.randrange(3, 30)])
        return [p for p in picked if p.isprintable()] + ["zzqqyy", "the", "ing "]

    def test_the_index_changes_no_answer(self):
        rng = random.Random(7)
        s = Session(self.server, "ani", "INBOX", timeout=300)
        raws = self.messages()
        for raw in raws:
            s.append("INBOX", raw)
        bodies = {uid: b for uid, raw in enumerate(raws, 1) if (b := self.simple_body(raw)) is not None}
        self.assertGreater(len(bodies), 30)
        asked = [(key, needle) for needle in self.needles(bodies, rng) for key in ("BODY", "TEXT", "SUBJECT", "HEADER Received")]
        asked += [(key, needle) for needle in ("f\u00fcr", "\u65e5\u672c", "\u043f\u0440\u0438", ".pdf", "boundary=", "caf\u00e9") for key in ("TEXT", "BODY")]
        answers = {a: search(s, f"CHARSET UTF-8 {a[0]} ".encode() + quoted(a[1])) for a in asked}
        for (key, needle), found in answers.items():
            if key == "BODY" and needle.isascii():
                self.assertEqual([u for u in found if u in bodies], [u for u, b in bodies.items() if needle in b], needle)
        self.server.stop()
        self.server.write_config(SOON)
        self.server.start()
        self.settled(len(raws))
        s = Session(self.server, "ani", "INBOX", timeout=300)
        for (key, needle), found in answers.items():
            self.assertEqual(search(s, f"CHARSET UTF-8 {key} ".encode() + quoted(needle)), found, (key, needle))


class TwoWorkersTest(IndexedTest):
    settings = SOON
    accounts = ("ani",)

    def test_two_workers_index_each_message_once(self):
        both = list(one_per_worker(self.server, lambda: Session(self.server, "ani", "INBOX")).values())

        def fill(s, first):
            for i in range(first, first + 80):
                s.append("INBOX", letter(f"topic{i}", f"marker{i}end"))

        threads = [threading.Thread(target=fill, args=(s, n * 100)) for n, s in enumerate(both)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.settled(160)
        for i in (3, 77, 103, 177):
            self.assertEqual(len(search(both[0], f"BODY marker{i}end")), 1)
        self.assertEqual(indexed(self.server), 160)


class KilledTest(IndexedTest):
    settings = {**SOON, "text_index_messages": "5"}
    accounts = ("ani",)
    expects_losses = True

    def test_a_killed_worker_loses_nothing(self):
        s = Session(self.server, "ani", "INBOX")
        count = 0
        for round in range(4):
            for _ in range(30):
                s.append("INBOX", letter(f"topic{count}", f"marker{count}end " + "filling words " * 200))
                count += 1
            for name in ("worker-0", "worker-1"):
                for pid in self.server.named(name):
                    os.kill(pid, signal.SIGKILL)
            eventually(lambda: len(self.server.named("worker-0") + self.server.named("worker-1")) == 2)
            s = self.again()
            self.assertEqual(search(s, f"BODY marker{count - 1}end"), [count])
        self.settled(count - 5)
        for i in range(0, count, 7):
            self.assertEqual(search(s, f"BODY marker{i}end"), [i + 1])

    def again(self):
        def connect():
            try:
                return Session(self.server, "ani", "INBOX")
            except (OSError, EOFError, AssertionError):
                return None
        return eventually(connect)


if __name__ == "__main__":
    unittest.main()
