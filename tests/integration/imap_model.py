"""What a strict client believes of a mailbox, and what all clients together know to be true.

View is one session's picture, built only from what the server told it; whatever contradicts the picture raises
Broken. Ledger is common to all sessions: which message was given which UID, which may have gone, which must be there."""

import hashlib
import random
import threading

SYSTEM_FLAGS = (b"\\seen", b"\\flagged", b"\\answered", b"\\draft", b"\\deleted")


class Broken(AssertionError):
    """A rule of the protocol that the server broke."""


# ---- sets ----------------------------------------------------------------------------------------
def read_set(text):
    """b"1,4:6" -> [1, 4, 5, 6], in the order of the text."""
    numbers = []
    for part in text.split(b","):
        first, _, last = part.partition(b":")
        a, b = int(first), int(last or first)
        numbers.extend(range(a, b + 1) if a <= b else range(a, b - 1, -1))
    return numbers


def write_set(numbers):
    """[1, 4, 5, 6] -> "1,4:6"."""
    out, numbers = [], sorted(numbers)
    at = 0
    while at < len(numbers):
        to = at
        while to + 1 < len(numbers) and numbers[to + 1] == numbers[to] + 1:
            to += 1
        out.append(str(numbers[at]) if to == at else f"{numbers[at]}:{numbers[to]}")
        at = to + 1
    return ",".join(out)


# ---- messages ------------------------------------------------------------------------------------
def make_message(ident):
    """The bytes of a message follow from its id, so that any client can tell whether they are intact."""
    rng = random.Random(ident)
    lines = 1500 if rng.random() < 0.01 else rng.randrange(30)
    body = b"".join(b"%x " % rng.getrandbits(8 * rng.randrange(1, 30)) + b"line\r\n" for _ in range(lines))
    return (b"X-Stress-Id: " + ident.encode() + b"\r\nFrom: \"Stress\" <s@elsewhere.test>\r\nTo: stress@example.test\r\n"
            b"Subject: message " + ident.encode() + b"\r\nMessage-ID: <" + ident.encode() + b"@elsewhere.test>\r\n"
            b"Date: Mon, 23 Nov 2026 10:%02d:00 +0000\r\n\r\n" % rng.randrange(60) + body)


def check_message(ident, raw):
    """Delivery may put fields ahead of ours; behind them every byte counts."""
    at = raw.find(b"X-Stress-Id: ")
    if at < 0 or hashlib.sha1(raw[at:]).digest() != hashlib.sha1(make_message(ident)).digest():
        raise Broken(f"the bytes of {ident} are not those stored: {raw[:300]!r}")


# ---- one session ---------------------------------------------------------------------------------
class Entry:
    __slots__ = ("uid", "flags", "modseq", "floor", "changed")

    def __init__(self):
        self.uid = self.flags = self.modseq = None
        self.floor = 0                  # the highest modseq told
        self.changed = -1               # number of the last command in which something was told of it

    def __repr__(self):
        return f"<uid {self.uid} {self.flags} modseq {self.modseq}>"


