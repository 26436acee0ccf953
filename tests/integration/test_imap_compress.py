"""COMPRESS=DEFLATE (RFC 4978): the same answers, fewer bytes, in the clear and under TLS; streams that are none."""

import os
import unittest
import zlib

from harness import PASSWORD, ROOT, Server, ServerTest
from imap_wire import Session, response
from test_hostile import resident_kb, workers_of

MESSAGE = b"From: a@elsewhere.test\r\nTo: alice@example.test\r\nSubject: %s\r\n\r\nHello.\r\n"


class Zipped:
    """A socket's file and send(), compressed."""

    def __init__(self, session, flush=zlib.Z_SYNC_FLUSH):
        self.sock, self.flush = session.sock, flush
        self.out, self.inside = zlib.compressobj(6, zlib.DEFLATED, -15), zlib.decompressobj(-15)
        self.held, self.received = b"", 0

    def fill(self):
        data = self.sock.recv(65536)
        self.received += len(data)
        self.held += self.inside.decompress(data)
        return bool(data)

    def readline(self):
        while b"\n" not in self.held:
            if not self.fill():
                break
        end = self.held.find(b"\n") + 1 or len(self.held)
        line, self.held = self.held[:end], self.held[end:]
        return line

    def read(self, size=None):
        while size is None or len(self.held) < size:
            if not self.fill():
                break
        size = len(self.held) if size is None else size
        data, self.held = self.held[:size], self.held[size:]
        return data

    def send(self, data):
        self.sock.sendall(self.out.compress(data if isinstance(data, bytes) else data.encode()) + self.out.flush(self.flush))

    def close(self):
        pass


class ZippedSession(Session):
    zipped = None

    def compress(self, **kw):
        self.ok("COMPRESS DEFLATE")
        self.file = self.zipped = Zipped(self, **kw)
        return self

    def send(self, data):
        self.zipped.send(data) if self.zipped else super().send(data)


