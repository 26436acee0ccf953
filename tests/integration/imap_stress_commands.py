"""What a session of imap_stress.py may do: one class per command, one row per command in ROWS.

A command is made from what its client knows, sent (alone or in a pipeline), and follows its own answer: begin() when
the server's turn comes to it, fetched() and takes() for each response, done() at the tagged one."""

import re
import time

from imap_model import Broken, SYSTEM_FLAGS, View, check_message, make_message, random_ranges, read_set, spell, write_set

BOX_FULL = 120                          # above it sessions delete more
SHARED_KEYWORDS = (b"red", b"$Work", b"later")


class Command:
    lets_numbers_move = True            # EXPUNGE and VANISHED may come with its answer
    changes_flags = False
    is_interactive = False
    ends_batch = False
    is_never_cut = False                # its outcome must be known
    needs_view = False
    expects = ("OK",)

    def __init__(self, client):
        self.client, self.rng, self.world = client, client.rng, client.world

    @classmethod
    def is_possible(cls, client):
        return True

    def text(self):
        raise NotImplementedError

    def before_send(self):
        """Marks that others rely on."""

    def begin(self):
        self.had_view = self.client.view is not None

    def takes(self, r):
        return False

    def asks_for(self, entry, items):
        return False

    def fetched(self, entry, seq, items):
        pass

    def removed(self, uid):
        pass

    def check_status(self, status, code, text):
        if status in self.expects or (status != "OK" and self.needs_view and self.is_closed()):
            return
        if status == "NO" and code == b"NOPERM" and self.needs_view and self.client.may_lose_rights():
            return
        raise Broken(f"{self.text()[:200]!r} got {status} [{code!r}] {text!r}")

    def is_closed(self):
        """Was the mailbox removed before this command's turn, or in it?"""
        return not self.had_view or self.client.view is None

    def done(self, status, code):
        pass

    def lost(self):
        """The connection was cut: nobody knows what became of it."""


class Simple(Command):
    word = b""

    def text(self):
        return self.word


class Noop(Simple):
    word = b"NOOP"


class Check(Simple):
    word, needs_view = b"CHECK", True


class Capability(Simple):
    word = b"CAPABILITY"

    def takes(self, r):
        if r.startswith(b"* CAPABILITY "):
            self.client.capabilities = set(r.decode().split()[2:])
            return True
        return False


class Namespace(Simple):
    word = b"NAMESPACE"

    def takes(self, r):
        return r.startswith(b"* NAMESPACE ")


class Id(Simple):
    word = b'ID ("name" "stress")'

    def takes(self, r):
        return r.startswith(b"* ID ")


class Logout(Simple):
    word, ends_batch, is_never_cut = b"LOGOUT", True, True

    def takes(self, r):
        return r.startswith(b"* BYE ")


class Login(Command):
    def __init__(self, client, user, password):
        super().__init__(client)
        self.words = f"LOGIN {user} {password}".encode()

    def text(self):
        return self.words


class Enable(Command):
    def __init__(self, client, names):
        super().__init__(client)
        self.names = names

    def text(self):
        return b"ENABLE " + " ".join(self.names).encode()

    def takes(self, r):
        if r.startswith(b"* ENABLED"):
            self.client.enabled |= set(r.decode().split()[2:])
            return True
        return False


# ---- opening and closing -------------------------------------------------------------------------
class Snapshot:
    """What a client keeps to come back with QRESYNC."""

    def __init__(self, view):
        self.uid_validity, self.modseq = view.uid_validity, view.modseq
        self.messages = {e.uid: (e.flags, e.modseq) for e in view.entries}


def take_snapshot(client):
    view = client.view
    if view is None or not view.box.kept or "QRESYNC" not in client.enabled or not view.is_complete() or view.modseq == 0:
        return
    client.snapshots[view.box].append(Snapshot(view))


