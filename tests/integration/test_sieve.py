"""Sieve at work: mail comes over SMTP and LMTP, IMAP shows where it went, and who was answered."""

import email
import email.policy
import re
import smtplib
import time
import unittest

from harness import PASSWORD, ServerTest, eventually
from sieve_wire import ManageSieve


def letter(subject="Hello", sender="ani@elsewhere.test", to="alice@example.test", body="Text.\r\n", extra=""):
    return (f"From: Ani <{sender}>\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <{subject.replace(' ', '.')}@elsewhere.test>\r\n"
            f"Date: Mon, 23 Nov 2026 10:00:00 +0700\r\n{extra}\r\n{body}").encode()


class SieveTest(ServerTest):
    accounts = ("alice", "bob", "carol", "dave")

    def setUp(self):
        for user in self.accounts:
            self.activate(user, None)
            with self.server.imap(user) as c:
                for line in c.list()[1]:
                    name = line.decode().rsplit(' "/" ', 1)[1]
                    c.select(name)
                    c.store("1:*", "+FLAGS.SILENT", r"(\Deleted)")
                    c.expunge()

    def activate(self, user, script, name="main", **others):
        m = ManageSieve(self.server, user)
        try:
            m.ask(b'SETACTIVE ""')
            for other, text in others.items():
                answer = m.put(other, text)
                self.assertEqual(answer.status, "OK", answer)
            if script is not None:
                answer = m.put(name, script)
                self.assertEqual(answer.status, "OK", answer)
                self.assertEqual(m.ask(b'SETACTIVE "%s"' % name.encode()).status, "OK")
        finally:
            m.close()

    def send(self, message, to="alice@example.test", sender="ani@elsewhere.test", port="smtp", options=()):
        with self.server.smtp(port) as s:
            return s.sendmail(sender, [to] if isinstance(to, str) else to, message, mail_options=list(options))

    def messages(self, user, mailbox="INBOX"):
        """Of a mailbox: (flags, message)."""
        with self.server.imap(user) as c:
            if c.select(f'"{mailbox}"', readonly=True)[0] != "OK":
                return []
            found = []
            for item in c.fetch("1:*", "(FLAGS BODY.PEEK[])")[1] or []:
                if isinstance(item, tuple):
                    flags = re.search(rb"FLAGS \(([^)]*)\)", item[0])[1].decode().split()
                    found.append((set(flags) - {r"\Recent"}, email.message_from_bytes(item[1], policy=email.policy.default)))
            return found

    def subjects(self, user, mailbox="INBOX"):
        return [m["Subject"] for _, m in self.messages(user, mailbox)]


