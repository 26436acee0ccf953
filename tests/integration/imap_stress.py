#!/usr/bin/env python3
"""Many sessions at once on a few mailboxes, each a strict client that checks every response against what it knows.

usage: imap_stress.py [--minutes N] [--sessions N] [--workers N] [--seed N] [--binary PATH] [--trace DIRECTORY]

What each session does is in imap_stress_commands.py and imap_stress_extensions.py, what it believes in imap_model.py.
Every few seconds the load stops; then all sessions, a fresh one and STATUS must agree, and every message must be where the
answers said, once.
The seed fixes every choice; what the sessions meet still depends on how they interleave."""

import argparse
import collections
import pathlib
import random
import re
import select
import socket
import sys
import threading
import time
import traceback
import zlib

from harness import PASSWORD, Server, eventually
from imap_model import Box, Broken, Ledger, Lent, View, check_message, make_message, read_set
from imap_response import parse_fetch
import imap_stress_commands as commands
import imap_stress_extensions as extensions

USER, FRIEND = "stress@example.test", "friend@example.test"     # the friend sees what is shared with him
SETTLE_SECONDS = 40                     # for news to reach everybody; beyond it they are lost
WIRE_LINES = 50
TRACE_LINES = 20000
PLAIN_FETCH = re.compile(rb"\* (\d+) FETCH \((?:UID (\d+))? ?(?:MODSEQ \((\d+)\))? ?(?:FLAGS \(([^()]*)\))?\)\r\n$")


