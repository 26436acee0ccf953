"""Accounts that seem to be misused: a running server holds what they send, tells people, and an administrator releases it or
purges it."""

import os
import pathlib
import tempfile
import smtplib
import time

import mmdb
from faults import Killer
from harness import PASSWORD, ServerTest, eventually
from test_queue import Sink, closed_port

LETTER = "Subject: news\r\nFrom: {0}@example.test\r\nTo: everybody@live.test\r\n\r\nText of {0}.\r\n"


class Guard(ServerTest):
    accounts = ("alice", "bob", "carol", "dewi", "eko", "fitri", "gita", "hadi", "joko", "rina")

    @classmethod
    def setUpClass(cls):
        cls.sink = Sink()
        cls.folder = tempfile.TemporaryDirectory(prefix="merpati-geoip-")
        os.chmod(cls.folder.name, 0o755)
        countries = pathlib.Path(cls.folder.name) / "countries.mmdb"
        mmdb.write(countries, {"192.0.2.0/24": "ID", "198.51.100.0/26": "DE", "198.51.100.64/26": "FR", "203.0.113.0/24": "BR"})
        cls.settings = {
            "delivery_routes": f"live.test=127.0.0.1:{cls.sink.port}; dead.test=127.0.0.1:{closed_port()}",
            "queue_retry_min": "1s", "queue_retry_max": "1s", "queue_backoff_min": "1s", "queue_backoff_max": "1s",
            "queue_poll_interval": "50ms", "guard_recipients_away": "20", "guard_bounces": "10",
            "guard_bounces_percent": "50", "geoip_database": str(countries), "smtp_xclient_networks": "127.0.0.0/8",
        }
        super().setUpClass()
        cls.server.cli("account", "admin", "carol@example.test", "yes")

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.sink.close()
        cls.folder.cleanup()

    def login(self, who, address=None):
        s = self.server.smtp("submissions")
        if address:
            self.assertEqual(s.docmd("XCLIENT", f"ADDR={address}")[0], 220)
        s.login(f"{who}@example.test", PASSWORD)
        return s

    def send(self, who, rcpts, address=None):
        with self.login(who, address) as s:
            s.sendmail(f"{who}@example.test", rcpts, LETTER.format(who))

    def held(self, who):
        return next((a for a in self.server.cli_json("account", "held") if a["address"] == f"{who}@example.test"), None)

    def waiting(self, who, *filters):
        return self.server.cli_json("queue", "list", "--sender", f"{who}@example.test", *filters)

    def reached(self, who):
        """Recipients elsewhere."""
        return sorted(r for rcpts, text in self.sink.messages if f"Text of {who}.".encode() in text for r in rcpts)

    def inbox(self, who, words):
        with self.server.imap(who) as c:
            c.select("INBOX")
            return len(c.search(None, "TEXT", f'"{words}"')[1][0].split())

    def many(self, who, count):
        return [f"{who}{i}@live.test" for i in range(count)]

    def test_a_jump_is_held_and_people_are_told_until_it_is_released(self):
        self.send("alice", ["x@dead.test"])
        self.assertIsNone(self.held("alice"))
        self.send("alice", self.many("a", 25) + ["bob@example.test"])
        self.assertTrue(eventually(lambda: self.held("alice")))
        self.send("alice", ["late@live.test"])
        self.assertTrue(eventually(lambda: len(self.waiting("alice", "--held")) == 28))
        held = self.held("alice")
        self.assertEqual((held["recipients"], held["cause"]), (28, "recipients-away"))
        self.assertEqual(self.reached("alice"), [])
        self.assertEqual(self.inbox("bob", "Text of alice."), 0)
        # People know.
        self.assertTrue(eventually(lambda: self.inbox("carol", "merpati account purge alice@example.test") == 1))
        self.assertTrue(eventually(lambda: self.inbox("alice", "merpati account release alice@example.test") == 1))
        self.assertIn("event=account_held", self.server.log())
        # It survives a restart.
        self.server.stop()
        self.server.start()
        self.send("alice", ["later@live.test"])
        self.assertEqual(len(self.waiting("alice", "--held")), 29)
        # An administrator lets it go, and as much again.
        done = self.server.cli_json("account", "release", "alice@example.test")
        self.assertEqual((done["was_held"], done["recipients"]), (True, 29))
        expected = sorted(self.many("a", 25) + ["late@live.test", "later@live.test"])
        self.assertTrue(eventually(lambda: self.reached("alice") == expected))
        self.assertTrue(eventually(lambda: self.inbox("bob", "Text of alice.") == 1))
        self.assertIsNone(self.held("alice"))
        time.sleep(1)
        self.send("alice", self.many("b", 25))
        self.assertTrue(eventually(lambda: len(self.reached("alice")) == 52))
        self.assertEqual(self.inbox("alice", "merpati account release alice@example.test"), 1)
        found, = self.server.cli_json("trace", "--sender", "alice@example.test", "--recipient", "later@live.test")
        kinds = [e["kind"] for e in found["events"]]
        self.assertIn("held", kinds)
        self.assertIn("released", kinds)

    def test_what_is_purged_reaches_nobody(self):
        self.send("dewi", self.many("d", 25) + ["bob@example.test"])
        self.assertTrue(eventually(lambda: self.held("dewi")))
        self.assertEqual(self.server.cli_json("account", "purge", "dewi@example.test")["recipients"], 26)
        self.assertEqual(self.waiting("dewi"), [])
        self.assertIsNotNone(self.held("dewi"))
        self.server.cli("account", "release", "dewi@example.test")
        time.sleep(1)
        self.send("dewi", ["d@live.test"])
        self.assertTrue(eventually(lambda: self.reached("dewi") == ["d@live.test"]))
        self.assertEqual(self.inbox("bob", "Text of dewi."), 0)
        self.assertIsNone(self.held("dewi"))

    def test_refused_recipients_hold_an_account(self):
        self.sink.never.update(self.many("e", 12))
        self.send("eko", self.many("e", 12))
        self.assertTrue(eventually(lambda: self.held("eko")))
        self.assertEqual(self.held("eko")["cause"], "bounces")
        self.assertIn("12 of the day's 12", self.held("eko")["seen"])

    def test_all_workers_hold(self):
        sessions = [self.login("fitri") for _ in range(12)]
        sent = 0
        while not self.held("fitri"):
            for s in sessions:
                s.sendmail("fitri@example.test", [f"f{sent}@live.test"], LETTER.format("fitri"))
                sent += 1
            self.assertLess(sent, 1000)
        time.sleep(1)                                   # by then all have heard
        before = len(self.reached("fitri"))
        for s in sessions:
            s.sendmail("fitri@example.test", [f"f{sent}@live.test"], LETTER.format("fitri"))
            sent += 1
        self.assertTrue(eventually(lambda: len(self.reached("fitri")) + len(self.waiting("fitri", "--held")) == sent))
        self.assertEqual(len(self.reached("fitri")), before)
        self.assertGreaterEqual(len(self.waiting("fitri", "--held")), 12)
        for s in sessions:
            s.quit()

    def test_mail_from_many_countries_is_held(self):
        for address in ("192.0.2.7", "198.51.100.7", "198.51.100.70"):
            self.send("gita", ["g@live.test"], address)
        self.assertTrue(eventually(lambda: len(self.reached("gita")) == 3))
        time.sleep(1.5)                                 # workers have told each other
        self.assertIsNone(self.held("gita"))
        self.send("gita", ["g@live.test"], "203.0.113.7")
        self.assertTrue(eventually(lambda: self.held("gita")))
        held = self.held("gita")
        self.assertEqual(held["cause"], "countries")
        for country in ("ID", "DE", "FR", "BR"):
            self.assertIn(country, held["seen"])

    def test_an_account_without_guard_is_never_held(self):
        self.assertEqual(self.server.cli_json("account", "guard", "hadi@example.test", "off")["guard"], False)
        time.sleep(1)
        self.send("hadi", self.many("h", 40))
        self.assertTrue(eventually(lambda: len(self.reached("hadi")) == 40))
        self.assertIsNone(self.held("hadi"))

    def test_commands_are_clear_about_what_they_cannot_do(self):
        for words, status in ((["release", "nobody@example.test"], 1), (["purge", "nobody@example.test"], 1),
                              (["guard", "joko@example.test", "perhaps"], 2), (["release"], 2)):
            done = self.server.cli("account", *words, check=False)
            self.assertEqual(done.returncode, status, done.stderr)
        self.assertFalse(self.server.cli_json("account", "release", "joko@example.test")["was_held"])

    def test_strangers_are_not_counted(self):
        for i in range(25):
            self.server.deliver("joko@example.test", "Subject: x\r\n\r\nHello.\r\n")
        self.assertIsNone(self.held("joko"))
        self.assertEqual(self.inbox("joko", "Hello."), 25)


