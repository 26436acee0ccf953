"""Clients that mean harm or know no better: refused with the right words, within bounded memory, while others are served."""

import pathlib
import random
import socket
import unittest

from harness import ROOT, Server, ServerTest, eventually
from imap_wire import Session, response

MESSAGE = b"From: a@elsewhere.test\r\nTo: alice@example.test\r\nSubject: %s\r\n\r\nHello.\r\n"
MB = 1024 * 1024


def workers_of(server):
    return sorted(pid for i in range(server.workers) for pid in server.named(f"worker-{i}"))


def resident_kb(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


class Abuse:
    """Ways to ask too much; each returns when the server has had its say. Used under sanitizers and for measuring."""

    def __init__(self, server):
        self.server = server

    def smtp(self):
        raw = self.server.raw("smtp")
        raw.reply()
        raw.send(b"EHLO client.test\r\n")
        raw.reply()
        return raw

    def send_all_it_takes(self, raw, block, times):
        """Sends until all is sent or the server has closed."""
        try:
            for _ in range(times):
                raw.send(block)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def endless_line(self, port, size=64 * MB):
        with self.server.raw(port) as raw:
            raw.line()
            self.send_all_it_takes(raw, b"x" * MB, size // MB)

    def recipients(self, total=1_000_000, window=2000):
        """Pipelined RCPTs, read in step so that neither side's buffers decide; codes by count."""
        codes, sent = {}, 0
        with self.smtp() as raw:
            raw.send(b"MAIL FROM:<a@b.test>\r\n")
            raw.reply()
            while sent < total:
                try:
                    raw.send(b"".join(b"RCPT TO:<alice+%d@example.test>\r\n" % i for i in range(sent, sent + window)))
                except (BrokenPipeError, ConnectionResetError):
                    pass                # what it said before it closed can still be read
                for _ in range(window):
                    try:
                        answer = raw.reply()
                    except ConnectionResetError:
                        answer = b""
                    if not answer:
                        return codes
                    codes[answer[:3]] = codes.get(answer[:3], 0) + 1
                sent += window
        return codes

    def recipients_unread(self, total=1_000_000):
        """The same from a client that never reads."""
        raw = self.smtp()
        raw.sock.settimeout(5)          # its patience, not a verdict
        try:
            raw.send(b"MAIL FROM:<a@b.test>\r\n")
            for start in range(0, total, 1000):
                raw.send(b"".join(b"RCPT TO:<x%d@example.test>\r\n" % i for i in range(start, start + 1000)))
        except OSError:
            pass
        return raw

    def fetch_unread(self, user, times):
        """Asks for everything again and again and reads nothing."""
        session = Session(self.server, user, "INBOX")
        session.sock.settimeout(5)
        try:
            for i in range(times):
                session.send(b"f%d FETCH 1:* BODY.PEEK[]\r\n" % i)
        except OSError:
            pass
        return session

    def literal(self, session, size, command=b"APPEND INBOX ", plus=b"", send=0):
        """Announces a literal of `size`, sends some of it if asked to; the server's last word."""
        session.send(b"lit " + command + b"{%d%s}\r\n" % (size, plus))
        if send:
            self.send_all_it_takes(session, b"x" * MB, send // MB)
        try:
            while (r := response(session)).startswith(b"*") and not r.startswith(b"* BYE"):
                pass
            return r
        except ConnectionResetError:
            return b""


class HostileTest(ServerTest):
    accounts = ("alice", "bob")
    settings = {"smtp_errors_max": "100", "imap_errors_max": "20"}

    def setUp(self):
        self.before = workers_of(self.server)
        self.abuse = Abuse(self.server)

    def tearDown(self):
        """Whatever was done: the same workers are there, and they serve."""
        self.assertEqual(workers_of(self.server), self.before, self.server.log()[-3000:])
        self.assert_served()

    def assert_served(self):
        for _ in range(4):
            with Session(self.server, "bob", "INBOX") as s:
                count = len(s.ok("UID SEARCH ALL")[0].split()) - 2
            self.server.deliver("bob@example.test", MESSAGE % b"still here")
            with Session(self.server, "bob", "INBOX") as s:
                self.assertEqual(len(s.ok("UID SEARCH ALL")[0].split()) - 2, count + 1)

    def keep(self, closeable):
        self.addCleanup(closeable.close)
        return closeable

    # ---- lines and literals -----------------------------------------------------------------------
    def test_overlong_imap_line_is_refused_and_the_session_goes_on(self):
        s = self.keep(Session(self.server, "alice"))
        s.send(b"a NOOP " + b"x" * (3 * MB) + b"\r\n")
        self.assertRegex(response(s), rb"^(a|\*) BAD .*longer")
        self.assertEqual(s.ok("NOOP"), [])

    def test_line_without_end_is_not_kept(self):
        for port in ("smtp", "submission", "lmtp", "imap", "http"):
            self.abuse.endless_line(port)

    def test_literal_of_four_gigabytes_is_refused_when_announced(self):
        s = self.keep(Session(self.server, "alice"))
        for size in (4 * 1024 * MB, 2**32 - 1, 2**31, 51 * MB):
            self.assertRegex(self.abuse.literal(s, size), rb"^lit NO \[TOOBIG\]")
        for command in (b"CREATE ", b"SEARCH SUBJECT ", b"LIST \"\" "):
            self.assertRegex(self.abuse.literal(s, 4 * 1024 * MB, command), rb"^lit (NO|BAD)")
        self.assertEqual(s.ok("NOOP"), [])

    def test_number_beyond_all_numbers_is_refused(self):
        for text in (b"99999999999999999999999", b"18446744073709551616", b"-1", b"", b"4294967296 ", b"0x10", b"1+1"):
            s = self.keep(Session(self.server, "alice"))
            s.send(b"lit APPEND INBOX {" + text + b"}\r\n")
            self.assertRegex(response(s), rb"^(lit|\*) (NO|BAD|BYE)", text)

    def test_unasked_literal_of_four_gigabytes_ends_the_session(self):
        s = self.keep(Session(self.server, "alice"))
        last = self.abuse.literal(s, 4 * 1024 * MB, plus=b"+", send=128 * MB)
        self.assertTrue(last == b"" or last.startswith((b"* BYE", b"lit NO", b"lit BAD")), last)

    def test_unasked_literal_that_is_merely_too_big_is_refused_and_the_session_goes_on(self):
        s = self.keep(Session(self.server, "alice"))
        s.send(b"lit CREATE {%d+}\r\n" % (2 * MB) + b"x" * (2 * MB) + b"\r\n")
        self.assertRegex(response(s), rb"^lit (NO|BAD) ")
        self.assertEqual(s.ok("NOOP"), [])

    def test_literal_before_login_is_small(self):
        s = self.keep(Session(self.server))
        self.assertRegex(self.abuse.literal(s, 1 * MB, b"LOGIN "), rb"^lit (NO|BAD)")
        s.send(b"b LOGIN {5}\r\n")
        self.assertTrue(s.line().startswith(b"+"))
        s.send(b"alice {6}\r\n")
        self.assertTrue(s.line().startswith(b"+"))
        s.send(b"secret\r\n")
        self.assertRegex(response(s), rb"^b OK")

    def test_unterminated_literal_leaves_nothing_behind(self):
        for ending in ("close", "half", "reset"):
            s = Session(self.server, "alice")
            s.send(b"lit APPEND INBOX {1000}\r\n")
            self.assertTrue(s.line().startswith(b"+"))
            s.send(b"Subject: never finished\r\n")
            if ending == "half":
                s.sock.shutdown(socket.SHUT_WR)
                self.assertNotIn(b"lit OK", s.file.read())
            if ending == "reset":
                s.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            s.close()
        s = self.keep(Session(self.server, "alice", "INBOX"))
        self.assertEqual(s.ok('SEARCH SUBJECT "never finished"'), [b"* SEARCH\r\n"])

    def test_deep_and_wide_commands_are_refused_or_answered(self):
        s = self.keep(Session(self.server, "alice", "INBOX"))
        for text in ("SEARCH " + "(" * 20000 + "ALL" + ")" * 20000, "SEARCH " + "NOT " * 15000 + "ALL",
                     "SEARCH " + "OR ALL " * 8000 + "ALL", "FETCH 1:* (" + "FLAGS " * 10000 + "UID)",
                     "FETCH " + ",".join("4294967295:1" for _ in range(4000)) + " (UID)",
                     'LIST "" "' + "%*" * 20000 + 'x"', "STORE 1:* FLAGS (" + " ".join(f"k{i}" for i in range(9000)) + ")",
                     "SELECT " + "a/" * 20000 + "b", "CREATE " + "a" * 60000, "FETCH 1 BODY[" + "1." * 20000 + "1]",
                     "SEARCH SUBJECT " + "x" * 60000, "FETCH 1 (BODY[HEADER.FIELDS (" + "x " * 25000 + "y)])"):
            answer = s.command(text)[1]
            self.assertRegex(answer, rb"^(OK|NO|BAD) ", text[:40])
            if s.number > 15:
                s = self.keep(Session(self.server, "alice", "INBOX"))

    # ---- bytes --------------------------------------------------------------------------------------
    def test_nuls_and_bare_line_ends_in_imap_are_refused(self):
        for line in (b"a NO\0OP\r\n", b"\0\0\0\0\r\n", b"a LOGIN \"al\0ice\" x\r\n", b"a LOGIN {3+}\r\na\0b x\r\n", b"\r\n", b"a\r\n",
                     b" \r\n", b"a  NOOP\r\n", b"\x80\xff\xfe\r\n", b"+ NOOP\r\n", b"* NOOP\r\n", b"a NOOP\0\r\n"):
            s = self.keep(Session(self.server))
            s.send(line)
            self.assertRegex(response(s), rb"^\S+ (BAD|NO|BYE)", line)

    def test_garbage_on_every_port_ends_in_a_refusal(self):
        rng = random.Random(7)
        for port in ("smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s", "http", "https"):
            for size in (1, 100, 5000, 300_000):
                raw = self.server.raw(port)
                try:
                    raw.send(rng.randbytes(size))
                    raw.sock.shutdown(socket.SHUT_WR)
                    raw.file.read()     # until it closes: it must
                except OSError:         # it did before we had said all
                    pass
                raw.close()

    def test_garbage_with_line_ends_and_true_verbs(self):
        rng = random.Random(8)
        words = [b"EHLO", b"MAIL FROM:<", b"RCPT TO:<", b"DATA", b"BDAT 10", b"BDAT 99999999999999999999", b"AUTH PLAIN",
                 b"STARTTLS", b"a FETCH 1", b"a LOGIN", b"a IDLE", b"DONE", b"a AUTHENTICATE PLAIN", b"USER", b"PASS", b"RETR 1", b"TOP", b"GET / HTTP/1.1",
                 b"Content-Length: -1", b"Transfer-Encoding: chunked", b"{10}", b"{10+}", b"*", b"\r\n", b">", b"(", b"\"", b"\\"]
        for port in ("smtp", "submission", "lmtp", "imap", "pop3", "http"):
            for _ in range(20):
                line = b" ".join(rng.choice(words) + rng.randbytes(rng.randrange(4)) for _ in range(40)) + b"\r\n"
                with self.server.raw(port) as raw:
                    try:
                        raw.send(line)
                        raw.sock.shutdown(socket.SHUT_WR)
                        raw.file.read()
                    except OSError:
                        pass

    def test_http_requests_beyond_measure_are_refused(self):
        for head, codes in ((b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: " + b"y" * (2 * MB) + b"\r\n\r\n", b"4\\d\\d"),
                            (b"GET /" + b"y" * (2 * MB) + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"4\\d\\d"),
                            (b"GET /healthz HTTP/1.1\r\n" + b"A: b\r\n" * 200_000 + b"\r\n", b"4\\d\\d"),
                            (b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n", b"4\\d\\d"),
                            (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", b"4\\d\\d"),
                            (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"(2|4)\\d\\d"),
                            (b"GET /%00%ff/../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"4\\d\\d")):
            with self.server.raw("http") as raw:
                try:
                    raw.send(head)
                    answer = raw.line()
                except OSError:
                    answer = b""
                if answer:              # it may also close without reading megabytes of nonsense
                    self.assertRegex(answer, rb"^HTTP/1\.1 " + codes, head[:60])

    # ---- many ---------------------------------------------------------------------------------------
    def test_a_million_recipients(self):
        codes = self.abuse.recipients()
        self.assertEqual(codes.pop(b"250"), 1000)
        self.assertLessEqual(set(codes), {b"452", b"421"})
        self.assertGreater(codes[b"452"], 0)

    def test_a_million_unread_answers(self):
        self.keep(self.abuse.recipients_unread())
        self.assert_served()

    # ---- slow, silent and half gone ----------------------------------------------------------------------
    def drip(self, socks, text, rounds):
        for i in range(rounds):
            for sock in socks:
                sock.send(text[i:i + 1])

    def test_two_hundred_dripping_clients_do_not_keep_others_from_being_served(self):
        drips = {"smtp": b"EHLO slow.test\r\nMAIL FROM:<a@b.test>\r\n", "imap": b"a LOGIN alice@example.test se",
                 "imaps": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 40,
                 "http": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Drip: "}
        groups = {port: [self.keep(socket.create_connection(("127.0.0.1", self.server.port(port)))) for _ in range(50)]
                  for port in drips}
        for start in range(0, 24, 6):
            for port, socks in groups.items():
                self.drip(socks, drips[port][start:], 6)
            self.assert_served()

    def test_messages_that_drip_hold_nobody_up(self):
        held = []
        for _ in range(50):
            raw = self.keep(self.server.raw("smtp"))
            raw.send(b"EHLO x.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nSubject: drip\r\n")
            held.append(raw)
        self.assert_served()
        for raw in held:
            while not raw.line().startswith(b"354"):
                pass
            raw.send(b"\r\nx\r\n.\r\n")
            self.assertTrue(raw.reply().startswith(b"250"))

    def test_clients_that_never_speak(self):
        for port in ("smtp", "submissions", "imap", "imaps", "pop3", "pop3s", "http", "https"):
            for _ in range(50):
                self.keep(socket.create_connection(("127.0.0.1", self.server.port(port))))
        self.assert_served()

    def test_clients_that_leave_at_once(self):
        for i in range(600):
            sock = socket.create_connection(("127.0.0.1", self.server.port(("smtp", "imap", "imaps", "pop3", "https", "http")[i % 6])))
            if i % 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()

    def test_half_closed_imap_still_gets_its_answers(self):
        s = self.keep(Session(self.server, "alice"))
        s.send(b'x SELECT INBOX\r\ny FETCH 1:* (UID)\r\nz LIST "" "*"\r\n')
        s.sock.shutdown(socket.SHUT_WR)
        rest = s.file.read()
        for tag in (b"x", b"y", b"z"):
            self.assertIn(b"\r\n" + tag + b" ", b"\r\n" + rest)

    def test_half_closed_idle_ends(self):
        s = self.keep(Session(self.server, "alice", "INBOX"))
        s.idle()
        s.sock.shutdown(socket.SHUT_WR)
        s.file.read()                   # to its end, which must come

    def test_half_closed_in_the_middle_of_a_message_delivers_nothing(self):
        raw = self.keep(self.abuse.smtp())
        raw.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\nSubject: cut off\r\n\r\nhalf a messa")
        raw.sock.shutdown(socket.SHUT_WR)
        self.assertNotIn(b"250 2.0.0", raw.file.read())
        s = self.keep(Session(self.server, "alice", "INBOX"))
        self.assertEqual(s.ok('SEARCH SUBJECT "cut off"'), [b"* SEARCH\r\n"])


class CrowdTest(ServerTest):
    """More clients than a worker takes."""
    workers = 1
    settings = {"connections_max": "12"}

    def test_one_too_many_is_sent_away_and_the_next_free_place_is_taken(self):
        held = [Session(self.server, "alice") for _ in range(12)]
        for port, words in (("smtp", b"^(421 |$)"), ("imap", rb"^(\* BYE |$)"), ("pop3", b"^(-ERR |$)"), ("imaps", b"^$"), ("https", b"^$")):
            with self.server.raw(port) as raw:
                try:
                    self.assertRegex(raw.line(), words)
                except ConnectionResetError:
                    pass
        for s in held:
            s.ok("NOOP")
        held.pop().close()

        def served():
            with self.server.raw("smtp") as raw:
                try:
                    return raw.line().startswith(b"220 ")
                except ConnectionResetError:
                    return False
        self.assertTrue(eventually(served))
        for s in held:
            s.close()


@unittest.skipUnless((ROOT / "build/merpati").exists(), "figures need a build without sanitizers")
class MemoryTest(unittest.TestCase):
    """The same abuse against the real build, for what its workers grow by: megabytes, where a fault would cost hundreds."""
    GROWTH_MAX_KB = 96 * 1024

    @classmethod
    def setUpClass(cls):
        cls.server = Server(workers=1, binary=ROOT / "build/merpati")
        cls.addClassCleanup(cls.server.remove)
        cls.server.start()
        cls.server.cli("domain", "add", "example.test")
        cls.server.add_accounts("alice", "bob")
        for i in range(20):
            cls.server.deliver("alice@example.test", MESSAGE % b"big" + b"x" * 76 + (b"\r\n" + b"y" * 76) * 20000 + b"\r\n")

    def worker(self):
        (pid,) = workers_of(self.server)
        return pid

    def setUp(self):
        self.abuse, self.held = Abuse(self.server), []

    def hold(self, client):
        self.held.append(client)
        return client

    def endless_lines(self):
        for port in ("smtp", "imap", "http"):
            self.abuse.endless_line(port, 256 * MB)

    def unread_answers(self):
        for _ in range(3):
            self.hold(self.abuse.recipients_unread())

    def unread_mail(self):
        for _ in range(10):
            self.hold(self.abuse.fetch_unread("alice", 100))

    def literals(self):
        for _ in range(2):
            session = self.hold(Session(self.server, "alice"))
            self.abuse.literal(session, 4096 * MB, plus=b"+", send=512 * MB)

    def announced_literals(self):
        for _ in range(100):
            self.hold(Session(self.server, "alice")).send(b"a APPEND INBOX {50000000}\r\n")

    def test_memory_stays_bounded_whatever_is_asked(self):
        pid = self.worker()
        before = resident_kb(pid)
        for act in (self.endless_lines, self.abuse.recipients, self.unread_answers, self.unread_mail, self.literals,
                    self.announced_literals):
            with self.subTest(act.__name__):
                act()
                self.assertEqual(self.worker(), pid)
                self.assertLess(resident_kb(pid) - before, self.GROWTH_MAX_KB)
        for client in self.held:
            client.close()
        with Session(self.server, "bob", "INBOX") as s:
            s.ok("NOOP")


if __name__ == "__main__":
    unittest.main()
