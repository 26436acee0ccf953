"""Milters: a filter written here that does everything filters may do and much that they may not, and Debian's opendkim."""

import base64
import email
import os
import pathlib
import re
import shutil
import smtplib
import socket
import struct
import subprocess
import tempfile
import time
import unittest

from harness import PASSWORD, ROOT, ServerTest, eventually
from milter_peer import ACCEPT, CONTINUE, DISCARD, REJECT, TEMPFAIL, Milter, field, packet, reply, text

LETTER = "From: a@elsewhere.test\r\nTo: alice@example.test\r\nSubject: {}\r\nX-Fold: one\r\n\ttwo\r\n\r\nHello.\r\n"
SETTINGS = {"smtp_greeting_delay": "0s", "smtp_xclient_networks": "127.0.0.0/8", "mail_authentication": "no",
            "smtp_sender_domain_exists": "no", "dkim_make_keys": "no", "smtp_errors_max": "100"}
NO_CONNECT, NO_HELO, NO_MAIL, NO_RCPT, NO_BODY, NO_HDRS, NO_EOH = (1 << n for n in range(7))
MUTE_HDRS, NO_UNKNOWN, NO_DATA, CAN_SKIP, LEADING_SPACE = 0x80, 0x100, 0x200, 0x400, 0x100000
MUTE_ALL = 0x80 | 0x1000 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000 | 0x40000 | 0x80000


class MilterTest(ServerTest):
    milter_count = 1
    away = ""
    accounts = ("alice", "bob", "carol")
    more = {}

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="milter-", dir="/tmp")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        os.chmod(cls.folder, 0o755)
        cls.milters = [Milter(path=f"{cls.folder}/{i}.sock" if i % 2 else None) for i in range(cls.milter_count)]
        for m in cls.milters:
            cls.addClassCleanup(m.close)
            if m.path:
                os.chmod(m.path, 0o777)
        cls.milter = cls.milters[0]
        cls.settings = {**SETTINGS, "milters": ", ".join(m.setting + cls.away for m in cls.milters), **cls.more}
        super().setUpClass()

    def setUp(self):
        for m in self.milters:
            m.script()

    def raw(self, port="smtp", hello="EHLO client.test"):
        raw = self.server.raw(port)
        self.addCleanup(raw.close)
        self.assertTrue(raw.reply().startswith(b"220 "))
        if hello:
            self.expect(raw, "250", hello)
        return raw

    def say(self, raw, line):
        raw.send(line + "\r\n")
        return raw.reply().decode()

    def expect(self, raw, start, line):
        answer = self.say(raw, line)
        self.assertTrue(answer.startswith(start), (line, answer))
        return answer

    def envelope(self, raw, to=("alice@example.test",), sender="a@elsewhere.test"):
        self.expect(raw, "250", f"MAIL FROM:<{sender}>")
        for address in to:
            self.expect(raw, "250", f"RCPT TO:<{address}>")

    def content(self, raw, message):
        self.expect(raw, "354", "DATA")
        raw.send(message.encode() if isinstance(message, str) else message)
        raw.send(".\r\n")
        return raw.reply().decode()

    def send(self, subject, raw=None, message=None, **kw):
        raw = raw or self.raw()
        self.envelope(raw, **kw)
        return self.content(raw, message or LETTER.format(subject))

    def fetch(self, user, subject):
        with self.server.imap(user) as c:
            c.select("INBOX", readonly=True)
            ids = c.search(None, "SUBJECT", f'"{subject}"')[1][0].split()
            return [c.fetch(i, "(BODY.PEEK[])")[1][0][1] for i in ids]

    def fetch_one(self, user, subject):
        (got,) = self.fetch(user, subject)
        return got


