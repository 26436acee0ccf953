"""ManageSieve: every command, what it refuses, whose scripts they are; and clients that nobody here wrote."""

import base64
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from harness import PASSWORD, ServerTest
from scram_client import Scram, b64
from sieve_wire import ManageSieve, literal, quoted

GOOD = 'require ["fileinto"];\r\nif header :contains "subject" "list" { fileinto "Lists"; }\r\n'
BAD = 'require ["fileinto"];\r\nif header :contains "subject" { fileinto "Lists"; }\r\n'


class ManageSieveTest(ServerTest):
    accounts = ("alice", "bob", "carol", "dave")

    def connect(self, user=None, **kw):
        m = ManageSieve(self.server, user, **kw)
        self.addCleanup(m.close)
        return m

    def empty(self, user):
        m = self.connect(user)
        m.ask(b'SETACTIVE ""')
        for tokens in m.ask(b"LISTSCRIPTS").data:
            self.assertEqual(m.ask(b"DELETESCRIPT " + quoted(tokens[0])).status, "OK")
        return m


class SessionTest(ManageSieveTest):
    def test_the_greeting_says_what_there_is(self):
        m = self.connect()
        said = m.capabilities(m.greeting)
        self.assertEqual(said["VERSION"], "1.0")
        self.assertEqual(said["NOTIFY"], "mailto")
        self.assertIn("STARTTLS", said)
        self.assertIn("PLAIN", said["SASL"].split())
        for name in ("fileinto", "vacation", "imap4flags", "regex", "include", "mime"):
            self.assertIn(name, said["SIEVE"].split())
        for name in ("imapsieve", "processcalendar", "extlists"):
            self.assertNotIn(name, said["SIEVE"].split())
        self.assertNotIn("OWNER", said)
        self.assertEqual(said, m.capabilities())

    def test_after_log_in_the_owner_is_named_and_no_mechanism(self):
        said = self.connect("alice").capabilities()
        self.assertEqual(said["OWNER"], "alice@example.test")
        self.assertEqual(said["SASL"], "")

    def test_starttls_says_the_capabilities_anew(self):
        m = self.connect("alice", tls=True)
        said = m.capabilities(m.greeting)
        self.assertNotIn("STARTTLS", said)
        self.assertIn("SCRAM-SHA-256-PLUS", said["SASL"].split())
        self.assertEqual(m.ask(b"LISTSCRIPTS").status, "OK")

    def test_what_was_sent_ahead_of_tls_is_never_heard(self):
        m = self.connect()
        m.send(b"STARTTLS\r\nNOOP \"ahead\"\r\n")
        self.assertEqual(m.answer().status, "OK")
        self.assertEqual(m.file.read(), b"")

    def test_scram_with_challenges_as_strings(self):
        m = self.connect()
        scram = Scram("alice@example.test", PASSWORD)
        m.send(b'AUTHENTICATE "SCRAM-SHA-256" ' + quoted(b64(scram.first())) + b"\r\n")
        m.send(literal(b64(scram.final(base64.b64decode(m.line()[0])))) + b"\r\n")
        scram.check(base64.b64decode(m.line()[0]))
        self.assertEqual(m.ask(b'""').status, "OK")
        self.assertEqual(m.ask(b"LISTSCRIPTS").status, "OK")

    def test_a_wrong_password_and_a_change_of_mind(self):
        m = self.connect()
        self.assertEqual(m.login("alice", "wrong").status, "NO")
        m.send(b'AUTHENTICATE "PLAIN"\r\n')
        self.assertEqual(m.line(), [b""])
        answer = m.ask(b'"*"')
        self.assertEqual((answer.status, answer.text), ("NO", "authentication was called off"))
        self.assertEqual(m.login("alice").status, "OK")

    def test_unauthenticate_leads_to_another_account(self):
        m = self.empty("alice")
        m.put("of alice", GOOD)
        self.assertEqual(m.ask(b"UNAUTHENTICATE").status, "OK")
        self.assertEqual(m.ask(b"LISTSCRIPTS").status, "NO")
        self.assertEqual(m.login("bob").status, "OK")
        self.assertNotIn([b"of alice"], m.ask(b"LISTSCRIPTS").data)

    def test_noop_and_logout(self):
        m = self.connect()
        self.assertEqual(m.ask(b"NOOP").status, "OK")
        m.send(b'NOOP "a \\"b\\""\r\n')
        self.assertEqual(m.file.readline(), b'OK (TAG "a \\"b\\"") "done"\r\n')
        self.assertEqual(m.ask(b"LOGOUT").status, "OK")
        self.assertEqual(m.file.read(), b"")

    def test_a_changed_password_ends_the_session(self):
        m = self.connect("dave")
        self.server.cli("account", "password", "dave@example.test", "--password-stdin", input="another\n")
        self.assertEqual(m.answer().status, "BYE")
        self.assertEqual(m.file.read(), b"")


