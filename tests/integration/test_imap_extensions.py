"""Extensions of the session and of FETCH: object ids, batches of UIDs, UIDONLY, LANGUAGE, UNAUTHENTICATE and the like."""

import re
import socket
import threading
import unittest

from harness import ServerTest, eventually
from imap_wire import ImapTest, Session

PLAIN = b"From: carol@example.test\r\nSubject: plain\r\n\r\nplain text\r\n"


def number(pattern, lines):
    return int(re.search(pattern, b"".join(lines)).group(1))


class ExtensionsTest(ImapTest):
    settings = {"jmap_url": "https://mail.example.test/jmap/session"}
    accounts = ("ids", "batches", "uidonly", "language", "unauth", "id", "preview", "gone")

    def capabilities(self, s):
        return self.one(s, "CAPABILITY").split()[2:]

    # ---- object ids (RFC 8474) ------------------------------------------------------------------------
    def test_mailbox_ids_are_told_at_creation_selection_and_status_and_survive_a_rename(self):
        s = self.session("ids")
        self.assertIn(b"OBJECTID", self.capabilities(s))
        _, answer = s.command("CREATE Lasting")
        name = re.match(rb"OK \[MAILBOXID \((F[0-9]+-[0-9]+)\)\]", answer).group(1)
        self.assertEqual(self.one(s, "STATUS Lasting (MAILBOXID MESSAGES)"), b'* STATUS "Lasting" (MESSAGES 0 MAILBOXID (%s))\r\n' % name)
        self.assertIn(b"* OK [MAILBOXID (%s)] Lasting name\r\n" % name, s.ok("SELECT Lasting"))
        s.ok("RENAME Lasting Renamed")
        self.assertIn(b'* STATUS "Renamed" (MAILBOXID (%s))\r\n' % name, s.ok('LIST "" Renamed RETURN (STATUS (MAILBOXID))'))
        _, answer = s.command("CREATE Lasting")
        self.assertNotIn(name, answer)

    def test_a_moved_message_keeps_its_id_and_a_copy_gets_its_own(self):
        s = self.session("ids")
        s.ok("CREATE From")
        s.ok("CREATE To")
        s.append("From", b"Message-ID: <a@x>\r\nSubject: one\r\n\r\nx\r\n")
        s.append("From", b"Message-ID: <b@x>\r\nIn-Reply-To: <a@x>\r\nSubject: Re: one\r\n\r\nx\r\n")
        s.ok("SELECT From")
        told = s.ok("FETCH 1:2 (EMAILID THREADID)")
        first, second = (re.search(rb"\(EMAILID \((M\d+-\d+)\) THREADID \((T\d+-\d+)\)\)", line).groups() for line in told)
        self.assertNotEqual(first[0], second[0])
        self.assertEqual(first[1], second[1])
        s.ok("COPY 1 To")
        s.ok("MOVE 1 To")
        s.ok("SELECT To")
        told = s.ok("FETCH 1:2 (EMAILID)")
        self.assertNotIn(first[0], told[0])
        self.assertEqual(told[1], b"* 2 FETCH (EMAILID (%s))\r\n" % first[0])
        self.assertEqual(self.one(s, "UID FETCH 2 THREADID"), b"* 2 FETCH (UID 2 THREADID (%s))\r\n" % first[1])

    # ---- PREVIEW (RFC 8970) ------------------------------------------------------------------------
    def test_previews(self):
        s = self.session("preview")
        self.assertIn(b"PREVIEW", self.capabilities(s))
        style = b"<html><head><style>" + b"p { color: red } " * 4000 + b"</style></head><body>"
        letters = {PLAIN: b'"plain text"', b"Subject: none\r\n\r\n": b'""', b"Subject: x\r\n\r\nsay \"a\\b\"": b'"say \\"a\\\\b\\""',
                   b"Content-Type: text/html; charset=utf-8\r\n\r\n" + style + "<p>Gr\u00fc\u00dfe</p>".encode(): "{7}\r\nGr\u00fc\u00dfe".encode(),
                   b"X-Long: " + b"x" * 40000 + b"\r\n\r\nbehind it": b'"behind it"',
                   b"Content-Type: text/plain\r\n\r\n" + b"word " * 100000: b'"' + b"word " * 39 + b'word"',
                   b"Content-Type: text/html\r\n\r\n" + b"<!-- " + b"x" * 900000 + b" -->late": b'""',
                   b"Content-Type: image/png\r\n\r\nxxxx": b'""'}
        for letter in letters:
            s.append("INBOX", letter)
        s.ok("SELECT INBOX")
        for i, wanted in enumerate(letters.values(), 1):
            for item in ("PREVIEW", "PREVIEW (LAZY)", "(PREVIEW)", "(PREVIEW (LAZY))"):
                got = self.one(s, f"FETCH {i} {item}")
                if b"word" in wanted:
                    got, wanted_chars = re.search(rb"PREVIEW (.*)\)\r\n", got).group(1), 202
                    self.assertEqual(len(got), wanted_chars, item)
                else:
                    self.assertEqual(got, b"* %d FETCH (PREVIEW %s)\r\n" % (i, wanted), item)
        self.assertRegex(self.one(s, "FETCH 1 (UID PREVIEW (LAZY) FLAGS)"), rb'UID 1 PREVIEW "plain text" FLAGS \(\)')
        self.assertEqual(len(s.ok("UID FETCH 1:* (PREVIEW (LAZY) RFC822.SIZE BODY.PEEK[HEADER.FIELDS (Subject)])")), len(letters))
        self.assertRegex(s.ok("UID FETCH 1 PREVIEW (CHANGEDSINCE 1)")[-1], rb'PREVIEW "plain text" MODSEQ')
        self.assertRegex(self.one(s, "FETCH 1 (PREVIEW BODY.PEEK[TEXT]<0.5>)"), rb'PREVIEW "plain text" BODY\[TEXT\]<0> \{5\}\r\nplain\)')
        for text in ("FETCH 1 PREVIEW (FOO)", "FETCH 1 (PREVIEW (FOO))", "FETCH 1 (PREVIEW ())", "FETCH 1 PREVIEW (LAZY", "FETCH 1 (PREVIEW(LAZY))", "FETCH 1 PREVIEW<0.1>"):
            self.assertRegex(s.refused(text), rb"^BAD ", text)
        self.assertNotIn(rb"\Seen", b"".join(s.ok("FETCH 1:* FLAGS")))
        s.ok("ENABLE UTF8=ACCEPT")
        self.assertEqual(self.one(s, "FETCH 4 PREVIEW"), '* 4 FETCH (PREVIEW "Gr\u00fc\u00dfe")\r\n'.encode())

    # ---- UIDBATCHES (RFC 10022) -------------------------------------------------------------------
    def test_batches_cover_the_mailbox_from_its_end(self):
        s = self.session("batches")
        self.assertRegex(s.refused("UIDBATCHES 500"), rb"^BAD .*selected")
        s.ok("SELECT INBOX")
        self.assertRegex(self.one(s, "UIDBATCHES 500"), rb'^\* UIDBATCHES \(TAG "t\d+"\)\r\n$')
        part = b" {%d+}\r\n" % len(PLAIN) + PLAIN
        s.ok(b"APPEND INBOX" + part * 1201)
        s.ok("STORE 1200 +FLAGS.SILENT (\\Deleted)")
        s.ok("EXPUNGE")
        told = self.one(s, "UIDBATCHES 500")
        self.assertRegex(told, rb'^\* UIDBATCHES \(TAG "t\d+"\) 1201:701,700:201,200:1\r\n$')
        for ranges, wanted in {"1": b" 1201:701", "2:3": b" 700:201,200:1", "3:99": b" 200:1", "4:5": b"", "1:4294967295": b" 1201:701,700:201,200:1"}.items():
            self.assertEqual(self.one(s, f"UIDBATCHES 500 {ranges}").split(b")")[1], wanted + b"\r\n", ranges)
        self.assertRegex(self.one(s, "UIDBATCHES 1199"), rb"\) 1201:2,1\r\n$")
        self.assertRegex(self.one(s, "UIDBATCHES 4294967295"), rb"\) 1201:1\r\n$")
        self.assertRegex(s.refused("UIDBATCHES 499"), rb"^NO \[TOOFEW\]")
        self.assertRegex(s.refused("UIDBATCHES 500 3:2"), rb"^BAD \[CLIENTBUG\]")
        for text in ("UIDBATCHES", "UIDBATCHES 0", "UIDBATCHES x", "UIDBATCHES 500 0", "UIDBATCHES 500 1:", "UIDBATCHES 500 1:*", "UIDBATCHES 500 1 2"):
            self.assertRegex(s.refused(text), rb"^BAD ", text)

    # ---- UIDONLY (RFC 9586) ------------------------------------------------------------------------
    def test_uidonly_neither_takes_nor_tells_sequence_numbers(self):
        s, other = self.session("uidonly"), self.session("uidonly", "INBOX")
        for _ in range(4):
            s.append("INBOX", PLAIN)
        self.assertEqual(self.one(s, "ENABLE UIDONLY"), b"* ENABLED UIDONLY\r\n")
        told = b"".join(s.ok("SELECT INBOX"))
        self.assertIn(b"* 4 EXISTS\r\n", told)
        self.assertNotIn(b"UNSEEN", told)
        for text in ("FETCH 1 FLAGS", "STORE 1 +FLAGS (\\Seen)", "COPY 1 Sent", "MOVE 1 Sent", "SEARCH ALL", "UID SEARCH 1:2", "UID SEARCH NOT (OR SEEN 3)"):
            self.assertRegex(s.refused(text), rb"^BAD \[UIDREQUIRED\] ", text)
        self.assertEqual(self.one(s, "UID SEARCH UID 2:3"), b"* SEARCH 2 3\r\n")
        self.assertEqual(self.one(s, "UID FETCH 3 FLAGS"), b"* 3 UIDFETCH (FLAGS ())\r\n")
        self.assertEqual(self.one(s, "UID FETCH 3 (UID FLAGS)"), b"* 3 UIDFETCH (UID 3 FLAGS ())\r\n")
        self.assertEqual(self.one(s, "UID STORE 3 +FLAGS (\\Deleted)"), b"* 3 UIDFETCH (FLAGS (\\Deleted))\r\n")
        self.assertEqual(self.one(s, "UID EXPUNGE 3"), b"* VANISHED 3\r\n")
        other.ok("NOOP")
        other.ok("UID STORE 4 +FLAGS.SILENT (\\Flagged)")
        self.assertIn(b"* 4 UIDFETCH (FLAGS (\\Flagged))\r\n", eventually(lambda: s.ok("NOOP")))
        s.ok("UID SEARCH RETURN (SAVE) UID 1:2")
        self.assertEqual(self.one(s, "UID SEARCH $"), b"* SEARCH 1 2\r\n")
        self.assertRegex(b"".join(s.ok("UID MOVE 1 Sent")), rb"(?s)COPYUID \d+ 1 1\].*VANISHED 1\r\n")
        s.ok("UNSELECT")
        s.ok("ENABLE QRESYNC")
        validity = number(rb"UIDVALIDITY (\d+)", s.ok("STATUS INBOX (UIDVALIDITY)"))
        self.assertRegex(s.refused(f"SELECT INBOX (QRESYNC ({validity} 1 1:9 (1 1)))"), rb"^BAD \[UIDREQUIRED\]")
        self.assertIn(b"* VANISHED (EARLIER) 1,3\r\n", s.ok(f"SELECT INBOX (QRESYNC ({validity} 1 1:9))"))

    # ---- what others expunged (RFC 2180, RFC 5530) -----------------------------------------------
    def test_expungeissued_tells_that_messages_are_gone_whose_numbers_stay(self):
        s, other = self.session("gone"), self.session("gone")
        for _ in range(4):
            s.append("INBOX", PLAIN)
        s.ok("SELECT INBOX")
        other.ok("SELECT INBOX")
        other.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
        other.ok("EXPUNGE")
        eventually(lambda: s.command("FETCH 1:2 BODY.PEEK[]")[1].startswith(b"OK [EXPUNGEISSUED]"))
        for command in ("FETCH 1:4 FLAGS", "FETCH 2 ENVELOPE", "STORE 1:3 +FLAGS (\\Seen)"):
            untagged, answer = s.command(command)
            self.assertRegex(answer, rb"^OK \[EXPUNGEISSUED\]", command)
            self.assertNotIn(b"* 2 FETCH", b"".join(untagged))
        self.assertRegex(s.refused("COPY 2 Sent"), rb"^NO \[EXPUNGEISSUED\]")
        self.assertIn(b"* 2 EXPUNGE\r\n", s.ok("NOOP"))
        self.assertRegex(s.command("FETCH 1:3 FLAGS")[1], rb"^OK FETCH")

    def test_status_of_the_selected_mailbox_is_a_bug_of_the_client(self):
        s = self.session("gone", "Sent")
        self.assertRegex(s.command("STATUS Sent (MESSAGES)")[1], rb"^OK \[CLIENTBUG\]")
        self.assertRegex(s.command("STATUS INBOX (MESSAGES)")[1], rb"^OK STATUS")

    # ---- LANGUAGE (RFC 5255) -------------------------------------------------------------------------
    def test_refusals_and_completions_come_in_the_language_chosen(self):
        s = self.session("language")
        self.assertIn(b"LANGUAGE", self.capabilities(s))
        self.assertEqual(self.one(s, "LANGUAGE"), b"* LANGUAGE (i-default en id)\r\n")
        self.assertEqual(s.refused("SELECT nothing"), b"NO [NONEXISTENT] no such mailbox")
        self.assertEqual(s.command("LANGUAGE de id-ID en"), ([b"* LANGUAGE (id)\r\n"], b"OK LANGUAGE selesai"))
        self.assertEqual(s.refused("SELECT nothing"), b"NO [NONEXISTENT] Kotak surat atau pesan itu tidak ada")
        self.assertEqual(s.command("NOOP"), ([], b"OK NOOP selesai"))
        self.assertRegex(s.refused("LANGUAGE de fr-CH"), rb"^NO \[CANNOT\]")
        self.assertEqual(s.command("NOOP")[1], b"OK NOOP selesai")
        for text in ("LANGUAGE (en)", "LANGUAGE " + "x" * 101):
            self.assertRegex(s.refused(text), rb"^BAD ", text)
        self.assertRegex(s.refused("LANGUAGE" + " xx" * 60), rb"^NO \[LIMIT\]")
        self.assertEqual(s.command("LANGUAGE default")[1], b"OK LANGUAGE completed")
        self.assertEqual(self.one(s, 'LANGUAGE "EN-gb"'), b"* LANGUAGE (en)\r\n")

    def test_the_language_may_be_chosen_before_log_in(self):
        s = self.session()
        s.ok("LANGUAGE id")
        self.assertEqual(s.refused("LOGIN language@example.test wrong"), b"NO [AUTHENTICATIONFAILED] Nama atau kata sandi salah")
        self.assertEqual(s.ok("LOGOUT"), [b"* BYE Sampai jumpa\r\n"])

    # ---- UNAUTHENTICATE (RFC 8437) --------------------------------------------------------------------
    def test_unauthenticate_forgets_the_user_and_everything_enabled(self):
        s = self.session("unauth", "INBOX")
        self.assertIn(b"UNAUTHENTICATE", self.capabilities(s))
        s.append("INBOX", PLAIN)
        s.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
        s.ok("ENABLE QRESYNC UIDONLY UTF8=ACCEPT IMAP4rev2")
        s.ok("LANGUAGE id")
        self.assertRegex(s.refused("UNAUTHENTICATE now"), rb"^BAD ")
        self.assertEqual(s.command("UNAUTHENTICATE"), ([], b"OK Logged out, the connection stays"))
        self.assertRegex(s.refused("SELECT INBOX"), rb"^BAD .*log-in")
        self.assertRegex(s.refused("UNAUTHENTICATE"), rb"^BAD .*log-in")
        self.assertNotIn(b"UNAUTHENTICATE", self.capabilities(s))
        s.ok("LOGIN id@example.test secret")
        self.assertIn(b"* 0 EXISTS\r\n", s.ok("SELECT INBOX"))
        self.assertEqual(self.one(s, "ENABLE QRESYNC UIDONLY UTF8=ACCEPT IMAP4rev2"), b"* ENABLED QRESYNC UIDONLY UTF8=ACCEPT IMAP4rev2\r\n")
        s.ok("UNAUTHENTICATE")
        s.ok("LOGIN unauth@example.test secret")
        self.assertEqual(self.one(s, "STATUS INBOX (MESSAGES)"), b'* STATUS "INBOX" (MESSAGES 1)\r\n')     # nothing was expunged

    def test_unauthenticate_and_the_next_log_in_may_come_together(self):
        s = self.session("unauth")
        s.send(b"a UNAUTHENTICATE\r\nb AUTHENTICATE PLAIN AGlkQGV4YW1wbGUudGVzdABzZWNyZXQ=\r\n")
        self.assertRegex(s.line(), rb"^a OK ")
        self.assertRegex(s.line(), rb"^b OK \[CAPABILITY ")

    # ---- who we are ------------------------------------------------------------------------------------
    def test_id_names_the_product_and_its_version(self):
        s = self.session("id")
        self.assertRegex(self.one(s, "ID NIL"), rb'^\* ID \("name" "Merpati" "version" "\d+\.\d+\.\d+" "vendor" "Merpati"\)\r\n$')

    def test_the_jmap_address_is_told(self):
        s = self.session("id")
        self.assertIn(b"JMAPACCESS", self.capabilities(s))
        self.assertEqual(self.one(s, "GETJMAPACCESS"), b'* JMAPACCESS "https://mail.example.test/jmap/session"\r\n')
        self.assertRegex(s.refused("GETJMAPACCESS x"), rb"^BAD ")
        self.assertRegex(self.session().refused("GETJMAPACCESS"), rb"^BAD .*log-in")


