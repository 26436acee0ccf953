"""Clients that send a byte now and then: in every phase of SMTP and ManageSieve there is an end to it, and others are served."""

import socket
import ssl
import threading
import time
import unittest

from harness import PASSWORD, ServerTest
from sieve_wire import ManageSieve

PAUSE_S = 0.1
BOUND_S = 90                            # three times what the slowest may take with the settings below
HELLO, MAIL, RCPT = b"EHLO slow.test\r\n", b"MAIL FROM:<a@b.test>\r\n", b"RCPT TO:<alice@example.test>\r\n"


def client_hello():
    out = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return out.read()


def letters(text):
    """One by one, and then the last line for ever."""
    line = text[text.rfind(b"\n", 0, -1) + 1:]
    yield from (bytes([c]) for c in text)
    while True:
        yield from (bytes([c]) for c in line)


def lines(*texts):
    while True:
        yield from texts


def silence():
    while True:
        yield b""


class Slow(threading.Thread):
    """Says what leads to the phase, each line behind an answer, and then no more than a piece at a time."""

    def __init__(self, server, name, port, opening, pieces):
        super().__init__(daemon=True, name=name)
        self.port, self.opening, self.pieces = server.port(port), opening, pieces
        self.heard, self.has_ended = b"", False

    def run(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as sock:
            for text in self.opening:
                self.heard += sock.recv(65536)
                sock.sendall(text)
            self.drip(sock)

    def drip(self, sock):
        sock.settimeout(PAUSE_S)
        begun = time.monotonic()
        while not self.has_ended and time.monotonic() - begun < BOUND_S:
            try:
                sock.sendall(next(self.pieces))
                block = sock.recv(65536)
                self.heard += block
                self.has_ended = not block
                time.sleep(PAUSE_S)
            except TimeoutError:
                pass
            except OSError:             # reset: the end as well
                self.has_ended = True


class SlowClients(ServerTest):
    settings = {"smtp_timeout": "2s", "managesieve_login_timeout": "2s", "smtp_idle_commands_max": "40"}

    def start(self):
        text, hello = b"Subject: slow\r\n\r\n" + b"x" * 70 + b"\r\n", client_hello()
        phases = {
            "greeting": ("smtp", [], silence()),
            "EHLO": ("smtp", [], letters(b"EHLO " + b"x" * 9000)),
            "between commands": ("smtp", [HELLO], silence()),
            "handshake of STARTTLS": ("smtp", [HELLO, b"STARTTLS\r\n", b""], letters(hello)),
            "half a handshake": ("smtp", [HELLO, b"STARTTLS\r\n", hello[:99]], silence()),
            "handshake at once": ("submissions", [], letters(hello)),
            "AUTH": ("submission", [HELLO, b"AUTH PLAIN\r\n"], letters(b"A" * 9000)),
            "MAIL": ("smtp", [HELLO], letters(b"MAIL FROM:<" + b"a" * 9000)),
            "RCPT": ("smtp", [HELLO, MAIL], letters(b"RCPT TO:<" + b"a" * 9000)),
            "DATA": ("smtp", [HELLO, MAIL, RCPT, b"DATA\r\n"], letters(text)),
            "DATA that stops": ("smtp", [HELLO, MAIL, RCPT, b"DATA\r\n", text], silence()),
            "BDAT": ("smtp", [HELLO, MAIL, RCPT, b"BDAT 1000000\r\n"], letters(text)),
            "between chunks": ("smtp", [HELLO, MAIL, RCPT, b"BDAT 9\r\nSubject: "], lines(b"NOOP\r\n")),
            "empty chunks": ("smtp", [HELLO, MAIL, RCPT], lines(b"BDAT 0\r\n")),
            "after DATA": ("smtp", [HELLO, MAIL, RCPT, b"DATA\r\n", text + b".\r\n"], silence()),
            "nothing but NOOP": ("smtp", [HELLO], lines(b"NOOP\r\n")),
            "nothing but MAIL": ("smtp", [HELLO], lines(MAIL, RCPT, b"RSET\r\n")),
            "sieve: greeting": ("managesieve", [], silence()),
            "sieve: command": ("managesieve", [], letters(b'AUTHENTICATE "' + b"A" * 900)),
            "sieve: literal": ("managesieve", [b"AUTHENTICATE {1000+}\r\n"], letters(b"A" * 900)),
            "sieve: AUTHENTICATE": ("managesieve", [b'AUTHENTICATE "PLAIN"\r\n'], letters(b'"' + b"A" * 900)),
            "sieve: nothing but NOOP": ("managesieve", [], lines(b"NOOP\r\n")),
            "sieve: handshake of STARTTLS": ("managesieve", [b"STARTTLS\r\n", b""], letters(hello)),
        }
        clients = [Slow(self.server, name, *phase) for name, phase in phases.items()]
        for client in clients:
            client.start()
        return clients

    def assert_served(self):
        with self.server.smtp("submission") as client:
            client.login("alice@example.test", PASSWORD)
            self.assertEqual(client.sendmail("alice@example.test", ["bob@example.test"], b"From: alice@example.test\r\nSubject: quick\r\n\r\nx\r\n"), {})
        sieve = ManageSieve(self.server, "bob")
        self.assertEqual(sieve.ask(b"LISTSCRIPTS").status, "OK")
        sieve.close()

    def test_every_phase_ends_and_others_are_served(self):
        clients = self.start()
        while any(client.is_alive() for client in clients):
            self.assert_served()
            time.sleep(0.5)
        self.assertEqual([client.name for client in clients if not client.has_ended], [])
        heard = {client.name: client.heard for client in clients}
        self.assertIn(b"\r\n421 4.4.2 ", heard["DATA"])
        self.assertIn(b"\r\n250 2.0.0 ", heard["after DATA"])
        for name in ("handshake of STARTTLS", "sieve: handshake of STARTTLS"):
            self.assertTrue(heard[name].splitlines()[-1].startswith((b"220 ", b"OK ")), heard[name])


if __name__ == "__main__":
    unittest.main()
