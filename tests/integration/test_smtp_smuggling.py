"""One message stays one message: every known way to make two servers disagree about where it ends."""

import socket
import unittest

from harness import ServerTest

INNER = (b"MAIL FROM:<evil@b.test>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n"
         b"Subject: smuggled\r\n\r\nx\r\n.\r\n")

# What some server takes for the end of a message, and whether it is a text that may be taken (then it is text).
ENDINGS = [
    (b"\n.\n", False), (b"\n.\r\n", False), (b"\r\n.\n", False), (b"\r.\r", False), (b"\r.\r\n", False),
    (b"\r\n.\r", False), (b"\r.\n", False), (b"\n.\r", False), (b"\r\r\n.\r\r\n", False), (b"\n\n.\n\n", False),
    (b"\r\n.\r\r\n", False), (b"\r\n\r.\r\n", False), (b"\n\r.\n\r", False), (b"\r\n.\n\r\n", False),
    (b"\r\n\0.\r\n", True), (b"\r\n.\0\r\n", True), (b"\0\r\n.\0\n", False), (b"\r\n.\r\0\n", False), (b"\r\0\n.\r\n", False),
    (b"\r\n. \r\n", True), (b"\r\n .\r\n", True), (b"\r\n..\r\n", True), (b"\r\n...\r\n", True), (b"\r\n.\t\r\n", True),
    (b"\r\n.x\r\n", True), (b"\r\n\xef\xbb\xbf.\r\n", True), (b"\x0b.\x0b", True), (b"\x0c.\x0c", True),
    (b"\xc2\x85.\xc2\x85", True), (b"\xe2\x80\xa8.\xe2\x80\xa8", True), (b"\r\n\xe2\x80\xa4\r\n", True),
    (b"\r\n=2E\r\n", True), (b"=0D=0A.=0D=0A", True), (b"\\r\\n.\\r\\n", True), (b"\r\n\x2e\x08\x2e\r\n", True),
]


