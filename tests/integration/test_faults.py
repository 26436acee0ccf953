"""Processes killed at random moments under load: what was acknowledged is there, once, and the service comes back."""

import imaplib
import os
import random
import re
import threading
import time
import unittest

from faults import Killer
from harness import ServerTest, eventually

KILLS = int(os.environ.get("MERPATI_KILLS", "50"))
USERS = ("u1", "u2", "u3")


class Sender(threading.Thread):
    """Sends messages with a tag of their own; none is ever sent twice."""

    def __init__(self, server, name, stop):
        super().__init__(daemon=True)
        self.server, self.tag, self.stop = server, name, stop
        self.acked, self.unsure = {}, {}

    def run(self):
        number = 0
        while not self.stop.is_set():
            try:
                with self.server.smtp(timeout=30) as client:
                    client.ehlo()
                    while not self.stop.is_set():
                        number += 1
                        user, tag = random.choice(USERS), f"{self.tag}-{number}"
                        self.unsure[tag] = user
                        client.sendmail("s@elsewhere.test", [f"{user}@example.test"],
                                        f"Subject: {tag}\r\n\r\n{'x' * random.randrange(3000)}\r\n".encode())
                        self.acked[tag] = self.unsure.pop(tag)
            except Exception:           # refused, reset or told to try again: a new connection, a new message
                time.sleep(0.05)


class Reader(threading.Thread):
    """Watches that a UID, once seen, names the same message for ever."""

    def __init__(self, server, stop):
        super().__init__(daemon=True)
        self.server, self.stop, self.seen, self.problems = server, stop, {u: {} for u in USERS}, []
        self.validity = {}

    def run(self):
        while not self.stop.is_set():
            for user in USERS:
                try:
                    self.look(user)
                except Exception:
                    time.sleep(0.05)

    def look(self, user):
        with self.server.imap(user, timeout=30) as client:
            if client.select("INBOX", readonly=True)[0] != "OK":
                return                  # the store is away for a moment
            validity = client.response("UIDVALIDITY")[1][0]
            if self.validity.setdefault(user, validity) != validity:
                self.problems.append(f"UIDVALIDITY of {user} changed")
            known = self.seen[user]
            low = max(known, default=0) + 1
            for uid, tag in uids_and_tags(client, f"{low}:*"):
                if known.setdefault(uid, tag) != tag:
                    self.problems.append(f"{user}: UID {uid} was {known[uid]} and is {tag}")


def uids_and_tags(client, uids):
    status, data = client.uid("FETCH", uids, "(UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")
    if status != "OK":
        raise RuntimeError(status)
    for item in data:
        if isinstance(item, tuple):
            yield int(re.search(rb"UID (\d+)", item[0]).group(1)), item[1].decode().strip()[9:]


class FaultTest(ServerTest):
    accounts = USERS
    settings = {"drain_timeout": "2s"}
    expects_losses = True

    def acked(self, senders):
        return sum(len(s.acked) for s in senders)

    def test_nothing_acknowledged_is_lost_or_doubled(self):
        stop = threading.Event()
        senders = [Sender(self.server, f"t{i}", stop) for i in range(4)]
        reader = Reader(self.server, stop)
        for thread in senders + [reader]:
            thread.start()
        killer = Killer(self.server)
        kinds = ["worker", "supervisor", "postgres"]
        for i in range(KILLS):
            time.sleep(random.uniform(0.05, 0.8))
            killer.kill(kinds[i % 3])
            before = self.acked(senders)
            self.assertTrue(eventually(lambda: self.acked(senders) > before + 3, timeout=120),
                            f"not back after kill {i} of {kinds[i % 3]}\n{self.server.log()[-3000:]}")
        stop.set()
        for thread in senders + [reader]:
            thread.join(60)
        self.assertEqual(reader.problems, [])
        self.assertTrue(eventually(self.is_back, timeout=120), self.server.log()[-3000:])
        self.check_mailboxes(senders, reader)

    def is_back(self):
        """After the last kill, too, with new connections."""
        try:
            with self.server.imap(USERS[0]) as client:
                return client.select("INBOX", readonly=True)[0] == "OK"
        except (OSError, imaplib.IMAP4.error):
            return False

    def check_mailboxes(self, senders, reader):
        for user in USERS:
            with self.server.imap(user) as client:
                client.select("INBOX", readonly=True)
                pairs = list(uids_and_tags(client, "1:*"))
                uid_next = int(client.response("UIDNEXT")[1][0])
            tags = [tag for _, tag in pairs]
            uids = [uid for uid, _ in pairs]
            self.assertEqual(len(set(tags)), len(tags), "a message is there twice")
            self.assertEqual(uids, sorted(set(uids)))
            self.assertLess(max(uids), uid_next)
            expected = {t for s in senders for t, u in s.acked.items() if u == user}
            allowed = expected | {t for s in senders for t, u in s.unsure.items() if u == user}
            self.assertEqual(expected - set(tags), set(), "acknowledged and lost")
            self.assertEqual(set(tags) - allowed, set())
            now = dict(pairs)
            for uid, tag in reader.seen[user].items():
                self.assertEqual(now.get(uid), tag)


if __name__ == "__main__":
    unittest.main()