class ConversationTest(MilterTest):
    def test_each_step_is_told_in_order_with_its_macros(self):
        raw = self.raw()
        self.expect(raw, "250", "MAIL FROM:<a@elsewhere.test> SIZE=500 BODY=8BITMIME")
        self.expect(raw, "250", "RCPT TO:<alice@example.test> NOTIFY=NEVER")
        self.expect(raw, "250", "RCPT TO:<bob@example.test>")
        answer = self.content(raw, LETTER.format("steps"))
        self.assertTrue(answer.startswith("250"), answer)
        self.expect(raw, "221", "QUIT")
        m = self.milter
        self.assertTrue(eventually(lambda: m.letters().endswith("Q")))
        self.assertEqual(m.letters(), "OCHMRRTLLLLNBEQ")
        self.assertRegex(m.told("C")[0], rb"^localhost\x004..127\.0\.0\.1\x00$")
        self.assertEqual(m.told("H"), [b"client.test\0"])
        self.assertEqual(m.told("M"), [text("<a@elsewhere.test>", "SIZE=500", "BODY=8BITMIME")])
        self.assertEqual(m.told("R"), [text("<alice@example.test>", "NOTIFY=NEVER"), text("<bob@example.test>")])
        self.assertEqual(m.told("L"), [text("From", "a@elsewhere.test"), text("To", "alice@example.test"),
                                       text("Subject", "steps"), text("X-Fold", "one\n\ttwo")])
        self.assertEqual(m.told("B"), [b"Hello.\r\n"])
        macros = {}
        for stage, values in m.told("D"):
            macros.setdefault(stage, values)
        self.assertEqual(macros["C"]["j"], "mail.example.test")
        self.assertEqual(macros["C"]["{daemon_name}"], "smtp")
        self.assertEqual(macros["C"]["{client_addr}"], "127.0.0.1")
        self.assertEqual(macros["C"]["{client_name}"], "localhost")
        self.assertTrue(macros["C"]["{client_port}"].isdigit())
        self.assertTrue(macros["C"]["v"].startswith("Merpati "))
        self.assertEqual(macros["M"]["{mail_addr}"], "a@elsewhere.test")
        self.assertEqual(macros["R"]["{rcpt_addr}"], "alice@example.test")
        trace_id = re.search(r"250 2\.0\.0 (\S+) accepted", answer).group(1)
        self.assertEqual({macros["M"]["i"], macros["E"]["i"]}, {trace_id})
        self.assertIn(trace_id.encode(), self.fetch_one("alice", "steps"))

    def test_log_in_and_tls_are_told(self):
        with smtplib.SMTP("localhost", self.server.port("submission"), local_hostname="client.test") as s:
            s.starttls(context=self.server.tls_context())
            s.login("alice@example.test", PASSWORD)
            s.sendmail("alice@example.test", ["bob@example.test"], LETTER.format("secure").replace("a@elsewhere", "alice@example"))
        macros = {}
        for _, values in self.milter.told("D"):
            macros.update(values)
        self.assertEqual(macros["{auth_authen}"], "alice@example.test")
        self.assertTrue(macros["{auth_type}"])
        self.assertRegex(macros["{tls_version}"], r"^TLSv1\.[23]$")
        self.assertRegex(macros["{cipher}"], r"^\w[\w-]+$")
        self.assertRegex(macros["{cipher_bits}"], r"^\d+$")
        self.assertEqual(macros["{daemon_name}"], "submission")
        self.assertEqual(self.milter.letters().count("C"), 1)
        self.assertEqual(self.milter.letters().count("H"), 2)

    def test_a_milter_chooses_its_macros(self):
        self.milter.script(macros={0: "j", 2: "{mail_addr} {nothing} {client_addr}"})
        self.assertTrue(self.send("chosen").startswith("250"))
        told = dict(self.milter.told("D"))
        self.assertEqual(told["C"], {"j": "mail.example.test"})
        self.assertEqual(told["M"], {"{mail_addr}": "a@elsewhere.test", "{client_addr}": "127.0.0.1"})

    def test_a_proxys_client_is_the_client(self):
        raw = self.raw()
        self.expect(raw, "220", "XCLIENT ADDR=IPV6:2001:db8::7 PORT=4711 NAME=mx.there.test")
        self.expect(raw, "250", "EHLO inner.test")
        self.assertTrue(self.send("by proxy", raw).startswith("250"))
        self.assertEqual(self.milter.told("C")[-1], b"mx.there.test\x006" + struct.pack(">H", 4711) + b"2001:db8::7\0")
        self.assertEqual(self.milter.told("H")[-1], b"inner.test\0")

    def test_one_conversation_serves_all_messages_of_a_session(self):
        raw = self.raw()
        for subject in ("first of three", "second of three", "third of three"):
            self.assertTrue(self.send(subject, raw).startswith("250"))
        self.assertEqual(len(self.milter.conversations), 1)
        self.assertEqual(self.milter.letters(), "OCH" + 3 * "MRTLLLLNBE")

    def test_what_comes_to_nothing_is_aborted(self):
        raw = self.raw()
        self.envelope(raw)
        self.expect(raw, "250", "RSET")
        self.assertTrue(self.send("after a reset", raw).startswith("250"))
        self.assertEqual(self.milter.letters(), "OCHMRAMRTLLLLNBE")

    def test_steps_that_it_does_not_want_are_not_told(self):
        self.milter.script(steps=NO_CONNECT | NO_HELO | NO_MAIL | NO_RCPT | NO_BODY | NO_HDRS | NO_EOH | NO_DATA)
        self.assertTrue(self.send("little").startswith("250"))
        self.assertEqual(self.milter.letters(), "OE")

    def test_steps_that_it_does_not_answer_are_not_waited_for(self):
        self.milter.script(steps=MUTE_ALL, mute="CHMRTLNBU")
        self.assertTrue(self.send("mute").startswith("250"))
        self.assertEqual(self.milter.letters(), "OCHMRTLLLLNBE")

    def test_old_milters_are_understood(self):
        self.milter.script(version=2, actions=0x3F, answers={"E": lambda c, d: field("h", "X-Old", "yes") + packet(CONTINUE)})
        raw = self.raw()
        self.expect(raw, "500", "FROB")
        self.assertTrue(self.send("old", raw).startswith("250"))
        self.assertEqual(self.milter.letters(), "OCHMRLLLLNBE")
        self.assertIn(b"\r\nX-Old: yes\r\n", self.fetch_one("alice", "old"))

    def test_unknown_commands_are_told(self):
        raw = self.raw()
        self.expect(raw, "500 5.5.1", "FROB nicate")
        self.milter.answers["U"] = reply("502 5.5.9 frobbing is not for you")
        self.expect(raw, "502 5.5.9 frobbing is not for you", "FROB again")
        self.assertEqual(self.milter.told("U"), [b"FROB nicate\0", b"FROB again\0"])

    def test_a_large_body_comes_in_pieces_and_may_be_skipped(self):
        body = "".join(f"{i:08d} {'x' * 60}\r\n" for i in range(6000))
        self.assertTrue(self.send("pieces", message=LETTER.format("pieces") + body).startswith("250"))
        chunks = self.milter.told("B")
        self.assertEqual(b"".join(chunks), b"Hello.\r\n" + body.encode())
        self.assertEqual({len(c) for c in chunks[:-1]}, {65535})
        self.milter.script(steps=CAN_SKIP, answers={"B": b"s"})
        self.assertTrue(self.send("skipped", message=LETTER.format("skipped") + body).startswith("250"))
        self.assertEqual(len(self.milter.told("B")), 1)
        self.assertEqual(self.milter.letters()[-1], "E")

    def test_a_milter_that_accepts_hears_no_more(self):
        for letter, heard in (("C", "OC"), ("H", "OCH"), ("M", "OCHM"), ("R", "OCHMR"), ("T", "OCHMRT"), ("L", "OCHMRTL"),
                              ("N", "OCHMRTLLLLN"), ("B", "OCHMRTLLLLNB"), ("E", "OCHMRTLLLLNBE")):
            with self.subTest(letter):
                self.milter.script(answers={letter: ACCEPT})
                raw = self.raw()
                self.assertTrue(self.send(f"accepted at {letter}", raw).startswith("250"))
                self.assertEqual(self.milter.letters(), heard)
                if letter in "CH":
                    self.assertTrue(self.send(f"again at {letter}", raw).startswith("250"))
                    self.assertEqual(self.milter.letters(), heard)

    def test_values_keep_their_leading_blank_for_who_wants_it(self):
        self.milter.script(steps=LEADING_SPACE, answers={"E": lambda c, d: field("h", "X-Blank", " one") + packet(CONTINUE)})
        self.assertTrue(self.send("blanks").startswith("250"))
        self.assertEqual(self.milter.told("L")[2], text("Subject", " blanks"))
        self.assertIn(b"\r\nX-Blank: one\r\n", self.fetch_one("alice", "blanks"))

    def test_lmtp_goes_past_milters(self):
        with self.server.smtp("lmtp") as s:
            s.sendmail("a@elsewhere.test", ["alice@example.test"], LETTER.format("neighbourly"))
        self.assertEqual(self.milter.heard, [])
        self.fetch_one("alice", "neighbourly")