class Select(Command):
    ends_batch = True

    def __init__(self, client):
        super().__init__(client)
        self.box = self.rng.choice(client.boxes * 4 + client.loose)
        self.view = View(self.box, self.rng.random() < 0.15, client.is_uid_only)
        self.snapshot = self.known = None
        self.option = self.choose_option()
        self.vanished = []
        self.gone_meanwhile, self.arrived = set(), 0
        self.expects = ("OK",) if self.box.kept else ("OK", "NO")

    def choose_option(self):
        client, rng = self.client, self.rng
        snapshots = client.snapshots.get(self.box)
        if "QRESYNC" in client.enabled and snapshots and rng.random() < 0.8:
            return self.resync_option(rng.choice(list(snapshots)))
        if rng.random() < 0.1:
            return b" (CONDSTORE)"
        return b""

    def resync_option(self, snapshot):
        self.snapshot, uids = snapshot, sorted(snapshot.messages)
        known, kind = b"", self.rng.random()
        if uids and kind < 0.5:
            self.known = uids if kind < 0.35 else sorted(self.rng.sample(uids, (len(uids) + 1) // 2))
            known = b" " + write_set(self.known).encode()
            if kind < 0.2 and not self.client.is_uid_only:      # pairs to tell the server how far the client's numbers are right
                seqs = sorted(self.rng.sample(range(1, len(uids) + 1), min(len(uids), 5)))
                known += b" (%s %s)" % (",".join(map(str, seqs)).encode(), ",".join(str(uids[s - 1]) for s in seqs).encode())
        return b" (QRESYNC (%d %d%s))" % (snapshot.uid_validity, snapshot.modseq, known)

    def text(self):
        return (b"EXAMINE " if self.view.read_only else b"SELECT ") + self.client.name_of(self.box) + self.option

    def before_send(self):
        take_snapshot(self.client)
        self.uid_next_floor, self.modseq_floor = self.box.uid_next, self.client.modseq_floor(self.box)
        self.lent_version = self.world.lent.now()

    def begin(self):
        if self.client.view is None:
            self.client.view = self.view

    def takes(self, r):
        client = self.client
        if r.startswith(b"* OK [CLOSED] ") and client.view is not self.view:
            client.view = self.view
            return True
        if client.view is not self.view:
            return False
        if r.startswith(b"* VANISHED (EARLIER) "):
            self.vanished += read_set(r[len(b"* VANISHED (EARLIER) "):].strip())
            return self.snapshot is not None
        if (m := re.match(rb"\* (\d+) EXISTS", r)) and self.view.exists_told:
            self.arrived += int(m.group(1)) - len(self.view)
            return False
        m = re.match(rb"\* OK \[(UIDVALIDITY|UIDNEXT|UNSEEN) (\d+)\] ", r)
        if m is None:
            return r.startswith((b"* LIST (", b"* OK [PERMANENTFLAGS "))
        if m.group(1) == b"UIDVALIDITY":
            self.view.uid_validity = int(m.group(2))
        elif m.group(1) == b"UIDNEXT":
            self.view.uid_next = int(m.group(2))
        return True

    def removed(self, uid):
        self.gone_meanwhile.add(uid)

    def done(self, status, code):
        client, view = self.client, self.view
        if self.box is self.world.lent.box and client.user != self.box.owner:
            self.check_rights(status, code)
        if status != "OK":
            if client.view is view:
                client.view = None
            return
        if client.view is not view:
            raise Broken("no CLOSED before another mailbox is opened")
        if not view.exists_told or None in (view.uid_validity, view.uid_next) or view.highest_told == 0:
            raise Broken("SELECT left out EXISTS, UIDVALIDITY, UIDNEXT or HIGHESTMODSEQ")
        if code != (b"READ-ONLY" if view.read_only else b"READ-WRITE") and (view.read_only or not client.may_lose_rights()):
            raise Broken(f"opened with {code!r}")
        if self.option == b" (CONDSTORE)":
            client.enabled.add("CONDSTORE")
        view.modseq = view.highest_told
        if self.box.kept:
            self.check_floors()
        if self.snapshot is not None:
            self.resync()

    def check_rights(self, status, code):
        """Rights that were so all the time (RFC 4314, 4 and 5.2)."""
        rights = self.world.lent.since(self.lent_version)
        if rights is None:
            return
        writes = rights & set("iewt") and not self.view.read_only
        if status != ("OK" if "r" in rights else "NO") or (status == "OK" and code != (b"READ-WRITE" if writes else b"READ-ONLY")):
            raise Broken(f"opened with {''.join(sorted(rights))!r}: {status} {code!r}")

    def check_floors(self):
        box, view = self.box, self.view
        box.uid_validity = box.uid_validity or view.uid_validity
        if view.uid_validity != box.uid_validity:
            raise Broken(f"UIDVALIDITY of {box} became {view.uid_validity}")
        if view.uid_next < self.uid_next_floor:
            raise Broken(f"UIDNEXT {view.uid_next}, but {self.uid_next_floor - 1} was in use before")
        if view.highest_told < self.modseq_floor:
            raise Broken(f"HIGHESTMODSEQ {view.highest_told}, but {self.modseq_floor} was told before")
        self.world.ledger.number_told(box, view.uid_next, self.client.user, view.highest_told)

    def resync(self):
        snapshot, view, vanished = self.snapshot, self.view, set(self.vanished)
        fetched = {e.uid for e in view.entries if e.uid is not None}
        if len(vanished) != len(self.vanished) or vanished & fetched:
            raise Broken(f"VANISHED (EARLIER) names a message twice or one that is there: {sorted(self.vanished)}")
        if vanished and max(vanished) >= view.uid_next:
            raise Broken(f"VANISHED (EARLIER) {max(vanished)} where UIDNEXT is {view.uid_next}")
        told = vanished | {e.uid for e in view.entries if e.uid is not None and (e.modseq or 0) <= view.highest_told}
        if self.known is not None and not told <= set(self.known):
            raise Broken(f"only {self.known} were asked for, told were {sorted(told)}")
        if self.known is not None:      # news of messages beyond those say nothing of the ones between
            fetched &= set(self.known)
        if self.known is None or len(self.known) == len(snapshot.messages):
            self.restore(snapshot, vanished, fetched)

    def restore(self, snapshot, vanished, fetched):
        """What the client kept, less what vanished, plus what it was told, is the mailbox."""
        view = self.view
        kept = sorted((set(snapshot.messages) - vanished - self.gone_meanwhile) | fetched)
        if len(kept) > len(view) or (self.known is None and len(kept) < len(view) - self.arrived):
            raise Broken(f"resynchronisation from modseq {snapshot.modseq} leaves {len(kept)} messages where {len(view)} exist; "
                         f"kept {sorted(snapshot.messages)}, vanished {sorted(vanished)}, told {sorted(fetched)}")
        for seq, uid in enumerate(kept, 1):
            if view.uid_only:
                seq = view.adopt(uid) + 1
            view.set_uid(seq, uid)
            entry = view.entry(seq)
            if entry.flags is None:
                entry.flags, entry.modseq = snapshot.messages[uid]
                entry.floor = entry.modseq or 0
        self.client.wants_check = True


class Close(Simple):
    word, ends_batch, needs_view, lets_numbers_move = b"CLOSE", True, True, False

    def before_send(self):
        take_snapshot(self.client)

    def done(self, status, code):
        self.client.view = None


class Unselect(Close):
    word = b"UNSELECT"


# ---- sets of messages ----------------------------------------------------------------------------
class OnMessages(Command):
    """FETCH, STORE, COPY and their kin: by number or by UID."""
    needs_view = True
    moves_numbers_by_number = False     # as COPY and MOVE may

    def __init__(self, client):
        super().__init__(client)
        view = client.view
        self.uses_saved = view.saved is not None and self.rng.random() < 0.5
        self.by_uid = self.rng.random() < 0.5 or not len(view) or client.is_uid_only
        self.lets_numbers_move = self.by_uid or self.moves_numbers_by_number
        self.ranges = self.choose_ranges(view)

    def choose_ranges(self, view):
        rng = self.rng
        if not self.by_uid:
            return [(1, 0)] if rng.random() < 0.15 else random_ranges(rng, range(1, len(view) + 1))
        uids = view.uids()
        if not uids:
            return [(1, 0)]
        if rng.random() < 0.1:
            return [(rng.choice(uids), 0)]
        if rng.random() < 0.1:          # with holes where messages were
            return random_ranges(rng, range(max(1, uids[0] - 5), uids[-1] + 1))
        return random_ranges(rng, uids)

    def set_text(self):
        return b"$" if self.uses_saved else spell(self.ranges).encode()

    def verb(self, word):
        return (b"UID " if self.by_uid else b"") + word

    def begin(self):
        super().begin()
        view = self.client.view
        self.targets = []
        self.known_targets = []
        if view is None:
            return
        if self.uses_saved:
            self.targets = [e for e in view.entries if e.uid is not None and view.saved is not None and e.uid in view.saved]
        elif self.by_uid:
            self.targets = view.entries_of_uids(self.ranges)
        else:
            self.targets = view.entries_of_seqs(self.ranges)
        self.known_targets = [e for e in self.targets if e.uid is not None]
        self.answered = set()

    def fetched(self, entry, seq, items):
        self.answered.add(id(entry))

    def unanswered(self):
        return [e for e in self.targets if id(e) not in self.answered]


class Fetch(OnMessages):
    ITEMS = ((b"FLAGS",), (b"UID", b"FLAGS"), (b"FLAGS", b"MODSEQ"), (b"UID", b"FLAGS", b"MODSEQ"), (b"ENVELOPE", b"FLAGS"),
             (b"BODYSTRUCTURE",), (b"RFC822.SIZE", b"INTERNALDATE", b"UID"), (b"BODY.PEEK[]", b"UID"), (b"BODY[TEXT]",),
             (b"UID", b"BODY.PEEK[HEADER.FIELDS (X-Stress-Id)]"), (b"UID", b"BODY[]"), (b"BINARY.PEEK[1]",),
             (b"UID", b"BODY.PEEK[]<10.50>", b"FLAGS"), (b"SAVEDATE", b"MODSEQ"))

    def __init__(self, client):
        super().__init__(client)
        self.items = self.rng.choice(self.ITEMS)
        self.since, self.wants_vanished, self.vanished = None, False, set()
        modseqs = [e.modseq for e in client.view.entries if e.modseq]
        if modseqs and self.rng.random() < 0.2:
            self.since = max(1, self.rng.choice(modseqs) - self.rng.randrange(2))
            self.wants_vanished = self.by_uid and "QRESYNC" in client.enabled and self.rng.random() < 0.5

    def text(self):
        since = b""
        if self.since is not None:
            since = b" (CHANGEDSINCE %d%s)" % (self.since, b" VANISHED" if self.wants_vanished else b"")
        return self.verb(b"FETCH ") + self.set_text() + b" (" + b" ".join(self.items) + b")" + since

    def begin(self):
        super().begin()
        self.known_before = {id(e): e.modseq for e in self.targets}
        self.is_asked = b"FLAGS" in self.items or any(i.startswith(b"BODY[") for i in self.items)
        unknown = [e for e in self.client.view.entries if e.uid is None] if self.client.view else []
        self.target_ids = {id(e) for e in self.targets + unknown}

    def asks_for(self, entry, items):
        return self.is_asked and (id(entry) in self.target_ids or (self.client.is_notified and self.ranges[-1][1] == 0))

    def takes(self, r):
        if self.wants_vanished and r.startswith(b"* VANISHED (EARLIER) "):
            self.vanished |= set(read_set(r[len(b"* VANISHED (EARLIER) "):].strip()))
            return True
        return False

    def fetched(self, entry, seq, items):
        view = self.client.view
        if self.client.is_uid_only:     # the number is the UID
            items = {**items, b"UID": b""}
        wanted = {re.sub(rb"\.PEEK|<10\.50>", b"", i) for i in self.items} | ({b"UID"} if self.by_uid else set())
        told = {re.sub(rb"<10>", b"", i) for i in items}
        if not wanted <= told:
            return                      # news of somebody else's change
        self.answered.add(id(entry))
        if self.since is not None and (b"MODSEQ" not in items or int(items[b"MODSEQ"][0]) <= self.since):
            raise Broken(f"CHANGEDSINCE {self.since} answers {items.get(b'MODSEQ')}")
        if entry.uid is None or not view.box.kept:
            return
        ident = None
        if b"BODY[]" in items:
            ident = re.search(rb"X-Stress-Id: (\S+)\r\n", items[b"BODY[]"]).group(1).decode()
            check_message(ident, items[b"BODY[]"])
        elif b"BODY[HEADER.FIELDS (X-Stress-Id)]" in items:
            ident = items[b"BODY[HEADER.FIELDS (X-Stress-Id)]"].partition(b": ")[2].strip().decode()
        if ident is not None:
            self.world.ledger.saw_id(view.box, entry.uid, ident)

    def done(self, status, code):
        client = self.client
        if status != "OK" or client.view is None:
            return
        if self.since is not None or b"MODSEQ" in self.items:
            client.enabled.add("CONDSTORE")
        missing = self.unanswered()
        if self.since is not None:
            missing = [e for e in missing if (self.known_before[id(e)] or 0) > self.since]
        client.suspect(missing)
        self.check_vanished()

    def check_vanished(self):
        view = self.client.view
        if not all(any(a <= uid <= (b or 1 << 32) for a, b in self.ranges) for uid in self.vanished) and not self.uses_saved:
            raise Broken(f"VANISHED (EARLIER) {sorted(self.vanished)} goes beyond what was asked")
        self.client.suspect(e for e in view.entries if e.uid in self.vanished)


class FetchNew(Fetch):
    """All that is not known yet, as clients do when they hear of new messages."""

    def __init__(self, client):
        super().__init__(client)
        view = client.view
        self.uses_saved = self.by_uid = self.lets_numbers_move = self.wants_vanished = False
        self.since = None
        self.items = (b"UID", b"FLAGS", b"MODSEQ") if client.has_condstore else (b"UID", b"FLAGS")
        if self.rng.random() < 0.5:
            self.items += (b"BODY.PEEK[HEADER.FIELDS (X-Stress-Id)]",)
        unknown = [i for i, e in enumerate(view.entries) if e.uid is None or e.flags is None]
        self.ranges = [(unknown[0] + 1, unknown[-1] + 1)]
        if client.is_uid_only:
            self.by_uid = self.lets_numbers_move = True
            self.ranges = [(1, 0)]


class FetchAll(FetchNew):
    def __init__(self, client):
        Fetch.__init__(self, client)
        self.uses_saved = self.wants_vanished = False
        self.by_uid = self.lets_numbers_move = client.is_uid_only
        self.since, self.items, self.ranges = None, (b"UID", b"FLAGS", b"MODSEQ"), [(1, 0)]


class FetchVanished(Command):
    """What became, since a kept state, of the messages of that state."""
    needs_view = True

    def __init__(self, client):
        super().__init__(client)
        self.snapshot = self.rng.choice(list(client.snapshots[client.view.box]))
        self.vanished = set()

    def text(self):
        return b"UID FETCH %s (FLAGS) (CHANGEDSINCE %d VANISHED)" % (
            write_set(self.snapshot.messages).encode(), self.snapshot.modseq)

    def begin(self):
        super().begin()
        self.before = set(self.client.view.uids()) if self.client.view else set()
        self.is_complete = self.client.view is not None and self.client.view.is_complete()

    def takes(self, r):
        if r.startswith(b"* VANISHED (EARLIER) "):
            self.vanished |= set(read_set(r[len(b"* VANISHED (EARLIER) "):].strip()))
            return True
        return False

    def asks_for(self, entry, items):
        return True

    def done(self, status, code):
        view = self.client.view
        if view is None or status != "OK":
            return
        asked = set(self.snapshot.messages)
        if not self.vanished <= asked:
            raise Broken(f"VANISHED (EARLIER) {sorted(self.vanished - asked)}, which nobody asked for")
        told_of = {uid for uid in asked if uid <= max(self.before, default=0)}      # others may have seen more
        if self.is_complete and told_of - self.before - self.vanished:
            raise Broken(f"{sorted(told_of - self.before)} are gone since {self.snapshot.modseq}, but only {sorted(self.vanished)} were told")
        self.client.suspect(e for e in view.entries if e.uid in self.vanished)


class Store(OnMessages):
    changes_flags = True

    def __init__(self, client):
        super().__init__(client)
        rng, view = self.rng, client.view
        self.sign = rng.choice("++--=" if view.box.replaces else "++-")
        self.names = self.choose_flags()
        self.flags = {name.lower() for name in self.names}
        if b"\\deleted" in self.flags and self.ranges[0][0] > 1:
            self.ranges = [(a, b or a) for a, b in self.ranges]     # "*" might be any message by then
        self.silent = rng.random() < 0.5
        self.unchanged_since = None
        modseqs = [e.modseq for e in view.entries if e.modseq]
        if modseqs and rng.random() < 0.2:
            self.unchanged_since = rng.choice(modseqs)
        self.expects = ("NO",) if view.read_only else ("OK",)
        self.undo, self.uncertain = {}, []

    def choose_flags(self):
        rng, view = self.rng, self.client.view
        names = [f for f in SYSTEM_FLAGS[:-1] + SHARED_KEYWORDS] + [self.client.keyword] * 2
        flags = set(rng.sample(names, rng.randint(1, 2) if self.sign != "=" else rng.randint(0, 3)))
        if rng.random() < (0.35 if len(view) > BOX_FULL else 0.06):
            flags.add(b"\\deleted")
        return flags

    def text(self):
        condition = b"(UNCHANGEDSINCE %d) " % self.unchanged_since if self.unchanged_since is not None else b""
        return (self.verb(b"STORE ") + self.set_text() + b" " + condition + self.sign.replace("=", "").encode() + b"FLAGS"
                + (b".SILENT" if self.silent else b"") + b" (" + b" ".join(sorted(self.names)) + b")")

    def before_send(self):
        self.mark_deletable()

    def mark_deletable(self):
        """Everything the set may reach, for the view may change before it is this command's turn."""
        view = self.client.view
        if b"\\deleted" not in self.flags or self.sign == "-" or not view.box.kept:
            return
        if self.by_uid and not self.uses_saved:
            top = view.box.uid_next + 1000
            for a, b in self.ranges:
                self.world.ledger.may_be_deleted(view.box, range(a, (b or top) + 1))
        else:
            self.world.ledger.may_be_deleted(view.box, self.reachable(view))

    def reachable(self, view):
        entries = view.entries if self.uses_saved or self.ranges == [(1, 0)] else view.entries_of_seqs(self.ranges)
        if any(e.uid is None for e in entries) or self.ranges == [(1, 0)]:
            return range(1, view.box.uid_next + 1000)
        return [e.uid for e in entries]

    def expected(self, flags):
        if flags is None and self.sign != "=":
            return None
        return {"+": lambda: flags | self.flags, "-": lambda: flags - self.flags, "=": lambda: frozenset(self.flags)}[self.sign]()

    def begin(self):
        super().begin()
        self.modseq_before = {id(e): e.modseq for e in self.targets}
        if self.client.view is None or self.client.view.read_only:
            return
        if self.client.may_lose_rights():
            self.uncertain += self.targets      # some of the flags may be left out
        box = self.client.view.box
        notes_own = box.kept and not box.replaces and self.client.keyword in self.flags
        if notes_own:
            self.forget_unknown()
        if self.silent and (self.by_uid or self.uses_saved):
            for e in self.client.view.entries:
                if e.uid is None:       # it may be in the set or not
                    e.flags = e.modseq = None
        for e in self.targets:
            self.undo[id(e)] = (e.flags, self.client.own.get((box, e.uid)))
            if self.silent:
                e.flags = self.expected(e.flags)
                e.modseq = None
            if notes_own:
                self.note_own(e)

    def note_own(self, entry):
        view, own = self.client.view, self.client.own
        if entry.uid is None or self.unchanged_since is not None:
            own.pop((view.box, entry.uid), None)
        else:
            own[view.box, entry.uid] = self.sign != "-"

    def forget_unknown(self):
        """Our keyword on messages whose UIDs the client has not asked for yet, which the set may reach."""
        view, own = self.client.view, self.client.own
        if any(e.uid is None for e in view.entries):
            known = set(view.uids())
            for key in [k for k in own if k[0] is view.box and k[1] not in known]:
                del own[key]

    def asks_for(self, entry, items):
        return "CONDSTORE" not in self.client.enabled and "QRESYNC" not in self.client.enabled

    def fetched(self, entry, seq, items):
        if b"FLAGS" not in items and id(entry) not in self.undo:
            entry.flags = None          # it arrived since, and was changed all the same
        if id(entry) in self.answered:
            return
        if self.client.is_notified and not self.client.may_lose_rights() and self.is_news(entry, items):
            return                      # without all the rights no answer need show the effect
        self.answered.add(id(entry))
        if any(e is entry for e in self.uncertain):
            return
        if b"FLAGS" not in items and b"MODSEQ" in items and entry.flags is not None and entry.uid is not None and self.client.view.box.kept:
            self.world.ledger.saw_state(self.client.view.box, entry.uid, self.client.user, entry.modseq, entry.flags,
                                             self.client.what())
        if self.unchanged_since is None and not self.silent and any(e is entry for e in self.targets):
            flags = entry.flags
            if not self.has_effect(flags):
                raise Broken(f"STORE answers {sorted(flags)} for {entry}")

    def has_effect(self, flags):
        return {"+": self.flags <= flags, "-": not self.flags & flags, "=": self.flags == flags}[self.sign]

    def is_news(self, entry, items):
        """NOTIFY tells what others did while our change is on its way: not an answer yet. A silent one may not be sure then."""
        if b"FLAGS" in items and self.silent:
            self.uncertain.append(entry)
        return b"FLAGS" in items and not self.has_effect(entry.flags)

    def done(self, status, code):
        client, view = self.client, self.client.view
        for e in self.uncertain:
            e.flags = e.modseq = None
        if status != "OK" or view is None:
            return
        if self.unchanged_since is not None:
            client.enabled.add("CONDSTORE")
            self.take_modified(view, code)
        elif not self.silent:
            client.suspect(self.unanswered())

    def take_modified(self, view, code):
        m = re.match(rb"MODIFIED (\S+)", code)
        numbers = set(read_set(m.group(1))) if m else set()
        refused = [e for seq, e in enumerate(view.entries, 1) if (e.uid if self.by_uid else seq) in numbers]
        for e in self.targets:
            is_refused = any(e is r for r in refused)
            flags, own = self.undo[id(e)]
            if is_refused:
                if e.changed < self.client.command_number:
                    e.flags = flags
                if own is not None:
                    self.client.own[view.box, e.uid] = own
            elif (self.modseq_before[id(e)] or 0) > self.unchanged_since and e in view.entries:
                self.client.suspect([e])    # or it was changed against the condition
            elif e in view.entries and not (self.silent or id(e) in self.answered):
                self.client.suspect([e])


class Copy(OnMessages):
    word, is_move = b"COPY ", False
    moves_numbers_by_number = True

    def __init__(self, client):
        super().__init__(client)
        self.target = self.rng.choice([b for b in client.boxes if b.size < 2 * BOX_FULL] * 3 + client.loose or client.boxes)
        self.source = client.view.box
        self.expects = self.possible_answers()
        self.copyuid = None

    def possible_answers(self):
        return ("OK",) if self.target.kept else ("OK", "NO")

    def text(self):
        return self.verb(self.word) + self.set_text() + b" " + self.client.name_of(self.target)

    def takes(self, r):
        m = re.match(rb"\* OK \[COPYUID (\d+ \S+ \S+)\] ", r)
        if m is None or not self.is_move:
            return False
        self.take_copyuid(m.group(1))
        return True

    def may_reach(self, uid):
        """Is it perhaps one of those whose UIDs the client had not asked for?"""
        if self.by_uid and not self.uses_saved:
            return any(a <= uid <= (b or 1 << 32) for a, b in self.ranges)
        if self.client.is_notified and self.ranges[-1][1] == 0:
            return True                 # NOTIFY told of it before the command's turn came
        return self.client.view is not None and self.client.view.unknown_at(uid) is not None

    def check_status(self, status, code, text):
        if status != "NO" or code != b"EXPUNGEISSUED":
            super().check_status(status, code, text)
        elif self.client.view is not None:      # all are gone
            self.client.suspect(self.known_targets)

    def take_copyuid(self, text):
        if self.copyuid is not None:
            raise Broken("two COPYUIDs for one command")
        validity, sources, made = text.split(b" ")
        self.copyuid = list(zip(read_set(sources), read_set(made), strict=True))
        made = [b for _, b in self.copyuid]
        if made != sorted(set(made)):
            raise Broken(f"COPYUID gives UIDs out of order: {text!r}")
        if self.target.kept and self.target.uid_validity not in (None, int(validity)):
            raise Broken(f"COPYUID names UIDVALIDITY {validity!r} of {self.target}")
        view = self.client.view
        known = {e.uid for e in self.targets}
        for source, uid in self.copyuid:
            if source not in known and not self.may_reach(source):
                raise Broken(f"COPYUID names {source}, which was not asked for: {self.text()!r}")
            self.world.ledger.copied(self.source, source, self.target, uid, self.is_move)

    def done(self, status, code):
        view = self.client.view
        m = re.match(rb"COPYUID (\d+ \S+ \S+)", code)
        if m and not self.is_move:
            self.take_copyuid(m.group(1))
        if status != "OK" and self.copyuid:
            raise Broken(f"{status} after COPYUID")
        if status != "OK" or view is None:
            return
        copied = {a for a, _ in self.copyuid or ()}
        self.client.suspect(e for e in self.known_targets if e.uid not in copied)
        if self.is_move:
            self.check_moved(view, copied)

    def check_moved(self, view, copied):
        left = [e for e in view.entries if e.uid in copied]
        if left and view.box.kept:
            raise Broken(f"moved, but not expunged: {left}")
        self.client.suspects_gone += left       # the mailbox was removed at the same time, which is told next

    def lost(self):
        view, ledger = self.client.view, self.world.ledger
        if self.target.kept and view.box.kept:
            with ledger.lock:
                ledger.maybe_copies += [(self.target, (view.box, e.uid)) for e in view.entries]
                for e in view.entries:
                    ledger.happened(ledger.ident_of(view.box, e.uid), f"perhaps copied from {view.box} {e.uid} to {self.target}")


class Move(Copy):
    word, is_move = b"MOVE ", True

    def possible_answers(self):
        if self.client.view.read_only:
            return ("NO",)
        return ("OK", "NO") if self.target is self.client.view.box else super().possible_answers()

    def lost(self):
        super().lost()
        view = self.client.view
        with self.world.ledger.lock:
            self.world.ledger.maybe_moved.update((view.box, e.uid) for e in view.entries if e.uid is not None)


class Expunge(Simple):
    word, needs_view = b"EXPUNGE", True

    def __init__(self, client):
        super().__init__(client)
        self.expects = ("NO",) if client.view.read_only else ("OK",)

    def begin(self):
        super().begin()
        self.deleted = [e for e in self.candidates() if e.uid is not None and e.flags is not None and b"\\deleted" in e.flags]

    def candidates(self):
        return self.client.view.entries if self.client.view is not None else []

    def done(self, status, code):
        if status == "OK" and self.client.view is not None:
            self.client.suspects_changed += [(e, self.client.command_number) for e in self.deleted]


class UidExpunge(Expunge):
    def __init__(self, client):
        super().__init__(client)
        uids = client.view.uids()
        self.ranges = random_ranges(self.rng, uids) if uids else [(1, 0)]
        self.expects = ("NO", "OK") if client.view.read_only else ("OK",)

    def text(self):
        return b"UID EXPUNGE " + spell(self.ranges).encode()

    def candidates(self):
        return self.client.view.entries_of_uids(self.ranges) if self.client.view is not None else []


# ---- searching -----------------------------------------------------------------------------------
def flag_key(rng, client):
    flag = rng.choice(SYSTEM_FLAGS + SHARED_KEYWORDS + (client.keyword,))
    name = flag.lstrip(b"\\").upper().decode()
    is_wanted = rng.random() < 0.6
    if flag.startswith(b"\\"):
        text = name if is_wanted else "UN" + name
    else:
        text = ("KEYWORD " if is_wanted else "UNKEYWORD ") + flag.decode()
    low = flag.lower()
    return text, lambda e, seq: None if e.flags is None else (low in e.flags) == is_wanted


def uid_key(rng, client):
    uids = client.view.uids()
    if not uids:
        return "ALL", lambda e, seq: True
    ranges = random_ranges(rng, uids)
    return f"UID {spell(ranges)}", lambda e, seq: None if e.uid is None else any(a <= e.uid <= b for a, b in ranges)


def seq_key(rng, client):
    if not len(client.view):
        return "ALL", lambda e, seq: True
    ranges = random_ranges(rng, range(1, len(client.view) + 1))
    return spell(ranges), lambda e, seq: any(a <= seq <= b for a, b in ranges)


def not_key(rng, client):
    text, matches = flag_key(rng, client)
    return f"NOT {text}", lambda e, seq: None if matches(e, seq) is None else not matches(e, seq)


def or_key(rng, client):
    (a, first), (b, second) = flag_key(rng, client), flag_key(rng, client)

    def either(e, seq):
        answers = (first(e, seq), second(e, seq))
        return True if True in answers else None if None in answers else False
    return f"OR {a} ({b})", either


class Search(Command):
    needs_view = True
    word = b"SEARCH"

    def __init__(self, client):
        super().__init__(client)
        rng = self.rng
        self.by_uid = rng.random() < 0.5 or client.is_uid_only
        self.lets_numbers_move = self.by_uid
        kinds = [flag_key, flag_key, uid_key, not_key, or_key] + ([seq_key] if not self.by_uid else [])
        self.keys = [rng.choice(kinds)(rng, client) for _ in range(rng.randint(1, 2))]
        if rng.random() < 0.1:
            self.keys.append(rng.choice((("SUBJECT message", lambda e, seq: True), ("HEADER X-Stress-Id zzz", lambda e, seq: False),
                                         ("TEXT elsewhere.test", lambda e, seq: True))))
        self.wanted = self.choose_return()
        self.found = self.answer = None

    def choose_return(self):
        kind = self.rng.random()
        if kind < 0.5:
            return None
        if kind < 0.7:
            return ["SAVE", "ALL"]
        return self.rng.choice((["ALL"], ["MIN", "MAX"], ["COUNT"], ["MIN", "MAX", "COUNT", "ALL"]))

    def text(self):
        options = b" RETURN (" + " ".join(self.wanted).encode() + b")" if self.wanted else b""
        return (b"UID " if self.by_uid else b"") + self.word + options + b" " + " ".join(k for k, _ in self.keys).encode()

    def matches(self, e, seq):
        answers = [matches(e, seq) for _, matches in self.keys]
        return False if False in answers else None if None in answers else True

    def begin(self):
        super().begin()
        if self.client.view is None:
            return
        self.expected = [(e, seq, self.matches(e, seq)) for seq, e in enumerate(self.client.view.entries, 1)]

    def takes(self, r):
        if r.startswith(b"* " + self.word) and self.answer is None and r[len(self.word) + 2:][:1] in b" \r":
            self.answer = {"ALL": [int(n) for n in re.sub(rb"\(MODSEQ \d+\)", b"", r[len(self.word) + 2:]).split()]}
            return True
        if not r.startswith(b"* ESEARCH "):
            return False
        tag = b"t%d" % (self.client.tag_number)
        m = re.match(rb'\* ESEARCH \(TAG "(t\d+)"\)( UID)?((?: [A-Z]+ \S+)*)\r\n$', r)
        if m is None or self.answer is not None or (m.group(2) is not None) != self.by_uid:
            raise Broken(f"no such ESEARCH ({tag!r}): {r!r}")
        words = m.group(3).split()
        self.answer = dict(zip((w.decode() for w in words[::2]), words[1::2]))
        for name in ("MIN", "MAX", "COUNT"):
            if name in self.answer:
                self.answer[name] = int(self.answer[name])
        if "ALL" in self.answer:
            self.answer["ALL"] = read_set(self.answer["ALL"])
        elif self.wanted is None or "ALL" in self.wanted:
            self.answer["ALL"] = []
        return True

    def is_answered(self, status):
        """Is there a result to look at, about the mailbox that is still open?"""
        if status != "OK" or self.client.view is None or not self.had_view:
            return False
        if self.answer is None:
            raise Broken("a search without an answer")
        return True

    def done(self, status, code):
        view = self.client.view
        if not self.is_answered(status):
            return
        numbers = self.answer.get("ALL")
        if numbers is None:
            self.check_ends()
            return
        if numbers != sorted(set(numbers)):
            raise Broken(f"results out of order: {numbers}")
        self.check_numbers(set(numbers), view)
        if self.wanted and "SAVE" in self.wanted and self.by_uid:
            view.saved = set(numbers)
        elif self.wanted and "SAVE" in self.wanted:
            view.saved = None
        self.check_ends()

    def check_numbers(self, numbers, view):
        """A message nobody changed meanwhile must be found or not, as its client knows it."""
        now = self.client.command_number
        largest = max(len(self.expected), len(view))    # NOTIFY tells of arrivals at any time
        if not self.by_uid and numbers and max(numbers) > largest:
            raise Broken(f"found {max(numbers)} of {largest} messages")
        for e, seq, expected in self.expected:
            number = e.uid if self.by_uid else seq
            if number is None or expected is None or e.changed == now or (number in numbers) == expected:
                continue
            self.client.suspect([e])    # right only if it is gone and that was not told yet

    def check_ends(self):
        a = self.answer
        numbers = a.get("ALL")
        if numbers is None or self.wanted is None:
            return
        for name, value in (("MIN", min(numbers, default=None)), ("MAX", max(numbers, default=None)), ("COUNT", len(numbers))):
            if name in a and a[name] != value:
                raise Broken(f"{name} {a[name]} of {numbers}")


class Sort(Search):
    word = b"SORT"

    def text(self):
        order = self.order = getattr(self, "order", None) or self.rng.choice((b"ARRIVAL", b"SUBJECT", b"REVERSE SIZE", b"FROM DATE"))
        options = b" RETURN (ALL)" if self.wanted else b""
        return ((b"UID " if self.by_uid else b"") + self.word + options + b" (" + order + b") UTF-8 "
                + " ".join(k for k, _ in self.keys).encode())

    def choose_return(self):
        return ["ALL"] if self.rng.random() < 0.3 else None

    def done(self, status, code):
        if self.answer is not None:     # the order is the sorting's, the numbers are the search's
            numbers = self.answer["ALL"]
            if len(set(numbers)) != len(numbers):
                raise Broken(f"sorted, and named twice: {numbers}")
            self.answer["ALL"] = sorted(numbers)
        super().done(status, code)


class Thread(Sort):
    word = b"THREAD"

    def text(self):
        self.wanted = None
        algorithm = self.order = getattr(self, "order", None) or self.rng.choice((b"REFERENCES", b"ORDEREDSUBJECT"))
        return (b"UID " if self.by_uid else b"") + b"THREAD " + algorithm + b" UTF-8 " + " ".join(k for k, _ in self.keys).encode()

    def takes(self, r):
        if not r.startswith(b"* THREAD") or self.answer is not None:
            return False
        self.answer = {"ALL": [int(n) for n in re.findall(rb"\d+", r[len("* THREAD"):])]}
        return True


# ---- storing -------------------------------------------------------------------------------------
class Append(Command):
    def __init__(self, client):
        super().__init__(client)
        rng = self.rng
        self.target = rng.choice(client.boxes * 5 + client.loose)
        count = 1 if rng.random() < 0.7 else rng.randint(2, 4)
        self.messages = [(client.new_ident(), self.choose_flags()) for _ in range(count)]
        self.is_interactive = self.ends_batch = rng.random() < 0.3
        self.expects = ("OK",) if self.target.kept else ("OK", "NO")

    def choose_flags(self):
        names = SYSTEM_FLAGS[:-1] + SHARED_KEYWORDS + (self.client.keyword,)
        flags = self.rng.sample(names, self.rng.randint(0, 2))
        return flags + [b"\\deleted"] if self.rng.random() < 0.05 else flags

    def parts(self, plus):
        """The command up to each literal's announcement, and the literals."""
        out = []
        lead = b"APPEND " + self.client.name_of(self.target)
        for ident, flags in self.messages:
            message = make_message(ident)
            out.append((lead + b" (" + b" ".join(flags) + b") {%d%s}\r\n" % (len(message), plus), message))
            lead = b""
        return out

    def text(self):
        return b"".join(lead + message for lead, message in self.parts(b"+"))

    def converse(self, tag):
        wire = self.client.wire
        lead = tag + b" "
        for announcement, message in self.parts(b""):
            wire.send(lead + announcement)
            lead = b""
            while not (r := wire.response()).startswith(b"+ "):
                if not r.startswith(b"* "):
                    wire.buffer[0:0] = r
                    return
                self.client.untagged(r)
            wire.send_literal(message)
        wire.send(b"\r\n")

    def done(self, status, code):
        if status != "OK":
            return
        m = re.match(rb"APPENDUID (\d+) (\S+)$", code)
        if m is None:
            raise Broken(f"no APPENDUID: {code!r}")
        uids = read_set(m.group(2))
        if len(uids) != len(self.messages) or uids != sorted(set(uids)):
            raise Broken(f"{len(self.messages)} messages have UIDs {uids}")
        if not self.target.kept:
            return
        if self.target.uid_validity not in (None, int(m.group(1))):
            raise Broken(f"APPENDUID names UIDVALIDITY {m.group(1)!r} of {self.target}")
        for uid, (ident, flags) in zip(uids, self.messages):
            self.world.ledger.appended(self.target, uid, ident, b"\\deleted" in flags)
            if not self.target.replaces:
                self.client.own[self.target, uid] = self.client.keyword in flags

    def lost(self):
        if self.target.kept:
            with self.world.ledger.lock:
                self.world.ledger.maybe += [(self.target, ident) for ident, _ in self.messages]
                self.world.ledger.doomed.update(ident for ident, flags in self.messages if b"\\deleted" in flags)


class Replace(Command):
    """A new message for one of the selected mailbox."""
    needs_view = True

    def __init__(self, client):
        super().__init__(client)
        self.box, self.target = client.view.box, self.rng.choice([client.view.box, *client.boxes])
        self.uid = self.rng.choice(client.view.uids())
        self.ident = client.new_ident()
        self.appenduid = None
        self.expects = ("NO",) if client.view.read_only else ("OK",)

    def text(self):
        message = make_message(self.ident)
        return b"UID REPLACE %d %s (\\Seen) {%d+}\r\n" % (self.uid, self.client.name_of(self.target), len(message)) + message

    def before_send(self):
        self.world.ledger.may_be_deleted(self.box, [self.uid])

    def takes(self, r):
        m = re.match(rb"\* OK \[APPENDUID (\d+) (\d+)\] ", r)
        if m:
            self.appenduid = int(m.group(2))
        return m is not None

    def check_status(self, status, code, text):
        view = self.client.view
        if status == "NO" and code in (b"NONEXISTENT", b"EXPUNGEISSUED") and view is not None:
            self.client.suspect(e for e in view.entries if e.uid == self.uid)
        else:
            super().check_status(status, code, text)

    def done(self, status, code):
        m = re.match(rb"APPENDUID \d+ (\d+)$", code)
        uid = self.appenduid or (int(m.group(1)) if m else None)
        if (status == "OK") != (uid is not None):
            raise Broken(f"REPLACE: {status} with APPENDUID {uid}")
        if uid is None:
            return
        self.world.ledger.appended(self.target, uid, self.ident)
        if self.client.view is not None and self.client.view.by_uid(self.uid) is not None:
            raise Broken(f"replaced, but {self.uid} is still there")

    def lost(self):
        with self.world.ledger.lock:
            self.world.ledger.maybe.append((self.target, self.ident))


class Asked(Command):
    """Commands whose answers are told by their first word alone."""
    KINDS = ((b"GETQUOTAROOT INBOX", rb"\* QUOTA(ROOT)? ", False), (b"GETMETADATA INBOX /private/comment", rb"\* METADATA ", False),
             (b"SETMETADATA INBOX (/private/comment \"stress\")", rb"\* METADATA ", False), (b"MYRIGHTS INBOX", rb"\* MYRIGHTS ", False),
             (b"UIDBATCHES 50", rb"\* UIDBATCHES ", True), (b"ESEARCH IN (personal) RETURN (COUNT) FLAGGED", rb"\* ESEARCH ", False))

    def __init__(self, client):
        super().__init__(client)
        self.words, self.answer, self.needs_view = self.rng.choice([k for k in self.KINDS if client.view is not None or not k[2]])
        self.expects = ("OK", "NO", "BAD") if self.words.startswith(b"UIDBATCHES") else ("OK",)

    def text(self):
        return self.words

    def takes(self, r):
        return re.match(self.answer, r) is not None


class Compress(Simple):
    word, ends_batch = b"COMPRESS DEFLATE", True

    def done(self, status, code):
        self.client.wire.compress()


class Notify(Simple):
    """News at any time; what is gone is told when numbers may move, as always."""
    word = (b"NOTIFY SET (selected-delayed (MessageNew (UID FLAGS) MessageExpunge FlagChange)) "
            b"(personal (MessageNew MessageExpunge FlagChange))")

    def begin(self):
        super().begin()
        self.client.is_notified = True


# ---- waiting -------------------------------------------------------------------------------------
class Idle(Command):
    is_interactive = ends_batch = True

    def text(self):
        return b"IDLE"

    def converse(self, tag):
        wire, client = self.client.wire, self.client
        wire.send(tag + b" IDLE\r\n")
        while not (r := wire.response()).startswith(b"+ "):
            client.untagged(r)
        end = time.monotonic() + self.rng.random() ** 2 * 2
        while (left := end - time.monotonic()) > 0:
            if (r := wire.pending(left)) is not None:
                client.untagged(r)
        wire.send(b"DONE\r\n")


# ---- mailboxes -----------------------------------------------------------------------------------
class Status(Command):
    def __init__(self, client):
        super().__init__(client)
        self.box = self.rng.choice(client.boxes)
        self.numbers = None

    def text(self):
        return b"STATUS %s (MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ SIZE DELETED)" % self.client.name_of(self.box)

    def before_send(self):
        self.floors = self.box.uid_next, self.client.modseq_floor(self.box)

    def takes(self, r):
        if not r.startswith(b"* STATUS ") or b" DELETED " not in r or self.numbers is not None:
            return False
        self.numbers = {k: int(v) for k, v in re.findall(rb"([A-Z]+) (\d+)", r.rpartition(b"(")[2])}
        return True

    def done(self, status, code):
        n = self.numbers
        self.client.enabled.add("CONDSTORE")
        if n[b"UIDNEXT"] < self.floors[0] or n[b"HIGHESTMODSEQ"] < self.floors[1]:
            raise Broken(f"STATUS {n} fell below {self.floors}")
        if n[b"UNSEEN"] > n[b"MESSAGES"] or n[b"DELETED"] > n[b"MESSAGES"]:
            raise Broken(f"STATUS {n} cannot be")
        self.world.ledger.number_told(self.box, n[b"UIDNEXT"], self.client.user, n[b"HIGHESTMODSEQ"])


class List(Command):
    def __init__(self, client):
        super().__init__(client)
        self.told = []
        self.option = self.rng.choice((b"", b"", b" RETURN (SUBSCRIBED CHILDREN SPECIAL-USE)"))

    def text(self):
        return b'LIST "" *' + self.option

    def takes(self, r):
        m = re.match(rb'\* LIST \([^)]*\) "/" "?([^"\r]*)"?\r\n$', r)
        if m:
            self.told.append(m.group(1).decode())
        return m is not None

    def done(self, status, code):
        if len(set(self.told)) != len(self.told):
            raise Broken(f"LIST names a mailbox twice: {self.told}")
        missing = {self.client.name_of(box).decode().strip('"') for box in self.client.boxes} - set(self.told)
        private = {name for name in self.told if name.startswith(f"Private{self.client.number}-")}
        if missing or private != self.client.scratch:
            raise Broken(f"LIST has {self.told}; missing {missing}, private {self.client.scratch}")


class Scratch(Command):
    """CREATE, DELETE and RENAME of mailboxes that only this session touches, so that it knows the outcome."""
    ends_batch = is_never_cut = True

    def __init__(self, client):
        super().__init__(client)
        names = [f"Private{client.number}-{c}" for c in "abc"]
        self.verb, self.name, self.new = self.rng.choice(("CREATE", "DELETE", "RENAME")), self.rng.choice(names), self.rng.choice(names)
        there, new_there = self.name in client.scratch, self.new in client.scratch
        is_fine = {"CREATE": not there, "DELETE": there, "RENAME": there and not new_there}[self.verb]
        self.expects = ("OK",) if is_fine else ("NO",)

    def text(self):
        return f"{self.verb} {self.name}{' ' + self.new if self.verb == 'RENAME' else ''}".encode()

    def done(self, status, code):
        if status != "OK":
            return
        scratch = self.client.scratch
        if self.verb != "CREATE":
            scratch.discard(self.name)
        if self.verb != "DELETE":
            scratch.add(self.new if self.verb == "RENAME" else self.name)

    def lost(self):
        raise AssertionError("never cut off")


class Loose(Command):
    """The same on mailboxes that others may have open."""
    expects = ("OK", "NO")

    def __init__(self, client):
        super().__init__(client)
        a, b = (box.name for box in self.rng.sample(self.world.loose, 2))     # a friend's are his own
        self.words = self.rng.choice((f"CREATE {a}", f"CREATE {a}", f"DELETE {a}", f"RENAME {a} {b}"))

    def text(self):
        return self.words.encode()


class Subscribe(Command):
    expects = ("OK", "NO")

    def __init__(self, client):
        super().__init__(client)
        self.words = self.rng.choice((b"SUBSCRIBE ", b"UNSUBSCRIBE ")) + client.name_of(self.rng.choice(client.boxes))

    def text(self):
        return self.words


# ---- choosing ------------------------------------------------------------------------------------
ROWS = [        # imap_stress_extensions.py adds its own
    # weight, command, needs a selected mailbox, needs the capability
    (4, Select, False, None),
    (8, Fetch, True, None),
    (14, Store, True, None),
    (8, Search, True, None),
    (5, Copy, True, None),
    (4, Move, True, None),
    (3, Expunge, True, None),
    (3, UidExpunge, True, None),
    (3, FetchVanished, True, None),
    (7, Append, False, None),
    (4, Noop, False, None),
    (1, Check, True, None),
    (3, Idle, False, None),
    (1, Close, True, None),
    (1, Unselect, True, None),
    (3, Status, False, None),
    (1, List, False, None),
    (1, Scratch, False, None),
    (1, Loose, False, None),
    (1, Subscribe, False, None),
    (1, Namespace, False, None),
    (1, Id, False, None),
    (1, Capability, False, None),
    (3, Sort, True, "SORT"),
    (2, Thread, True, "THREAD=REFERENCES"),
    (2, Replace, True, "REPLACE"),
    (1, Asked, False, "QUOTA"),
]


def is_possible(client, kind, needs_view):
    view = client.view
    if needs_view and view is None:
        return False
    if kind is Replace:
        return view.box.kept and bool(view.uids())
    if kind is FetchVanished:
        return view.box.kept and "QRESYNC" in client.enabled and any(s.messages for s in client.snapshots[view.box])
    return kind.is_possible(client)


def choose(client):
    stays = client.view is not None and client.view.contexts        # the longer, the more updates
    rows = [(weight / 4 if stays and kind in (Select, Close, Unselect) else weight, kind) for weight, kind, needs_view, capability in ROWS
            if is_possible(client, kind, needs_view) and (capability is None or capability in client.capabilities)]
    if client.view is None:
        rows.append((30, Select))
    kind, = client.rng.choices([kind for _, kind in rows], [weight for weight, _ in rows])
    if kind is FetchVanished:           # a snapshot of nothing cannot be asked about
        command = kind(client)
        return command if command.snapshot.messages else Noop(client)
    return kind(client)


def uses_numbers(command):
    return isinstance(command, (OnMessages, Search)) and (not command.by_uid or getattr(command, "uses_saved", False))


def next_batch(client):
    if client.wants_check and client.view is not None and len(client.view):
        client.wants_check = False
        return [FetchAll(client)]
    if client.view is not None and not client.view.is_complete() and client.rng.random() < 0.5:
        return [FetchNew(client)]
    batch = [choose(client)]
    if client.rng.random() < 0.3:
        extend(client, batch)
    return batch


def extend(client, batch):
    """Numbers may be used in a pipeline only as long as nothing ahead may move them, "$" while nothing sets it anew."""
    for _ in range(client.rng.randint(1, 6)):
        if batch[-1].ends_batch:
            return
        command = choose(client)
        if command.is_interactive or (uses_numbers(command) and any(c.lets_numbers_move for c in batch)):
            continue
        if getattr(command, "uses_saved", False) and any(isinstance(c, Search) for c in batch):
            continue
        batch.append(command)


def cut_off(client):
    """Sends a pipeline and leaves without reading. COPY and MOVE only come first in it, for what they reach must be known; in
    mailboxes that are not kept nobody keeps account of that."""
    batch = [choose(client)]
    extend(client, batch)
    is_known = client.view is not None and client.view.box.kept and client.view.is_complete()
    batch = [c for i, c in enumerate(batch) if not c.is_interactive and not c.is_never_cut
             and (not isinstance(c, Copy) or (i == 0 and is_known))]
    client.world.count(batch)
    client.world.ledger.cut_off.append((client.number, client.view and client.view.box, [c.text()[:100] for c in batch]))
    for command in batch:
        command.before_send()
        command.lost()
    client.wire.send(b"".join(b"x%d " % i + c.text() + b"\r\n" for i, c in enumerate(batch)))
    if any(isinstance(c, Store) for c in batch):
        client.is_own_known = False     # nobody knows what became of it, nor when it will
    client.connect()
