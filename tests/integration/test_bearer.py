"""Log-ins by access token: OAUTHBEARER (RFC 7628) and XOAUTH2 over IMAP, POP3 and SMTP, and tokens that must not work."""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time
import unittest

from harness import Server, ServerTest

KEY, OLD_KEY = b"0123456789abcdef0123456789abcdef!", b"an older key of at least 32 bytes, too"
MESSAGE = b"From: a@elsewhere.test\r\nTo: alice@example.test\r\nSubject: %s\r\n\r\nHello.\r\n"


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(name="alice@example.test", key=KEY, header=None, drop=(), raw=None, **claims):
    payload = {"iss": "https://issuer.example", "aud": ["mail.example.test", "other"], "email": name, "exp": int(time.time()) + 3600,
               "scope": "openid mail", **claims}
    payload = raw if raw is not None else json.dumps({k: v for k, v in payload.items() if k not in drop}).encode()
    text = f"{b64url(json.dumps(header or {'alg': 'HS256', 'typ': 'JWT'}).encode())}.{b64url(payload)}"
    return f"{text}.{b64url(hmac.digest(key, text.encode(), hashlib.sha256))}"


def oauthbearer(t, name="alice@example.test"):
    gs2 = f"n,a={name}," if name else "n,,"
    return base64.b64encode(f"{gs2}\1host=localhost\1port=143\1auth=Bearer {t}\1\1".encode()).decode()


def xoauth2(t, name="alice@example.test"):
    return base64.b64encode(f"user={name}\1auth=Bearer {t}\1\1".encode()).decode()


class BearerTest(ServerTest):
    accounts = ("alice", "bob", "carol")
    extra = {}

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="merpati-bearer-", dir="/tmp"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        cls.folder.chmod(0o755)
        (cls.folder / "keys").write_bytes(KEY + b"\n\n" + OLD_KEY + b"\n")
        cls.settings = {"bearer_token_key": str(cls.folder / "keys"), "bearer_token_issuer": "https://issuer.example",
                        "bearer_token_audience": "mail.example.test", **cls.extra}
        super().setUpClass()

    def imap(self, mechanism, response, answer="AQ==", initial=True):
        """(reasons or None, tagged answer)"""
        with self.server.raw("imap") as raw:
            raw.line()
            if initial:
                raw.send(f"a AUTHENTICATE {mechanism} {response}\r\n")
            else:
                raw.send(f"a AUTHENTICATE {mechanism}\r\n")
                self.assertEqual(raw.line(), b"+ \r\n")
                raw.send(response + "\r\n")
            line, reasons = raw.line(), None
            if line.startswith(b"+ "):
                reasons = json.loads(base64.b64decode(line[2:]))
                raw.send(answer + "\r\n")
                line = raw.line()
            return reasons, line[2:]


