"""The outbound queue of a running server against other servers made here: deferral, hold, release, reroute, deletion, reports,
dead servers beside live ones, and nothing lost whatever is killed."""

import os
import random
import re
import signal
import socket
import socketserver
import subprocess
import threading
import time
import unittest

from faults import Killer
from harness import PASSWORD, ROOT, ServerTest, eventually

QUEUE_PUT = ROOT / "build/asan/tools/queue_put"
LETTER = "Subject: letter\r\nFrom: alice@example.test\r\n\r\nText.\r\n"


class Sink(socketserver.ThreadingTCPServer):
    """Takes mail; `later` and `never` are recipients it puts off or refuses. Counts messages by X-Number."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port=0):
        self.later, self.never = set(), set()
        self.messages, self.attempts = [], []
        self.pause = 0.0
        self.talking = self.most_talking = 0
        super().__init__(("127.0.0.1", port), Session)
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def numbers(self):
        return [int(re.search(rb"X-Number: (\d+)", m)[1]) for _, m in self.messages]

    def close(self):
        self.shutdown()
        self.server_close()


class Session(socketserver.StreamRequestHandler):
    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self):
        try:
            self.talk()
        except OSError:
            pass

    def rcpt(self, line):
        address = re.search(r"<(.*?)>", line)[1]
        self.server.attempts.append(address)
        if address in self.server.later:
            return self.say("451 4.7.1 come back later")
        if address in self.server.never:
            return self.say("550 5.1.1 nobody of this name")
        self.rcpts.append(address)
        return self.say("250 2.1.5 ok")

    def data(self):
        self.say("354 go on")
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line)
        if not line:
            return
        self.server.talking += 1
        self.server.most_talking = max(self.server.most_talking, self.server.talking)
        time.sleep(self.server.pause)
        self.server.talking -= 1
        self.server.messages.append((list(self.rcpts), b"".join(lines)))
        self.say("250 2.0.0 taken")

    def talk(self):
        self.rcpts = []
        self.say("220 sink.test ESMTP")
        while raw := self.rfile.readline():
            line = raw.decode().strip()
            verb = line[:4].upper()
            if verb == "EHLO":
                self.say("250-sink.test\r\n250 8BITMIME")
            elif verb == "MAIL":
                self.rcpts = []
                self.say("250 2.1.0 ok")
            elif verb == "RCPT":
                self.rcpt(line)
            elif verb == "DATA":
                self.data()
            elif verb == "QUIT":
                return self.say("221 2.0.0 bye")
            else:
                self.say("250 2.0.0 ok")


def closed_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class QueueTest(ServerTest):
    more = {}                                # settings of a class

    @classmethod
    def setUpClass(cls):
        cls.sink, cls.dead_port = Sink(), closed_port()
        cls.settings = {
            "delivery_routes": f"live.test=127.0.0.1:{cls.sink.port}; dead.test=127.0.0.1:{cls.dead_port}",
            "queue_retry_min": "1s", "queue_retry_max": "1s", "queue_backoff_min": "1s", "queue_backoff_max": "1s",
            "queue_poll_interval": "50ms", "smtp_timeout": "20s",
            **cls.more,
        }
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.sink.close()

    def setUp(self):
        self.server.cli("queue", "delete", "--all")
        self.sink.later.clear()
        self.sink.never.clear()
        self.sink.messages.clear()
        self.sink.attempts.clear()
        self.sink.pause = 0.0

    def put(self, *rcpts, count=1, first=0, sender="alice@example.test", check=True):
        """The ids of what is in the queue for sure."""
        done = subprocess.run([QUEUE_PUT, self.server.data, sender, f"{first}:{count}", *rcpts], input=LETTER, text=True,
                              capture_output=True, timeout=300, env=self.server.env)
        if check:
            self.assertEqual(done.returncode, 0, done.stderr)
        return [int(line) for line in done.stdout.split()]

    def submit(self, *rcpts):
        with self.server.smtp("submission") as c:
            c.login("alice@example.test", PASSWORD)
            c.sendmail("alice@example.test", list(rcpts), LETTER)

    def waiting(self, *filters):
        return self.server.cli_json("queue", "list", *filters)

    def inbox(self):
        with self.server.imap("alice") as c:
            c.select("INBOX")
            return int(c.select("INBOX")[1][0])


class Delivery(QueueTest):
    def test_mail_leaves_the_queue_when_it_was_taken(self):
        self.put("x@live.test", "y@live.test")
        self.assertTrue(eventually(lambda: self.sink.messages))
        self.assertTrue(eventually(lambda: self.waiting() == []))
        rcpts, text = self.sink.messages[0]
        self.assertEqual(sorted(rcpts), ["x@live.test", "y@live.test"])
        self.assertEqual(text.decode(), "X-Number: 0\r\n" + LETTER)

    def test_who_is_put_off_is_tried_again_and_the_others_are_not(self):
        self.sink.later.add("x@live.test")
        self.put("x@live.test", "y@live.test")
        self.assertTrue(eventually(lambda: self.sink.attempts.count("x@live.test") >= 2))
        entry, = self.waiting()
        self.assertEqual((entry["recipient"], entry["sender"]), ("x@live.test", "alice@example.test"))
        self.assertIn("come back later", entry["reason"])
        self.sink.later.clear()
        self.assertTrue(eventually(lambda: self.waiting() == []))
        self.assertEqual([rcpts for rcpts, _ in self.sink.messages], [["y@live.test"], ["x@live.test"]])

    def test_a_refusal_comes_back_to_the_sender(self):
        self.sink.never.add("x@live.test")
        before = self.inbox()
        self.put("x@live.test")
        self.assertTrue(eventually(lambda: self.inbox() == before + 1))
        self.assertEqual(self.waiting(), [])
        with self.server.imap("alice") as c:
            c.select("INBOX")
            report = c.fetch(str(before + 1), "(BODY[])")[1][0][1].decode()
        self.assertIn("multipart/report", report)
        self.assertIn("x@live.test", report)
        self.assertIn("5.1.1", report)

    def test_a_dead_server_does_not_delay_a_live_one(self):
        self.put("x@dead.test", count=50)
        self.put("x@live.test", count=50)
        self.assertTrue(eventually(lambda: len(self.sink.messages) == 50))
        self.assertEqual({e["recipient"] for e in self.waiting()}, {"x@dead.test"})
        self.assertEqual(len(self.waiting("--destination", "dead.test")), 50)
        # It comes to life.
        revived = Sink(self.dead_port)
        try:
            self.assertTrue(eventually(lambda: self.waiting() == []))
            self.assertEqual(sorted(revived.numbers()), list(range(50)))
        finally:
            revived.close()


class Relay(QueueTest):
    """All domains that go over one relay are one destination."""

    workers = 1
    more = {"queue_destination_concurrency": "2", "delivery_tls_domains": "safe.live.test"}

    def test_domains_behind_one_relay_share_its_slots(self):
        self.sink.pause, self.sink.most_talking = 0.3, 0
        for i in range(8):
            self.submit(f"x@d{i}.live.test")
        self.assertTrue(eventually(lambda: len(self.sink.messages) == 8))
        self.assertEqual(self.sink.most_talking, 2)

    def test_a_message_to_several_domains_goes_to_the_relay_once(self):
        self.submit("x@a.live.test", "y@b.live.test", "z@a.live.test")
        self.assertTrue(eventually(lambda: self.sink.messages))
        self.assertEqual([sorted(rcpts) for rcpts, _ in self.sink.messages], [["x@a.live.test", "y@b.live.test", "z@a.live.test"]])
        self.sink.later.update(["x@a.live.test", "y@b.live.test"])
        self.submit("x@a.live.test", "y@b.live.test")
        self.assertTrue(eventually(lambda: [e["attempts"] > 0 for e in self.waiting()] == [True] * 2))
        self.assertEqual(len(self.waiting("--destination", f"127.0.0.1:{self.sink.port}")), 2)
        self.sink.later.clear()
        self.assertTrue(eventually(lambda: len(self.sink.messages) > 1 and self.waiting() == []))

    def test_a_domain_for_which_tls_is_ordered_does_not_go_with_the_others(self):
        self.submit("x@a.live.test", "y@safe.live.test")
        self.assertTrue(eventually(lambda: self.sink.messages and self.waiting() and self.waiting()[0]["attempts"] > 0))
        self.assertEqual([rcpts for rcpts, _ in self.sink.messages], [["x@a.live.test"]])
        self.assertEqual([e["recipient"] for e in self.waiting()], ["y@safe.live.test"])


class SilentServer:
    """Takes connections and never says a word."""

    def __init__(self, address):
        self.listener, self.clients = socket.create_server(address, backlog=500), []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                self.clients.append(self.listener.accept()[0])
            except OSError:
                return

    def has_given_up(self):
        """Whether any client has."""
        for client in self.clients:
            try:
                if client.recv(1, socket.MSG_DONTWAIT) == b"":
                    return True
            except BlockingIOError:
                pass
        return False

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        for s in [self.listener, *self.clients]:
            s.close()


class DeadHalf(QueueTest):
    """Far more dead destinations than there are slots or jobs in hand: all live mail passes them while the first attempts at
    the dead ones still hang."""

    @classmethod
    def setUpClass(cls):
        cls.sink = Sink()
        cls.silent = SilentServer(("127.0.0.2", cls.sink.port))
        cls.live = [f"live{i}.test" for i in range(20)]
        cls.dead = [f"silent{i}.test" for i in range(20)]
        records = [f"{d}. MX 10 mx.{d}.; mx.{d}. A {host}" for host, names in (("127.0.0.1", cls.live), ("127.0.0.2", cls.dead))
                   for d in names]
        cls.settings = {"delivery_routes": "", "delivery_refused_networks": "", "delivery_port": str(cls.sink.port),
                        "delivery_ipv6": "no", "dane": "no", "mta_sts": "no", "dns_override": "; ".join(records),
                        "queue_deliveries_max": "8", "queue_memory_messages": "40",
                        "queue_poll_interval": "50ms", "delivery_greeting_timeout": "30m", "drain_timeout": "1s"}
        ServerTest.setUpClass.__func__(cls)

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.silent.close()

    def test_the_live_half_does_not_wait_for_the_dead_one(self):
        self.put(*[f"x@{d}" for d in self.dead], count=40)
        self.assertTrue(eventually(lambda: len(self.silent.clients) >= 12))      # the slots of all who are not proven
        self.put(*[f"x@{d}" for d in self.live], count=40, first=1000)
        self.assertTrue(eventually(lambda: len(self.sink.messages) == 20 * 40, timeout=120), len(self.sink.messages))
        self.assertEqual(sorted(self.sink.numbers()), sorted(list(range(1000, 1040)) * 20))
        self.assertFalse(self.silent.has_given_up())
        left = self.waiting()
        self.assertEqual(len(left), 20 * 40)
        self.assertEqual({(e["recipient"].split("@")[1], e["attempts"]) for e in left}, {(d, 0) for d in self.dead})
        # A few connections each tell that they are dead; the other messages wait in the database.
        self.assertLessEqual(len(self.silent.clients), 20 * 2 * self.workers)


class Commands(QueueTest):
    def test_held_mail_waits_until_it_is_released(self):
        self.sink.later.add("x@live.test")
        queue_id, = self.put("x@live.test")
        self.assertTrue(eventually(lambda: self.sink.attempts))
        self.assertEqual(self.server.cli_json("queue", "hold", str(queue_id), "--reason", "a doubt")["recipients"], 1)
        self.assertTrue(eventually(lambda: self.waiting("--held") and self.waiting()[0]["reason"] == "a doubt"))
        self.sink.later.clear()
        self.server.cli("queue", "retry", str(queue_id))
        time.sleep(0.5)
        self.assertEqual(self.sink.messages, [])
        self.server.cli("queue", "release", "--sender", "alice@example.test")
        self.assertTrue(eventually(lambda: self.waiting() == []))
        self.assertEqual(len(self.sink.messages), 1)

    def test_rerouted_mail_takes_the_other_way(self):
        queue_id, = self.put("x@dead.test")
        self.server.cli("queue", "reroute", "--destination", "dead.test", "--to", f"127.0.0.1:{self.sink.port}")
        self.assertTrue(eventually(lambda: len(self.sink.messages) == 1))
        self.assertTrue(eventually(lambda: self.waiting() == []))

    def test_deleted_mail_is_gone_and_with_bounce_the_sender_is_told(self):
        before = self.inbox()
        first, second = self.put("x@dead.test", count=2)
        self.assertEqual(self.server.cli_json("queue", "delete", str(first))["recipients"], 1)
        self.assertEqual([e["id"] for e in self.waiting()], [second])
        self.assertEqual(self.inbox(), before)
        self.server.cli("queue", "delete", str(second), "--bounce")
        self.assertTrue(eventually(lambda: self.waiting() == []))
        self.assertTrue(eventually(lambda: self.inbox() == before + 1))

    def test_a_message_is_shown_with_all_that_is_known(self):
        queue_id, = self.put("x@dead.test")
        self.assertTrue(eventually(lambda: self.waiting()[0]["attempts"] > 0))
        shown = self.server.cli_json("queue", "show", str(queue_id))
        self.assertEqual((shown["destination"], shown["next_hop"]), ("dead.test", "dead.test"))
        self.assertIsNotNone(shown["expires"])
        self.assertEqual(self.server.cli_json("queue", "status")["messages"], 1)

    def test_commands_that_name_nothing_are_refused(self):
        for words in (["hold"], ["delete"], ["retry"], ["reroute", "--all"], ["reroute", "--all", "--to", "a b"],
                      ["release", "x"], ["show", "0"]):
            self.assertEqual(self.server.cli("queue", *words, check=False).returncode, 2, words)
        self.assertEqual(self.server.cli("queue", "show", "999999999", check=False).returncode, 1)

    def test_commands_work_while_the_server_does_not_run(self):
        self.put("x@dead.test")
        self.server.stop()
        try:
            self.assertEqual(len(self.waiting()), 1)
            self.assertEqual(self.server.cli_json("queue", "delete", "--all")["recipients"], 1)
        finally:
            self.server.start()
        self.assertEqual(self.waiting(), [])


class Crashes(QueueTest):
    """Whatever is killed when: each message arrives. Doubles are those whose answer was on its way."""

    expects_losses = True

    def check_all_arrive(self, count, kill, kills):
        self.sink.pause = 0.005
        put = []

        def fill():
            for first in range(0, count, 20):
                put.extend(range(first, first + len(self.put("x@live.test", check=False, first=first, count=20))))

        filler = threading.Thread(target=fill)
        filler.start()
        for _ in range(kills):
            time.sleep(random.uniform(0.2, 1.0))
            kill()
        filler.join(240)
        self.assertFalse(filler.is_alive())
        self.assertTrue(eventually(lambda: self.waiting() == [], timeout=120), self.waiting()[:3])
        self.assertTrue(put)
        self.assertEqual(set(put) - set(self.sink.numbers()), set())

    def kill_one(self, kind):
        Killer(self.server).kill(kind)

    def test_workers_are_killed(self):
        self.check_all_arrive(200, lambda: self.kill_one("worker"), 6)

    def test_postgres_is_killed(self):
        self.check_all_arrive(200, lambda: self.kill_one("postgres"), 3)

    def test_everything_is_killed(self):
        self.check_all_arrive(200, lambda: self.kill_one("everything"), 3)


class Poison(QueueTest):
    """A message whose delivery ends the worker. Here whoever talks to the other server is killed."""

    expects_losses = True

    def kill_who_has_it(self, attempt):
        self.assertTrue(eventually(lambda: len(self.sink.attempts) == attempt, timeout=60))
        for pid in self.server.named("worker-0") + self.server.named("worker-1"):
            os.kill(pid, signal.SIGKILL)

    def test_it_comes_back_at_once_the_first_time_and_later_each_further_time(self):
        self.sink.pause = 120
        queue_id, = self.put("x@live.test")
        self.kill_who_has_it(1)
        self.kill_who_has_it(2)                     # it came again
        def shown():
            return self.server.cli_json("queue", "show", str(queue_id))
        self.assertTrue(eventually(lambda: shown()["last_attempt"] is not None, timeout=60))
        entry = shown()
        self.assertEqual(entry["last_answer"], "the delivering process ended 2 times while it had this message")
        self.assertGreater(entry["next"], entry["last_attempt"])
        self.sink.pause = 0
        self.put("y@live.test", first=1)            # others go on
        self.assertTrue(eventually(lambda: self.waiting() == [], timeout=60))
        self.assertEqual(sorted(self.sink.numbers()), [0, 1])


class Untold(QueueTest):
    def test_a_report_that_can_never_be_sent_ends(self):
        self.sink.never.add("no@live.test")
        self.put("no@live.test", sender="nobody-at-all@example.test")
        self.assertTrue(eventually(lambda: self.waiting() == []))
        self.assertIn("event=queue_untold", self.server.log())

    def test_rerouted_to_mx_it_leaves_the_relay(self):
        self.put("x@dead.test")
        self.server.cli("queue", "hold", "--recipient", "x@dead.test")      # so that it is still there
        self.server.cli("queue", "reroute", "--recipient", "x@dead.test", "--to", "mx")
        entry, = self.waiting()
        shown = self.server.cli_json("queue", "show", str(entry["id"]))
        self.assertEqual(shown["next_hop"], "dead.test")


if __name__ == "__main__":
    unittest.main()