class ScriptTest(ManageSieveTest):
    def test_scripts_come_and_go(self):
        m = self.empty("alice")
        self.assertEqual(m.put("main", GOOD).status, "OK")
        self.assertEqual(m.put("zweite \u00fc \"x\"", "keep;").status, "OK")
        self.assertEqual(m.ask(b"LISTSCRIPTS").data, [[b"main"], ['zweite \u00fc "x"'.encode()]])
        self.assertEqual(m.ask(b'SETACTIVE "main"').status, "OK")
        self.assertEqual(m.ask(b"LISTSCRIPTS").data[0], [b"main", "ACTIVE"])
        self.assertEqual(m.ask(b'GETSCRIPT "main"').data, [[GOOD.encode()]])
        self.assertEqual(m.ask(b'DELETESCRIPT "main"').code, "ACTIVE")
        self.assertEqual(m.ask(b'RENAMESCRIPT "main" "first"').status, "OK")
        self.assertEqual(m.ask(b"LISTSCRIPTS").data[0], [b"first", "ACTIVE"])
        self.assertEqual(m.ask(b'SETACTIVE ""').status, "OK")
        self.assertEqual(m.ask(b'DELETESCRIPT "first"').status, "OK")
        self.assertEqual(len(m.ask(b"LISTSCRIPTS").data), 1)

    def test_activating_one_deactivates_the_other(self):
        m = self.empty("alice")
        m.put("a", GOOD)
        m.put("b", "discard;")
        m.ask(b'SETACTIVE "a"')
        self.assertEqual(m.ask(b'SETACTIVE "none"').code, "NONEXISTENT")
        self.assertEqual(m.ask(b"LISTSCRIPTS").data, [[b"a", "ACTIVE"], [b"b"]])
        m.ask(b'SETACTIVE "b"')
        self.assertEqual(m.ask(b"LISTSCRIPTS").data, [[b"a"], [b"b", "ACTIVE"]])

    def test_what_does_not_compile_is_not_stored_and_the_place_is_told(self):
        m = self.empty("alice")
        m.put("main", GOOD)
        for answer in (m.put("main", BAD), m.ask(b"CHECKSCRIPT " + literal(BAD))):
            self.assertEqual(answer.status, "NO")
            self.assertRegex(answer.text, r"^line 2, column \d+: ")
        self.assertEqual(m.ask(b'GETSCRIPT "main"').data, [[GOOD.encode()]])
        self.assertEqual(m.ask(b"CHECKSCRIPT " + literal(GOOD)).status, "OK")
        self.assertEqual(m.ask(b"CHECKSCRIPT " + quoted("keep;")).status, "OK")

    def test_the_codes_of_refusals(self):
        m = self.empty("alice")
        m.put("a", GOOD)
        m.put("b", GOOD)
        self.assertEqual(m.ask(b'GETSCRIPT "none"').code, "NONEXISTENT")
        self.assertEqual(m.ask(b'DELETESCRIPT "none"').code, "NONEXISTENT")
        self.assertEqual(m.ask(b'RENAMESCRIPT "none" "c"').code, "NONEXISTENT")
        self.assertEqual(m.ask(b'RENAMESCRIPT "a" "b"').code, "ALREADYEXISTS")
        self.assertEqual(m.ask(b'HAVESPACE "c" 99999999').code, "QUOTA/MAXSIZE")
        self.assertEqual(m.ask(b'HAVESPACE "c" 1000').status, "OK")
        self.assertEqual(m.put("c", "keep;" + " " * (1 << 20)).code, "QUOTA/MAXSIZE")
        for name in ("", "a\u2028b", "x" * 600):
            self.assertEqual(m.put(name, GOOD).status, "NO")

    def test_the_count_and_the_bytes_are_limited(self):
        m = self.empty("bob")
        big = "keep; #" + "x" * (900 << 10)
        for i in range(4):
            self.assertEqual(m.put(f"big{i}", big).status, "OK")
        self.assertEqual(m.put("big4", big).code, "QUOTA")
        self.assertEqual(m.put("big3", big).status, "OK", "what takes the place of another needs no more room")
        for i in range(96):
            self.assertEqual(m.put(f"s{i}", "keep;").status, "OK")
        self.assertEqual(m.put("s96", "keep;").code, "QUOTA/MAXSCRIPTS")
        self.assertEqual(m.ask(b'HAVESPACE "s97" 10').code, "QUOTA/MAXSCRIPTS")
        self.assertEqual(m.ask(b'HAVESPACE "s1" 10').status, "OK")

    def test_scripts_are_nobody_elses(self):
        self.empty("alice").put("private", GOOD)
        m = self.connect("bob")
        self.assertEqual(m.ask(b'GETSCRIPT "private"').code, "NONEXISTENT")
        self.assertEqual(self.connect().login("bob", authzid="alice@example.test").status, "NO")

    def test_who_administers_a_shared_mailbox_keeps_its_scripts(self):
        self.server.cli("account", "add", "support@example.test", "--kind", "shared")
        self.server.cli("account", "share", "support@example.test", "--with", "bob@example.test", "--rights", "lrswipkxtea")
        self.server.cli("account", "share", "support@example.test", "--with", "carol@example.test", "--rights", "lrs")
        self.assertEqual(self.connect().login("carol", authzid="support@example.test").status, "NO")
        m = self.connect()
        self.assertEqual(m.login("bob", authzid="support@example.test").status, "OK")
        self.assertEqual(m.capabilities()["OWNER"], "support@example.test")
        self.assertEqual(m.put("team", GOOD).status, "OK")
        own = self.connect("bob")
        self.assertNotIn([b"team"], own.ask(b"LISTSCRIPTS").data)


