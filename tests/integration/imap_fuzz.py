#!/usr/bin/env python3
"""Whole sessions of nearly right commands, in every state, against a running server.

usage: imap_fuzz.py [--minutes N] [--seed N] [--binary PATH]

A session is a list of batches. Each batch is commands made by the grammar in GRAMMAR, some of them damaged, followed by
a NOOP whose answer ends it. Checked: every line gets exactly one answer (or BYE and the end), BAD and NO say something,
nothing but the grammar of responses comes, and the workers live. The same for POP3."""

import argparse
import base64
import collections
import pathlib
import random
import re
import socket
import sys
import time

from harness import PASSWORD, Server

PATIENCE_SECONDS = 120                  # for one answer; beyond it the session hangs
ACCOUNTS = ("fuzz", "fuzzy")
SETTINGS = {"auth_limit": "no", "imap_errors_max": "200", "pop3_errors_max": "200", "imap_append_max": "64K"}


class Wrong(AssertionError):
    """What the server must not do."""


# ---- grammar -------------------------------------------------------------------------------------
# A word in braces stands for one of its row; everything else is sent as it is.
GRAMMAR = {
    "command": ["NOOP", "CHECK", "CAPABILITY", "NAMESPACE", "CLOSE", "UNSELECT", "EXPUNGE", "LOGOUT", "STARTTLS", "UNAUTHENTICATE",
                "UID EXPUNGE {set}", "ID {id}", "ENABLE {extension}", "ENABLE {extension} {extension}", "LANGUAGE", "LANGUAGE {atom}",
                "{select} {mailbox}", "{select} {mailbox} ({selectopt})", "{select} {mailbox} ({selectopt} {selectopt})",
                "{fetch} {set} {item}", "{fetch} {set} ({item} {item})", "{fetch} {set} ({item} {item} {item}) ({fetchmod})",
                "{store} {set} {storeitem} {flags}", "{store} {set} ({storemod}) {storeitem} {flags}",
                "{search} {key}", "{search} {key} {key}", "{search} RETURN ({return} {return}) {key}", "{search} CHARSET {charset} {key}",
                "{sort} ({sortkey} {sortkey}) {charset} {key}", "{sort} RETURN ({return}) ({sortkey}) {charset} {key}",
                "{thread} {algorithm} {charset} {key}", "ESEARCH IN ({where}) RETURN ({return}) {key}",
                "COPY {set} {mailbox}", "UID COPY {set} {mailbox}", "MOVE {set} {mailbox}", "UID MOVE {set} {mailbox}",
                "CREATE {mailbox}", "CREATE {mailbox} (USE ({use}))", "DELETE {mailbox}", "RENAME {mailbox} {mailbox}",
                "SUBSCRIBE {mailbox}", "UNSUBSCRIBE {mailbox}", "LSUB {string} {pattern}",
                "LIST {string} {pattern}", "LIST ({listopt} {listopt}) {string} {pattern}", "LIST {string} ({pattern} {pattern}) RETURN ({listret})",
                "STATUS {mailbox} ({statusitem} {statusitem})",
                "APPEND {mailbox} {message}", "APPEND {mailbox} {flags} {message}", "APPEND {mailbox} {flags} {date} {message}",
                "APPEND {mailbox} {message} {flags} {message}", "APPEND {mailbox} CATENATE (TEXT {message} URL {string})",
                "APPEND {mailbox} UTF8 ({message8})", "REPLACE {number} {mailbox} {message}", "UID REPLACE {number} {mailbox} {flags} {message}",
                "GETQUOTA {string}", "GETQUOTAROOT {mailbox}", "SETQUOTA {string} (STORAGE {number})",
                "GETMETADATA {mailbox} {entry}", "GETMETADATA (MAXSIZE {number} DEPTH infinity) {mailbox} ({entry} {entry})",
                "SETMETADATA {mailbox} ({entry} {value})", "SETMETADATA {mailbox} ({entry} NIL)",
                "GETACL {mailbox}", "SETACL {mailbox} {who} {rights}", "DELETEACL {mailbox} {who}", "LISTRIGHTS {mailbox} {who}", "MYRIGHTS {mailbox}",
                "NOTIFY NONE", "NOTIFY SET ({where} ({event} {event}))", "NOTIFY SET STATUS (selected ({event})) ({where} ({event}))",
                "UIDBATCHES {number}", "UIDBATCHES {number} {number}:{number}", "GETJMAPACCESS", "CANCELUPDATE {string}",
                "LOGIN {string} {string}", "FROBNICATE {atom}", "UID {atom}"],
    "select": ["SELECT", "EXAMINE"], "fetch": ["FETCH", "UID FETCH"], "store": ["STORE", "UID STORE"], "search": ["SEARCH", "UID SEARCH"],
    "sort": ["SORT", "UID SORT"], "thread": ["THREAD", "UID THREAD"],
    "set": ["1", "1:*", "*", "$", "2,4:7,9:*", "{number}", "{number}:{number}", "*:{number}", "1:3,5", "0"],
    "number": ["1", "2", "7", "0", "00001", "4294967295", "4294967296", "18446744073709551615", "99999999999999999999", "-1"],
    "mailbox": ["INBOX", "inbox", "Drafts", "One", "Two/Three", "\"Two\"", "\"\"", "Nothing", "&AOk-t&AOk-", "a&b", "a*b", "\"a\\\"b\"", "//", "{literal}"],
    "pattern": ["*", "%", "\"*\"", "\"%/%\"", "INBOX*", "\"\"", "{literal}", "************%%%%%%x"],
    "string": ["\"\"", "abc", "\"a b\"", "\"q\\\"\\\\\"", "{literal}", "NIL", "{name}"],
    "name": ["fuzz@example.test", "fuzzy@example.test", "secret", "nobody"],
    "atom": ["x", "NIL", "a.b-c", "\\Seen", "[]", "i-default", "*"],
    "flags": ["()", "(\\Seen)", "(\\Deleted \\Flagged)", "(red \\Draft)", "\\Seen", "(\\Nonsense)", "(\\*)", "(a b c d e f g h)", "({atom})"],
    "storeitem": ["FLAGS", "+FLAGS", "-FLAGS.SILENT", "+FLAGS.SILENT", "FLAGS.LOUD", "+X"],
    "storemod": ["UNCHANGEDSINCE {number}", "UNCHANGEDSINCE"],
    "fetchmod": ["CHANGEDSINCE {number}", "CHANGEDSINCE {number} VANISHED", "PARTIAL {number}:{number}", "VANISHED"],
    "item": ["ALL", "FAST", "FULL", "FLAGS", "UID", "MODSEQ", "ENVELOPE", "BODY", "BODYSTRUCTURE", "INTERNALDATE", "RFC822", "RFC822.SIZE",
             "RFC822.HEADER", "RFC822.TEXT", "BODY[]", "BODY.PEEK[{section}]", "BODY.PEEK[{section}]<{number}.{number}>", "BINARY.PEEK[{part}]",
             "BINARY.SIZE[{part}]", "BINARY[{part}]<{number}.{number}>", "SAVEDATE", "PREVIEW", "PREVIEW (LAZY)", "EMAILID", "THREADID"],
    "section": ["", "HEADER", "TEXT", "MIME", "{part}", "{part}.MIME", "{part}.HEADER", "HEADER.FIELDS (Subject From)",
                "HEADER.FIELDS.NOT ({string})", "{part}.TEXT"],
    "part": ["1", "1.1", "2", "1.2.3.4.5", "0", "4294967296", "1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1.1"],
    "key": ["ALL", "SEEN", "UNSEEN", "DELETED", "NEW", "RECENT", "OLD", "KEYWORD {atom}", "UNKEYWORD red", "FROM {string}", "SUBJECT {string}",
            "BODY {string}", "TEXT {string}", "HEADER {string} {string}", "BEFORE {day}", "SINCE {day}", "SENTON {day}", "LARGER {number}",
            "SMALLER {number}", "UID {set}", "{set}", "NOT {key}", "OR {key} {key}", "({key})", "({key} {key})", "MODSEQ {number}",
            "MODSEQ \"/flags/\\\\seen\" all {number}", "YOUNGER {number}", "OLDER {number}", "SAVEDSINCE {day}", "EMAILID x", "FUZZY TEXT {string}"],
    "return": ["ALL", "MIN", "MAX", "COUNT", "SAVE", "PARTIAL {number}:{number}", "UPDATE", "CONTEXT", "NONSENSE"],
    "charset": ["UTF-8", "US-ASCII", "KLINGON", "{string}"], "algorithm": ["REFERENCES", "ORDEREDSUBJECT", "NONSENSE"],
    "sortkey": ["ARRIVAL", "REVERSE DATE", "SUBJECT", "FROM", "DISPLAYTO", "SIZE", "CC", "REVERSE", "NONSENSE"],
    "where": ["mailboxes {mailbox}", "subtree {mailbox}", "personal", "inboxes", "selected", "subscribed", "mailboxes ({mailbox} {mailbox})"],
    "event": ["MessageNew", "MessageNew ({item} {item})", "MessageExpunge", "FlagChange", "MailboxName", "SubscriptionChange", "AnnotationChange", "Nonsense"],
    "day": ["1-Jan-2026", "\"31-Feb-2026\"", "01-Nov-1970", "1-Foo-2026", "99-Dec-99999"],
    "date": ["\"23-Nov-2026 10:00:00 +0000\"", "\" 1-Jan-2000 00:00:00 -1200\"", "\"32-Foo-2026 25:61:61 +9999\"", "\"\""],
    "selectopt": ["CONDSTORE", "QRESYNC ({number} {number})", "QRESYNC (1 1 {set})", "QRESYNC (1 1 1:9 (1,2 3,4))", "NONSENSE"],
    "listopt": ["SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE", "NONSENSE"],
    "listret": ["SUBSCRIBED", "CHILDREN", "SPECIAL-USE", "STATUS ({statusitem})", "MYRIGHTS", "METADATA ({entry})", "NONSENSE"],
    "statusitem": ["MESSAGES", "UNSEEN", "UIDNEXT", "UIDVALIDITY", "SIZE", "DELETED", "HIGHESTMODSEQ", "APPENDLIMIT", "MAILBOXID", "RECENT", "NONSENSE"],
    "use": ["\\Sent", "\\All", "\\Junk", "x"], "extension": ["CONDSTORE", "QRESYNC", "IMAP4rev2", "UTF8=ACCEPT", "UIDONLY", "NONSENSE", "{atom}"],
    "id": ["NIL", "()", "(\"name\" \"fuzz\")", "(\"a\" NIL \"b\" {literal})"], "entry": ["/private/comment", "/shared/vendor/x/y", "\"\"", "/shared//", "x", "/private/*"],
    "value": ["\"text\"", "{literal}", "NIL", "~{literal}"], "who": ["anyone", "fuzzy@example.test", "-anyone", "{string}"], "rights": ["lrs", "+w", "-i", "\"\"", "zzz"],
    "message8": ["~{message}"],
}
SPECIAL = [b"\0", b"\xff", b"(", b")", b"((((((((", b"\"", b"\\", b"{", b"}", b"{5}", b"{3+}", b"*", b"$", b"%", b" ", b"  ", b"\t", b"\r", b"\n", b"\r\n", b"[", b"]",
           b"<", b">", b"~", b"+", b"&", b"&AAA-", b"99999999999999999999999", b"\xc3\x28", b"\xf0\x9f\x98\x80", b"NIL", b"\x80", b"\x7f", b"DONE\r\n"]
