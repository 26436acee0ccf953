"""More of what a session of imap_stress.py may do: results kept up to date (RFC 5267), windows (RFC 9394), searches over
many mailboxes (RFC 7377), rights that come and go (RFC 4314), messages made of others (RFC 4469), object ids, and
leaving without hanging up (RFC 8437). The rows at the end join those of imap_stress_commands.py."""

import re

from imap_model import Broken, make_message, random_ranges, read_set, spell
from imap_stress_commands import (ROWS, SHARED_KEYWORDS, Append, Command, Fetch, List, Search, Simple, Status, flag_key, not_key, or_key,
                                  uid_key)

SORTINGS = (b"ARRIVAL", b"SUBJECT", b"REVERSE SIZE", b"FROM DATE", b"REVERSE ARRIVAL")
CONTEXTS_MAX = 4                        # in a session; pipelines add some, the server allows 20


# ---- results kept up to date (RFC 5267) ----------------------------------------------------------
UPDATE = re.compile(rb'\* ESEARCH \(TAG "(t\d+)"\)( UID)?((?: (?:ADDTO|REMOVEFROM) \([^()]+\))+)\r\n$')


def is_update(r):
    return r.startswith(b"* ESEARCH (TAG ") and (b" ADDTO (" in r or b" REMOVEFROM (" in r)


def take_update(view, r):
    m = UPDATE.match(r)
    context = view.contexts.get(m.group(1)) if m else None
    if context is None or (m.group(2) is not None) != context.by_uid:
        raise Broken(f"an update of no search there is: {r!r}")
    for word, text in re.findall(rb"(ADDTO|REMOVEFROM) \(([^()]+)\)", m.group(3)):
        words = text.split()
        for position, numbers in zip(words[::2], words[1::2], strict=True):
            context.take(word == b"ADDTO", int(position), read_set(numbers))


class Context:
    """The result of a search, changed only by what the server told of it. Without UID it holds entries of the view, for
    their numbers move."""

    def __init__(self, command, view, numbers):
        self.tag, self.by_uid, self.order, self.keys, self.is_frozen = (
            command.tag, command.by_uid, command.order, command.keys, command.is_frozen)
        self.view, self.is_ending = view, False
        self.is_blurred = False         # nobody can say which message left, or whether its updates ended before that
        self.results = [self.item(n) for n in numbers]

    def __repr__(self):
        return f"context {self.tag.decode()} {self.order or ''} {' '.join(k for k, _ in self.keys)}"

    def item(self, number):
        return number if self.by_uid else self.view.entry(number)

    def take(self, is_addition, position, numbers):
        if self.is_blurred:
            return
        items = [self.item(n) for n in numbers]
        if position == 0 and self.order is not None:
            raise Broken(f"{self}: no position in a sorted list")
        for item in items:
            if (item in self.results) == is_addition:
                raise Broken(f"{self}: {item} is {'there already' if is_addition else 'not there'}: {self.results}")
        if position > len(self.results) + is_addition:
            raise Broken(f"{self}: position {position} of {len(self.results)}")
        if is_addition:
            self.results[max(0, position - 1):max(0, position - 1)] = items
        elif position == 0:
            self.results = [item for item in self.results if item not in items]
        elif self.results[position - 1:position - 1 + len(items)] == items:
            del self.results[position - 1:position - 1 + len(items)]
        else:
            raise Broken(f"{self}: {items} are not at {position}: {self.results}")

    def removed(self, entry, by_uid):
        """Numbers must be told before they move (RFC 5267, 4.3.4)."""
        if self.by_uid or self.is_blurred:
            return
        if by_uid and entry.uid is None:
            self.is_blurred = True
        elif entry in self.results:
            raise Broken(f"{self}: {entry} was expunged before it was removed from the result")

    def found(self):
        """The result as numbers or UIDs, in its order."""
        if self.by_uid:
            return sorted(self.results) if self.order is None else self.results
        seqs = {id(e): seq for seq, e in enumerate(self.view.entries, 1)}
        numbers = [seqs[id(e)] for e in self.results]
        return sorted(numbers) if self.order is None else numbers

    def difference(self):
        """None when the result is what the view holds, at rest."""
        if self.is_blurred:
            return None
        wanted = {e.uid if self.by_uid else seq for seq, e in enumerate(self.view.entries, 1)
                  if all(matches(e, seq) for _, matches in self.keys)}
        found = self.found()
        return None if set(found) == wanted else f"{self} has {sorted(found)}, but {sorted(wanted)} match"


