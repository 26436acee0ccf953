"""POP3: every command in every state, what it refuses, and the maildrop that only QUIT changes."""

import base64
import email
import os
import pathlib
import poplib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

from harness import PASSWORD, ServerTest, eventually
from pop3_wire import Pop3
from scram_client import Scram, b64, converse

MESSAGE = b"From: a@elsewhere.test\r\nTo: someone@example.test\r\nSubject: %s\r\n\r\nHello.\r\n"


def plain(user, password=PASSWORD, authzid=""):
    return b64(f"{authzid}\0{user}@example.test\0{password}".encode())


class Pop3Test(ServerTest):
    accounts = ("alice", "bob", "carol", "dave", "erin", "frank")

    def pop(self, user=None, **kw):
        p = Pop3(self.server, user, **kw)
        self.addCleanup(p.close)
        return p

    def fill(self, user, *messages):
        """The INBOX holds just these."""
        with self.server.imap(user) as c:
            c.select("INBOX")
            c.store("1:*", "+FLAGS.SILENT", r"(\Deleted)")
            c.expunge()
            for m in messages:
                self.assertEqual(c.append("INBOX", None, None, m)[0], "OK")

    def raw_append(self, user, message):
        """By literal8, as bytes with NUL and bare LF must come."""
        with self.server.raw("imap") as raw:
            raw.line()
            raw.send(f"a LOGIN {user}@example.test {PASSWORD}\r\n")
            raw.until(b"a ")
            raw.send(b"b APPEND INBOX ~{%d+}\r\n" % len(message) + message + b"\r\n")
            self.assertTrue(raw.until(b"b ")[-1].startswith(b"b OK"))

    def subjects(self, user):
        with self.server.imap(user) as c:
            c.select("INBOX", readonly=True)
            data = c.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (Subject)])")[1]
            return [m[1].split(b": ")[1].strip() for m in data if isinstance(m, tuple)]