class Wire:
    """A socket that speaks in whole responses and remembers the last of them."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.buffer = bytearray()
        self.log = collections.deque(maxlen=WIRE_LINES)
        self.burst = 0                  # responses of one kind in a row; of many the log keeps only some
        self.trace = collections.deque(maxlen=TRACE_LINES)
        self.deflate = self.inflate = None

    def compress(self):
        """From here on everything is compressed (RFC 4978)."""
        self.deflate, self.inflate = zlib.compressobj(6, zlib.DEFLATED, -15), zlib.decompressobj(-15)

    def end_compression(self):
        self.deflate = self.inflate = None

    def write(self, data):
        if self.deflate is not None:
            data = self.deflate.compress(data) + self.deflate.flush(zlib.Z_SYNC_FLUSH)
        self.sock.sendall(data)

    def close(self):
        self.sock.close()

    def note(self, line):
        self.trace.append(b"%.3f " % time.monotonic() + line)
        self.burst = self.burst + 1 if b" FETCH (" in line[:20] else 0
        if self.burst > 4:
            self.log.pop()
        if b" NOOP" not in line[-20:]:  # there are hundreds while something is waited for
            self.log.append(line)

    def send(self, data):
        at = 0
        while at < len(data):           # literals are not for the log
            end = data.find(b"\r\n", at) if b"\r\n" in data[at:] else len(data)
            self.note(b"C: " + data[at:end][:600])
            m = re.search(rb"\{(\d+)\+?\}$", data[at:end])
            at = end + 2 + (int(m.group(1)) if m else 0)
        self.write(data)

    def send_literal(self, data):
        self.log.append(b"C: (%d bytes)" % len(data))
        self.write(data)

    def fill(self, timeout=None):
        """False when nothing came within the timeout."""
        if timeout is not None and not select.select([self.sock], [], [], timeout)[0]:
            return False
        data = self.sock.recv(65536)
        if not data:
            raise EOFError("the server closed the connection")
        self.buffer += self.inflate.decompress(data) if self.inflate else data
        return True

    def end_of_response(self):
        """Where the first response in the buffer ends, literals included; 0: not yet."""
        at = 0
        while True:
            end = self.buffer.find(b"\r\n", at)
            if end < 0:
                return 0
            m = re.search(rb"\{(\d+)\}$", self.buffer[max(at, end - 24):end])
            if m is None:
                return end + 2
            at = end + 2 + int(m.group(1))
            if at > len(self.buffer):
                return 0

    def take(self):
        end = self.end_of_response()
        if end == 0:
            return None
        response = bytes(self.buffer[:end])
        del self.buffer[:end]
        self.note(b"S: " + re.sub(rb"\}\r\n[^\0]{60,}", lambda m: m.group()[:60] + b"..." + m.group()[-200:], response)[:600].rstrip())
        return response

    def response(self):
        while (r := self.take()) is None:
            self.fill()
        return r

    def pending(self, timeout):
        """A response if one comes within the timeout, else None."""
        deadline = time.monotonic() + timeout
        while (r := self.take()) is None:
            left = deadline - time.monotonic()
            if left <= 0 or not self.fill(left):
                return None
        return r


class Client:
    """One user's program: connects in some dialect, works, reconnects."""

    def __init__(self, world, number):
        self.world, self.number = world, number
        self.rng = random.Random(f"{world.seed}/{number}")
        self.user = FRIEND if world.has_friend and number % 3 == 2 else USER
        self.boxes = [box for box in world.boxes if self.user == box.owner or box.shared]
        self.loose = world.loose + [world.lent.box] * 2 + ([world.friends_inbox] if self.user == FRIEND else [])
        self.snapshots = world.snapshots[self.user]
        self.keyword = b"own%d" % number
        self.own = {}                   # (box, uid) -> is our keyword set there?
        self.is_own_known = True
        self.scratch = set()            # names of private mailboxes that exist
        self.renamed = []               # names that INBOX was given
        self.message_count = 0
        self.wire = None
        self.connect()

    # ---- connections ----
    def connect(self):
        if self.wire is not None:
            self.wire.close()
        self.wire = Wire(self.world.server.port("imap"))
        self.tag_number = self.command_number = 0
        self.command = None
        self.last_batch = ()
        self.highest_command = None
        if not self.wire.response().startswith(b"* OK "):
            raise Broken("no greeting")
        self.log_in()

    def log_in(self):
        """As on a fresh connection: nothing is left of what was before."""
        self.view = None
        self.suspects_gone, self.suspects_changed = [], []
        self.wants_check = self.is_notified = False
        self.enabled, self.capabilities = set(), set()
        self.run(commands.Login(self, self.user, PASSWORD))
        self.run(commands.Capability(self))
        dialect = self.rng.choice(((), (), ("CONDSTORE",), ("QRESYNC",), ("QRESYNC",), ("IMAP4rev2",), ("IMAP4rev2", "QRESYNC")))
        if dialect:
            self.run(commands.Enable(self, dialect))
        if "UIDONLY" in self.capabilities and self.rng.random() < 0.12:
            self.run(commands.Enable(self, ("UIDONLY",)))
        if "COMPRESS=DEFLATE" in self.capabilities and self.rng.random() < 0.25:
            self.run(commands.Compress(self))
        if "NOTIFY" in self.capabilities and self.rng.random() < 0.2:
            self.run(commands.Notify(self))

    @property
    def has_condstore(self):
        return bool(self.enabled & {"CONDSTORE", "QRESYNC"})

    @property
    def is_uid_only(self):
        return "UIDONLY" in self.enabled

    def name_of(self, box):
        return box.name_for(self.user)

    def may_lose_rights(self):
        """Is the selected mailbox somebody else's, who may take rights away at any time?"""
        return self.view is not None and not self.view.box.kept and self.view.box.owner != self.user

    def modseq_floor(self, box):
        return box.modseq.get(self.user, 0)

    def new_ident(self):
        self.message_count += 1
        return f"{self.world.seed}-{self.number}-{self.message_count}"

    # ---- commands ----
    def run(self, *batch):
        """Sends commands, together when there are several, and follows the answers one by one."""
        view = self.view
        self.check_silence()
        if view is not None and self.view is None:
            return                      # the mailbox they are about was removed
        if not isinstance(batch[0], commands.Noop):
            self.last_batch = batch
        tagged = []
        for command in batch:
            self.tag_number += 1
            command.tag = b"t%d" % self.tag_number
            tagged.append((command.tag, command))
        self.world.count(batch)
        for command in batch:
            command.before_send()
        if len(batch) == 1 and batch[0].is_interactive:
            self.begin(batch[0])
            batch[0].converse(tagged[0][0])
            self.finish(*tagged[0])
            return
        self.wire.send(b"".join(tag + b" " + command.text() + b"\r\n" for tag, command in tagged))
        for tag, command in tagged:
            self.begin(command)
            self.finish(tag, command)

    def begin(self, command):
        self.command = command
        self.command_number += 1
        self.modseq_told = 0            # the highest of FETCH in this command
        self.highest_command = None     # HIGHESTMODSEQ in this command
        self.count_before = len(self.view) if self.view else 0
        command.begin()

    def finish(self, tag, command):
        while True:
            r = self.wire.response()
            if r.startswith(b"* "):
                self.untagged(r)
            elif r.startswith(tag + b" "):
                break
            else:
                raise Broken(f"{r!r} where {tag!r} was to be answered")
        m = re.match(rb"(OK|NO|BAD)(?: \[([^\]]*)\])? (.+)\r\n$", r[len(tag) + 1:], re.S)
        if m is None:
            raise Broken(f"no such answer: {r!r}")
        status, code, text = m.group(1).decode(), m.group(2) or b"", m.group(3)
        if code.startswith(b"HIGHESTMODSEQ "):
            self.highest_modseq(int(code.split()[1]))
        if self.view is not None and "QRESYNC" in self.enabled and status == "OK":
            self.view.modseq = self.highest_command if self.highest_command is not None else max(self.view.modseq, self.modseq_told)
        command.check_status(status, code, text)
        command.done(status, code)
        self.command = None

    def check_silence(self):
        """Between commands numbers must not move."""
        while (r := self.wire.pending(0)) is not None:
            self.untagged(r)

    # ---- responses ----
    def untagged(self, r):
        if extensions.is_update(r):
            extensions.take_update(self.need_view(r), r)
            return
        if self.command is not None and self.command.takes(r):
            return
        m = re.match(rb"\* (\d+) ([A-Z]+)", r)
        name = (m.group(2) if m else r[2:].split(b" ")[0].rstrip(b"\r\n")).decode()
        handler = getattr(self, "on_" + name.lower(), None)
        if handler is None:
            raise Broken(f"a response nobody asked for: {r[:300]!r}")
        if m:
            handler(int(m.group(1)), r)
        else:
            handler(r)

    def need_view(self, r):
        if self.view is None:
            raise Broken(f"nothing is selected, but the server says {r[:200]!r}")
        return self.view

    def on_exists(self, count, r):
        self.need_view(r).exists(count)

    def on_recent(self, count, r):
        self.need_view(r)
        if "IMAP4rev2" in self.enabled:
            raise Broken("RECENT in IMAP4rev2")

    def check_may_remove(self, r):
        if self.command is None:
            raise Broken(f"numbers moved while no command was running: {r!r}")
        if not self.command.lets_numbers_move:
            raise Broken(f"numbers moved during {self.command.text()[:100]!r}: {r!r}")

    def on_expunge(self, seq, r):
        view = self.need_view(r)
        self.check_may_remove(r)
        if "QRESYNC" in self.enabled or self.is_uid_only:
            raise Broken("EXPUNGE to a client who must get VANISHED")
        self.removed(view.expunge(seq))

    def on_vanished(self, r):
        view = self.need_view(r)
        if "QRESYNC" not in self.enabled and not self.is_uid_only:
            raise Broken("VANISHED to a client without QRESYNC and UIDONLY")
        if r.startswith(b"* VANISHED (EARLIER) "):
            raise Broken("VANISHED (EARLIER) where nobody asked for it")
        self.check_may_remove(r)
        for uid in read_set(r[len(b"* VANISHED "):].strip()):
            self.removed(view.vanished(uid), uid)

    def removed(self, entry, uid=None):
        for context in self.view.contexts.values():
            context.removed(entry, uid is not None)
        uid = uid or entry.uid
        self.command.removed(uid)
        if self.view.box.kept and uid is not None:
            self.world.ledger.saw_gone(self.view.box, uid, self.what())

    def on_uidfetch(self, uid, r):
        """FETCH that names its message by UID."""
        view = self.need_view(r)
        if not self.is_uid_only:
            raise Broken(f"UIDFETCH to a client that wants numbers: {r[:200]!r}")
        self.fetch_of(view.adopt(uid) + 1, r.replace(b" UIDFETCH (", b" FETCH (", 1))

    def on_fetch(self, seq, r):
        if self.is_uid_only:
            raise Broken(f"FETCH by number in UIDONLY: {r[:200]!r}")
        self.fetch_of(seq, r)

    def on_status(self, r):
        if not self.is_notified:
            raise Broken(f"STATUS nobody asked for: {r!r}")

    def fetch_of(self, seq, r):
        view = self.need_view(r)
        m = PLAIN_FETCH.match(r)
        if m:
            items = {}
            if m.group(2) is not None:
                items[b"UID"] = m.group(2)
            if m.group(3) is not None:
                items[b"MODSEQ"] = [m.group(3)]
            if m.group(4) is not None:
                items[b"FLAGS"] = m.group(4).split()
        else:
            try:
                items = parse_fetch(r)[1]
            except ValueError as e:
                raise Broken(f"not the grammar of FETCH: {e}") from None
        entry = view.entry(seq)
        if b"UID" in items:
            view.set_uid(seq, int(items[b"UID"]))
        is_asked = self.command is not None and self.command.asks_for(entry, items)
        self.take_state(view, entry, items, r, is_asked)
        if self.command is not None:
            self.command.fetched(entry, seq, items)

    def take_state(self, view, entry, items, r, is_asked):
        entry.changed = self.command_number
        modseq = int(items[b"MODSEQ"][0]) if b"MODSEQ" in items else None
        if b"FLAGS" in items and not is_asked:
            if self.has_condstore and modseq is None:
                raise Broken(f"no MODSEQ with news of flags: {r!r}")
            if "QRESYNC" in self.enabled and b"UID" not in items and not self.is_uid_only:
                raise Broken(f"no UID with news of flags: {r!r}")
        if modseq is not None:
            if modseq == 0 or modseq < entry.floor:
                raise Broken(f"MODSEQ of {entry} fell from {entry.floor} to {modseq}")
            if "QRESYNC" in self.enabled and entry.modseq not in (None, modseq) and modseq <= view.modseq:
                raise Broken(f"{entry} has modseq {modseq}, but everything up to {view.modseq} was said to be told")
            entry.floor = modseq
            self.modseq_told = max(self.modseq_told, modseq)
        if b"FLAGS" in items:
            self.take_flags(view, entry, frozenset(f.lower() for f in items[b"FLAGS"]), modseq)
        elif modseq is not None and modseq != entry.modseq and not (self.command and self.command.changes_flags):
            entry.flags = None
        if modseq is not None or b"FLAGS" in items:
            entry.modseq = modseq

    def what(self):
        return f"session {self.number} in {self.command.text()[:80] if self.command else b''}"

    def take_flags(self, view, entry, flags, modseq):
        if b"\\recent" not in flags and not {f for f in flags if not f.startswith(b"\\")} <= view.keywords:
            raise Broken(f"keywords {sorted(flags)} were not in the last FLAGS: {sorted(view.keywords)}")
        if modseq is not None and modseq == entry.modseq and entry.flags not in (None, flags):
            raise Broken(f"{entry} has other flags at the same modseq: {sorted(flags)}")
        entry.flags = flags
        if entry.uid is None or not view.box.kept:
            return
        if modseq is not None:
            self.world.ledger.saw_state(view.box, entry.uid, self.user, modseq, flags, self.what())
        is_ours = self.own.get((view.box, entry.uid))
        is_on_its_way = self.is_notified and self.command is not None and self.command.changes_flags
        if self.is_own_known and not is_on_its_way and is_ours is not None and is_ours != (self.keyword in flags):
            raise Broken(f"our own change of {self.keyword} is lost: {entry}")

    def on_flags(self, r):
        view = self.need_view(r)
        names = re.match(rb"\* FLAGS \(([^)]*)\)\r\n$", r)
        if names is None:
            raise Broken(f"no such FLAGS: {r!r}")
        told = {f.lower() for f in names.group(1).split()}
        view.keywords = {f for f in told if not f.startswith(b"\\")}

    def on_ok(self, r):
        m = re.match(rb"\* OK \[([A-Z]+)(?: ([^\]]*))?\] ", r)
        name, value = (m.group(1), m.group(2)) if m else (b"", b"")
        if name == b"CLOSED":
            self.view = None
        elif name == b"HIGHESTMODSEQ":
            self.highest_modseq(int(value))
        elif name in (b"UIDVALIDITY", b"UIDNEXT", b"NOMODSEQ"):
            raise Broken(f"{name!r} outside SELECT")

    def on_no(self, r):
        if b"[NOUPDATE " in r:
            raise Broken(f"so few searches, and yet {r!r}")

    def on_bye(self, r):
        raise Broken(f"sent away: {r!r}")

    def highest_modseq(self, value):
        if self.view is None:
            return
        if value < self.view.highest_told:
            raise Broken(f"HIGHESTMODSEQ fell from {self.view.highest_told} to {value}")
        self.view.highest_told = value
        self.highest_command = value

    # ---- what is put off ----
    def suspect(self, entries):
        """Those must be gone. Messages whose UIDs are not known are alike: which of them is gone, nobody can tell."""
        there = {id(e) for e in self.view.entries}
        self.suspects_gone += [e for e in entries if e.uid is not None and id(e) in there]

    def settle_suspects(self):
        """What an answer left out must be gone, or be told to have changed, as soon as the news is here."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while suspects := self.suspects():
            if time.monotonic() > deadline:
                last = ", ".join(repr(c.text()[:200]) for c in self.last_batch)
                raise Broken(f"left out of an answer to {last}, but still there and as before: {suspects}")
            self.run(commands.Noop(self))
            time.sleep(0.02)            # no verdict hangs on it; the log stays readable
        self.suspects_gone, self.suspects_changed = [], []

    def suspects(self):
        if self.view is None:
            return []
        there = {id(e) for e in self.view.entries}
        return ([e for e in self.suspects_gone if id(e) in there]
                + [e for e, number in self.suspects_changed if id(e) in there and e.changed < number])

    # ---- life ----
    def step(self):
        kind = self.rng.random()
        if kind < 0.01:
            commands.cut_off(self)
        elif kind < 0.02:
            commands.take_snapshot(self)
            if "UNAUTHENTICATE" in self.capabilities and self.rng.random() < 0.5:
                self.run(extensions.Unauthenticate(self))
                self.log_in()
            else:
                self.run(commands.Logout(self))
                self.connect()
        else:
            self.run(*commands.next_batch(self))
            self.settle_suspects()
            if kind < 0.1:
                commands.take_snapshot(self)

    def catch_up(self):
        """Asks what it does not know of the messages it was told of."""
        if self.view is not None and not self.view.is_complete():
            self.run(commands.FetchNew(self))
            self.settle_suspects()

    def live(self):
        world = self.world
        try:
            while not world.is_over:
                if world.is_resting:
                    self.rest()
                else:
                    self.step()
        except threading.BrokenBarrierError:
            pass
        except BaseException as e:      # whatever it is ends the run
            world.failed(self, e)
        finally:
            self.wire.close()

    def rest(self):
        """Four meetings: nobody works any more; the truth is known; everybody agrees with it; it is put away."""
        barrier = self.world.barrier
        barrier.wait()
        barrier.wait()
        if not self.is_own_known:
            self.own, self.is_own_known = {}, True
        if self.view is not None and self.view.box is self.world.lent.box and "r" not in self.world.lent.rights:
            self.leave_lent()
        if self.view is not None and (self.user, self.view.box) in self.world.truth:
            self.agree(self.world.truth[self.user, self.view.box])
        barrier.wait()
        barrier.wait()

    def leave_lent(self):
        """What may not be read any more must close."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while self.may_lose_rights():
            if time.monotonic() > deadline:
                raise Broken(f"{self.view.box} is still open, without the right to read it")
            self.run(commands.Noop(self))
            time.sleep(0.02)

    def agree(self, truth):
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            self.run(commands.Noop(self))
            self.catch_up()
            difference = self.differs(truth)
            if difference is None:
                break
            time.sleep(0.02)
            if time.monotonic() > deadline:
                raise Broken(f"this session of {self.view and self.view.box} never agrees with a fresh one: {difference}")
        for context in list(self.view.contexts.values()) if self.view is not None else ():
            if not context.is_frozen and not context.is_blurred:        # numbers of a frozen one mean other messages by now
                self.run(extensions.SearchAgain(self, context))

    def differs(self, truth):
        view = self.view
        if view is None:
            return "the mailbox is closed" if truth.box.kept else None
        if view.uids() != sorted(truth.messages) or len(view) != len(truth.messages):
            return f"UIDs {view.uids()} against {sorted(truth.messages)}"
        for entry in view.entries:
            flags, modseq = truth.messages[entry.uid].flags, truth.messages[entry.uid].modseq
            if entry.flags != flags:
                return f"{entry} has {sorted(flags)} at modseq {modseq}"
            if entry.modseq is not None and self.has_condstore and entry.modseq != modseq:
                return f"{entry} has modseq {modseq}"
        return next((text for c in view.contexts.values() if (text := c.difference())), None)