class ChangesTest(MilterTest):
    milter_count = 2

    def at_end(self, *packets, milter=None):
        (milter or self.milter).answers["E"] = lambda c, d: b"".join(packets) + packet(CONTINUE)

    def test_fields_are_added_inserted_changed_and_removed(self):
        self.at_end(field("h", "X-Last", "9"), field("i", "X-First", "1\n\tfolded", 0), field("m", "Subject", "[spam] fields", 1),
                    field("m", "X-Fold", "", 1))
        self.assertTrue(self.send("fields").startswith("250"))
        got = self.fetch_one("alice", "[spam] fields")
        self.assertIn(b"\r\nX-First: 1\r\n\tfolded\r\nFrom: a@elsewhere.test\r\n", got)
        self.assertIn(b"\r\nSubject: [spam] fields\r\nX-Last: 9\r\n\r\nHello.\r\n", got)
        self.assertNotIn(b"X-Fold", got)
        self.assertEqual(got.count(b"\r\nReceived: "), 1)

    def test_no_value_becomes_a_second_field(self):
        self.at_end(field("h", "X-Evil", "a\r\nBcc: bob@example.test\r\n\r\nnew body"), field("h", "X Odd:Name", "b"))
        self.assertTrue(self.send("smuggled").startswith("250"))
        message = email.message_from_bytes(self.fetch_one("alice", "smuggled"))
        self.assertIsNone(message["Bcc"])
        self.assertEqual(message.get_payload(), "Hello.\r\n")

    def test_the_body_is_replaced(self):
        self.at_end(packet("b", b"Nothing to\r\n"), field("h", "X-Body", "new"), packet("b", b"see here.\r\n"))
        self.assertTrue(self.send("replaced").startswith("250"))
        got = self.fetch_one("alice", "replaced")
        self.assertTrue(got.endswith(b"\r\nX-Body: new\r\n\r\nNothing to\r\nsee here.\r\n"), got)

    def test_a_later_milter_sees_what_the_earlier_one_changed(self):
        first, second = self.milters
        self.at_end(field("m", "Subject", "changed twice", 1), packet("b", b"Other.\r\n"), packet("+", text("<bob@example.test>")))
        self.at_end(field("h", "X-Second", "seen"), packet("-", text("<bob@example.test>")), packet("+", text("carol@example.test")),
                    milter=second)
        self.assertTrue(self.send("as it was").startswith("250"))
        self.assertIn(text("Subject", "changed twice"), second.told("L"))
        self.assertEqual(second.told("B"), [b"Other.\r\n"])
        for user in ("alice", "carol"):
            self.assertTrue(self.fetch_one(user, "changed twice").endswith(b"X-Second: seen\r\n\r\nOther.\r\n"))
        self.assertEqual(self.fetch("bob", "changed twice"), [])

    def test_recipients_are_added_and_removed(self):
        self.at_end(packet("-", text("<alice@example.test>")), packet("+", text("<bob@example.test>")),
                    packet("2", text("<carol@example.test>", "NOTIFY=NEVER")))
        self.assertTrue(self.send("to others").startswith("250"))
        self.assertEqual(self.fetch("alice", "to others"), [])
        self.fetch_one("bob", "to others")
        self.fetch_one("carol", "to others")

    def test_a_message_without_recipients_is_gone(self):
        self.at_end(packet("-", text("<alice@example.test>")))
        self.assertTrue(self.send("to nobody").startswith("250"))
        self.assertEqual(self.fetch("alice", "to nobody"), [])

    def test_a_recipient_that_is_none_puts_the_message_off(self):
        for address in ("nobody-here@example.test", "no address", "a@b@c", "<>"):
            with self.subTest(address):
                self.at_end(packet("+", text(f"<{address}>")))
                self.assertTrue(self.send("misled").startswith("451 "))
        self.assertEqual(self.fetch("alice", "misled"), [])

    def test_the_sender_is_changed(self):
        self.at_end(packet("e", text("<other@elsewhere.test>")))
        self.assertTrue(self.send("renamed").startswith("250"))
        self.assertIn(b"Return-Path: <other@elsewhere.test>\r\n", self.fetch_one("alice", "renamed"))
        self.at_end(packet("e", text("<>")))
        self.assertTrue(self.send("nameless").startswith("250"))
        self.assertIn(b"Return-Path: <>\r\n", self.fetch_one("alice", "nameless"))

    def test_a_discarded_message_is_taken_and_thrown_away(self):
        for letter in "CHMRTLNBE":
            with self.subTest(letter):
                self.milter.script(answers={letter: DISCARD})
                self.assertTrue(self.send("discarded").startswith("250"))
        self.assertEqual(self.fetch("alice", "discarded"), [])

    def test_a_quarantined_message_waits_for_the_administrator(self):
        self.at_end(packet("q", text("looks like a virus")))
        self.assertTrue(self.send("quarantined").startswith("250"))
        self.assertEqual(self.fetch("alice", "quarantined"), [])
        entries = self.server.cli_json("queue", "list")
        self.assertIn("looks like a virus", str(entries))

    def test_changes_count_only_when_the_milter_agrees(self):
        self.milter.answers["E"] = lambda c, d: packet("+", text("<bob@example.test>")) + packet(REJECT)
        self.assertTrue(self.send("half").startswith("550 5.7.1"))
        self.assertEqual(self.fetch("alice", "half") + self.fetch("bob", "half"), [])

    def test_progress_is_no_verdict(self):
        self.at_end(packet("p"), packet("p"), field("h", "X-Slow", "yes"), packet("p"))
        self.assertTrue(self.send("slowly").startswith("250"))
        self.assertIn(b"X-Slow: yes", self.fetch_one("alice", "slowly"))


