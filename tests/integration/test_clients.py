"""Programs that people use, as Debian ships them: swaks, curl, mbsync, and Python's own libraries."""

import email
import email.message
import email.policy
import email.utils
import imaplib
import mailbox
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from harness import PASSWORD, ROOT, ServerTest, eventually
from imap_wire import Session

MESSAGE = b"From: a@elsewhere.test\r\nTo: alice@example.test\r\nSubject: %s\r\n\r\nHello.\r\n"


class ClientTest(ServerTest):
    accounts = ("alice", "bob", "carol", "dave")

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="merpati-client-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.ca = str(self.server.data / "tls/ca.pem")

    def run_program(self, *command, status=0, input=None):
        result = subprocess.run(command, capture_output=True, input=input, timeout=300, env={**os.environ, "HOME": str(self.folder)})
        self.assertEqual(result.returncode, status, f"{' '.join(command)}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}")
        return result.stdout

    def messages(self, user, mailbox="INBOX"):
        """Raw messages by UID."""
        with self.server.imap(user) as c:
            if c.select(mailbox, readonly=True)[0] != "OK" or not int(c.response("EXISTS")[1][0] or 0):
                return {}
            data = c.uid("FETCH", "1:*", "(BODY.PEEK[])")[1]
            return {int(re.search(rb"UID (\d+)", m[0]).group(1)): m[1] for m in data if isinstance(m, tuple)}

    def with_subject(self, user, subject):
        return [m for m in self.messages(user).values() if b"Subject: %s\r\n" % subject.encode() in m]


@unittest.skipUnless(shutil.which("swaks"), "swaks is not installed")
class SwaksTest(ClientTest):
    def swaks(self, port, *options, status=0, to="alice@example.test", sender="s@elsewhere.test"):
        return self.run_program("swaks", "--server", "localhost", "--port", str(self.server.port(port)), "--to", to,
                                "--from", sender, "--helo", "client.test", "--timeout", "60", *options, status=status).decode()

    def test_plain_delivery(self):
        self.swaks("smtp", "--header", "Subject: by swaks", "--body", "first\n.\n..dots\nlast")
        (got,) = self.with_subject("alice", "by swaks")
        self.assertIn(b"first\r\n.\r\n..dots\r\nlast\r\n", got)

    def test_submission_with_starttls_and_auth(self):
        for mechanism in ("PLAIN", "LOGIN"):
            said = self.swaks("submission", "--tls", "--tls-verify", "--tls-ca-path", self.ca, "--auth", mechanism, "--auth-user",
                              "bob@example.test", "--auth-password", PASSWORD, "--header", f"Subject: submitted {mechanism}",
                              sender="bob@example.test")
            self.assertIn("235 ", said)
            (got,) = self.with_subject("alice", f"submitted {mechanism}")
            self.assertIn(b" with ESMTPSA", got)

    def test_submission_over_implicit_tls(self):
        self.swaks("submissions", "--tls-on-connect", "--auth", "PLAIN", "--auth-user", "bob@example.test", "--auth-password", PASSWORD,
                   "--header", "Subject: implicit", sender="bob@example.test")
        self.assertEqual(len(self.with_subject("alice", "implicit")), 1)

    def test_refusals_have_swaks_own_exit_codes(self):
        wrong = ("--auth", "PLAIN", "--auth-user", "bob@example.test", "--auth-password", "wrong")
        self.swaks("submission", "--tls", *wrong, status=28)
        self.swaks("smtp", status=24, to="nobody@example.test")
        self.swaks("smtp", status=24, to="x@elsewhere.test")

    def test_attachment_and_pipelining(self):
        attachment = self.folder / "random.bin"
        attachment.write_bytes(os.urandom(300_000))
        self.swaks("smtp", "--pipeline", "--attach", f"@{attachment}", "--header", "Subject: attached")
        (got,) = self.with_subject("alice", "attached")
        parts = list(email.message_from_bytes(got).walk())
        self.assertEqual(parts[-1].get_payload(decode=True), attachment.read_bytes())

    def test_lmtp(self):
        self.swaks("lmtp", "--protocol", "LMTP", "--header", "Subject: by lmtp")
        self.assertEqual(len(self.with_subject("alice", "by lmtp")), 1)