class Found:
    __slots__ = ("ident", "flags", "modseq", "size")


class Truth:
    """A mailbox as a fresh session finds it when nobody works."""

    def __init__(self, world, box, user):
        self.box, self.user, self.messages = box, user, {}
        self.name = box.name_for(user)
        self.wire, self.number = Wire(world.server.port("imap")), 0
        self.wire.response()
        try:
            self.ask(b"LOGIN %s %s" % (user.encode(), PASSWORD.encode()))
            deadline = time.monotonic() + SETTLE_SECONDS
            while (difference := self.look(world)) is not None:
                if time.monotonic() > deadline:
                    raise Broken(f"{box}: a fresh session and STATUS never agree: {difference}\n{wire_log(self.wire)}")
        finally:
            self.wire.close()

    def ask(self, text):
        self.number += 1
        tag = b"c%d" % self.number
        self.wire.send(tag + b" " + text + b"\r\n")
        untagged = []
        while not (r := self.wire.response()).startswith(tag + b" "):
            untagged.append(r)
        if not r.startswith(tag + b" OK"):
            raise Broken(f"{text!r}: {r!r}")
        return untagged

    def look(self, world):
        name = self.name
        told = b"".join(self.ask(b"EXAMINE " + name))
        wants_body = world.rng.random() < 0.3
        self.messages = {}
        if not re.search(rb"\* 0 EXISTS", told):
            items = b"UID FLAGS MODSEQ RFC822.SIZE BODY.PEEK[HEADER.FIELDS (X-Stress-Id)]" + (b" BODY.PEEK[]" if wants_body else b"")
            for r in self.ask(b"FETCH 1:* (" + items + b")"):
                self.take(r)
        status = self.ask(b"STATUS %s (MESSAGES UNSEEN UIDNEXT UIDVALIDITY SIZE DELETED DELETED-STORAGE HIGHESTMODSEQ)" % name)
        numbers = {k: int(v) for k, v in re.findall(rb"([A-Z-]+) (\d+)", b"".join(status).rpartition(b"(")[2])}
        world.ledger.number_told(self.box, numbers[b"UIDNEXT"], self.user, numbers[b"HIGHESTMODSEQ"])
        return self.compare(told, numbers)

    def take(self, r):
        if b" FETCH (" not in r[:30]:
            return
        items = parse_fetch(r)[1]
        found = Found()
        found.flags = frozenset(f.lower() for f in items[b"FLAGS"])
        found.modseq, found.size = int(items[b"MODSEQ"][0]), int(items[b"RFC822.SIZE"])
        header = items[b"BODY[HEADER.FIELDS (X-Stress-Id)]"]
        found.ident = header.partition(b": ")[2].strip().decode()
        if b"BODY[]" in items:
            check_message(found.ident, items[b"BODY[]"])
            if len(items[b"BODY[]"]) != found.size:
                raise Broken(f"RFC822.SIZE {found.size} of {len(items[b'BODY[]'])} bytes")
        self.messages[int(items[b"UID"])] = found

    def compare(self, told, numbers):
        m = list(self.messages.values())
        counted = {b"MESSAGES": len(m), b"UNSEEN": sum(b"\\seen" not in f.flags for f in m), b"SIZE": sum(f.size for f in m),
                   b"DELETED": sum(b"\\deleted" in f.flags for f in m),
                   b"DELETED-STORAGE": sum(f.size for f in m if b"\\deleted" in f.flags)}
        for name in (b"UIDNEXT", b"UIDVALIDITY", b"HIGHESTMODSEQ"):
            counted[name] = int(re.search(rb"\[%s (\d+)\]" % name, told).group(1))
        if any(numbers[k] != v for k, v in counted.items()):
            return f"STATUS {numbers}, counted {counted}"
        if max([0, *self.messages]) >= numbers[b"UIDNEXT"] or max([0, *(f.modseq for f in m)]) > numbers[b"HIGHESTMODSEQ"]:
            return f"STATUS {numbers} is below what messages have"
        return None


