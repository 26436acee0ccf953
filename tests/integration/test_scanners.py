"""ClamAV and Rspamd beside the server: what they say is done and can be read in the trace; without them mail flows."""

import base64
import concurrent.futures
import email
import io
import json
import socket
import struct
import time
import unittest
import zipfile

from harness import PASSWORD, ServerTest, Server, eventually
from scanner_peer import CLAMD, EICAR, GTUBE, RSPAMD, Clamd, Peer, Rspamd, read_request, read_stream

LETTER = "From: a@elsewhere.test\r\nTo: alice@example.test\r\nSubject: {}\r\nMessage-ID: <{}@elsewhere.test>\r\n\r\n{}\r\n"
QUIET = {"mail_authentication": "no", "smtp_reverse_lookup": "no", "smtp_sender_domain_exists": "no",
         "smtp_xclient_networks": "127.0.0.1"}     # no DNS here


def letter(subject, text="Hello."):
    return LETTER.format(subject, subject.replace(" ", "."), text).encode()


def with_attachment(subject, data, name="file.bin"):
    return (f"From: a@elsewhere.test\r\nTo: alice@example.test\r\nSubject: {subject}\r\n"
            f"Message-ID: <{subject.replace(' ', '.')}@elsewhere.test>\r\nMIME-Version: 1.0\r\n"
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nSee the file.\r\n--b\r\n"
            f"Content-Type: application/octet-stream; name={name}\r\nContent-Disposition: attachment; filename={name}\r\n"
            "Content-Transfer-Encoding: base64\r\n\r\n").encode() + \
        base64.encodebytes(data).replace(b"\n", b"\r\n") + b"--b--\r\n"


def zipped(data, name="a"):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr(name, data)
    return packed.getvalue()


class ScannerTest(ServerTest):
    def send(self, message, to=("alice@example.test",), sender="a@elsewhere.test", xclient=None):
        """The answer to the message: (code, text)."""
        with self.server.smtp() as s:
            s.ehlo("there.test")
            if xclient:
                self.assertEqual(s.docmd("XCLIENT", xclient)[0], 220)
                s.ehlo("there.test")
            s.mail(sender)
            for address in to:
                s.rcpt(address)
            code, text = s.data(message)
            return code, text.decode()

    def submit(self, message, sender="alice@example.test", to="bob@example.test"):
        with self.server.smtp("submission") as s:
            s.ehlo("laptop.test")
            s.login(sender, PASSWORD)
            s.mail(sender)
            s.rcpt(to)
            code, text = s.data(message)
            return code, text.decode()

    def fetch(self, user, subject, mailbox="INBOX"):
        with self.server.imap(user) as c:
            c.select(mailbox, readonly=True)
            ids = c.search(None, "SUBJECT", f'"{subject}"')[1][0].split()
            return [email.message_from_bytes(c.fetch(i, "(BODY.PEEK[])")[1][0][1]) for i in ids]

    def traced(self, subject, words):
        """The whole trace of the message, once it holds the words."""
        seen = ""

        def look():
            nonlocal seen
            seen = json.dumps([self.server.cli_json("trace", "--id", m["id"]) for m in self.server.cli_json(
                "trace", "--message-id", f"<{subject.replace(' ', '.')}@elsewhere.test>")])
            return words in seen
        self.assertTrue(eventually(look), (words, seen))
        return seen


