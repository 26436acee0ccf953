"""Annotations of mailboxes and of the server (RFC 5464, RFC 9590), the special use among them (RFC 6154, 4)."""

import re
import subprocess
import unittest

from harness import PASSWORD
from imap_wire import ImapTest, Session, one_per_worker

MESSAGE = b"From: a@elsewhere.test\r\nTo: alice@example.test\r\nSubject: s\r\n\r\nHello.\r\n"


class MetadataTest(ImapTest):
    accounts = ("alice", "bob", "carol", "dave", "erin", "frank", "gina", "hana", "root")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.cli("account", "admin", "root@example.test", "yes")

    def refused(self, s, text, code):
        answer = s.refused(text)
        self.assertTrue(answer.startswith(code), (text, answer))

    # ---- mailboxes ---------------------------------------------------------------------------------
    def test_an_entry_is_set_read_replaced_and_removed(self):
        s = self.session("alice")
        self.assertIn(b" METADATA ", s.ok("CAPABILITY")[0])
        self.assertEqual(s.ok('SETMETADATA INBOX (/private/comment "my own" /shared/comment "for all")'), [])
        self.assertEqual(s.ok("GETMETADATA INBOX /private/comment"), [b'* METADATA "INBOX" (/private/comment "my own")\r\n'])
        self.assertEqual(s.ok("GETMETADATA INBOX (/shared/comment /private/comment)"),
                         [b'* METADATA "INBOX" (/shared/comment "for all" /private/comment "my own")\r\n'])
        s.ok('SETMETADATA inbox (/PRIVATE/Comment "other")')            # names are the same in any case
        self.assertEqual(s.ok("GETMETADATA INBOX /private/COMMENT"), [b'* METADATA "INBOX" (/private/comment "other")\r\n'])
        s.ok("SETMETADATA INBOX (/private/comment NIL)")
        self.assertEqual(s.ok("GETMETADATA INBOX /private/comment"), [b'* METADATA "INBOX" (/private/comment NIL)\r\n'])
        s.ok("SETMETADATA INBOX (/private/comment NIL)")                # once more is no failure
        s.ok('SETMETADATA INBOX (/private/comment "")')
        self.assertEqual(s.ok("GETMETADATA INBOX /private/comment"), [b'* METADATA "INBOX" (/private/comment "")\r\n'])

    def test_values_are_any_bytes(self):
        s = self.session("alice")
        for value in (b"two\r\nlines", "Grüße ☺".encode(), b'quote " and \\', b"x" * 65536):
            s.ok(b"SETMETADATA Sent (/shared/comment {%d+}\r\n%s)" % (len(value), value))
            (told,) = s.ok("GETMETADATA Sent /shared/comment")
            if value == b'quote " and \\':
                self.assertIn(rb'"quote \" and \\"', told)
            else:
                self.assertIn(b"{%d}\r\n%s)" % (len(value), value), told)
        binary = bytes(range(256))
        s.ok(b"SETMETADATA Sent (/shared/comment ~{%d+}\r\n%s)" % (len(binary), binary))
        s.send(b"x1 GETMETADATA Sent /shared/comment\r\n")
        told = b"".join(s.until(b"x1 "))
        self.assertIn(b"~{256}\r\n" + binary + b")\r\n", told)

    def test_vendor_entries_and_depth(self):
        s = self.session("bob")
        entries = ("/private/vendor/kolab/folder-type", "/private/vendor/kolab/a/b", "/private/vendor/kolabx/c", "/shared/vendor/cmu/color")
        for number, entry in enumerate(entries):
            s.ok(f'SETMETADATA Sent ({entry} "{number}")')
        def names(text):
            return sorted(re.findall(rb"(/\S+) \"", b"".join(s.ok(text))))
        self.assertEqual(names("GETMETADATA Sent (DEPTH 0) /private/vendor/kolab"), [])
        self.assertEqual(names("GETMETADATA Sent (DEPTH 1) /private/vendor/kolab"), [b"/private/vendor/kolab/folder-type"])
        self.assertEqual(names("GETMETADATA (DEPTH infinity) Sent (/private/vendor/kolab)"),
                         [b"/private/vendor/kolab/a/b", b"/private/vendor/kolab/folder-type"])
        self.assertEqual(names("GETMETADATA Sent (DEPTH INFINITY) (/private)"),
                         sorted([e.encode() for e in entries[:3]] + [b"/private/specialuse"]))
        self.assertEqual(names("GETMETADATA Sent (DEPTH infinity) (/shared /private/comment)"), [b"/shared/vendor/cmu/color"])
        self.assertEqual(s.ok("GETMETADATA Sent (DEPTH infinity) /shared/vendor/nobody"), [])
        self.assertEqual(names("GETMETADATA Sent /shared/vendor/cmu/color /private/vendor/kolab/a/b"),
                         [b"/private/vendor/kolab/a/b", b"/shared/vendor/cmu/color"])

    def test_maxsize_leaves_out_and_says_so(self):
        s = self.session("carol")
        s.ok('SETMETADATA INBOX (/private/comment "12345" /shared/comment "1234567890")')
        untagged, answer = s.command("GETMETADATA INBOX (MAXSIZE 5) (/shared/comment /private/comment)")
        self.assertEqual(untagged, [b'* METADATA "INBOX" (/private/comment "12345")\r\n'])
        self.assertTrue(answer.startswith(b"OK [METADATA LONGENTRIES 10]"), answer)
        untagged, answer = s.command("GETMETADATA (DEPTH 1 MAXSIZE 4) INBOX (/shared /private)")
        self.assertEqual(untagged, [])
        self.assertTrue(answer.startswith(b"OK [METADATA LONGENTRIES 10]"), answer)
        untagged, answer = s.command("GETMETADATA INBOX (MAXSIZE 10) /shared/comment")
        self.assertEqual(len(untagged), 1)
        self.assertNotIn(b"LONGENTRIES", answer)

    def test_limits_refuse_all_of_a_change(self):
        s = self.session("dave")
        s.ok('SETMETADATA INBOX (/private/comment "stays")')
        answer = s.refused(b'SETMETADATA INBOX (/private/comment "new" /shared/comment {65537+}\r\n' + b"x" * 65537 + b")")
        self.assertTrue(answer.startswith(b"NO [METADATA MAXSIZE 65536]"), answer)
        many = " ".join(f'/private/vendor/x/e{i} "v"' for i in range(99))
        s.ok(f"SETMETADATA INBOX ({many})")
        self.refused(s, 'SETMETADATA INBOX (/private/comment "new" /private/vendor/x/more "v")', b"NO [METADATA TOOMANY]")
        self.assertEqual(s.ok("GETMETADATA INBOX /private/comment"), [b'* METADATA "INBOX" (/private/comment "stays")\r\n'])
        s.ok('SETMETADATA INBOX (/shared/comment "v")')                 # these are counted apart
        s.ok('SETMETADATA Sent (/private/comment "v")')
        s.ok("SETMETADATA INBOX (/private/vendor/x/e0 NIL /private/vendor/x/more \"v\")")
        self.refused(s, "SETMETADATA INBOX (" + " ".join(f'/private/vendor/y/e{i} NIL' for i in range(201)) + ")", b"NO [LIMIT]")
        for folder in range(16):
            s.ok(b"CREATE f%d" % folder)
            text = b"SETMETADATA f%d (/shared/comment {65536+}\r\n%s)" % (folder, b"x" * 65536)
            if folder < 15:
                s.ok(text)
        self.refused(s, text, b"NO [OVERQUOTA]")
        s.ok("SETMETADATA f0 (/shared/comment NIL)")
        s.ok(text)

    def test_entries_come_and_go_with_their_mailbox(self):
        s = self.session("erin")
        s.ok("CREATE Old")
        s.ok('SETMETADATA Old (/private/comment "kept")')
        s.ok("RENAME Old New/Place")
        self.assertEqual(s.ok("GETMETADATA New/Place /private/comment"), [b'* METADATA "New/Place" (/private/comment "kept")\r\n'])
        s.ok("DELETE New/Place")
        s.ok("CREATE New/Place")
        self.assertEqual(s.ok("GETMETADATA New/Place /private/comment"), [b'* METADATA "New/Place" (/private/comment NIL)\r\n'])
        s.ok('SETMETADATA INBOX (/private/comment "of the inbox")')
        s.ok("RENAME INBOX Copied")
        for name in ("INBOX", "Copied"):
            self.assertIn(b'"of the inbox"', s.ok(f"GETMETADATA {name} /private/comment")[0])
        self.refused(s, "GETMETADATA Old /private/comment", b"NO [NONEXISTENT]")
        self.refused(s, 'SETMETADATA Old (/private/comment "x")', b"NO [NONEXISTENT]")

    def test_names_of_mailboxes_are_in_the_clients_encoding(self):
        s = self.session("erin")
        s.ok("CREATE Entw&APw-rfe")
        self.assertEqual(s.ok("GETMETADATA Entw&APw-rfe /shared/comment"), [b'* METADATA "Entw&APw-rfe" (/shared/comment NIL)\r\n'])
        s.ok("ENABLE IMAP4rev2")
        self.assertEqual(s.ok('GETMETADATA "Entwürfe" /shared/comment'), ['* METADATA "Entwürfe" (/shared/comment NIL)\r\n'.encode()])

    def test_what_one_worker_set_another_reads(self):
        both = list(one_per_worker(self.server, lambda: Session(self.server, "frank")).values())
        for s in both:
            self.addCleanup(s.close)
        for i in range(10):
            both[i % 2].ok(f'SETMETADATA INBOX (/private/comment "{i}")')
            self.assertIn(b'"%d"' % i, both[1 - i % 2].ok("GETMETADATA INBOX /private/comment")[0])

    def test_mailboxes_of_others_by_rights(self):
        owner, guest = self.session("frank"), self.session("carol")
        owner.ok("CREATE Team")
        name = '"Other Users/frank@example.test/Team"'
        self.refused(guest, f"GETMETADATA {name} /shared/comment", b"NO [NONEXISTENT]")
        owner.ok('SETMETADATA Team (/shared/comment "ours" /private/comment "of the owner")')
        owner.ok("SETACL Team carol@example.test lr")
        self.assertEqual(guest.ok(f"GETMETADATA {name} (/shared/comment /private/comment /private/specialuse)"),
                         [f'* METADATA {name} (/shared/comment "ours" /private/comment NIL /private/specialuse NIL)\r\n'.encode()])
        self.refused(guest, f'SETMETADATA {name} (/shared/comment "mine")', b"NO [NOPERM]")
        self.refused(guest, f'SETMETADATA {name} (/private/specialuse "\\\\Junk")', b"NO [NOPERM]")
        guest.ok(f'SETMETADATA {name} (/private/comment "of the guest")')
        self.assertIn(b"of the owner", owner.ok("GETMETADATA Team /private/comment")[0])
        owner.ok("SETACL Team carol@example.test +w")
        guest.ok(f'SETMETADATA {name} (/shared/comment "theirs")')
        self.assertIn(b'"theirs"', owner.ok("GETMETADATA Team /shared/comment")[0])
        self.assertIn(f'* METADATA {name} (/private/comment "of the guest")\r\n'.encode(),
                      guest.ok('LIST "" "Other Users/*" RETURN (METADATA (/private/comment))'))

    # ---- special use -------------------------------------------------------------------------------
    def test_the_special_use_is_the_mailboxes_role(self):
        s = self.session("gina")
        self.assertEqual(s.ok("GETMETADATA Drafts /private/specialuse"), [b'* METADATA "Drafts" (/private/specialuse "\\\\Drafts")\r\n'])
        self.assertEqual(s.ok("GETMETADATA INBOX /private/specialuse"), [b'* METADATA "INBOX" (/private/specialuse NIL)\r\n'])
        s.ok("CREATE MyDrafts")
        self.assertEqual(s.ok(r'SETMETADATA MyDrafts (/private/specialuse "\\drafts" /private/comment "c")'),
                         [b'* METADATA "Drafts" (/private/specialuse NIL)\r\n'])
        told = s.ok('LIST (SPECIAL-USE) "" "*"')
        self.assertIn(b'* LIST (\\HasNoChildren \\Drafts) "/" "MyDrafts"\r\n', told)
        self.assertFalse([r for r in told if b'"Drafts"' in r])
        s.ok("SETMETADATA MyDrafts (/private/specialuse NIL)")
        self.assertFalse([r for r in s.ok('LIST (SPECIAL-USE) "" "*"') if b"Drafts" in r])
        s.ok("DELETE MyDrafts")
        s.ok(r'SETMETADATA Drafts (/private/specialuse "\\Drafts")')
        for value in (r'"\\Important"', r'"\\Sent \\Junk"', '"Sent"'):
            self.refused(s, f"SETMETADATA Drafts (/private/specialuse {value})", b"NO [USEATTR]")
        self.refused(s, r'SETMETADATA INBOX (/private/specialuse "\\Sent" /private/comment "x")', b"NO [NOPERM]")
        self.assertEqual(s.ok("GETMETADATA INBOX /private/comment"), [b'* METADATA "INBOX" (/private/comment NIL)\r\n'])

    # ---- the server --------------------------------------------------------------------------------
    def test_entries_of_the_server(self):
        alice, bob, root = self.session("alice"), self.session("bob"), self.session("root")
        alice.ok('SETMETADATA "" (/private/vendor/x/y "mine")')
        self.assertEqual(alice.ok('GETMETADATA "" /private/vendor/x/y'), [b'* METADATA "" (/private/vendor/x/y "mine")\r\n'])
        self.assertEqual(bob.ok('GETMETADATA "" /private/vendor/x/y'), [b'* METADATA "" (/private/vendor/x/y NIL)\r\n'])
        self.refused(bob, 'SETMETADATA "" (/shared/comment "mine")', b"NO [NOPERM]")
        root.ok('SETMETADATA "" (/shared/comment "Maintenance on Sunday" /private/comment "own")')
        self.assertEqual(bob.ok('GETMETADATA "" (/shared/comment /private/comment)'),
                         [b'* METADATA "" (/shared/comment "Maintenance on Sunday" /private/comment NIL)\r\n'])
        self.assertEqual(bob.ok('GETMETADATA "" /shared/admin'), [b'* METADATA "" (/shared/admin "mailto:postmaster@example.test")\r\n'])
        for s in (bob, root):
            self.refused(s, 'SETMETADATA "" (/shared/admin "mailto:x@example.test")', b"NO [NOPERM]")
        self.assertEqual(sorted(re.findall(rb"(/\S+) \"", b"".join(root.ok('GETMETADATA "" (DEPTH infinity) (/shared /private)')))),
                         [b"/private/comment", b"/shared/admin", b"/shared/comment"])
        root.ok('SETMETADATA "" (/shared/comment NIL /private/comment NIL)')
        self.assertEqual(bob.ok('GETMETADATA "" /shared/comment'), [b'* METADATA "" (/shared/comment NIL)\r\n'])

    # ---- LIST --------------------------------------------------------------------------------------
    def test_list_tells_annotations_of_what_it_lists(self):
        s = self.session("hana")
        s.ok('SETMETADATA Sent (/shared/vendor/cmu/color "#b71c1c" /private/comment "out")')
        told = s.ok('LIST "" (INBOX Sent Trash) RETURN (METADATA (/shared/vendor/cmu/color "/private/comment") STATUS (MESSAGES))')
        self.assertEqual([r for r in told if b"METADATA" in r], [
            b'* METADATA "INBOX" (/shared/vendor/cmu/color NIL /private/comment NIL)\r\n',
            b'* METADATA "Sent" (/shared/vendor/cmu/color "#b71c1c" /private/comment "out")\r\n',
            b'* METADATA "Trash" (/shared/vendor/cmu/color NIL /private/comment NIL)\r\n'])
        order = [re.match(rb"\* (\w+)", r)[1] for r in told]
        self.assertEqual(order, [b"LIST", b"STATUS", b"METADATA"] * 3)
        told = s.ok('LIST "" % RETURN (METADATA (/private/specialuse))')
        self.assertIn(b'* METADATA "Junk" (/private/specialuse "\\\\Junk")\r\n', told)
        for text in ('LIST "" % RETURN (METADATA)', 'LIST "" % RETURN (METADATA ())', 'LIST "" % RETURN (METADATA /shared/comment)',
                     'LIST "" % RETURN (METADATA (comment))'):
            self.refused(s, text, b"BAD ")

    # ---- refusals ----------------------------------------------------------------------------------
    def test_malformed_commands_and_names_are_bad(self):
        s = self.session("alice")
        for text in ("GETMETADATA", "GETMETADATA INBOX", "GETMETADATA INBOX ()", "GETMETADATA INBOX (/private/comment",
                     "GETMETADATA INBOX comment", "GETMETADATA INBOX /other/comment", "GETMETADATA INBOX /private//comment",
                     "GETMETADATA INBOX /private/", 'GETMETADATA INBOX "/private/a*b"', 'GETMETADATA INBOX "/private/a%b"',
                     "GETMETADATA INBOX {16+}\r\n/private/com\xc3\xa4nt", "GETMETADATA INBOX /private/" + "x" * 250,
                     "GETMETADATA INBOX (MAXSIZE) /private/comment", "GETMETADATA INBOX (MAXSIZE x) /private/comment",
                     "GETMETADATA INBOX (DEPTH 2) /private/comment", "GETMETADATA INBOX (COLOR 2) /private/comment",
                     "GETMETADATA (DEPTH 1) INBOX", "GETMETADATA INBOX /private/comment)", "SETMETADATA", "SETMETADATA INBOX",
                     "SETMETADATA INBOX ()", "SETMETADATA INBOX (/private/comment)", "SETMETADATA INBOX /private/comment x",
                     "SETMETADATA INBOX (/private/comment atom)", 'SETMETADATA INBOX (/private "x")', 'SETMETADATA INBOX (/shared "x")',
                     'SETMETADATA INBOX (/private/vendor/x "x")', 'SETMETADATA INBOX (/private/vendor "x")',
                     'SETMETADATA INBOX (/private/a "x" /PRIVATE/A "y")', 'SETMETADATA INBOX (/private/a "x") y',
                     'SETMETADATA INBOX (/private/a {3+}\r\na\0b)', 'SETMETADATA INBOX (/private/a "x" )'):
            self.refused(s, text.encode("latin-1"), b"BAD ")
        before = self.session(None)
        for text in ("GETMETADATA INBOX /private/comment", 'SETMETADATA INBOX (/private/comment "x")'):
            self.refused(before, text, b"BAD ")
        with Session(self.server, "bob") as other:
            for _ in range(3):
                self.refused(other, 'GETMETADATA "a//b" /private/comment', b"NO [CANNOT]")
            other.ok("NOOP")

    # ---- another's client --------------------------------------------------------------------------
    def test_curl_reads_them(self):
        with Session(self.server, "carol") as s:
            s.ok('SETMETADATA Trash (/private/comment "for curl")')
        port = self.server.port("imap")
        out = subprocess.run(["curl", "-sv", "--user", f"carol@example.test:{PASSWORD}", f"imap://127.0.0.1:{port}/",
                              "-X", "GETMETADATA Trash /private/comment"], capture_output=True, timeout=60).stderr
        self.assertIn(b'METADATA "Trash" (/private/comment "for curl")', out)


if __name__ == "__main__":
    unittest.main()