class FilingTest(SieveTest):
    def test_without_a_script_mail_is_in_the_inbox(self):
        self.send(letter())
        self.assertEqual(self.subjects("alice"), ["Hello"])

    def test_fileinto_with_flags_and_a_new_mailbox(self):
        self.activate("alice", 'require ["fileinto", "imap4flags", "mailbox"];\r\n'
                      'if header :contains "subject" "list" { fileinto :create :flags ["\\\\Seen", "$todo"] "Lists/C"; }')
        self.send(letter("the list"))
        self.send(letter("other"))
        [(flags, _)] = self.messages("alice", "Lists/C")
        self.assertEqual(flags, {r"\Seen", "$todo"})
        self.assertEqual(self.subjects("alice"), ["other"])

    def test_a_mailbox_that_is_not_there_keeps_the_mail(self):
        self.activate("alice", 'require "fileinto"; fileinto "Nowhere";')
        self.send(letter())
        self.assertEqual(self.subjects("alice"), ["Hello"])

    def test_discard_and_two_mailboxes(self):
        self.activate("alice", 'require ["fileinto", "copy"];\r\n'
                      'if header :is "subject" "gone" { discard; stop; }\r\nfileinto "Archive"; fileinto :copy "Drafts"; fileinto "Archive";')
        self.send(letter("gone"))
        self.send(letter("kept"))
        self.assertEqual(self.subjects("alice"), [])
        self.assertEqual(self.subjects("alice", "Archive"), ["kept"])
        self.assertEqual(self.subjects("alice", "Drafts"), ["kept"])

    def test_each_recipient_has_a_filter_of_its_own(self):
        self.activate("alice", 'require "fileinto"; fileinto "Archive";')
        self.activate("bob", "discard;")
        self.send(letter(), ["alice@example.test", "bob@example.test", "carol@example.test"])
        self.assertEqual(self.subjects("alice", "Archive"), ["Hello"])
        self.assertEqual(self.subjects("bob"), [])
        self.assertEqual(self.subjects("carol"), ["Hello"])

    def test_the_envelope_and_the_detail(self):
        self.activate("alice", 'require ["envelope", "subaddress", "fileinto", "mailbox", "variables"];\r\n'
                      'if envelope :detail :matches "to" "*" { set :lower "d" "${1}"; if not string :is "${d}" "" '
                      '{ fileinto :create "Plus/${d}"; } }')
        self.send(letter(), "alice+Shop@example.test")
        self.send(letter("plain"), "alice@example.test")
        self.assertEqual(self.subjects("alice", "Plus/shop"), ["Hello"])
        self.assertEqual(self.subjects("alice"), ["plain"])

    def test_edited_copies_are_other_messages(self):
        self.activate("alice", 'require ["editheader", "fileinto"];\r\n'
                      'fileinto "Archive"; addheader "X-Seen-By" "alice"; deleteheader "Subject"; keep;')
        self.send(letter(), ["alice@example.test", "bob@example.test"])
        [(_, kept)] = self.messages("alice")
        self.assertEqual((kept["X-Seen-By"], kept["Subject"]), ("alice", None))
        self.assertTrue(kept["Return-Path"])
        [(_, filed)] = self.messages("alice", "Archive")
        self.assertEqual((filed["X-Seen-By"], filed["Subject"]), (None, "Hello"))
        self.assertEqual(self.subjects("bob"), ["Hello"])

    def test_a_fault_at_run_time_keeps_the_mail(self):
        self.activate("alice", 'require ["include", "fileinto"]; fileinto "Archive"; include :personal "nowhere";')
        self.send(letter())
        self.assertEqual(self.subjects("alice"), ["Hello"])
        self.assertEqual(self.subjects("alice", "Archive"), [])

    def test_an_included_script_and_its_change(self):
        self.activate("alice", 'require "include"; include "part";', part='require "fileinto"; fileinto "Archive";')
        self.send(letter("one"))
        m = ManageSieve(self.server, "alice")
        self.assertEqual(m.put("part", 'require "fileinto"; fileinto "Drafts";').status, "OK")
        m.close()
        eventually(lambda: self.send(letter("two")) or "two" in self.subjects("alice", "Drafts"))
        self.assertEqual(self.subjects("alice", "Archive")[0], "one")

    def test_who_is_over_quota_is_told_whatever_the_filter_does(self):
        self.activate("dave", 'require "fileinto"; fileinto "Archive";')
        self.server.cli("account", "quota", "dave@example.test", "1K")
        try:
            with self.assertRaises(smtplib.SMTPRecipientsRefused):
                self.send(letter(body="x" * 5000 + "\r\n"), "dave@example.test")
                self.send(letter(body="x" * 5000 + "\r\n"), "dave@example.test")
        finally:
            self.server.cli("account", "quota", "dave@example.test", "none")

    def test_what_people_here_send_each_other_is_filtered_too(self):
        self.activate("bob", 'require "fileinto"; if address "from" "alice@example.test" { fileinto "Archive"; }')
        with self.server.smtp("submission") as s:
            s.login("alice@example.test", PASSWORD)
            s.sendmail("alice@example.test", ["bob@example.test"], letter(sender="alice@example.test"))
        self.assertEqual(self.subjects("bob", "Archive"), ["Hello"])

    def test_the_trace_says_which_line_did_it(self):
        self.activate("alice", 'require "fileinto";\r\nif true {\r\n  fileinto "Archive";\r\n}')
        self.send(letter("traced"))
        def told():
            found = self.server.cli_json("trace", "--subject", "traced")
            text = str(self.server.cli_json("trace", "--id", found[0]["id"])) if found else ""
            return text if "fileinto" in text else None
        self.assertIn("main line 3: fileinto Archive", eventually(told) or "")