class GuardAtKills(ServerTest):
    """Workers and the supervisor die while an account is held, released and purged."""
    accounts = ("alice", "carol", "dewi")
    expects_losses = True

    @classmethod
    def setUpClass(cls):
        cls.sink = Sink()
        cls.settings = {"delivery_routes": f"live.test=127.0.0.1:{cls.sink.port}", "guard_recipients_away": "20",
                        "queue_poll_interval": "50ms", "queue_backoff_min": "1s", "queue_backoff_max": "1s",
                        "queue_retry_min": "1s", "queue_retry_max": "1s"}
        super().setUpClass()
        cls.server.cli("account", "admin", "carol@example.test", "yes")
        cls.killer = Killer(cls.server, 7)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.sink.close()

    held, waiting, reached, inbox = Guard.held, Guard.waiting, Guard.reached, Guard.inbox

    def send_until_held(self, who, kinds):
        """Whom the server said that it would write to."""
        taken, kinds = [], list(kinds)
        for n in range(600):
            try:
                with self.server.smtp("submission", timeout=30) as s:
                    s.login(f"{who}@example.test", PASSWORD)
                    for k in range(3):
                        rcpt = f"{who}{n}-{k}@live.test"
                        s.sendmail(f"{who}@example.test", [rcpt], LETTER.format(who))
                        taken.append(rcpt)
            except (OSError, smtplib.SMTPException):
                time.sleep(0.05)
            if n % 3 != 2:
                continue
            if kinds:
                self.killer.kill(kinds.pop())
            elif len(taken) > 30 and self.is_held(who):
                return taken
        self.fail(f"{who} is not held\n{self.server.log()[-3000:]}")

    def is_held(self, who):
        done = self.server.cli("account", "held", "--json", check=False)
        return done.returncode == 0 and f"{who}@example.test" in done.stdout

    def command(self, *args):
        return eventually(lambda: self.server.cli(*args, check=False).returncode == 0)

    def test_a_hold_and_its_release_survive_kills_and_people_are_told_once(self):
        taken = self.send_until_held("alice", ["worker", "supervisor", "worker", "worker"])
        self.assertTrue(eventually(lambda: len(self.waiting("alice")) == len(self.waiting("alice", "--held")) > 0))
        before = self.reached("alice")
        self.assertLess(len(before), len(taken))
        self.killer.kill("supervisor")
        self.assertTrue(self.command("account", "release", "alice@example.test"))
        self.killer.kill("worker")
        self.assertTrue(eventually(lambda: set(self.reached("alice")) >= set(taken)), self.server.log()[-3000:])
        for who in ("alice", "carol"):
            self.assertEqual(self.inbox(who, "merpati account release alice@example.test"), 1, who)

    def test_what_is_purged_at_kills_reaches_nobody(self):
        taken = self.send_until_held("dewi", ["worker", "worker"])
        self.killer.kill("worker")
        self.assertTrue(self.command("account", "purge", "dewi@example.test"))
        before = self.reached("dewi")
        self.killer.kill("worker")
        self.assertTrue(eventually(lambda: self.waiting("dewi") == []))
        self.assertTrue(self.command("account", "release", "dewi@example.test"))
        self.assertLess(len(before), len(taken))
        self.assertEqual(self.reached("dewi"), before)


if __name__ == "__main__":
    import unittest
    unittest.main()