class HostileTest(ManageSieveTest):
    settings = {"managesieve_errors_max": "5"}

    def test_what_is_malformed_is_refused_and_the_session_goes_on(self):
        for line in (b"", b"NONSENSE", b'PUTSCRIPT "a', b'PUTSCRIPT "a" {x+}', b'GETSCRIPT 12', b'HAVESPACE "a" "b"',
                     b'HAVESPACE "a" 99999999999999999999999', b'GETSCRIPT "a" "b" "c" "d"', b'GETSCRIPT"a"', b"GETSCRIPT \xff",
                     b'GETSCRIPT "a\x00"', b"SETACTIVE {3+} x", b"x" * 20000):
            m = self.connect("carol")
            self.assertEqual(m.ask(line).status, "NO", line[:40])
            self.assertEqual(m.ask(b"NOOP").status, "OK", line[:40])

    def test_too_many_of_them_end_it(self):
        m = self.connect()
        for _ in range(5):
            self.assertEqual(m.ask(b"NONSENSE").status, "NO")
        m.send(b"NONSENSE\r\n")
        self.assertEqual(m.answer().status, "NO")
        self.assertEqual(m.answer().status, "BYE")
        self.assertEqual(m.file.read(), b"")

    def test_literals_that_nobody_would_read_end_it(self):
        for user, line in ((None, b"AUTHENTICATE {100000+}"), ("carol", b'PUTSCRIPT "a" {4000000000+}')):
            m = self.connect(user)
            self.assertEqual(m.ask(line).status, "BYE")
            self.assertEqual(m.file.read(), b"")

    def test_nothing_works_before_log_in(self):
        m = self.connect()
        for line in (b"LISTSCRIPTS", b'GETSCRIPT "a"', b'CHECKSCRIPT "keep;"', b'HAVESPACE "a" 1'):
            self.assertEqual(m.ask(line).status, "NO")


class ClearTest(ManageSieveTest):
    settings = {"login_plaintext_loopback": "no"}

    def test_no_password_travels_in_the_clear(self):
        m = self.connect()
        self.assertNotIn("PLAIN", m.capabilities(m.greeting)["SASL"].split())
        self.assertEqual(m.login("alice").code, "ENCRYPT-NEEDED")
        self.connect("alice", tls=True)


@unittest.skipUnless(shutil.which("sieve-connect"), "sieve-connect is not installed")
class SieveConnectTest(ManageSieveTest):
    """Debian's sieve-connect, over STARTTLS with a verified certificate."""

    def run_client(self, *args, cwd=None):
        password = self.server.base / "password"
        password.write_text(PASSWORD + "\n")
        with open(password) as fd:
            return subprocess.run(["sieve-connect", "--server", "localhost", "--port", str(self.server.port("managesieve")),
                                   "--user", "alice@example.test", "--passwordfd", str(fd.fileno()), "--tlscafile",
                                   str(self.server.data / "tls/ca.pem"), *args],
                                  cwd=cwd, pass_fds=[fd.fileno()], capture_output=True, text=True, timeout=60,
                                  stdin=subprocess.DEVNULL)

    def test_upload_list_activate_download(self):
        self.empty("alice")
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder)
            (path / "main.sieve").write_text(GOOD)
            (path / "bad.sieve").write_text(BAD)
            done = self.run_client("--localsieve", "main.sieve", "--upload", cwd=folder)
            self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
            done = self.run_client("--remotesieve", "main.sieve", "--activate")
            self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
            done = self.run_client("--list")
            self.assertIn('"main.sieve" ACTIVE', done.stdout)
            self.assertNotEqual(self.run_client("--localsieve", "bad.sieve", "--upload", cwd=folder).returncode, 0)
            done = self.run_client("--remotesieve", "main.sieve", "--localsieve", "back.sieve", "--download", cwd=folder)
            self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
            self.assertEqual((path / "back.sieve").read_text().split(), GOOD.split())


if __name__ == "__main__":
    unittest.main()