class RefusalTest(MilterTest):
    def refused_at(self, letter, how):
        """The answer that the client gets for it."""
        self.milter.script(answers={letter: how})
        with socket.create_connection(("127.0.0.1", self.server.port("smtp")), timeout=60) as sock:
            file = sock.makefile("rb")
            lines = ["EHLO client.test", "MAIL FROM:<a@elsewhere.test>", "RCPT TO:<alice@example.test>", "DATA",
                     LETTER.format("refused") + "."]
            answer = file.readline()
            while lines and answer[:1] in b"23":
                sock.sendall((lines.pop(0) + "\r\n").encode())
                answer = file.readline()
                while answer[3:4] == b"-":
                    answer = file.readline()
            rest = 5 - len(lines)
            try:
                sock.sendall(b"NOOP\r\n")
                is_open = file.readline().startswith(b"250")
            except OSError:
                is_open = False
        return rest, answer.decode(), is_open

    def test_every_step_can_be_refused(self):
        steps = {"C": 0, "H": 1, "M": 2, "R": 3, "T": 5, "L": 5, "N": 5, "B": 5, "E": 5}
        for letter, step in steps.items():
            for how, start in ((REJECT, "5"), (TEMPFAIL, "4"), (reply("554 5.7.9 no, because"), "554 5.7.9 no, because"),
                               (reply("450-4.2.0 not\r\n450 4.2.0 today"), "450 4.2.0 not today")):
                with self.subTest(letter=letter, how=how):
                    where, answer, is_open = self.refused_at(letter, how)
                    self.assertEqual(where, step)
                    if letter == "C":
                        start = "421" if start.startswith("4") else start
                    self.assertTrue(answer.startswith(start), answer)
                    self.assertEqual(is_open, letter != "C")
        self.assertEqual(self.fetch("alice", "refused"), [])

    def test_421_ends_the_session(self):
        for letter in "MRE":
            for how in (reply("421 4.7.0 come back later"), b"4"):
                with self.subTest(letter=letter, how=how):
                    _, answer, is_open = self.refused_at(letter, how)
                    self.assertTrue(answer.startswith("421 4.7.0"), answer)
                    self.assertFalse(is_open)

    def test_one_refused_recipient_does_not_harm_the_others(self):
        self.milter.answers["R"] = lambda c, d: reply("550 5.1.1 not bob") if b"bob" in d else packet(CONTINUE)
        raw = self.raw()
        self.envelope(raw)
        self.expect(raw, "550 5.1.1 not bob", "RCPT TO:<bob@example.test>")
        self.assertTrue(self.content(raw, LETTER.format("to one")).startswith("250"))
        self.fetch_one("alice", "to one")
        self.assertEqual(self.fetch("bob", "to one"), [])

    def test_after_a_refusal_the_session_goes_on(self):
        raw = self.raw()
        for letter in "MRTLNBE":
            self.milter.answers = {letter: REJECT}
            answers = [self.say(raw, "MAIL FROM:<a@elsewhere.test>")]
            if letter != "M":
                answers.append(self.say(raw, "RCPT TO:<alice@example.test>"))
            if letter not in "MR":
                answers.append(self.content(raw, LETTER.format("refused here")))
            self.assertTrue(answers[-1].startswith("550"), (letter, answers))
            self.say(raw, "RSET")
        self.milter.answers = {}
        self.assertTrue(self.send("taken at last", raw).startswith("250"))
        self.assertEqual(len(self.milter.conversations), 1)

    def test_the_trace_tells_who_refused(self):
        self.milter.answers["E"] = reply("550 5.7.1 this is a virus")
        self.send("virus")
        self.assertIn("this is a virus", self.server.log())

        def traced():
            return "this is a virus" in self.server.cli("trace", "--subject", "virus", check=False).stdout
        self.assertTrue(eventually(traced))


