"""Processes killed at random moments while mail comes in over SMTP and goes out to another server that is no paragon either:
what was acknowledged to the client was acknowledged by the other server, lies in the mailbox, or came back to its sender."""

import asyncio
import imaplib
import os
import random
import re
import threading
import time
import unittest

from faults import Killer
from harness import PASSWORD, ServerTest, eventually

SEED = int(os.environ.get("MERPATI_KILL_SEED", "4"))
KILLS = {"worker": 14, "backend": 11, "supervisor": 8, "postmaster": 6, "guard": 4, "everything": 7}
DOUBLES_PER_KILL = 25                   # what a worker may have had in its hands


class Acknowledgement:
    def __init__(self, begun):
        self.begun, self.time, self.was_heard = begun, time.monotonic(), False


class Sink:
    """A mail server in a thread of its own. It keeps what it acknowledged after the final dot, and whether its client went on
    in the session, so that it must have heard."""

    FAULTS = (("later", 4), ("later_at_end", 3), ("drop_in_data", 3), ("drop_after_data", 3), ("drop_after_answer", 3),
              ("slow", 5), ("closing", 1))
    LATER, NEVER = b"451 4.3.0 come back later", b"550 5.1.1 nobody of this name"

    def __init__(self):
        self.random = random.Random(SEED)
        self.is_honest = False          # no more faults
        self.taken, self.spoiled, self.told = {}, [], {}
        self.loop = asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(asyncio.start_server(self.session, "127.0.0.1", 0, backlog=500))
        self.port = self.server.sockets[0].getsockname()[1]
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def close(self):
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)

    def fault(self):
        at = self.random.randrange(100)
        for name, share in self.FAULTS:
            if at < share and not self.is_honest:
                self.told[name] = self.told.get(name, 0) + 1
                return name
            at -= share
        return None

    async def session(self, reader, writer):
        try:
            await self.talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        writer.close()

    async def talk(self, reader, writer):
        rcpts, said, fault, begun = [], [], None, 0
        writer.write(b"220 sink.test ESMTP\r\n")
        while line := (await reader.readuntil(b"\n")).strip():
            for ack in said:
                ack.was_heard = True
            said, verb, answer = [], line[:4].upper(), b"250 2.0.0 ok"
            if verb == b"MAIL":
                rcpts, fault, begun = [], self.fault(), time.monotonic()
                if fault == "closing":
                    writer.write(b"421 4.3.2 out of service\r\n")
                    return await writer.drain()
            elif verb == b"RCPT":
                address = re.search(rb"<(.*?)>", line)[1].decode()
                if address.startswith("never-"):
                    answer = self.NEVER
                elif fault == "later":
                    answer = self.LATER
                else:
                    rcpts.append(address)
            elif verb == b"DATA" and not rcpts:
                answer = b"503 5.5.1 no recipients"
            elif verb == b"DATA":
                said = await self.data(reader, writer, rcpts, fault, begun)
                if said is None:
                    return
                continue
            elif verb == b"EHLO":
                answer = b"250-sink.test\r\n250-PIPELINING\r\n250 8BITMIME"
            elif verb == b"QUIT":
                answer = b"221 2.0.0 bye"
            writer.write(answer + b"\r\n")

    async def data(self, reader, writer, rcpts, fault, begun):
        """The acknowledgements; None: the connection is to be dropped."""
        writer.write(b"354 go on\r\n")
        if fault == "drop_in_data":
            await reader.readuntil(b"\n")
            return None
        lines = []
        while (line := await reader.readuntil(b"\n")) != b".\r\n":
            lines.append(line)
        if fault == "slow":
            await asyncio.sleep(self.random.uniform(0.05, 0.4))
        if fault == "drop_after_data":
            return None
        if fault == "later_at_end":
            writer.write(self.LATER + b"\r\n")
            return []
        acks = self.take(b"".join(lines), rcpts, begun)
        writer.write(b"250 2.0.0 taken\r\n")
        if fault == "drop_after_answer":
            await writer.drain()
            return None
        return acks

    def take(self, text, rcpts, begun):
        number = int(re.search(rb"^X-Number: (\d+)\r$", text, re.M)[1])
        if not text.endswith(b"\r\nend of %d\r\n" % number):
            self.spoiled.append(number)
        acks = [Acknowledgement(begun) for _ in rcpts]
        for rcpt, ack in zip(rcpts, acks):
            self.taken.setdefault((number, rcpt), []).append(ack)
        return acks