class TokenTest(BearerTest):
    extra = {"auth_limit": "no"}

    def test_good_tokens_log_in(self):
        for t in (token(), token(key=OLD_KEY), token(aud="mail.example.test"), token(scope="imap pop3 smtp"), token(drop=("scope",)),
                  token(nbf=int(time.time()) - 10), token(exp=time.time() + 100.5), token(name="ALICE@Example.Test")):
            for mechanism, make in (("OAUTHBEARER", oauthbearer), ("XOAUTH2", xoauth2)):
                for initial in (True, False):
                    self.assertTrue(self.imap(mechanism, make(t), initial=initial)[1].startswith(b"OK"), t)
        self.assertTrue(self.imap("OAUTHBEARER", oauthbearer(token(), ""))[1].startswith(b"OK"))

    def test_bad_tokens_are_refused_with_reasons(self):
        now = int(time.time())
        good = token()
        header, payload, signature = good.split(".")
        none = b64url(b'{"alg":"none"}')
        deep = b"[" * 1500 + b"]" * 1500
        for t in ("opaque", "a.b.c", f"{header}.{payload}.", f"{none}.{payload}.", f"{none}.{payload}.{signature}",
                  f"{header}.{payload}.{signature[:-1]}", f"{header}.{payload}.{signature}x", f"{header}.{payload}.{signature}=",
                  token(key=b"a key that nobody shares with us...."), token(header={"alg": "none"}), token(header={"alg": "RS256"}),
                  token(header={"alg": "HS256", "crit": ["b64"]}), token(header={"typ": "JWT"}), token(drop=("exp",)), token(exp="soon"),
                  token(exp=-1), token(exp=1e300), token(nbf=now + 600), token(nbf="x"), token(iss="https://elsewhere"), token(drop=("iss",)),
                  token(aud="elsewhere"), token(aud=["a", "b"]), token(drop=("aud",)), token(name=""), token(drop=("email",)), token(name=7),
                  token(scope=["mail"]), token(raw=b""), token(raw=b"[]"), token(raw=b"null"), token(raw=b'{"a":1'), token(raw=deep),
                  token(raw=b'{"email":"alice@example.test","email":"bob@example.test","exp":9999999999}'), token(name="nobody@example.test"),
                  token(name="not an address"), token(name="alice@elsewhere.test")):
            with self.server.raw("imap"):
                reasons, answer = self.imap("OAUTHBEARER", oauthbearer(t, ""))
            self.assertEqual(reasons, {"status": "invalid_token", "scope": "mail"}, t)
            self.assertTrue(answer.startswith(b"NO [AUTHENTICATIONFAILED] "), t)

    def test_an_expired_token_is_told_so(self):
        reasons, answer = self.imap("OAUTHBEARER", oauthbearer(token(exp=int(time.time()) - 1)))
        self.assertEqual(reasons["status"], "invalid_token")
        self.assertTrue(answer.startswith(b"NO [EXPIRED] "))
        reasons, answer = self.imap("XOAUTH2", xoauth2(token(exp=1)), answer="")
        self.assertEqual(reasons, {"status": "401", "schemes": "bearer", "scope": "mail"})
        self.assertTrue(answer.startswith(b"NO [EXPIRED] "))

    def test_a_token_for_something_else_is_not_enough(self):
        reasons, answer = self.imap("OAUTHBEARER", oauthbearer(token(scope="openid pop3 mailx")))
        self.assertEqual(reasons["status"], "insufficient_scope")
        self.assertTrue(answer.startswith(b"NO [AUTHENTICATIONFAILED]"))

    def test_a_token_opens_no_other_account(self):
        for mechanism, make in (("OAUTHBEARER", oauthbearer), ("XOAUTH2", xoauth2)):
            for name in ("bob@example.test", "nobody@example.test"):
                self.assertTrue(self.imap(mechanism, make(token(), name))[1].startswith(b"NO [AUTHORIZATIONFAILED]"))

    def test_suspended_accounts_stay_out(self):
        self.server.cli("account", "disable", "carol@example.test")
        reasons, answer = self.imap("OAUTHBEARER", oauthbearer(token("carol@example.test"), "carol@example.test"))
        self.assertTrue(answer.startswith(b"NO [AUTHENTICATIONFAILED]"))

    def test_malformed_messages(self):
        for bad in ("AQ==", base64.b64encode(b"n,,\1auth=Bearer x\1").decode(), base64.b64encode(b"p=x,,\1auth=Bearer x\1\1").decode(), "="):
            self.assertTrue(self.imap("OAUTHBEARER", bad)[1].startswith(b"BAD"), bad)
        self.assertTrue(self.imap("XOAUTH2", base64.b64encode(b"auth=Bearer x\1\1").decode())[1].startswith(b"BAD"))

    def test_a_refusal_may_be_called_off(self):
        self.assertTrue(self.imap("OAUTHBEARER", oauthbearer("x"), answer="*")[1].startswith(b"BAD"))

    def test_over_smtp_and_pop3(self):
        with self.server.raw("submission") as raw:
            raw.reply()
            raw.send("EHLO c.test\r\n")
            self.assertIn(b" OAUTHBEARER XOAUTH2", raw.reply())
            raw.send(f"AUTH XOAUTH2 {xoauth2('wrong')}\r\n")
            self.assertTrue(raw.reply().startswith(b"334 "))
            raw.send("\r\n")
            self.assertTrue(raw.reply().startswith(b"535 5.7.8"))
            raw.send(f"AUTH OAUTHBEARER {oauthbearer(token())}\r\n")
            self.assertTrue(raw.reply().startswith(b"235 "))
        with self.server.raw("pop3") as raw:
            raw.line()
            raw.send(f"AUTH OAUTHBEARER {oauthbearer('wrong')}\r\n")
            self.assertTrue(raw.line().startswith(b"+ "))
            raw.send("AQ==\r\n")
            self.assertTrue(raw.line().startswith(b"-ERR [AUTH]"))
            raw.send(f"AUTH XOAUTH2 {xoauth2(token())}\r\nQUIT\r\n")
            self.assertTrue(raw.line().startswith(b"+OK"))
            self.assertTrue(raw.line().startswith(b"+OK"))

    @unittest.skipUnless(shutil.which("curl"), "curl is not installed")
    def test_curl(self):
        self.server.deliver("alice@example.test", MESSAGE % b"for curl")
        letter = self.folder / "letter"
        letter.write_bytes((MESSAGE % b"by curl").replace(b"a@elsewhere.test", b"alice@example.test"))
        ca = str(self.server.data / "tls/ca.pem")
        for login in ("OAUTHBEARER", "XOAUTH2"):
            def curl(*options, t=token()):
                return subprocess.run(["curl", "-sS", "--max-time", "60", "--cacert", ca, "--oauth2-bearer", t, "--user",
                                       "alice@example.test", "--login-options", f"AUTH={login}", *options], capture_output=True)
            for url in (f"imaps://localhost:{self.server.port('imaps')}/INBOX;MAILINDEX=1", f"pop3s://localhost:{self.server.port('pop3s')}/1"):
                got = curl(url)
                self.assertIn(b"Subject: ", got.stdout, got.stderr)
                self.assertEqual(curl(url, t=token(exp=1)).returncode, 67)
            got = curl(f"smtps://localhost:{self.server.port('submissions')}/c.test", "--mail-from", "alice@example.test", "--mail-rcpt",
                       "alice@example.test", "--upload-file", str(letter))
            self.assertEqual(got.returncode, 0, got.stderr)

    @unittest.skipUnless(shutil.which("mpop"), "mpop is not installed")
    def test_mpop(self):
        self.server.deliver("bob@example.test", MESSAGE % b"for mpop")
        rc = self.folder / "mpoprc"
        box = self.folder / "box"
        for method in ("oauthbearer", "xoauth2"):
            rc.write_text(f"account default\nhost localhost\nport {self.server.port('pop3s')}\nuser bob@example.test\nauth {method}\n"
                          f"passwordeval echo {token('bob@example.test')}\ntls on\ntls_starttls off\ntls_trust_file {self.server.data}/tls/ca.pem\n"
                          f"delivery mbox {box}\nkeep on\nonly_new off\nuidls_file {self.folder}/uidls\n")
            rc.chmod(0o600)
            got = subprocess.run(["mpop", "-C", str(rc)], capture_output=True, timeout=60, env={**os.environ, "HOME": str(self.folder)})
            self.assertEqual(got.returncode, 0, got.stderr)
        self.assertEqual(box.read_bytes().count(b"Subject: for mpop"), 2)