def frozen_key(rng, client, named):
    """Numbers mean the messages that have them when the command comes to be (RFC 5267, 4.3)."""
    ranges = random_ranges(rng, range(1, len(client.view) + 1))
    return spell(ranges), ranges, lambda e, seq: id(e) in named


class SearchUpdate(Search):
    """A search, or a sort, whose result the server keeps up to date from here on."""

    def __init__(self, client):
        super().__init__(client)
        rng = self.rng
        self.order = rng.choice(SORTINGS) if rng.random() < 0.4 else None
        self.keys = [rng.choice((flag_key, flag_key, uid_key, not_key, or_key))(rng, client) for _ in range(rng.randint(1, 2))]
        self.named, self.frozen_ranges = {}, None
        if not self.by_uid and len(client.view) and rng.random() < 0.3:
            text, self.frozen_ranges, matches = frozen_key(rng, client, self.named)
            self.keys.append((text, matches))
        self.is_frozen = self.frozen_ranges is not None
        self.wanted = ["ALL"]
        self.options = rng.choice((b"UPDATE ALL", b"ALL UPDATE", b"CONTEXT UPDATE ALL", b"UPDATE MIN MAX COUNT ALL"))

    @classmethod
    def is_possible(cls, client):
        return len(client.view.contexts) < CONTEXTS_MAX

    def text(self):
        words = b"SEARCH" if self.order is None else b"SORT"
        order = b"" if self.order is None else b"(" + self.order + b") UTF-8 "
        return ((b"UID " if self.by_uid else b"") + words + b" RETURN (" + self.options + b") " + order
                + " ".join(k for k, _ in self.keys).encode())

    def begin(self):
        if self.is_frozen and self.client.view is not None:
            self.named.update((id(e), e) for e in self.client.view.entries_of_seqs(self.frozen_ranges))
        super().begin()

    def takes(self, r):
        if not super().takes(r):
            return False
        numbers = self.answer["ALL"]
        if len(set(numbers)) != len(numbers):
            raise Broken(f"found, and named twice: {numbers}")
        view = self.client.view
        view.contexts[self.tag] = Context(self, view, numbers)
        if self.order is not None:
            self.answer["ALL"] = sorted(numbers)
            self.answer.pop("MIN", None), self.answer.pop("MAX", None)      # the first and last of the order
        return True

    def done(self, status, code):
        if status != "OK" and self.client.view is not None:
            self.client.view.contexts.pop(self.tag, None)
        super().done(status, code)


class SearchAgain(Search):
    """At rest: a fresh search finds what the updates led to, in the same order."""

    def __init__(self, client, context):
        super().__init__(client)
        self.context, self.by_uid, self.keys, self.order = context, context.by_uid, context.keys, context.order
        self.lets_numbers_move, self.wanted = self.by_uid, ["ALL"]

    text, options = SearchUpdate.text, b"ALL"

    def done(self, status, code):
        if self.answer is None or self.answer["ALL"] != self.context.found():
            raise Broken(f"{self.context} was kept up to date to {self.context.found()}, but is {self.answer}")


class CancelUpdate(Command):
    needs_view = True

    def __init__(self, client):
        super().__init__(client)
        live = [c for c in client.view.contexts.values() if not c.is_ending]
        self.contexts = self.rng.sample(live, self.rng.randint(1, min(2, len(live))))
        for context in self.contexts:
            context.is_ending = True

    @classmethod
    def is_possible(cls, client):
        return any(not c.is_ending for c in client.view.contexts.values())

    def text(self):
        return b"CANCELUPDATE " + b" ".join(b'"%s"' % c.tag for c in self.contexts)

    def begin(self):
        super().begin()
        for context in self.contexts:
            context.is_blurred = True

    def done(self, status, code):
        if status == "OK" and self.client.view is not None:
            for context in self.contexts:
                del self.client.view.contexts[context.tag]