class Client(threading.Thread):
    """Sends numbered messages, none ever twice, and keeps which recipients of which were acknowledged."""

    def __init__(self, server, first, is_submission):
        super().__init__(daemon=True)
        self.server, self.number, self.is_submission = server, first, is_submission
        self.random, self.stop = random.Random(first), threading.Event()
        self.acked, self.sent, self.times = set(), set(), []    # times: (when it was begun, when acknowledged)

    def rcpts(self, n):
        return ([f"r-{n}@remote.test"], [f"r-{n}@remote.test", f"r-{n}@other.test"], ["bob@example.test"],
                [f"r-{n}@other.test", "bob@example.test"], ["both@example.test"], [f"r-{n}@other.test"],
                [f"never-{n}@remote.test", f"r-{n}@remote.test"])[n % 7]

    @staticmethod
    def reached(n, rcpt):
        return {(n, "bob@example.test"), (n, "ext@other.test")} if rcpt == "both@example.test" else {(n, rcpt)}

    def send(self, client):
        self.number += 1
        n, rcpts = self.number, self.rcpts(self.number)
        text = (f"X-Number: {n}\r\nFrom: alice@example.test\r\nSubject: {n}\r\n\r\n"
                f"{'words ' * self.random.randrange(12)}\r\n" * self.random.randrange(1, 60) + f"end of {n}\r\n")
        self.sent |= set().union(*(self.reached(n, r) for r in rcpts))
        begun = time.monotonic()
        refused = client.sendmail("alice@example.test", rcpts, text.encode())
        self.acked |= set().union(*(self.reached(n, r) for r in rcpts if r not in refused))
        self.times.append((begun, time.monotonic()))

    def run(self):
        while not self.stop.is_set():
            try:
                with self.server.smtp("submission" if self.is_submission else "smtp", timeout=30) as client:
                    client.ehlo()
                    if self.is_submission:
                        client.login("alice@example.test", PASSWORD)
                    while not self.stop.is_set():
                        self.send(client)
                        self.stop.wait(0.02)
            except Exception:           # refused, reset or told to try again: a new connection, a new message
                self.stop.wait(0.05)


class Outages:
    """From each kill until something that was begun behind it was acknowledged, so that the database was there again."""

    def __init__(self, killer, times):
        times.sort()
        back = [min((done for begun, done in times if begun > after), default=float("inf")) for _, _, after in killer.kills]
        self.list = [(*kill, end) for kill, end in zip(killer.kills, back)]

    def holds(self, since, until):
        """Whether there was one at some time between the two."""
        return any(before <= until and since <= end for _, before, _, end in self.list)