class Deliverer:
    """Messages that arrive by LMTP and SMTP meanwhile."""

    def __init__(self, world):
        self.world, self.rng, self.count = world, random.Random(f"{world.seed}/delivery"), 0

    def deliver(self):
        self.count += 1
        ident = f"{self.world.seed}-delivery-{self.count}"
        smtp = self.world.server.smtp(self.rng.choice(("lmtp", "smtp")))
        with smtp:
            smtp.sendmail("s@elsewhere.test", [USER], make_message(ident))
        ledger = self.world.ledger
        with ledger.lock:
            ledger.delivered[ident] = self.world.boxes[0]
            ledger.counts["delivered"] += 1

    def live(self):
        world = self.world
        try:
            while not world.is_over:
                if world.is_resting:
                    for _ in range(4):
                        world.barrier.wait()
                else:
                    self.deliver()
                    time.sleep(self.rng.random())
        except threading.BrokenBarrierError:
            pass
        except BaseException as e:
            world.failed(None, e)


def wire_log(wire):
    return "\n".join("    " + line.decode(errors="backslashreplace") for line in wire.log)


class World:
    """Server, mailboxes and sessions of one run."""

    def __init__(self, server, seed=1, sessions=10, phase=8.0, trace=None):
        self.trace = trace              # directory for all traffic when something failed
        self.server, self.seed, self.phase = server, seed, phase
        self.rng = random.Random(f"{seed}/world")
        self.ledger = Ledger()
        self.user, self.friend = USER, FRIEND
        self.boxes = [Box("INBOX", USER), Box("One", USER), Box("Two", USER, replaces=False, shared=True),
                      Box("Three", USER, replaces=False, shared=True)]
        self.loose = [Box("Loose-a", USER, kept=False), Box("Loose-b", USER, kept=False)]
        self.lent = Lent(Box("Lent", USER, kept=False, replaces=False))
        self.friends_inbox = Box("INBOX", FRIEND, kept=False)
        self.truth = {}
        self.failure = None
        self.is_over = self.is_resting = False
        self.commands = collections.Counter()
        self.lock = threading.Lock()
        self.prepare()
        self.snapshots = {user: {box: collections.deque(maxlen=8) for box in self.boxes} for user in (USER, FRIEND)}
        self.clients = [Client(self, n) for n in range(sessions)]
        self.barrier = threading.Barrier(sessions + 2)

    def prepare(self):
        """The friend takes part where mailboxes can be shared."""
        with self.server.imap(USER) as c:
            self.has_friend = "ACL" in c.capabilities or b" ACL" in c.capability()[1][0]
            for box in self.boxes[1:]:
                c.create(box.name)
                if box.shared and self.has_friend:
                    c.setacl(box.name, FRIEND, "lrswipkxte")
            c.create(self.lent.box.name)
        if self.has_friend:
            self.boxes.append(Box("Friends", FRIEND, replaces=False))
            with self.server.imap(FRIEND) as c:
                c.create("Friends")

    def write_traces(self):
        """What sessions wrote and read since they connected last, one file each."""
        if self.trace is None:
            return
        self.trace.mkdir(parents=True, exist_ok=True)
        for client in self.clients:
            (self.trace / str(client.number)).write_bytes(b"\n".join([*client.wire.trace]) + b"\n")

    def count(self, batch):
        with self.lock:
            self.commands.update(type(command).__name__ for command in batch)

    def failed(self, client, error):
        with self.lock:
            if self.failure is None:
                trace = "" if isinstance(error, Broken) else "".join(traceback.format_exception(error))
                self.failure = (f"seed {self.seed}: {type(error).__name__}: {error}\n{trace}"
                                + (f"  session {client.number} ({sorted(client.enabled)}), its last lines:\n{wire_log(client.wire)}"
                                   if client else ""))
                self.write_traces()
        self.is_over = True
        self.barrier.abort()

    def connections(self):
        """How many the server holds of ours: established, or closed by us and not yet by it."""
        port = f":{self.server.port('imap'):04X}"
        rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[1].endswith(port) and row[3] in ("01", "08") for row in rows)

    def compare_everything(self):
        """While all sessions wait, and what was cut off has come to its end."""
        if not eventually(lambda: self.connections() <= len(self.clients), SETTLE_SECONDS):
            raise Broken(f"{self.connections()} connections are open, of {len(self.clients)}")
        lent = self.lent.box
        self.truth = {(box.owner, box): Truth(self, box, box.owner) for box in self.boxes + [lent]}
        if self.has_friend:
            self.truth.update({(FRIEND, box): Truth(self, box, FRIEND) for box in self.boxes if box.shared})
            if "r" in self.lent.rights:
                self.truth[FRIEND, lent] = Truth(self, lent, FRIEND)
        self.alive = {box: {uid: (found.ident, found.flags) for uid, found in self.truth[box.owner, box].messages.items()}
                      for box in self.boxes}
        self.ledger.audit(self.boxes, self.alive)

    def rest_once(self):
        self.is_resting = True
        self.barrier.wait()
        self.compare_everything()
        self.is_resting = False
        self.barrier.wait()
        self.barrier.wait()
        self.ledger.forget(self.boxes, self.alive)
        self.barrier.wait()

    def run(self, seconds):
        """Raises Broken with a report when a rule was broken."""
        threads = [threading.Thread(target=c.live) for c in (*self.clients, Deliverer(self))]
        for t in threads:
            t.start()
        deadline = time.monotonic() + seconds
        try:
            while not self.is_over:
                time.sleep(min(self.phase, 1) if self.failure else self.phase)
                if self.is_over:
                    break
                self.rest_once()
                if time.monotonic() > deadline:
                    break
        except threading.BrokenBarrierError:
            pass
        except BaseException as e:
            self.failed(None, e)
        self.is_over = True
        self.barrier.abort()
        for t in threads:
            t.join(SETTLE_SECONDS * 3)
        if self.failure:
            raise Broken(self.failure)

    def report(self):
        total = sum(self.commands.values())
        return f"{total} commands of {len(self.commands)} kinds, {self.ledger.counts}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--binary", type=pathlib.Path)
    parser.add_argument("--trace", type=pathlib.Path, help="directory for all traffic when something failed")
    options = parser.parse_args()
    server = Server(workers=options.workers, binary=options.binary)
    print(f"seed {options.seed}, {server.binary}", flush=True)
    status = 1
    try:
        server.start()
        server.cli("domain", "add", "example.test")
        server.add_accounts("stress", "friend")
        world = World(server, options.seed, options.sessions, trace=options.trace)
        try:
            world.run(options.minutes * 60)
            status = 0
        except Broken as e:
            print(e)
        print(world.report())
        for name, count in world.commands.most_common():
            print(f"  {count:8} {name}")
    finally:
        if server.stop() != 0 or "Sanitizer" in server.log():
            status = 1
        if status != 0:
            print(server.log()[-5000:])
            print((server.data / "log/postgres.log").read_text(errors="replace")[-5000:])
        server.remove()
    sys.exit(status)


if __name__ == "__main__":
    main()
