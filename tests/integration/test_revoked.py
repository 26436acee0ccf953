"""Sessions end with what let them in: suspended and removed accounts, changed and removed passwords, on every worker."""

import unittest

from harness import PASSWORD, ServerTest
from imap_wire import Session, one_per_worker, response
from pop3_wire import Pop3
from test_pop3 import plain


class RevokedTest(ServerTest):
    accounts = tuple(f"user{i}" for i in range(12))
    next_user = 0

    def user(self):
        RevokedTest.next_user += 1
        return f"user{RevokedTest.next_user - 1}"

    def keep(self, thing):
        self.addCleanup(thing.close)
        return thing

    def sessions(self, user, password=PASSWORD):
        """One IMAP session per worker at rest, one in IDLE, one of POP3 and one of submission."""
        imap = list(one_per_worker(self.server, lambda: Session(self.server, user, "INBOX", password)).values())
        idle = Session(self.server, user, "INBOX", password)
        idle.idle()
        smtp = self.server.raw("submission")
        smtp.reply()
        smtp.send(f"EHLO c.test\r\nAUTH PLAIN {plain(user, password)}\r\n")
        smtp.reply()
        self.assertTrue(smtp.reply().startswith(b"235"))
        pop3 = Pop3(self.server, user, password=password)
        return [self.keep(s) for s in (*imap, idle, smtp, pop3)]

    def assert_end(self, sessions):
        *imap, smtp, pop3 = sessions
        for s in imap:
            self.assertRegex(response(s), rb"^\* BYE The account or its password has changed")
            self.assertEqual(response(s), b"")
        self.assertTrue(smtp.reply().startswith(b"421 4.7.0 "))
        self.assertTrue(pop3.raw.line().startswith(b"-ERR [AUTH] "))
        self.assertEqual(pop3.raw.line(), b"")

    def assert_stay(self, sessions):
        *imap, idle, smtp, pop3 = sessions
        idle.done()
        for s in (*imap, idle):
            s.ok("NOOP")
        smtp.send("NOOP\r\n")
        self.assertTrue(smtp.reply().startswith(b"250"))
        self.assertTrue(pop3.say("NOOP").startswith(b"+OK"))

    def test_a_suspended_account(self):
        user, other = self.user(), self.user()
        gone, stay = self.sessions(user), self.sessions(other)
        self.server.cli("account", "disable", f"{user}@example.test")
        self.assert_end(gone)
        self.assert_stay(stay)

    def test_a_removed_account(self):
        user = self.user()
        sessions = self.sessions(user)
        self.server.cli("account", "remove", f"{user}@example.test")
        self.assert_end(sessions)

    def test_a_changed_password(self):
        user = self.user()
        sessions = self.sessions(user)
        self.server.cli("account", "password", f"{user}@example.test", "--password-stdin", input="another-one\n")
        self.assert_end(sessions)
        self.assert_stay(self.sessions(user, "another-one"))

    def test_app_passwords_stand_by_themselves(self):
        user = self.user()
        made = [self.server.cli_json("account", "app-password", "add", f"{user}@example.test", label) for label in ("phone", "laptop")]
        phone, laptop = ([Session(self.server, user, "INBOX", m["password"])] for m in made)
        for s in (*phone, *laptop):
            self.keep(s)
        self.server.cli("account", "password", f"{user}@example.test", "--password-stdin", input="another-one\n")
        number = next(str(v) for k, v in made[0].items() if k in ("id", "number"))
        self.server.cli("account", "app-password", "remove", f"{user}@example.test", number)
        self.assertRegex(response(phone[0]), rb"^\* BYE ")
        laptop[0].ok("NOOP")

    def test_other_changes_end_nothing(self):
        user = self.user()
        sessions = self.sessions(user)
        self.server.cli("account", "name", f"{user}@example.test", "New Name")
        self.server.cli("account", "quota", f"{user}@example.test", "5G")
        self.server.cli("account", "enable", f"{user}@example.test")
        self.assert_stay(sessions)


if __name__ == "__main__":
    unittest.main()
