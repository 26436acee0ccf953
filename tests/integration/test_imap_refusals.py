"""Malformed, oversized and endless input: each gets the right answer, and the session or its end is as it should be."""

import random
import socket
import unittest

from harness import ServerTest, eventually
from imap_wire import Session

MALFORMED = [
    "", " ", "()", "FETCH", "FETCH 1", "FETCH 0 FLAGS", "FETCH 1: FLAGS", "FETCH a FLAGS", "FETCH 1 (FLAGS", "FETCH 1 BODY[", "FETCH 1 BODY[HEADER.FIELDS]",
    "FETCH 1 BODY[]<1>", "UID", "UID FETCH", "UID NOOP", "UID LOGIN a b", "STORE 1", "STORE 1 FLAGS (", "SEARCH", "SEARCH OR SEEN", "SEARCH (", "SEARCH BEFORE x",
    "SEARCH RETURN (X) ALL", "COPY 1", "COPY x y", "MOVE", "SELECT", "SELECT INBOX x", "SELECT INBOX (X)", "LIST", 'LIST ""', 'LIST "" (', "STATUS INBOX",
    "STATUS INBOX ()", "STATUS INBOX (X)", "CREATE", "CREATE a b", "RENAME a", "APPEND", "APPEND INBOX", "APPEND INBOX x", 'APPEND INBOX "yesterday" x', "NOOP x",
    "IDLE x", "ENABLE", "ID", "ID (", 'ID ("a")', "CLOSE x", "EXPUNGE 1", "UID EXPUNGE", 'SELECT "INBOX', 'SELECT "a\\b"', "CREATE \x01", "NAMESPACE x", "LOGOUT x",
    "SEARCH KEYWORD \\Seen", "FETCH 4294967296 FLAGS", "FETCH 1 NONSENSE", "STORE 1 +FLAGS \\Nonsense",
]