@unittest.skipUnless(CLAMD, "clamd is missing: make test-deps")
class ClamavTest(ScannerTest):
    @classmethod
    def setUpClass(cls):
        cls.clamd = Clamd()
        cls.addClassCleanup(cls.clamd.remove)
        cls.clamd.start()
        cls.settings = {**QUIET, "clamav": f"unix:{cls.clamd.socket}", "clamav_size_max": "2M"}
        super().setUpClass()

    def test_a_virus_is_refused_with_its_name(self):
        for name, message in {"plain": letter("virus plain", EICAR.decode()), "attached": with_attachment("virus attached", EICAR),
                              "zipped": with_attachment("virus zipped", zipped(zipped(EICAR)), "a.zip")}.items():
            with self.subTest(name):
                code, text = self.send(message)
                self.assertEqual(code, 554)
                self.assertRegex(text, r"^5\.7\.1 the message carries Test\.Eicar\S* \(found by ClamAV\); send it without")
                self.assertEqual(self.fetch("alice", f"virus {name}"), [])
                self.assertIn("refused", self.traced(f"virus {name}", "clamav: found Test.Eicar"))

    def test_from_our_own_people_too(self):
        code, text = self.submit(letter("virus of ours", EICAR.decode()).replace(b"a@elsewhere.test\r\nTo", b"alice@example.test\r\nTo"))
        self.assertEqual((code, text[:5]), (554, "5.7.1"))
        self.assertEqual(self.fetch("bob", "virus of ours"), [])

    def test_clean_mail_passes_and_nobody_says_so_in_our_name(self):
        code, _ = self.send(b"X-Virus-Status: Clean\r\nx-virus-status : Infected\r\n (by me)\r\n" + letter("clean mail"))
        self.assertEqual(code, 250)
        (got,) = self.fetch("alice", "clean mail")
        self.assertIsNone(got["X-Virus-Status"])
        self.assertEqual(got.get_payload(), "Hello.\r\n")
        self.traced("clean mail", "clamav: clean")

    def test_the_session_goes_on_after_a_virus(self):
        with self.server.smtp() as s:
            s.ehlo("there.test")
            for subject, text, code in (("on one", EICAR.decode(), 554), ("on two", "Hello.", 250), ("on three", EICAR.decode(), 554)):
                s.mail("a@elsewhere.test")
                s.rcpt("alice@example.test")
                self.assertEqual(s.data(letter(subject, text))[0], code)

    def test_neighbours_by_lmtp_have_scanned_already(self):
        with self.server.smtp("lmtp") as s:
            s.sendmail("a@elsewhere.test", ["alice@example.test"],
                       b"X-Virus-Status: Infected (Theirs)\r\n" + letter("by lmtp", EICAR.decode()))
        (got,) = self.fetch("alice", "by lmtp")
        self.assertEqual(got["X-Virus-Status"], "Infected (Theirs)")

    def test_what_is_too_large_for_us_or_for_it_passes_and_the_trace_says_so(self):
        line = b"x" * 70 + b"\r\n"
        self.assertEqual(self.send(letter("too large for it") + line * 20000)[0], 250)
        self.traced("too large for it", "clamav: could not say (ClamAV takes no message so large; its StreamMaxLength says)")
        self.assertEqual(self.send(letter("too large for us") + line * 40000)[0], 250)
        self.traced("too large for us", "clamav: not asked (the message is larger than clamav_size_max)")
        self.assertEqual(self.send(letter("after the large", EICAR.decode()))[0], 554)

    def test_archives_in_archives_end_in_a_clear_outcome(self):
        bomb = zipped(b"\0" * 30_000_000)
        for depth in range(30):
            bomb = zipped(bomb if depth % 3 else bomb * 3)
        self.assertEqual(self.send(with_attachment("zip of zips", bomb, "a.zip"))[0], 250)
        self.traced("zip of zips", "clamav: ")
        self.assertEqual(len(self.fetch("alice", "zip of zips")), 1)

    def test_many_at_once_are_all_looked_at(self):
        def one(number):
            return self.send(letter(f"crowd {number}", EICAR.decode() if number % 2 else "Hello."))[0]
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            codes = list(pool.map(one, range(48)))
        self.assertEqual(codes, [250, 554] * 24)

    def test_while_it_is_away_mail_flows_and_when_it_is_back_it_is_asked(self):
        self.clamd.stop()
        try:
            self.assertEqual(self.send(letter("without clamd", EICAR.decode()))[0], 250)
            self.traced("without clamd", "clamav: could not say (no connection: ")
            self.assertEqual(len(self.fetch("alice", "without clamd")), 1)
        finally:
            self.clamd.start()
        self.assertTrue(eventually(lambda: self.send(letter("it is back", EICAR.decode()))[0] == 554, 120, 0.5))
        self.assertTrue(eventually(lambda: [self.send(letter("all are back", EICAR.decode()))[0] for i in range(8)] == [554] * 8,
                                   120, 0.5))


