"""Every real message of the shared collection goes in over SMTP and over APPEND and comes back byte for byte."""

import re
import unittest

from harness import SHARED_DATA, ServerTest
from imap_response import check_envelope, check_structure, parse_fetch


def corpus():
    files = sorted(p for p in (SHARED_DATA / "mail").rglob("*") if p.is_file() and p.name != "SOURCES.md")
    return [(p.name, p.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")) for p in files]


def expected(wire):
    if re.search(rb"\r(?!\n)", wire):                                  # a CR on its own could smuggle a second message
        return b"550 5.7.1"
    header = wire.partition(b"\r\n\r\n")[0]
    return b"554 5.4.6" if len(re.findall(rb"(?mi)^received:", header)) > 50 else b"250"


@unittest.skipUnless((SHARED_DATA / "mail").is_dir(), "the shared collection is not here")
class CorpusTest(ServerTest):
    accounts = ("alice", "bob")

    def read_response(self, raw):
        """One untagged or tagged response with its literals."""
        data = raw.line()
        while data.endswith(b"}\r\n") and b"{" in data.rsplit(b"\r\n", 2)[-2]:
            size = int(data[data.rindex(b"{") + 1:-3])
            data += raw.file.read(size) + raw.line()
        return data

    def fetch_all(self, user, items):
        raw = self.server.raw("imap", timeout=300)
        raw.line()
        raw.send(f"a LOGIN {user}@example.test secret\r\n")
        raw.until(b"a ")
        raw.send("b EXAMINE INBOX\r\n")
        raw.until(b"b ")
        raw.send(f"c FETCH 1:* ({items})\r\n")
        out = []
        while not (data := self.read_response(raw)).startswith(b"c "):
            out.append(data)
        self.assertTrue(data.startswith(b"c OK"), data)
        raw.close()
        return out

    def check_forms(self, user, count):
        responses = self.fetch_all(user, "ENVELOPE BODYSTRUCTURE BODY")
        self.assertEqual(len(responses), count)
        for response in responses:
            _, items = parse_fetch(response)
            check_envelope(items[b"ENVELOPE"])
            check_structure(items[b"BODYSTRUCTURE"])
            check_structure(items[b"BODY"])

    def literals(self, user):
        for response in self.fetch_all(user, "UID BODY.PEEK[]"):
            start = response.index(b"{")
            end = response.index(b"}\r\n", start)
            size = int(response[start + 1:end])
            yield response[end + 3:end + 3 + size]

    def test_smtp(self):
        messages, taken = corpus(), []
        raw = self.server.raw("smtp", timeout=300)
        raw.reply()
        raw.send("EHLO client.test\r\n")
        raw.reply()
        for name, message in messages:
            raw.send("MAIL FROM:<s@elsewhere.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n")
            self.assertEqual([raw.reply()[:3] for _ in range(3)], [b"250", b"250", b"354"])
            wire = message if message.endswith(b"\r\n") else message + b"\r\n"
            stuffed = wire.replace(b"\r\n.", b"\r\n..")
            raw.send((b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n")
            answer = raw.reply()
            self.assertTrue(answer.startswith(expected(wire)), (name, answer))
            if answer.startswith(b"250"):
                taken.append((name, message))
        raw.close()
        messages = taken
        self.assertGreater(len(messages), 0)
        got = list(self.literals("alice"))
        self.assertEqual(len(got), len(messages))
        for (name, message), stored in zip(messages, got):
            wire = message if message.endswith(b"\r\n") else message + b"\r\n"
            wire = wire.replace(b"\0", b"\x80")                         # no plain literal holds NUL
            self.assertTrue(stored.endswith(wire), name)
            trace = stored[:len(stored) - len(wire)]
            self.assertTrue(trace.startswith(b"Return-Path: <s@elsewhere.test>\r\nReceived: from "), name)
        self.check_forms("alice", len(messages))

    def test_append(self):
        messages = [(name, m) for name, m in corpus() if m]
        raw = self.server.raw("imap", timeout=300)
        raw.line()
        raw.send("a LOGIN bob@example.test secret\r\n")
        raw.until(b"a ")
        for name, message in messages:
            literal = b"~{%d+}" if b"\0" in message else b"{%d+}"      # RFC 3516: only literal8 may hold NUL
            raw.send(b"x APPEND INBOX " + literal % len(message) + b"\r\n" + message + b"\r\n")
            answer = raw.until(b"x ")[-1]
            self.assertTrue(answer.startswith(b"x OK [APPENDUID"), (name, answer))
        raw.close()
        got = list(self.literals("bob"))
        self.assertEqual(len(got), len(messages))
        for (name, message), stored in zip(messages, got):
            if b"\0" in message:                                        # is in base64 now
                self.assertNotIn(b"\0", stored, name)
            else:
                self.assertEqual(stored, message, name)
        self.check_forms("bob", len(messages))


if __name__ == "__main__":
    unittest.main()