class LimitTest(ImapTest):
    settings = {"imap_message_limit": "10", "imap_save_limit": "6"}
    accounts = ("limit", "plenty")

    # ---- MESSAGELIMIT, SAVELIMIT (RFC 9738) -----------------------------------------------------
    def test_a_command_works_on_the_last_messages_up_to_the_limit(self):
        s = self.session("limit")
        self.assertIn(b" MESSAGELIMIT=10 SAVELIMIT=6", s.ok("CAPABILITY")[0])
        part = b" {%d+}\r\n" % len(PLAIN) + PLAIN
        self.assertRegex(s.refused(b"APPEND INBOX" + part * 7), rb"^NO \[MESSAGELIMIT 6\]")
        for count in (6, 6, 3):
            s.ok(b"APPEND INBOX" + part * count)
        s.ok("SELECT INBOX")
        for command in ("FETCH 1:* UID", "UID FETCH 1:* FLAGS", "FETCH 1:2,4:15 (UID)", "UID FETCH 1,2,3,4,5,6:15 UID", "STORE 1:* +FLAGS (\\Seen)", "UID STORE 1:* -FLAGS (\\Seen)"):
            untagged, answer = s.command(command)
            self.assertRegex(answer, rb"^OK \[MESSAGELIMIT 10 6\]", command)
            self.assertEqual([int(line.split()[1]) for line in untagged], list(range(6, 16)), command)
        for command in ("FETCH 1:10 UID", "UID FETCH 1:5,11:* FLAGS", "UID FETCH 6:999 FLAGS", "COPY 1:6 Sent", "UID COPY 1:3,13:15 Sent"):
            self.assertNotIn(b"MESSAGELIMIT", s.command(command)[1], command)
        for command in ("COPY 1:7 Sent", "UID COPY 1:* Sent", "MOVE 1:7 Sent", "UID MOVE 1:* Sent"):
            self.assertRegex(s.refused(command), rb"^NO \[MESSAGELIMIT 6\]", command)
        self.assertIn(b"MESSAGES 12", s.ok("STATUS Sent (MESSAGES)")[0])
        for command, wanted, uid in (("UID SEARCH ALL", range(6, 16), 6), ("SEARCH UNSEEN", range(6, 16), 6), ("UID SEARCH UIDBEFORE 6", range(1, 6), 0),
                                     ("UID SEARCH UIDBEFORE 15", range(5, 15), 5), ("UID SEARCH UIDAFTER 6", range(7, 16), 0), ("SEARCH UIDAFTER 15", (), 0),
                                     ("SEARCH UIDBEFORE 1", (), 0), ("SEARCH UIDAFTER 4294967295", (), 0), ("SEARCH NOT UIDAFTER 14", range(6, 15), 6)):
            untagged, answer = s.command(command)
            self.assertEqual([int(n) for n in untagged[0].split()[2:]], list(wanted), command)
            self.assertEqual(b"MESSAGELIMIT 10 %d]" % uid in answer, uid > 0, command)
        for command in ("SEARCH UIDAFTER", "SEARCH UIDAFTER 0", "SEARCH UIDBEFORE *", "SEARCH UIDBEFORE 1:2", "SEARCH UIDBEFORE x"):
            self.assertRegex(s.refused(command), rb"^BAD ", command)
        s.ok("STORE 1:10 +FLAGS.SILENT (\\Deleted)")
        s.ok("STORE 6:15 +FLAGS.SILENT (\\Deleted)")
        untagged, answer = s.command("UID EXPUNGE 1:*")
        self.assertRegex(answer, rb"^OK \[MESSAGELIMIT 10 6\]")
        self.assertEqual(len(untagged), 10)
        self.assertEqual(len(s.ok("EXPUNGE")), 5)

    def test_pieces_of_many_messages_are_right_wherever_they_lie(self):
        s = self.session("plenty")
        letters = [b"Subject: s%d\r\nX-Pad: %s\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\npre\r\n--b\r\n\r\n%s\r\n--b\r\nContent-Type: text/x\r\n\r\n%s\r\n--b--\r\n"
                   % (i, b"p" * pad, b"first%d " % i * one, b"second%d " % i * two)
                   for i, (pad, one, two) in enumerate([(10, 3, 3), (40000, 3, 3), (10, 30000, 3), (10, 3, 60000), (70000, 20000, 20000), (10, 0, 0)])]
        for letter in letters:
            s.append("INBOX", letter)
        s.ok("SELECT INBOX")
        for offset, size in ((0, 10), (0, 200), (5, 1000), (100, 60000), (100000, 200000), (0, 400000), (262000, 144), (50, 1)):
            items = {b"TEXT": lambda m: m[m.index(b"\r\n\r\n") + 4:], b"1": lambda m: m.split(b"--b\r\n\r\n")[1].split(b"\r\n--b\r\n")[0],
                     b"2": lambda m: m.split(b"text/x\r\n\r\n")[1].split(b"\r\n--b--")[0], b"2.MIME": lambda m: b"Content-Type: text/x\r\n\r\n"}
            for section, cut in items.items():
                told = s.ok(b"FETCH 1:* BODY.PEEK[%s]<%d.%d>" % (section, offset, size))
                for letter, answer in zip(letters, told, strict=True):
                    wanted = cut(letter)[offset:offset + size]
                    head, _, rest = answer.partition(b"}\r\n")
                    self.assertEqual(int(head.rpartition(b"{")[2]), len(wanted), (section, offset, size))
                    self.assertEqual(rest[:len(wanted)], wanted, (section, offset, size))
            told = s.ok(b"FETCH 1:* (BODY.PEEK[3]<0.5> BODY.PEEK[1.1]<0.5>)")
            self.assertEqual([b"BODY[3]<0> NIL" in line for line in told], [True] * 6)