@unittest.skipUnless(shutil.which("curl"), "curl is not installed")
class CurlTest(ClientTest):
    def curl(self, *options, status=0, input=None):
        return self.run_program("curl", "--silent", "--show-error", "--max-time", "120", "--cacert", self.ca, *options,
                                status=status, input=input)

    def imaps(self, path=""):
        return f"imaps://localhost:{self.server.port('imaps')}/{path}"

    def test_reads_letters_over_imaps(self):
        self.server.deliver("alice@example.test", MESSAGE % b"for curl")
        user = ("--user", f"alice@example.test:{PASSWORD}")
        self.assertIn(b"INBOX", self.curl(*user, self.imaps()))
        self.assertRegex(self.curl(*user, self.imaps("INBOX"), "-X", "EXAMINE INBOX"), rb"\* \d+ EXISTS")
        self.assertRegex(self.curl(*user, self.imaps("INBOX?SUBJECT%20curl")), rb"\* SEARCH \d")
        whole = self.curl(*user, self.imaps("INBOX;UID=1"))
        self.assertTrue(whole.endswith(b"Subject: for curl\r\n\r\nHello.\r\n"))
        self.assertEqual(self.curl(*user, self.imaps("INBOX;UID=1;SECTION=TEXT")), b"Hello.\r\n")
        self.curl("--user", "alice@example.test:wrong", self.imaps(), status=67)

    def test_appends_a_letter(self):
        letter = self.folder / "letter"
        letter.write_bytes(MESSAGE % b"uploaded")
        self.curl("--user", f"bob@example.test:{PASSWORD}", self.imaps("Drafts"), "--upload-file", str(letter))
        self.assertEqual(list(self.messages("bob", "Drafts").values()), [MESSAGE % b"uploaded"])

    def test_sends_a_letter(self):
        letter = self.folder / "letter"
        letter.write_bytes((MESSAGE % b"curled").replace(b"a@elsewhere.test", b"bob@example.test"))
        for scheme, port, more in (("smtp", "submission", ["--ssl-reqd"]), ("smtps", "submissions", [])):
            self.curl(f"{scheme}://localhost:{self.server.port(port)}/client.test", *more, "--user", f"bob@example.test:{PASSWORD}",
                      "--mail-from", "bob@example.test", "--mail-rcpt", "alice@example.test", "--upload-file", str(letter))
        self.assertEqual(len(self.with_subject("alice", "curled")), 2)

    def test_asks_for_health_over_https(self):
        url = f"https://localhost:{self.server.port('https')}/healthz"
        self.assertEqual(self.curl(url), b"ok\n")
        self.assertEqual(self.curl(url, url, url), b"ok\n" * 3)
        self.assertRegex(self.curl("-I", url), rb"^HTTP/1\.1 200 ")
        self.assertEqual(self.curl("--http1.0", url), b"ok\n")


