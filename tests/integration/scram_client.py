"""The client's side of SCRAM-SHA-256 (RFC 5802, 7677), checking the server as a client must."""

import base64
import hashlib
import hmac
import os


def b64(data):
    return base64.b64encode(data).decode()


class Scram:
    """first() and final(answer) are what to send; check(answer) raises unless the server knows the password too."""

    def __init__(self, name, password, binding_type=None, binding=b"", flag="n", authzid=""):
        self.password = password.encode()
        self.gs2 = (f"p={binding_type}," if binding_type else f"{flag},") + (f"a={authzid}" if authzid else "") + ","
        self.binding = binding if binding_type else b""
        self.nonce = b64(os.urandom(18))
        self.bare = f"n={name.replace('=', '=3D').replace(',', '=2C')},r={self.nonce}"

    def first(self):
        return (self.gs2 + self.bare).encode()

    def final(self, answer):
        server_first = answer.decode()
        fields = dict(f.split("=", 1) for f in server_first.split(","))
        if not fields["r"].startswith(self.nonce) or len(fields["r"]) < len(self.nonce) + 16:
            raise AssertionError(f"the server's nonce: {server_first}")
        if int(fields["i"]) < 4096:
            raise AssertionError(f"too few iterations: {server_first}")
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(fields["s"]), int(fields["i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c={b64(self.gs2.encode() + self.binding)},r={fields['r']}"
        signed = f"{self.bare},{server_first},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        self.expected = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        return f"{without_proof},p={b64(bytes(a ^ b for a, b in zip(client_key, signature)))}".encode()

    def check(self, answer):
        if answer != f"v={b64(self.expected)}".encode():
            raise AssertionError(f"the server does not know the password: {answer}")


def converse(client, send, receive, prefix):
    """Runs it over lines: send(line), receive() -> line. Returns the line that is no challenge any more."""
    for step in (client.final, client.check):
        line = receive()
        if not line.startswith(prefix):
            return line
        answer = step(base64.b64decode(line[len(prefix):]))
        send(b64(answer).encode() if answer else b"")
    return receive()


def over_imap(raw, client, mechanism="SCRAM-SHA-256", initial=True):
    """raw: send(bytes), line(). The tagged answer, without the tag."""
    if initial:
        raw.send(f"s AUTHENTICATE {mechanism} {b64(client.first())}\r\n".encode())
    else:
        raw.send(f"s AUTHENTICATE {mechanism}\r\n".encode())
        if not raw.line().startswith(b"+"):
            raise AssertionError("no challenge")
        raw.send(b64(client.first()).encode() + b"\r\n")

    def receive():
        line = raw.line().rstrip(b"\r\n")
        while line.startswith(b"* "):
            line = raw.line().rstrip(b"\r\n")
        return line
    last = converse(client, lambda line: raw.send(line + b"\r\n"), receive, b"+ ")
    return last.removeprefix(b"s ")


def over_smtp(raw, client, mechanism="SCRAM-SHA-256"):
    raw.send(f"AUTH {mechanism} {b64(client.first())}\r\n".encode())
    return converse(client, lambda line: raw.send(line + b"\r\n"), lambda: raw.reply().rstrip(b"\r\n"), b"334 ")
