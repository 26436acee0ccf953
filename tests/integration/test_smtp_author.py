"""In whose name people may write, and what becomes of their messages: smtplib, swaks, msmtp and nodemailer submit."""

import email
import email.message
import email.policy
import email.utils
import os
import pathlib
import re
import shutil
import smtplib
import subprocess
import tempfile
import unittest

from harness import PASSWORD, ROOT, ServerTest, eventually

MODULES = ROOT / "build/imapflow/node_modules"


class AuthorTest(ServerTest):
    accounts = ("ani", "budi", "citra", "dewi")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cli = cls.server.cli
        for name in ("help", "info"):
            cli("account", "add", f"{name}@example.test", "--kind", "shared")
        cli("alias", "add", "ani.alias@example.test", "ani@example.test")
        cli("account", "grants", "add", "help@example.test", "ani@example.test")
        cli("account", "grants", "add", "budi@example.test", "ani@example.test", "--on-behalf")

    def submit(self, text, user="ani", to=("citra@example.test",), sender=None, options=()):
        with self.server.smtp("submission") as s:
            s.login(f"{user}@example.test", PASSWORD)
            return s.sendmail(sender or f"{user}@example.test", list(to), text.replace("\n", "\r\n"), mail_options=list(options))

    def refused(self, text, **kw):
        with self.assertRaises(smtplib.SMTPResponseException) as caught:
            self.submit(text, **kw)
        return caught.exception.smtp_code, caught.exception.smtp_error.decode()

    def messages(self, user, subject, mailbox="INBOX"):
        """Those with the subject: (flags, raw)."""
        with self.server.imap(user) as c:
            self.assertEqual(c.select(mailbox, readonly=True)[0], "OK")
            numbers = c.search(None, "SUBJECT", f'"{subject}"')[1][0].decode().replace(" ", ",")
            if not numbers:
                return []
            data = c.fetch(numbers, "(FLAGS BODY.PEEK[])")[1]
            return [(m[0].decode(), m[1]) for m in data if isinstance(m, tuple)]

    def only(self, user, subject, mailbox="INBOX"):
        found = self.messages(user, subject, mailbox)
        self.assertEqual(len(found), 1)
        return email.message_from_bytes(found[0][1], policy=email.policy.default)