# How a milter can fail at a step: what it does with the conversation.
def hang(conversation, data):
    conversation.sock.settimeout(60)
    conversation.read()
    return False


def die(conversation, data):
    conversation.sock.close()
    return False


def die_in_a_packet(conversation, data):
    conversation.send(b"\0\0\0\7yhal")
    return False


FAILURES = {
    "hangs": hang, "dies": die, "dies in a packet": die_in_a_packet,
    "talks garbage": b"220 mail.example.test ESMTP ready\r\n", "announces 4 GB": b"\xff\xff\xff\xffc",
    "announces nothing": b"\0\0\0\0", "an unknown answer": packet("Z"), "a malformed answer": packet("h", b"X-A\0"),
    "an answer of another step": packet("O", b"\0" * 12), "a reply that is none": reply("250 2.0.0 fine"),
    "fails": packet("f"),
}
AT_THE_END = {
    "dies after a change": lambda c, d: (c.send(field("h", "X-Half", "done")), False)[1],
    "never stops changing": lambda c, d: field("h", "X-Again", "x" * 100) * 3000 + packet(CONTINUE),
    "a body without end": lambda c, d: packet("b", b"x" * 60000) * 40 + packet(CONTINUE),
    "an address with a command": packet("+", text("<bob@example.test>\r\nDATA")) + packet(CONTINUE),
}


