"""Quotas over IMAP (RFC 9208): who may see and set limits, what counts, and what happens at the limit."""

import unittest

from harness import eventually
from imap_wire import ImapTest

MESSAGE = b"From: a@elsewhere.test\r\nTo: alice@example.test\r\nSubject: s\r\n\r\n" + b"x" * 1000 + b"\r\n"


class QuotaTest(ImapTest):
    accounts = ("alice", "bob", "carol", "dave", "erin", "frank", "root")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.cli("account", "admin", "root@example.test", "yes")

    def test_the_capabilities_are_told_after_log_in(self):
        (line,) = self.session("alice").ok("CAPABILITY")
        for name in (b"QUOTA", b"QUOTASET", b"QUOTA=RES-STORAGE", b"QUOTA=RES-MESSAGE"):
            self.assertIn(name, line.split())

    def test_a_root_without_limits_has_an_empty_list(self):
        s = self.session("alice")
        self.assertEqual(s.ok("GETQUOTA alice@example.test"), [b'* QUOTA "alice@example.test" ()\r\n'])
        self.assertEqual(s.ok("GETQUOTAROOT INBOX"),
                         [b'* QUOTAROOT "INBOX" "alice@example.test"\r\n', b'* QUOTA "alice@example.test" ()\r\n'])
        told = s.ok('GETQUOTAROOT "Not/Yet"')       # the mailbox need not exist
        self.assertEqual(told[0], b'* QUOTAROOT "Not/Yet" "alice@example.test"\r\n')

    def test_usage_and_limits_are_told_in_units_of_1024(self):
        self.server.cli("account", "quota", "bob@example.test", "1M", "--messages", "20")
        s = self.session("bob")
        self.assertEqual(s.ok("GETQUOTA bob@example.test"), [b'* QUOTA "bob@example.test" (STORAGE 0 1024 MESSAGE 0 20)\r\n'])
        for _ in range(3):
            s.append("INBOX", MESSAGE)
        used = -(-3 * len(MESSAGE) // 1024)
        self.assertEqual(s.ok("GETQUOTA {16+}\r\nbob@example.test")[0],
                         b'* QUOTA "bob@example.test" (STORAGE %d 1024 MESSAGE 3 20)\r\n' % used)

    def test_an_administrator_sets_limits_and_what_is_not_named_is_lifted(self):
        admin, s = self.session("root"), self.session("carol")
        self.assertEqual(admin.ok("SETQUOTA carol@example.test (STORAGE 2 MESSAGE 7)"),
                         [b'* QUOTA "carol@example.test" (STORAGE 0 2 MESSAGE 0 7)\r\n'])
        self.assertEqual(s.ok("GETQUOTA carol@example.test"), [b'* QUOTA "carol@example.test" (STORAGE 0 2 MESSAGE 0 7)\r\n'])
        self.assertEqual(self.server.cli_json("account", "show", "carol@example.test")["quota"], 2048)
        self.assertTrue(eventually(lambda: "quota_set" in self.server.log()))
        line = next(r for r in self.server.log().splitlines() if "event=quota_set" in r)
        for field in ("by=root@example.test", "root=carol@example.test", "bytes_max=2048", "messages_max=7"):
            self.assertIn(field, line)
        admin.ok("SETQUOTA carol@example.test (message 1)")
        s.append("INBOX", MESSAGE)
        self.assertTrue(s.refused("COPY 1 Sent" if s.ok("SELECT INBOX") else "").startswith(b"NO [OVERQUOTA]"))
        answer = s.refused(b"APPEND INBOX {%d+}\r\n%s" % (len(MESSAGE), MESSAGE))
        self.assertTrue(answer.startswith(b"NO [OVERQUOTA]"), answer)
        s.ok("MOVE 1 Archive")                      # nothing is added by that
        self.assertEqual(admin.ok("SETQUOTA carol@example.test ()"), [b'* QUOTA "carol@example.test" ()\r\n'])
        s.append("INBOX", MESSAGE)

    def test_others_see_and_set_nothing(self):
        s = self.session("dave")
        for text in ("GETQUOTA alice@example.test", "GETQUOTA nobody@example.test", "SETQUOTA dave@example.test (STORAGE 1)",
                     "SETQUOTA alice@example.test (STORAGE 1)", 'GETQUOTA ""', "SETQUOTA nobody@example.test ()"):
            self.assertTrue(s.refused(text).startswith(b"NO [NOPERM]"), text)
        self.assertEqual(self.server.cli_json("account", "show", "alice@example.test")["quota"], None)

    def test_the_root_of_another_s_mailbox_needs_the_right_to_read(self):
        owner, guest = self.session("alice"), self.session("dave")
        owner.ok("CREATE Team")
        owner.ok("SETACL Team dave@example.test l")
        name = '"Other Users/alice@example.test/Team"'
        self.assertTrue(guest.refused(f"GETQUOTAROOT {name}").startswith(b"NO [NOPERM]"))
        owner.ok("SETACL Team dave@example.test +r")
        self.assertEqual(guest.ok(f"GETQUOTAROOT {name}"),
                         [f'* QUOTAROOT {name} "alice@example.test"\r\n'.encode(), b'* QUOTA "alice@example.test" ()\r\n'])

    def test_an_administrator_is_told_what_is_missing_or_impossible(self):
        s = self.session("root")
        for text, code in (("GETQUOTA nobody@example.test", b"NO [NONEXISTENT]"),
                           ("SETQUOTA nobody@example.test ()", b"NO [NONEXISTENT]"),
                           ("SETQUOTA dave@example.test (MAILBOX 5)", b"NO [CANNOT]"),
                           ("SETQUOTA dave@example.test (STORAGE 0)", b"NO [CANNOT]"),
                           ("SETQUOTA dave@example.test (STORAGE 9223372036854775807)", b"NO [CANNOT]")):
            self.assertTrue(s.refused(text).startswith(code), (text, s.refused(text)))
        self.assertEqual(s.ok("GETQUOTA dave@example.test"), [b'* QUOTA "dave@example.test" ()\r\n'])

    def test_malformed_commands_are_bad(self):
        s = self.session("root")
        for text in ("GETQUOTA", "GETQUOTA a b", "GETQUOTAROOT", "GETQUOTAROOT INBOX x", "SETQUOTA", "SETQUOTA root@example.test",
                     "SETQUOTA root@example.test STORAGE 1", "SETQUOTA root@example.test (STORAGE)",
                     "SETQUOTA root@example.test (STORAGE x)", "SETQUOTA root@example.test (STORAGE -1)",
                     "SETQUOTA root@example.test (STORAGE 1", "SETQUOTA root@example.test (STORAGE 1 STORAGE 2)",
                     "SETQUOTA root@example.test (STORAGE 99999999999999999999)", "SETQUOTA root@example.test () x"):
            self.assertTrue(s.refused(text).startswith(b"BAD "), (text, s.refused(text)))
        before_log_in = self.session(None)
        for verb in ("GETQUOTA x", "GETQUOTAROOT INBOX", "SETQUOTA x ()"):
            self.assertTrue(before_log_in.refused(verb).startswith(b"BAD "), verb)

    def test_deleted_storage_is_what_an_expunge_frees(self):
        s = self.session("erin", "INBOX")
        for size in (10, 200, 3000):
            s.append("INBOX", MESSAGE + b"y" * size)
        self.assertEqual(s.ok("STATUS INBOX (DELETED-STORAGE DELETED)"),
                         [b'* STATUS "INBOX" (DELETED 0 DELETED-STORAGE 0)\r\n'])
        s.ok(r"STORE 1,3 +FLAGS.SILENT (\Deleted)")
        freed = 2 * len(MESSAGE) + 10 + 3000
        self.assertEqual(s.ok("STATUS INBOX (DELETED DELETED-STORAGE)"),
                         [b'* STATUS "INBOX" (DELETED 2 DELETED-STORAGE %d)\r\n' % freed])
        told = s.ok('LIST "" "*" RETURN (STATUS (DELETED-STORAGE))')
        self.assertIn(b'* STATUS "INBOX" (DELETED-STORAGE %d)\r\n' % freed, told)
        self.assertIn(b'* STATUS "Sent" (DELETED-STORAGE 0)\r\n', told)

    def test_a_delivery_that_exceeds_the_limit_is_told_once(self):
        self.server.cli("account", "quota", "frank@example.test", "3K")
        s = self.session("frank", "INBOX")
        s.idle()
        for number in range(3):                     # the third is refused: the limit is passed by then
            with self.server.smtp() as smtp:
                if number == 2:
                    self.assertEqual((smtp.ehlo(), smtp.mail("a@elsewhere.test"), smtp.rcpt("frank@example.test")[0])[2], 452)
                else:
                    self.assertEqual((smtp.ehlo(), smtp.mail("a@elsewhere.test"), smtp.rcpt("frank@example.test"),
                                      smtp.data(MESSAGE + b"y" * 1000)[0])[3], 250)
                    told = s.until_told(rb"\* %d EXISTS" % (number + 1))
                    self.assertEqual([r for r in told if b"OVERQUOTA" in r], [])
        s.until_told(rb"\* NO \[OVERQUOTA\]")
        s.done()
        s.ok(r"STORE 1:2 +FLAGS.SILENT (\Deleted)")
        s.ok("EXPUNGE")
        self.assertEqual([r for r in s.append("INBOX", MESSAGE) if b"OVERQUOTA" in r], [])

    def test_imaplib_reads_them(self):
        self.server.cli("account", "quota", "dave@example.test", "none", "--messages", "5")
        c = self.server.imap("dave")
        self.addCleanup(c.logout)
        self.assertEqual(c.getquotaroot("INBOX"),
                         ("OK", [[b'"INBOX" "dave@example.test"'], [b'"dave@example.test" (MESSAGE 0 5)']]))
        self.assertEqual(c.getquota("dave@example.test"), ("OK", [b'"dave@example.test" (MESSAGE 0 5)']))
        self.assertEqual(c.setquota("dave@example.test", "(MESSAGE 9)")[0], "NO")
        self.server.cli("account", "quota", "dave@example.test", "none", "--messages", "none")


if __name__ == "__main__":
    unittest.main()