class RefusalsTest(ServerTest):
    settings = {"imap_errors_max": "1000", "imap_append_max": "1M"}
    accounts = ("alice",)

    def session(self, user="alice", mailbox="INBOX"):
        s = Session(self.server, user, mailbox)
        self.addCleanup(s.close)
        return s

    def test_every_malformed_command_is_bad_and_the_session_goes_on(self):
        s = self.session()
        s.append("INBOX", b"Subject: x\r\n\r\ny\r\n")
        for text in MALFORMED:
            untagged, answer = s.command(text.encode("latin-1"))
            self.assertRegex(answer, rb"^BAD .{5,}", text)
            self.assertEqual(untagged, [], text)
        s.ok("NOOP")

    def test_a_line_without_tag_is_answered_untagged(self):
        s = self.session()
        for line in (b"\r\n", b"(\r\n", b"\x00\r\n", b"+ x\r\n", b"t1+x NOOP\r\n"):
            s.send(line)
            self.assertRegex(s.line(), rb"^\* BAD ")
        s.ok("NOOP")

    def test_an_overlong_line_is_refused_and_the_session_goes_on(self):
        s = self.session()
        s.send(b"x NOOP " + b"y" * 200000 + b"\r\n")
        self.assertRegex(s.line(), rb"^x BAD .*longer")
        s.ok("NOOP")

    def test_literals_are_bounded(self):
        s = self.session()
        self.assertRegex(s.refused("CREATE {4294967296}"), rb"^NO \[TOOBIG\]")
        self.assertRegex(s.refused(b"CREATE {1100000+}\r\n" + b"x" * 1100000), rb"^NO \[TOOBIG\]")
        self.assertRegex(s.refused(b"APPEND INBOX {1100000+}\r\n" + b"x" * 1100000), rb"^NO \[TOOBIG\]")
        s.ok("NOOP")
        s.send(b"x CREATE {4294967296+}\r\n")
        self.assertRegex(s.line(), rb"^\* BYE ")

    def test_literals_before_log_in_are_small(self):
        s = self.session(None, None)
        self.assertRegex(s.refused("LOGIN {5000} x"), rb"^BAD ")
        self.assertRegex(s.refused("LOGIN {5000}"), rb"^NO \[TOOBIG\]")
        self.assertRegex(s.refused(b"LOGIN {5000+}\r\n" + b"x" * 5000 + b" y"), rb"^NO \[TOOBIG\]")
        s.ok("NOOP")

    def test_a_message_sent_before_log_in_is_no_command(self):
        s = self.session(None, None)
        self.assertRegex(s.refused(b"APPEND INBOX {14+}\r\nx LOGIN a b\r\n\r\n"), rb"^BAD .*log-in")
        self.assertRegex(s.refused(b"APPEND INBOX {9000+}\r\n" + b"x NOOP\r\n" * 1125), rb"^NO \[TOOBIG\]")
        self.assertEqual(s.ok("NOOP"), [])

    def test_a_command_inside_idle_ends_it_and_is_not_run(self):
        s = self.session()
        for line in (b"x NOOP\r\n", b"x APPEND INBOX {9+}\r\ny NOOP\r\n\r\n", b"x CREATE {1+}\r\na {9+}\r\ny NOOP\r\n\r\n",
                     b"x APPEND INBOX {9}\r\n", b"DONE DONE\r\n", b"z" * 5000 + b"\r\n"):
            s.idle()
            s.send(line)
            self.assertRegex(s.line(), rb"^t\d+ BAD expected DONE")
            self.assertEqual(s.ok("NOOP"), [])

    def test_literals_behind_too_long_lines_are_no_commands(self):
        s = self.session()
        s.send(b"x CREATE {1+}\r\na" + b" " * 65530 + b" {8+}\r\nx NOOP\r\n\r\n")
        self.assertRegex(s.line(), rb"^x BAD .*longer")
        self.assertEqual(s.ok("NOOP"), [])

    def test_nesting_keys_and_items_are_bounded(self):
        s = self.session()
        self.assertRegex(s.refused("SEARCH " + "(" * 1000 + "ALL" + ")" * 1000), rb"^NO \[LIMIT\]")
        self.assertRegex(s.refused("SEARCH " + "NOT " * 1000 + "ALL"), rb"^NO \[LIMIT\]")
        self.assertRegex(s.refused("SEARCH " + "ALL " * 3000), rb"^NO \[LIMIT\]")
        self.assertRegex(s.refused("FETCH 1 (" + " ".join(["UID"] * 200) + ")"), rb"^NO \[LIMIT\]")
        self.assertRegex(s.refused("FETCH 1 BODY[" + ".".join(["1"] * 200) + "]"), rb"^NO \[LIMIT\]")
        self.assertRegex(s.refused('LIST "" "' + "*a" * 900 + '"'), rb"^NO \[LIMIT\]")
        s.ok('LIST "" "' + "*%" * 400 + '"')
        s.ok("FETCH " + ",".join(["1"] * 20000) + " UID")

    def test_a_half_closed_socket_gets_its_answers(self):
        s = self.session()
        s.send(b"x NOOP\r\ny NOOP\r\n")
        s.sock.shutdown(socket.SHUT_WR)
        self.assertEqual(s.file.read(), b"x OK NOOP completed\r\ny OK NOOP completed\r\n")

    def test_pipelined_commands_are_answered_in_their_order(self):
        s = self.session()
        s.send(b"".join(b"p%d NOOP\r\n" % i for i in range(2000)))
        for i in range(2000):
            self.assertEqual(s.line(), b"p%d OK NOOP completed\r\n" % i)

    def test_random_sessions_break_nothing(self):
        rng = random.Random(7)
        words = [b"a", b"FETCH", b"UID", b"1:*", b"(", b")", b"BODY[", b"]", b"HEADER.FIELDS", b"{3+}\r\nabc", b"{2}", b'"', b"\\Seen", b"SEARCH", b"OR", b"NOT",
                 b"LIST", b"*", b"%", b"APPEND", b"INBOX", b"STORE", b"+FLAGS", b"IDLE", b"DONE", b"\r\n", b"\n", b"\x00", b"\xff", b"4294967295", b"<0.1>", b"$",
                 b"SELECT", b"RETURN", b"STATUS", b"MOVE", b"COPY", b"EXPUNGE", b"NOOP", b"ENABLE", b"QRESYNC", b"CREATE", b"x", b"&", b"/"]
        for _ in range(60):
            s = self.session()
            try:
                for _ in range(30):
                    s.send(b"a " + b" ".join(rng.choice(words) for _ in range(rng.randrange(1, 12))) + b"\r\n")
                s.sock.shutdown(socket.SHUT_WR)
                while s.sock.recv(65536):
                    pass
            except OSError:
                pass
            s.close()
        self.session().ok("NOOP")