class RefusalTest(SieveTest):
    def test_reject_is_said_in_the_session(self):
        self.activate("alice", 'require "reject"; reject "Not today.\r\nPlease.";')
        with self.assertRaises(smtplib.SMTPDataError) as caught:
            self.send(letter())
        self.assertEqual(caught.exception.smtp_code, 550)
        self.assertIn(b"5.7.1", caught.exception.smtp_error)
        self.assertIn(b"Not today.", caught.exception.smtp_error)
        self.assertEqual(self.subjects("alice"), [])

    def test_ereject_over_lmtp_is_said_of_its_recipient(self):
        self.activate("alice", 'require "ereject"; ereject "No.";')
        with self.server.raw("lmtp") as raw:
            raw.reply()
            for line in ("LHLO client.test", "MAIL FROM:<ani@elsewhere.test>", "RCPT TO:<alice@example.test>",
                         "RCPT TO:<bob@example.test>", "DATA"):
                raw.send(line + "\r\n")
                self.assertIn(raw.reply()[:1], (b"2", b"3"))
            raw.send(letter() + b".\r\n")
            self.assertEqual([raw.reply()[:9] for _ in range(2)], [b"550 5.7.1", b"250 2.0.0"])
        self.assertEqual(self.subjects("bob"), ["Hello"])

    def test_where_others_take_it_the_sender_gets_a_report(self):
        self.activate("alice", 'require "reject"; reject "I am not here any more.";')
        self.send(letter(sender="carol@example.test"), ["alice@example.test", "bob@example.test"], "carol@example.test")
        [(_, report)] = eventually(lambda: self.messages("carol"))
        self.assertEqual(report.get_content_type(), "multipart/report")
        self.assertIn("I am not here any more.", report.as_string())
        self.assertEqual(self.subjects("bob"), ["Hello"])


class AnswerTest(SieveTest):
    VACATION = 'require "vacation"; vacation :days 3 :subject "Away \u00fc" "I am away until Monday. \u00fc";'

    def test_a_vacation_answer_goes_once_to_each_sender(self):
        self.activate("alice", self.VACATION)
        for subject in ("one", "two"):
            self.send(letter(subject, sender="carol@example.test"), sender="carol@example.test")
        self.send(letter("three", sender="bob@example.test"), sender="bob@example.test")
        [(_, answer)] = eventually(lambda: self.messages("carol"))
        self.assertEqual(answer["Subject"], "Away \u00fc")
        self.assertEqual(answer["Auto-Submitted"], "auto-replied (vacation)")
        self.assertEqual(answer["In-Reply-To"], "<one@elsewhere.test>")
        self.assertEqual(answer["Return-Path"], "<>")
        self.assertEqual(answer["From"].addresses[0].addr_spec, "alice@example.test")
        self.assertIn("until Monday. \u00fc", answer.get_content())
        self.assertEqual(len(eventually(lambda: self.messages("bob"))), 1)
        self.assertEqual(len(self.messages("alice")), 3)

    def test_lists_robots_and_those_not_addressed_hear_nothing(self):
        self.activate("alice", 'require "vacation"; vacation :handle "quiet" "Away.";')
        quiet = [letter("list", sender="carol@example.test", extra="List-Id: <l.example.test>\r\n"),
                 letter("robot", sender="carol@example.test", extra="Auto-Submitted: auto-generated\r\n"),
                 letter("bulk", sender="carol@example.test", extra="Precedence: bulk\r\n"),
                 letter("blind", sender="carol@example.test", to="others@example.test")]
        for message in quiet:
            self.send(message, sender="carol@example.test")
        self.send(letter("null", sender="carol@example.test"), sender="")
        self.send(letter("person", sender="carol@example.test"), sender="carol@example.test")
        eventually(lambda: self.messages("carol"))
        self.assertEqual([m["In-Reply-To"] for _, m in self.messages("carol")], ["<person@elsewhere.test>"])
        self.assertEqual(len(self.messages("alice")), 6)

    def test_two_who_are_away_do_not_answer_each_other(self):
        self.activate("alice", 'require "vacation"; vacation :handle "loop" "Alice is away.";')
        self.activate("bob", 'require "vacation"; vacation :handle "loop" "Bob is away.";')
        self.send(letter("loop", sender="bob@example.test"), sender="bob@example.test")
        eventually(lambda: self.messages("bob"))
        self.assertEqual((len(self.messages("alice")), len(self.messages("bob"))), (1, 1))

    def test_a_notice_by_mail(self):
        self.activate("alice", 'require "enotify"; notify :importance "1" :message "New: mail" "mailto:bob@example.test?body=Look%20here";')
        self.send(letter("notice"))
        [(_, notice)] = eventually(lambda: self.messages("bob"))
        self.assertEqual((notice["Subject"], notice["Importance"]), ("New: mail", "high"))
        self.assertTrue(notice["Auto-Submitted"].startswith("auto-notified"))
        self.assertEqual(notice.get_content().strip(), "Look here")
        self.assertEqual(self.subjects("alice"), ["notice"])