@unittest.skipUnless(CLAMD, "clamd is missing: make test-deps")
class VirusActionTest(ScannerTest):
    """By TCP, and our own people go past."""
    action = "junk"

    @classmethod
    def setUpClass(cls):
        cls.clamd = Clamd()
        cls.addClassCleanup(cls.clamd.remove)
        cls.clamd.start()
        cls.settings = {**QUIET, "clamav": f"inet:localhost:{cls.clamd.port}", "virus_action": cls.action, "scan_submissions": "no"}
        super().setUpClass()

    def test_it_goes_to_junk_with_a_field(self):
        self.assertEqual(self.send(b"X-Virus-Status: Clean\r\n" + letter("put aside", EICAR.decode()))[0], 250)
        (got,) = self.fetch("alice", "put aside", "Junk")
        (status,) = got.get_all("X-Virus-Status")
        self.assertRegex(status, r"^Infected \(Test\.Eicar\S*\)$")
        self.traced("put aside", ", to Junk")

    def test_people_who_logged_in_go_past(self):
        message = letter("past it", EICAR.decode()).replace(b"a@elsewhere.test\r\nTo", b"alice@example.test\r\nTo")
        self.assertEqual(self.submit(message)[0], 250)
        (got,) = self.fetch("bob", "past it")
        self.assertIsNone(got["X-Virus-Status"])


class VirusTagTest(VirusActionTest):
    action = "tag"

    def test_it_goes_to_junk_with_a_field(self):
        self.assertEqual(self.send(letter("tagged", EICAR.decode()))[0], 250)
        (got,) = self.fetch("alice", "tagged")
        self.assertRegex(got["X-Virus-Status"], r"^Infected \(Test\.Eicar\S*\)$")


class VirusHoldTest(VirusActionTest):
    action = "hold"

    def test_it_goes_to_junk_with_a_field(self):
        self.assertEqual(self.send(letter("to be held", EICAR.decode()))[0], 250)
        self.assertEqual(self.fetch("alice", "to be held"), [])
        self.assertTrue(eventually(lambda: "ClamAV found Test.Eicar" in json.dumps(self.server.cli_json("queue", "list"))),
                        self.server.cli("queue", "list", "--json").stdout)


@unittest.skipUnless(RSPAMD, "rspamd is missing: make test-deps")
class RspamdTest(ScannerTest):
    @classmethod
    def setUpClass(cls):
        cls.rspamd = Rspamd()
        cls.addClassCleanup(cls.rspamd.remove)
        cls.rspamd.start()
        cls.settings = {**QUIET, "rspamd": f"inet:127.0.0.1:{cls.rspamd.port}", "rspamd_size_max": "1M"}
        super().setUpClass()

    def test_mail_that_it_likes_is_delivered(self):
        self.assertEqual(self.send(letter("nice"))[0], 250)
        self.assertEqual(len(self.fetch("alice", "nice")), 1)
        self.traced("nice", "rspamd: no action, ")

    def test_it_is_told_of_the_envelope_and_the_client(self):
        self.send(letter("told of all"), to=("alice@example.test", "bob@example.test"), xclient="ADDR=192.0.2.7 NAME=mx.there.test")
        seen = self.traced("told of all", "rspamd: no action")
        for symbol in ("TOLD_CLIENT", "TOLD_SENDER", "TOLD_TWO"):
            self.assertIn(symbol, seen)
        self.assertNotIn("TOLD_USER", seen)
        self.assertNotIn("TOLD_NULL_SENDER", seen)
        self.send(letter("told of none"), sender="")
        self.assertIn("TOLD_NULL_SENDER", self.traced("told of none", "rspamd: no action"))
        self.submit(letter("told of her").replace(b"a@elsewhere.test\r\nTo", b"alice@example.test\r\nTo"))
        self.assertIn("TOLD_USER", self.traced("told of her", "rspamd: no action"))

    def test_probable_spam_goes_to_junk_with_the_reasons_in_the_trace(self):
        self.assertEqual(self.send(letter("cheap pills"))[0], 250)
        self.assertEqual(len(self.fetch("alice", "cheap pills", "Junk")), 1)
        self.assertRegex(self.traced("cheap pills", "to Junk"), r"rspamd: add header, 7\.\d+ of 15\.00 \(TEST_PILLS 7\.50, ")

    def test_spam_is_refused(self):
        code, text = self.send(letter("gtube", GTUBE))
        self.assertEqual(code, 554)
        self.assertIn("5.7.1 the spam filter refuses the message (Gtube pattern); if it is none, ask postmaster@", text)

    def test_what_it_puts_off_is_put_off(self):
        code, text = self.send(letter("soft"))
        self.assertEqual(code, 451)
        self.assertEqual(text, "4.7.1 the spam filter puts the message off (not now), try again later")
        self.assertEqual(self.fetch("alice", "soft"), [])

    def test_what_it_would_greylist_is_taken(self):
        self.assertEqual(self.send(letter("greyish"))[0], 250)
        self.traced("greyish", "rspamd: greylist, ")
        self.assertEqual(len(self.fetch("alice", "greyish")), 1)

    def test_what_is_too_large_is_not_shown_to_it(self):
        self.assertEqual(self.send(letter("large pills") + (b"x" * 70 + b"\r\n") * 20000)[0], 250)
        self.traced("large pills", "rspamd: not asked (the message is larger than rspamd_size_max)")

    def test_large_mail_reaches_it_whole(self):
        self.assertEqual(self.send(letter("to its end", ("x" * 70 + "\r\n") * 10000 + "the very end"))[0], 250)
        self.assertIn("TOLD_THE_END", self.traced("to its end", "rspamd: no action"))


