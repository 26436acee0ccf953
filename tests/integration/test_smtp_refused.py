"""Messages that are refused when they are here: with a code of their own, and a line in the trace."""

import time

from harness import ServerTest, eventually
from test_smtp_extensions import Session


class RefusedTest(ServerTest):
    settings = {"smtp_size_max": "64K", "smtp_header_max": "20K", "report_addresses": "dmarc-reports", "smtp_errors_max": "100"}

    def send(self, sender, text, to=("alice@example.test",), port="smtp"):
        s = Session(self, port, "LHLO x.test" if port == "lmtp" else "EHLO x.test")
        s.expect("250", f"MAIL FROM:<{sender}>")
        for address in to:
            s.expect("250", f"RCPT TO:<{address}>")
        s.expect("354", "DATA")
        s.raw.send(text.encode() + b"\r\n.\r\n")
        answers = [s.raw.reply().decode() for _ in (to if port == "lmtp" else [1])]
        s.expect("250", "NOOP")
        return answers

    def traced(self, sender):
        def found():
            listed = self.server.cli_json("trace", "--sender", sender)
            return listed and str(self.server.cli_json("trace", "--id", listed[0]["id"]))
        return eventually(found) or ""

    def test_why_stands_in_the_trace_whatever_it_was(self):
        for i, (text, start, why) in enumerate((
                ("From: a@b.test\r\n\r\nx\ny", "550 5.7.1", "a CR or LF on its own"),
                ("From: a@b.test\r\n\r\n" + "x" * 100000, "552 5.3.4", "larger than the 65536 bytes"),
                ("From: a@b.test\r\nX: " + "x" * 30000 + "\r\n\r\nx", "552 5.3.4", "header is larger"),
                ("Received: by x\r\n" * 200 + "From: a@b.test\r\n\r\nx", "554 5.4.6", "round in circles"))):
            with self.subTest(why):
                (answer,) = self.send(f"s{i}@far.test", text)
                self.assertTrue(answer.startswith(start), answer)
                trace = self.traced(f"s{i}@far.test")
                self.assertIn(why, trace)
                self.assertIn("alice@example.test", trace)

    def test_what_nobody_would_read_is_refused_at_a_report_address(self):
        text = "From: a@b.test\r\nSubject: Hello\r\n\r\nIs anybody there?"
        (answer,) = self.send("r0@far.test", text, ["dmarc-reports@example.test"])
        self.assertTrue(answer.startswith("554 5.6.0 dmarc-reports@example.test takes"), answer)
        self.assertIn("no report can be read here", self.traced("r0@far.test"))
        answers = self.send("r1@far.test", text, ["dmarc-reports@example.test", "alice@example.test"], "lmtp")
        self.assertEqual([a[:9] for a in answers], ["550 5.7.1", "250 2.0.0"])
        (answer,) = self.send("r2@far.test", text, ["postmaster@example.test"])
        self.assertTrue(answer.startswith("250 "), answer)


class EndlessTest(ServerTest):
    settings = {"smtp_timeout": "1s"}

    def test_chunks_that_never_end_are_not_kept_alive_by_small_talk(self):
        s = Session(self)
        s.expect("250", "MAIL FROM:<a@far.test>")
        s.expect("250", "RCPT TO:<alice@example.test>")
        s.raw.send(b"BDAT 5\r\nX: y\n")
        self.assertTrue(s.raw.reply().startswith(b"250"))
        for _ in range(200):
            time.sleep(0.1)
            answer = s.say("NOOP")
            if not answer.startswith("250"):
                break
        self.assertTrue(answer.startswith("421 4.4.2"), answer)