class AwayTest(MilterTest):
    """tempfail, which is the default."""
    more = {"milter_command_timeout": "2s", "milter_content_timeout": "2s", "smtp_size_max": "1M"}
    expected = "451 4.7.1"

    def outcome(self, letter, how):
        self.milter.script(answers={letter: how})
        raw = self.raw()
        for line in ("MAIL FROM:<a@elsewhere.test>", "RCPT TO:<alice@example.test>"):
            answer = self.say(raw, line)
            if not answer.startswith("250"):
                return raw, answer
        return raw, self.content(raw, LETTER.format("away"))

    def check(self, letter, how):
        raw, answer = self.outcome(letter, how)
        self.assertTrue(answer.startswith(self.expected), answer)
        self.expect(raw, "250", "RSET")
        self.expect(raw, "221", "QUIT")

    def test_a_milter_that_fails_at_any_step(self):
        for letter in "OCHMRTLNBE":
            for name, how in FAILURES.items():
                if name == "hangs" and letter in "CHRTLN":
                    continue            # each costs its deadline
                if name == "an answer of another step" and letter == "O":
                    continue
                with self.subTest(letter=letter, failure=name):
                    self.check(letter, how)
        self.check_delivered()

    def test_a_milter_that_fails_at_the_end(self):
        for name, how in AT_THE_END.items():
            with self.subTest(failure=name):
                self.check("E", how)
        for got in self.fetch("alice", "away"):
            self.assertNotIn(b"X-Half", got)

    def test_progress_without_end_ends(self):
        def forever(conversation, data):
            conversation.sock.settimeout(60)
            while True:
                conversation.send(packet("p"))
                time.sleep(0.2)
        self.check("E", forever)

    def test_a_milter_that_does_more_than_was_agreed(self):
        self.milter.script(actions=1, answers={"E": lambda c, d: packet("+", text("<bob@example.test>")) + packet(CONTINUE)})
        self.assertTrue(self.send("overreaching").startswith(self.expected))
        self.assertEqual(self.fetch("bob", "overreaching"), [])

    def test_options_that_were_not_offered(self):
        for version, actions, steps in ((7, 0, 0), (1, 0, 0), (6, 0x200, 0), (6, 0, 0x800), (6, 0, 0x10000000)):
            with self.subTest(version=version, actions=actions, steps=steps):
                self.check("O", packet("O", struct.pack(">III", version, actions, steps)))

    def test_a_milter_that_comes_back_is_asked_again(self):
        self.milter.close()
        raw = self.raw()
        first = self.say(raw, "MAIL FROM:<a@elsewhere.test>")
        self.assertTrue(first.startswith(self.expected), first)
        self.milter.open()

        def is_heard():
            self.say(raw, "RSET")
            return self.say(raw, "MAIL FROM:<a@elsewhere.test>").startswith("250") and "M" in self.milter.letters()
        self.assertTrue(eventually(is_heard, pause=0.5))

    def check_delivered(self):
        self.assertEqual(self.fetch("alice", "away"), [])