class RedirectTest(SieveTest):
    def test_redirect_to_somebody_here(self):
        self.activate("alice", 'redirect "bob@example.test";')
        self.send(letter())
        [(_, message)] = eventually(lambda: self.messages("bob"))
        self.assertEqual(self.subjects("alice"), [])
        self.assertEqual(message["Delivered-To"], "alice@example.test")
        self.assertEqual(message["Return-Path"], "<ani@elsewhere.test>")

    def test_redirect_copy_to_another_server_goes_under_our_name(self):
        self.activate("alice", 'require "copy"; redirect :copy "friend@elsewhere.test";')
        self.send(letter())
        self.assertEqual(self.subjects("alice"), ["Hello"])
        [entry] = eventually(lambda: self.server.cli_json("queue", "list"))
        self.assertEqual(entry["recipient"], "friend@elsewhere.test")
        self.assertRegex(entry["sender"], r"^SRS0=.*@example\.test$")
        self.server.cli("queue", "delete", "--all")

    def test_a_circle_of_redirects_ends_and_the_mail_is_kept(self):
        self.activate("alice", 'redirect "bob@example.test";')
        self.activate("bob", 'redirect "carol@example.test";')
        self.activate("carol", 'redirect "alice@example.test";')
        self.send(letter())
        eventually(lambda: self.messages("alice"))
        self.assertEqual([len(self.messages(u)) for u in ("alice", "bob", "carol")], [1, 0, 0])

    def test_a_redirect_to_oneself_is_a_keep(self):
        self.activate("alice", 'redirect "alice@example.test";')
        self.send(letter())
        self.assertEqual(eventually(lambda: self.subjects("alice")), ["Hello"])

    def test_a_redirect_to_nobody_keeps_the_mail(self):
        self.activate("alice", 'redirect "nobody@example.test";')
        self.send(letter())
        self.assertEqual(self.subjects("alice"), ["Hello"])


class MemoryTest(SieveTest):
    def test_a_duplicate_is_seen(self):
        self.activate("alice", 'require ["duplicate", "fileinto"]; if duplicate { fileinto "Archive"; }')
        for _ in range(3):
            self.send(letter("twice"))
        self.assertEqual(self.subjects("alice"), ["twice"])
        self.assertEqual(self.subjects("alice", "Archive"), ["twice", "twice"])

    def test_mailbox_tests_and_annotations(self):
        self.activate("alice", 'require ["mailbox", "special-use", "mboxmetadata", "servermetadata", "fileinto", "imap4flags"];\r\n'
                      'if mailboxexists ["Archive", "INBOX"] { addflag "exists"; }\r\n'
                      'if not mailboxexists "Nowhere" { addflag "missing"; }\r\n'
                      'if specialuse_exists "\\\\Sent" { addflag "special"; }\r\n'
                      'if metadata :is "INBOX" "/private/comment" "mine" { addflag "noted"; }')
        with self.server.imap("alice") as c:
            c.xatom("SETMETADATA", 'INBOX (/private/comment "mine")')
        self.send(letter())
        [(flags, _)] = self.messages("alice")
        self.assertEqual(flags, {"exists", "missing", "special", "noted"})


if __name__ == "__main__":
    unittest.main()