class NamesTest(AuthorTest):
    def test_own_addresses_and_their_details_may_stand_in_from(self):
        for i, author in enumerate(("ani@example.test", "ANI+shop@Example.Test", "Ani <ani.alias@example.test>", '"ani"@example.test')):
            self.submit(f"From: {author}\nSubject: own {i}.\n\nx\n")
            got = self.only("citra", f"own {i}.")
            self.assertEqual(got["From"].addresses[0].addr_spec, email.utils.parseaddr(author)[1].replace('"', ""))
            self.assertIsNone(got["Sender"])

    def test_other_names_are_refused_and_told_what_to_do(self):
        for field, text in (("From", "From: citra@example.test"), ("From", "From: ani@example.test, citra@example.test"),
                            ("From", "From: ceo@example.test"), ("From", "From: president@elsewhere.test"),
                            ("From", "From: All: ani@example.test, citra@example.test;"),
                            ("Sender", "From: ani@example.test\nSender: citra@example.test"),
                            ("Sender", "From: ani@example.test\nSender: x@elsewhere.test"),
                            ("From", 'From: "ani@example.test" <citra@example.test>'),
                            ("From", "From: =?utf-8?q?ani?= <citra@example.test>"),
                            ("From", "From : citra@example.test")):
            with self.subTest(text=text):
                code, said = self.refused(f"{text}\nSubject: forged\n\nx\n")
                self.assertEqual(code, 550)
                self.assertRegex(said, rf"^5\.7\.1 the field {field} names \S+@\S+, as which you may not send; .*own.*administrator")
        self.assertEqual(self.messages("citra", "forged"), [])

    def test_a_message_without_one_author_is_refused(self):
        for text in ("Subject: x\n\nx\n", "From: Ani\n\nx\n", "From: ani@example.test\nFrom: ani@example.test\n\nx\n", "\nno header\n",
                     "From: ani@example.test\nSender: ani@example.test\nSender: ani@example.test\n\nx\n"):
            with self.subTest(text=text):
                code, said = self.refused(text)
                self.assertEqual((code, said[:5]), (554, "5.6.0"))

    def test_a_grant_to_send_as_shows_nobody_else(self):
        self.submit("From: Help <help@example.test>\nSubject: as help.\n\nx\n", sender="help@example.test")
        got = self.only("citra", "as help.")
        self.assertIsNone(got["Sender"])
        self.assertNotIn("ani@", got.as_string())
        self.assertTrue(got["Message-ID"].endswith("@example.test>"))
        self.refused("From: help@example.test\nSubject: x\n\nx\n", user="citra")

    def test_on_behalf_of_somebody_names_who_wrote(self):
        self.submit("From: budi@example.test\nSubject: behalf 1.\n\nx\n")
        self.assertEqual(str(self.only("citra", "behalf 1.")["Sender"]), "ani@example.test")
        self.submit("From: budi@example.test\nSender: Ani <ani.alias@example.test>\nSubject: behalf 2.\n\nx\n")
        self.assertEqual(str(self.only("citra", "behalf 2.")["Sender"]), "Ani <ani.alias@example.test>")
        self.submit("From: budi@example.test\nSender: help@example.test\nSubject: behalf 3.\n\nx\n")
        self.assertEqual(str(self.only("citra", "behalf 3.")["Sender"]), "ani@example.test")
        code, said = self.refused("From: ani@example.test\nSender: budi@example.test\nSubject: behalf 4.\n\nx\n")
        self.assertEqual(code, 550)
        self.assertIn("on whose behalf you may write: put that into From", said)

    def test_of_several_authors_one_is_the_sender(self):
        self.submit("From: help@example.test, ani@example.test\nSubject: two.\n\nx\n")
        self.assertEqual(str(self.only("citra", "two.")["Sender"]), "help@example.test")

    def test_a_grant_ends_when_it_is_taken_back(self):
        text = "From: info@example.test\nSubject: granted {}.\n\nx\n"
        self.refused(text.format(1), user="dewi")
        self.server.cli("account", "grants", "add", "info@example.test", "dewi@example.test")
        self.submit(text.format(2), user="dewi")
        self.server.cli("account", "grants", "remove", "info@example.test", "dewi@example.test")
        self.refused(text.format(3), user="dewi")
        self.assertEqual([len(self.messages("citra", f"granted {i}.")) for i in (1, 2, 3)], [0, 1, 0])

    def test_strangers_letters_may_be_resent_and_our_peoples_need_a_grant(self):
        letter = "From: {}\nDate: Mon, 23 Nov 2026 10:00:00 +0000\nMessage-ID: <1@elsewhere.test>\nSubject: {}\n\nx\n"
        resent = "Resent-From: {}\nResent-Date: Mon, 23 Nov 2026 11:00:00 +0000\nResent-To: citra@example.test\n"
        self.submit(resent.format("ani@example.test") + letter.format("x@elsewhere.test", "resent 1."))
        got = self.only("citra", "resent 1.")
        self.assertEqual((str(got["From"]), got["Sender"], got["Resent-Sender"]), ("x@elsewhere.test", None, None))
        self.submit(resent.format("budi@example.test") + letter.format("x@elsewhere.test", "resent 2."))
        self.assertEqual(str(self.only("citra", "resent 2.")["Resent-Sender"]), "ani@example.test")
        for by, author in (("citra@example.test", "x@elsewhere.test"), ("x@elsewhere.test", "x@elsewhere.test"),
                           ("ani@example.test", "citra@example.test"), ("ani@example.test", "ceo@example.test")):
            with self.subTest(by=by, author=author):
                self.assertEqual(self.refused(resent.format(by) + letter.format(author, "resent 3."))[0], 550)
        self.submit(resent.format("ani@example.test") + letter.format("help@example.test", "resent 4."))
        self.assertEqual(len(self.messages("citra", "resent 4.")), 1)

    def test_who_is_named_in_a_refusal_cannot_write_the_answer(self):
        with self.server.smtp("submission") as s:
            s.login("ani@example.test", PASSWORD)
            s.mail("ani@example.test")
            s.rcpt("citra@example.test")
            code, said = s.data(b'From: "a\r\n\t250 ok\xff"@example.test\r\n\r\nx\r\n')
            self.assertEqual(code, 550)
            self.assertTrue(said.isascii() and b"\n" not in said)
            self.assertEqual(s.noop()[0], 250)