def say(data, read=True):
    def behave(sock):
        if read:
            read_stream(sock) if read == "stream" else read_request(sock)
        sock.sendall(data)
    return behave


def forever(data, read):
    def behave(sock):
        read(sock)
        while True:
            sock.sendall(data)
    return behave


def hang(sock):
    while sock.recv(65536):
        pass


def reset(sock):
    sock.recv(10)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def drip(sock):
    for byte in b"stream: a line that never ends" * 20:
        sock.sendall(bytes([byte]))
        time.sleep(0.1)


def http(body, head=b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"):
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


OK = b"HTTP/1.1 200 OK\r\n"
BAD_CLAMD = {
    "says nothing": hang, "closes at once": lambda sock: None, "resets": reset, "never reads": drip,
    "dies after the message": lambda sock: read_stream(sock) and None,
    "closes without an answer": say(b"", "stream"), "half an answer": say(b"stream: O", "stream"),
    "garbage": say(b"\xff\xfe\0\0garbage\n", "stream"), "an empty line": say(b"\n", "stream"), "NULs": say(b"\0" * 100 + b"\n", "stream"),
    "a line without end": forever(b"x" * 65536, read_stream),
    "another program": say(b"220 mail.test ESMTP\r\n", False), "no name": say(b"stream:  FOUND\n", "stream"),
    "an error": say(b"stream: Can't allocate memory ERROR\n", "stream"), "an error alone": say(b" ERROR\n", "stream"),
    "an early word": say(b"COMMAND READ TIMED OUT. ERROR\n", False),
}
BAD_RSPAMD = {
    "says nothing": hang, "closes at once": lambda sock: None, "resets": reset, "never reads": drip,
    "closes without an answer": say(b""), "half a status": say(b"HTTP/1.1 20"), "half a header": say(OK + b"Content-Ty"),
    "garbage": say(b"\xff\xfe\0\0\r\n\r\n"), "another program": say(b"220 mail.test ESMTP\r\n", False),
    "a header without end": forever(b"X: y\r\n", lambda s: (read_request(s), s.sendall(OK))),
    "interim answers without end": forever(b"HTTP/1.1 100 Continue\r\n\r\n", read_request),
    "forbidden": say(http(b"{}", b"HTTP/1.1 403 Forbidden\r\n")), "broken": say(http(b'{"error":"x"}', b"HTTP/1.1 500 No\r\n")),
    "4 GB announced": say(OK + b"Content-Length: 4294967296\r\n\r\n{"),
    "4 GB in a chunk": say(OK + b"Transfer-Encoding: chunked\r\n\r\nffffffff\r\n{"),
    "a body without end": forever(b'{"action":' * 6000, lambda s: (read_request(s), s.sendall(OK + b"\r\n"))),
    "chunks without end": forever(b"4\r\n[[[[\r\n" * 1000, lambda s: (read_request(s), s.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n"))),
    "less than announced": say(OK + b"Content-Length: 1000\r\n\r\n{\"action\":\"no action\"}"),
    "no content": say(http(b"")), "no JSON": say(http(b"<html>")), "half a JSON": say(http(b'{"action":"reject"')),
    "an array": say(http(b"[]")), "no action": say(http(b'{"score":99}')), "an action of no type": say(http(b'{"action":{"a":1}}')),
    "deep": say(http(b'{"action":"reject","symbols":' + b"[" * 50000 + b"]" * 50000 + b"}")),
    "an error": say(http(b'{"error":"Message is too large"}')),
}
ODD_RSPAMD = {      # strange, and still an answer: no action
    "symbols of no kind": {"action": "no action", "symbols": [1, 2, {}], "score": "x", "messages": 5},
    "scores out of reach": {"action": "no action", "score": 1e308, "required_score": -1e308,
                            "symbols": {"A": {"name": "A", "score": 1e300}, "B": {"name": 5}, "C": None}},
    "very many symbols": {"action": "no action", "symbols": {f"S{i}": {"name": f"S{i}", "score": i} for i in range(5000)}},
    "an action of its own": {"action": "ask the \r\nboss\u20ac", "symbols": {"X\r\nY": {"name": "X\r\n250 Y", "score": 1}}},
}


class Hostile(ScannerTest):
    """One worker, so that there is one memory of what failed. Between failures it answers well, for three in a row would
    let it rest."""
    workers = 1
    away, expected = "accept", 250

    @classmethod
    def setUpClass(cls):
        cls.clamd, cls.rspamd = Peer(cls.well_clamd), Peer(cls.well_rspamd)
        cls.addClassCleanup(cls.clamd.close)
        cls.addClassCleanup(cls.rspamd.close)
        cls.settings = {**QUIET, "clamav": f"inet:127.0.0.1:{cls.clamd.port}", "rspamd": f"inet:[127.0.0.1]:{cls.rspamd.port}",
                        "clamav_timeout": "2s", "rspamd_timeout": "2s", "scanner_away": cls.away}
        super().setUpClass()

    well_clamd = staticmethod(say(b"stream: OK\n", "stream"))
    well_rspamd = staticmethod(say(http(b'{"action":"no action","score":1.5,"required_score":15}')))

    def check(self, peer, name, behave, words):
        well = peer.behave
        subject = f"{'clamd' if peer is self.clamd else 'rspamd'} {name}"
        try:
            peer.behave = behave
            code, text = self.send(letter(subject, "Hello.\r\n" * 50000))
        finally:
            peer.behave = well
        self.assertEqual(code, self.expected, text)
        self.traced(subject, words)
        self.assertEqual(self.send(letter("well again"))[0], 250)

    def test_a_clamd_that_misbehaves(self):
        for name, behave in BAD_CLAMD.items():
            with self.subTest(name):
                self.check(self.clamd, name, behave, "clamav: could not say (")

    def test_an_rspamd_that_misbehaves(self):
        for name, behave in BAD_RSPAMD.items():
            with self.subTest(name):
                self.check(self.rspamd, name, behave, "rspamd: could not say (")

    def test_one_that_rests_is_not_asked_and_the_other_is(self):
        self.rspamd.close()
        try:
            self.assertEqual(self.send(letter("rspamd is away"))[0], self.expected)
            self.traced("rspamd is away", "clamav: clean; rspamd: could not say (no connection: ")
            self.assertEqual(self.send(letter("rspamd rests"))[0], self.expected)
            self.traced("rspamd rests", "clamav: clean; rspamd: could not say (it was away a moment ago)")
        finally:
            self.rspamd.open()
        asked = self.rspamd.asked
        self.assertTrue(eventually(lambda: self.send(letter("rspamd is back"))[0] == 250 and self.rspamd.asked > asked, 120, 0.5))

    def test_three_failures_in_a_row_are_a_rest(self):
        well = self.clamd.behave
        try:
            self.clamd.behave = BAD_CLAMD["closes at once"]
            asked = self.clamd.asked
            for number in range(4):
                self.assertEqual(self.send(letter(f"in a row {number}"))[0], self.expected)
            self.traced("in a row 3", "clamav: could not say (it was away a moment ago)")
            self.assertEqual(self.clamd.asked, asked + 3)
        finally:
            self.clamd.behave = well
        self.assertTrue(eventually(lambda: self.send(letter("clamd is back"))[0] == 250 and self.clamd.asked > asked + 3, 120, 0.5))


class HostileAcceptTest(Hostile):
    def test_odd_answers_are_read_as_far_as_they_go(self):
        for name, answer in ODD_RSPAMD.items():
            with self.subTest(name):
                self.assertEqual(self.answered(f"odd {name}", **answer)[0], 250)
                self.traced(f"odd {name}", f"rspamd: {answer['action'][:6]}")

    def answered(self, subject, **answer):
        well, self.rspamd.behave = self.rspamd.behave, say(http(json.dumps(answer).encode()))
        try:
            return self.send(letter(subject))
        finally:
            self.rspamd.behave = well

    def test_what_it_throws_away_is_refused_and_what_it_quarantines_is_held(self):
        code, text = self.answered("discarded", action="discard")
        self.assertEqual((code, text), (554, "5.7.1 the message looks like spam; if it is none, ask "
                                             "postmaster@mail.example.test, or tell its recipient another way"))
        self.assertEqual(self.answered("quarantined", action="quarantine")[0], 250)
        self.assertEqual(self.fetch("alice", "quarantined"), [])
        self.assertTrue(eventually(lambda: "Rspamd wants it in quarantine" in json.dumps(self.server.cli_json("queue", "list"))))
        self.assertEqual(self.answered("subject", action="rewrite subject")[0], 250)
        self.assertEqual(len(self.fetch("alice", "subject", "Junk")), 1)

    def test_names_cannot_end_a_line(self):
        well, self.clamd.behave = self.clamd.behave, say(b"stream: Evil)\r 250 2.0.0 <ok>\xff\x01" + b"y" * 3000 + b" FOUND\n", "stream")
        try:
            code, text = self.send(letter("evil name"))
        finally:
            self.clamd.behave = well
        self.assertEqual(code, 554)
        self.assertLess(len(text), 400)
        self.assertRegex(text, r"^5\.7\.1 the message carries Evil\S+ \(found by ClamAV\)")

    def test_a_virus_is_refused_though_the_other_is_silent(self):
        wells = self.clamd.behave, self.rspamd.behave
        try:
            self.clamd.behave, self.rspamd.behave = say(b"stream: A.Virus FOUND\n", "stream"), hang
            code, text = self.send(letter("virus and silence"))
        finally:
            self.clamd.behave, self.rspamd.behave = wells
        self.assertEqual(code, 554, text)
        self.traced("virus and silence", "clamav: found A.Virus; rspamd: could not say (the other side took too long)")

    def test_nothing_of_the_envelope_can_add_a_field(self):
        heard = []
        well = self.rspamd.behave

        def behave(sock):
            heard.append(read_request(sock))
            sock.sendall(http(b'{"action":"no action"}'))
        try:
            self.rspamd.behave = behave
            self.assertEqual(self.send(letter("fields"), sender='"a: b>"@elsewhere.test')[0], 250)
        finally:
            self.rspamd.behave = well
        fields, content = heard[0]
        values = dict(fields)
        self.assertEqual(values[b"From"], b'<"a: b>"@elsewhere.test>')
        self.assertEqual(values[b"Rcpt"], b"<alice@example.test>")
        self.assertEqual(values[b"Deliver-To"], b"alice@example.test")
        self.assertEqual(values[b"MTA-Name"], b"mail.example.test")
        self.assertEqual(content, letter("fields"))


class HostileTempfailTest(Hostile):
    away, expected = "tempfail", 451

    def test_the_answer_says_what_to_do(self):
        well, self.clamd.behave = self.clamd.behave, BAD_CLAMD["garbage"]
        try:
            code, text = self.send(letter("no answer"))
        finally:
            self.clamd.behave = well
        self.assertEqual((code, text), (451, "4.7.1 a scanner that must see all mail cannot say anything now, try again later"))
        self.assertEqual(self.send(letter("answers again"))[0], 250)


del Hostile


class SettingTest(unittest.TestCase):
    def test_a_setting_that_cannot_be_read_is_told_at_start(self):
        for settings, words in (({"clamav": "/run/clamd.ctl"}, "clamav: .* is no scanner; write unix:/run/clamav/clamd.ctl"),
                                ({"rspamd": "http://localhost:11333"}, "rspamd: .* is no scanner; write inet:127.0.0.1:11333"),
                                ({"virus_action": "eat"}, "write reject, hold, junk or tag"),
                                ({"scanner_away": "maybe"}, "write accept or tempfail")):
            with self.subTest(settings):
                server = Server(settings)
                try:
                    with self.assertRaisesRegex(RuntimeError, words):
                        server.start()
                finally:
                    server.remove()


if __name__ == "__main__":
    unittest.main()