# ---- windows (RFC 9394) --------------------------------------------------------------------------
class Window:
    """n:m of a list, counted from its beginning or its end."""

    def __init__(self, rng):
        self.is_from_end = rng.random() < 0.4
        near = 1 if rng.random() < 0.5 else rng.randint(1, 60)
        self.near, self.far = near, near + rng.choice((0, 4, 30, 500))
        ends = (self.near, self.far) if rng.random() < 0.8 else (self.far, self.near)
        self.words = (b"-%d:-%d" if self.is_from_end else b"%d:%d") % ends

    def size_of(self, count):
        return max(0, min(self.far, count) - self.near + 1)

    def of(self, items):
        if not self.is_from_end:
            return items[self.near - 1:self.far]
        return items[max(0, len(items) - self.far):max(0, len(items) - self.near + 1)]

    def reach(self, numbers):
        """Between which numbers everything found must be in the window; None where nothing can be said."""
        is_full = len(numbers) == self.far - self.near + 1
        if not numbers and self.near > 1:
            return None
        begins, ends = (self.near == 1, not is_full) if not self.is_from_end else (not is_full, self.near == 1)
        return (0 if begins else numbers[0]), (1 << 32 if ends else numbers[-1])


class SearchPartial(Search):
    ANSWER = re.compile(rb'\* ESEARCH \(TAG "(t\d+)"\)( UID)?((?: (?:MIN|MAX|COUNT) \d+)*) PARTIAL \((\S+) (\S+)\)\r\n$')

    def __init__(self, client):
        super().__init__(client)
        self.window = Window(self.rng)
        self.order = self.rng.choice(SORTINGS) if self.rng.random() < 0.3 else None
        self.others = self.rng.choice(([], [], ["COUNT"], ["MIN", "MAX"], ["SAVE"], ["COUNT", "MAX", "SAVE"]))
        self.wanted = [*self.others, "PARTIAL"]
        self.options = b"PARTIAL " + self.window.words + b"".join(b" " + w.encode() for w in self.others)

    text = SearchUpdate.text

    def takes(self, r):
        if not r.startswith(b"* ESEARCH "):
            return False
        m = self.ANSWER.match(r)
        if (m is None or self.answer is not None or m.group(1) != self.tag or (m.group(2) is not None) != self.by_uid
                or m.group(4) != self.window.words):
            raise Broken(f"no such answer to {self.text()!r}: {r!r}")
        words = m.group(3).split()
        self.answer = {w.decode(): int(n) for w, n in zip(words[::2], words[1::2])}
        self.answer["PARTIAL"] = [] if m.group(5) == b"NIL" else read_set(m.group(5))
        return True

    def done(self, status, code):
        view = self.client.view
        if not self.is_answered(status):
            return
        numbers = self.answer["PARTIAL"]
        self.check_size(numbers)
        if self.order is None:
            self.check_order(numbers)
        self.check_window(set(numbers), self.window.reach(numbers) if self.order is None else None)
        if "SAVE" in self.others:
            view.saved = set(numbers) if self.by_uid and self.others == ["SAVE"] else None

    def check_size(self, numbers):
        a = self.answer
        if len(set(numbers)) != len(numbers) or len(numbers) > self.window.size_of(1 << 32):
            raise Broken(f"{self.text()!r} found {numbers}")
        if "COUNT" in self.others and len(numbers) != self.window.size_of(a["COUNT"]):
            raise Broken(f"{self.text()!r} found {len(numbers)} of {a['COUNT']}")
        if "MIN" in self.others and numbers and not {"MIN", "MAX"} <= set(a):
            raise Broken(f"{self.text()!r} found {a}")

    def check_order(self, numbers):
        low, high = self.answer.get("MIN", 0), self.answer.get("MAX", 1 << 32)
        if numbers != sorted(numbers) or any(not low <= n <= high for n in numbers):
            raise Broken(f"{self.text()!r} found {self.answer}")
        first = self.window.near == 1 and numbers and numbers[-1 if self.window.is_from_end else 0]
        if first and first != self.answer.get("MAX" if self.window.is_from_end else "MIN", first):
            raise Broken(f"{self.text()!r} found {self.answer}")

    def check_window(self, numbers, reach):
        """What is certain to match must be in it, if it lies within its reach; what is certain not to, must not."""
        self.expected = [(e, seq, expected) for e, seq, expected in self.expected
                         if expected is False or (reach is not None and reach[0] <= ((e.uid if self.by_uid else seq) or 0) <= reach[1])]
        self.check_numbers(numbers, self.client.view)