class View:
    """The selected mailbox as its client knows it. A uid, flags or modseq of None is not known yet."""

    def __init__(self, box, read_only, uid_only=False):
        self.box, self.read_only, self.uid_only = box, read_only, uid_only
        self.entries = []
        self.exists_told = False
        self.uid_validity = self.uid_next = None
        self.modseq = 0                 # up to which a QRESYNC client was told everything
        self.highest_told = 0           # by HIGHESTMODSEQ
        self.keywords = set()           # of the last FLAGS
        self.saved = None               # "$": set of uids; None: not known
        self.contexts = {}              # tag -> results that the server keeps up to date (imap_stress_extensions.py)

    def __len__(self):
        return len(self.entries)

    def exists(self, count):
        if count < len(self.entries):
            raise Broken(f"EXISTS fell from {len(self.entries)} to {count} without EXPUNGE")
        self.entries.extend(Entry() for _ in range(count - len(self.entries)))
        self.exists_told = True
        self.box.size = count

    def entry(self, seq):
        if not 1 <= seq <= len(self.entries):
            raise Broken(f"number {seq} where {len(self.entries)} messages exist")
        return self.entries[seq - 1]

    def expunge(self, seq):
        entry = self.entry(seq)
        del self.entries[seq - 1]
        return entry

    def position(self, uid):
        """Index of a known uid, or None."""
        for i, entry in enumerate(self.entries):
            if entry.uid == uid:
                return i
        return None

    def by_uid(self, uid):
        i = self.position(uid)
        return None if i is None else self.entries[i]

    def vanished(self, uid):
        """One UID of VANISHED: it must be in the view. Of messages whose UIDs the client never asked for, those between
        the same neighbours are alike."""
        i = self.position(uid)
        if i is None:
            i = self.unknown_at(uid)
            self.forget_unknown()
        if i is None:
            raise Broken(f"VANISHED {uid}, which is not in the mailbox")
        return self.entries.pop(i)

    def forget_unknown(self):
        """What was told by number of messages whose UIDs are not known: which number is whose now?"""
        for e in self.entries:
            if e.uid is None:
                e.flags, e.modseq, e.floor = None, None, 0

    def unknown_at(self, uid):
        if self.uid_only:               # there are no numbers: any will do
            return next((i for i, e in enumerate(self.entries) if e.uid is None), None)
        for i, entry in enumerate(self.entries):
            if entry.uid is not None:
                if entry.uid > uid:
                    break
                continue
            following = next((e.uid for e in self.entries[i:] if e.uid is not None), None)
            if following is None or following > uid:
                return i
        return None

    def set_uid(self, seq, uid):
        entry = self.entry(seq)
        if entry.uid is not None and entry.uid != uid:
            raise Broken(f"message {seq} has UID {uid}, but the client was told {entry.uid}")
        if entry.uid is None:
            before = next((e.uid for e in reversed(self.entries[:seq - 1]) if e.uid is not None), 0)
            behind = next((e.uid for e in self.entries[seq:] if e.uid is not None), 1 << 32)
            if not before < uid < behind:
                raise Broken(f"message {seq} has UID {uid}, between {before} and {behind}")
            entry.uid = uid

    def adopt(self, uid):
        """The entry of a message named by UID alone; the messages not known yet stand behind the others."""
        i = self.position(uid)
        if i is not None:
            return i
        i = self.unknown_at(uid)
        if i is None:
            raise Broken(f"UID {uid} is not among the {len(self.entries)} messages")
        entry = self.entries.pop(i)
        entry.uid = uid
        at = sum(1 for e in self.entries if e.uid is not None and e.uid < uid)
        self.entries.insert(at, entry)
        return at

    def uids(self):
        return [e.uid for e in self.entries if e.uid is not None]

    def is_complete(self):
        return all(e.uid is not None and e.flags is not None for e in self.entries)

    def seqs_in(self, ranges):
        """Positions (from 1) of sequence ranges [(from, to)]; 0 stands for "*"."""
        count, found = len(self.entries), set()
        for a, b in ranges:
            a, b = sorted((a or count, b or count))
            found.update(range(max(a, 1), min(b, count) + 1))
        return sorted(found)

    def entries_of_seqs(self, ranges):
        return [self.entries[seq - 1] for seq in self.seqs_in(ranges)]

    def entries_of_uids(self, ranges):
        """Entries known to be in the set; "*" is the last message, even where that is below the other end."""
        last = self.entries[-1].uid if self.entries else 0
        ends = [(a, b) if b else (a, 1 << 32) if last is None else (min(a, last), max(a, last)) for a, b in ranges]
        return [e for e in self.entries if e.uid is not None and any(a <= e.uid <= b for a, b in ends)]


