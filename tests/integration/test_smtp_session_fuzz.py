"""Half a minute of nearly right SMTP and LMTP sessions against the server under sanitizers; a seed of its own each time.

A session is batches of commands made by a grammar, some damaged; then the client stops writing, and whatever the
server took its words for, it answers in whole lines, each with a code and a text, and ends."""

import base64
import collections
import pathlib
import random
import re
import socket
import time
import unittest

from harness import PASSWORD, ServerTest

PATIENCE_SECONDS = 120

GRAMMAR = {
    "command": ["{hello} {host}", "{hello}", "MAIL FROM:{path}", "MAIL FROM:{path} {mailparam}", "MAIL FROM:{path} {mailparam} {mailparam}",
                "RCPT TO:{path}", "RCPT TO:{rcpt}", "RCPT TO:{rcpt} {rcptparam}", "RCPT TO:{rcpt} {rcptparam} {rcptparam}", "DATA", "DATA x",
                "RSET", "NOOP", "NOOP {word}", "VRFY {word}", "EXPN {word}", "ETRN {word}", "HELP", "STARTTLS", "STARTTLS x",
                "AUTH PLAIN {login}", "AUTH PLAIN", "AUTH LOGIN", "AUTH SCRAM-SHA-256 {base64}", "AUTH {word} {base64}", "*", "{base64}",
                "XCLIENT {attribute}", "XCLIENT {attribute} {attribute}", "BDAT {number}", "BDAT {number} LAST", "FROB {word}", "GET / HTTP/1.1",
                "{word}: {word}", "", " ", "."],
    "hello": ["EHLO", "EHLO", "HELO", "LHLO", "LHLO", "ehlo"],
    "host": ["client.test", "[192.0.2.1]", "[IPv6:2001:db8::1]", "localhost", "-", "a..b", "{word}"],
    "path": ["<a@b.test>", "<>", "<alice@example.test>", "<\"q \\\" q\"@b.test>", "<@x.test,@y.test:a@b.test>", "<a@[192.0.2.1]>", "<postmaster>",
             "<ä@ö.test>", "<a@b@c>", "a@b.test", "< a@b.test>", "<a@>", "<@>", "<\">", "<{word}@{word}>"],
    "rcpt": ["<alice@example.test>", "<alice@example.test>", "<bob+x@example.test>", "<nobody@example.test>", "<x@elsewhere.test>", "<postmaster>",
             "<ALICE@EXAMPLE.TEST>", "{path}"],
    "mailparam": ["SIZE={number}", "BODY=8BITMIME", "BODY=BINARYMIME", "BODY={word}", "SMTPUTF8", "RET=FULL", "RET={word}", "ENVID={xtext}",
                  "BY={number};R", "BY=-{number};NT", "MT-PRIORITY={number}", "MT-PRIORITY=-9", "REQUIRETLS", "HOLDFOR={number}",
                  "HOLDUNTIL=2030-01-01T00:00:00Z", "HOLDUNTIL={word}", "AUTH=<>", "AUTH={xtext}", "{word}={xtext}", "="],
    "rcptparam": ["NOTIFY=NEVER", "NOTIFY=SUCCESS,FAILURE,DELAY", "NOTIFY={word}", "ORCPT=rfc822;{xtext}", "ORCPT=utf-8;{utf8}", "ORCPT={xtext}", "{word}"],
    "attribute": ["ADDR=192.0.2.{number}", "ADDR=IPV6:2001:db8::{number}", "NAME={xtext}", "HELO={word}", "PORT={number}", "PROTO=ESMTP",
                  "LOGIN=alice@example.test", "LOGIN={xtext}", "DESTADDR=192.0.2.1", "{word}={xtext}", "ADDR=[UNAVAILABLE]", "{word}"],
    "number": ["0", "1", "5", "9", "77", "300", "65536", "4294967296", "99999999999999999999", "-1", "+1", "1x", "007"],
    "xtext": ["abc", "a+20b", "a+0D+0Ab", "a+2", "+", "a=b", "ani+40b.test", "a@b.test", "x" * 600],
    "utf8": ["\\x{E4}@b.test", "ä@b.test", "\\x{D800}", "\\x{", "\\", "a@b.test"],
    "word": ["x", "alice", "a.test", "<>", "\"", "é", "\t", "%s%n", "x" * 300, "Received"],
    "login": [base64.b64encode(f"\0alice@example.test\0{PASSWORD}".encode()).decode(), "=", "AAAA", "!"],
    "base64": ["AAAA", "=", "QQ==", "Q", "n,,n=a,r=b", "biwsbj1hLHI9Yg==", "*"],
}
SPECIAL = [b"\0", b"\r", b"\n", b"\r\n", b"\r\n.\r\n", b"\n.\r\n", b" ", b"\xff", b"\xc3", b"<", b">", b"\"", b"+", b"=", b"x" * 13000]
TEXT = [b"Subject: x\r\n", b"\r\n", b"text\r\n", b".", b".\r\n", b"..\r\n", b"\r\n.\r\n", b"\n", b"\r", b"\0", b"Received: x\r\n" * 60, b"x" * 70000,
        b"Delivered-To: alice@example.test\r\n", b"Received: from a by mail.example.test; x\r\n", b"BDAT 5\r\n", b"\xff\xfe", b"From: <"]


