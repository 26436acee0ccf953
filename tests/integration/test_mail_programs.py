"""Mail programs at work: offlineimap, neomutt, fetchmail, imapflow, and every method of Python's imaplib and poplib."""

import email
import imaplib
import mailbox
import os
import poplib
import pty
import re
import select
import shutil
import subprocess
import time
import unittest

from harness import PASSWORD, ROOT
from imap_wire import Session
import test_clients

MODULES = ROOT / "build/imapflow/node_modules"


def letter(subject, body="Hello.\r\n"):
    return (f"From: a@elsewhere.test\r\nTo: alice@example.test\r\nSubject: {subject}\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n"
            f"Message-ID: <{subject.replace(' ', '.')}@elsewhere.test>\r\n\r\n{body}").encode()


class ProgramTest(test_clients.ClientTest):
    def fill(self, user, subjects, mailbox_name="INBOX"):
        with Session(self.server, user) as s:
            for subject in subjects:
                s.append(mailbox_name, letter(subject))

    def flags(self, user, mailbox_name="INBOX"):
        """Flags by subject."""
        with self.server.imap(user) as c:
            c.select(mailbox_name, readonly=True)
            data = c.fetch("1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (Subject)])")[1]
            return {re.search(rb"Subject: (.*?)\r", m[1]).group(1).decode(): {f.decode() for f in imaplib.ParseFlags(m[0])}
                    for m in data if isinstance(m, tuple)}


@unittest.skipUnless(shutil.which("offlineimap"), "offlineimap3 is not installed")
class OfflineimapTest(ProgramTest):
    def configure(self, user):
        (self.folder / "offlineimaprc").write_text(f"""
[general]
accounts = a
metadata = {self.folder}/meta
ui = basic
[Account a]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {self.folder}/mail
[Repository far]
type = IMAP
remotehost = localhost
remoteport = {self.server.port('imaps')}
remoteuser = {user}@example.test
remotepass = {PASSWORD}
ssl = yes
sslcacertfile = {self.ca}
""")

    def sync(self):
        self.run_program("offlineimap", "-o", "-c", str(self.folder / "offlineimaprc"))

    def near(self, name="INBOX"):
        return mailbox.Maildir(str(self.folder / "mail" / name), create=False)

    def find(self, subject, name="INBOX"):
        box = self.near(name)
        (key,) = [k for k, m in box.items() if m["Subject"] == subject]
        return box, key, box[key]

    def test_both_sides_follow_each_other(self):
        subjects = [f"letter {i}" for i in range(40)]
        self.fill("alice", subjects)
        self.configure("alice")
        self.sync()
        self.assertEqual(sorted(m["Subject"] for m in self.near()), sorted(subjects))
        for subject, flag in (("letter 1", "S"), ("letter 2", "F"), ("letter 4", "RS")):
            box, key, message = self.find(subject)
            message.set_subdir("cur")
            message.set_flags(flag)
            box[key] = message
        box, key, _ = self.find("letter 3")
        box.remove(key)
        self.near().add(mailbox.MaildirMessage(letter("from here").replace(b"\r\n", b"\n")))
        with self.server.imap("alice") as c:
            c.select("INBOX")
            c.store("11", "+FLAGS", r"(\Flagged)")          # letter 10
            c._simple_command("MOVE", "13", "Archive")
            c.store("14", "+FLAGS", r"(\Deleted)")
            c.expunge()
        self.sync()
        far = self.flags("alice")
        self.assertEqual((far["letter 1"], far["letter 2"], far["letter 4"], far["letter 10"]),
                         ({"\\Seen"}, {"\\Flagged"}, {"\\Answered", "\\Seen"}, {"\\Flagged"}))
        self.assertEqual(set(far), {m["Subject"] for m in self.near()})
        self.assertIn("from here", far)
        for gone in ("letter 3", "letter 12", "letter 14"):
            self.assertNotIn(gone, far)
        self.assertIn("F", self.find("letter 10")[2].get_flags())
        self.assertEqual([m["Subject"] for m in self.near("Archive")], ["letter 12"])
        before = self.messages("alice")
        self.sync()
        self.assertEqual(self.messages("alice"), before)