# ---- all sessions --------------------------------------------------------------------------------
class Box:
    """A mailbox. One that is not `kept` may be removed or renamed by anyone at any time. A shared one has another name to
    those who do not own it."""

    def __init__(self, name, owner, kept=True, replaces=True, shared=False):
        self.name, self.owner, self.kept, self.replaces, self.shared = name, owner, kept, replaces, shared
        self.uid_validity = self.mailbox_id = None
        self.uid_next = 0                   # floor: what some client was told already
        self.modseq = {}                    # the same of HIGHESTMODSEQ, by user, for each has his own \\Seen
        self.size = 0                       # as some client saw it last
        self.used_up_to = 0                 # every UID up to here is known to have been used

    def __repr__(self):
        return self.name

    def name_for(self, user):
        return self.name.encode() if user == self.owner else b'"Other Users/%s/%s"' % (self.owner.encode(), self.name.encode())

    def path_for(self, user):
        """The same for URLs."""
        return self.name_for(user).strip(b'"').replace(b" ", b"%20")


class Lent:
    """What the friend may do with a mailbox, as its owner granted it last. Changes come one at a time; what is told while
    none is under way, and none was meanwhile, must fit exactly."""

    def __init__(self, box):
        self.box, self.lock = box, threading.Lock()
        self.rights, self.version = frozenset(), 0      # the version is odd while they are being changed

    def begin(self):
        if not self.lock.acquire(timeout=120):
            raise Broken("a change of rights takes for ever")
        self.version += 1

    def end(self, rights):
        self.rights = rights
        self.version += 1
        self.lock.release()

    def now(self):
        return self.version

    def since(self, version):
        """The rights at all times since then; None where they changed."""
        rights = self.rights
        return rights if version == self.version and version % 2 == 0 else None


class Row:
    __slots__ = ("ident", "source")

    def __init__(self, ident=None, source=None):
        self.ident, self.source = ident, source