class FetchPartial(Fetch):
    """The messages of a set that lie in a window of it. RFC822.SIZE tells its answers from news."""

    def __init__(self, client):
        super().__init__(client)
        self.by_uid = self.lets_numbers_move = True
        self.since, self.wants_vanished = None, False
        self.items = self.rng.choice(((b"RFC822.SIZE", b"FLAGS"), (b"RFC822.SIZE", b"FLAGS", b"MODSEQ"), (b"RFC822.SIZE",)))
        self.ranges = [(1, 0)] if self.rng.random() < 0.6 or not client.view.uids() else random_ranges(self.rng, client.view.uids())
        self.window = Window(self.rng)

    def text(self):
        return super().text() + b" (PARTIAL " + self.window.words + b")"

    def begin(self):
        super().begin()
        self.beyond, self.last = {}, None
        if self.client.view is None or not self.client.view.entries:
            return
        entries = self.client.view.entries
        self.last = entries[-1]
        self.is_certain = all(e.uid is not None for e in entries) and not self.client.is_notified
        self.targets = self.window.of(self.targets) if self.is_certain else []

    def fetched(self, entry, seq, items):
        was = len(self.answered)
        super().fetched(entry, seq, items)
        if len(self.answered) > was and not any(e is entry for e in self.targets):
            self.beyond[id(entry)] = entry

    def done(self, status, code):
        view = self.client.view
        if status != "OK" or view is None:
            return
        if b"MODSEQ" in self.items:
            self.client.enabled.add("CONDSTORE")
        if len(self.answered) > self.window.size_of(1 << 32):
            raise Broken(f"{len(self.answered)} messages in the window {self.window.words!r}")
        if self.last is None or not self.is_certain or not view.entries or view.entries[-1] is not self.last:
            return                      # others may have come into it
        missing = self.unanswered()
        if len(self.beyond) > len(missing):
            raise Broken(f"not in the window: {list(self.beyond.values())}; {missing} are")
        self.client.suspect(missing)


# ---- object ids and previews (RFC 8474, RFC 8970) ------------------------------------------------
class FetchObject(Fetch):
    def __init__(self, client):
        super().__init__(client)
        self.since, self.wants_vanished = None, False
        self.items = (b"UID", b"EMAILID", b"THREADID", b"PREVIEW")

    def fetched(self, entry, seq, items):
        super().fetched(entry, seq, items)
        view = self.client.view
        if b"EMAILID" in items and view.box.kept and entry.uid is not None:
            self.world.ledger.saw_object(view.box, entry.uid, items[b"EMAILID"][0], items[b"THREADID"][0], items[b"PREVIEW"])
            self.check_preview(entry.uid, items[b"PREVIEW"])

    def check_preview(self, uid, preview):
        ident = self.world.ledger.ident_of(self.client.view.box, uid)
        if ident is None or preview in (b"NIL", None):
            return
        text = b" ".join(make_message(ident).partition(b"\r\n\r\n")[2].split())
        if not text.startswith(preview.rstrip()) or (text and not preview):
            raise Broken(f"PREVIEW {preview!r} of {text[:250]!r}")


# ---- searches over many mailboxes (RFC 7377) -----------------------------------------------------
class MultiSearch(Command):
    ANSWER = re.compile(rb'\* ESEARCH \(TAG "(t\d+)" MAILBOX "([^"]+)" UIDVALIDITY (\d+)\) UID COUNT (\d+) ALL (\S+)\r\n$')

    def __init__(self, client):
        super().__init__(client)
        self.boxes = {client.name_of(box).strip(b'"'): box for box in self.rng.sample(client.boxes, self.rng.randint(1, len(client.boxes)))}
        self.keys = [flag_key(self.rng, client) for _ in range(self.rng.randint(1, 2))]
        self.found, self.expected = {}, []

    def text(self):
        names = b" ".join(b'"%s"' % name for name in self.boxes)
        return b"ESEARCH IN (mailboxes (%s)) RETURN (COUNT ALL) %s" % (names, " ".join(k for k, _ in self.keys).encode())

    def begin(self):
        super().begin()
        self.view = view = self.client.view
        if view is not None and view.box in self.boxes.values():
            answers = [(e, [matches(e, None) for _, matches in self.keys]) for e in view.entries if e.uid is not None]
            self.expected = [(e, False not in known) for e, known in answers if False in known or None not in known]

    def takes(self, r):
        if not r.startswith(b"* ESEARCH "):
            return False
        m = self.ANSWER.match(r)
        box = self.boxes.get(m.group(2)) if m else None
        if box is None or m.group(1) != self.tag or box in self.found:
            raise Broken(f"no such answer to {self.text()!r}: {r!r}")
        uids = read_set(m.group(5))
        if uids != sorted(set(uids)) or len(uids) != int(m.group(4)) or box.uid_validity not in (None, int(m.group(3))):
            raise Broken(f"{box}: {r!r}")
        self.found[box] = uids
        return True

    def done(self, status, code):
        client = self.client
        if status != "OK" or client.view is None or client.view is not self.view:
            return
        found = set(self.found.get(self.view.box, ()))
        for e, expected in self.expected:
            if (e.uid in found) != expected and e.changed != client.command_number:
                client.suspects_changed.append((e, client.command_number))      # it saw what the view is yet to be told


