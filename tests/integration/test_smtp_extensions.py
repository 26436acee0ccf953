"""SMTP's extensions: offered where they apply, read strictly, refused with a reason."""

import base64
import datetime
import re
import unittest

from harness import PASSWORD, ServerTest


class Session:
    def __init__(self, test, port="smtp", hello="EHLO client.test", tls=False):
        self.test = test
        self.raw = test.server.raw(port)
        test.addCleanup(self.raw.close)
        self.raw.reply()
        self.offer = self.say(hello)
        if tls:
            self.say("STARTTLS")
            self.raw.sock = test.server.tls_context().wrap_socket(self.raw.sock, server_hostname="localhost")
            self.raw.file = self.raw.sock.makefile("rb")
            self.offer = self.say(hello)

    def say(self, line):
        self.raw.send(line.encode() + b"\r\n")
        return self.raw.reply().decode()

    def expect(self, start, line):
        answer = self.say(line)
        self.test.assertTrue(answer.startswith(start), (line, answer))
        return answer

    def log_in(self, user="alice"):
        plain = base64.b64encode(f"\0{user}@example.test\0{PASSWORD}".encode()).decode()
        self.expect("235", f"AUTH PLAIN {plain}")
        self.offer = self.say("EHLO client.test")

    def words(self):
        return {line[4:].split()[0] for line in self.offer.splitlines()[1:]}


