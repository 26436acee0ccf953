"""Mail servers for tests of delivery: each connection is handled by a function that is given a Wire.

A Peer listens on a loopback address; `polite` builds the usual conversation, in which single steps
can be replaced. What came in is kept in `peer.messages`, what was said in `peer.commands`."""

import contextlib
import pathlib
import re
import socket
import ssl
import subprocess
import threading


class Wire:
    def __init__(self, sock):
        self.sock = sock
        self.buffer = b""
        self.is_tls = False

    def send(self, text):
        self.sock.sendall(text if isinstance(text, bytes) else text.encode())

    def line(self):
        """Without its end; None at the end of the connection."""
        while b"\n" not in self.buffer:
            block = self.sock.recv(65536)
            if not block:
                return None
            self.buffer += block
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r").decode("utf-8", "surrogateescape")

    def exact(self, size):
        while len(self.buffer) < size:
            block = self.sock.recv(65536)
            if not block:
                return None
            self.buffer += block
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def data(self):
        """Up to the dot, raw, with dots still doubled."""
        while not (self.buffer.startswith(b".\r\n") or b"\r\n.\r\n" in self.buffer):
            block = self.sock.recv(65536)
            if not block:
                return None
            self.buffer += block
        if self.buffer.startswith(b".\r\n"):
            self.buffer = self.buffer[3:]
            return b""
        data, self.buffer = self.buffer.split(b"\r\n.\r\n", 1)
        return data + b"\r\n"

    def start_tls(self, context):
        self.sock = context.wrap_socket(self.sock, server_side=True)
        self.buffer = b""
        self.is_tls = True

    def wait_for_end(self):
        with contextlib.suppress(OSError):
            while self.sock.recv(65536):
                pass


class Peer:
    def __init__(self, handler, address="127.0.0.1", port=0, family=socket.AF_INET, context=None):
        self.handler = handler
        self.commands, self.messages, self.wires = [], [], []
        self.connections = 0
        self.context = context              # TLS from the first byte
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        if family != socket.AF_UNIX:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind((address, port))
            self.port = self.listener.getsockname()[1]
        else:
            self.listener.bind(address)
        self.listener.listen(20)
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        sock.settimeout(60)
        wire = Wire(sock)
        self.wires.append(wire)
        try:
            if self.context:
                wire.start_tls(self.context)
            self.handler(self, wire)
        except (OSError, ValueError):
            pass
        finally:
            with contextlib.suppress(OSError):
                wire.sock.shutdown(socket.SHUT_RDWR)
            wire.sock.close()

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for wire in self.wires:
            with contextlib.suppress(OSError):
                wire.sock.close()

    def said(self, start):
        return [c for c in self.commands if c.upper().startswith(start.upper())]


def polite(extensions=("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 10000000", "DSN"), greeting="220 peer.test ESMTP\r\n",
           answers=None, starttls=None, lmtp=False, tls_extensions=None):
    """A server that takes mail. answers: regular expression of a command -> answer, a list of answers to be given in
    turn, or a function of (peer, wire, command), which answers by itself; ".": the answer to a message."""
    answers = {k: list(v) if isinstance(v, (list, tuple)) else v for k, v in (answers or {}).items()}

    def scripted(peer, wire, command):
        for pattern, answer in answers.items():
            if not re.match(pattern, command, re.IGNORECASE) or answer == []:
                continue
            if isinstance(answer, list):
                answer = answer.pop(0)
            if callable(answer):
                answer(peer, wire, command)
            else:
                wire.send(answer + "\r\n")
            return answer
        return None

    def message(peer, wire, text, accepted):
        wire.message = text
        peer.messages.append(text)
        for _ in range(accepted if lmtp else 1):
            if scripted(peer, wire, "."):
                continue
            wire.send("250 2.0.0 taken\r\n")

    def handle(peer, wire):
        accepted, chunks = 0, b""
        wire.send(greeting)
        while (command := wire.line()) is not None:
            peer.commands.append(command)
            verb = command.split(" ")[0].upper()
            answer = scripted(peer, wire, command)
            if answer is not None:
                if verb == "RCPT" and isinstance(answer, str) and answer.startswith("2"):
                    accepted += 1
                if not (verb == "DATA" and isinstance(answer, str) and answer.startswith("354")):
                    continue
            elif verb in ("EHLO", "LHLO"):
                words = list((tls_extensions or extensions) if wire.is_tls else extensions)
                if starttls and not wire.is_tls:
                    words.append("STARTTLS")
                lines = ["peer.test"] + words
                wire.send("".join(f"250{'-' if i + 1 < len(lines) else ' '}{w}\r\n" for i, w in enumerate(lines)))
                continue
            elif verb == "STARTTLS" and starttls:
                wire.send("220 go ahead\r\n")
                wire.start_tls(starttls)
                continue
            elif verb == "QUIT":
                wire.send("221 bye\r\n")
                return
            elif verb == "BDAT":
                size = int(command.split()[1])
                chunks += wire.exact(size) or b""
                if command.upper().endswith("LAST"):
                    message(peer, wire, chunks, accepted)
                    accepted, chunks = 0, b""
                else:
                    wire.send("250 ok\r\n")
                continue
            elif verb == "DATA":
                if accepted == 0:
                    wire.send("554 5.5.1 no valid recipients\r\n")
                    continue
                wire.send("354 go on\r\n")
            else:
                if verb in ("MAIL", "RSET", "HELO"):
                    accepted = 0
                accepted += verb == "RCPT"
                wire.send("250 2.1.0 ok\r\n")
                continue
            text = wire.data()
            if text is None:
                return
            message(peer, wire, text, accepted)
            accepted = 0
    return handle


class Authority:
    """A CA that makes certificates with the openssl program."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.ca = self.folder / "ca.pem"
        self.count = 0
        self.run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=Test CA",
                 "-days", "30", "-keyout", self.folder / "ca.key", "-out", self.ca,
                 "-addext", "basicConstraints=critical,CA:true", "-addext", "keyUsage=keyCertSign")

    def run(self, *args):
        return subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True).stdout

    def make(self, *names, days=10, is_self_signed=False):
        """(certificate file, key file) for DNS names."""
        self.count += 1
        cert, key = self.folder / f"{self.count}.pem", self.folder / f"{self.count}.key"
        san = "subjectAltName=" + ",".join(f"DNS:{n}" for n in names)
        if is_self_signed:
            self.run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                     f"/CN={names[0]}", "-addext", san, "-days", days, "-keyout", key, "-out", cert)
            return cert, key
        request, ext = self.folder / "request.pem", self.folder / "ext.cnf"
        ext.write_text(san + "\n")
        self.run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={names[0]}",
                 "-keyout", key, "-out", request)
        self.run("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial",
                 "-days", days, "-extfile", ext, "-out", cert)
        return cert, key

    def context(self, *names, **kw):
        return server_context(*self.make(*names, **kw))

    def tlsa(self, cert, usage=3):
        """Record data of the certificate's key: "3 1 1 ..."."""
        import hashlib
        pem = self.run("x509", "-in", cert, "-noout", "-pubkey")
        der = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=pem, check=True,
                             capture_output=True).stdout
        return f"{usage} 1 1 {hashlib.sha256(der).hexdigest()}"


def server_context(cert, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context