class LimitTest(BearerTest):
    extra = {"auth_guesses_account_max": "5", "auth_guesses_network_max": "1000"}

    def test_false_tokens_are_guesses_and_expired_ones_are_not(self):
        expired = token("bob@example.test", exp=1)
        for i in range(8):
            self.imap("OAUTHBEARER", oauthbearer(token("bob@example.test", exp=i + 1), "bob@example.test"))
            self.imap("OAUTHBEARER", oauthbearer("same", "bob@example.test"))
        self.assertTrue(self.imap("OAUTHBEARER", oauthbearer(expired, "bob@example.test"))[1].startswith(b"NO [EXPIRED]"))
        for i in range(6):
            self.imap("XOAUTH2", xoauth2(f"guess{i}"))
        self.assertTrue(self.imap("XOAUTH2", xoauth2(token()))[1].startswith(b"NO [LIMIT]"))
        self.assertTrue(self.imap("XOAUTH2", xoauth2(token("bob@example.test"), "bob@example.test"))[1].startswith(b"OK"))


class NotOfferedTest(ServerTest):
    settings = {"login_plaintext_loopback": "no"}

    def test_without_a_key_nothing_is_offered(self):
        with self.server.raw("imap") as raw:
            self.assertNotIn(b"BEARER", raw.line())
            raw.send(f"a AUTHENTICATE OAUTHBEARER {oauthbearer(token())}\r\n")
            self.assertTrue(raw.line().startswith(b"a NO"))


class ClearTest(BearerTest):
    extra = {"login_plaintext_loopback": "no"}

    def test_tokens_do_not_travel_in_the_clear(self):
        with self.server.raw("imap") as raw:
            self.assertNotIn(b"BEARER", raw.line())
        self.assertTrue(self.imap("OAUTHBEARER", oauthbearer(token()))[1].startswith(b"NO [PRIVACYREQUIRED]"))


class BadKeyTest(unittest.TestCase):
    def test_a_bad_key_file_is_told_and_nothing_starts(self):
        for text in (None, b"", b"short\n"):
            folder = pathlib.Path(tempfile.mkdtemp(prefix="merpati-key-", dir="/tmp"))
            self.addCleanup(shutil.rmtree, folder, True)
            folder.chmod(0o755)
            if text is not None:
                (folder / "keys").write_bytes(text)
            server = Server({"bearer_token_key": str(folder / "keys")}, workers=1)
            self.addCleanup(server.remove)
            with self.assertRaises(RuntimeError) as told:
                server.start(timeout=20)
            self.assertIn("bearer_token_key", str(told.exception))


if __name__ == "__main__":
    unittest.main()
