"""SMTP and LMTP as a client sees them: commands, extensions, limits, and what must never happen."""

import json
import base64
import re
import smtplib
import ssl
import unittest

from harness import PASSWORD, Raw, ServerTest, eventually

MESSAGE = b"From: a@elsewhere.test\r\nTo: alice@example.test\r\nSubject: %s\r\n\r\nHello.\r\n"


def by(author, subject):
    """As somebody who logged in writes: in their own name."""
    return (MESSAGE % subject).replace(b"a@elsewhere.test", author.encode() + b"@example.test")


class SmtpTest(ServerTest):
    accounts = ("alice", "bob", "carol")
    settings = {"smtp_errors_max": "8", "smtp_timeout": "5s"}

    def session(self, port="smtp"):
        raw = self.server.raw(port)
        self.addCleanup(raw.close)
        self.assertTrue(raw.reply().startswith(b"220 mail.example.test "))
        return raw

    def say(self, raw, line):
        raw.send(line + b"\r\n" if isinstance(line, bytes) else line + "\r\n")
        return raw.reply().decode()

    def subjects(self, user):
        with self.server.imap(user) as c:
            c.select("INBOX", readonly=True)
            data = c.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
            return [m[1].decode().strip()[9:] for m in data if isinstance(m, tuple)]

    def fetch(self, user, subject):
        with self.server.imap(user) as c:
            c.select("INBOX", readonly=True)
            ids = c.search(None, "SUBJECT", f'"{subject}"')[1][0].split()
            return [c.fetch(i, "(BODY.PEEK[])")[1][0][1] for i in ids]

    # ---- greeting and extensions ----------------------------------------------------------------
    def test_ehlo_lists_what_is_offered(self):
        s = self.session()
        answer = self.say(s, "EHLO client.test")
        for word in ("PIPELINING", "SIZE 52428800", "STARTTLS", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "CHUNKING"):
            self.assertRegex(answer, f"(?m)^250[- ]{word}\r$")

    def test_helo_has_no_extensions(self):
        s = self.session()
        self.assertEqual(self.say(s, "HELO client.test"), "250 mail.example.test\r\n")

    def test_commands_out_of_order_are_told_what_comes_first(self):
        s = self.session()
        self.assertTrue(self.say(s, "MAIL FROM:<a@b.test>").startswith("503 5.5.1 say EHLO"))
        self.say(s, "EHLO client.test")
        self.assertTrue(self.say(s, "RCPT TO:<alice@example.test>").startswith("503 5.5.1 give the sender"))
        self.assertTrue(self.say(s, "DATA").startswith("503 "))
        self.say(s, "MAIL FROM:<a@b.test>")
        self.assertTrue(self.say(s, "DATA").startswith("554 5.5.1 no valid recipients"))
        self.assertTrue(self.say(s, "MAIL FROM:<a@b.test>").startswith("503 "))
        self.assertTrue(self.say(s, "FROB").startswith("500 5.5.1 unknown"))

    def test_too_many_errors_end_the_session(self):
        s = self.session()
        answers = [self.say(s, "FROB") for _ in range(9)]
        self.assertTrue(all(a.startswith("500") for a in answers))
        self.assertTrue(s.reply().startswith(b"421 4.7.0"))
        self.assertEqual(s.line(), b"")

    def test_idle_client_is_sent_away(self):
        s = self.session()
        self.say(s, "EHLO client.test")
        self.assertTrue(s.reply().startswith(b"421 4.4.2"))
        self.assertEqual(s.line(), b"")

    # ---- recipients -------------------------------------------------------------------------------
    def test_unknown_recipient_and_relaying_are_refused(self):
        s = self.session()
        self.say(s, "EHLO client.test")
        self.say(s, "MAIL FROM:<a@b.test>")
        self.assertTrue(self.say(s, "RCPT TO:<nobody@example.test>").startswith("550 5.1.1"))
        self.assertTrue(self.say(s, "RCPT TO:<x@elsewhere.test>").startswith("550 5.7.1"))
        self.assertTrue(self.say(s, "RCPT TO:<alice+detail@example.test>").startswith("250 2.1.5"))
        self.assertTrue(self.say(s, "RCPT TO:<ALICE@EXAMPLE.TEST>").startswith("250 2.1.5"))
        self.assertTrue(self.say(s, "RCPT TO:<postmaster@example.test>").startswith("250 2.1.5"))
        self.assertTrue(self.say(s, "RCPT TO:<Postmaster>").startswith("250 2.1.5"))

    def test_size_is_refused_at_mail(self):
        s = self.session()
        self.say(s, "EHLO client.test")
        self.assertTrue(self.say(s, "MAIL FROM:<a@b.test> SIZE=99999999999").startswith("552 5.3.4"))
        self.assertTrue(self.say(s, "MAIL FROM:<a@b.test> FROB=1").startswith("555 5.5.4"))
        self.assertTrue(self.say(s, "MAIL FROM:<a@b.test> SIZE=1000 BODY=8BITMIME").startswith("250"))

    def test_full_mailbox_is_refused_at_rcpt(self):
        self.server.cli("account", "quota", "carol@example.test", "2K")
        s = self.session()
        self.say(s, "EHLO client.test")
        self.say(s, "MAIL FROM:<a@b.test> SIZE=5000")
        self.assertTrue(self.say(s, "RCPT TO:<carol@example.test>").startswith("452 4.2.2"))
        self.say(s, "RSET")
        self.say(s, "MAIL FROM:<a@b.test>")
        self.assertTrue(self.say(s, "RCPT TO:<carol@example.test>").startswith("250"))
        self.say(s, "DATA")
        s.send(b"Subject: big\r\n\r\n" + b"x" * 3000 + b"\r\n.\r\n")
        self.assertTrue(s.reply().startswith(b"250"), "what was admitted is not refused at its end")
        self.say(s, "MAIL FROM:<a@b.test>")
        self.assertTrue(self.say(s, "RCPT TO:<carol@example.test>").startswith("452 4.2.2"))
        self.assertTrue(self.say(s, "RCPT TO:<alice@example.test>").startswith("250"))

    def test_one_copy_for_an_account_named_twice(self):
        self.server.deliver(["alice@example.test", "alice+x@example.test", "bob@example.test"], MESSAGE % b"copies")
        self.assertEqual(self.subjects("alice").count("copies"), 1)
        self.assertEqual(self.subjects("bob").count("copies"), 1)

    # ---- data ------------------------------------------------------------------------------------
    def test_dots_survive(self):
        body = b"Subject: dots\r\n\r\n.\r\n..\r\n.x\r\nend.\r\n"
        self.server.deliver("alice@example.test", body)
        (got,) = self.fetch("alice", "dots")
        self.assertTrue(got.endswith(body))
        self.assertTrue(got.startswith(b"Return-Path: <sender@elsewhere.test>\r\nReceived: from client.test "))

    def test_dots_survive_any_packet_boundary(self):
        body = b"Subject: drip\r\n\r\n.\r\n\r\n.\r\n.x\r\n..\r\nx\r\n..\r\n"
        wire = body.replace(b"\r\n.", b"\r\n..") + b".\r\n"
        s = self.session()
        for line in ("EHLO client.test", "MAIL FROM:<a@b.test>", "RCPT TO:<alice@example.test>", "DATA"):
            self.say(s, line)
        for i in range(len(wire)):
            s.send(wire[i:i + 1])
        self.assertTrue(s.reply().startswith(b"250 2.0.0"))
        self.assertTrue(self.fetch("alice", "drip")[0].endswith(body))

    def test_pipelined_commands_are_answered_in_order(self):
        s = self.session()
        s.send(b"EHLO client.test\r\n")
        s.reply()
        s.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<nobody@example.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n")
        self.assertEqual([s.reply()[:3] for _ in range(4)], [b"250", b"550", b"250", b"354"])
        s.send(b"Subject: pipelined\r\n\r\nx\r\n.\r\nQUIT\r\n")
        self.assertEqual([s.reply()[:3] for _ in range(2)], [b"250", b"221"])
        self.assertEqual(s.line(), b"")

    def test_chunks_make_one_message(self):
        s = self.session()
        for line in ("EHLO client.test", "MAIL FROM:<a@b.test>", "RCPT TO:<alice@example.test>"):
            self.say(s, line)
        s.send(b"BDAT 16\r\nSubject: chunked")
        self.assertTrue(s.reply().startswith(b"250"))
        self.assertTrue(self.say(s, "MAIL FROM:<a@b.test>").startswith("503"))
        s.send(b"BDAT 11\r\n\r\n\r\n.\r\n..\r\nBDAT 0 LAST\r\n")
        self.assertTrue(s.reply().startswith(b"250"))
        self.assertTrue(s.reply().startswith(b"250 2.0.0"))
        self.assertTrue(self.fetch("alice", "chunked")[0].endswith(b"Subject: chunked\r\n\r\n.\r\n..\r\n"))

    def test_bdat_without_recipients_is_skipped_and_refused(self):
        s = self.session()
        self.say(s, "EHLO client.test")
        s.send(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
        self.assertTrue(s.reply().startswith(b"503"))
        self.assertTrue(s.reply().startswith(b"250"))

    # ---- TLS and logging in -------------------------------------------------------------------------
    def test_a_chunk_before_any_greeting_is_not_read_as_commands(self):
        s = self.session()
        chunk = b"EHLO inner.test\r\nMAIL FROM:<evil@b.test>\r\n"
        s.send(b"BDAT %d LAST\r\n%sNOOP\r\n" % (len(chunk), chunk))
        self.assertTrue(s.reply().startswith(b"503 5.5.1"))
        self.assertTrue(s.reply().startswith(b"250 2.0.0 ok"))

    def test_data_after_chunks_is_refused_and_rset_forgets_them(self):
        s = self.session()
        self.say(s, "EHLO client.test")
        self.say(s, "MAIL FROM:<a@b.test>")
        self.say(s, "RCPT TO:<alice@example.test>")
        s.send(b"BDAT 5\r\nbegun")
        self.assertTrue(s.reply().startswith(b"250"))
        for command in ("DATA", "RCPT TO:<bob@example.test>", "MAIL FROM:<a@b.test>"):
            self.assertTrue(self.say(s, command).startswith("503 5.5.1"))
        self.assertTrue(self.say(s, "RSET").startswith("250"))
        self.assertTrue(self.say(s, "BDAT 0 LAST").startswith("503 5.5.1"))

    def test_starttls_after_login_forgets_who_it_was(self):
        s = self.session("submission")
        self.say(s, "EHLO client.test")
        plain = base64.b64encode(f"\0alice@example.test\0{PASSWORD}".encode()).decode()
        self.assertTrue(self.say(s, f"AUTH PLAIN {plain}").startswith("235"))
        self.assertTrue(self.say(s, "STARTTLS").startswith("220"))
        s.sock = self.server.tls_context().wrap_socket(s.sock, server_hostname="localhost")
        s.file = s.sock.makefile("rb")
        self.say(s, "EHLO " + "after-tls." * 20 + "test")
        self.assertTrue(self.say(s, "MAIL FROM:<alice@example.test>").startswith("530"))
        plain = base64.b64encode(f"\0bob@example.test\0{PASSWORD}".encode()).decode()
        self.assertTrue(self.say(s, f"AUTH PLAIN {plain}").startswith("235"))
        self.say(s, "MAIL FROM:<bob@example.test>")
        self.say(s, "RCPT TO:<nobody-after-tls@example.test>")
        (line,) = [l for l in self.server.log().splitlines() if "nobody-after-tls" in l]
        self.assertEqual(re.findall(r"account=(\S+)", line), ["bob@example.test"])

    def test_starttls_then_login_then_submission(self):
        with self.server.smtp("submission") as c:
            c.ehlo()
            self.assertRaises(smtplib.SMTPException, c.sendmail, "alice@example.test", "bob@example.test", MESSAGE % b"x")
            c.rset()
            c._host = "localhost"
            c.starttls(context=self.server.tls_context())
            c.ehlo()
            c.login("alice@example.test", PASSWORD)
            c.sendmail("alice@example.test", ["bob@example.test"], by("alice", b"submitted"))
            c.sendmail("alice+list@example.test", ["bob@example.test"], by("alice", b"with a detail"))
            with self.assertRaises(smtplib.SMTPSenderRefused):
                c.sendmail("bob@example.test", ["bob@example.test"], MESSAGE % b"forged")
            c.rset()
            c.sendmail("alice@example.test", ["x@elsewhere.test"], by("alice", b"out"))
        waiting = self.server.cli_json("queue", "list")
        self.assertEqual([r["recipient"] for r in waiting], ["x@elsewhere.test"])
        (got,) = self.fetch("bob", "submitted")
        self.assertIn(b" with ESMTPSA\r\n", got)

    def test_nothing_said_before_starttls_counts_after_it(self):
        s = self.session()
        self.say(s, "EHLO client.test")
        s.send(b"STARTTLS\r\nEHLO injected.test\r\nMAIL FROM:<evil@b.test>\r\n")
        self.assertTrue(s.reply().startswith(b"220"))
        self.assertEqual(s.file.read(), b"501 5.5.4 nothing may be sent between STARTTLS and the handshake\r\n")

    def test_submission_by_tls_from_the_start(self):
        with self.server.smtp("submissions") as c:
            c.login("bob@example.test", PASSWORD)
            c.sendmail("bob@example.test", ["alice@example.test"], by("bob", b"implicit"))
        self.assertEqual(len(self.fetch("alice", "implicit")), 1)

    def test_wrong_password_and_broken_exchanges(self):
        s = self.session("submission")
        self.say(s, "EHLO client.test")
        plain = base64.b64encode(b"\0alice@example.test\0wrong").decode()
        self.assertTrue(self.say(s, f"AUTH PLAIN {plain}").startswith("535 5.7.8"))
        self.assertTrue(self.say(s, "AUTH PLAIN !!!").startswith("501"))
        self.assertTrue(self.say(s, "AUTH FROB").startswith("504"))
        self.assertTrue(self.say(s, "AUTH LOGIN").startswith("334 "))
        self.assertTrue(self.say(s, "*").startswith("501"))
        self.assertTrue(self.say(s, "AUTH").startswith("501 5.5.4 name a mechanism"))
        self.assertTrue(self.say(s, "AUTH LOGIN").startswith("334 "))
        self.assertTrue(self.say(s, "x" * 13000).startswith("500 5.5.6"))
        self.assertTrue(self.say(s, "MAIL FROM:<alice@example.test>").startswith("530 5.7.0"))

    # ---- bad input -----------------------------------------------------------------------------------
    def test_overlong_line_is_refused_and_the_session_goes_on(self):
        s = self.session()
        self.say(s, "EHLO client.test")
        s.send(b"NOOP " + b"x" * 3_000_000 + b"\r\n")
        self.assertTrue(s.reply().startswith(b"500 5.5.2"))
        self.assertTrue(self.say(s, "NOOP").startswith("250"))

    def test_nul_and_bare_lf_in_commands_are_refused(self):
        s = self.session()
        s.send(b"EHLO client.test\n")
        self.assertTrue(s.reply().startswith(b"500 5.5.2 lines must end in CR LF"))
        self.assertTrue(self.say(s, b"EHLO cli\0ent").startswith("500 5.5.2"))

    def test_many_recipients_meet_the_limit(self):
        s = self.session()
        self.say(s, "EHLO client.test")
        self.say(s, "MAIL FROM:<a@b.test>")
        answers = []
        for start in range(0, 1004, 100):
            count = min(100, 1004 - start)
            s.send(b"".join(b"RCPT TO:<alice+%d@example.test>\r\n" % i for i in range(count)))
            answers += [s.reply() for _ in range(count)]
        self.assertTrue(all(a.startswith(b"250") for a in answers[:1000]))
        self.assertTrue(all(a.startswith(b"452 4.5.3") for a in answers[1000:]))

    def test_half_closed_socket_still_gets_its_answers(self):
        s = self.session()
        s.send(b"EHLO client.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\nNOOP\r\n")
        s.sock.shutdown(1)
        self.assertRegex(s.file.read(), rb"(?s)250 CHUNKING\r\n250 2.1.0.*250 2.1.5.*250 2.0.0")


class MemoryTest(ServerTest):
    accounts = ("alice",)
    workers = 1
    settings = {"smtp_message_memory_max": "1M"}

    def begin(self):
        raw = self.server.raw("smtp")
        self.addCleanup(raw.close)
        raw.reply()
        raw.send(b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\n")
        self.assertEqual([raw.reply()[:3] for _ in range(3)], [b"250"] * 3)
        return raw

    def chunk(self, raw, size, last=b" LAST"):
        raw.send(b"BDAT %d%s\r\n" % (size, last) + b"x" * size)
        return raw.reply()

    def test_unended_large_messages_leave_room_for_small_ones_and_give_it_back(self):
        greedy = self.begin()
        self.assertTrue(self.chunk(greedy, 700 << 10, b"").startswith(b"250"))
        self.assertTrue(self.chunk(self.begin(), 200 << 10).startswith(b"451 4.3.0"))
        self.assertTrue(self.chunk(self.begin(), 10 << 10).startswith(b"250"))
        greedy.send(b"RSET\r\n")
        greedy.reply()
        for _ in range(8):
            self.assertTrue(self.chunk(self.begin(), 700 << 10).startswith(b"250"))


class LmtpTest(ServerTest):
    accounts = ("alice", "bob")

    def test_a_group_named_again_and_again_is_answered_each_time_and_served_once(self):
        self.server.cli("group", "add", "both@example.test", "alice@example.test", "bob@example.test")
        raw = self.server.raw("lmtp")
        self.addCleanup(raw.close)
        raw.reply()
        to = (b"both@example.test", b"alice@example.test", b"both+again@example.test", b"Both@example.test")
        raw.send(b"LHLO x.test\r\nMAIL FROM:<>\r\n" + b"".join(b"RCPT TO:<%s>\r\n" % a for a in to) + b"DATA\r\n")
        self.assertEqual([raw.reply()[:3] for _ in range(7)], [b"250"] * 6 + [b"354"])
        raw.send(b"Subject: again\r\n\r\nx\r\n.\r\n")
        for address in to:
            self.assertTrue(raw.reply().startswith(b"250 2.0.0 <%s>" % address))
        for user in ("alice", "bob"):
            with self.server.imap(user) as c:
                c.select("INBOX", readonly=True)
                self.assertEqual(len(c.search(None, "SUBJECT", "again")[1][0].split()), 1)

    def test_a_group_with_an_unknown_member_is_not_made(self):
        result = self.server.cli("group", "add", "half@example.test", "alice@example.test", "no@example.test", check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("there is no account no@example.test", result.stderr)
        self.assertEqual(self.server.cli("account", "show", "half@example.test", check=False).returncode, 1)

    def test_refused_recipients_do_not_end_the_session(self):
        raw = self.server.raw("lmtp")
        self.addCleanup(raw.close)
        raw.reply()
        raw.send(b"LHLO x.test\r\nMAIL FROM:<>\r\n" + b"RCPT TO:<no@example.test>\r\n" * 50 + b"NOOP\r\n")
        answers = [raw.reply() for _ in range(53)]
        self.assertTrue(answers[-1].startswith(b"250 2.0.0 ok"))

    def test_an_answer_for_every_recipient(self):
        self.server.cli("account", "quota", "bob@example.test", "1000")
        raw = self.server.raw("lmtp")
        self.addCleanup(raw.close)
        raw.reply()
        raw.send(b"EHLO x.test\r\n")
        self.assertTrue(raw.reply().startswith(b"500"))
        raw.send(b"LHLO x.test\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.test>\r\nRCPT TO:<no@example.test>\r\n"
                 b"RCPT TO:<bob@example.test>\r\nDATA\r\n")
        self.assertEqual([raw.reply()[:3] for _ in range(6)], [b"250", b"250", b"250", b"550", b"250", b"354"])
        raw.send(b"Subject: lmtp\r\n\r\n" + b"x" * 2000 + b"\r\n.\r\n")
        first, second = raw.reply(), raw.reply()
        self.assertTrue(first.startswith(b"250 2.0.0 <alice@example.test>"))
        self.assertTrue(second.startswith(b"452 4.2.2 <bob@example.test>"))


if __name__ == "__main__":
    unittest.main()