@unittest.skipUnless(shutil.which("mbsync"), "isync is not installed")
class MbsyncTest(ClientTest):
    """Against the build without sanitizers, for there is much to do."""
    binary = ROOT / "build/merpati" if (ROOT / "build/merpati").exists() else None
    COUNT = 10_000
    MANY = 40                           # changed at a time on each side

    def configure(self, user, patterns="*"):
        config = self.folder / "mbsyncrc"
        config.write_text(f"""
IMAPAccount merpati
Host localhost
Port {self.server.port('imaps')}
User {user}@example.test
Pass {PASSWORD}
SSLType IMAPS
CertificateFile {self.ca}

IMAPStore far
Account merpati

MaildirStore near
Path {self.folder}/mail/
Inbox {self.folder}/mail/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns {patterns}
Create Both
Expunge Both
Sync All
SyncState *
""")
        (self.folder / "mail").mkdir(exist_ok=True)
        return config

    def sync(self):
        self.run_program("mbsync", "-c", str(self.folder / "mbsyncrc"), "-a")

    def near(self, name="INBOX"):
        """Message bodies by their file names."""
        box = self.folder / "mail" / name
        return {f: f.read_bytes() for sub in ("cur", "new") for f in (box / sub).glob("*") if f.is_file()}

    def letter(self, i):
        body = "".join(f"line {n} of {i} äöü\r\n" for n in range(i % 40)).encode()
        text = b"From: a@b.test\r\nSubject: letter %d\r\nMessage-ID: <m%d@b.test>\r\n\r\n" % (i, i) + body
        flags = r"(\Seen)" if i % 3 == 0 else "()"
        return f' {flags} {imaplib.Time2Internaldate(1_500_000_000 + i)} {{{len(text)}+}}\r\n'.encode() + text

    def fill(self, user):
        with Session(self.server, user) as s:
            for start in range(0, self.COUNT, 500):
                s.ok(b"APPEND INBOX" + b"".join(self.letter(i) for i in range(start, min(start + 500, self.COUNT))))

    def same(self, user):
        """What lies in the Maildir, beside what the server has: mbsync adds one line of its own and uses bare LF."""
        near = sorted(re.sub(rb"(?m)^X-TUID: .*\n", b"", m) for m in self.near().values())
        far = sorted(m.replace(b"\r\n", b"\n") for m in self.messages(user).values())
        return near == far

    def test_mailbox_comes_down_whole_and_changes_go_both_ways(self):
        self.fill("carol")
        self.configure("carol")
        self.sync()
        self.assertEqual(len(self.near()), self.COUNT)
        self.assertTrue(self.same("carol"))
        seen = [f for f in self.near() if "S" in f.name.rpartition(",")[2]]
        self.assertEqual(len(seen), (self.COUNT + 2) // 3)
        self.change_near()
        self.change_far()
        self.sync()
        self.check_after_changes()
        before = self.messages("carol")
        self.sync()                     # nothing to do, nothing done
        self.assertEqual(self.messages("carol"), before)

    def by_number(self, name="INBOX"):
        """Files by the number of the letter."""
        return {int(re.search(rb"\nSubject: letter (\d+)\n", m).group(1)): f for f, m in self.near(name).items()}

    def numbers(self, start):
        return range(start, start + self.MANY)

    def flag_near(self, f, flag):
        name, _, flags = f.name.partition(":2,")
        f.rename(f.parent.parent / "cur" / f"{name}:2,{''.join(sorted(set(flags + flag)))}")

    def change_near(self):
        files = self.by_number()
        for start, flag in ((1000, "F"), (1100, "R"), (1200, "T")):     # T: deleted here, expunged there
            for n in self.numbers(start):
                self.flag_near(files[n], flag)
        for n in self.numbers(1300):
            shutil.move(files[n], self.folder / "mail/Archive/new" / re.sub(r",U=\d+", "", files[n].name).partition(":")[0])

    def change_far(self):
        def uids(start):
            return f"{start + 1}:{start + self.MANY}"       # they were stored in order
        with self.server.imap("carol") as c:
            c.select("INBOX")
            c.uid("STORE", uids(2000), "+FLAGS", r"(\Flagged)")
            c.uid("STORE", uids(2100), "-FLAGS", r"(\Seen)")
            c.uid("MOVE", uids(2200), "Trash")
            c.uid("STORE", uids(2300), "+FLAGS", r"(\Deleted)")
            c.expunge()

    def check_after_changes(self):
        self.assertTrue(self.same("carol"))
        uids = {int(m.split(b"Subject: letter ")[1].split(b"\r")[0]): uid for uid, m in self.messages("carol").items()}
        gone = {n for start in (1200, 1300, 2200, 2300) for n in self.numbers(start)}
        self.assertEqual(set(uids), set(range(self.COUNT)) - gone)
        files = self.by_number()
        self.assertEqual(set(files), set(uids))
        with self.server.imap("carol") as c:
            c.select("INBOX", readonly=True)
            for key, flag, wanted in (("FLAGGED", "F", {*self.numbers(1000), *self.numbers(2000)}), ("ANSWERED", "R", {*self.numbers(1100)}),
                                      ("SEEN", "S", {*range(0, self.COUNT, 3)} - {*self.numbers(2100)} - gone)):
                self.assertEqual({int(u) for u in c.uid("SEARCH", None, key)[1][0].split()}, {uids[n] for n in wanted}, key)
                self.assertEqual({n for n, f in files.items() if flag in f.name.rpartition(",")[2]}, wanted, key)
        self.assertEqual(set(self.by_number("Trash")), {*self.numbers(2200)})
        self.assertEqual(set(self.by_number("Archive")), {*self.numbers(1300)})
        self.assertEqual(len(self.messages("carol", "Archive")), self.MANY)

    def test_a_new_folder_goes_up_and_comes_down_under_its_name(self):
        self.configure("dave")
        self.sync()
        with self.server.imap("dave") as c:
            c.create("Work/Invoices")
            c.create('"R&AOk-sum&AOk-s"')
            c.append("Work/Invoices", "", imaplib.Time2Internaldate(1_500_000_000), MESSAGE % b"due")
        box = mailbox.Maildir(str(self.folder / "mail/Near"), create=True)
        box.add(b"Subject: from here\n\nx\n")
        self.sync()
        self.assertEqual(len(self.near("Work/Invoices")), 1)
        self.assertEqual(len(self.messages("dave", "Near")), 1)


class PythonTest(ClientTest):
    """imaplib and smtplib over TLS, the way scripts use them."""

    def test_a_letter_from_submission_to_its_reader(self):
        message = email.message.EmailMessage()
        message["From"], message["To"], message["Subject"] = "bob@example.test", "alice@example.test", "Grüße aus Python"
        message["Date"], message["Message-ID"] = email.utils.localtime(), email.utils.make_msgid(domain="example.test")
        message.set_content("Guten Tag\n")
        message.add_attachment(b"\0\1\2" * 1000, maintype="application", subtype="octet-stream", filename="ünïcode.bin")
        with self.server.smtp("submissions") as c:
            c.login("bob@example.test", PASSWORD)
            self.assertEqual(c.send_message(message), {})
        with self.server.imap("alice", tls=True) as c:
            c.select("INBOX")
            (number,) = c.search(None, "HEADER", "Message-ID", f'"{message["Message-ID"]}"')[1][0].split()
            got = email.message_from_bytes(c.fetch(number, "(RFC822)")[1][0][1], policy=email.policy.default)
            self.assertIn(r"\Seen", imaplib.ParseFlags(c.fetch(number, "(FLAGS)")[1][0])[0].decode())
        self.assertEqual(got["Subject"], "Grüße aus Python")
        self.assertEqual(got.get_body().get_content(), "Guten Tag\r\n")
        (attachment,) = got.iter_attachments()
        self.assertEqual((attachment.get_filename(), attachment.get_content()), ("ünïcode.bin", b"\0\1\2" * 1000))

    def test_folders_flags_copies_and_moves(self):
        with self.server.imap("bob", tls=True) as c:
            self.assertEqual(c.create("Projects")[0], "OK")
            self.assertEqual(c.create("Projects/2026")[0], "OK")
            self.assertEqual(c.subscribe("Projects/2026")[0], "OK")
            for i in range(5):
                self.assertEqual(c.append("Projects", r"(\Flagged)", None, MESSAGE % b"p%d" % i)[0], "OK")
            c.select("Projects")
            self.assertEqual(c.copy("1:2", "Projects/2026")[0], "OK")
            self.assertEqual(c._simple_command("MOVE", "3", "Projects/2026")[0], "OK")
            self.assertEqual(c.response("EXPUNGE")[1], [b"3"])
            self.assertEqual(c.store("1", "+FLAGS", r"(\Deleted)")[0], "OK")
            self.assertEqual(c.expunge()[1], [b"1"])
            self.assertEqual(c.status("Projects/2026", "(MESSAGES UNSEEN)")[1], [b'"Projects/2026" (MESSAGES 3 UNSEEN 3)'])
            self.assertEqual(c.rename("Projects/2026", "Done")[0], "OK")
            c.select("Done")
            self.assertEqual(c.search(None, "FLAGGED")[1], [b"1 2 3"])
            c.close()
            self.assertEqual(c.delete("Done")[0], "OK")
            self.assertEqual(c.select("Done")[0], "NO")

    def test_many_at_once_over_tls(self):
        connections = [self.server.imap("dave", tls=True) for _ in range(60)]
        for c in connections:
            self.assertEqual(c.select("INBOX")[0], "OK")
        before = int(connections[0].response("EXISTS")[1][0])
        self.server.deliver("dave@example.test", MESSAGE % b"to all of you")
        for c in connections:
            def told():
                c.noop()
                return c.untagged_responses.get("EXISTS", [b"0"])[-1] == b"%d" % (before + 1)
            self.assertTrue(eventually(told))
            c.logout()


if __name__ == "__main__":
    unittest.main()
