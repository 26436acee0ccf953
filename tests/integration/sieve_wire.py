"""A ManageSieve client (RFC 5804) that shows every byte: quoted strings, literals, response codes."""

import base64
import re
import socket

from harness import PASSWORD


def quoted(text):
    data = text if isinstance(text, bytes) else text.encode()
    return b'"' + data.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def literal(text):
    data = text if isinstance(text, bytes) else text.encode()
    return b"{%d+}\r\n%s" % (len(data), data)


class Answer:
    """status: OK, NO or BYE; code: what stood in parentheses; text; data: the lines before, each a list of tokens."""

    def __init__(self, status, code, text, data):
        self.status, self.code, self.text, self.data = status, code, text, data

    def __repr__(self):
        return f"{self.status} ({self.code}) {self.text!r} {self.data!r}"


class ManageSieve:
    def __init__(self, server, user=None, password=PASSWORD, tls=False):
        self.server = server
        self.sock = socket.create_connection(("127.0.0.1", server.port("managesieve")), timeout=60)
        self.file = self.sock.makefile("rb")
        self.greeting = self.answer()
        if tls:
            assert self.ask(b"STARTTLS").status == "OK"
            self.start_tls()
        if user:
            login = self.login(user, password)
            assert login.status == "OK", login

    def start_tls(self):
        self.file.close()
        self.sock = self.server.tls_context().wrap_socket(self.sock, server_hostname="localhost")
        self.file = self.sock.makefile("rb")
        self.greeting = self.answer()

    def login(self, user, password=PASSWORD, authzid=""):
        name = user if "@" in user else f"{user}@example.test"
        token = base64.b64encode(f"{authzid}\0{name}\0{password}".encode())
        return self.ask(b'AUTHENTICATE "PLAIN" ' + quoted(token))

    def send(self, data):
        self.sock.sendall(data)

    def line(self):
        """Tokens of a line: strings as bytes, words as str."""
        tokens, rest = [], self.file.readline()
        if not rest:
            raise EOFError("the server closed")
        while True:
            rest = rest.lstrip(b" ")
            if rest in (b"\r\n", b"\n"):
                return tokens
            if m := re.match(rb'"((?:[^"\\]|\\.)*)"', rest):
                tokens.append(re.sub(rb"\\(.)", rb"\1", m[1]))
                rest = rest[m.end():]
            elif m := re.match(rb"\{(\d+)\}\r\n$", rest):
                tokens.append(self.file.read(int(m[1])))
                rest = self.file.readline()
            elif m := re.match(rb"\(([^()]*)\)", rest):
                tokens.append("(" + m[1].decode() + ")")
                rest = rest[m.end():]
            else:
                m = re.match(rb"[^ \r\n]+", rest)
                tokens.append(m[0].decode())
                rest = rest[m.end():]

    def answer(self):
        data = []
        while True:
            tokens = self.line()
            if tokens and tokens[0] in ("OK", "NO", "BYE"):
                code = next((t[1:-1] for t in tokens[1:] if isinstance(t, str) and t.startswith("(")), None)
                text = next((t.decode() for t in tokens[1:] if isinstance(t, bytes)), "")
                return Answer(tokens[0], code, text, data)
            data.append(tokens)

    def ask(self, command):
        self.send(command + b"\r\n")
        return self.answer()

    def put(self, name, script):
        return self.ask(b"PUTSCRIPT " + quoted(name) + b" " + literal(script))

    def capabilities(self, answer=None):
        return {t[0].decode(): (t[1].decode() if len(t) > 1 else None) for t in (answer or self.ask(b"CAPABILITY")).data}

    def close(self):
        self.file.close()
        self.sock.close()