MESSAGES = [b"x", b"Subject: a\r\n\r\nb\r\n", b"From: =?utf-8?q?=FF?= <a@b>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n",
            b"\0", b"Content-Type: message/rfc822\r\n\r\n" * 30 + b"x", b"\r\n", b"To: " + b"a," * 500 + b"\r\n\r\n", b"\xff\xfe" * 40]


class Maker:
    """Commands from the grammar, and what chance does to them."""

    def __init__(self, rng):
        self.rng = rng

    def expand(self, text, depth=0):
        def fill(m):
            name = m.group(1)
            if name in ("literal", "message"):
                return self.literal(name)
            row = GRAMMAR[name]
            return self.expand(row[0] if depth > 12 else self.rng.choice(row), depth + 1)
        return re.sub(r"\{([a-z]+8?)\}", fill, text)

    def literal(self, kind):
        body = self.rng.choice(MESSAGES) if kind == "message" else self.rng.choice((b"", b"abc", b"INBOX", b"a\r\nb", b"\xc3\xa9", b"x" * 300))
        return f"{{{len(body)}+}}\r\n" + body.decode("latin-1")

    def command(self):
        return self.expand(self.rng.choice(GRAMMAR["command"])).encode("latin-1")

    def deep(self):
        """Nested further, or longer, than anybody needs."""
        n = self.rng.choice((10, 100, 2000, 20000))
        return self.rng.choice((b"SEARCH " + b"(" * n + b"ALL" + b")" * n, b"SEARCH " + b"NOT " * n + b"ALL", b"SEARCH " + b"OR ALL " * n + b"ALL",
                                b"FETCH 1 (" + b"UID " * n + b"UID)", b"FETCH 1 BODY[" + b"1." * n + b"1]", b"STORE 1 FLAGS (" + b"k " * n + b"k)",
                                b"LIST \"\" (" + b"% " * n + b"%)", b"FETCH " + b"1," * n + b"1 UID", b"CREATE " + b"a/" * n + b"a", b"SELECT " + b"x" * n,
                                b"ID (" + b"\"a\" \"b\" " * n + b"\"a\" \"b\")", b"SEARCH HEADER x " + b"y" * n, b"SEARCH " + b"\"" * n, b"x" * n))

    def damage(self, data):
        rng = self.rng
        data = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            at = rng.randrange(len(data) + 1)
            kind = rng.randrange(6)
            if kind == 0 and at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                del data[at:]
            elif kind == 2:
                del data[at:at + rng.randrange(1, 8)]
            elif kind == 3:
                data[at:at] = data[at:at + rng.randrange(1, 40)] * rng.choice((1, 2, 50))
            else:
                data[at:at] = rng.choice(SPECIAL)
        return bytes(data)