@unittest.skipUnless(shutil.which("neomutt"), "neomutt is not installed")
class NeomuttTest(ProgramTest):
    def configure(self, user):
        url = f"imaps://{user}%40example.test@localhost:{self.server.port('imaps')}"
        (self.folder / "rc").write_text(f"""
set imap_user = "{user}@example.test"
set imap_pass = "{PASSWORD}"
set folder = "{url}/"
set spoolfile = "{url}/INBOX"
set mbox = "{url}/Archive"
set trash = ""
set ssl_ca_certificates_file = "{self.ca}"
set header_cache = "{self.folder}/headers"
set message_cachedir = "{self.folder}/bodies"
set move = no
set delete = yes
set quit = yes
set confirmappend = no
set confirmcreate = no
set mark_old = no
set sleep_time = 0
set wait_key = no
set mail_check = 1
set sort = mailbox-order
set pager_stop = yes
set imap_keepalive = 300
""")
        for name in ("headers", "bodies"):
            (self.folder / name).mkdir()
        return url

    def press(self, keys):
        """Runs neomutt on a terminal of its own with these keys waiting; what it drew."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ.update(HOME=str(self.folder), TERM="xterm", LINES="40", COLUMNS="120", LC_ALL="C.UTF-8")
            os.execvp("neomutt", ["neomutt", "-n", "-F", str(self.folder / "rc"), "-e", f"push \"{keys}\""])
        drawn, deadline = b"", time.monotonic() + 120
        try:
            while time.monotonic() < deadline:
                if select.select([terminal], [], [], 1)[0]:
                    try:
                        data = os.read(terminal, 65536)
                    except OSError:
                        break               # it has ended
                    if not data:
                        break
                    drawn += data
            else:
                os.kill(pid, 9)
                self.fail(f"neomutt does not end: {drawn[-1500:]!r}")
        finally:
            status = os.waitpid(pid, 0)[1]
            os.close(terminal)
        self.assertEqual(status, 0, drawn[-1500:])
        return drawn

    def test_reads_flags_saves_and_deletes(self):
        self.fill("bob", [f"mutt {i}" for i in range(1, 7)])
        url = self.configure("bob")
        drawn = self.press("<first-entry><display-message><exit>"           # 1 is read
                           "<next-entry><flag-message>"                    # 2
                           f"<jump>3<enter><save-message><kill-line>{url}/Archive<enter>"
                           f"<jump>4<enter><copy-message><kill-line>{url}/Drafts<enter>"
                           "<jump>5<enter><delete-message>"
                           "<sync-mailbox><quit>")
        self.assertIn(b"mutt 6", drawn)
        flags = self.flags("bob")
        self.assertEqual(set(flags), {"mutt 1", "mutt 2", "mutt 4", "mutt 6"}, flags)
        self.assertIn("\\Seen", flags["mutt 1"])
        self.assertIn("\\Flagged", flags["mutt 2"])
        self.assertEqual(set(self.flags("bob", "Archive")), {"mutt 3"})
        self.assertEqual(set(self.flags("bob", "Drafts")), {"mutt 4"})
        self.assertTrue(any((self.folder / "headers").rglob("*")))
        self.fill("bob", ["mutt 7"])
        self.assertIn(b"mutt 7", self.press("<last-entry><quit>"))     # from its header cache


@unittest.skipUnless(shutil.which("fetchmail"), "fetchmail is not installed")
class FetchmailTest(ProgramTest):
    def fetch(self, user, protocol, port, *options, more="", status=0):
        rc, out = self.folder / "fetchmailrc", self.folder / "fetched"
        rc.write_text(f'poll localhost protocol {protocol} port {self.server.port(port)} {more}\n  user "{user}@example.test" password "{PASSWORD}"\n'
                      f'  ssl sslcertck sslcertfile "{self.ca}" mda "cat >> {out}; echo =END= >> {out}" {" ".join(options)}\n')
        rc.chmod(0o600)
        self.run_program("fetchmail", "-f", str(rc), "--pidfile", str(self.folder / "pid"), "--idfile", str(self.folder / "ids"), "--nodetach",
                         "--nosyslog", status=status)
        fetched = out.read_text().split("=END=\n")[:-1] if out.exists() else []
        out.unlink(missing_ok=True)
        return [email.message_from_string(m)["Subject"] for m in fetched]

    def test_takes_letters_by_imap(self):
        subjects = [f"imap {i}" for i in range(12)]
        self.fill("carol", subjects)
        self.assertEqual(self.fetch("carol", "IMAP", "imaps", "keep"), subjects)
        self.assertTrue(all("\\Seen" in f for f in self.flags("carol").values()))
        self.assertEqual(self.fetch("carol", "IMAP", "imaps", "keep", status=1), [])
        self.assertEqual(self.fetch("carol", "IMAP", "imaps", "fetchall", "nokeep"), subjects)
        self.assertEqual(self.messages("carol"), {})

    def test_takes_letters_by_pop3(self):
        subjects = [f"pop {i}" for i in range(12)]
        self.fill("dave", subjects)
        self.assertEqual(self.fetch("dave", "POP3", "pop3s", "keep", more="uidl"), subjects)
        self.assertEqual(self.fetch("dave", "POP3", "pop3s", "keep", more="uidl", status=1), [])
        self.fill("dave", ["pop new"])
        self.assertEqual(self.fetch("dave", "POP3", "pop3s", "keep", more="uidl"), ["pop new"])
        self.assertEqual(self.fetch("dave", "POP3", "pop3s", "fetchall", "nokeep"), [*subjects, "pop new"])
        self.assertEqual(self.messages("dave"), {})


@unittest.skipUnless(shutil.which("node") and MODULES.is_dir(), "imapflow is not installed")
class ImapflowTest(ProgramTest):
    def test_a_session_of_imapflow(self):
        result = subprocess.run(["node", str(ROOT / "tests/integration/imapflow/session.js"), str(self.server.port("imaps")),
                                 "alice@example.test", PASSWORD, self.ca], capture_output=True, text=True, timeout=300,
                                env={**os.environ, "NODE_PATH": str(MODULES)})
        self.assertEqual(result.returncode, 0, f"{result.stdout[-2000:]}\n{result.stderr[-4000:]}")
        self.assertIn("resynchronises ok", result.stdout)


class ImaplibTest(ProgramTest):
    """Every command imaplib knows."""

    def ok(self, answer):
        self.assertEqual(answer[0], "OK", answer)
        return answer[1]

    def setUp(self):
        super().setUp()
        self.c = self.server.imap("alice", tls=True)
        self.addCleanup(self.c.shutdown)

    def test_before_log_in(self):
        c = self.server.imap()
        self.assertIn("IMAP4REV1", c.capabilities)
        self.ok(c.noop())
        with self.assertRaises(imaplib.IMAP4.error):
            c.login("alice@example.test", "wrong")
        self.ok(c.authenticate("PLAIN", lambda _: b"\0alice@example.test\0" + PASSWORD.encode()))
        self.assertEqual(c.logout()[0], "BYE")

    def test_log_in_by_cram_is_refused(self):
        c = self.server.imap()
        with self.assertRaises(imaplib.IMAP4.error):
            c.login_cram_md5("alice@example.test", PASSWORD)
        c.logout()

    def test_mailboxes(self):
        c = self.c
        self.ok(c.create("Lib"))
        self.ok(c.create("Lib/Deep"))
        self.ok(c.subscribe("Lib"))
        self.assertIn(b"Lib", b"".join(self.ok(c.lsub())))
        self.ok(c.unsubscribe("Lib"))
        self.assertEqual(len(self.ok(c.list("Lib/", "*"))), 1)
        self.assertIn(b"((", self.ok(c.namespace())[0])
        self.assertRegex(self.ok(c.status("Lib", "(MESSAGES RECENT UIDNEXT UIDVALIDITY UNSEEN)"))[0], rb"MESSAGES 0")
        self.ok(c.rename("Lib/Deep", "Lib/Deeper"))
        self.ok(c.delete("Lib/Deeper"))
        self.ok(c.delete("Lib"))
        self.assertEqual(c.delete("Lib")[0], "NO")
        self.ok(c.enable("CONDSTORE"))

    def test_messages(self):
        c = self.c
        self.ok(c.create("Work"))
        for i in range(4):
            self.ok(c.append("Work", r"(\Draft)" if i == 0 else None, imaplib.Time2Internaldate(1_500_000_000 + i), letter(f"lib {i}")))
        self.assertEqual(self.ok(c.select("Work")), [b"4"])
        self.assertEqual(c.recent()[0], "OK")
        self.ok(c.check())
        self.assertEqual(self.ok(c.search(None, "DRAFT")), [b"1"])
        self.assertEqual(self.ok(c.uid("SEARCH", "CHARSET", "UTF-8", "SUBJECT", '"lib 2"')), [b"3"])
        ((envelope, text), _) = self.ok(c.fetch("2", "(UID RFC822.SIZE BODY.PEEK[])"))
        self.assertEqual(text, letter("lib 1"))
        self.assertEqual(imaplib.Internaldate2tuple(self.ok(c.fetch("1", "INTERNALDATE"))[0]), time.localtime(1_500_000_000))
        self.ok(c.copy("1:2", "Archive"))
        self.ok(c.store("1", "+FLAGS", r"(\Flagged \Deleted)"))
        self.assertEqual(self.ok(c.expunge()), [b"1"])
        self.ok(c.uid("STORE", "3", "FLAGS.SILENT", r"(\Deleted)"))
        self.ok(c.close())
        self.assertEqual(self.ok(c.select("Work", readonly=True)), [b"2"])
        self.ok(c.unselect())
        self.ok(c.xatom("ID", "NIL"))

    def test_sort_and_thread(self):
        c = self.c
        for i in (2, 1, 3):
            self.ok(c.append("Sent", None, None, letter(f"sorted {i}")))
        c.select("Sent")
        if "SORT" in c.capabilities or b"SORT" in self.ok(c.capability())[0].split():
            self.assertEqual(self.ok(c.sort("(SUBJECT)", "UTF-8", "ALL")), [b"2 1 3"])
            self.assertEqual(self.ok(c.uid("SORT", "(REVERSE SUBJECT)", "UTF-8", "ALL")), [b"3 1 2"])
        if b"THREAD=REFERENCES" in self.ok(c.capability())[0].split():
            self.assertEqual(len(re.findall(rb"\d", self.ok(c.thread("REFERENCES", "UTF-8", "ALL"))[0])), 3)

    def test_acl_quota_and_annotations(self):
        c = self.c
        offered = self.ok(c.capability())[0].split()
        if b"ACL" in offered:
            self.ok(c.create("Together"))
            self.ok(c.setacl("Together", "bob@example.test", "lrs"))
            self.assertIn(b"bob@example.test", self.ok(c.getacl("Together"))[0])
            self.assertIn(b"lrs", self.ok(c.myrights("Together"))[0])
            self.ok(c.deleteacl("Together", "bob@example.test"))
        if b"QUOTA" in offered:
            self.ok(c.getquotaroot("INBOX"))
            self.assertIn(c.setquota('""', "(STORAGE 1)")[0], ("OK", "NO"))

    def test_every_line_of_pop3(self):
        self.fill("bob", [f"lines {i}" for i in range(3)])
        c = poplib.POP3_SSL("localhost", self.server.port("pop3s"), context=self.server.tls_context(), timeout=60)
        self.assertIn(b"+OK", c.getwelcome())
        self.assertIn("UIDL", c.capa())
        c.utf8()
        c.user("bob@example.test")
        c.pass_(PASSWORD)
        count, size = c.stat()
        self.assertGreaterEqual(count, 3)
        self.assertEqual(len(c.list()[1]), count)
        self.assertEqual(len(c.uidl()[1]), count)
        self.assertRegex(c.uidl(1), rb"^\+OK 1 ")
        self.assertIn(b"Subject: lines 0", c.retr(1)[1])
        self.assertIn(b"Hello.", c.top(2, 5)[1])
        c.noop()
        c.dele(3)
        c.rset()
        c.dele(2)
        c.quit()
        self.assertEqual(len(self.messages("bob")), count - 1)


if __name__ == "__main__":
    unittest.main()
