"""Large headers and large attachments: what is not kept in columns, or not read whole, is the same to the client."""

import base64
import random
import re
import unittest

from harness import ServerTest
from imap_wire import Session

FILLER = b"".join(b"X-Filler-%d: %s\r\n" % (i, b"f" * 60) for i in range(40000 // 76))
HEADER = (b"Received: from a.test by b.test; Mon, 23 Nov 2026 10:00:00 +0000\r\n" + FILLER +
          b"From: Deep Sender <deep@example.test>\r\nTo: alice@example.test\r\nSubject: at the very bottom\r\n"
          b"Date: Mon, 23 Nov 2026 23:30:00 -0500\r\nMessage-ID: <deep@example.test>\r\nX-Last: yes\r\n\r\n")
# The fields that are cached are themselves more than is kept.
WIDE = (b"From: wide@example.test\r\nTo: " + b",\r\n ".join(b"reader%d@example.test" % i for i in range(1600)) +
        b"\r\nSubject: to everybody\r\nDate: Tue, 24 Nov 2026 01:00:00 +0000\r\n\r\n")
PLAIN = b"From: carol@example.test\r\nSubject: plain\r\n\r\nplain text\r\n"
ATTACHMENT = base64.encodebytes(random.Random(7).randbytes(300000)).replace(b"\n", b"\r\n")
LETTER = (b"From: a@example.test\r\nSubject: pieces\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n"
          b"--bb\r\n\r\ntext\r\n--bb\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
          ATTACHMENT + b"\r\n--bb--\r\n")


def literals(answer):
    """label -> bytes, of one FETCH answer."""
    found, at = {}, 0
    while (m := re.compile(rb"((?:BODY|BINARY|RFC822)[^ ]*(?: \([^)]*\)\](?:<\d+>)?)?) ~?(?:\{(\d+)\}\r\n|\"\")").search(answer, at)):
        size = int(m.group(2) or 0)
        found[m.group(1)] = answer[m.end():m.end() + size]
        at = m.end() + size
    return found


class LargeTest(ServerTest):
    accounts = ("alice", "bob", "carol")

    def session(self, user, *letters):
        s = Session(self.server, user)
        self.addCleanup(s.close)
        for letter in letters:
            s.append("INBOX", letter)
        s.ok("SELECT INBOX")
        return s

    def fetch(self, s, number, item):
        told = s.ok(f"FETCH {number} ({item})")
        self.assertEqual(len(told), 1, told)
        return list(literals(told[0]).values())

    def test_headers_too_large_to_be_kept_are_read_from_the_message(self):
        s = self.session("alice", PLAIN, HEADER + b"body\r\n", WIDE + b"body\r\n", WIDE)
        to = WIDE[WIDE.index(b"To:"):WIDE.index(b"Subject:")]
        cases = [
            (2, "BODY.PEEK[HEADER.FIELDS (Subject From)]", b"From: Deep Sender <deep@example.test>\r\nSubject: at the very bottom\r\n\r\n"),
            (2, "BODY.PEEK[HEADER.FIELDS (X-Last)]", b"X-Last: yes\r\n\r\n"),
            (2, "BODY.PEEK[HEADER]", HEADER), (2, "RFC822.HEADER", HEADER), (2, "BODY.PEEK[HEADER]<39000.5>", HEADER[39000:39005]),
            (3, "BODY.PEEK[HEADER.FIELDS (Subject)]", b"Subject: to everybody\r\n\r\n"),
            (3, "BODY.PEEK[HEADER.FIELDS (To)]", to + b"\r\n"), (3, "BODY.PEEK[HEADER.FIELDS (To)]<30000.10>", to[30000:30010]),
            (3, "BODY.PEEK[HEADER]", WIDE), (4, "BODY.PEEK[HEADER]", WIDE), (4, "BODY.PEEK[TEXT]", b""),
            (3, "BODY.PEEK[HEADER.FIELDS.NOT (To)]", WIDE.replace(to, b"")),
        ]
        for number, item, wanted in cases:
            self.assertEqual(self.fetch(s, number, item), [wanted], (number, item))
        self.assertEqual(self.fetch(s, 3, "BODY.PEEK[]<10.5> BODY.PEEK[HEADER.FIELDS (Subject)] BODY.PEEK[TEXT]"),
                         [WIDE[10:15], b"Subject: to everybody\r\n\r\n", b"body\r\n"])
        self.assertEqual(self.fetch(s, 3, "BODY.PEEK[]<34000.5> BODY.PEEK[HEADER.FIELDS (Subject)]"),
                         [WIDE[34000:34005], b"Subject: to everybody\r\n\r\n"])
        told = s.ok("FETCH 1:4 (UID BODY.PEEK[HEADER.FIELDS (Subject)])")
        self.assertEqual([re.search(rb"Subject: (.*)\r\n", t).group(1) for t in told],
                         [b"plain", b"at the very bottom", b"to everybody", b"to everybody"])
        told = s.ok("FETCH 1:4 BODY.PEEK[HEADER]")
        self.assertEqual([list(literals(t).values()) for t in told], [[PLAIN[:-12]], [HEADER], [WIDE], [WIDE]])

    def test_headers_too_large_to_be_kept_are_searched(self):
        s = self.session("bob", PLAIN, HEADER + b"body\r\n", WIDE + b"body\r\n")
        cases = {
            "HEADER X-Last yes": "2", "HEADER Message-ID deep@": "2", "FROM deep": "2", "SUBJECT bottom": "2", "SUBJECT everybody": "3", "FROM wide": "3",
            "TO reader1599@": "3", "NOT FROM wide": "1 2", "SENTSINCE 24-Nov-2026": "3", "SENTON 23-Nov-2026": "2", "SENTBEFORE 24-Nov-2026": "2",
            "OR FROM carol SUBJECT everybody": "1 3", "TO nobody": "", "NOT SENTSINCE 24-Nov-2026": "1 2",
        }
        for keys, wanted in cases.items():
            self.assertEqual(s.ok(f"SEARCH {keys}"), [b" ".join([b"* SEARCH"] + wanted.encode().split()) + b"\r\n"], keys)

    def test_a_message_fetched_in_pieces_is_the_message(self):
        s = self.session("carol", PLAIN, LETTER)
        for item, whole in {"BODY.PEEK[]": LETTER, "BODY.PEEK[2]": ATTACHMENT, "BODY.PEEK[TEXT]": LETTER[LETTER.index(b"--bb"):],
                            "BINARY.PEEK[2]": base64.b64decode(ATTACHMENT)}.items():
            got, size = b"", 65536
            while len(got) < len(whole):
                (piece,) = self.fetch(s, 2, f"{item}<{len(got)}.{size}>")
                self.assertTrue(piece, item)
                got += piece
            self.assertEqual(got, whole, item)
            for offset in (len(whole), len(whole) + 1, 2 ** 31 - 1, 2 ** 32, 2 ** 63 - 1):
                self.assertEqual(self.fetch(s, 2, f"{item}<{offset}.{2 ** 63 - 1}>"), [b""], (item, offset))
            self.assertEqual(self.fetch(s, 2, f"{item}<{len(whole) - 1}.9>"), [whole[-1:]], item)
            self.assertEqual(self.fetch(s, 2, f"{item}<0.{2 ** 63 - 1}>"), [whole], item)
        self.assertEqual(self.fetch(s, 2, "BODY.PEEK[]<5.3> BODY.PEEK[]<100000.4>"), [LETTER[5:8], LETTER[100000:100004]])
        self.assertEqual(s.ok("FETCH 2 (BODY.PEEK[7]<0.5>)"), [b"* 2 FETCH (BODY[7]<0> NIL)\r\n"])
        s.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
        s.ok("EXPUNGE")
        self.assertEqual(s.ok("UID FETCH 2 (BODY.PEEK[2]<0.5>)"), [])


if __name__ == "__main__":
    unittest.main()