class Ledger:
    """Rows by (box, uid), from APPENDUID and COPYUID. A message may be gone only when somebody marked it deleted or moved
    it; those marks are made before the command is sent, so they never come too late."""

    def __init__(self):
        self.lock = threading.RLock()
        self.rows = {}
        self.seen_ids = {}              # (box, uid) -> id, as somebody fetched it
        self.states = {}                # (box, uid, user, modseq) -> flags
        self.object_ids = {}            # (box, uid) -> EMAILID; EMAILID -> THREADID
        self.previews = {}              # EMAILID -> PREVIEW
        self.copies = []                # (source, made): a copy of what may be deleted may be deleted
        self.deletable = set()
        self.doomed = set()             # ids stored as deleted by APPENDs whose answer nobody saw: copies may go before anybody looks
        self.moved = set()              # sources of answered MOVEs
        self.maybe_moved = set()        # of MOVEs whose answer nobody saw
        self.gone = {}                  # somebody was told so: (box, uid) -> who
        self.delivered = {}             # id -> Box, answered with 250
        self.maybe = []                 # (box, id) of APPENDs and deliveries whose answer nobody saw
        self.maybe_copies = []          # (box, source)
        self.history = []               # (ident, what happened), since everything was last settled
        self.cut_off = []               # (session, view, commands) that nobody read the answers of, since then
        self.counts = {"appended": 0, "delivered": 0, "copied": 0, "moved": 0, "gone": 0}

    def happened(self, ident, what):
        self.history.append((ident, what))

    def history_of(self, ident):
        return "; ".join(what for i, what in self.history if i == ident) + f"; cut off meanwhile: {self.cut_off}"

    def appended(self, box, uid, ident, deletable=False):
        self.happened(ident, f"stored in {box} as {uid}")
        self.add(box, uid, Row(ident), deletable)
        self.counts["appended"] += 1

    def copied(self, source_box, source_uid, box, uid, moved):
        with self.lock:
            source = (source_box, source_uid)
            if moved and source_box.kept:
                if source in self.moved:
                    raise Broken(f"{source} was moved twice")
                self.moved.add(source)
            if box.kept:
                ident = self.ident_of(*source)
                self.add(box, uid, Row(ident, source if source_box.kept and ident is None else None), not source_box.kept)
                self.copies.append((source, (box, uid)))
                self.happened(ident, f"{'moved' if moved else 'copied'} from {source} to {box} as {uid}")
            self.counts["moved" if moved else "copied"] += 1

    def ident_of(self, box, uid):
        row = self.rows.get((box, uid))
        return (row.ident if row else None) or self.seen_ids.get((box, uid))

    def add(self, box, uid, row, deletable):
        with self.lock:
            if (box, uid) in self.rows or uid <= box.used_up_to:
                raise Broken(f"UID {uid} of {box} was given to a second message")
            seen = self.seen_ids.get((box, uid))
            if seen is not None and row.ident is not None and seen != row.ident:
                raise Broken(f"UID {uid} of {box} is {seen}, but was answered for {row.ident}")
            self.rows[box, uid] = row
            box.uid_next = max(box.uid_next, uid + 1)
            if deletable:
                self.deletable.add((box, uid))

    def saw_id(self, box, uid, ident):
        with self.lock:
            before = self.seen_ids.setdefault((box, uid), ident)
            row = self.rows.get((box, uid))
            if before != ident or (row is not None and row.ident not in (None, ident)):
                raise Broken(f"UID {uid} of {box} is {ident}, but was {before} and {row.ident if row else 'not answered for'}")

    def saw_state(self, box, uid, user, modseq, flags, who):
        """A modseq stands for one state of the message, in whatever session of a user."""
        with self.lock:
            before, first = self.states.setdefault((box, uid, user, modseq), (flags, who))
            if before != flags:
                raise Broken(f"UID {uid} of {box} at modseq {modseq} has {sorted(flags)} ({who}), but had {sorted(before)} ({first})")
            box.modseq[user] = max(box.modseq.get(user, 0), modseq)

    def saw_object(self, box, uid, email_id, thread_id, preview):
        """Ids and previews never change; EMAILID stands for one content (RFC 8474, 5.1)."""
        with self.lock:
            for table, key, value in ((self.object_ids, (box, uid), email_id), (self.object_ids, email_id, thread_id),
                                      (self.previews, email_id, preview)):
                if table.setdefault(key, value) != value:
                    raise Broken(f"{key} had {table[key]!r}, and has {value!r}")

    def saw_gone(self, box, uid, who):
        with self.lock:
            self.gone.setdefault((box, uid), who)
            self.counts["gone"] += 1

    def may_be_deleted(self, box, uids):
        with self.lock:
            self.deletable.update((box, uid) for uid in uids)

    def number_told(self, box, uid_next, user, modseq):
        with self.lock:
            box.uid_next = max(box.uid_next, uid_next)
            box.modseq[user] = max(box.modseq.get(user, 0), modseq)

    # ---- at rest: no command is under way ----
    def is_accounted_for(self, key):
        return key in self.deletable or key in self.moved or key in self.maybe_moved or self.ident_of(*key) in self.doomed

    def is_unclear(self, box):
        """Did anybody leave without knowing what he put there?"""
        return any(target is box for target, _ in self.maybe + self.maybe_copies)

    def audit(self, boxes, alive):
        """alive: box -> {uid: (id, flags)}, as a fresh session found it. Nothing is lost, doubled or back from the dead."""
        for box in boxes:
            for uid, (ident, flags) in alive[box].items():
                self.saw_id(box, uid, ident)
                if b"\\deleted" in flags:
                    self.deletable.add((box, uid))
                if (box, uid) in self.gone or (box, uid) in self.moved:
                    raise Broken(f"UID {uid} of {box} was told to be gone, and is there")
        self.follow_copies()
        self.audit_sources()
        self.explain(boxes, alive)
        self.audit_missing(boxes, alive)

    def follow_copies(self):
        before = -1
        while before != len(self.deletable):
            before = len(self.deletable)
            self.deletable.update(made for source, made in self.copies if source in self.deletable)

    def audit_sources(self):
        for key, row in self.rows.items():
            ident = row.ident or self.seen_ids.get(key)
            source = self.seen_ids.get(row.source) if row.source else None
            if source is None and row.source in self.rows:
                source = self.rows[row.source].ident
            if ident is not None and source is not None and ident != source:
                raise Broken(f"{key} is {ident}, but was copied from {row.source}, which is {source}")
            row.ident = ident or source

    def explain(self, boxes, alive):
        """Messages nobody was given a UID for: deliveries, and commands whose answer nobody read."""
        for box in boxes:
            for uid, (ident, _) in alive[box].items():
                if (box, uid) in self.rows:
                    continue
                if self.delivered.get(ident) is box:
                    del self.delivered[ident]
                elif (box, ident) in self.maybe:
                    self.maybe.remove((box, ident))
                else:
                    self.take_maybe_copy(box, uid, ident)
                self.rows[box, uid] = Row(ident)

    def take_maybe_copy(self, box, uid, ident):
        for wanted in (ident, None):    # None: nobody has looked at the source
            for i, (target, source) in enumerate(self.maybe_copies):
                if target is box and self.ident_of(*source) == wanted:
                    del self.maybe_copies[i]
                    return
        raise Broken(f"UID {uid} of {box} is {ident}, which nobody put there: {self.history_of(ident)}")

    def audit_missing(self, boxes, alive):
        for key, row in self.rows.items():
            if key[0] in alive and key[1] not in alive[key[0]] and not self.is_accounted_for(key):
                raise Broken(f"{key} ({row.ident}) is lost, nobody deleted or moved it: {self.history_of(row.ident)}")
        for key, who in self.gone.items():
            if key[0] in alive and not self.is_accounted_for(key) and (key in self.rows or not self.is_unclear(key[0])):
                raise Broken(f"{key} is gone, but nobody deleted or moved it; first told to {who}")
        passed = {row.ident for row in self.rows.values()} | set(self.seen_ids.values())
        unseen = [(ident, box) for ident, box in self.delivered.items() if ident not in passed]
        nameless = sum(1 for box in boxes for uid in range(box.used_up_to + 1, box.uid_next)
                       if (box, uid) not in self.rows and (box, uid) not in self.seen_ids and self.is_accounted_for((box, uid)))
        if len(unseen) > nameless:
            raise Broken(f"deliveries are lost: {unseen[:5]}")
        for ident, _ in unseen:
            del self.delivered[ident]
        self.delivered = {ident: box for ident, box in self.delivered.items() if ident not in passed}

    def forget(self, boxes, alive):
        """What is settled, and told to everybody, needs no memory."""
        is_alive = {(box, uid) for box in boxes for uid in alive[box]}
        self.rows = {key: row for key, row in self.rows.items() if key in is_alive}
        self.seen_ids = {key: ident for key, ident in self.seen_ids.items() if key in is_alive}
        self.states.clear()
        self.object_ids.clear()
        self.previews.clear()
        self.copies.clear()
        self.doomed.clear()
        self.gone.clear()
        self.history.clear()
        self.cut_off.clear()
        for marks in (self.deletable, self.moved, self.maybe_moved):
            marks &= is_alive
        self.maybe_copies = [(box, source) for box, source in self.maybe_copies if source in is_alive]
        for box in boxes:
            box.used_up_to = max([box.used_up_to, *alive[box]])


def random_ranges(rng, numbers):
    """A set as clients write them: one number, some, a range, all; numbers ascend."""
    kind = rng.random()
    if kind < 0.4:
        n = rng.choice(numbers)
        return [(n, n)]
    if kind < 0.75:
        a, b = sorted((rng.randrange(len(numbers)), rng.randrange(len(numbers))))
        b = min(b, a + rng.choice((3, 10, 40)))
        return [(numbers[a], numbers[b])]
    chosen = sorted(rng.sample(numbers, min(len(numbers), rng.randint(2, 6))))
    return [(n, n) for n in chosen]


def spell(ranges):
    return ",".join(str(a) if a == b else f"{a}:{b or '*'}" for a, b in ranges)

