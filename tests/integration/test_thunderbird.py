"""The README's settings for Thunderbird are true: Thunderbird itself logs in, reads, sends, and keeps a copy in Sent."""

import shutil
import tempfile
import unittest

from harness import PASSWORD, ServerTest, eventually
from thunderbird import Thunderbird


@unittest.skipUnless(shutil.which("thunderbird"), "thunderbird is not installed")
class ThunderbirdTest(ServerTest):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="merpati-thunderbird-", dir="/tmp")
        self.addCleanup(shutil.rmtree, self.folder, True)

    def subjects_of(self, user, mailbox):
        with self.server.imap(user) as c:
            if c.select(mailbox, readonly=True)[0] != "OK" or not int(c.response("EXISTS")[1][0] or 0):
                return []
            data = c.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
            return [m[1].decode().strip()[9:] for m in data if isinstance(m, tuple)]

    def test_reads_and_sends_with_the_settings_of_the_readme(self):
        for i in range(30):
            self.server.deliver("alice@example.test", b"From: bob@example.test\r\nTo: alice@example.test\r\n"
                                b"Subject: Letter %d\r\nMessage-ID: <l%d@example.test>\r\n\r\nHello.\r\n" % (i, i))
        with Thunderbird(self.folder, "alice@example.test", PASSWORD, "localhost", self.server.port("imaps"),
                         self.server.port("submissions"), self.server.data / "tls/ca.pem") as t:
            t.get_messages()
            wanted = [f"Letter {i}" for i in range(30)]
            self.assertTrue(eventually(lambda: sorted(t.subjects()) == sorted(wanted), timeout=120, pause=0.5), self.server.log()[-3000:])
            self.assertEqual(t.folders(), {"inbox": "INBOX", "sent": "Sent", "drafts": "Drafts", "trash": "Trash", "junk": "Junk",
                                           "archive": "Archive"})
            t.send("bob@example.test", "From Thunderbird", "Hello Bob.")
            self.assertTrue(eventually(lambda: self.subjects_of("bob", "INBOX") == ["From Thunderbird"]))
            self.assertTrue(eventually(lambda: self.subjects_of("alice", "Sent") == ["From Thunderbird"], timeout=120))
            self.server.deliver("alice@example.test", b"From: bob@example.test\r\nSubject: Pushed\r\n\r\nHello.\r\n")
            self.assertTrue(eventually(lambda: "Pushed" in t.subjects(), timeout=120, pause=0.5))


if __name__ == "__main__":
    unittest.main()