# ---- rights (RFC 4314) ---------------------------------------------------------------------------
class SetRights(Command):
    """Gives and takes rights on a mailbox that the friend may have open."""
    ends_batch = is_never_cut = True
    KINDS = ("", "l", "lr", "lrs", "lrsw", "lrswi", "lrste", "lrswite", "lrswipte", "+w", "+r", "-r", "-w", "-te", "+ite", None)

    def __init__(self, client):
        super().__init__(client)
        self.rights = self.rng.choice(self.KINDS)

    @classmethod
    def is_possible(cls, client):
        return client.world.has_friend and client.user == client.world.user

    def text(self):
        box, friend = self.world.lent.box.name, self.world.friend
        return (f"DELETEACL {box} {friend}" if self.rights is None else f'SETACL {box} {friend} "{self.rights}"').encode()

    def before_send(self):
        self.world.lent.begin()

    def done(self, status, code):
        text, old = self.rights or "", self.world.lent.rights
        letters = frozenset(text.lstrip("+-"))
        self.world.lent.end(old | letters if text[:1] == "+" else old - letters if text[:1] == "-" else letters)


class LooseRights(Command):
    """The same on mailboxes that come and go."""
    expects = ("OK", "NO")

    def __init__(self, client):
        super().__init__(client)
        box = self.rng.choice(self.world.loose).name
        rights = self.rng.choice(SetRights.KINDS[2:])
        self.words = (f"DELETEACL {box} {self.world.friend}" if rights is None
                      else f"SETACL {box} {self.world.friend} {rights}").encode()

    is_possible = SetRights.is_possible

    def text(self):
        return self.words


class GetRights(Command):
    """GETACL of the owner and MYRIGHTS of the friend tell what was granted."""
    OBSOLETE = frozenset("cd")          # follow from the others (RFC 4314, 2.1.1)

    def __init__(self, client):
        super().__init__(client)
        self.lent, self.is_owner, self.told = self.world.lent, client.user == self.world.user, None
        self.expects = ("OK",) if self.is_owner else ("OK", "NO")

    def text(self):
        return (b"GETACL " if self.is_owner else b"MYRIGHTS ") + self.client.name_of(self.lent.box)

    def before_send(self):
        self.version = self.lent.now()

    def takes(self, r):
        if self.is_owner and r.startswith(b"* ACL "):
            words = r.decode().replace('"', "").split()[3:]
            self.told = frozenset(dict(zip(words[::2], words[1::2])).get(self.world.friend, "")) - self.OBSOLETE
            return True
        if not self.is_owner and r.startswith(b"* MYRIGHTS "):
            self.told = frozenset(r.decode().split()[-1].replace("\"", "")) - self.OBSOLETE
            return True
        return False

    def done(self, status, code):
        rights = self.lent.since(self.version)
        if rights is None:
            return
        is_known = self.is_owner or bool(rights & set("lrikxa"))
        if (status == "OK") != is_known or (is_known and self.told != rights):
            raise Broken(f"granted is {sorted(rights)}, told {status} {self.told and sorted(self.told)}")


class ListRights(Command):
    def __init__(self, client):
        super().__init__(client)
        self.told = None

    is_possible = SetRights.is_possible

    def text(self):
        return f"LISTRIGHTS {self.world.lent.box.name} {self.world.friend}".encode()

    def takes(self, r):
        if not r.startswith(b"* LISTRIGHTS "):
            return False
        self.told = sorted("".join(r.decode().replace('"', "").split()[4:]))
        return True

    def done(self, status, code):
        if self.told is None or not set("lrswipkxtea") <= set(self.told) or len(set(self.told)) != len(self.told):
            raise Broken(f"LISTRIGHTS tells {self.told}")