class CommandTest(Pop3Test):
    def test_greeting_offers_no_apop(self):
        p = self.pop()
        self.assertTrue(p.greeting.startswith(b"+OK "))
        self.assertNotIn(b"<", p.greeting)
        self.assertTrue(p.say("APOP alice 0123").startswith(b"-ERR"))

    def test_capabilities_in_both_states(self):
        p = self.pop()
        status, before = p.ask("CAPA")
        self.assertTrue(status.startswith(b"+OK"))
        for word in (b"TOP", b"UIDL", b"PIPELINING", b"RESP-CODES", b"AUTH-RESP-CODE", b"EXPIRE NEVER", b"LOGIN-DELAY 0",
                     b"UTF8 USER", b"LANG", b"USER", b"STLS", b"IMPLEMENTATION Merpati", b"SASL SCRAM-SHA-256 PLAIN LOGIN"):
            self.assertIn(word + b"\r\n", before)
        p = self.pop("alice")
        self.assertEqual(p.ask("CAPA")[1], before)

    def test_user_and_pass(self):
        p = self.pop()
        self.assertTrue(p.say("PASS secret").startswith(b"-ERR USER comes first"))
        self.assertTrue(p.say("USER alice@example.test").startswith(b"+OK"))
        self.assertTrue(p.say("PASS wrong").startswith(b"-ERR [AUTH] "))
        self.assertTrue(p.say("PASS secret").startswith(b"-ERR USER comes first"))
        self.assertTrue(p.say("user alice@example.test").startswith(b"+OK"))
        self.assertTrue(p.say("pass secret").startswith(b"+OK"))
        self.assertTrue(p.say("USER alice@example.test").startswith(b"-ERR"))
        self.assertTrue(p.quit().startswith(b"+OK"))

    def test_a_password_may_hold_and_end_in_spaces(self):
        self.server.add_accounts("spacious", password="two words ")
        self.pop("spacious", password="two words ")
        p = self.pop()
        p.say("USER spacious@example.test")
        self.assertTrue(p.say("PASS two words").startswith(b"-ERR [AUTH]"))

    def test_nobody_and_wrong_password_sound_alike(self):
        p, answers = self.pop(), set()
        for user in ("alice", "nobody"):
            p.say(f"USER {user}@example.test")
            answers.add(p.say("PASS wrong"))
        self.assertEqual(len(answers), 1)

    def test_auth_mechanisms(self):
        p = self.pop()
        status, words = p.ask("AUTH")
        self.assertTrue(status.startswith(b"+OK"))
        self.assertIn(b"PLAIN\r\n", words)
        self.assertTrue(p.say("AUTH X-UNKNOWN").startswith(b"-ERR"))
        self.assertTrue(p.say("AUTH PLAIN !!!").startswith(b"-ERR"))
        self.assertTrue(p.say(f"AUTH PLAIN {plain('alice', 'wrong')}").startswith(b"-ERR [AUTH]"))
        self.assertTrue(p.say(f"AUTH PLAIN {plain('alice', authzid='bob@example.test')}").startswith(b"-ERR "))
        self.assertEqual(p.say("AUTH PLAIN"), b"+ \r\n")
        self.assertTrue(p.say("*").startswith(b"-ERR"))
        self.assertEqual(p.say("AUTH PLAIN"), b"+ \r\n")
        self.assertTrue(p.say(plain("alice")).startswith(b"+OK"))
        p.quit()
        p = self.pop()
        self.assertTrue(p.say(f"AUTH PLAIN {plain('alice')}").startswith(b"+OK"))
        p.quit()
        p = self.pop()
        self.assertEqual(base64.b64decode(p.say("AUTH LOGIN")[2:]), b"Username:")
        self.assertEqual(base64.b64decode(p.say(b64(b"alice@example.test"))[2:]), b"Password:")
        self.assertTrue(p.say(b64(b"secret")).startswith(b"+OK"))
        p.quit()

    def test_scram(self):
        for password, good in (("wrong", False), (PASSWORD, True)):
            p = self.pop()
            client = Scram("alice@example.test", password)
            p.send(b"AUTH SCRAM-SHA-256 " + b64(client.first()).encode() + b"\r\n")
            last = converse(client, lambda line: p.send(line + b"\r\n"), lambda: p.raw.line().rstrip(b"\r\n"), b"+ ")
            self.assertTrue(last.startswith(b"+OK" if good else b"-ERR [AUTH]"), last)

    def test_stat_list_uidl(self):
        self.fill("bob", MESSAGE % b"one", MESSAGE % b"three")
        sizes = [len(MESSAGE % b"one"), len(MESSAGE % b"three")]
        p = self.pop("bob")
        self.assertIn(b"2 messages", p.welcome)
        self.assertEqual(p.say("STAT"), b"+OK 2 %d\r\n" % sum(sizes))
        self.assertEqual(p.ask("LIST")[1], [b"1 %d\r\n" % sizes[0], b"2 %d\r\n" % sizes[1]])
        self.assertEqual(p.say("LIST 2"), b"+OK 2 %d\r\n" % sizes[1])
        ids = p.ask("UIDL")[1]
        self.assertEqual([line.split()[0] for line in ids], [b"1", b"2"])
        self.assertEqual(p.say("UIDL 2"), b"+OK " + ids[1])
        for line in ids:
            self.assertRegex(line, rb"^\d+ [!-~]{1,70}\r\n$")
        p.say("DELE 1")
        self.assertEqual(p.say("STAT"), b"+OK 1 %d\r\n" % sizes[1])
        self.assertEqual(p.ask("LIST")[1], [b"2 %d\r\n" % sizes[1]])
        self.assertEqual(p.ask("UIDL")[1], ids[1:])
        self.assertTrue(p.say("LIST 1").startswith(b"-ERR"))
        self.assertTrue(p.say("UIDL 1").startswith(b"-ERR"))
        self.assertTrue(p.say("RSET").startswith(b"+OK"))
        self.assertEqual(p.say("STAT"), b"+OK 2 %d\r\n" % sum(sizes))
        p.say("QUIT")
        p = self.pop("bob")
        self.assertEqual(p.ask("UIDL")[1], ids)

    def test_unique_ids_stay_when_others_go(self):
        self.fill("bob", *(MESSAGE % b"%d" % i for i in range(5)))
        p = self.pop("bob")
        ids = [line.split()[1] for line in p.ask("UIDL")[1]]
        p.say("DELE 2")
        p.say("DELE 5")
        p.quit()
        self.server.deliver("bob@example.test", MESSAGE % b"later")
        p = self.pop("bob")
        now = [line.split()[1] for line in p.ask("UIDL")[1]]
        self.assertEqual(now[:3], [ids[0], ids[2], ids[3]])
        self.assertNotIn(now[3], ids)

    def test_retr_and_top(self):
        m = MESSAGE % b"dots" + b".\r\n..\r\nlast.\r\n.x\r\n"
        self.fill("bob", m, MESSAGE % b"second")
        p = self.pop("bob")
        self.assertEqual(p.say("RETR 1"), b"+OK %d octets\r\n" % len(m))
        self.assertEqual(b"".join(p.body()), m)
        self.assertEqual(p.message(2), MESSAGE % b"second")
        self.assertEqual(p.message(1), m)
        header, body = m.split(b"\r\n\r\n")
        for lines in range(8):
            top = b"".join(p.ask(f"TOP 1 {lines}")[1])
            self.assertEqual(top, header + b"\r\n\r\n" + b"".join(body.splitlines(True)[:lines]))
        for bad in ("TOP 1", "TOP 1 -1", "TOP 1 x", "TOP 1 1 1", "TOP x 1", "TOP 3 1", "TOP", "RETR", "RETR 0", "RETR 3", "RETR -1",
                    "RETR 1 2", "RETR 99999999999", "RETR one"):
            self.assertTrue(p.say(bad).startswith(b"-ERR "), bad)
        p.say("DELE 1")
        self.assertTrue(p.say("RETR 1").startswith(b"-ERR message 1 is deleted"))
        self.assertTrue(p.say("TOP 1 0").startswith(b"-ERR message 1 is deleted"))
        self.assertTrue(p.say("DELE 1").startswith(b"-ERR message 1 is deleted"))

    def test_what_is_sent_is_lines_and_its_size_is_listed(self):
        odd = [b"Subject: bare\n\na\n.b\n\n.\nc", b"Subject: cr\r\n\r\na\rb\r\r\n", b"Subject: none",
               b".\r\n", b"Subject: cut\r\n\r\nx\r", MESSAGE % b"usual"]
        self.fill("bob")
        for m in odd:
            self.raw_append("bob", m)
        p = self.pop("bob")
        sizes = p.sizes()
        self.assertEqual(p.say("STAT"), b"+OK %d %d\r\n" % (len(odd), sum(sizes)))
        for i, m in enumerate(odd):
            expected = re.sub(rb"(?<!\r)\n", b"\r\n", m)
            if not expected.endswith(b"\n"):
                expected += b"\r\n"
            got = p.message(i + 1)
            self.assertEqual(got, expected)
            self.assertEqual(sizes[i], len(got), m)

    def test_bytes_that_no_line_may_hold_arrive_encoded(self):
        self.fill("bob")
        self.raw_append("bob", b"Subject: nul\r\n\r\na\0b\r\n\0")
        p = self.pop("bob")
        got = p.message(1)
        self.assertNotIn(b"\0", got)
        self.assertEqual(email.message_from_bytes(got).get_payload(decode=True), b"a\0b\r\n\0")
        self.assertEqual(p.sizes(), [len(got)])

    def test_large_messages(self):
        sizes = [40_000, 700_000, 5_000_000, 11_000_000, 100]
        messages = []
        for i, size in enumerate(sizes):
            lines = b"".join(b".%07d %s\r\n" % (n, b"x" * 60) for n in range(size // 71 + 1))
            messages.append(MESSAGE % b"large %d" % i + lines)
        self.fill("frank", *messages)
        p = self.pop("frank")
        for order in ((1, 2, 3, 4, 5), (4, 1, 5, 3)):
            for n in order:
                self.assertTrue(p.message(n) == messages[n - 1], n)
        for n in (3, 4):
            top = b"".join(p.ask(f"TOP {n} 100000")[1])
            self.assertTrue(top == b"".join(messages[n - 1].splitlines(True)[:100_004]))
        p.quit()
        self.fill("frank")

    def test_utf8_and_lang(self):
        p = self.pop()
        status, languages = p.ask("LANG")
        self.assertEqual(languages, [b"en English\r\n"])
        self.assertTrue(p.say("LANG *").startswith(b"+OK en "))
        self.assertTrue(p.say("LANG EN").startswith(b"+OK en "))
        self.assertTrue(p.say("LANG xx").startswith(b"-ERR"))
        self.assertTrue(p.say("UTF8 now").startswith(b"-ERR"))
        self.assertTrue(p.say("UTF8").startswith(b"+OK"))
        self.assertTrue(p.say("STLS").startswith(b"-ERR"))
        self.assertTrue(p.say("USER alice@example.test").startswith(b"+OK"))
        self.assertTrue(p.say("PASS secret").startswith(b"+OK"))
        self.assertTrue(p.say("UTF8").startswith(b"-ERR"))
        self.assertTrue(p.say("LANG en").startswith(b"+OK"))

    def test_commands_in_the_wrong_state(self):
        p = self.pop()
        for verb in ("STAT", "LIST", "UIDL", "RETR 1", "TOP 1 1", "DELE 1", "RSET", "NOOP"):
            self.assertTrue(p.say(verb).startswith(b"-ERR " + verb.split()[0].encode() + b" is possible after log-in"), verb)
        p = self.pop("alice")
        for verb in ("USER x", "PASS x", "AUTH PLAIN", "STLS", "UTF8", "APOP x y"):
            self.assertTrue(p.say(verb).startswith(b"-ERR " + verb.split()[0].encode() + b" is possible before log-in"), verb)
        for verb in ("STAT 1", "NOOP x", "RSET 1", "QUIT now", "CAPA all"):
            self.assertTrue(p.say(verb).startswith(b"-ERR "), verb)
        self.assertTrue(p.say("NOOP").startswith(b"+OK"))
        for bad in ("", " ", "XYZZY", "STAT\0", "\x80\xff", "LAST"):
            self.assertTrue(p.say(bad).startswith(b"-ERR "), bad)

    def test_pipelined_commands_are_answered_in_order(self):
        self.fill("bob", *(MESSAGE % b"%d" % i for i in range(30)))
        p = self.pop()
        p.send(b"CAPA\r\nUSER bob@example.test\r\nPASS secret\r\nSTAT\r\n" + b"".join(b"RETR %d\r\n" % (i + 1) for i in range(30)) +
               b"DELE 1\r\nNOOP\r\nRSET\r\nQUIT\r\n")
        self.assertTrue(p.raw.line().startswith(b"+OK"))
        p.body()
        for _ in range(3):
            self.assertTrue(p.raw.line().startswith(b"+OK"))
        for i in range(30):
            self.assertTrue(p.raw.line().startswith(b"+OK"))
            self.assertEqual(b"".join(p.body()), MESSAGE % b"%d" % i)
        for _ in range(4):
            self.assertTrue(p.raw.line().startswith(b"+OK"))
        self.assertEqual(p.raw.line(), b"")
        self.assertEqual(len(self.subjects("bob")), 30)


class MaildropTest(Pop3Test):
    def test_quit_removes_and_nothing_else_does(self):
        self.fill("carol", *(MESSAGE % b"%d" % i for i in range(6)))
        for end in ("close", "rset"):
            p = self.pop("carol")
            for n in (1, 3):
                self.assertTrue(p.say(f"DELE {n}").startswith(b"+OK"))
            if end == "rset":
                p.say("RSET")
                p.say("QUIT")
            p.close()
        self.assertTrue(eventually(lambda: self.can_enter("carol")))
        self.assertEqual(len(self.subjects("carol")), 6)
        p = self.pop("carol")
        for n in (6, 1, 3):
            p.say(f"DELE {n}")
        self.assertTrue(p.quit().startswith(b"+OK"))
        self.assertEqual(self.subjects("carol"), [b"1", b"3", b"4"])

    def can_enter(self, user):
        p = Pop3(self.server)
        try:
            p.say(f"USER {user}@example.test")
            return p.say("PASS secret").startswith(b"+OK") and p.say("QUIT")
        finally:
            p.close()

    def test_one_session_at_a_time(self):
        first = self.pop("dave")
        for _ in range(4):                                  # some of them reach the other worker
            p = self.pop()
            p.say("USER dave@example.test")
            self.assertTrue(p.say("PASS secret").startswith(b"-ERR [IN-USE] "))
            p.close()
        p = self.pop()
        self.assertTrue(p.say(f"AUTH PLAIN {plain('dave')}").startswith(b"-ERR [IN-USE] "))
        first.say("QUIT")
        self.assertTrue(p.say(f"AUTH PLAIN {plain('dave')}").startswith(b"+OK"))
        p.close()
        self.pop("dave")                                    # right behind a connection that broke
        self.pop("carol")

    def give_away(self, user):
        """As if the claim had run out, and a session of another host had it now."""
        done = subprocess.run(["psql", "-XqAt", "-h", str(self.server.data / "run"), "-U", "merpati", "-d", "merpati", "-c",
                               "UPDATE maildrop_claim SET worker = 1, session = 1, expires_at = now() + '1 hour' WHERE account_id = "
                               f"(SELECT account_id FROM address WHERE address = '{user}@example.test') RETURNING 'given'"],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.stdout.strip(), "given", done.stderr)

    @unittest.skipUnless(shutil.which("psql"), "no psql")
    def test_a_lost_maildrop_is_left_alone(self):
        self.fill("frank", MESSAGE % b"1", MESSAGE % b"2")
        quick, slow = self.pop("frank"), None
        quick.say("DELE 1")
        self.give_away("frank")
        answer = quick.say("QUIT")                          # before anybody noticed
        self.assertTrue(answer.startswith(b"-ERR [SYS/TEMP] ") and b"another session" in answer, answer)
        self.assertEqual(quick.raw.line(), b"")
        self.assertEqual(self.subjects("frank"), [b"1", b"2"])
        self.fill("bob", MESSAGE % b"1")
        slow = self.pop("bob")
        slow.say("DELE 1")
        self.give_away("bob")
        self.assertTrue(eventually(lambda: slow.say("NOOP").startswith(b"-ERR [SYS/TEMP] "), pause=1))
        self.assertEqual(slow.raw.line(), b"")
        self.assertEqual(self.subjects("bob"), [b"1"])

    def test_numbers_stay_while_others_change_the_mailbox(self):
        self.fill("erin", *(MESSAGE % b"%d" % i for i in range(5)))
        p = self.pop("erin")
        ids = p.ask("UIDL")[1]
        with self.server.imap("erin") as c:
            c.select("INBOX")
            c.store("2", "+FLAGS", r"(\Deleted)")
            c.expunge()
        self.server.deliver("erin@example.test", MESSAGE % b"new")
        self.assertEqual(p.ask("UIDL")[1], ids)
        self.assertTrue(p.say("RETR 2").startswith(b"-ERR message 2 was removed"))
        self.assertTrue(p.say("TOP 2 0").startswith(b"-ERR message 2 was removed"))
        self.assertIn(b"Subject: 2\r\n", p.message(3))
        self.assertTrue(p.say("RETR 6").startswith(b"-ERR no such message"))
        p.say("DELE 2")
        p.say("DELE 5")
        self.assertTrue(p.say("QUIT").startswith(b"+OK"))
        self.assertEqual([s for s in self.subjects("erin") if s != b"new"], [b"0", b"2", b"3"])

    def test_what_was_retrieved_is_seen_after_quit(self):
        self.fill("erin", *(MESSAGE % b"%d" % i for i in range(3)))
        p = self.pop("erin")
        p.message(2)
        p.ask("TOP 1 0")
        p.quit()
        with self.server.imap("erin") as c:
            c.select("INBOX", readonly=True)
            self.assertEqual(c.search(None, "SEEN")[1], [b"2"])

    def test_an_idling_imap_client_hears_of_removals(self):
        self.fill("erin", MESSAGE % b"1", MESSAGE % b"2")
        with self.server.raw("imap") as raw:
            raw.line()
            raw.send(b"a LOGIN erin@example.test secret\r\nb SELECT INBOX\r\nc IDLE\r\n")
            raw.until(b"+ ")
            p = self.pop("erin")
            p.say("DELE 1")
            p.quit()
            self.assertEqual(raw.until(b"* 1 EXPUNGE")[-1], b"* 1 EXPUNGE\r\n")

    def test_many_messages_in_order_and_out_of_order(self):
        bodies = [MESSAGE % b"%d" % i + b"line %d\r\n" % i * (i % 97 * 10) for i in range(400)]
        self.fill("carol", *bodies)
        p = self.pop("carol")
        self.assertEqual(p.sizes(), [len(b) for b in bodies])
        for n in list(range(1, 401)) + [400, 1, 200, 199, 201, 3]:
            self.assertEqual(p.message(n), bodies[n - 1])
        for n in range(1, 401):
            if n % 3 == 0:
                p.say(f"DELE {n}")
        for n in range(1, 401):
            if n % 3:
                self.assertEqual(b"".join(p.ask(f"TOP {n} 1")[1]), b"".join(bodies[n - 1].splitlines(True)[:5]))
        p.quit()
        self.assertEqual(len(self.subjects("carol")), 400 - 133)


class PlainOnlyTest(Pop3Test):
    settings = {"login_plaintext_loopback": "no"}
    accounts = ("alice",)

    def test_passwords_in_the_clear_are_refused(self):
        p = self.pop()
        words = p.ask("CAPA")[1]
        self.assertNotIn(b"USER\r\n", words)
        self.assertIn(b"SASL SCRAM-SHA-256\r\n", words)
        self.assertTrue(p.say("USER alice@example.test").startswith(b"-ERR [SYS/PERM] "))
        self.assertTrue(p.say("PASS secret").startswith(b"-ERR [SYS/PERM] "))
        self.assertTrue(p.say(f"AUTH PLAIN {plain('alice')}").startswith(b"-ERR [SYS/PERM] "))

    def test_stls(self):
        for ahead in (b"", b"NOOP\r\n"):
            p = self.pop()
            p.send(b"STLS\r\n" + ahead)
            self.assertTrue(p.raw.line().startswith(b"+OK"))
            if ahead:
                self.assertIn(p.raw.sock.recv(100)[:4], (b"-ERR", b""))
                continue
            p.raw.sock = self.server.tls_context().wrap_socket(p.raw.sock, server_hostname="localhost")
            p.raw.file = p.raw.sock.makefile("rb")
            words = p.ask("CAPA")[1]
            self.assertNotIn(b"STLS\r\n", words)
            self.assertIn(b"SASL SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN\r\n", words)
            self.assertTrue(p.say("STLS").startswith(b"-ERR"))
            self.assertTrue(p.say("USER alice@example.test").startswith(b"+OK"))
            self.assertTrue(p.say("PASS secret").startswith(b"+OK"))

    def test_poplib_over_tls(self):
        self.server.deliver("alice@example.test", MESSAGE % b"for poplib")
        c = poplib.POP3_SSL("localhost", self.server.port("pop3s"), context=self.server.tls_context(), timeout=60)
        c.user("alice@example.test")
        c.pass_(PASSWORD)
        count, size = c.stat()
        self.assertEqual(count, 1)
        answer, lines, octets = c.retr(1)
        self.assertIn(b"Subject: for poplib", lines)
        self.assertEqual(sum(len(line) + 2 for line in lines), size)
        self.assertIn("UIDL", c.capa())
        self.assertTrue(c.uidl(1).startswith(b"+OK 1 "))
        c.dele(1)
        c.quit()
        c = poplib.POP3("localhost", self.server.port("pop3"), timeout=60)
        c.stls(self.server.tls_context())
        c.user("alice@example.test")
        c.pass_(PASSWORD)
        self.assertEqual(c.stat(), (0, 0))
        c.quit()


class LimitTest(Pop3Test):
    settings = {"pop3_errors_max": "5", "pop3_login_timeout": "3s", "pop3_mark_seen": "no"}
    accounts = ("alice",)

    def test_errors_end_the_session(self):
        p = self.pop()
        for _ in range(5):
            self.assertTrue(p.say("XYZZY").startswith(b"-ERR unknown"))
        self.assertTrue(p.say("XYZZY").startswith(b"-ERR unknown"))
        self.assertTrue(p.raw.line().startswith(b"-ERR too many"))
        self.assertEqual(p.raw.line(), b"")

    def test_long_lines_are_refused_and_the_session_goes_on(self):
        p = self.pop("alice")
        self.assertTrue(p.say(b"NOOP " + b"x" * 100_000).startswith(b"-ERR the line is longer"))
        self.assertTrue(p.say("NOOP").startswith(b"+OK"))

    def test_who_does_not_log_in_is_disconnected(self):
        p = self.pop()
        self.assertEqual(p.raw.line(), b"")
        p = self.pop()
        try:
            while p.say("CAPA"):
                p.body()
                time.sleep(0.2)
        except (AssertionError, ConnectionError):
            pass                                            # it ends, however busy the client is

    def test_seen_is_a_setting(self):
        self.server.deliver("alice@example.test", MESSAGE % b"x")
        p = self.pop("alice")
        p.message(1)
        p.quit()
        with self.server.imap("alice") as c:
            c.select("INBOX", readonly=True)
            self.assertEqual(c.search(None, "SEEN")[1], [b""])


class HostileTest(Pop3Test):
    accounts = ("alice",)

    def test_clients_that_do_not_read_hold_no_more_than_their_share(self):
        message = MESSAGE % b"big" + b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 20_000
        self.fill("alice", *[message] * 3)
        p = self.pop("alice")
        try:
            p.raw.sock.settimeout(3)                        # its patience, not a verdict
            for _ in range(20_000):
                p.send(b"RETR 1\r\nRETR 2\r\nLIST\r\nTOP 3 9999\r\n")
        except TimeoutError:
            pass
        q = self.pop()
        self.assertTrue(q.say("CAPA").startswith(b"+OK"))
        p.close()

        def enters():
            with Pop3(self.server) as r:
                r.say("USER alice@example.test")
                return r.say("PASS secret").startswith(b"+OK") and r.say("QUIT")
        self.assertTrue(eventually(enters))

    def test_a_half_closed_client_gets_its_answers_and_removes_nothing(self):
        self.fill("alice", MESSAGE % b"1", MESSAGE % b"2")
        p = self.pop("alice")
        p.send(b"DELE 1\r\nLIST\r\nRETR 2\r\n")
        p.raw.sock.shutdown(socket.SHUT_WR)
        rest = p.raw.file.read()
        self.assertEqual(rest.count(b"+OK"), 3)
        self.assertTrue(rest.endswith(MESSAGE % b"2" + b".\r\n"))
        self.assertEqual(len(self.subjects("alice")), 2)

    def test_the_message_that_is_asked_for_may_go_at_any_moment(self):
        self.fill("alice", *(MESSAGE % b"%d" % i for i in range(200)))
        p = self.pop("alice")
        with self.server.imap("alice") as c:
            c.select("INBOX")
            for n in range(1, 201):
                if n % 10 == 5 and n < 150:                 # messages before and behind the one that is next, then all
                    c.store("1:*" if n == 145 else f"1,{n // 2}", "+FLAGS", r"(\Deleted)")
                    c.expunge()
                self.assertRegex(p.ask(f"RETR {n}")[0], rb"^(\+OK|-ERR message \d+ was removed)")
        self.assertTrue(p.quit().startswith(b"+OK"))


class CrashTest(Pop3Test):
    expects_losses = True
    accounts = ("alice",)

    def test_a_dead_workers_maildrops_are_free_again(self):
        p = self.pop("alice")
        p.say("DELE 1")
        for i in range(self.workers):
            for pid in self.server.named(f"worker-{i}"):
                os.kill(pid, signal.SIGKILL)
        self.assertEqual(p.raw.line(), b"")

        def enters():
            try:
                with Pop3(self.server) as q:
                    q.say("USER alice@example.test")
                    return q.say("PASS secret").startswith(b"+OK") and q.say("QUIT")
            except OSError:
                return False
        self.assertTrue(eventually(enters))

    def test_a_shutdown_says_so(self):
        p = self.pop("alice")
        self.server.stop()
        self.assertTrue(p.raw.line().startswith(b"-ERR [SYS/TEMP] "))
        self.assertEqual(p.raw.line(), b"")
        self.server.start()


class ProgramTest(Pop3Test):
    accounts = ("alice", "bob")

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="merpati-pop3-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.ca = str(self.server.data / "tls/ca.pem")

    def run_program(self, *command, status=(0,)):
        result = subprocess.run(command, capture_output=True, timeout=300, env={**os.environ, "HOME": str(self.folder)})
        self.assertIn(result.returncode, status, f"{' '.join(command)}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}")
        return result.stdout

    @unittest.skipUnless(shutil.which("curl"), "curl is not installed")
    def test_curl(self):
        self.fill("alice", MESSAGE % b"for curl", MESSAGE % b"another")
        for scheme, port, more in (("pop3", "pop3", ["--ssl-reqd"]), ("pop3s", "pop3s", [])):
            for login in ("AUTH=*", "AUTH=PLAIN", "AUTH=LOGIN"):
                options = ["curl", "-sS", "--max-time", "60", "--cacert", self.ca, "--user", f"alice@example.test:{PASSWORD}",
                           "--login-options", login, *more]
                url = f"{scheme}://localhost:{self.server.port(port)}/"
                self.assertEqual(self.run_program(*options, url + "1"), MESSAGE % b"for curl")
            self.assertIn(b"2 ", self.run_program(*options, url))
            self.run_program("curl", "-sS", "--max-time", "60", "--cacert", self.ca, *more, "--user", "alice@example.test:wrong", url,
                             status=(67,))

    @unittest.skipUnless(shutil.which("fetchmail"), "fetchmail is not installed")
    def test_fetchmail_keeps_knows_and_takes(self):
        bodies = [MESSAGE % b"%d" % i + b".dot\r\n" * i for i in range(20)]
        self.fill("bob", *bodies)
        box = self.folder / "box"
        mda = self.folder / "mda"
        mda.write_text(f"#!/bin/sh\ncat >>{box}\n")
        mda.chmod(0o755)
        rc = self.folder / "fetchmailrc"

        def fetch(options, status=(0,)):
            rc.write_text(f"poll localhost proto pop3 port {self.server.port('pop3s')} uidl user bob@example.test pass {PASSWORD} "
                          f"ssl sslcertck sslcertfile {self.ca} {options} mda {mda}\n")
            rc.chmod(0o600)
            self.run_program("fetchmail", "-f", str(rc), "-i", str(self.folder / "ids"), "--pidfile", str(self.folder / "pid"),
                             "--nosyslog", status=status)
            return box.read_bytes().count(b"Subject: ") if box.exists() else 0

        self.assertEqual(fetch("keep"), 20)
        self.assertEqual(fetch("keep", status=(1,)), 20)   # 1: there was no new mail
        self.server.deliver("bob@example.test", MESSAGE % b"new")
        self.assertEqual(fetch("keep"), 21)
        self.assertEqual(len(self.subjects("bob")), 21)
        box.unlink()
        self.assertEqual(fetch("nokeep fetchall"), 21)
        with self.server.imap("bob") as c:
            self.assertEqual(c.select("INBOX")[1], [b"0"])
        for b in bodies:
            self.assertIn(b.split(b"\r\n\r\n")[1].replace(b"\r\n", b"\n"), box.read_bytes())

    @unittest.skipUnless(shutil.which("mpop"), "mpop is not installed")
    def test_mpop(self):
        self.fill("bob", *(MESSAGE % b"%d" % i for i in range(10)))
        rc = self.folder / "mpoprc"
        maildir = self.folder / "maildir"
        for sub in ("cur", "new", "tmp"):
            (maildir / sub).mkdir(parents=True)
        for method in ("scram-sha-256", "plain", "login", "user"):
            rc.write_text(f"account default\nhost localhost\nport {self.server.port('pop3')}\nuser bob@example.test\npassword {PASSWORD}\n"
                          f"tls on\ntls_starttls on\ntls_trust_file {self.ca}\ndelivery maildir {maildir}\nkeep on\npipelining on\n"
                          f"auth {method}\nuidls_file {self.folder}/uidls\n")
            rc.chmod(0o600)
            self.run_program("mpop", "-C", str(rc))
            self.assertEqual(len(list((maildir / "new").iterdir())), 10)


if __name__ == "__main__":
    unittest.main()