class SmugglingTest(ServerTest):
    settings = {"smtp_errors_max": "200"}

    def begin(self, port="smtp"):
        raw = self.server.raw(port)
        self.addCleanup(raw.close)
        raw.reply()
        for line in ("LHLO c.test" if port == "lmtp" else "EHLO c.test", "MAIL FROM:<a@b.test> BODY=8BITMIME",
                     "RCPT TO:<alice@example.test>"):
            raw.send(line + "\r\n")
            self.assertTrue(raw.reply().startswith(b"250"))
        return raw

    def subjects(self, user):
        with self.server.imap(user) as c:
            c.select("INBOX", readonly=True)
            data = c.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
            return [m[1].decode().strip()[9:] for m in data if isinstance(m, tuple)]

    def assert_answer(self, answer, is_text, what):
        self.assertTrue(answer.startswith(b"250 2.0.0" if is_text else b"550 5.7.1"), (what, answer))

    def check_data(self, ending, is_text, pieces):
        raw = self.begin()
        raw.send("DATA\r\n")
        self.assertTrue(raw.reply().startswith(b"354"))
        wire = b"Subject: outer\r\n\r\nx" + ending + INNER.replace(b"\r\n.\r\n", b"\r\n..\r\n") + b"\r\n.\r\nNOOP after\r\n"
        if pieces:
            raw.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(0, len(wire), pieces or len(wire)):
            raw.send(wire[i:i + (pieces or len(wire))])
        self.assert_answer(raw.reply(), is_text, ending)
        self.assertEqual(raw.reply(), b"250 2.0.0 ok\r\n", ending)
        raw.send(b"QUIT\r\n")
        self.assertTrue(raw.reply().startswith(b"221"), ending)
        raw.close()

    def test_only_crlf_dot_crlf_ends_a_message(self):
        for ending, is_text in ENDINGS:
            with self.subTest(ending):
                self.check_data(ending, is_text, 0)
        self.assertNotIn("smuggled", self.subjects("bob"))

    def test_packet_boundaries_change_nothing(self):
        for ending, is_text in ENDINGS:
            with self.subTest(ending):
                self.check_data(ending, is_text, 1)
        self.assertNotIn("smuggled", self.subjects("bob"))

    def test_chunks_hold_whole_lines_or_are_refused(self):
        for ending, is_text in ENDINGS:
            text = b"Subject: outer\r\n\r\nx" + ending + b"y\r\n"
            for cut in (len(text), *range(19, len(text))):
                with self.subTest(ending, cut=cut):
                    raw = self.begin()
                    raw.send(b"BDAT %d\r\n%sBDAT %d LAST\r\n%sNOOP\r\n" % (cut, text[:cut], len(text) - cut, text[cut:]))
                    self.assertTrue(raw.reply().startswith(b"250"))
                    # In chunks nothing is an end: what is odd in DATA alone may be a text here.
                    bare = text.replace(b"\r\n", b"")
                    self.assert_answer(raw.reply(), b"\r" not in bare and b"\n" not in bare, ending)
                    self.assertEqual(raw.reply(), b"250 2.0.0 ok\r\n")
                    raw.close()

    def test_a_last_cr_on_its_own_is_refused_in_chunks(self):
        raw = self.begin()
        raw.send(b"BDAT 16 LAST\r\nSubject: x\r\n\r\ny\r")
        self.assertTrue(raw.reply().startswith(b"550 5.7.1"))

    def test_binary_bodies_may_hold_anything_and_their_headers_may_not(self):
        for header, body, is_good in ((b"Subject: binary\r\n", b"a\nb\rc\0d\r\n.\r\n\r", True),
                                      (b"Subject: bin\nary\r\n", b"x", False), (b"Subject: b\rin\r\n", b"x", False),
                                      (b"", b"\n\n\r", True)):
            text = header + b"\r\n" + body
            for cut in range(len(text) + 1):
                raw = self.begin()
                raw.send(b"RSET\r\nMAIL FROM:<a@b.test> BODY=BINARYMIME\r\nRCPT TO:<alice@example.test>\r\n")
                self.assertEqual([raw.reply()[:3] for _ in range(3)], [b"250"] * 3)
                raw.send(b"BDAT %d\r\n%s" % (cut, text[:cut]))
                self.assertTrue(raw.reply().startswith(b"250"))
                raw.send(b"BDAT %d LAST\r\n%s" % (len(text) - cut, text[cut:]))
                self.assert_answer(raw.reply(), is_good, (text, cut))
                raw.close()

    def test_binary_mail_needs_chunks(self):
        raw = self.begin()
        raw.send(b"RSET\r\nMAIL FROM:<a@b.test> BODY=BINARYMIME\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n")
        self.assertEqual([raw.reply()[:3] for _ in range(4)], [b"250", b"250", b"250", b"503"])

    def test_lmtp_is_as_strict(self):
        raw = self.begin("lmtp")
        raw.send(b"DATA\r\nSubject: outer\r\n\r\nx\n.\r\n" + INNER.replace(b"\r\n.\r\n", b"\r\n..\r\n") + b"\r\n.\r\nNOOP\r\n")
        self.assertTrue(raw.reply().startswith(b"354"))
        self.assertTrue(raw.reply().startswith(b"550 5.7.1"))
        self.assertTrue(raw.reply().startswith(b"250 2.0.0 ok"))

    def test_a_bdat_that_cannot_be_read_ends_the_session(self):
        for command in (b"BDAT\r\n", b"BDAT x LAST\r\n", b"BDAT -1\r\n", b"BDAT 99999999999999999999 LAST\r\n", b"BDAT 65 FIRST\r\n",
                        b"BDAT 65\n", b"BDAT 65\0 LAST\r\n", b"BDAT 65\r LAST\r\n", b"BDAT\t65 LAST\r\n", b"BDAT 65 " + b"x" * 20000 + b"\r\n"):
            raw = self.begin()
            raw.send(command + INNER)
            self.assertIn(raw.reply()[:3], (b"500", b"501", b"552"), command)
            self.assertEqual(raw.file.read(), b"", command)
            raw.close()
        self.assertNotIn("smuggled", self.subjects("bob"))

    def test_commands_hold_no_line_ends(self):
        for command in (b"NOOP x\rRSET\r\n", b"RCPT TO:<bob@example.test>\n", b"NOOP \0\r\n", b"MAIL FROM:<a@b.test>\r\r\n"):
            raw = self.begin()
            raw.send(command)
            self.assertTrue(raw.reply().startswith(b"500 5.5.2"), command)
            raw.close()

    def test_what_is_not_smtp_is_sent_away_at_once(self):
        for text in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<a@b.test>\r\n", b"POST / HTTP/1.1\r\n", b"Subject: x\r\n",
                     b"X-Mailer: y\r\n"):
            raw = self.server.raw("smtp")
            raw.reply()
            raw.send(text)
            self.assertTrue(raw.reply().startswith(b"554 5.5.1"), text)
            self.assertEqual(raw.file.read(), b"", text)
            raw.close()

    def test_a_refused_data_does_not_turn_text_into_commands(self):
        raw = self.server.raw("smtp")
        self.addCleanup(raw.close)
        raw.reply()
        raw.send(b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<nobody@example.test>\r\nDATA\r\nSubject: x\r\n\r\n" + INNER)
        self.assertEqual([raw.reply()[:3] for _ in range(5)], [b"250", b"250", b"550", b"554", b"554"])
        self.assertEqual(raw.file.read(), b"")
        self.assertNotIn("smuggled", self.subjects("bob"))

    def test_nothing_sent_ahead_of_tls_is_read_after_it(self):
        for ahead in (b"\r\n", b"EHLO x\r\n", b"x", b"MAIL FROM:<evil@b.test>\r\nRCPT TO:<bob@example.test>\r\n"):
            raw = self.server.raw("smtp")
            raw.reply()
            raw.send(b"EHLO c.test\r\n")
            raw.reply()
            raw.send(b"STARTTLS\r\n" + ahead)
            self.assertTrue(raw.reply().startswith(b"220"))
            rest = raw.file.read()
            self.assertTrue(rest == b"" or rest.startswith(b"501 5.5.4"), (ahead, rest))
            raw.close()

    def test_a_transaction_does_not_survive_starttls(self):
        raw = self.begin()
        raw.send(b"STARTTLS\r\n")
        self.assertTrue(raw.reply().startswith(b"503"), "not within a transaction")
        raw.send(b"RSET\r\nSTARTTLS\r\n")
        raw.reply()
        self.assertTrue(raw.reply().startswith(b"220"))
        raw.sock = self.server.tls_context().wrap_socket(raw.sock, server_hostname="localhost")
        raw.file = raw.sock.makefile("rb")
        raw.send(b"MAIL FROM:<a@b.test>\r\n")
        self.assertTrue(raw.reply().startswith(b"503 5.5.1 say EHLO"))


if __name__ == "__main__":
    unittest.main()
