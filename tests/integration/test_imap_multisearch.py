"""ESEARCH over many mailboxes (MULTISEARCH, RFC 7377), and object ids as search keys (RFC 8474)."""

import re

from harness import ServerTest
from imap_mail import letter, load
from imap_wire import Session

TREE = {"INBOX": 3, "Work": 2, "Work/2023": 1, "Work/2023/May": 2, "Work/2024": 1, "Workshop": 1, "Empty": 0, "Caf&AOk-": 1}


def hits(told):
    """{mailbox: (uidvalidity, rest)}"""
    out = {}
    for response in told:
        m = re.fullmatch(rb'\* ESEARCH \(TAG "t\d+" MAILBOX "([^"]+)" UIDVALIDITY (\d+)\) UID (.*)\r\n', response)
        if not m:
            raise AssertionError(f"not the grammar: {response!r}")
        if m.group(1) in out:
            raise AssertionError(f"{m.group(1)!r} answered twice")
        out[m.group(1)] = (int(m.group(2)), m.group(3))
    return out


class MultisearchTest(ServerTest):
    accounts = ("alice", "bob")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        s = Session(cls.server, "alice")
        for name, count in TREE.items():
            if name != "INBOX":
                s.ok(f'CREATE "{name}"')
            if count:
                load(s, [letter(subject=f"letter {n}") for n in range(count)], f'"{name}"')
        s.ok("UNSUBSCRIBE Workshop")
        load(Session(cls.server, "bob"), [letter(subject="letter 0")])

    def names(self, s, text):
        return sorted(n.decode() for n in hits(s.ok(f"ESEARCH {text}")))

    def test_sources(self):
        s = Session(self.server, "alice")
        full = sorted(n for n, count in TREE.items() if count)
        for source, wanted in {"personal": full, "inboxes": ["INBOX"], "subscribed": [n for n in full if n != "Workshop"], "subtree Work": [n for n in full if n.startswith("Work") and n != "Workshop"],
                               'subtree-one "Work"': ["Work", "Work/2023", "Work/2024"], "subtree Work/2023": ["Work/2023", "Work/2023/May"], "mailboxes INBOX": ["INBOX"],
                               'mailboxes (inbox Work/2024 "Empty")': ["INBOX", "Work/2024"], "mailboxes Nowhere": [], 'mailboxes ("a//b" "x&y")': [],
                               "inboxes mailboxes inbox personal": full, "SUBTREE (Work/2023 Work/2024)": ["Work/2023", "Work/2023/May", "Work/2024"],
                               'mailboxes "Caf&AOk-"': ["Caf&AOk-"], "subtree Nowhere": []}.items():
            self.assertEqual(self.names(s, f"IN ({source}) ALL"), wanted, source)
        self.assertEqual(s.ok("ESEARCH IN (personal) SUBJECT nowhere"), [])
        self.assertEqual(s.ok("ESEARCH IN (personal) RETURN (COUNT MIN) SUBJECT nowhere"), [])

    def test_results(self):
        s = Session(self.server, "alice")
        found = hits(s.ok('ESEARCH IN (mailboxes (INBOX Work)) RETURN (MIN MAX COUNT) ALL'))
        self.assertEqual({n: r for n, (_, r) in found.items()}, {b"INBOX": b"MIN 1 MAX 3 COUNT 3", b"Work": b"MIN 1 MAX 2 COUNT 2"})
        for name, (validity, _) in found.items():
            self.assertRegex(s.ok(b"STATUS %s (UIDVALIDITY)" % name)[-1], b"UIDVALIDITY %d\\)" % validity)
        self.assertEqual({r for _, r in hits(s.ok("ESEARCH IN (personal) RETURN (PARTIAL 1:1) ALL")).values()}, {b"PARTIAL (1:1 1)"})
        self.assertEqual({n: r for n, (_, r) in hits(s.ok('ESEARCH IN (subtree Work) SUBJECT "letter 1"')).items()}, {b"Work": b"ALL 2", b"Work/2023/May": b"ALL 2"})
        self.assertEqual({n: r for n, (_, r) in hits(s.ok("ESEARCH IN (personal) RETURN () 2:*")).items()},
                         {b"INBOX": b"ALL 2:3", b"Work": b"ALL 2", b"Work/2023/May": b"ALL 2"} | {n.encode(): b"ALL 1" for n, c in TREE.items() if c == 1})
        self.assertRegex(hits(s.ok("ESEARCH IN (inboxes) RETURN (ALL) MODSEQ 1"))[b"INBOX"][1], rb"^ALL 1:3 MODSEQ \d+$")

    def test_the_selected_mailbox(self):
        s = Session(self.server, "alice")
        for text in ("ESEARCH ALL", "ESEARCH IN (selected) ALL", "ESEARCH IN (inboxes selected) ALL", "ESEARCH IN (personal) RETURN (UPDATE) ALL"):
            self.assertRegex(s.refused(text), rb"^BAD ", text)
        s.ok("SELECT Work/2023/May")
        self.assertEqual(self.names(s, "ALL"), ["Work/2023/May"])
        self.assertEqual(self.names(s, "IN (selected inboxes) ALL"), ["INBOX", "Work/2023/May"])
        self.assertEqual(s.ok("ESEARCH RETURN (SAVE) 2"), [])
        self.assertRegex(s.ok("ESEARCH IN (selected) RETURN (SAVE COUNT) NOT $")[-1], rb"UID COUNT 1\r\n$")
        self.assertEqual(s.ok("SEARCH $"), [b"* SEARCH 1\r\n"])
        self.assertEqual(self.names(s, "IN (personal) $"), ["Work/2023/May"])
        tag = s.number + 1
        s.ok("ESEARCH IN (personal) RETURN (UPDATE COUNT) FLAGGED")
        told = s.ok("STORE 1 +FLAGS.SILENT (\\Flagged)")
        self.assertRegex(told[-1], rb'^\* ESEARCH \(TAG "t%d" MAILBOX "Work/2023/May" UIDVALIDITY \d+\) UID ADDTO \(0 1\)\r\n' % tag)
        told = s.ok("ESEARCH IN (inboxes) RETURN (UPDATE COUNT) ALL")
        self.assertEqual(told[-1][:16], b"* NO [NOUPDATE \"")
        s.ok("STORE 1 -FLAGS.SILENT (\\Flagged)")

    def test_mailboxes_of_others(self):
        alice, bob = Session(self.server, "alice"), Session(self.server, "bob")
        top = "Other Users/alice@example.test/"
        for path, rights in {"Work": "lr", "Work/2023": "l", "Work/2024": "lr", "Workshop": "r"}.items():
            alice.ok(f"SETACL {path} bob@example.test {rights}")
        for source, wanted in {f'subtree "{top}Work"': [top + "Work", top + "Work/2024"], 'subtree "Other Users"': [top + "Work", top + "Work/2024"],
                               f'mailboxes ("{top}Work" "{top}Work/2023" "{top}Workshop" "{top}Empty" "Other Users/nobody@example.test/INBOX")': [top + "Work", top + "Workshop"],
                               "personal": ["INBOX"], "inboxes": ["INBOX"]}.items():
            self.assertEqual(self.names(bob, f"IN ({source}) ALL"), wanted, source)
        bob.ok(f'SELECT "{top}Work"')
        self.assertEqual(self.names(bob, "ALL"), [top + "Work"])
        self.assertEqual(self.names(bob, "IN (selected personal) ALL"), ["INBOX", top + "Work"])
        bob.ok(f'SELECT "{top}Workshop"')  # in no list, and has its whole name all the same
        self.assertEqual(self.names(bob, "IN (selected) ALL"), [top + "Workshop"])
        bob.ok(f'SUBSCRIBE "{top}Work"')
        self.assertEqual(self.names(bob, "IN (subscribed) ALL"), ["INBOX", top + "Work"])
        bob.ok(f'UNSUBSCRIBE "{top}Work"')
        for path in ("Work", "Work/2023", "Work/2024", "Workshop"):
            alice.ok(f"DELETEACL {path} bob@example.test")

    def test_refusals(self):
        s = Session(self.server, "alice", "INBOX")
        for text in ("", "IN", "IN () ALL", "IN (nonsense) ALL", "IN (selected-delayed) ALL", "IN (mailboxes) ALL", "IN (mailboxes ()) ALL", "IN (subtree (a) ALL", "IN (personal)",
                     "IN (personal)ALL", "IN personal ALL", "RETURN (X) ALL", "IN (personal) RETURN (SAVE) ALL", "IN (selected inboxes) RETURN (SAVE COUNT) ALL",
                     "IN (personal (option)) ALL", "IN (personal) NONSENSE", "RETURN (ALL) IN (personal) ALL"):
            self.assertRegex(s.refused(f"ESEARCH {text}"), rb"^BAD ", text)
        self.assertRegex(s.refused("ESEARCH IN (personal) CHARSET KLINGON ALL"), rb"^NO \[BADCHARSET")
        self.assertRegex(s.refused("ESEARCH IN (mailboxes (" + " ".join(["INBOX"] * 101) + ")) ALL"), rb"^NO \[LIMIT\]")

    def test_object_ids(self):
        s = Session(self.server, "alice")
        s.ok("SELECT Work")
        account = next(a for a in range(1, 9) if s.ok(f"SEARCH THREADID T{a}-1 ALL") and any(s.ok(f"SEARCH EMAILID M{a}-{n}") != [b"* SEARCH\r\n"] for n in range(1, 20)))
        found = [n for n in range(1, 20) if s.ok(f"SEARCH EMAILID M{account}-{n}") != [b"* SEARCH\r\n"]]
        self.assertEqual(len(found), TREE["Work"])
        for n in found:
            self.assertEqual(len(s.ok(f"SEARCH THREADID T{account}-{n}")[0].split()), 3)
        for text in (f"EMAILID T{account}-{found[0]}", f"EMAILID M{account + 1}-{found[0]}", "EMAILID M", "EMAILID x", f"EMAILID M{account}-99999", 'THREADID "T1-"', f"THREADID M{account}-{found[0]}",
                     "EMAILID M18446744073709551615-1", "EMAILID M0-0"):
            self.assertEqual(s.ok(f"SEARCH {text}"), [b"* SEARCH\r\n"], text)
        for text in ("EMAILID", "THREADID", "EMAILID (x)"):
            self.assertRegex(s.refused(f"SEARCH {text}"), rb"^BAD ", text)


if __name__ == "__main__":
    import unittest
    unittest.main()
