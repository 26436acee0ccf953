"""IMAP as it is on the wire: what imaplib hides or cannot say (IDLE, pipelines, untagged data in its order)."""

import os
import pathlib
import re

from harness import PASSWORD, Raw, ServerTest


def response(raw):
    """One tagged or untagged response with its literals; b"" at the end of the connection."""
    data = raw.line()
    while (m := re.search(rb"\{(\d+)\}\r\n$", data)):
        data += raw.file.read(int(m.group(1))) + raw.line()
    return data


class Session(Raw):
    """A connection that sends tagged commands and reads whole responses."""

    def __init__(self, server, user=None, mailbox=None, password=PASSWORD, timeout=60):
        super().__init__(server.port("imap"), timeout)
        self.number = 0
        self.greeting = response(self)
        if user:
            self.ok(f"LOGIN {user if '@' in user else user + '@example.test'} {password}")
        if mailbox:
            self.selected = self.ok(f"SELECT {mailbox}")

    def tag(self):
        self.number += 1
        return b"t%d" % self.number

    def finish(self, tag):
        """The untagged responses up to the tagged one, and that one without its tag."""
        untagged = []
        while (r := response(self)):
            if r.startswith(tag + b" "):
                return untagged, r[len(tag) + 1:].rstrip(b"\r\n")
            untagged.append(r)
        raise EOFError(f"closed before {tag!r} was answered: {untagged[-3:]}")

    def command(self, text):
        tag = self.tag()
        self.send(tag + b" " + (text if isinstance(text, bytes) else text.encode()) + b"\r\n")
        return self.finish(tag)

    def ok(self, text):
        untagged, answer = self.command(text)
        if not answer.startswith(b"OK"):
            raise AssertionError(f"{text!r}: {answer!r}")
        return untagged

    def refused(self, text):
        untagged, answer = self.command(text)
        if answer.startswith(b"OK"):
            raise AssertionError(f"{text!r} was not refused: {answer!r}")
        return answer

    def append(self, mailbox, message, flags=""):
        return self.ok(b"APPEND %s (%s) {%d+}\r\n" % (mailbox.encode(), flags.encode(), len(message)) + message)

    def idle(self):
        self.idle_tag = self.tag()
        self.send(self.idle_tag + b" IDLE\r\n")
        line = response(self)
        if not line.startswith(b"+"):
            raise AssertionError(f"IDLE: {line!r}")

    def until_told(self, pattern):
        """Reads untagged responses until one matches; all of them. The socket's timeout is the bound."""
        told = []
        while True:
            told.append(response(self))
            if re.match(pattern, told[-1]):
                return told
            if not told[-1]:
                raise EOFError(f"closed while waiting for {pattern!r}: {told[-3:]}")

    def done(self):
        self.send(b"DONE\r\n")
        untagged, answer = self.finish(self.idle_tag)
        if not answer.startswith(b"OK"):
            raise AssertionError(f"DONE: {answer!r}")
        return untagged


def worker_of(server, sock):
    """The pid of the worker that holds the other end of a connection to 127.0.0.1."""
    here, there = sock.getsockname()[1], sock.getpeername()[1]
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()]
    inode = next((r[9] for r in rows if r[1].endswith(f":{there:04X}") and r[2].endswith(f":{here:04X}")), None)
    for pid in server.descendants():
        try:
            if any(os.readlink(fd) == f"socket:[{inode}]" for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir()):
                return pid
        except OSError:
            continue
    return None


def one_per_worker(server, connect, tries=200):
    """Connections, one to each worker, made by connect(); what comes too often is closed."""
    found, wanted = {}, server.workers
    for _ in range(tries):
        raw = connect()
        pid = worker_of(server, raw.sock)
        if pid is None or pid in found:
            raw.close()
        else:
            found[pid] = raw
        if len(found) == wanted:
            return found
    raise AssertionError(f"{tries} connections reached only the workers {list(found)}")


class ImapTest(ServerTest):
    def session(self, user=None, mailbox=None):
        s = Session(self.server, user, mailbox)
        self.addCleanup(s.close)
        return s

    def one(self, s, command):
        """The only untagged response of a command."""
        untagged = s.ok(command)
        self.assertEqual(len(untagged), 1, untagged)
        return untagged[0]