class AwayRejectTest(AwayTest):
    away = "=reject"
    expected = "550 5.7.1"


class AwayAcceptTest(AwayTest):
    away = "=accept"
    expected = "250"

    def check_delivered(self):
        self.assertGreater(len(self.fetch("alice", "away")), 50)

    def test_a_milter_that_comes_back_is_asked_again(self):
        self.milter.close()
        raw = self.raw()
        self.assertTrue(self.send("without it", raw).startswith("250"))
        self.milter.open()

        def is_heard():
            return self.send("with it", raw).startswith("250") and "M" in self.milter.letters()
        self.assertTrue(eventually(is_heard, pause=0.5))


class SkippedTest(MilterTest):
    more = {"milter_networks_skipped": "192.0.2.0/24", "milter_submission": "no"}

    def test_networks_that_are_skipped(self):
        raw = self.raw()
        self.expect(raw, "220", "XCLIENT ADDR=192.0.2.7 NAME=mx.there.test")
        self.expect(raw, "250", "EHLO c.test")
        self.milter.script()
        self.assertTrue(self.send("skipped", raw).startswith("250"))
        self.assertEqual(self.milter.heard, [])
        self.expect(raw, "220", "XCLIENT ADDR=198.51.100.7 NAME=mx.there.test")
        self.expect(raw, "250", "EHLO c.test")
        self.assertTrue(self.send("not skipped", raw).startswith("250"))
        self.assertEqual(self.milter.letters(), "OCHMRTLLLLNBE")

    def test_people_who_logged_in_go_past(self):
        plain = base64.b64encode(f"\0alice@example.test\0{PASSWORD}".encode()).decode()
        for port in ("submission", "smtp"):
            raw = self.raw(port)
            self.expect(raw, "235", f"AUTH PLAIN {plain}")
            message = LETTER.format(f"by {port}").replace("a@elsewhere", "alice@example")
            self.assertTrue(self.send("", raw, message, sender="alice@example.test").startswith("250"))
        self.assertNotIn("M", self.milter.letters())


class SettingTest(unittest.TestCase):
    def test_a_setting_that_cannot_be_read_is_told_at_start(self):
        from harness import Server
        server = Server({"milters": "localhost:11332"})
        try:
            with self.assertRaisesRegex(RuntimeError, "is no milter; write inet:host:port"):
                server.start()
        finally:
            server.remove()


OPENDKIM = next((p for p in (ROOT / "build/opendkim/usr/sbin/opendkim", pathlib.Path("/usr/sbin/opendkim")) if p.exists()), None)