class ProgressTest(ServerTest):
    settings = {"imap_progress_interval": "1ms"}
    accounts = ("alice",)

    # ---- INPROGRESS (RFC 9585) --------------------------------------------------------------------
    def test_long_commands_tell_that_they_are_at_work(self):
        s = Session(self.server, "alice")
        self.addCleanup(s.close)
        self.assertIn(b" INPROGRESS", s.ok("CAPABILITY")[0])
        part = b" {%d+}\r\n" % len(PLAIN) + PLAIN
        told = s.ok(b"APPEND INBOX" + part * 800)
        self.assertRegex(told[0], rb'^\* OK \[INPROGRESS \("t\d+" NIL NIL\)\] .')
        s.ok("SELECT INBOX")
        for command in ("COPY 1:800 Sent", "STORE 1:800 +FLAGS.SILENT (\\Deleted)", "MOVE 1:400 Archive", "EXPUNGE"):
            untagged = s.ok(command)
            self.assertRegex(b"".join(untagged), rb'\* OK \[INPROGRESS \("t%d" NIL NIL\)\] .' % s.number, command)
        self.assertIn(b"MESSAGES 0", s.ok("STATUS INBOX (MESSAGES)")[0])

    def test_answers_wait_for_a_client_that_does_not_read_before_log_in(self):
        s = Session(self.server)
        self.addCleanup(s.close)
        s.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        writer = threading.Thread(target=lambda: s.send(b"".join(b"c%d CAPABILITY\r\n" % i for i in range(5000))))
        writer.start()
        for i in range(5000):
            self.assertRegex(s.line(), rb"^\* CAPABILITY ")
            self.assertEqual(s.line(), b"c%d OK CAPABILITY completed\r\n" % i)
        writer.join()


class NoJmapTest(ServerTest):
    accounts = ("alice",)

    def test_without_an_address_jmap_is_not_offered(self):
        s = Session(self.server, "alice")
        self.addCleanup(s.close)
        self.assertNotIn(b"JMAPACCESS", s.ok("CAPABILITY")[0])
        self.assertRegex(s.refused("GETJMAPACCESS"), rb"^NO \[CANNOT\]")


if __name__ == "__main__":
    unittest.main()
