"""A scripted case for every command and answer of the IMAP core."""

import re
import unittest

from harness import eventually
from imap_wire import ImapTest

LETTER = (b"From: =?utf-8?q?Ani_P=C3=BCtri?= <ani@example.test>\r\nTo: bob@example.test\r\n"
          b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from home\r\nDate: Mon, 23 Nov 2026 23:30:00 -0500\r\n"
          b"Message-ID: <1@example.test>\r\nX-Odd: one\r\nX-Odd: two\r\n"
          b"Content-Type: multipart/mixed; boundary=bb\r\n\r\n"
          b"--bb\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n"
          b"Hello w=F6rld\r\n"
          b"--bb\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nFrom: x@y.test\r\n\r\ninner body\r\n"
          b"--bb\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAEC\r\n--bb--\r\n")
PLAIN = b"From: carol@example.test\r\nSubject: plain\r\n\r\nplain text\r\n"


class CommandsTest(ImapTest):
    accounts = ("auth", "names", "list", "fetch", "store", "search", "copy", "append", "select", "rev2", "qresync", "idle")

    def with_letters(self, user, *letters):
        s = self.session(user)
        for letter in letters or (LETTER,):
            s.append("INBOX", letter)
        s.selected = s.ok("SELECT INBOX")
        return s

    # ---- before log-in ---------------------------------------------------------------------------
    def test_the_greeting_names_what_can_be_done_before_log_in(self):
        s = self.session()
        self.assertRegex(s.greeting, rb"^\* OK \[CAPABILITY IMAP4rev1 IMAP4rev2 .*STARTTLS.*AUTH=PLAIN")
        self.assertIn(b"IDLE", self.one(s, "CAPABILITY"))
        self.assertRegex(s.refused("SELECT INBOX"), rb"^BAD .*log-in")
        self.assertRegex(s.refused("FROBNICATE"), rb"^BAD unknown command")
        self.assertEqual(s.ok("NOOP"), [])

    def test_log_in_by_password_and_by_sasl(self):
        s = self.session()
        self.assertRegex(s.refused("LOGIN auth@example.test wrong"), rb"^NO \[AUTHENTICATIONFAILED\]")
        self.assertRegex(s.refused("AUTHENTICATE NONSENSE"), rb"^NO \[CANNOT\]")
        self.assertRegex(s.refused("AUTHENTICATE PLAIN !!!"), rb"^BAD .*base64")
        untagged, answer = s.command("AUTHENTICATE PLAIN AGF1dGhAZXhhbXBsZS50ZXN0AHNlY3JldA==")
        self.assertRegex(answer, rb"^OK \[CAPABILITY .*UIDPLUS")
        self.assertRegex(s.refused("LOGIN auth@example.test secret"), rb"^BAD")
        s = self.session()
        s.send(b"x AUTHENTICATE PLAIN\r\n")
        self.assertEqual(s.line(), b"+ \r\n")
        s.send(b"*\r\n")
        self.assertRegex(s.line(), rb"^x BAD ")
        s.send(b"y LOGIN {17}\r\n")
        self.assertRegex(s.line(), rb"^\+ ")
        s.send(b"auth@example.test {6}\r\n")
        self.assertRegex(s.line(), rb"^\+ ")
        s.send(b"secret\r\n")
        self.assertRegex(s.line(), rb"^y OK ")

    def test_logout_says_bye(self):
        s = self.session()
        self.assertRegex(s.ok("LOGOUT")[0], rb"^\* BYE ")
        self.assertEqual(s.line(), b"")

    def test_id_namespace_enable(self):
        s = self.session("auth")
        self.assertIn(b"Merpati", self.one(s, 'ID ("name" "test" "version" NIL)'))
        self.assertIn(b"Merpati", self.one(s, "ID NIL"))
        self.assertEqual(self.one(s, "NAMESPACE"), b'* NAMESPACE (("" "/")) (("Other Users/" "/")) (("Shared/" "/"))\r\n')
        self.assertEqual(self.one(s, "ENABLE NONSENSE CONDSTORE"), b"* ENABLED CONDSTORE\r\n")

    # ---- mailboxes -------------------------------------------------------------------------------
    def test_mailboxes_are_made_renamed_and_removed(self):
        s = self.session("names")
        s.ok("CREATE Work/Invoices/2026")
        self.assertRegex(s.refused("CREATE Work"), rb"^NO \[ALREADYEXISTS\]")
        self.assertRegex(s.refused("CREATE inbox"), rb"^NO \[ALREADYEXISTS\]")
        self.assertRegex(s.refused("CREATE a&b"), rb"^NO \[CANNOT\]")
        self.assertRegex(s.refused("CREATE x (USE (\\Sent))"), rb"^NO \[USEATTR\]")
        self.assertRegex(s.refused("CREATE x (USE (\\All))"), rb"^NO \[USEATTR\]")
        self.assertRegex(s.refused("DELETE Work"), rb"^NO \[HASCHILDREN\]")
        self.assertRegex(s.refused("DELETE INBOX"), rb"^NO \[CANNOT\]")
        self.assertRegex(s.refused("DELETE nothing"), rb"^NO \[NONEXISTENT\]")
        self.assertRegex(s.refused("RENAME nothing else"), rb"^NO \[NONEXISTENT\]")
        self.assertRegex(s.refused("RENAME Work Sent"), rb"^NO \[ALREADYEXISTS\]")
        s.ok('RENAME Work "&AOk-t&AOk-"')
        self.assertEqual(s.ok('LIST "" "&AOk-t&AOk-/*"'),
                         [b'* LIST (\\HasChildren) "/" "&AOk-t&AOk-/Invoices"\r\n',
                          b'* LIST (\\HasNoChildren) "/" "&AOk-t&AOk-/Invoices/2026"\r\n'])
        s.ok("UNSUBSCRIBE &AOk-t&AOk-")
        self.assertIn(b'* LSUB (\\Noselect) "/" "&AOk-t&AOk-"\r\n', s.ok('LSUB "" %'))
        s.ok("SUBSCRIBE &AOk-t&AOk-")
        self.assertIn(b'* LSUB () "/" "&AOk-t&AOk-"\r\n', s.ok('LSUB "" %'))
        for name in ("/Invoices/2026", "/Invoices", ""):
            s.ok(f'DELETE "&AOk-t&AOk-{name}"')

    def test_list_selects_and_returns(self):
        s = self.session("list")
        s.ok("CREATE a/b/c")
        for name in ("a", "a/b"):
            s.ok(f"UNSUBSCRIBE {name}")
        self.assertEqual(self.one(s, 'LIST "" ""'), b'* LIST (\\Noselect) "/" ""\r\n')
        self.assertEqual(self.one(s, 'LIST "" inBox'), b'* LIST (\\HasNoChildren) "/" "INBOX"\r\n')
        self.assertEqual(self.one(s, 'LIST a/ %'), b'* LIST (\\HasChildren) "/" "a/b"\r\n')
        self.assertEqual(s.ok('LIST (SUBSCRIBED) "" a*'), [b'* LIST (\\HasNoChildren \\Subscribed) "/" "a/b/c"\r\n'])
        self.assertEqual(s.ok('LIST (SUBSCRIBED RECURSIVEMATCH) "" a'),
                         [b'* LIST (\\HasChildren) "/" "a" ("CHILDINFO" ("SUBSCRIBED"))\r\n'])
        self.assertEqual({re.search(rb"\\(Drafts|Sent|Archive|Junk|Trash)", r).group(1) for r in s.ok('LIST (SPECIAL-USE) "" *')},
                         {b"Drafts", b"Sent", b"Archive", b"Junk", b"Trash"})
        self.assertEqual(s.ok('LIST "" (Sent Drafts) RETURN (STATUS (MESSAGES UNSEEN))'),
                         [b'* LIST (\\HasNoChildren \\Drafts) "/" "Drafts"\r\n', b'* STATUS "Drafts" (MESSAGES 0 UNSEEN 0)\r\n',
                          b'* LIST (\\HasNoChildren \\Sent) "/" "Sent"\r\n', b'* STATUS "Sent" (MESSAGES 0 UNSEEN 0)\r\n'])

    def test_select_examine_close_unselect(self):
        s = self.with_letters("select")
        told = b"".join(s.selected)
        for wanted in (rb"\* 1 EXISTS", rb"\* 0 RECENT", rb"\* FLAGS \(", rb"\[PERMANENTFLAGS \(.*\\\*\)\]", rb"\[UIDVALIDITY \d+\]",
                       rb"\[UIDNEXT 2\]", rb"\[HIGHESTMODSEQ \d+\]", rb"\[UNSEEN 1\]"):
            self.assertRegex(told, wanted)
        _, answer = s.command("EXAMINE INBOX")
        self.assertRegex(answer, rb"^OK \[READ-ONLY\]")
        for text in ("STORE 1 +FLAGS (\\Seen)", "EXPUNGE", "MOVE 1 Sent"):
            self.assertRegex(s.refused(text), rb"^NO \[READ-ONLY\]")
        s.ok("FETCH 1 BODY[]")
        s.ok("UNSELECT")
        self.assertRegex(s.refused("FETCH 1 FLAGS"), rb"^BAD .*selected")
        untagged, answer = s.command("SELECT INBOX")
        self.assertRegex(answer, rb"^OK \[READ-WRITE\]")
        self.assertEqual(self.one(s, "FETCH 1 FLAGS"), b"* 1 FETCH (FLAGS ())\r\n")
        self.assertRegex(s.refused("SELECT nothing"), rb"^NO \[NONEXISTENT\]")
        self.assertRegex(s.refused("CLOSE"), rb"^BAD")          # a failed SELECT leaves nothing selected
        s.ok("SELECT INBOX")
        s.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        self.assertEqual(s.ok("CLOSE"), [])
        self.assertEqual(self.one(s, "STATUS INBOX (MESSAGES UIDNEXT DELETED SIZE)"),
                         b'* STATUS "INBOX" (MESSAGES 0 UIDNEXT 2 SIZE 0 DELETED 0)\r\n')

    # ---- messages --------------------------------------------------------------------------------
    def test_fetch_of_every_item(self):
        s = self.with_letters("fetch")
        text = LETTER[LETTER.index(b"\r\n\r\n") + 4:]
        header = LETTER[:-len(text)]
        cases = {
            "BODY.PEEK[]": LETTER, "BODY.PEEK[HEADER]": header, "BODY.PEEK[TEXT]": text, "RFC822.HEADER": header,
            "BODY.PEEK[HEADER.FIELDS (SUBJECT x-odd)]":
                b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from home\r\nX-Odd: one\r\nX-Odd: two\r\n\r\n",
            "BODY.PEEK[HEADER.FIELDS (Subject)]": b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from home\r\n\r\n",
            "BODY.PEEK[HEADER.FIELDS.NOT (From To Subject Date Message-ID X-Odd)]":
                b"Content-Type: multipart/mixed; boundary=bb\r\n\r\n",
            "BODY.PEEK[HEADER.FIELDS (X-None)]": b"\r\n",
            "BODY.PEEK[1]": b"Hello w=F6rld", "BINARY.PEEK[1]": b"Hello w\xf6rld", "BODY.PEEK[2]": b"Subject: inner\r\nFrom: x@y.test\r\n\r\ninner body",
            "BODY.PEEK[1.MIME]": b"Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
            "BODY.PEEK[2.HEADER]": b"Subject: inner\r\nFrom: x@y.test\r\n\r\n", "BODY.PEEK[2.TEXT]": b"inner body",
            "BODY.PEEK[2.1]": b"inner body", "BODY.PEEK[3]": b"AAEC", "BINARY.PEEK[3]": b"\0\1\2", "BODY.PEEK[]<3.7>": LETTER[3:10],
            "BODY.PEEK[]<100000.7>": b"", "RFC822.TEXT": text, "RFC822": LETTER,
        }
        for item, wanted in cases.items():
            answer = b"".join(s.ok(f"FETCH 1 ({item})"))
            m = re.search(rb"~?\{(\d+)\}\r\n", answer)
            self.assertEqual(answer[m.end():m.end() + int(m.group(1))], wanted, item)
        for item, wanted in {"BODY.PEEK[9]": rb"BODY\[9\] NIL", "BODY.PEEK[1.HEADER]": rb"BODY\[1.HEADER\] NIL", "BINARY.SIZE[3]": rb"BINARY.SIZE\[3\] 3",
                             "RFC822.SIZE": rb"RFC822.SIZE %d\)" % len(LETTER), "FAST": rb"FLAGS \(\\Seen\) INTERNALDATE \".*\" RFC822.SIZE \d+\)",
                             "BODYSTRUCTURE": rb"BODYSTRUCTURE \(\(\"text\" \"plain\"", "BODY": rb"\"mixed\"\)\)\r\n$", "ENVELOPE": rb"ENVELOPE \(\"Mon, 23 Nov",
                             "MODSEQ": rb"MODSEQ \(\d+\)", "FULL": rb"BODY \(", "ALL": rb"ENVELOPE \("}.items():
            self.assertRegex(b"".join(s.ok(f"FETCH 1 {item}")), wanted, item)
        self.assertEqual(s.ok("UID FETCH 77:99 FLAGS"), [])
        self.assertRegex(s.refused("FETCH 2 FLAGS"), rb"^BAD .*has 1")

    def test_fetching_a_body_sets_seen_and_tells_it(self):
        s = self.with_letters("fetch", PLAIN)
        number = len(s.ok("UID SEARCH ALL")[0].split()) - 2
        s.ok(f"FETCH {number} BODY.PEEK[]")
        self.assertNotIn(rb"\Seen", self.one(s, f"FETCH {number} FLAGS"))
        self.assertRegex(self.one(s, f"FETCH {number} BODY[]"), rb"FLAGS \(\\Seen\)")
        self.assertIn(rb"\Seen", self.one(s, f"FETCH {number} FLAGS"))

    def test_store_adds_removes_and_replaces(self):
        s = self.with_letters("store", PLAIN, PLAIN)
        self.assertEqual(s.ok("STORE 1 +FLAGS (\\Seen $Work)")[-1], b"* 1 FETCH (FLAGS (\\Seen $Work))\r\n")
        self.assertEqual(self.one(s, "STORE 1 -FLAGS \\Seen"), b"* 1 FETCH (FLAGS ($Work))\r\n")
        self.assertEqual(self.one(s, "UID STORE 1 FLAGS (\\Draft)"), b"* 1 FETCH (UID 1 FLAGS (\\Draft))\r\n")
        self.assertEqual(s.ok("STORE 1:2 FLAGS.SILENT ()"), [])
        self.assertEqual(s.ok("UID STORE 99 +FLAGS (\\Seen)"), [])
        for text in ("STORE 1 FLAGS", "STORE 1 FLAG (\\Seen)", "STORE 1 +FLAGS (\\Recent)", "STORE 1 +FLAGS (a(b)", "STORE 9 FLAGS ()"):
            self.assertRegex(s.refused(text), rb"^BAD ")
        self.assertRegex(s.refused("STORE 1 +FLAGS (" + "k" * 101 + ")"), rb"^NO \[LIMIT\]")
        modseq = int(re.search(rb"MODSEQ \((\d+)\)", s.ok("FETCH 1 MODSEQ")[-1]).group(1))
        s.ok("STORE 2 +FLAGS.SILENT (\\Seen)")
        untagged, answer = s.command(f"STORE 1:2 (UNCHANGEDSINCE {modseq}) +FLAGS.SILENT (\\Flagged)")
        self.assertRegex(answer, rb"^OK \[MODIFIED 2\]")

    def test_search_keys(self):
        s = self.with_letters("search", LETTER, PLAIN)
        s.ok("STORE 2 +FLAGS.SILENT (\\Seen \\Flagged kw)")
        cases = {
            "ALL": "1 2", "1": "1", "*": "2", "2:1": "1 2", "UID 2:*": "2", "SEEN": "2", "UNSEEN": "1", "FLAGGED UNSEEN": "", "OLD": "1 2", "NEW": "",
            "KEYWORD KW": "2", "UNKEYWORD kw": "1", "NOT SEEN": "1", "OR SEEN FROM ani": "1 2", "(UNSEEN (SUBJECT home))": "1",
            "FROM \"P\u00fctri\"": "1", "SUBJECT gr\u00fc\u00dfe": "1", "SUBJECT \"GR\u00dc\u00dfE FROM\"": "1", "TO bob": "1", "CC x": "", "BCC x": "",
            "HEADER X-Odd two": "1", "HEADER X-Odd \"\"": "1", "HEADER Message-ID <1@": "1", "BODY w\u00f6rld": "1", "BODY INNER": "1", "BODY ani": "",
            "TEXT ani": "1", "TEXT plain": "1 2", "TEXT \"text/plain\"": "1", "BODY AAEC": "", "SENTON 23-Nov-2026": "1", "SENTSINCE 24-Nov-2026": "", "SENTBEFORE 24-Nov-2026": "1",
            "SINCE 1-Jan-2001": "1 2", "BEFORE 1-Jan-2001": "", "LARGER 200": "1", "LARGER 9223372036854775807": "", "SMALLER 9223372036854775807": "1 2", "SMALLER 200": "2", "YOUNGER 3600": "1 2", "OLDER 3600": "",
            "CHARSET UTF-8 SUBJECT plain": "2",
        }
        for keys, wanted in cases.items():
            answer = s.ok(f"SEARCH {keys}".encode())
            self.assertEqual(answer, [b" ".join([b"* SEARCH"] + wanted.encode().split()) + b"\r\n"], keys)
        self.assertEqual(s.ok(b'SEARCH CHARSET iso-8859-1 BODY "w\xf6rld"'), [b"* SEARCH 1\r\n"])
        self.assertRegex(s.refused("SEARCH CHARSET KLINGON ALL"), rb"^NO \[BADCHARSET")
        self.assertRegex(self.one(s, "UID SEARCH RETURN (MIN MAX COUNT ALL) ALL"), rb"^\* ESEARCH \(TAG \"t\d+\"\) UID MIN 1 MAX 2 COUNT 2 ALL 1:2\r\n$")
        self.assertEqual(s.ok("SEARCH RETURN (SAVE) SEEN"), [])
        self.assertEqual(self.one(s, "FETCH $ (UID)"), b"* 2 FETCH (UID 2)\r\n")
        self.assertEqual(self.one(s, "SEARCH NOT $"), b"* SEARCH 1\r\n")

    def test_copy_move_expunge(self):
        s = self.with_letters("copy", PLAIN, PLAIN, PLAIN)
        _, answer = s.command("COPY 1:2 Archive")
        self.assertRegex(answer, rb"^OK \[COPYUID \d+ 1:2 1:2\]")
        self.assertRegex(s.refused("COPY 1 nothing"), rb"^NO \[TRYCREATE\]")
        self.assertRegex(s.refused("MOVE 1 nothing"), rb"^NO \[TRYCREATE\]")
        told = s.ok("UID MOVE 2 Archive")
        self.assertRegex(told[0], rb"^\* OK \[COPYUID \d+ 2 3\]")
        self.assertEqual(told[1], b"* 2 EXPUNGE\r\n")
        s.ok("STORE 1:2 +FLAGS.SILENT (\\Deleted)")
        self.assertEqual(s.ok("UID EXPUNGE 3"), [b"* 2 EXPUNGE\r\n"])
        self.assertEqual(s.ok("EXPUNGE"), [b"* 1 EXPUNGE\r\n"])
        self.assertEqual(s.ok("EXPUNGE"), [])
        self.assertEqual(self.one(s, "STATUS Archive (MESSAGES)"), b'* STATUS "Archive" (MESSAGES 3)\r\n')

    def test_append_takes_flags_dates_and_several_messages(self):
        s = self.session("append")
        _, answer = s.command(b"APPEND INBOX (\\Seen $A) \"17-Jul-1996 02:44:25 -0700\" {%d+}\r\n" % len(PLAIN) + PLAIN)
        self.assertRegex(answer, rb"^OK \[APPENDUID \d+ 1\]")
        part = b" {%d+}\r\n" % len(PLAIN) + PLAIN
        _, answer = s.command(b"APPEND INBOX" + part + b" (\\Flagged)" + part + part)
        self.assertRegex(answer, rb"^OK \[APPENDUID \d+ 2:4\]")
        s.ok("SELECT INBOX")
        self.assertRegex(self.one(s, "FETCH 1 (FLAGS INTERNALDATE)"), rb"FLAGS \(\\Seen \$A\) INTERNALDATE \"17-Jul-1996 09:44:25 \+0000\"")
        self.assertIn(b"* 5 EXISTS\r\n", s.append("INBOX", PLAIN))
        self.assertRegex(s.refused("APPEND nothing {10}"), rb"^NO \[TRYCREATE\]")     # before the client sends
        self.assertRegex(s.refused("APPEND INBOX {0}"), rb"^NO ")
        self.assertRegex(s.refused("APPEND INBOX {99999999999}"), rb"^NO \[TOOBIG\]")
        self.assertRegex(s.refused(b"APPEND nothing {3+}\r\nabc"), rb"^NO \[TRYCREATE\]")
        self.assertRegex(s.refused(b"APPEND INBOX (\\Foo) {3+}\r\nabc"), rb"^BAD ")
        self.assertRegex(s.refused(b"APPEND INBOX {3+}\r\nabcdef"), rb"^BAD ")
        self.assertRegex(s.refused(b"APPEND INBOX {3+}\r\nabc (\\Foo) {3+}\r\nabc"), rb"^BAD ")
        s.send(b"w APPEND INBOX {%d}\r\n" % len(PLAIN))
        self.assertRegex(s.line(), rb"^\+ ")
        s.send(PLAIN + b"\r\n")
        self.assertRegex(s.until(b"w ")[-1], rb"^w OK \[APPENDUID \d+ 6\]")

    # ---- extensions ------------------------------------------------------------------------------
    def test_rev2_speaks_utf8_and_esearch(self):
        s = self.with_letters("rev2", PLAIN)
        self.assertEqual(self.one(s, "ENABLE IMAP4rev2"), b"* ENABLED IMAP4rev2\r\n")
        s.ok("CREATE \u00dcber".encode())
        self.assertEqual(self.one(s, 'LIST "" "\u00dc*"'.encode()), '* LIST (\\HasNoChildren) "/" "\u00dcber"\r\n'.encode())
        told = s.ok("SELECT INBOX")
        self.assertIn(b"* OK [CLOSED] The previous mailbox is closed\r\n", told)
        self.assertIn(b'* LIST () "/" "INBOX"\r\n', told)
        self.assertNotIn(b"RECENT", b"".join(told))
        self.assertRegex(self.one(s, "SEARCH ALL"), rb"^\* ESEARCH \(TAG \"t\d+\"\) ALL 1\r\n")
        self.assertRegex(self.one(s, "SEARCH SEEN"), rb"^\* ESEARCH \(TAG \"t\d+\"\)\r\n")

    def test_qresync_tells_what_vanished_and_what_changed(self):
        s = self.with_letters("qresync", PLAIN, PLAIN, PLAIN, PLAIN)
        told = b"".join(s.ok("SELECT INBOX"))
        validity, modseq = (int(re.search(rb"%s (\d+)" % key, told).group(1)) for key in (b"UIDVALIDITY", b"HIGHESTMODSEQ"))
        s.ok("STORE 2:3 +FLAGS.SILENT (\\Deleted)")
        s.ok("EXPUNGE")
        s.ok("STORE 1 +FLAGS.SILENT (\\Seen)")
        other = self.session("qresync")
        self.assertRegex(other.refused(f"SELECT INBOX (QRESYNC ({validity} {modseq}))"), rb"^BAD .*enabled")
        other.ok("ENABLE QRESYNC")
        told = other.ok(f"SELECT INBOX (QRESYNC ({validity} {modseq} 1:4 (1 1)))")
        self.assertIn(b"* VANISHED (EARLIER) 2:3\r\n", told)
        self.assertRegex(told[-1], rb"^\* 1 FETCH \(UID 1 MODSEQ \(\d+\) FLAGS \(\\Seen\)\)")
        self.assertEqual(other.ok(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq} VANISHED)")[0], b"* VANISHED (EARLIER) 2:3\r\n")
        other.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
        untagged, answer = other.command("EXPUNGE")
        self.assertEqual(untagged, [b"* VANISHED 4\r\n"])
        self.assertRegex(answer, rb"^OK \[HIGHESTMODSEQ \d+\]")

    def test_idle_ends_with_done_only(self):
        s = self.session("idle", "INBOX")
        s.idle()
        self.assertEqual(s.done(), [])
        s.idle()
        s.send(b"x NOOP\r\n")
        self.assertRegex(s.line(), rb"^t\d+ BAD ")

    def test_a_mailbox_removed_by_another_session_is_closed(self):
        s, other = self.session("idle"), self.session("idle")
        s.ok("CREATE doomed")
        s.ok("SELECT doomed")
        other.ok("DELETE doomed")
        self.assertEqual(eventually(lambda: s.ok("NOOP")), [b"* OK [CLOSED] The mailbox was removed\r\n"])
        self.assertRegex(s.refused("FETCH 1 FLAGS"), rb"^BAD ")


if __name__ == "__main__":
    unittest.main()