@unittest.skipUnless(OPENDKIM, "opendkim is missing: make test-deps")
class OpendkimTest(ServerTest):
    """A filter that nobody here wrote signs what people submit and verifies what strangers bring."""

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="opendkim-", dir="/tmp"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        with socket.create_server(("127.0.0.1", 0)) as s:
            cls.port = s.getsockname()[1]
        subprocess.run(["openssl", "genrsa", "-out", cls.folder / "key.pem", "2048"], check=True, capture_output=True)
        public = subprocess.run(["openssl", "rsa", "-in", cls.folder / "key.pem", "-pubout", "-outform", "DER"], check=True,
                                capture_output=True).stdout
        cls.record = "v=DKIM1; k=rsa; p=" + base64.b64encode(public).decode()
        (cls.folder / "keys").write_text(f"sel._domainkey.example.test {cls.record}\n")
        (cls.folder / "opendkim.conf").write_text(
            f"Socket inet:{cls.port}@127.0.0.1\nBackground no\nSyslog no\nRequireSafeKeys no\nMode sv\nDomain example.test\n"
            f"Selector sel\nKeyFile {cls.folder}/key.pem\nCanonicalization relaxed/simple\nTestPublicKeys {cls.folder}/keys\n"
            "AlwaysAddARHeader yes\nOversignHeaders From\n")
        log = open(cls.folder / "log", "wb")
        cls.process = subprocess.Popen([str(OPENDKIM), "-f", "-x", str(cls.folder / "opendkim.conf")], stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log)
        cls.addClassCleanup(cls.stop)
        log.close()
        if not eventually(cls.is_listening, 30):
            raise RuntimeError((cls.folder / "log").read_text())
        cls.settings = {**SETTINGS, "milters": f"inet:127.0.0.1:{cls.port}"}
        super().setUpClass()

    @classmethod
    def is_listening(cls):
        try:
            socket.create_connection(("127.0.0.1", cls.port), timeout=5).close()
            return True
        except OSError:
            return False

    @classmethod
    def stop(cls):
        cls.process.terminate()
        cls.process.wait(30)

    def submit(self, subject):
        with smtplib.SMTP("localhost", self.server.port("submission"), local_hostname="client.test") as s:
            s.starttls(context=self.server.tls_context())
            s.login("alice@example.test", PASSWORD)
            s.sendmail("alice@example.test", ["bob@example.test"],
                       f"From: Alice <alice@example.test>\r\nTo: bob@example.test\r\nSubject: {subject}\r\n\r\n"
                       "A line.\r\n.\r\nThe end.\r\n")

    def fetch_one(self, user, subject):
        with self.server.imap(user) as c:
            c.select("INBOX", readonly=True)
            (number,) = c.search(None, "SUBJECT", f'"{subject}"')[1][0].split()
            return c.fetch(number, "(BODY.PEEK[])")[1][0][1]

    def verify(self, message):
        try:
            import dkim
        except ImportError:
            self.skipTest("python3-dkim is not installed")
        record = self.record.encode()
        return dkim.verify(message, dnsfunc=lambda name, **kw: record if name.startswith(b"sel._domainkey.example.test") else b"")

    def bring(self, message, subject):
        """As a stranger."""
        with self.server.smtp() as s:
            s.docmd("XCLIENT", "ADDR=192.0.2.7 NAME=mx.there.test")
            s.sendmail("list@elsewhere.test", ["alice@example.test"], message.replace(b"Subject: ", b"Comments: x\r\nSubject: ", 1))
        return email.message_from_bytes(self.fetch_one("alice", subject))

    def test_what_people_submit_is_signed(self):
        self.submit("signed by a filter")
        got = self.fetch_one("bob", "signed by a filter")
        self.assertEqual(email.message_from_bytes(got).get_all("DKIM-Signature", [""])[0].count("d=example.test"), 1)
        self.assertTrue(self.verify(got))

    def test_what_strangers_bring_is_verified(self):
        self.submit("to be verified")
        signed = self.fetch_one("bob", "to be verified")
        signed = signed[signed.index(b"DKIM-Signature:"):]
        results = self.bring(signed, "to be verified").get_all("Authentication-Results")
        self.assertTrue(any("dkim=pass" in r for r in results), results)
        forged = signed.replace(b"A line", b"Another line").replace(b"to be verified", b"to be refuted")
        results = self.bring(forged, "to be refuted").get_all("Authentication-Results")
        self.assertTrue(any("dkim=fail" in r for r in results), results)

    def test_many_messages_of_one_session(self):
        with self.server.smtp() as s:
            for i in range(5):
                s.sendmail("a@elsewhere.test", ["alice@example.test"], LETTER.format(f"number {i} of a session"))
                s.mail("a@elsewhere.test")
                s.rset()
        for i in range(5):
            self.assertIn(b"Authentication-Results: mail.example.test", self.fetch_one("alice", f"number {i} of a session"))


if __name__ == "__main__":
    unittest.main()