class ExtensionsTest(ServerTest):
    settings = {"smtp_errors_max": "200", "smtp_future_release_max": "1d", "smtp_messages_max": "5"}

    # ---- what is offered ---------------------------------------------------------------------------
    ALWAYS = {"PIPELINING", "SIZE", "STARTTLS", "ENHANCEDSTATUSCODES", "8BITMIME", "BINARYMIME", "SMTPUTF8", "DSN", "DELIVERBY",
              "MT-PRIORITY", "CHUNKING", "VRFY", "HELP"}

    def test_each_port_offers_what_applies_there(self):
        self.assertEqual(Session(self).words(), self.ALWAYS | {"AUTH", "LIMITS"})
        self.assertEqual(Session(self, tls=True).words(), (self.ALWAYS - {"STARTTLS"}) | {"AUTH", "LIMITS", "REQUIRETLS"})
        self.assertEqual(Session(self, "submission").words(), self.ALWAYS | {"AUTH", "LIMITS", "FUTURERELEASE"})
        self.assertEqual(Session(self, "lmtp", "LHLO client.test").words(), self.ALWAYS)

    def test_limits_are_told(self):
        self.assertRegex(Session(self).offer, r"(?m)^250-LIMITS MAILMAX=5 RCPTMAX=1000\r$")

    def test_future_release_tells_seconds_and_date(self):
        (seconds, date), = re.findall(r"250-FUTURERELEASE (\d+) (\S+)\r", Session(self, "submission").offer)
        until = datetime.datetime.fromisoformat(date.replace("Z", "+00:00"))
        self.assertEqual(seconds, "86400")
        left = (until - datetime.datetime.now(datetime.timezone.utc)).total_seconds()
        self.assertTrue(86000 < left <= 86400, left)

    # ---- parameters ----------------------------------------------------------------------------------
    def test_parameters_of_mail(self):
        s = Session(self)
        for parameters, start in (
                ("RET=HDRS ENVID=QQ314159", "250 2.1.0"), ("RET=SOME", "501 5.5.4 RET is FULL or HDRS"),
                ("ENVID=a+0D+0Ab", "501 5.5.4 ENVID"), ("RET=FULL RET=FULL", "501 5.5.4 RET is given twice"),
                ("BODY=BINARYMIME SIZE=100", "250 2.1.0"), ("BODY=TEXT", "501 5.5.4 BODY"),
                ("BY=120;R", "250 2.1.0"), ("BY=-120;R", "501 5.5.4 BY with R"), ("BY=2", "501 5.5.4 BY needs"),
                ("MT-PRIORITY=-4", "250 2.1.0"), ("MT-PRIORITY=4", "250 2.3.6 0 "), ("MT-PRIORITY=11", "501 5.5.4 MT-PRIORITY"),
                ("AUTH=<>", "250 2.1.0"), ("AUTH=ani@example.org", "250 2.1.0"), ("AUTH=x", "501 5.5.4 AUTH"),
                ("REQUIRETLS", "555 5.5.4 REQUIRETLS needs TLS"), ("HOLDFOR=10", "555 5.5.4 mail cannot be held"),
                ("SMTPUTF8", "250 2.1.0"), ("SMTPUTF8=1", "501 5.5.4"), ("SIZE=", "501 5.5.4"), ("FROB", "555 5.5.4 unknown MAIL")):
            s.expect(start, f"MAIL FROM:<a@b.test> {parameters}")
            s.say("RSET")
            s = Session(self) if start[0] == "2" else s

    def test_each_refusal_of_an_address_says_whose_it_is(self):
        s = Session(self)
        for command, start in (("MAIL FROM:<postmaster>", "501 5.1.7"), ("MAIL FROM:<a@[x]>", "501 5.1.7"), ("MAIL FROM:a@b.test", "501 5.1.7"),
                               ("MAIL FROM:<a@b.test> SIZE==", "501 5.5.4"), ("MAIL TO:<a@b.test>", "501 5.5.4"),
                               ("MAIL FROM:<a@b.test>", "250"), ("RCPT TO:<@>", "501 5.1.3"), ("RCPT TO:<>", "501 5.1.3"),
                               ("RCPT TO:<alice@example.test> NOTIFY=NEVER,", "501 5.5.4"), ("RCPT TO:<nobody@example.test>", "550 5.1.1")):
            with self.subTest(command=command):
                s.expect(start, command)

    def test_parameters_of_rcpt(self):
        s = Session(self)
        s.expect("250", "MAIL FROM:<a@b.test>")
        for parameters, start in (
                ("NOTIFY=NEVER", "250 2.1.5"), ("NOTIFY=SUCCESS,DELAY ORCPT=rfc822;ani+2Bx@example.org", "250 2.1.5"),
                ("NOTIFY=NEVER,SUCCESS", "501 5.5.4 NOTIFY"), ("NOTIFY", "501 5.5.4 NOTIFY"), ("ORCPT=ani@example.org", "501 5.5.4 ORCPT"),
                ("ORCPT=rfc822;a+0D+0AX-Evil:1", "501 5.5.4 ORCPT"), ("ORCPT=utf-8;\\x{E4}@example.org", "250 2.1.5"),
                ("ORCPT=utf-8;ä@example.org", "501 5.5.4"), ("SIZE=1", "555 5.5.4 unknown RCPT")):
            s.expect(start, f"RCPT TO:<alice@example.test> {parameters}")
        s = Session(self)
        s.expect("250", "MAIL FROM:<a@b.test> SMTPUTF8")
        s.expect("250 2.1.5", "RCPT TO:<alice@example.test> ORCPT=utf-8;ä@example.org")

    def test_helo_knows_no_parameters(self):
        s = Session(self, hello="HELO client.test")
        s.expect("555 5.5.4", "MAIL FROM:<a@b.test> RET=FULL")
        s.expect("250", "MAIL FROM:<a@b.test>")
        s.expect("555 5.5.4", "RCPT TO:<alice@example.test> NOTIFY=NEVER")

    def test_requiretls_under_tls(self):
        s = Session(self, tls=True)
        s.expect("250 2.1.0", "MAIL FROM:<a@b.test> REQUIRETLS")

    def test_mail_is_held_for_who_logged_in_and_not_beyond_the_limit(self):
        s = Session(self, "submission")
        s.log_in()
        soon = (datetime.datetime.utcnow() + datetime.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        late = (datetime.datetime.utcnow() + datetime.timedelta(hours=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
        for parameters, start in (("HOLDFOR=3600", "250"), (f"HOLDUNTIL={soon}", "250"), ("HOLDFOR=86401", "501 5.5.4 mail can be held for at most 86400"),
                                  (f"HOLDUNTIL={late}", "501 5.5.4"), (f"HOLDFOR=5 HOLDUNTIL={soon}", "501 5.5.4 give HOLDFOR or"),
                                  ("HOLDUNTIL=soon", "501 5.5.4 HOLDUNTIL"), ("MT-PRIORITY=4", "250 2.1.0")):
            s.expect(start, f"MAIL FROM:<alice@example.test> {parameters}")
            s.say("RSET")

    def test_one_message_too_many_ends_the_session(self):
        s = Session(self)
        for _ in range(5):
            s.expect("250", "MAIL FROM:<a@b.test>")
            s.expect("250", "RSET")
        s.expect("421 4.7.0", "MAIL FROM:<a@b.test>")
        self.assertEqual(s.raw.file.read(), b"")

    # ---- small commands --------------------------------------------------------------------------------
    def test_small_commands(self):
        s = Session(self)
        s.expect("252 2.5.0", "VRFY alice")
        s.expect("501 5.5.4", "VRFY")
        s.expect("502 5.5.1", "EXPN staff")
        s.expect("502 5.5.1", "ETRN example.test")
        s.expect("250 2.0.0", "NOOP and whatever follows")
        s.expect("214 2.0.0", "HELP")
        s.expect("214 2.0.0", "HELP MAIL")
        s.expect("550 5.7.1", "XCLIENT ADDR=192.0.2.1")
        s.expect("500 5.5.1", "XFORWARD ADDR=192.0.2.1")


class WithoutTest(ServerTest):
    settings = {"smtp_vrfy": "no", "smtp_future_release_max": "0s", "smtp_header_max": "16K", "smtp_received_max": "10",
                "smtp_text_line_max": "998"}

    def test_what_is_switched_off_is_not_offered(self):
        s = Session(self, "submission")
        self.assertFalse(s.words() & {"VRFY", "FUTURERELEASE"})
        s.expect("502 5.5.1", "VRFY alice")
        s.log_in()
        s.expect("555 5.5.4", "MAIL FROM:<alice@example.test> HOLDFOR=10")

    def send(self, message, port="smtp"):
        s = Session(self, port, "LHLO c.test" if port == "lmtp" else "EHLO c.test")
        s.expect("250", "MAIL FROM:<a@b.test>")
        s.expect("250", "RCPT TO:<alice@example.test>")
        s.expect("354", "DATA")
        return s.say(message + "\r\n.")

    def test_messages_that_go_in_circles_are_refused(self):
        hop = "Received: from a.test by b.test with ESMTP; Mon, 23 Nov 2026 10:00:00 +0000\r\n"
        ours = "Received: from a.test by mail.example.test with ESMTP; Mon, 23 Nov 2026 10:00:00 +0000\r\n"
        for port in ("smtp", "lmtp"):
            self.assertTrue(self.send(hop * 10 + "\r\nx", port).startswith("250"))
            self.assertTrue(self.send(hop * 11 + "\r\nx", port).startswith("554 5.4.6"))
            self.assertTrue(self.send(ours + "Delivered-To: alice@example.test\r\n\r\nx", port).startswith("554 5.4.6"))
            self.assertTrue(self.send(hop + "Delivered-To: alice@example.test\r\n\r\nx", port).startswith("250"))

    def test_headers_and_lines_have_limits(self):
        self.assertTrue(self.send("X: " + "x\r\n " * 4000 + "\r\n\r\nx").startswith("250"))
        self.assertTrue(self.send("X: " + "x\r\n " * 5000 + "\r\n\r\nx").startswith("552 5.3.4"))
        self.assertTrue(self.send("X: y\r\n\r\n" + "x" * 998).startswith("250"))
        self.assertTrue(self.send("X: y\r\n\r\n" + "x" * 999).startswith("554 5.6.0"))


if __name__ == "__main__":
    unittest.main()
