"""A milter written for tests: speaks Sendmail's milter protocol (versions 2 to 6) from the filter's side.

`answers` maps a command letter to what is said to it: bytes are packets ready to send, a function gets the
Conversation and the packet's data. What was not named is continued. Everything that came is kept in
`milter.heard` as (letter, data), with macros under ("D", {...}), of the Conversations since the last script()."""

import socket
import struct
import threading

CONTINUE, ACCEPT, REJECT, TEMPFAIL, DISCARD = b"c", b"a", b"r", b"t", b"d"
ALL_ACTIONS = 0x1FF


def packet(letter, data=b""):
    letter = letter if isinstance(letter, bytes) else letter.encode()
    return struct.pack(">I", len(data) + 1) + letter + data


def text(*parts):
    return b"".join((p.encode() if isinstance(p, str) else p) + b"\0" for p in parts)


def field(letter, name, value, index=None):
    return packet(letter, (b"" if index is None else struct.pack(">I", index)) + text(name, value))


def reply(line):
    return packet("y", text(line))


class Conversation:
    def __init__(self, milter, sock):
        self.milter, self.sock = milter, sock
        self.heard = []
        self.macros = {}

    def exact(self, size):
        data = b""
        while len(data) < size:
            block = self.sock.recv(size - len(data))
            if not block:
                return None
            data += block
        return data

    def read(self):
        head = self.exact(4)
        if head is None:
            return None, None
        data = self.exact(struct.unpack(">I", head)[0])
        return (None, None) if data is None else (chr(data[0]), data[1:])

    def send(self, data):
        self.sock.sendall(data)

    def negotiate(self, offered):
        version, actions, steps = struct.unpack(">III", offered[:12])
        m = self.milter
        macros = b"".join(struct.pack(">I", stage) + text(names) for stage, names in m.macros.items())
        self.send(packet("O", struct.pack(">III", min(version, m.version), m.actions & actions, m.steps) + macros))

    def keep(self, letter, data):
        if letter == "D":
            parts = data[1:].split(b"\0")
            values = {k.decode(): v.decode() for k, v in zip(parts[0:-1:2], parts[1::2])}
            self.macros.update(values)
            data = (chr(data[0]), values)
        self.heard.append((letter, data))

    def answer(self, letter, data):
        """False: the conversation is over."""
        said = self.milter.answers.get(letter)
        if callable(said):
            said = said(self, data)
        if said is False:
            return False
        if said is None:
            said = packet(CONTINUE)
        elif len(said) == 1:
            said = packet(said)
        if letter not in self.milter.mute:
            self.send(said)
        return True

    def run(self):
        while True:
            letter, data = self.read()
            if letter is None:
                return
            self.keep(letter, data)
            if letter == "Q":
                return
            if letter == "O" and "O" not in self.milter.answers:
                self.negotiate(data)
            elif letter not in "DAQ" and not self.answer(letter, data):
                return


class Milter:
    def __init__(self, answers=None, actions=ALL_ACTIONS, steps=0, version=6, macros=None, mute="", path=None):
        self.answers, self.actions, self.steps, self.version = answers or {}, actions, steps, version
        self.macros, self.mute, self.path = macros or {}, mute, path
        self.conversations = []
        self.listener, self.threads = None, []
        self.port = 0
        self.open()

    def open(self):
        if self.path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(self.path)
        else:
            self.listener = socket.create_server(("127.0.0.1", self.port))
            self.port = self.listener.getsockname()[1]
        self.listener.listen(16)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    @property
    def setting(self):
        return f"unix:{self.path}" if self.path else f"inet:localhost:{self.port}"

    def accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            conversation = Conversation(self, sock)
            self.conversations.append(conversation)
            threading.Thread(target=self.serve, args=(conversation,), daemon=True).start()

    def serve(self, conversation):
        try:
            conversation.run()
        except OSError:
            pass
        finally:
            conversation.sock.close()

    def script(self, **kw):
        """Begins anew with other behaviour; what was heard is forgotten."""
        self.answers, self.actions, self.steps, self.version, self.macros, self.mute = {}, ALL_ACTIONS, 0, 6, {}, ""
        for name, value in kw.items():
            setattr(self, name, value)
        self.conversations = []
        return self

    @property
    def heard(self):
        return [item for conversation in list(self.conversations) for item in conversation.heard]

    def letters(self):
        return "".join(letter for letter, _ in self.heard if letter != "D")

    def told(self, letter):
        return [data for l, data in self.heard if l == letter]

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