class CompletedTest(AuthorTest):
    def test_what_is_missing_is_added_and_blind_recipients_are_taken_out(self):
        self.submit("From: ani@example.test\nTo: citra@example.test\nBcc: dewi@example.test,\n\tbudi@example.test\nSubject: blind.\n\nx\n",
                    to=("citra@example.test", "dewi@example.test"))
        for user in ("citra", "dewi"):
            got = self.only(user, "blind.")
            self.assertIsNone(got["Bcc"])
            self.assertNotIn("budi", got.as_string())
            self.assertIsNotNone(email.utils.parsedate_to_datetime(got["Date"]))
            self.assertTrue(re.fullmatch(r"<[0-9A-Z]{13}\.\S+@example\.test>", got["Message-ID"]))

    def test_what_is_there_stays_byte_for_byte(self):
        text = ("From: ani@example.test\nDate: Mon, 23 Nov 2026 10:00:00 +0700\nMessage-ID: <kept@client.test>\n"
                "Subject: whole.\nX-Odd :\t two  spaces \n\n\n..x\n")
        self.submit(text)
        self.assertTrue(self.messages("citra", "whole.")[0][1].endswith(text.replace("\n", "\r\n").encode()))

    def test_the_body_is_the_same_whatever_its_size(self):
        for size in (0, 1, 70000, 5000000):
            body = ("0123456789" * 7 + "\r\n") * (size // 72) + "y" * (size % 72)
            self.submit(f"From: ani@example.test\nSubject: size {size}.\nBcc: dewi@example.test\n\n{body}".replace("\r\n", "\n"))
            raw = self.messages("citra", f"size {size}.")[0][1]
            self.assertEqual(raw.partition(b"\r\n\r\n")[2].rstrip(b"\r\n").decode(), body.rstrip("\r\n"))

    def test_identities_do_not_repeat(self):
        for _ in range(3):
            self.submit("From: ani@example.test\nSubject: identity.\n\nx\n")
        found = {email.message_from_bytes(raw)["Message-ID"] for _, raw in self.messages("citra", "identity.")}
        self.assertEqual(len(found), 3)

    def test_who_has_not_logged_in_is_not_corrected(self):
        self.server.deliver("citra@example.test", b"From: ani@example.test\r\nSubject: plain.\r\nBcc: citra@example.test\r\n\r\nx\r\n")
        got = self.only("citra", "plain.")
        self.assertIsNotNone(got["Bcc"])
        self.assertIsNone(got["Message-ID"])


class SentCopyTest(AuthorTest):
    accounts = ("ani", "budi", "citra", "eka")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cli = cls.server.cli
        cli("account", "add", "desk@example.test", "--kind", "shared", "--password-stdin", input=PASSWORD + "\n")
        cli("account", "grants", "add", "desk@example.test", "eka@example.test", "ani@example.test")
        cli("account", "sent-copy", "eka@example.test", "own")
        cli("account", "sent-copy", "desk@example.test", "both")

    def test_own_mail_is_filed_where_it_is_wished(self):
        self.submit("From: eka@example.test\nSubject: filed.\nBcc: budi@example.test\n\nx\n", user="eka")
        ((flags, raw),) = self.messages("eka", "filed.", "Sent")
        self.assertIn("\\Seen", flags)
        self.assertIn(b"\r\nMessage-ID: ", raw)
        self.assertEqual(self.messages("eka", "filed."), [])
        self.submit("From: ani@example.test\nSubject: unfiled.\n\nx\n")
        self.assertEqual(self.messages("ani", "unfiled.", "Sent"), [])

    def test_a_shared_address_files_what_others_send_as_it(self):
        self.submit("From: desk@example.test\nSubject: from the desk.\n\nx\n", user="eka")
        for user in ("eka", "desk"):
            self.assertEqual(len(self.messages(user, "from the desk.", "Sent")), 1)
        self.submit("From: desk@example.test\nSubject: desk again.\n\nx\n")
        self.assertEqual([len(self.messages(u, "desk again.", "Sent")) for u in ("ani", "desk")], [0, 1])
        self.submit("From: desk@example.test\nSubject: by itself.\n\nx\n", user="desk")
        self.assertEqual(len(self.messages("desk", "by itself.", "Sent")), 1)

    def test_who_writes_to_themselves_gets_both(self):
        self.submit("From: eka@example.test\nSubject: note.\n\nx\n", user="eka", to=("eka@example.test",))
        self.assertEqual([len(self.messages("eka", "note.", m)) for m in ("INBOX", "Sent")], [1, 1])

    def test_what_is_refused_is_not_filed(self):
        self.refused("From: ani@example.test\nSubject: refused.\n\nx\n", user="eka")
        self.assertEqual(self.messages("eka", "refused.", "Sent"), [])


class UndoTest(AuthorTest):
    def waiting(self, user):
        return [e for e in self.server.cli_json("queue", "list") if e["sender"] == f"{user}@example.test"]

    def test_what_is_sent_waits_and_can_be_called_back(self):
        self.server.cli("account", "undo-send", "ani@example.test", "1h")
        self.server.cli("account", "sent-copy", "ani@example.test", "own")
        self.submit("From: ani@example.test\nSubject: called back.\n\nx\n")
        self.assertEqual(self.messages("citra", "called back."), [])
        self.assertEqual(len(self.messages("ani", "called back.", "Sent")), 1)
        self.assertEqual(len(self.waiting("ani")), 1)
        self.server.cli("queue", "delete", "--sender", "ani@example.test")
        self.assertEqual(self.waiting("ani"), [])
        self.assertEqual(self.messages("citra", "called back."), [])

    def test_what_is_not_called_back_goes_when_its_time_has_come(self):
        self.server.cli("account", "undo-send", "budi@example.test", "1s")
        self.submit("From: budi@example.test\nSubject: goes.\n\nx\n", user="budi")
        self.assertTrue(eventually(lambda: self.messages("citra", "goes.")))
        self.server.cli("account", "undo-send", "budi@example.test", "off")
        self.submit("From: budi@example.test\nSubject: at once.\n\nx\n", user="budi")
        self.assertEqual(len(self.messages("citra", "at once.")), 1)

    def test_a_time_that_the_client_gave_wins(self):
        self.server.cli("account", "undo-send", "dewi@example.test", "1h")
        self.submit("From: dewi@example.test\nSubject: own time.\n\nx\n", user="dewi", options=["HOLDFOR=1"])
        self.assertTrue(eventually(lambda: self.messages("citra", "own time.")))

    def test_only_times_that_make_sense_are_taken(self):
        for time in ("soon", "0s", "2d", "-5s"):
            self.assertEqual(self.server.cli("account", "undo-send", "citra@example.test", time, check=False).returncode, 2)
        self.assertEqual(self.server.cli("account", "undo-send", "nobody@example.test", "5s", check=False).returncode, 1)
        self.assertEqual(self.server.cli_json("account", "show", "citra@example.test")["undo_send_ms"], 0)


class UncheckedTest(AuthorTest):
    settings = {"submission_check_author": "no"}

    def test_odd_programs_are_let_through_and_completed(self):
        for i, author in enumerate(("root", "", "scanner@printer", "citra@example.test", "Ani <ani@example.test>, x")):
            self.submit(f"From: {author}\nSubject: odd {i}.\nBcc: budi@example.test\n\nx\n")
            got = self.only("citra", f"odd {i}.")
            self.assertIsNone(got["Bcc"])
            self.assertIsNone(got["Sender"])
            self.assertTrue(got["Message-ID"].endswith("@example.test>"))
        self.assertEqual(self.refused("\nno header at all\n")[0], 554)

    def test_the_envelope_is_checked_all_the_same(self):
        with self.assertRaises(smtplib.SMTPSenderRefused):
            self.submit("From: ani@example.test\n\nx\n", sender="citra@example.test")


class ProgramsTest(AuthorTest):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="merpati-author-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.ca = str(self.server.data / "tls/ca.pem")

    def run_program(self, *command, status=0, input=None):
        result = subprocess.run(command, capture_output=True, text=True, input=input, timeout=300,
                                env={**os.environ, "HOME": str(self.folder), "NODE_PATH": str(MODULES), "NODE_EXTRA_CA_CERTS": self.ca})
        self.assertEqual(result.returncode, status, f"{' '.join(command)}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}")
        return result.stdout + result.stderr

    @unittest.skipUnless(shutil.which("swaks"), "swaks is not installed")
    def test_swaks_submits_and_is_refused(self):
        command = ["swaks", "--server", "localhost", "--port", str(self.server.port("submission")), "--tls", "--tls-ca-path", self.ca,
                   "--tls-verify", "--auth", "PLAIN", "--auth-user", "ani@example.test", "--auth-password", PASSWORD, "--helo",
                   "client.test", "--to", "citra@example.test", "--from", "ani@example.test"]
        self.run_program(*command, "--header", "Subject: by swaks.", "--header", "Bcc: budi@example.test")
        got = self.only("citra", "by swaks.")
        self.assertIsNone(got["Bcc"])
        self.assertIn("with ESMTPSA", got["Received"])
        said = self.run_program(*command, "--h-From", "citra@example.test", status=26)
        self.assertIn("550 5.7.1 the field From names citra@example.test", said)

    @unittest.skipUnless(shutil.which("msmtp"), "msmtp is not installed")
    def test_msmtp_submits_and_is_refused(self):
        config = self.folder / "msmtprc"
        config.write_text(f"defaults\nauth on\ntls on\ntls_trust_file {self.ca}\nhost localhost\nuser ani@example.test\n"
                          f"from ani@example.test\npassword {PASSWORD}\naccount starttls\nport {self.server.port('submission')}\n"
                          f"account implicit\nport {self.server.port('submissions')}\ntls_starttls off\n")
        config.chmod(0o600)
        for account in ("starttls", "implicit"):
            command = ["msmtp", "-C", str(config), "-a", account, "citra@example.test"]
            self.run_program(*command, input=f"From: Ani <ani@example.test>\nSubject: msmtp {account}.\nBcc: dewi@example.test\n\nhi\n")
            got = self.only("citra", f"msmtp {account}.")
            self.assertIsNone(got["Bcc"])
            self.assertEqual(got.get_content().strip(), "hi")
            said = self.run_program(*command, status=69, input="From: citra@example.test\nSubject: no\n\nhi\n")
            self.assertIn("as which you may not send", said)

    @unittest.skipUnless(shutil.which("node") and (MODULES / "nodemailer").is_dir(), "nodemailer is not installed")
    def test_nodemailer_submits_and_is_refused(self):
        said = self.run_program("node", str(ROOT / "tests/integration/nodemailer/submit.js"), str(self.server.port("submission")),
                                str(self.server.port("submissions")), PASSWORD)
        self.assertIn("done", said)
        for way in ("STARTTLS", "TLS", "pooled 0", "pooled 1", "pooled 2"):
            got = self.only("citra", f"nodemailer {way}.")
            self.assertEqual(got["Sender"], None)
            self.assertTrue(got["Message-ID"])
        got = self.only("dewi", "nodemailer TLS.")
        self.assertIsNone(got["Bcc"])
        self.assertEqual([p.get_filename() for p in got.iter_attachments()], ["surat \u2013 1.txt"])


if __name__ == "__main__":
    unittest.main()