class EndlessGarbageTest(ServerTest):
    settings = {"imap_errors_max": "20", "imap_login_timeout": "2s"}
    accounts = ("alice",)

    def test_a_client_that_sends_garbage_for_ever_is_sent_away(self):
        s = Session(self.server, "alice")
        self.addCleanup(s.close)
        s.send(b"x FROBNICATE\r\n" * 30)
        lines = s.file.read().splitlines()
        self.assertEqual(sum(line.startswith(b"x BAD") for line in lines), 20)
        self.assertRegex(lines[-1], rb"^\* BYE Too many errors")

    def test_a_client_that_does_not_log_in_is_sent_away(self):
        for text in (b"", b"x LOGIN al"):
            s = Session(self.server)
            self.addCleanup(s.close)
            s.send(text)
            self.assertRegex(s.file.read(), rb"^\* BYE ")


class PlaintextTest(ServerTest):
    settings = {"login_plaintext_loopback": "no"}
    accounts = ("alice",)

    def test_passwords_are_not_taken_in_the_clear(self):
        s = Session(self.server)
        self.addCleanup(s.close)
        self.assertIn(b"LOGINDISABLED", s.greeting)
        self.assertNotIn(b"AUTH=PLAIN", s.greeting)
        for text in ("LOGIN alice@example.test secret", "AUTHENTICATE PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ="):
            self.assertRegex(s.refused(text), rb"^NO \[PRIVACYREQUIRED\]")

    def test_they_are_behind_starttls(self):
        c = self.server.imap()
        c.starttls(self.context())
        self.assertNotIn("LOGINDISABLED", c.capabilities)
        self.assertEqual(c.login("alice@example.test", "secret")[0], "OK")
        c.logout()

    def context(self):
        context = self.server.tls_context()
        context.check_hostname = False              # imaplib was given an address
        return context


class MemoryTest(ServerTest):
    settings = {"imap_append_max": "1M", "smtp_message_memory_max": "1M"}
    accounts = ("alice",)
    workers = 1

    def test_a_message_that_is_only_announced_takes_no_room_from_others(self):
        s, other, third = (Session(self.server, "alice") for _ in range(3))
        for each in (s, other, third):
            self.addCleanup(each.close)
        for waiting in (s, third):
            waiting.send(b"x APPEND INBOX {900000}\r\n")
            self.assertRegex(waiting.line(), rb"^\+ ")
        other.append("INBOX", b"Subject: x\r\n\r\n" + b"y" * 600000)
        s.send(b"z" * 500000)
        refused = eventually(lambda: other.command(b"APPEND INBOX {600000+}\r\n" + b"y" * 600000)[1].startswith(b"NO [UNAVAILABLE]"))
        self.assertTrue(refused)
        s.send(b"z" * 400000 + b"\r\n")
        self.assertRegex(s.until(b"x ")[-1], rb"^x OK ")


if __name__ == "__main__":
    unittest.main()
