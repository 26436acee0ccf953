"""APPEND in all its forms (CATENATE, UTF8, literal8) and REPLACE."""

import base64
import re
import unittest

from harness import eventually
from imap_wire import ImapTest, response

DRAFT = (b"From: ani@example.test\r\nSubject: draft\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
         b"--b\r\nContent-Type: text/plain\r\n\r\nfirst words\r\n"
         b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAw==\r\n--b--\r\n")
PLAIN = b"From: carol@example.test\r\nSubject: plain\r\n\r\nplain text\r\n"


def literal(text, sign=b"+", binary=False):
    return (b"~" if binary else b"") + b"{%d%s}\r\n" % (len(text), sign) + text


class AppendTest(ImapTest):
    settings = {"imap_append_max": "100K", "imap_errors_max": "1000"}
    accounts = ("catenate", "urls", "replace", "replaces", "binary", "utf8", "waits", "quota")

    def body(self, s, number, item="BODY.PEEK[]"):
        answer = self.one(s, f"UID FETCH {number} {item}")
        m = re.search(rb"~?\{(\d+)\}\r\n", answer)
        return answer[m.end():m.end() + int(m.group(1))]

    def validity(self, s, mailbox="INBOX"):
        return int(re.search(rb"UIDVALIDITY (\d+)", self.one(s, f"STATUS {mailbox} (UIDVALIDITY)")).group(1))

    # ---- CATENATE (RFC 4469) ----------------------------------------------------------------------
    def test_a_message_is_put_together_from_text_and_parts_of_others(self):
        s = self.session("catenate")
        s.append("Drafts", DRAFT, "\\Draft")
        v = self.validity(s, "Drafts")
        new = b"From: ani@example.test\r\nSubject: final\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nlast words\r\n--b\r\n"
        _, answer = s.command(b"APPEND Sent (\\Seen) \"17-Jul-1996 02:44:25 +0000\" CATENATE (TEXT " + literal(new) +
                              b' URL "/Drafts;UIDVALIDITY=%d/;UID=1/;SECTION=2.MIME" URL /Drafts/;UID=1/;SECTION=2 TEXT ' % v + literal(b"\r\n--b--\r\n") + b")")
        self.assertRegex(answer, rb"^OK \[APPENDUID \d+ 1\]")
        s.ok("SELECT Sent")
        self.assertEqual(self.body(s, 1), new + b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAw==\r\n--b--\r\n")
        self.assertRegex(self.one(s, "FETCH 1 (FLAGS INTERNALDATE)"), rb"FLAGS \(\\Seen\) INTERNALDATE \"17-Jul-1996")
        self.assertNotIn(rb"\Seen", b"".join(s.ok("STATUS Drafts (UNSEEN)")))
        self.assertIn(b"UNSEEN 1", self.one(s, "STATUS Drafts (UNSEEN)"))

    def test_urls_may_be_all_there_is_and_literals_themselves(self):
        s = self.session("catenate")
        s.ok("CREATE Parts")
        s.append("Parts", DRAFT)
        url = b"/Parts/;UID=1/;SECTION=HEADER"
        for command in (b"APPEND Parts CATENATE (URL /Parts/;UID=1)", b"APPEND Parts CATENATE (URL " + literal(b"/Parts/;UID=1") + b")",
                        b"APPEND Parts CATENATE (URL " + literal(url) + b' URL "/Parts/;UID=1/;SECTION=TEXT")',
                        b"APPEND Parts CATENATE (URL \"/%50arts/;uid=1\")"):
            self.assertRegex(s.command(command)[1], rb"^OK \[APPENDUID ", command)
        s.ok("SELECT Parts")
        for uid in (2, 3, 4, 5):
            self.assertEqual(self.body(s, uid), DRAFT, uid)
        sections = {"/;SECTION=1": b"first words", "/;SECTION=HEADER.FIELDS%20(SUBJECT)": b"Subject: draft\r\n\r\n",
                    "/;SECTION=TEXT/;PARTIAL=0.5": b"--b\r\n", "/;PARTIAL=6.18": DRAFT[6:24], f"/;PARTIAL={len(DRAFT) - 5}": DRAFT[-5:]}
        for section, wanted in sections.items():
            uid = int(re.search(rb"APPENDUID \d+ (\d+)", s.command(f'APPEND Parts CATENATE (URL "/Parts/;UID=1{section}")')[1]).group(1))
            self.assertEqual(self.body(s, uid), wanted, section)

    def test_a_url_of_a_mailbox_with_a_strange_name(self):
        s = self.session("urls")
        s.ok("CREATE \u00dcber".encode())
        s.ok("CREATE \"A &- B/;C\"")
        s.append('"A &- B/;C"', PLAIN)
        s.ok("APPEND {5+}\r\n\u00dcber".encode() + b" " + literal(PLAIN))
        for url in ("/%C3%9Cber/;UID=1", "/A%20%26%20B%2F%3BC/;UID=1"):
            self.assertRegex(s.command(f"APPEND INBOX CATENATE (URL \"{url}\")")[1], rb"^OK \[APPENDUID", url)

    def test_a_url_that_names_nothing_is_told_and_nothing_is_stored(self):
        s = self.session("urls")
        s.ok("CREATE Source")
        s.append("Source", DRAFT)
        v = self.validity(s, "Source")
        for url in ("/Source/;UID=9", "/Nowhere/;UID=1", f"/Source;UIDVALIDITY={v + 1}/;UID=1", "/Source/;UID=1/;SECTION=7", "/Source/;UID=1/;SECTION=FOO",
                    "/Source/;UID=0", "/Source/;UID=x", "/Source", "imap://mail.example.test/Source/;UID=1", "//mail.example.test/Source/;UID=1", ";UID=1", "x",
                    "/Source/;UID=1/;SECTION=1/;PARTIAL=a", "/Source/;UID=1;URLAUTH=anonymous:INTERNAL:00", "/%zz/;UID=1", "/%ff/;UID=1", "/Source/;UID=1/;FOO=1",
                    "/a%00b/;UID=1", "/a*/;UID=1"):
            answer = s.refused(f'APPEND Sent CATENATE (URL "{url}")')
            self.assertRegex(answer, rb'^NO \[BADURL "%s"\] .' % re.escape(url.encode()), url)
        self.assertRegex(s.refused('APPEND Sent CATENATE (URL "/a]b c\\"")'), rb'^NO \[BADURL "/a%5Db%20c%22"\] ')
        self.assertRegex(s.refused(b"APPEND Sent CATENATE (URL /Source/;UID=9 TEXT " + literal(b"x") + b" URL /Source/;UID=1)"), rb"^NO \[BADURL ")
        self.assertRegex(s.refused(b"APPEND Sent CATENATE (URL " + literal(b"x" * 9000) + b")"), rb"^NO \[TOOBIG\]")
        self.assertIn(b"MESSAGES 0", self.one(s, "STATUS Sent (MESSAGES)"))

    def test_malformed_catenates_are_bad_and_no_byte_of_theirs_is_a_command(self):
        s = self.session("urls")
        x = literal(b"x NOOP\r\n")
        for text in (b"APPEND Sent CATENATE", b"APPEND Sent CATENATE ", b"APPEND Sent CATENATE ()", b"APPEND Sent CATENATE (TEXT)", b"APPEND Sent CATENATE (TEXT x)",
                     b"APPEND Sent CATENATE (URL)", b"APPEND Sent CATENATE (URL /a/;UID=1", b"APPEND Sent CATENATE (FOO " + x + b")", b"APPEND Sent CATENATE (TEXT " + x,
                     b"APPEND Sent CATENATE (TEXT " + x + b" )", b"APPEND Sent CATENATE (TEXT " + x + b" FOO " + x + b")", b"APPEND Sent CATENATE (TEXT " + x + b")x",
                     b"APPEND Sent CATENATE (TEXT " + x + b"TEXT " + x + b")", b"APPEND Sent (\\Foo) CATENATE (TEXT " + x + b")", b"APPEND Sent UTF8 (" + x + b")",
                     b"APPEND Sent CATENATE (UTF8 (" + x + b"))", b"APPEND Sent " + x + b" CATENATE (TEXT " + x + b" TEXT)"):
            self.assertRegex(s.refused(text), rb"^BAD .", text)
            self.assertEqual(s.ok("NOOP"), [], text)
        self.assertRegex(s.refused(b"APPEND Sent CATENATE (TEXT " + literal(b"") + b")"), rb"^NO \[CANNOT\] an empty")
        self.assertRegex(s.refused(b"APPEND Nowhere CATENATE (TEXT " + x + b" TEXT " + x + b")"), rb"^NO \[TRYCREATE\]")
        self.assertEqual(s.ok("NOOP"), [])

    def test_what_parts_come_to_is_bounded(self):
        s = self.session("urls")
        s.ok("CREATE Large")
        s.append("Large", b"Subject: x\r\n\r\n" + b"y" * 60000)
        self.assertRegex(s.refused('APPEND Large CATENATE (URL "/Large/;UID=1" URL "/Large/;UID=1")'), rb"^NO \[TOOBIG\]")
        self.assertRegex(s.refused(b"APPEND Large CATENATE (URL /Large/;UID=1 TEXT " + literal(b"z" * 50000) + b")"), rb"^NO \[TOOBIG\]")
        self.assertRegex(s.refused("APPEND Large CATENATE (URL /Large/;UID=1 TEXT {50000}"), rb"^NO \[TOOBIG\]")       # before it is sent
        self.assertRegex(s.refused("APPEND Large CATENATE (" + " ".join(["URL /Large/;UID=1/;PARTIAL=0.1"] * 1001) + ")"), rb"^NO \[LIMIT\]")
        s.ok("NOOP")

    def test_a_client_that_waits_is_invited_to_each_part(self):
        s = self.session("waits", "INBOX")
        s.append("INBOX", PLAIN)
        for command in ((b"APPEND INBOX CATENATE (TEXT ", b" URL /INBOX/;UID=1/;SECTION=TEXT TEXT ", b")"), (b"APPEND INBOX ", b" (\\Seen) ", b""),
                        (b"UID REPLACE 1 INBOX CATENATE (TEXT ", b" TEXT ", b")")):
            tag = s.tag()
            s.send(tag + b" " + command[0] + b"{%d}\r\n" % len(PLAIN))
            self.assertRegex(response(s), rb"^\+ ")
            s.send(PLAIN + command[1] + b"{4}\r\n")
            self.assertRegex(response(s), rb"^\+ ")
            s.send(b"abcd" + command[2] + b"\r\n")
            self.assertRegex(s.finish(tag)[1], rb"^OK ")

    # ---- REPLACE (RFC 8508) -----------------------------------------------------------------------
    def test_replace_stores_the_new_message_and_removes_the_old_one_at_once(self):
        s, other = self.session("replace"), self.session("replace")
        for i in range(3):
            s.append("INBOX", PLAIN)
        s.ok("SELECT INBOX")
        other.ok("SELECT INBOX")
        told = s.ok(b"REPLACE 2 INBOX (\\Seen $New) " + literal(DRAFT))
        self.assertRegex(told[0], rb"^\* OK \[APPENDUID \d+ 4\]")
        self.assertEqual([line for line in told[1:] if b"EXISTS" in line or b"EXPUNGE" in line], [b"* 2 EXPUNGE\r\n", b"* 3 EXISTS\r\n"])
        self.assertEqual(self.body(s, 4), DRAFT)
        self.assertRegex(self.one(s, "FETCH 3 FLAGS"), rb"FLAGS \(\\Seen \$New\)")
        self.assertEqual(s.ok("UID FETCH 2 FLAGS"), [])
        told = eventually(lambda: other.ok("NOOP"))
        self.assertIn(b"* 2 EXPUNGE\r\n", told)
        self.assertIn(b"* 3 EXISTS\r\n", told)
        told = s.ok(b"UID REPLACE 4 Sent CATENATE (URL /INBOX/;UID=4/;SECTION=HEADER TEXT " + literal(b"new text") + b")")
        self.assertIn(b"* 3 EXPUNGE\r\n", told)
        self.assertIn(b"MESSAGES 1", self.one(s, "STATUS Sent (MESSAGES)"))
        self.assertRegex(s.ok(b"REPLACE * INBOX " + literal(PLAIN))[0], rb"^\* OK \[APPENDUID \d+ 5\]")
        s.ok("ENABLE QRESYNC")
        untagged, answer = s.command(b"UID REPLACE 5 INBOX " + literal(PLAIN))
        self.assertIn(b"* VANISHED 5\r\n", untagged)
        self.assertRegex(answer, rb"^OK \[HIGHESTMODSEQ \d+\]")

    def test_a_replace_that_cannot_be_leaves_everything_as_it_was(self):
        s, other = self.session("replaces"), self.session("replaces", "INBOX")
        self.assertRegex(s.refused(b"REPLACE 1 INBOX " + literal(PLAIN)), rb"^BAD .*selected")
        for _ in range(3):
            s.append("INBOX", PLAIN)
        s.ok("SELECT INBOX")
        for text, wanted in {b"REPLACE 9 INBOX": rb"^BAD .*has 3", b"REPLACE 0 INBOX": rb"^BAD ", b"REPLACE 1:2 INBOX": rb"^BAD .*one message", b"REPLACE x INBOX": rb"^BAD ",
                             b"REPLACE $ INBOX": rb"^BAD ", b"UID REPLACE 77 INBOX": rb"^NO \[NONEXISTENT\]", b"REPLACE 1 Nowhere": rb"^NO \[TRYCREATE\]",
                             b"REPLACE 1 a*b": rb"^NO \[CANNOT\]|^BAD ", b"REPLACE 1 INBOX (\\Foo)": rb"^BAD ", b"REPLACE 1": rb"^NO \[CANNOT\]"}.items():
            self.assertRegex(s.refused(text + b" " + literal(b"x NOOP\r\n")), wanted, text)
            self.assertEqual(s.ok("NOOP"), [], text)
        self.assertRegex(s.refused(b"REPLACE 1 INBOX " + literal(PLAIN) + b" " + literal(PLAIN)), rb"^BAD .*one message")
        self.assertRegex(s.refused(b"REPLACE 1 INBOX {0}"), rb"^NO \[CANNOT\]")
        for text in (b"REPLACE", b"REPLACE 1", b"REPLACE 1 INBOX", b"UID REPLACE"):
            self.assertRegex(s.refused(text), rb"^BAD ", text)
        other.ok("NOOP")
        s.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
        s.ok("EXPUNGE")
        self.assertRegex(other.refused(b"REPLACE 2 INBOX " + literal(DRAFT)), rb"^NO \[EXPUNGEISSUED\]")
        self.assertIn(b"MESSAGES 2 UIDNEXT 4", self.one(s, "STATUS INBOX (MESSAGES UIDNEXT)"))
        s.ok("EXAMINE INBOX")
        self.assertRegex(s.refused(b"REPLACE 1 INBOX " + literal(PLAIN)), rb"^NO \[READ-ONLY\]")
        s.ok("SELECT INBOX")
        s.ok("ENABLE UIDONLY")
        self.assertRegex(s.refused(b"REPLACE 1 INBOX " + literal(b"x NOOP\r\n")), rb"^BAD \[UIDREQUIRED\]")
        self.assertEqual(s.ok("NOOP"), [])
        self.assertIn(b"* VANISHED 1\r\n", s.ok(b"UID REPLACE 1 INBOX " + literal(PLAIN)))

    def test_a_replace_counts_the_difference_against_the_quota(self):
        self.server.cli("account", "quota", "quota@example.test", "5K")
        s = self.session("quota")
        s.append("INBOX", b"Subject: x\r\n\r\n" + b"y" * 4000)
        s.ok("SELECT INBOX")
        self.assertRegex(s.refused(b"APPEND INBOX " + literal(b"Subject: x\r\n\r\n" + b"z" * 4000)), rb"^NO \[OVERQUOTA\]")
        self.assertRegex(s.ok(b"REPLACE 1 INBOX " + literal(b"Subject: x\r\n\r\n" + b"z" * 4500))[0], rb"APPENDUID")
        self.assertRegex(s.refused(b"REPLACE 1 INBOX " + literal(b"Subject: x\r\n\r\n" + b"z" * 9000)), rb"^NO \[OVERQUOTA\]")
        self.assertEqual(self.body(s, 2)[-4500:], b"z" * 4500)

    # ---- BINARY (RFC 3516) -------------------------------------------------------------------------
    def test_bodies_with_nul_are_stored_in_base64(self):
        s = self.session("binary")
        data = bytes(range(256)) * 3
        message = (b"Subject: bin\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npreamble\r\n"
                   b"--b\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\nX-Kept: yes\r\n\r\n" + data +
                   b"\r\n--b\r\nContent-Type: text/plain\r\n\r\nno nul here\r\n--b--\r\n")
        for sent in (literal(message, binary=True), literal(message)):
            s.ok(b"APPEND INBOX " + sent)
        s.ok("SELECT INBOX")
        for uid in (1, 2):
            raw = self.body(s, uid)
            self.assertNotIn(b"\0", raw)
            self.assertEqual(raw[:raw.index(b"\r\n--b\r\n")], message[:message.index(b"\r\n--b\r\n")])
            self.assertIn(b"X-Kept: yes\r\nContent-Transfer-Encoding: base64\r\n\r\n", raw)
            self.assertTrue(raw.endswith(b"\r\n--b\r\nContent-Type: text/plain\r\n\r\nno nul here\r\n--b--\r\n"))
            self.assertEqual(base64.b64decode(self.body(s, uid, "BODY.PEEK[1]")), data)
            self.assertEqual(self.body(s, uid, "BINARY.PEEK[1]"), data)
            self.assertIn(b"BINARY[1] ~{768}", self.one(s, f"FETCH {uid} BINARY.PEEK[1]"))
            self.assertIn(b'"base64"', self.one(s, f"FETCH {uid} BODYSTRUCTURE").lower())
            self.assertRegex(self.one(s, f"FETCH {uid} BINARY.SIZE[1]"), rb"BINARY.SIZE\[1\] 768\)")
            self.assertEqual(self.body(s, uid, "BINARY.PEEK[1]<250.20>"), data[250:270])
            self.assertIn(b"BINARY[1]<1> {9}\r\n", self.one(s, f"FETCH {uid} BINARY.PEEK[1]<1.9>"))      # no NUL there: no literal8
            self.assertEqual(self.body(s, uid, "BINARY.PEEK[1]<9999.1>"), b"")
            self.assertIn(b"BINARY[7] NIL", self.one(s, f"FETCH {uid} BINARY.PEEK[7]"))
        self.assertNotIn(rb"\Seen", self.one(s, "FETCH 1 FLAGS"))
        s.ok("FETCH 1 BINARY[1]")
        self.assertIn(rb"\Seen", self.one(s, "FETCH 1 FLAGS"))

    def test_a_message_that_is_one_body_with_nul_gets_a_mime_header(self):
        s = self.session("binary")
        s.ok("CREATE One")
        s.ok(b"APPEND One " + literal(b"Subject: x\r\n\r\na\0b", binary=True))
        s.ok("SELECT One")
        self.assertEqual(self.body(s, 1), b"Subject: x\r\nMIME-Version: 1.0\r\nContent-Transfer-Encoding: base64\r\n\r\nYQBi\r\n")
        self.assertEqual(self.body(s, 1, "BINARY.PEEK[1]"), b"a\0b")

    def test_nul_where_no_encoding_helps_is_refused(self):
        s = self.session("binary")
        for message in (b"Subject: a\0b\r\n\r\nx", b"Content-Transfer-Encoding: x-odd\r\n\r\na\0b",
                        b"Content-Type: multipart/mixed; boundary=b\r\n\r\npre\0amble\r\n--b\r\n\r\nx\r\n--b--\r\n"):
            self.assertRegex(s.refused(b"APPEND INBOX " + literal(message, binary=True)), rb"^NO \[UNKNOWN-CTE\]", message)

    def test_an_unknown_encoding_cannot_be_decoded(self):
        s = self.session("binary")
        s.ok("CREATE Odd")
        s.append("Odd", b"Subject: x\r\nContent-Transfer-Encoding: x-odd\r\n\r\nabc")
        s.ok("SELECT Odd")
        for item in ("BINARY[1]", "BINARY.PEEK[1]", "BINARY.SIZE[1]"):
            self.assertRegex(s.refused(f"FETCH 1 {item}"), rb"^NO \[UNKNOWN-CTE\]", item)
        for item in ("BINARY[1.MIME]", "BINARY[TEXT]", "BINARY.SIZE[1]<0.1>", "BINARY[1]<0.0>", "BINARY", "BINARY.PEEK"):
            self.assertRegex(s.refused(f"FETCH 1 {item}"), rb"^BAD ", item)

    def test_nul_that_came_by_other_ways_goes_out_in_no_plain_literal(self):
        self.server.deliver("binary@example.test", b"Subject: by smtp\r\nX-Nul: a\0b\r\n\r\nbody \0 end\r\n")
        s = self.session("binary", "INBOX")
        uid = re.search(rb"UIDNEXT (\d+)", self.one(s, "STATUS INBOX (UIDNEXT)"))
        uid = int(uid.group(1)) - 1
        for item in ("BODY.PEEK[]", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]", "BODY.PEEK[1]", "BODY.PEEK[HEADER.FIELDS (X-Nul)]", "RFC822", "BODY.PEEK[]<0.500>"):
            self.assertNotIn(b"\0", b"".join(s.ok(f"UID FETCH {uid} ({item})")), item)

    # ---- UTF8=ACCEPT (RFC 6855) ----------------------------------------------------------------------
    def test_utf8_accept(self):
        s = self.session("utf8")
        letter = "From: \u00fc@example.test\r\nSubject: Gr\u00fc\u00dfe\r\n\r\nx\r\n".encode()
        self.assertRegex(s.refused(b"APPEND INBOX UTF8 (" + literal(letter, binary=True) + b")"), rb"^BAD .*ENABLE")
        s.ok(b"CREATE " + "\"Vorg\u00e4nge\"".encode())
        self.assertIn(b'"Vorg&AOQ-nge"', self.one(s, 'LIST "" Vorg*'))
        self.assertEqual(self.one(s, "ENABLE UTF8=ACCEPT"), b"* ENABLED UTF8=ACCEPT\r\n")
        self.assertIn('"Vorg\u00e4nge"'.encode(), self.one(s, 'LIST "" Vorg*'))
        _, answer = s.command(b"APPEND INBOX (\\Seen) UTF8 (" + literal(letter, binary=True) + b") (\\Flagged) UTF8 (" + literal(letter, binary=True) + b")")
        self.assertRegex(answer, rb"^OK \[APPENDUID \d+ 1:2\]")
        s.ok(b"APPEND INBOX CATENATE (UTF8 (" + literal(letter, binary=True) + b") TEXT " + literal(b"more") + b")")
        s.ok("SELECT INBOX")
        self.assertEqual(self.body(s, 2), letter)
        self.assertEqual(self.body(s, 3), letter + b"more")
        self.assertRegex(self.one(s, "FETCH 2 FLAGS"), rb"\\Flagged")
        self.assertEqual(self.one(s, "SEARCH SUBJECT \"gr\u00fc\u00dfe\"".encode()), b"* SEARCH 1 2 3\r\n")
        self.assertRegex(s.refused(b'SELECT "\xff"'), rb"^BAD .*UTF-8")
        self.assertRegex(s.refused(b'SEARCH SUBJECT "\xc3\x28"'), rb"^BAD .*UTF-8")
        self.assertRegex(s.refused("SEARCH CHARSET UTF-8 ALL"), rb"^BAD .*CHARSET")
        # Who does not know UTF-8 headers gets them as they are, in literals.
        plain = self.session("utf8", "INBOX")
        self.assertEqual(self.body(plain, 2), letter)
        self.assertRegex(self.one(plain, "FETCH 2 ENVELOPE"), rb"\{\d+\}\r\nGr\xc3\xbc\xc3\x9fe")


if __name__ == "__main__":
    unittest.main()