class NeedsRight(Command):
    """What the friend may do exactly as long as he has the right to."""
    right = ""
    expects = ("OK", "NO")

    @classmethod
    def is_possible(cls, client):
        return client.user == client.world.friend

    def before_send(self):
        super().before_send()
        self.version = self.world.lent.now()

    def done(self, status, code):
        super().done(status, code)
        rights = self.world.lent.since(self.version)
        if rights is not None and (status == "OK") != (self.right in rights):
            raise Broken(f"{self.text()[:100]!r} with {sorted(rights)}: {status} {code!r}")


class LentAppend(NeedsRight, Append):
    right = "i"

    def __init__(self, client):
        super().__init__(client)
        self.target, self.expects = self.world.lent.box, ("OK", "NO")


class LentStatus(NeedsRight):
    right = "r"

    def text(self):
        return b"STATUS %s (MESSAGES UNSEEN SIZE)" % self.client.name_of(self.world.lent.box)

    def takes(self, r):
        return r.startswith(b"* STATUS ") and b" SIZE " in r


# ---- messages made of others (RFC 4469) ----------------------------------------------------------
class Catenate(Command):
    """A message whose bytes are those of one that is there, put together from its parts; so anybody can check them."""

    def __init__(self, client):
        super().__init__(client)
        self.target = self.rng.choice(client.boxes)
        self.box, self.uid, self.ident = self.rng.choice(self.sources(client))
        self.path = b"/" + self.box.path_for(client.user)
        if self.box.uid_validity is not None and self.rng.random() < 0.7:
            self.path += b";UIDVALIDITY=%d" % self.box.uid_validity
        self.flags = self.rng.sample((b"\\seen", b"\\flagged") + SHARED_KEYWORDS, self.rng.randint(0, 2))
        self.parts = self.choose_parts(make_message(self.ident))

    @staticmethod
    def sources(client):
        ledger = client.world.ledger
        with ledger.lock:
            return [(box, uid, ident) for (box, uid), row in ledger.rows.items()
                    if box in client.boxes and (ident := row.ident or ledger.seen_ids.get((box, uid))) is not None]

    @classmethod
    def is_possible(cls, client):
        return bool(cls.sources(client))

    def url(self, rest=b""):
        return b'URL "%s/;UID=%d%s"' % (self.path, self.uid, rest)

    def choose_parts(self, message):
        header = message[:message.index(b"\r\n\r\n") + 4]
        literal = lambda data: b"TEXT {%d+}\r\n%s" % (len(data), data)
        kinds = [[self.url()], [self.url(b"/;SECTION=HEADER"), self.url(b"/;SECTION=TEXT")],
                 [literal(header), self.url(b"/;SECTION=TEXT")]]
        if "-delivery-" not in self.ident:      # delivery puts fields ahead, so that places differ
            a, b = sorted(self.rng.sample(range(1, len(message)), 2))
            kinds += [[self.url(b"/;PARTIAL=0.%d" % a), literal(message[a:b]), self.url(b"/;PARTIAL=%d" % b)],
                      [literal(message[:a]), self.url(b"/;PARTIAL=%d.%d" % (a, b - a)), literal(message[b:])]]
        return self.rng.choice(kinds)

    def text(self):
        return (b"APPEND " + self.client.name_of(self.target) + b" (" + b" ".join(self.flags) + b") CATENATE ("
                + b" ".join(self.parts) + b")")

    def check_status(self, status, code, text):
        if status == "NO" and code.startswith(b"BADURL "):
            self.world.ledger.saw_gone(self.box, self.uid, self.client.what())
        else:
            super().check_status(status, code, text)

    done, lost = Append.done, Append.lost

    @property
    def messages(self):
        return [(self.ident, self.flags)]