class Maker:
    def __init__(self, rng):
        self.rng = rng

    def word(self, rule, depth=0):
        text = self.rng.choice(GRAMMAR[rule])
        return re.sub(r"\{(\w+)\}", lambda m: self.word(m.group(1), depth + 1) if m.group(1) in GRAMMAR else m.group(0), text)

    def text(self):
        return b"".join(self.rng.choices(TEXT, k=self.rng.randrange(8)))

    def transaction(self):
        """As a good client does it, for the most part."""
        hello = self.rng.choice(("EHLO c.test", "LHLO c.test"))
        lines = [hello, self.rng.choice(("MAIL FROM:<a@b.test>", "MAIL FROM:<a@b.test> " + self.word("mailparam"))),
                 "RCPT TO:<alice@example.test>", "RCPT TO:<bob@example.test> " + self.word("rcptparam")]
        data = "\r\n".join(lines).encode() + b"\r\n"
        if self.rng.random() < 0.5:
            return data + b"DATA\r\n" + self.text() + b"\r\n.\r\n"
        for _ in range(self.rng.randrange(1, 4)):
            text = self.text()
            data += b"BDAT %d%s\r\n%s" % (len(text), self.rng.choice((b"", b" LAST")), text)
        return data

    def damage(self, data):
        data = bytearray(data)
        for _ in range(self.rng.choice((1, 1, 2, 4))):
            at = self.rng.randrange(len(data) + 1)
            kind = self.rng.randrange(5)
            if kind == 0 and at < len(data):
                data[at] ^= 1 << self.rng.randrange(8)
            elif kind == 1:
                del data[at:at + self.rng.randrange(1, 8)]
            elif kind == 2:
                data[at:at] = data[at:at + self.rng.randrange(1, 40)] * self.rng.choice((1, 2, 50))
            else:
                data[at:at] = self.rng.choice(SPECIAL)
        return bytes(data)

    def batch(self):
        if self.rng.random() < 0.3:
            data = self.transaction()
        else:
            data = b"".join(self.word("command").encode() + b"\r\n" for _ in range(self.rng.choice((1, 1, 2, 6))))
        return self.damage(data) if self.rng.random() < 0.4 else data


class SmtpSessionFuzzTest(ServerTest):
    workers = 2
    SECONDS = 30
    GROWTH_MAX_KB = 256 * 1024
    settings = {"auth_limit": "no", "smtp_errors_max": "100", "smtp_size_max": "64K", "smtp_xclient_networks": "127.0.0.0/8",
                "smtp_greeting_delay": "0s", "smtp_sender_domain_exists": "no", "smtp_unknown_rcpt_delay": "0s", "smtp_rate_network_messages": "50",
                "smtp_header_max": "16K", "smtp_greylist": "yes", "smtp_greylist_delay": "1s", "smtp_early_talk_refused": "no"}
    REPLY = re.compile(rb"([2345]\d\d)([- ])([^\r\n]*)\r\n$", re.S)
    ENHANCED = re.compile(rb"[245]\.\d{1,3}\.\d{1,3} \S")

    def check_reply(self, line, said):
        m = self.REPLY.match(line)
        self.assertIsNotNone(m, (line[:300], said))
        if m.group(1)[:1] in b"45":
            self.assertRegex(m.group(3), self.ENHANCED, (line[:300], said))
            self.assertEqual(m.group(1)[:1], m.group(3)[:1], (line, said))
        self.answers[m.group(1).decode()] += 1

    def session(self, maker, rng):
        said = []
        with socket.create_connection(("127.0.0.1", self.server.port(rng.choice(("smtp", "smtp", "submission", "lmtp")))),
                                      timeout=PATIENCE_SECONDS) as sock:
            file = sock.makefile("rb")
            try:
                for _ in range(rng.randint(1, 8)):
                    data = maker.batch()
                    said.append(data[:2000])
                    sock.sendall(data)
                    if rng.random() < 0.3:
                        time.sleep(0.001)
                sock.shutdown(socket.SHUT_WR)
                for line in iter(file.readline, b""):
                    if b"STARTTLS" in b"".join(said).upper() and line[:1] in b"\x15\x16":
                        break           # a TLS alert: the handshake was none
                    self.check_reply(line, said)
            except OSError as e:
                self.assertNotIsInstance(e, TimeoutError)
                pass                    # sent away with more on its way
            finally:
                file.close()

    def resident_kb(self):
        pids = [p for i in range(self.workers) for p in self.server.named(f"worker-{i}")]
        return max(int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{p}/status").read_text()).group(1)) for p in pids)

    def run_for(self, seed, seconds):
        rng = random.Random(seed)
        maker, end, count = Maker(rng), time.monotonic() + seconds, 0
        while time.monotonic() < end:
            self.session(maker, rng)
            count += 1
        return count

    def test_sessions_of_garbage_are_answered_and_end(self):
        seed = random.randrange(1 << 30)
        self.answers = collections.Counter()
        with self.subTest(seed=seed):
            self.run_for(seed, self.SECONDS / 3)
            before = self.resident_kb()
            self.assertGreater(self.run_for(seed + 1, self.SECONDS), 50)
            self.assertLess(self.resident_kb() - before, self.GROWTH_MAX_KB)
            for code in ("220", "250", "354", "500", "501", "503", "550", "554"):
                self.assertGreater(self.answers[code], 0, self.answers)
        self.server.deliver("alice@example.test", b"Subject: after the storm\r\n\r\nx\r\n")


if __name__ == "__main__":
    unittest.main()