class KillTest(ServerTest):
    expects_losses = True

    @classmethod
    def setUpClass(cls):
        cls.sink = Sink()
        cls.settings = {
            "delivery_routes": f"remote.test=127.0.0.1:{cls.sink.port}; other.test=127.0.0.1:{cls.sink.port}",
            "smtp_trusted_networks": "127.0.0.0/8", "guard": "no", "drain_timeout": "1s",
            "queue_retry_min": "1s", "queue_retry_max": "1s", "queue_backoff_min": "1s", "queue_backoff_max": "1s",
            "queue_poll_interval": "50ms", "smtp_rate_account_messages": "0", "smtp_rate_account_recipients": "0",
            "smtp_rate_network_messages": "0", "smtp_rate_network_recipients": "0",
        }
        super().setUpClass()
        cls.server.cli("group", "add", "both@example.test", "bob@example.test", "ext@other.test")

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.sink.close()

    def kill_and_go_on(self, killer, clients):
        kinds = [kind for kind, count in KILLS.items() for _ in range(count)]
        killer.random.shuffle(kinds)
        for kind in kinds:
            time.sleep(killer.random.uniform(0.05, 0.6))
            acked, taken = sum(len(c.acked) for c in clients), len(self.sink.taken)
            self.assertTrue(eventually(lambda: killer.kill(kind)), f"no {kind} to kill")
            if killer.random.randrange(3) > 0:      # else the next kill falls into the recovery from this one
                self.assertTrue(eventually(lambda: sum(len(c.acked) for c in clients) > acked and
                                           len(self.sink.taken) > taken, timeout=120),
                                f"not back after {kind}\n{self.server.log()[-3000:]}")

    def mailbox(self, user):
        with self.server.imap(user) as client:
            client.select("INBOX", readonly=True)
            data = client.fetch("1:*", "(BODY.PEEK[])")[1]
            return [item[1] for item in data if isinstance(item, tuple)]

    def is_empty(self):
        done = self.server.cli("queue", "list", "--json", check=False)
        return done.returncode == 0 and done.stdout.strip() == "[]"

    def is_back(self):
        try:
            with self.server.imap("bob") as client:
                return client.select("INBOX", readonly=True)[0] == "OK"
        except (OSError, imaplib.IMAP4.error):
            return False

    def test_what_was_acknowledged_is_delivered_stored_or_returned(self):
        killer = Killer(self.server, SEED)
        clients = [Client(self.server, 100000 * (i + 1), i == 0) for i in range(3)]
        for client in clients:
            client.start()
        self.kill_and_go_on(killer, clients)
        for client in clients:
            client.stop.set()
        for client in clients:
            client.join(60)
        self.sink.is_honest = True
        self.assertTrue(eventually(self.is_back, timeout=120), self.server.log()[-3000:])
        self.assertTrue(eventually(self.is_empty, timeout=120), self.server.cli("queue", "list").stdout[:2000])
        outages = Outages(killer, [t for c in clients for t in c.times])
        self.check(outages, set().union(*(c.acked for c in clients)), set().union(*(c.sent for c in clients)))
        self.assertEqual(len(killer.kills), sum(KILLS.values()))

    def check(self, outages, acked, sent):
        stored = [int(re.search(rb"^X-Number: (\d+)\r$", text, re.M)[1]) for text in self.mailbox("bob")]
        returned = [int(n) for text in self.mailbox("alice")
                    for n in re.findall(rb"^Final-Recipient: rfc822; never-(\d+)@remote.test\r$", text, re.M)]
        found = set(self.sink.taken) | {(n, "bob@example.test") for n in stored}
        found |= {(n, f"never-{n}@remote.test") for n in returned}
        self.assertEqual(sorted(acked - found), [], "acknowledged and lost")
        self.assertEqual(sorted(found - sent), [], "nobody sent this")
        self.assertEqual(self.sink.spoiled, [], "delivered in part")
        self.assertEqual(len(stored), len(set(stored)), "stored twice")
        self.assertEqual(len(returned), len(set(returned)), "returned twice")
        self.check_doubles(outages)
        # The faults did happen, and mail of each kind came through them.
        self.assertEqual(set(self.sink.told), {name for name, _ in self.sink.FAULTS})
        self.assertTrue(stored and returned and ({rcpt for _, rcpt in found} >= {"ext@other.test"}))
        problems = [line for line in self.server.log().splitlines()
                    if "Sanitizer" in line or "runtime error" in line or "assertion" in line.lower()]
        self.assertEqual(problems, [])

    def no_reason(self, outages, key, first, second):
        near = [(kind, round(after - first.time, 3)) for kind, _, after, _ in outages.list if -5 < after - first.time < 5]
        said = "\n".join(line for line in self.server.log().splitlines() if key[1] in line)
        self.fail(f"{key} was delivered twice for no reason, again after {second.begun - first.time:.3f} s; kills beside the "
                  f"first: {near}\n{said}")

    def check_doubles(self, outages):
        """Each needs a reason: we cannot have heard the first acknowledgement, or were kept from noting it."""
        by_drop = by_kill = 0
        for key, acks in self.sink.taken.items():
            acks.sort(key=lambda ack: ack.begun)
            for first, second in zip(acks, acks[1:]):
                if not first.was_heard:
                    by_drop += 1
                elif outages.holds(first.time, max(first.time, second.begun)):
                    by_kill += 1
                else:
                    self.no_reason(outages, key, first, second)
        print(f"\n{len(self.sink.taken)} delivered, doubled: {by_drop} whose answer may be lost, {by_kill} by a kill", flush=True)
        self.assertLessEqual(by_kill + by_drop, DOUBLES_PER_KILL * sum(KILLS.values()))


if __name__ == "__main__":
    unittest.main()