# ---- mailboxes -----------------------------------------------------------------------------------
class StatusAll(Status):
    """Every item there is."""

    def text(self):
        return (b"STATUS %s (MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ SIZE DELETED DELETED-STORAGE APPENDLIMIT MAILBOXID)"
                % self.client.name_of(self.box))

    def takes(self, r):
        m = re.search(rb"MAILBOXID \((\S+)\)", r)
        if not r.startswith(b"* STATUS ") or m is None or self.numbers is not None:
            return False
        self.mailbox_id = m.group(1)
        self.numbers = {k: int(v) for k, v in re.findall(rb"([A-Z-]+) (\d+)", r.partition(b" (")[2])}
        return True

    def done(self, status, code):
        super().done(status, code)
        n, box = self.numbers, self.box
        box.mailbox_id = box.mailbox_id or self.mailbox_id
        if box.mailbox_id != self.mailbox_id or box.uid_validity not in (None, n[b"UIDVALIDITY"]):
            raise Broken(f"{box} was {box.mailbox_id}, {box.uid_validity}, and is {self.mailbox_id}, {n}")


class ListStatus(List):
    """LIST and the STATUS of each mailbox (RFC 5819)."""

    def __init__(self, client):
        super().__init__(client)
        self.option = b" RETURN (STATUS (MESSAGES UIDNEXT UIDVALIDITY UNSEEN SIZE))"
        self.numbers = {}

    def before_send(self):
        self.floors = {box: box.uid_next for box in self.client.boxes}

    def takes(self, r):
        m = re.match(rb'\* STATUS "?([^"]*)"? \((MESSAGES \d+ UIDNEXT[^()]* SIZE \d+)\)\r\n$', r)
        if m is None:
            return super().takes(r)
        words = m.group(2).split()
        self.numbers[m.group(1)] = {k: int(v) for k, v in zip(words[::2], words[1::2])}
        return True

    def done(self, status, code):
        super().done(status, code)
        for box in self.client.boxes:
            n = self.numbers.get(self.client.name_of(box).strip(b'"'))
            if n is None or n[b"UIDNEXT"] < self.floors[box] or box.uid_validity not in (None, n[b"UIDVALIDITY"]) or n[b"UNSEEN"] > n[b"MESSAGES"]:
                raise Broken(f"STATUS of {box} is {n}; UIDNEXT {self.floors[box]}, UIDVALIDITY {box.uid_validity} were told")


class RenameInbox(Command):
    """All messages go to a new mailbox, INBOX stays (RFC 9051, 6.3.6); the friend's sessions look on."""
    is_never_cut = ends_batch = True

    def __init__(self, client):
        super().__init__(client)
        self.name = f"Renamed-{client.new_ident()}".encode()

    @classmethod
    def is_possible(cls, client):
        return client.user == client.world.friend and not client.renamed

    def text(self):
        return b"RENAME INBOX " + self.name

    def done(self, status, code):
        self.client.renamed.append(self.name)


class DeleteRenamed(RenameInbox):
    def __init__(self, client):
        super().__init__(client)
        self.name = client.renamed[0]

    @classmethod
    def is_possible(cls, client):
        return bool(client.renamed)

    def text(self):
        return b"DELETE " + self.name

    def done(self, status, code):
        self.client.renamed.clear()


# ---- leaving -------------------------------------------------------------------------------------
class Unauthenticate(Simple):
    """The connection stays, and nothing else does (RFC 8437); compression ends behind the answer."""
    word, ends_batch, is_never_cut = b"UNAUTHENTICATE", True, True

    def done(self, status, code):
        self.client.wire.end_compression()
        self.client.view = None


ROWS += [
    # weight, command, needs a selected mailbox, needs the capability
    (5, SearchUpdate, True, "CONTEXT=SORT"),
    (1, CancelUpdate, True, "CONTEXT=SEARCH"),
    (3, SearchPartial, True, "PARTIAL"),
    (3, FetchPartial, True, "PARTIAL"),
    (2, FetchObject, True, "OBJECTID"),
    (2, MultiSearch, False, "MULTISEARCH"),
    (2, SetRights, False, "ACL"),
    (1, LooseRights, False, "ACL"),
    (1, GetRights, False, "ACL"),
    (1, ListRights, False, "ACL"),
    (2, LentAppend, False, "ACL"),
    (2, LentStatus, False, "ACL"),
    (3, Catenate, False, "CATENATE"),
    (1, StatusAll, False, "OBJECTID"),
    (1, ListStatus, False, "LIST-STATUS"),
    (1, RenameInbox, False, None),
    (1, DeleteRenamed, False, None),
]