# ---- sessions ------------------------------------------------------------------------------------
class Peer:
    """A connection that reads whole responses and knows when the server has closed."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self.file = self.sock.makefile("rb")
        self.said = collections.deque(maxlen=40)
        self.is_open = True

    def close(self):
        self.file.close()
        self.sock.close()

    def send(self, data):
        self.said.append(b"C: " + data[:1500])
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            self.is_open = False

    def line(self):
        try:
            line = self.file.readline()
        except ConnectionResetError:
            line = b""
        except TimeoutError:
            raise Wrong("no answer") from None
        self.is_open = self.is_open and line != b""
        self.said.append(b"S: " + line[:300])
        return line

    def response(self):
        """With its literals; b"" at the end."""
        data = self.line()
        while (m := re.search(rb"\{(\d+)\}\r\n$", data)):
            try:
                body = self.file.read(int(m.group(1)))
            except ConnectionResetError:
                return b""
            data += body + self.line()
        return data

    def log(self):
        return "\n".join("    " + repr(line)[2:-1] for line in self.said)


class ImapFuzz:
    ANSWER = re.compile(rb"([^ \r\n]+) (OK|NO|BAD)( \[[^\r\n]*\])? ?([^\r\n]*)\r\n$", re.S)

    def __init__(self, server, rng):
        self.server, self.rng, self.maker = server, rng, Maker(rng)
        self.counts = collections.Counter()

    def session(self):
        self.peer = Peer(self.server.port("imap"))
        self.number = 0
        try:
            self.peer.response()
            self.enter()
            for _ in range(self.rng.randint(1, 25)):
                if not self.peer.is_open:
                    break
                self.rng.choices((self.batch, self.broken_literal, self.idle, self.authenticate, self.raw_garbage), (30, 2, 1, 2, 1))[0]()
            if self.rng.random() < 0.1 and self.peer.is_open:
                self.change_layer()
        except Wrong as e:
            raise Wrong(f"{e}\n{self.peer.log()}") from None
        finally:
            self.peer.close()

    def enter(self):
        """Some sessions never log in, some select nothing."""
        depth = self.rng.random()
        if depth > 0.1:
            self.plain(b"LOGIN %s@example.test %s" % (self.rng.choice(ACCOUNTS).encode(), PASSWORD.encode()))
        if depth > 0.2:
            for name in self.rng.sample(("CONDSTORE", "QRESYNC", "IMAP4rev2", "UTF8=ACCEPT", "UIDONLY"), self.rng.choice((0, 0, 1, 2))):
                self.plain(b"ENABLE " + name.encode())
            self.plain(b"SELECT INBOX")

    def tag(self):
        self.number += 1
        return b"t%d" % self.number

    def end(self):
        """A tag that no damage makes of another."""
        self.number += 1
        return b"End.%d.%08x" % (self.number, self.rng.getrandbits(32))

    def plain(self, command):
        tag = self.tag()
        self.peer.send(tag + b" " + command + b"\r\n")
        self.until(tag)

    def until(self, *tags):
        """Responses up to the last of the tags; each tag is answered once, or there is BYE and the end."""
        answers, left = [], list(tags)
        while left:
            r = self.peer.response()
            if not r:
                return answers, False
            if not r.startswith((b"* ", b"+ ")) or r.startswith(b"* BAD"):
                answers.append(self.check_answer(r))
                if answers[-1] in left:
                    left.remove(answers[-1])
            elif not r.endswith(b"\r\n"):
                raise Wrong(f"a response that does not end: {r[-100:]!r}")
            elif r.startswith(b"* BYE"):
                return answers, False
        return answers, True

    def check_answer(self, r):
        m = self.ANSWER.match(r)
        if m is None or not m.group(4).strip():
            raise Wrong(f"no such answer: {r[:300]!r}")
        self.counts[m.group(2).decode()] += 1
        if b"SERVERBUG" in (m.group(3) or b""):
            raise Wrong(f"the server's own fault: {r!r}")
        return m.group(1)

    def batch(self):
        """Commands in one write; those left whole are known to get one answer each, damaged ones one a line."""
        whole, text, lines = [], b"", 0
        for _ in range(self.rng.choice((1, 1, 2, 6))):
            tag = self.tag()
            command = self.maker.deep() if self.rng.random() < 0.03 else self.maker.command()
            word = command.split(b" ")[0].upper()
            if word in (b"LOGOUT", b"STARTTLS") or (word == b"UNAUTHENTICATE" and self.rng.random() < 0.7):
                continue
            if self.rng.random() < 0.5:
                line = self.maker.damage(tag + b" " + command)
                # What could begin a literal or another way of reading is not for counting.
                line = re.sub(rb"\{\d*\+?\}", b"{x", line)
                if re.search(rb"(?i)idle|authenticate|starttls|compress|logout|done", line):
                    continue
                lines += 1 + line.count(b"\n")
            else:
                line = tag + b" " + command
                whole.append(tag)
            text += line + b"\r\n"
        end = self.end()
        self.peer.send(text + end + b" NOOP\r\n")
        answers, is_finished = self.until(end)
        if is_finished:
            self.check_count(whole, lines, answers, end)

    def check_count(self, whole, lines, answers, end):
        told = collections.Counter(answers)
        for tag in whole + [end]:
            if told[tag] < 1:
                raise Wrong(f"{tag!r} was not answered: {answers}")
        if len(answers) != len(whole) + lines + 1:
            raise Wrong(f"{len(answers)} answers to {len(whole) + lines + 1} lines: {answers}")

    def broken_literal(self):
        """Announced and not sent, sent and not announced, too large; the session may end, but not hang."""
        announced = self.rng.choice((b"{5}", b"{3+}", b"{4294967296}", b"{99999999999999999999}", b"{70000+}", b"{0}", b"{0+}", b"{-1}", b"{2000000}", b"~{4}"))
        command = self.rng.choice((b"SELECT ", b"APPEND INBOX ", b"APPEND INBOX (\\Seen) ", b"SEARCH TEXT ", b"LIST \"\" ", b"LOGIN "))
        tag, end = self.tag(), self.end()
        self.peer.send(tag + b" " + command + announced + b"\r\n")
        filling = b"x" * self.rng.choice((0, 1, 5, 60000)) + b"\r\n"
        size = int(re.sub(rb"[^0-9]", b"", announced))
        if b"+" in announced and size > len(filling):
            filling += b"y" * (size - len(filling)) + b"\r\n"
        self.peer.send(filling)
        if self.rng.random() < 0.3 and b"}" in announced:
            return self.leave()
        self.peer.send(b"\r\n" + end + b" NOOP\r\n")
        self.read_leniently(end)

    def read_leniently(self, end):
        """What was sent may be taken for a literal or for commands: answers of any number, but the last, or the end. A
        server that still reads a literal gets it."""
        self.peer.sock.settimeout(1)
        try:
            for _ in range(40):
                try:
                    r = self.peer.response()
                except Wrong:           # it waits for more
                    return self.leave()
                if not r or r.startswith(end + b" "):
                    return
        finally:
            self.peer.sock.settimeout(PATIENCE_SECONDS)

    def leave(self):
        self.peer.is_open = False

    def idle(self):
        tag, end = self.tag(), self.end()
        self.peer.send(tag + b" IDLE\r\n")
        garbage = self.rng.choice((b"DONE\r\n", b"done\r\n", b"DONE \r\n", b"NOOP\r\n", b"\0\r\n", b"x" * 20000 + b"\r\n", b"a NOOP\r\nDONE\r\n"))
        self.peer.send(garbage + end + b" NOOP\r\n")
        self.until(end)

    def authenticate(self):
        mechanism = self.rng.choice((b"PLAIN", b"LOGIN", b"SCRAM-SHA-256", b"NONSENSE", b""))
        said = base64.b64encode(self.rng.choice((b"", b"\0a\0b", b"n,,n=fuzz,r=x", b"\0" * 300, bytes(range(256)))))
        initial = b" " + self.rng.choice((said, b"=", b"!!", b"*")) if self.rng.random() < 0.5 else b""
        tag, end = self.tag(), self.end()
        self.peer.send(tag + b" AUTHENTICATE " + mechanism + initial + b"\r\n")
        self.peer.send(re.sub(rb"[{\n]", b"", self.maker.damage(said or b"x")) + b"\r\n*\r\n" + end + b" NOOP\r\n")
        self.until(end)

    def raw_garbage(self):
        """No commands at all: every line is refused, until the server has had enough."""
        garbage = bytes(self.rng.choices(b"\0 \t\"\\(){}*%+~abc019.:,\xff\x80\x01", k=self.rng.choice((50, 3000)))).replace(b"{", b"(")
        end = self.end()
        self.peer.send(garbage + b"\r\n" + end + b" NOOP\r\n")
        self.until(end)

    def change_layer(self):
        """TLS or compression begins, and garbage comes."""
        tag = self.tag()
        self.peer.send(tag + b" " + self.rng.choice((b"STARTTLS", b"COMPRESS DEFLATE", b"LOGOUT")) + b"\r\n")
        self.peer.send(bytes(self.rng.choices(range(256), k=4000)))
        try:
            self.peer.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return                      # the server was quicker
        while self.peer.line():         # to its end, which must come
            pass

    def endless(self):
        """Garbage for ever: the session ends."""
        self.peer = Peer(self.server.port("imap"))
        sent = 0
        try:
            while self.peer.is_open and sent < 64 * 1024 * 1024:
                block = self.maker.damage(b"x FROBNICATE\r\n" * 50)
                self.peer.send(block)
                sent += len(block)
            if self.peer.is_open:
                raise Wrong(f"{sent} bytes of garbage, and the session goes on")
        finally:
            self.peer.close()


class Pop3Fuzz:
    COMMANDS = ("STAT", "LIST", "LIST {n}", "UIDL", "UIDL {n}", "RETR {n}", "TOP {n} {n}", "DELE {n}", "RSET", "NOOP", "CAPA", "LANG", "LANG en", "UTF8",
                "USER fuzz@example.test", "PASS secret", "PASS wrong", "APOP a b", "STLS x", "AUTH", "AUTH NONSENSE", "FROB", "QUIT x")
    NUMBERS = ("1", "2", "0", "-1", "99999999999999999999", "x", "")
    LONG = (b"LIST", b"UIDL", b"CAPA", b"LANG", b"AUTH")

    def __init__(self, server, rng):
        self.server, self.rng, self.maker = server, rng, Maker(rng)
        self.counts = collections.Counter()

    def session(self):
        self.peer = Peer(self.server.port("pop3"))
        try:
            self.peer.line()
            if self.rng.random() < 0.8:
                self.ask(b"USER fuzz@example.test")
                self.ask(b"PASS secret")
            for _ in range(self.rng.randint(1, 40)):
                if not self.peer.is_open:
                    break
                self.one()
            self.peer.send(self.rng.choice((b"QUIT\r\n", b"", b"AUTH PLAIN\r\n!!\r\n", b"STLS\r\n" + bytes(range(256)))))
        except Wrong as e:
            raise Wrong(f"{e}\n{self.peer.log()}") from None
        finally:
            self.peer.close()

    def one(self):
        command = re.sub(r"\{n\}", lambda m: self.rng.choice(self.NUMBERS), self.rng.choice(self.COMMANDS)).encode()
        if self.rng.random() < 0.4:
            command = self.maker.damage(command).replace(b"\n", b"").replace(b"\r", b"")
        self.ask(command)

    def ask(self, command):
        if re.match(rb"(?i)\s*(auth\s|stls\s*$)", command):
            return
        self.peer.send(command + b"\r\n")
        answer = self.peer.line()
        if not answer:
            return
        if not re.match(rb"(\+OK|-ERR)( [^\r\n]*)?\r\n$", answer) or (answer.startswith(b"-ERR") and len(answer) < 8):
            raise Wrong(f"no such answer: {answer!r}")
        self.counts[answer.split()[0].decode()] += 1
        words = command.upper().split()
        if answer.startswith(b"+OK") and words and (words[0] in (b"RETR", b"TOP") or (words[0] in self.LONG and len(words) == 1)):
            while (line := self.peer.line()) != b".\r\n" and line:
                pass


# ---- running -------------------------------------------------------------------------------------
def workers_of(server):
    return sorted(pid for i in range(server.workers) for pid in server.named(f"worker-{i}"))


def resident_kb(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text()).group(1))


def fill(server):
    for name in ACCOUNTS:
        with server.imap(name) as c:
            for message in MESSAGES[1:3] * 5:
                c.append("INBOX", None, None, message)
            c.create("One")
            c.create("Two")


def run(server, seed, seconds, report=None):
    """Sessions until the time is over; Wrong with what went wrong. Returns the counts of answers."""
    rng = random.Random(seed)
    kinds = ImapFuzz(server, rng), Pop3Fuzz(server, rng)
    before, sessions = workers_of(server), 0
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            fuzz = rng.choices(kinds, (85, 15))[0]
            fuzz.session()
            sessions += 1
            if sessions % 20 == 0 and workers_of(server) != before:
                raise Wrong(f"a worker died: {before}, {workers_of(server)}")
        kinds[0].endless()
    except Wrong as e:
        raise Wrong(f"seed {seed}, session {sessions}: {e}") from None
    if workers_of(server) != before:
        raise Wrong(f"seed {seed}: a worker died: {before}, {workers_of(server)}")
    return sessions, kinds[0].counts + kinds[1].counts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--binary", type=pathlib.Path)
    options = parser.parse_args()
    server, status = Server(SETTINGS, binary=options.binary), 1
    try:
        server.start()
        server.cli("domain", "add", "example.test")
        server.add_accounts(*ACCOUNTS)
        fill(server)
        sizes = [resident_kb(pid) for pid in workers_of(server)]
        print(run(server, options.seed, options.minutes * 60))
        print("workers' memory in KB:", sizes, [resident_kb(pid) for pid in workers_of(server)])
        status = 0
    except Wrong as e:
        print(e, flush=True)
    finally:
        if server.stop() != 0 or "Sanitizer" in server.log() or "runtime error" in server.log():
            print(server.log()[-6000:])
            status = 1
        server.remove()
    sys.exit(status)


if __name__ == "__main__":
    main()