class CompressTest(ServerTest):
    accounts = ("alice", "bob")

    def session(self, user="alice", mailbox=None):
        s = ZippedSession(self.server, user, mailbox)
        self.addCleanup(s.close)
        return s

    def tls_session(self):
        s = ZippedSession(self.server)
        self.addCleanup(s.close)
        s.ok("STARTTLS")
        s.sock = self.server.tls_context().wrap_socket(s.sock, server_hostname="localhost")
        s.file = s.sock.makefile("rb")
        s.ok(f"LOGIN alice@example.test {PASSWORD}")
        return s

    def test_offered_after_log_in_only_and_while_it_is_not_active(self):
        s = self.session(None)
        self.assertNotIn(b"COMPRESS", s.ok("CAPABILITY")[0])
        self.assertTrue(s.refused("COMPRESS DEFLATE").startswith(b"BAD"))
        s.ok(f"LOGIN alice@example.test {PASSWORD}")
        self.assertIn(b" COMPRESS=DEFLATE", s.ok("CAPABILITY")[0])
        s.compress()
        self.assertNotIn(b"COMPRESS", s.ok("CAPABILITY")[0])

    def test_bad_arguments_change_nothing(self):
        s = self.session()
        for text in ("COMPRESS", "COMPRESS LZ4", "COMPRESS DEFLATE 9", 'COMPRESS "DEFLATE"', "COMPRESS "):
            self.assertTrue(s.refused(text).startswith(b"BAD"), text)
        s.ok("NOOP")
        s.compress()
        self.assertTrue(s.refused("COMPRESS DEFLATE").startswith(b"NO [COMPRESSIONACTIVE] "))
        s.ok("NOOP")

    def test_all_commands_work_in_the_clear_and_under_tls(self):
        for s in (self.session("alice", None), self.tls_session()):
            s.compress()
            body = MESSAGE % b"zipped" + b"".join(b"line %d of some length\r\n" % i for i in range(20_000))
            s.append("Drafts", body)
            s.ok("SELECT Drafts")
            fetched = s.ok("FETCH * BODY.PEEK[]")[0]
            self.assertIn(body, fetched)
            s.idle()
            s.done()
            s.send(b"a NOOP\r\nb NOOP\r\nc UID SEARCH ALL\r\n")
            self.assertEqual(response(s), b"a OK NOOP completed\r\n")
            self.assertEqual(response(s), b"b OK NOOP completed\r\n")
            s.finish(b"c")
            self.assertEqual(s.command("LOGOUT")[1][:2], b"OK")
            self.assertEqual(s.file.read(), b"")

    def test_answers_become_much_smaller(self):
        s = self.session("bob")
        for i in range(300):
            s.append("INBOX", MESSAGE % b"number %d" % i)
        plain = sum(map(len, s.ok("SELECT INBOX") + s.ok("FETCH 1:* (UID FLAGS ENVELOPE)")))
        s.compress()
        s.ok("FETCH 1:* (UID FLAGS ENVELOPE)")
        self.assertLess(s.zipped.received * 6, plain)

    def test_news_reach_an_idling_compressed_session(self):
        for flush in (zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_PARTIAL_FLUSH):
            s = self.session("alice", "INBOX").compress(flush=flush)
            s.idle()
            self.server.deliver("alice@example.test", MESSAGE % b"pushed")
            s.until_told(rb"\* \d+ EXISTS")
            s.done()

    def test_a_client_may_compress_ahead_of_the_answer(self):
        s = self.session()
        zipped = Zipped(s)
        s.sock.sendall(b"c COMPRESS DEFLATE\r\n" + zipped.out.compress(b"d NOOP\r\ne NOOP\r\n") + zipped.out.flush(zlib.Z_SYNC_FLUSH))
        self.assertTrue(s.line().startswith(b"c OK"))
        buffered = len(s.file.peek())                       # may have come in one packet with the answer
        zipped.held = zipped.inside.decompress(s.file.read(buffered))
        s.file = s.zipped = zipped
        self.assertEqual(response(s), b"d OK NOOP completed\r\n")
        self.assertEqual(response(s), b"e OK NOOP completed\r\n")

    def test_unauthenticate_ends_it_on_both_sides(self):
        for flush in (zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_FINISH):
            s = self.session().compress()
            s.ok("SELECT INBOX")
            s.zipped.flush = flush
            s.send(b"u UNAUTHENTICATE\r\n")
            self.assertRegex(response(s), rb"^u OK ")
            self.assertEqual(s.zipped.held + s.zipped.inside.unused_data, b"")
            s.zipped, s.file = None, s.sock.makefile("rb")
            self.assertNotIn(b"COMPRESS", s.ok("CAPABILITY")[0])
            s.ok(f"LOGIN bob@example.test {PASSWORD}")
            s.compress()
            s.ok("SELECT INBOX")

    def test_what_is_compressed_behind_unauthenticate_is_no_command(self):
        s = self.session().compress()
        s.send(b"u UNAUTHENTICATE\r\nv LOGIN bob@example.test secret\r\n")
        self.assertRegex(response(s), rb"^u OK ")
        self.assertEqual(s.file.read(), b"")

    def test_bytes_that_are_no_deflate_end_the_session(self):
        for garbage in (b"d NOOP\r\n", b"\xff" * 100, os.urandom(70000) + b"\xff" * 100):
            s = self.session().compress()
            s.ok("NOOP")
            try:
                s.sock.sendall(garbage)
                self.assertNotIn(b"OK", s.file.read())
            except (ConnectionError, zlib.error):
                pass
        self.session().ok("NOOP")

    def test_a_client_that_ends_its_stream_is_heard_out(self):
        s = self.session().compress()
        s.sock.sendall(s.zipped.out.compress(b"a NOOP\r\nb NOOP\r\n") + s.zipped.out.flush(zlib.Z_FINISH))
        self.assertEqual(s.file.read().count(b" OK NOOP"), 2)

    def test_bombs_meet_the_limits_of_what_they_become(self):
        bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
        s = self.session().compress()
        data = b"".join(bomb.compress(b"\0" * 1_000_000) for _ in range(200)) + bomb.flush(zlib.Z_SYNC_FLUSH)
        try:
            s.sock.sendall(data)                            # a line of 200 MB in 200 KB
            self.assertNotIn(b" OK", s.file.read())
        except ConnectionError:
            pass
        s = self.session().compress()
        tag = s.tag()
        s.send(tag + b" NOOP " + b"x" * 1_000_000 + b"\r\n")
        self.assertTrue(response(s).split(b" ", 1)[1].startswith(b"BAD"))
        s.ok("NOOP")


class EmptyBlocksTest(ServerTest):
    workers = 1
    accounts = ("alice",)

    def test_endless_empty_blocks_hold_nobody_up(self):
        """Ten bits each, which become nothing: a sender that is faster than inflate() must not have the worker to itself."""
        with ZippedSession(self.server, "alice") as s, Session(self.server, "alice") as other:
            s.compress()
            s.sock.settimeout(60)
            try:
                with self.assertRaises(ConnectionError):
                    while True:
                        s.sock.sendall(b"\x02\x08\x20\x80\x00" * 200_000)
            finally:
                s.sock.close()
            other.ok("NOOP")


@unittest.skipUnless((ROOT / "build/merpati").exists(), "figures need a build without sanitizers")
class CompressMemoryTest(unittest.TestCase):
    COUNT = 300

    def test_idle_sessions_cost_little_more(self):
        server = Server(workers=1, binary=ROOT / "build/merpati")
        self.addCleanup(server.remove)
        server.start()
        server.cli("domain", "add", "example.test")
        server.add_accounts("alice")
        (pid,) = workers_of(server)
        with ZippedSession(server, "alice", "INBOX") as s:
            s.ok("NOOP")
        before = resident_kb(pid)
        held = [ZippedSession(server, "alice", "INBOX").compress() for _ in range(self.COUNT)]
        for s in held:
            self.addCleanup(s.close)
            s.ok("NOOP")
            s.idle()
        each = (resident_kb(pid) - before) / self.COUNT
        print(f"{each:.1f} KB a compressed idle session", flush=True)
        self.assertLess(each, 60)                           # zlib's own states would be 310


if __name__ == "__main__":
    unittest.main()
