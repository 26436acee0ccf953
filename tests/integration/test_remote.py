"""Delivery to other servers, by a driver without a queue: good peers, bad peers, TLS policies."""

import base64
import email
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import harness
from smtp_peer import Authority, Peer, polite, server_context

TOOL = pathlib.Path(os.environ.get("MERPATI_REMOTE_TOOL", harness.ROOT / "build/asan/tools/remote_tool"))
MESSAGE = b"From: a@sender.test\r\nTo: b@example.test\r\nSubject: hello\r\n\r\nA line.\r\n.\r\n..two dots\r\nThe end.\r\n"
EIGHT_BIT = ("From: a@sender.test\r\nSubject: pigeons\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
             "Content-Transfer-Encoding: 8bit\r\n\r\nMerpati terbang \u2014 caf\u00e9.\r\n.\r\n").encode()
STEPS = ("connect", "greeting", "command", "data", "block", "end")
PATIENT = {f"delivery_{n}_timeout": "60s" for n in STEPS}
IMPATIENT = {f"delivery_{n}_timeout": "1s" for n in STEPS}      # for peers that stall
SETTINGS = {"hostname": "mail.sender.test", "delivery_refused_networks": "", "fetch_refused_networks": "", "mta_sts": "no", "dane": "no",
            "delivery_idle": "0s", "delivery_ipv6": "no",
            **PATIENT}


def dns(*records):
    return "; ".join(records)


def job(*rcpts, message=MESSAGE, **kw):
    rcpts = rcpts or ("b@example.test",)
    return {"destination": "example.test", "sender": "a@sender.test", "message": base64.b64encode(message).decode(),
            "rcpts": [r if isinstance(r, dict) else {"address": r} for r in rcpts], **kw}


class RemoteTest(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="remote-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def peer(self, handler=None, address="127.0.0.1", **kw):
        peer = Peer(handler or polite(), address, **kw)
        self.addCleanup(peer.close)
        return peer

    def deliver(self, *jobs, port=None, settings=None, parallel=False, database=""):
        everything = {**SETTINGS, "dns_override": dns("example.test. MX 10 mx.example.test", "mx.example.test. A 127.0.0.1"),
                      **({"delivery_port": str(port)} if port else {}), **(settings or {})}
        env = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1:exitcode=99"}
        result = subprocess.run([TOOL], input=json.dumps({"settings": everything, "jobs": jobs, "parallel": parallel,
                                                          "database": database}),
                                capture_output=True, text=True, timeout=120, env=env)
        self.assertEqual(result.returncode, 0, result.stderr[-3000:])
        self.log = result.stderr
        answer = json.loads(result.stdout)
        self.events = answer["events"]
        return answer["jobs"] if len(jobs) > 1 else answer["jobs"][0]

    def statuses(self, answer):
        return [r["status"] for r in answer["rcpts"]]

    def only(self, answer):
        self.assertEqual(len(answer["rcpts"]), 1)
        return answer["rcpts"][0]


class GoodPeers(RemoteTest):
    def test_a_message_arrives_byte_for_byte_with_dots_doubled_on_the_way(self):
        peer = self.peer()
        answer = self.deliver(job(), port=peer.port)
        self.assertEqual(self.statuses(answer), ["delivered"])
        self.assertEqual(peer.messages[0].replace(b"\r\n..", b"\r\n."), MESSAGE)
        self.assertEqual(peer.commands[0], "EHLO mail.sender.test")
        self.assertEqual(answer["host"], f"mx.example.test [127.0.0.1]:{peer.port}")
        self.assertEqual(answer["tls"], "")
        self.assertFalse(answer["down"])

    def test_without_pipelining_each_command_waits_for_its_answer(self):
        seen = []

        def slow(peer, wire, command):
            seen.append((command.split()[0], wire.buffer))
            wire.send("250 ok\r\n")
        peer = self.peer(polite(extensions=(), answers={"MAIL|RCPT": slow, "DATA": "354 go"}))
        peer.handler = polite(extensions=(), answers={"MAIL": slow})
        answer = self.deliver(job("b@example.test", "c@example.test"), port=peer.port)
        self.assertEqual(self.statuses(answer), ["delivered"] * 2)
        self.assertEqual(seen, [("MAIL", b"")])

    def test_a_server_that_knows_helo_only_gets_helo(self):
        peer = self.peer(polite(answers={"EHLO": "502 what?"}))
        self.assertEqual(self.statuses(self.deliver(job(), port=peer.port)), ["delivered"])
        self.assertTrue(peer.said("HELO mail.sender.test"))

    def test_each_recipient_gets_its_own_answer(self):
        peer = self.peer(polite(answers={"RCPT TO:<x@": "550-5.1.1 no such\r\n550 5.1.1 user here", "RCPT TO:<y@": "451 later"}))
        answer = self.deliver(job("b@example.test", "x@example.test", "y@example.test"), port=peer.port)
        self.assertEqual(self.statuses(answer), ["delivered", "failed", "deferred"])
        self.assertEqual(answer["rcpts"][1]["enhanced"], "5.1.1")
        self.assertEqual(answer["rcpts"][1]["text"], "no such user here")
        self.assertEqual(answer["rcpts"][2]["enhanced"], "4.0.0")
        self.assertTrue(answer["rcpts"][1]["remote"])

    def test_data_taken_although_nobody_is_there_gets_an_empty_message_and_the_session_goes_on(self):
        peer = self.peer(polite(answers={"RCPT TO:<x@": "550 5.1.1 no", "DATA": ["354 go on", ]}))
        first, second = self.deliver(job("x@example.test"), job(), port=peer.port, settings={"delivery_idle": "5s"})
        self.assertEqual(self.statuses(first), ["failed"])
        self.assertEqual(self.statuses(second), ["delivered"])
        self.assertEqual(peer.messages[0], b"")
        self.assertEqual(peer.connections, 1)

    def test_parameters_go_to_who_knows_them(self):
        extensions = ("PIPELINING", "SIZE 100000", "8BITMIME", "DSN", "MT-PRIORITY", "DELIVERBY", "SMTPUTF8")
        peer = self.peer(polite(extensions))
        rcpt = {"address": "b@example.test", "notify": 2 | 4, "orcpt": "rfc822;B@example.test"}
        answer = self.deliver(job(rcpt, envid="QQ314159", ret=2, priority=3, deliver_by_us=int((time.time() + 5000) * 1e6)),
                              port=peer.port)
        mail, = peer.said("MAIL")
        self.assertEqual(mail.split()[1], "FROM:<a@sender.test>")
        params = mail.split()[2:]
        self.assertIn(f"SIZE={len(MESSAGE)}", params)
        self.assertIn("RET=HDRS", params)
        self.assertIn("ENVID=QQ314159", params)
        self.assertIn("MT-PRIORITY=3", params)
        self.assertRegex(mail, r"BY=\d+;R")
        self.assertEqual(peer.said("RCPT"), ["RCPT TO:<b@example.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;B@example.test"])
        self.assertTrue(self.only(answer)["dsn"])
        plain = self.peer(polite(()))
        answer = self.deliver(job(rcpt, envid="QQ314159", ret=2, priority=3), port=plain.port)
        self.assertEqual(plain.said("MAIL"), ["MAIL FROM:<a@sender.test>"])
        self.assertEqual(plain.said("RCPT"), ["RCPT TO:<b@example.test>"])
        self.assertFalse(self.only(answer)["dsn"])

    def test_parameters_cannot_smuggle_commands(self):
        peer = self.peer()
        rcpt = {"address": "b@example.test>\r\nRCPT TO:<evil@example.test", "orcpt": "rfc822;x y"}
        answer = self.deliver(job(rcpt, "c@example.test", envid="a b\r\nRSET"), port=peer.port)
        self.assertEqual(self.statuses(answer), ["failed", "delivered"])
        self.assertEqual(len(peer.said("RCPT")), 1)
        self.assertNotIn("ENVID", peer.said("MAIL")[0])

    def test_eight_bits_are_announced_or_converted(self):
        peer = self.peer()
        self.deliver(job(message=EIGHT_BIT), port=peer.port)
        self.assertIn("BODY=8BITMIME", peer.said("MAIL")[0])
        self.assertIn("café".encode(), peer.messages[0])
        plain = self.peer(polite(("PIPELINING",)))
        self.assertEqual(self.statuses(self.deliver(job(message=EIGHT_BIT), port=plain.port)), ["delivered"])
        self.assertNotIn("BODY", plain.said("MAIL")[0])
        self.assertTrue(plain.messages[0].isascii())
        parsed = email.message_from_bytes(plain.messages[0].replace(b"\r\n..", b"\r\n."))
        self.assertEqual(parsed.get_payload(decode=True).replace(b"\r\n", b"\n"), EIGHT_BIT.split(b"\r\n\r\n", 1)[1].replace(b"\r\n", b"\n"))

    def test_parts_that_have_eight_bits_are_converted_and_others_stay(self):
        parts = (b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n--b\r\n"
                 b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xc3\xa9 = trailing \r\n--b\r\n"
                 b"Content-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n\r\n\xff\xfe\x80\r\n--b\r\n"
                 b"Content-Type: text/plain\r\n\r\nplain\r\n--b--\r\n")
        plain = self.peer(polite(("PIPELINING",)))
        self.deliver(job(message=parts), port=plain.port)
        self.assertTrue(plain.messages[0].isascii())
        sent = email.message_from_bytes(plain.messages[0])
        self.assertEqual(sent["Content-Transfer-Encoding"], "7bit")
        one, two, three = sent.get_payload()
        self.assertEqual(one.get_payload(decode=True), "é = trailing ".encode())
        self.assertEqual(two.get_payload(decode=True), b"\xff\xfe\x80")
        self.assertEqual(three.get_payload(), "plain")
        self.assertIsNone(three["Content-Transfer-Encoding"])

    def test_binary_goes_by_bdat_where_that_is_known(self):
        binary = b"Content-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\n\r.\r\n.\r\n\xff"
        peer = self.peer(polite(("PIPELINING", "CHUNKING", "BINARYMIME", "8BITMIME")))
        self.assertEqual(self.statuses(self.deliver(job(message=binary, body=3), port=peer.port)), ["delivered"])
        self.assertEqual(peer.messages, [binary])
        self.assertIn("BODY=BINARYMIME", peer.said("MAIL")[0])
        plain = self.peer()
        self.deliver(job(message=binary, body=3), port=plain.port)
        self.assertEqual(email.message_from_bytes(plain.messages[0]).get_payload(decode=True), b"\x00\n\r.\r\n.\r\n\xff")

    def test_international_addresses_need_a_server_that_knows_them(self):
        known = self.peer()
        utf8 = job("péngirim@example.test", utf8=True, message="Subject: surat é\r\n\r\nx\r\n".encode())
        self.assertEqual(self.statuses(self.deliver(utf8, port=known.port)), ["delivered"])
        self.assertIn("SMTPUTF8", known.said("MAIL")[0])
        plain = self.peer(polite(("PIPELINING", "8BITMIME")))
        refused = self.only(self.deliver(utf8, port=plain.port))
        self.assertEqual((refused["status"], refused["enhanced"]), ("failed", "5.6.7"))
        self.assertFalse(plain.said("MAIL"))
        only_asked_for = self.deliver(job(utf8=True), port=plain.port)
        self.assertEqual(self.statuses(only_asked_for), ["delivered"])
        domain = self.deliver(job("b@bücher.example.test"), port=plain.port)
        self.assertEqual(self.statuses(domain), ["delivered"])
        self.assertTrue(plain.said("RCPT TO:<b@xn--bcher-kva.example.test>"))

    def test_too_large_is_known_beforehand(self):
        peer = self.peer(polite(("SIZE 50",)))
        rcpt = self.only(self.deliver(job(), port=peer.port))
        self.assertEqual((rcpt["status"], rcpt["enhanced"]), ("failed", "5.3.4"))
        self.assertFalse(peer.said("MAIL"))

    def test_limits_split_recipients_and_messages(self):
        peer = self.peer(polite(("PIPELINING", "LIMITS RCPTMAX=2 MAILMAX=2")))
        answer = self.deliver(job(*[f"u{i}@example.test" for i in range(7)]), port=peer.port)
        self.assertEqual(self.statuses(answer), ["delivered"] * 7)
        self.assertEqual(len(peer.messages), 4)
        self.assertEqual(peer.connections, 2)

    def test_too_many_recipients_go_in_the_next_transaction(self):
        def count(peer, wire, command):
            taken = sum(1 for c in peer.commands[max(i for i, c in enumerate(peer.commands) if c.startswith("MAIL")):]
                        if c.startswith("RCPT"))
            wire.send("250 2.1.5 ok\r\n" if taken <= 2 else "452 4.5.3 too many\r\n")
        # The scripted function does not count as accepted, so DATA is answered by hand.
        peer = self.peer(polite(("PIPELINING",), answers={"RCPT": count, "DATA": "354 go on"}))
        answer = self.deliver(job(*[f"u{i}@example.test" for i in range(5)]), port=peer.port)
        self.assertEqual(self.statuses(answer), ["delivered"] * 5)
        self.assertEqual(len(peer.messages), 3)
        self.assertEqual(peer.connections, 1)

    def test_lmtp_answers_for_every_recipient(self):
        path = str(self.folder / "lmtp")
        peer = Peer(polite(lmtp=True, answers={r"\.": ["250 2.0.0 ok", "452 4.2.2 full"]}), path, family=socket.AF_UNIX)
        self.addCleanup(peer.close)
        answer = self.deliver(job("b@example.test", "c@example.test", route=f"lmtp:unix:{path}"))
        self.assertEqual(self.statuses(answer), ["delivered", "deferred"])
        self.assertEqual(answer["rcpts"][1]["enhanced"], "4.2.2")
        self.assertTrue(peer.said("LHLO"))

    def test_connections_are_used_again(self):
        peer = self.peer()
        answers = self.deliver(*[job() for _ in range(5)], port=peer.port, settings={"delivery_idle": "5s"})
        self.assertEqual([self.statuses(a) for a in answers], [["delivered"]] * 5)
        self.assertEqual(peer.connections, 1)
        self.assertEqual(len(peer.said("EHLO")), 1)
        self.deliver(*[job() for _ in range(5)], port=peer.port, settings={"delivery_idle": "5s", "delivery_reuse": "2"})
        self.assertEqual(peer.connections, 1 + 3)

    def test_a_connection_that_died_at_rest_costs_nobody_anything(self):
        def close(peer, wire, command):
            wire.send("250 2.0.0 taken\r\n")
            peer.handler = polite()
            wire.sock.shutdown(socket.SHUT_RDWR)
        peer = self.peer(polite(answers={r"\.": close}))
        answers = self.deliver(job(), job(), port=peer.port, settings={"delivery_idle": "5s"})
        self.assertEqual([self.statuses(a) for a in answers], [["delivered"]] * 2)
        self.assertEqual(len(peer.messages), 2)

    def test_a_server_that_has_had_enough_of_a_connection_gets_the_next_message_over_another(self):
        def enough(peer, wire, command):
            wire.send("421 4.7.0 too many messages in this session\r\n" if wire.count else "250 ok\r\n")
            wire.count += 1

        def handle(peer, wire):
            wire.count = 0
            polite(extensions, answers={"MAIL": enough})(peer, wire)
        for extensions in (("PIPELINING",), ()):
            with self.subTest(extensions=extensions):
                peer = self.peer(handle)
                answers = self.deliver(*[job() for _ in range(3)], port=peer.port, settings={"delivery_idle": "5s"})
                self.assertEqual([(self.statuses(a), a["down"]) for a in answers], [(["delivered"], False)] * 3)
                self.assertEqual((len(peer.messages), peer.connections), (3, 3))

    def test_many_jobs_at_once(self):
        peer = self.peer()
        answers = self.deliver(*[job() for _ in range(40)], port=peer.port, parallel=True,
                               settings={"delivery_idle": "5s", "delivery_idle_connections": "3"})
        self.assertEqual([self.statuses(a) for a in answers], [["delivered"]] * 40)
        self.assertEqual(len(peer.messages), 40)

    def test_the_dialogue_of_a_peer_is_logged_when_asked(self):
        peer = self.peer()
        self.deliver(job(), port=peer.port, settings={"smtp_trace_peers": "other.test, example.test"})
        self.assertIn("event=smtp_dialogue", self.log)
        self.assertIn("MAIL FROM:<a@sender.test>", self.log)
        self.assertNotIn("two dots", self.log)

    def test_a_large_message_goes_through(self):
        large = MESSAGE + b"0123456789" * 7 + b"\r\n" + (b"x" * 76 + b"\r\n") * 100000
        peer = self.peer()
        self.deliver(job(message=large), port=peer.port)
        self.assertEqual(peer.messages[0].replace(b"\r\n..", b"\r\n."), large)


class BadPeers(RemoteTest):
    def check_deferred(self, handler, down=None, **kw):
        peer = self.peer(handler)
        answer = self.deliver(job(), port=peer.port, **kw)
        self.assertEqual(self.statuses(answer), ["deferred"])
        self.assertRegex(self.only(answer)["enhanced"], r"^4\.\d+\.\d+$")
        self.assertTrue(self.only(answer)["text"])
        if down is not None:
            self.assertEqual(answer["down"], down)
        return self.only(answer)

    def test_stalling_at_any_step_costs_a_deadline(self):
        def stall(peer, wire, command):
            wire.wait_for_end()
        for step in ("EHLO", "MAIL", "RCPT", "DATA", r"\."):
            with self.subTest(step=step):
                self.check_deferred(polite(answers={step: stall}), settings=IMPATIENT)
                self.check_deferred(polite(extensions=(), answers={step: stall}), settings=IMPATIENT)
        with self.subTest(step="greeting"):
            self.check_deferred(lambda peer, wire: wire.wait_for_end(), down=True, settings=IMPATIENT)

    def test_dropping_at_any_step_puts_off(self):
        def drop(peer, wire, command):
            wire.sock.shutdown(socket.SHUT_RDWR)
        for step in ("EHLO", "MAIL", "RCPT", "DATA", r"\."):
            with self.subTest(step=step):
                self.check_deferred(polite(answers={step: drop}))
        with self.subTest(step="greeting"):
            self.check_deferred(lambda peer, wire: None, down=True)

    def test_dropping_in_the_middle_of_the_message_puts_off(self):
        def read_some(peer, wire, command):
            wire.send("354 go on\r\n")
            wire.exact(100)
            wire.sock.close()
        peer = self.peer(polite(answers={"DATA": read_some, "RCPT": "250 ok"}))
        answer = self.deliver(job(message=MESSAGE + b"x" * 70 + b"\r\n" * 200000), port=peer.port)
        self.assertEqual(self.statuses(answer), ["deferred"])

    def test_a_verdict_given_in_the_middle_of_the_message_is_heard(self):
        def refuse(peer, wire, command):
            wire.send("354 go on\r\n")
            wire.exact(100)
            wire.send("554 5.7.1 spam\r\n")
            wire.sock.shutdown(socket.SHUT_WR)
            time.sleep(1)
        peer = self.peer(polite(answers={"DATA": refuse, "RCPT": "250 ok"}))
        rcpt = self.only(self.deliver(job(message=MESSAGE + (b"x" * 70 + b"\r\n") * 100000), port=peer.port))
        self.assertEqual((rcpt["status"], rcpt["enhanced"]), ("failed", "5.7.1"))

    def test_garbage_and_endless_answers_put_off(self):
        flood = b"250-" + b"x" * 100 + b"\r\n"

        def endless_line(peer, wire):
            while True:
                wire.send(b"2" * 65536)

        def endless_answer(peer, wire):
            while True:
                wire.send(flood * 100)

        def bytewise(peer, wire):
            while True:
                wire.send(b"2")
                time.sleep(0.05)
        for name, handler in {"line": endless_line, "answer": endless_answer, "bytes": bytewise,
                              "http": polite(greeting="HTTP/1.1 400 Bad Request\r\n\r\n"), "nothing": polite(greeting="\r\n"),
                              "binary": polite(greeting=bytes(range(256)) + b"\r\n"),
                              "two codes": polite(greeting="220-a\r\n250 b\r\n")}.items():
            with self.subTest(name):
                self.check_deferred(handler, down=True, settings=IMPATIENT if name == "bytes" else None)

    def test_closed_doors_put_off_whatever_their_first_digit(self):
        for greeting in ("550 go away\r\n", "421 busy\r\n", "450 later\r\n"):
            rcpt = self.check_deferred(polite(greeting=greeting), down=True)
            self.assertIn(greeting.strip().split(" ", 1)[1], rcpt["text"])

    def test_a_host_that_takes_no_mail_is_believed_when_no_other_does(self):
        for greeting in ("521 no mail here\r\n", "554 no SMTP service here\r\n"):
            closed = self.peer(polite(greeting=greeting), "127.0.0.2")
            self.peer(polite(greeting=greeting), "127.0.0.3", port=closed.port)
            records = ("example.test. MX 10 a.example.test", "a.example.test. A 127.0.0.2", "example.test. MX 20 b.example.test")
            answer = self.deliver(job(), port=closed.port,
                                  settings={"dns_override": dns(*records, "b.example.test. A 127.0.0.3")})
            rcpt = self.only(answer)
            self.assertEqual((rcpt["status"], rcpt["enhanced"], rcpt["code"]), ("failed", "5.3.2", int(greeting[:3])))
            self.assertFalse(answer["down"])
            self.assertFalse(closed.said("EHLO"))
            open_door = self.peer(polite(), "127.0.0.4", port=closed.port)
            answer = self.deliver(job(), port=closed.port,
                                  settings={"dns_override": dns(*records, "b.example.test. A 127.0.0.4")})
            self.assertEqual((self.statuses(answer), len(open_door.messages)), (["delivered"], 1))
            with self.subTest(relay=greeting):
                answer = self.deliver(job(route=f"127.0.0.2:{closed.port}"))
                self.assertEqual(self.statuses(answer), ["deferred"])

    def test_421_in_the_middle_says_that_the_destination_is_down(self):
        self.check_deferred(polite(answers={"MAIL": "421 4.7.0 slow down"}), down=True)
        self.check_deferred(polite(answers={"RCPT": "421 4.7.0 slow down"}), down=True)

    def test_odd_ehlo_lines_are_survived(self):
        odd = ("SIZE", "SIZE abc", "SIZE 99999999999999999999999", "", " ", "AUTH", "LIMITS RCPTMAX=0 MAILMAX=x RCPTMAX=",
               "pipelining", "x" * 2000, "8BITMIME 8BITMIME", "DELIVERBY -5")
        peer = self.peer(polite(odd))
        self.assertEqual(self.statuses(self.deliver(job(), port=peer.port)), ["delivered"])

    def test_nobody_there_puts_off(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        answer = self.deliver(job(), port=port)
        self.assertEqual((self.statuses(answer), answer["down"]), (["deferred"], True))
        self.assertEqual(self.only(answer)["enhanced"], "4.4.1")

    def test_a_bare_cr_or_lf_is_not_sent(self):
        peer = self.peer()
        self.deliver(job(message=b"Subject: x\r\n\r\na\r.\rb\n.\nc\r\n"), port=peer.port)
        self.assertEqual(peer.messages, [b"Subject: x\r\n\r\na . b\r\n..\r\nc\r\n"])

    def test_an_unfinished_last_line_is_finished(self):
        peer = self.peer()
        self.deliver(job(message=b"Subject: x\r\n\r\nno end"), port=peer.port)
        self.assertEqual(peer.messages, [b"Subject: x\r\n\r\nno end\r\n"])


class Hosts(RemoteTest):
    def overrides(self, *records):
        return {"dns_override": dns(*records)}

    def test_hosts_are_tried_by_preference_and_the_next_takes_what_the_first_put_off(self):
        first = self.peer(polite(answers={"RCPT TO:<later@": "450 4.2.0 greylisted"}), "127.0.0.1")
        second = self.peer(polite(), "127.0.0.2", port=first.port)
        records = self.overrides("example.test. MX 20 b.example.test", "example.test. MX 10 a.example.test",
                                 "a.example.test. A 127.0.0.1", "b.example.test. A 127.0.0.2")
        answer = self.deliver(job("b@example.test", "later@example.test"), port=first.port, settings=records)
        self.assertEqual(self.statuses(answer), ["delivered", "delivered"])
        self.assertEqual(first.said("RCPT"), ["RCPT TO:<b@example.test>", "RCPT TO:<later@example.test>"])
        self.assertEqual(second.said("RCPT"), ["RCPT TO:<later@example.test>"])
        first.close()
        answer = self.deliver(job(), port=second.port, settings=records)
        self.assertEqual(self.statuses(answer), ["delivered"])
        self.assertIn("b.example.test [127.0.0.2]", answer["host"])

    def test_equal_hosts_share_the_work(self):
        first = self.peer(polite(), "127.0.0.1")
        second = self.peer(polite(), "127.0.0.2", port=first.port)
        self.deliver(*[job() for _ in range(30)], port=first.port,
                     settings=self.overrides("example.test. MX 10 a.example.test", "example.test. MX 10 b.example.test",
                                             "a.example.test. A 127.0.0.1", "b.example.test. A 127.0.0.2"))
        self.assertEqual(len(first.messages) + len(second.messages), 30)
        self.assertTrue(first.messages and second.messages)

    def test_ipv6_and_ipv4_are_both_tried(self):
        peer = self.peer()
        answer = self.deliver(job(), port=peer.port, settings={
            "delivery_ipv6": "yes", **self.overrides("example.test. MX 10 a.example.test", "a.example.test. AAAA ::1",
                                                     "a.example.test. A 127.0.0.1")})
        self.assertEqual(self.statuses(answer), ["delivered"])

    def test_without_mx_the_domain_is_the_host(self):
        peer = self.peer()
        answer = self.deliver(job(), port=peer.port, settings=self.overrides("example.test. A 127.0.0.1"))
        self.assertEqual(self.statuses(answer), ["delivered"])
        answer = self.deliver(job(destination="[127.0.0.1]"), port=peer.port)
        self.assertEqual(self.statuses(answer), ["delivered"])

    def check_refused(self, enhanced, *records, settings=None, **kw):
        answer = self.deliver(job(**kw), port=9, settings={**self.overrides(*records), **(settings or {})})
        rcpt = self.only(answer)
        self.assertEqual((rcpt["status"], rcpt["enhanced"]), ("failed", enhanced), rcpt["text"])
        self.assertFalse(answer["down"])
        return rcpt

    def test_what_dns_says_surely_is_final(self):
        rcpt = self.check_refused("5.1.10", "example.test. MX 0 .")
        self.assertEqual(rcpt["code"], 556)
        self.check_refused("5.4.4", "example.test. MX 10 a.example.test", "a.example.test. TXT nothing")
        self.check_refused("5.1.2", "other.test. A 127.0.0.1", destination="no domain")

    def test_mail_does_not_loop(self):
        self.check_refused("5.4.6", "example.test. MX 10 mail.sender.test", "mail.sender.test. A 127.0.0.1")
        self.check_refused("5.4.6", "example.test. MX 10 mail.sender.test", "example.test. MX 10 b.example.test",
                           "example.test. MX 20 c.example.test", "b.example.test. A 127.0.0.1")
        refused = {"delivery_refused_networks": "127.0.0.0/8, 0.0.0.0/8"}
        self.check_refused("5.4.6", "example.test. MX 10 a.example.test", "a.example.test. A 127.0.0.1", settings=refused)
        self.check_refused("5.4.6", "example.test. MX 10 a.example.test", "a.example.test. A 0.0.0.0", settings=refused)

    def test_an_ipv4_address_in_the_clothes_of_ipv6_is_known_for_what_it_is(self):
        records = "example.test. MX 10 a.example.test", "a.example.test. AAAA ::ffff:127.0.0.1"
        self.check_refused("5.4.6", *records, settings={"delivery_refused_networks": "127.0.0.0/8", "delivery_ipv6": "yes"})
        with socket.socket(type=socket.SOCK_DGRAM) as s:
            try:
                s.connect(("192.0.2.1", 9))         # sends nothing
            except OSError:
                self.skipTest("this machine has no address but loopback")
            own = s.getsockname()[0]
        answer = self.deliver(job(), port=25, settings={**self.overrides(
            records[0], f"a.example.test. AAAA ::ffff:{own}"), "delivery_ipv6": "yes"})
        self.assertEqual(self.only(answer)["enhanced"], "5.4.6")

    def test_before_our_own_host_in_the_list_others_are_tried(self):
        peer = self.peer()
        answer = self.deliver(job(), port=peer.port, settings=self.overrides(
            "example.test. MX 10 a.example.test", "example.test. MX 20 mail.sender.test", "a.example.test. A 127.0.0.1"))
        self.assertEqual(self.statuses(answer), ["delivered"])

    def test_dns_that_does_not_answer_puts_off(self):
        with socket.socket(type=socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            answer = self.deliver(job(destination="elsewhere.test"), port=9, settings={
                "dns_server": f"127.0.0.1:{silent.getsockname()[1]}", "dns_timeout": "300ms"})
        self.assertEqual((self.statuses(answer), answer["down"]), (["deferred"], True))
        self.assertEqual(self.only(answer)["enhanced"], "4.4.3")

    def test_no_more_hosts_than_the_limit(self):
        peer = self.peer(polite(answers={"MAIL": "451 4.3.0 later"}))
        records = [f"example.test. MX {i} h{i}.example.test" for i in range(9)] + [
            f"h{i}.example.test. A 127.0.0.1" for i in range(9)]
        self.deliver(job(), port=peer.port, settings={**self.overrides(*records), "delivery_hosts_max": "3"})
        self.assertEqual(peer.connections, 3)

    def test_by_mx_is_a_way_that_wins_over_the_settings(self):
        peer = self.peer()
        for domain, records in (("example.test", ("example.test. MX 10 mx.example.test", "mx.example.test. A 127.0.0.1")),
                                ("[127.0.0.1]", ())):
            answer = self.deliver(job(destination=domain, route="mx:"), port=peer.port, settings={
                **self.overrides(*records), "delivery_routes": "*=127.0.0.1:9"})
            self.assertEqual(self.statuses(answer), ["delivered"])

    def test_ways_of_the_administrator_win(self):
        peer = self.peer()
        records = self.overrides("example.test. MX 0 .", "relay.test. A 127.0.0.1")
        answer = self.deliver(job(), settings={**records, "delivery_routes": f"other.test=[127.0.0.9]; *=relay.test:{peer.port}"})
        self.assertEqual(self.statuses(answer), ["delivered"])
        answer = self.deliver(job(route=f"[127.0.0.1]:{peer.port}"), settings=records)
        self.assertEqual(self.statuses(answer), ["delivered"])
        self.assertEqual(len(peer.messages), 2)


class Relays(RemoteTest):
    def setUp(self):
        super().setUp()
        self.authority = Authority(self.folder)
        self.context = self.authority.context("relay.test")
        self.credentials = self.folder / "credentials"
        self.credentials.write_text("# relays\nother.test nobody x\nrelay.test ani s3cret word\n")
        self.settings = {"dns_override": "relay.test. A 127.0.0.1", "delivery_credentials": str(self.credentials),
                         "tls_ca_file": str(self.authority.ca), "smtp_trace_peers": "example.test"}

    def test_plain_and_login_say_the_secret_to_the_relay_and_not_to_the_log(self):
        token = base64.b64encode(b"\0ani\0s3cret word").decode()
        peer = self.peer(polite(("AUTH PLAIN LOGIN",), starttls=self.context, answers={f"AUTH PLAIN {token}$": "235 ok"}))
        answer = self.deliver(job(route=f"relay.test:{peer.port}"), settings=self.settings)
        self.assertEqual(self.statuses(answer), ["delivered"])
        self.assertIn("verified", answer["tls"])
        self.assertTrue(peer.said("AUTH PLAIN"))
        self.assertNotIn(token, self.log)
        peer = self.peer(polite(("AUTH LOGIN",), starttls=self.context,
                                answers={"AUTH LOGIN$": "334 VXNlcm5hbWU6", "YW5p$": "334 UGFzc3dvcmQ6",
                                         base64.b64encode(b"s3cret word").decode(): "235 ok"}))
        answer = self.deliver(job(route=f"relay.test:{peer.port}"), settings=self.settings)
        self.assertEqual(self.statuses(answer), ["delivered"])

    def test_a_relay_that_is_said_to_be_here_too_is_told_no_password_elsewhere(self):
        """Whoever can forge the relay's addresses must not get at the password by adding one of ours."""
        away = next((line.split()[3].split("/")[0] for line in subprocess.run(
            ["ip", "-o", "-4", "addr"], capture_output=True, text=True).stdout.splitlines() if " lo " not in line), None)
        if away is None:
            self.skipTest("this machine has no address but loopback")
        thief = self.peer(polite(("AUTH PLAIN",), starttls=self.authority.context("thief.test", is_self_signed=True),
                                 answers={"AUTH": "235 ok"}), address=away)
        for _ in range(6):                       # in random order
            self.deliver(job(route=f"relay.test:{thief.port}"), settings={
                **self.settings, "dns_override": f"relay.test. A 127.0.0.1; relay.test. A {away}"})
        self.assertTrue(thief.connections)
        self.assertFalse(thief.said("AUTH"))

    def test_a_refused_login_puts_off(self):
        peer = self.peer(polite(("AUTH PLAIN",), answers={"AUTH": "535 5.7.8 wrong"}))
        answer = self.deliver(job(route=f"relay.test:{peer.port}"), settings=self.settings)
        self.assertEqual((self.statuses(answer), self.only(answer)["enhanced"]), (["deferred"], "4.7.8"))
        self.assertFalse(peer.said("MAIL"))

    def test_tls_from_the_first_byte_is_verified(self):
        peer = self.peer(polite(), context=self.context)
        answer = self.deliver(job(route=f"smtps:relay.test:{peer.port}"),
                              settings={**self.settings, "delivery_credentials": ""})
        self.assertEqual(self.statuses(answer), ["delivered"])
        answer = self.deliver(job(route=f"smtps:relay.test:{peer.port}"),
                              settings={**self.settings, "delivery_credentials": "", "tls_ca_file": ""})
        self.assertEqual(self.statuses(answer), ["deferred"])


class Tls(RemoteTest):
    def setUp(self):
        super().setUp()
        self.authority = Authority(self.folder)
        self.trust = {"tls_ca_file": str(self.authority.ca)}

    def test_tls_is_used_where_offered_whatever_the_certificate(self):
        peer = self.peer(polite(starttls=self.authority.context("whatever.test", is_self_signed=True)))
        answer = self.deliver(job(), port=peer.port)
        self.assertEqual(self.statuses(answer), ["delivered"])
        self.assertRegex(answer["tls"], r"^TLSv1\.3 with cipher .*, not verified$")
        self.assertEqual([c.split()[0] for c in peer.commands[:4]], ["EHLO", "STARTTLS", "EHLO", "MAIL"])
        self.assertEqual([(e["result"], e["policy_type"]) for e in self.events], [("", 0)])

    def test_the_name_of_a_verified_server_is_told(self):
        peer = self.peer(polite(starttls=self.authority.context("mx.example.test")))
        answer = self.deliver(job(), port=peer.port, settings=self.trust)
        self.assertRegex(answer["tls"], r", verified$")

    def test_a_handshake_that_fails_costs_the_tls_and_not_the_mail(self):
        def refuse(peer, wire, command):
            wire.send("220 go ahead\r\n")
            wire.send("this is no TLS at all\r\n")
            wire.wait_for_end()
        for answers in ({"STARTTLS": refuse}, {"STARTTLS": "454 4.7.0 not now"},
                        {"STARTTLS": lambda p, w, c: w.sock.shutdown(socket.SHUT_RDWR)}):
            peer = self.peer(polite(("STARTTLS", "PIPELINING"), answers=answers))
            answer = self.deliver(job(), port=peer.port)
            self.assertEqual((self.statuses(answer), answer["tls"]), (["delivered"], ""))

    def test_commands_injected_ahead_of_the_handshake_are_not_taken_for_answers(self):
        def inject(peer, wire, command):
            wire.send("220 go ahead\r\n250-evil\r\n250 SIZE 1\r\n")
            wire.start_tls(self.authority.context("mx.example.test"))
        peer = self.peer(polite(("STARTTLS",), answers={"STARTTLS": inject}))
        answer = self.deliver(job(), port=peer.port, settings={**self.trust, "delivery_tls_domains": "example.test"})
        self.assertEqual(self.statuses(answer), ["deferred"])
        self.assertFalse(peer.said("MAIL"))

    def test_a_domain_for_which_tls_is_ordered_gets_no_mail_without(self):
        order = {**self.trust, "delivery_tls_domains": "other.test, example.test"}
        plain = self.peer()
        self.assertEqual(self.statuses(self.deliver(job(), port=plain.port, settings=order)), ["deferred"])
        wrong = self.peer(polite(starttls=self.authority.context("wrong.test")))
        self.assertEqual(self.statuses(self.deliver(job(), port=wrong.port, settings=order)), ["deferred"])
        self.assertFalse(plain.said("MAIL") or wrong.said("MAIL"))
        right = self.peer(polite(starttls=self.authority.context("mx.example.test")))
        self.assertEqual(self.statuses(self.deliver(job(), port=right.port, settings=order)), ["delivered"])

    def test_requiretls_goes_to_proven_servers_that_promise_it_only(self):
        required = job(requires_tls=True)
        plain = self.peer()
        rcpt = self.only(self.deliver(required, port=plain.port, settings=self.trust))
        self.assertEqual((rcpt["status"], rcpt["enhanced"]), ("failed", "5.7.10"))
        context = self.authority.context("relay.test")
        way = {**self.trust, "dns_override": "relay.test. A 127.0.0.1"}
        silent = self.peer(polite(starttls=context))
        rcpt = self.only(self.deliver({**required, "route": f"relay.test:{silent.port}"}, settings=way))
        self.assertEqual((rcpt["status"], rcpt["enhanced"]), ("failed", "5.7.30"))
        self.assertFalse(plain.said("MAIL") or silent.said("MAIL"))
        good = self.peer(polite(starttls=context, tls_extensions=("REQUIRETLS",)))
        self.assertEqual(self.statuses(self.deliver({**required, "route": f"relay.test:{good.port}"}, settings=way)), ["delivered"])
        self.assertIn("REQUIRETLS", good.said("MAIL")[0])

    def test_a_report_of_mail_that_requires_tls_is_not_lost_for_it(self):
        required = job(requires_tls=True, sender="")
        deaf = self.peer(polite(extensions=("REQUIRETLS",)))        # which it must not say without TLS
        self.assertEqual(self.statuses(self.deliver(required, port=deaf.port)), ["delivered"])
        self.assertNotIn("REQUIRETLS", deaf.said("MAIL")[0])
        good = self.peer(polite(starttls=self.authority.context("other.test"), tls_extensions=("REQUIRETLS",)))
        self.assertEqual(self.statuses(self.deliver(required, port=good.port)), ["delivered"])
        self.assertIn("REQUIRETLS", good.said("MAIL")[0])

    def test_tls_of_delivery_can_be_switched_off(self):
        peer = self.peer(polite(starttls=self.authority.context("mx.example.test")))
        self.deliver(job(), port=peer.port, settings={"delivery_tls": "no"})
        self.assertFalse(peer.said("STARTTLS"))


class StsSite:
    """The web server that publishes a policy."""

    def __init__(self, context, text, status="200 OK", content_type="text/plain", headers=(), raw=None):
        self.text, self.status, self.content_type, self.headers, self.raw = text, status, content_type, headers, raw
        self.requests = 0
        self.peer = Peer(self.answer, context=context)
        self.port = self.peer.port

    def answer(self, peer, wire):
        request = []
        while line := wire.line():
            request.append(line)
        self.requests += 1
        self.request = request
        if callable(self.raw):
            self.raw(wire)
            return
        body = self.text.encode()
        wire.send(f"HTTP/1.1 {self.status}\r\nContent-Type: {self.content_type}\r\n"
                  + "".join(h + "\r\n" for h in self.headers) + f"Content-Length: {len(body)}\r\n\r\n")
        wire.send(body)

    def close(self):
        self.peer.close()


def policy(mode="enforce", mx=("mx.example.test",), max_age=86400):
    return f"version: STSv1\r\nmode: {mode}\r\n" + "".join(f"mx: {m}\r\n" for m in mx) + f"max_age: {max_age}\r\n"


class WithServer(RemoteTest):
    """A whole server beside the driver: for its database, and as the other side."""

    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server({"login_plaintext_loopback": "no", "smtp_auth_on_25": "yes"})
        try:
            cls.server.start()
            cls.server.cli("domain", "add", "example.test")
            cls.server.add_accounts("alice", "bob")
        except BaseException:
            print(cls.server.log()[-4000:])
            cls.server.remove()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.server.remove()

    def setUp(self):
        super().setUp()
        self.database = f"host='{self.server.data}/run' port=5432 user=merpati dbname=merpati"


class OurOwnServer(WithServer):
    def deliver_here(self, *rcpts, **kw):
        settings = kw.pop("settings", {})
        return self.deliver(job(*rcpts, **kw), port=self.server.port("smtp"), settings=settings)

    def test_our_own_server_takes_mail_under_tls(self):
        answer = self.deliver_here("alice@example.test", "nobody@example.test", "bob@example.test")
        self.assertEqual(self.statuses(answer), ["delivered", "failed", "delivered"])
        self.assertEqual(answer["rcpts"][1]["enhanced"], "5.1.1")
        self.assertTrue(answer["tls"].startswith("TLSv1.3"))
        with self.server.imap("bob", tls=True) as imap:
            imap.select()
            raw = imap.fetch("1:*", "(BODY.PEEK[])")[1][0][1]
        self.assertTrue(raw.endswith(MESSAGE))

    def test_our_own_lmtp_takes_mail(self):
        answer = self.deliver(job("alice@example.test", "nobody@example.test",
                                  route=f"lmtp:[127.0.0.1]:{self.server.port('lmtp')}"))
        self.assertEqual(self.statuses(answer), ["delivered", "failed"])

    def test_scram_logs_in_and_a_wrong_password_does_not(self):
        credentials = self.folder / "credentials"
        settings = {"delivery_credentials": str(credentials), "tls_ca_file": str(self.server.data / "tls/ca.pem"),
                    "dns_override": "localhost. A 127.0.0.1", "smtp_trace_peers": "example.test"}
        for password, status in ((harness.PASSWORD, "delivered"), ("wrong", "deferred")):
            credentials.write_text(f"localhost alice@example.test {password}\n")
            answer = self.deliver(job("bob@example.test", sender="alice@example.test", message=MESSAGE.replace(b"a@sender", b"alice@example"),
                                      route=f"localhost:{self.server.port('submission')}"), settings=settings)
            self.assertEqual(self.statuses(answer), [status], self.log[-2000:])
        self.assertIn("AUTH ... (secret)", self.log)
        self.assertNotIn('from=us line="AUTH SCRAM', self.log)
        self.assertNotIn(",i=", self.log)


class MtaSts(WithServer):
    domains = 0

    def setUp(self):
        super().setUp()
        MtaSts.domains += 1                      # each case has a domain of its own: policies stay in the database
        self.domain = f"d{MtaSts.domains}.test"
        self.authority = Authority(self.folder)
        self.right = self.authority.context("mx.example.test")
        self.web = self.authority.context(f"mta-sts.{self.domain}")

    def site(self, *args, context=None, **kw):
        site = StsSite(context or self.web, *args, **kw)
        self.addCleanup(site.close)
        return site

    def send(self, peer, site, txt="v=STSv1; id=1;", settings=None, **kw):
        records = [f"{self.domain}. MX 10 mx.example.test", "mx.example.test. A 127.0.0.1", f"mta-sts.{self.domain}. A 127.0.0.1"]
        if txt:
            records.append(f'_mta-sts.{self.domain}. TXT "{txt.replace(";", chr(92) + "059")}"')
        answer = self.deliver(job(f"b@{self.domain}", destination=self.domain, **kw), port=peer.port, database=self.database,
                              settings={"dns_override": dns(*records), "mta_sts": "yes", "mta_sts_port": str(site.port),
                                        "mta_sts_timeout": "2s", "tls_ca_file": str(self.authority.ca), **(settings or {})})
        return self.statuses(answer)[0]

    def results(self):
        return [e["result"] for e in self.events]

    def test_enforce_wants_the_right_certificate(self):
        site = self.site(policy())
        good, plain = self.peer(polite(starttls=self.right)), self.peer()
        wrong = self.peer(polite(starttls=self.authority.context("wrong.test")))
        self.assertEqual(self.send(good, site), "delivered")
        self.assertEqual((self.results(), self.events[0]["policy_type"], self.events[0]["mx_patterns"]), ([""], 2, "mx.example.test"))
        self.assertEqual(self.send(plain, site), "deferred")
        self.assertEqual(self.results(), ["starttls-not-supported"])
        self.assertEqual(self.send(wrong, site), "deferred")
        self.assertEqual(self.results(), ["certificate-host-mismatch"])
        self.assertFalse(plain.said("MAIL") or wrong.said("MAIL"))
        self.assertEqual(site.requests, 1)
        self.assertEqual(site.request[0], "GET /.well-known/mta-sts.txt HTTP/1.1")
        self.assertEqual(self.send(plain, site, tls_optional=True), "delivered")

    def test_an_attacker_who_hides_dns_and_web_server_does_not_undo_the_policy(self):
        site, good, plain = self.site(policy()), self.peer(polite(starttls=self.right)), self.peer()
        self.assertEqual(self.send(good, site), "delivered")
        self.assertEqual(self.send(plain, site, txt=None), "deferred")
        site.close()
        self.assertEqual(self.send(plain, site, txt="v=STSv1; id=2;"), "deferred")

    def test_mail_waits_while_dns_does_not_say_whether_there_is_a_policy(self):
        site, plain = self.site(policy()), self.peer()
        with socket.socket(type=socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            away = {"dns_server": f"127.0.0.1:{silent.getsockname()[1]}", "dns_timeout": "300ms"}
            self.assertEqual(self.send(plain, site, txt=None, settings=away), "deferred")
            self.assertFalse(plain.said("MAIL"))
            self.assertEqual(self.send(plain, site, txt=None, settings=away, tls_optional=True), "delivered")

    def test_a_new_id_brings_the_new_policy(self):
        site, plain = self.site(policy()), self.peer()
        self.assertEqual(self.send(plain, site), "deferred")
        site.text = policy("none", ())
        self.assertEqual(self.send(plain, site), "deferred")
        self.assertEqual(self.send(plain, site, txt="v=STSv1; id=2;"), "delivered")
        self.assertEqual(site.requests, 2)

    def test_a_host_that_is_not_in_the_policy_is_not_used(self):
        site, good = self.site(policy(mx=("other.example.test", "*.mx.example.test"))), self.peer(polite(starttls=self.right))
        self.assertEqual(self.send(good, site), "deferred")
        self.assertEqual(self.results(), ["validation-failure"])
        self.assertEqual(good.connections, 0)

    def test_testing_tells_and_lets_pass(self):
        site, plain = self.site(policy("testing")), self.peer()
        self.assertEqual(self.send(plain, site), "delivered")
        self.assertEqual(self.results(), ["starttls-not-supported"])
        wrong = self.peer(polite(starttls=self.authority.context("wrong.test")))
        self.assertEqual(self.send(wrong, site), "delivered")
        self.assertEqual(self.results(), ["certificate-host-mismatch"])

    def test_policies_that_cannot_be_had_ask_for_nothing_and_are_told(self):
        plain = self.peer()
        flood = lambda wire: [wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + b"x" * 1000) for _ in range(1000)]
        cases = [
            (dict(status="302 Found", headers=("Location: https://127.0.0.1/",)), "sts-policy-fetch-error"),
            (dict(status="404 Not Found"), "sts-policy-fetch-error"),
            (dict(content_type="text/html"), "sts-policy-fetch-error"),
            (dict(raw=flood), "sts-policy-fetch-error"),
            (dict(raw=lambda wire: wire.wait_for_end()), "sts-policy-fetch-error"),
            (dict(raw=lambda wire: wire.send("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\nContent-Type: text/plain\r\n\r\n")),
             "sts-policy-fetch-error"),
            (dict(text="<html>"), "sts-policy-invalid"),
            (dict(context=self.authority.context("wrong.test")), "sts-webpki-invalid"),
        ]
        for kw, result in cases:
            with self.subTest(result=result, **{k: str(v) for k, v in kw.items()}):
                site = self.site(kw.pop("text", policy()), **kw)
                self.assertEqual(self.send(plain, site), "delivered")
                self.assertEqual(self.results()[0], result)

    def test_a_policy_in_chunks_is_read(self):
        body = policy().encode()

        def chunked(wire):
            wire.send("HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n")
            for i in range(0, len(body), 10):
                piece = body[i:i + 10]
                wire.send(b"%x;x=y\r\n%s\r\n" % (len(piece), piece))
            wire.send("0\r\n\r\n")
        site, plain = self.site("", raw=chunked), self.peer()
        self.assertEqual(self.send(plain, site), "deferred")

    def test_a_policy_that_only_the_end_bounds_needs_a_proper_end(self):
        def until_the_end(wire):
            wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + policy())

        def closed(wire):
            until_the_end(wire)
            wire.sock.unwrap()                      # close_notify
        self.assertEqual(self.send(self.peer(), self.site("", raw=until_the_end)), "delivered")
        self.assertEqual(self.results(), ["sts-policy-fetch-error"])
        self.domain = "closed-" + self.domain
        site = self.site("", raw=closed, context=self.authority.context(f"mta-sts.{self.domain}"))
        self.assertEqual(self.send(self.peer(), site), "deferred")

    def test_a_policy_server_in_a_private_network_is_not_asked(self):
        site = self.site(policy())
        for refused in ("127.0.0.0/8", "0.0.0.0/0"):
            self.assertEqual(self.send(self.peer(), site, settings={"fetch_refused_networks": refused}), "delivered")
        self.assertEqual(site.peer.connections, 0)

    def test_requiretls_is_satisfied_by_a_policy(self):
        site = self.site(policy())
        good = self.peer(polite(starttls=self.right, tls_extensions=("REQUIRETLS",)))
        self.assertEqual(self.send(good, site, requires_tls=True), "delivered")


class Dane(RemoteTest):
    """Against a signed DNS server, where the resolver can be given a trust anchor."""

    def setUp(self):
        super().setUp()
        try:
            from dns_server import DnsServer
        except ImportError:
            self.skipTest("no signed DNS server")
        if "OPTION(dns_trust_anchor" not in (harness.ROOT / "server/run/config.def").read_text():
            self.skipTest("no trust anchor can be set")
        self.authority = Authority(self.folder)
        self.cert, self.key = self.authority.make("unrelated.test", is_self_signed=True)
        self.good = self.peer(polite(starttls=server_context(self.cert, self.key)))
        self.port = self.good.port
        self.dns = DnsServer({"example.test": [("MX", "10 mx.example.test.")], "mx.example.test": [("A", "127.0.0.1")]},
                             signed=True).start()
        self.addCleanup(self.dns.stop)

    def records(self, *tlsa, host="mx.example.test", **more):
        records = {"example.test": [("MX", f"10 {host}.")], "mx.example.test": [("A", "127.0.0.1")]}
        if tlsa:
            records[f"_{self.port}._tcp.mx.example.test"] = [("TLSA", t) for t in tlsa]
        self.dns.set_records({**records, **more})

    def send(self, settings=None, **kw):
        answer = self.deliver(job(**kw), port=self.port, settings={
            "dns_override": "", "dns_server": self.dns.address, "dns_trust_anchor": self.dns.trust_anchor, "dane": "yes",
            **(settings or {})})
        self.tls = answer["tls"]
        return self.statuses(answer)[0]

    def test_a_key_that_dns_names_is_good_whatever_its_certificate_says(self):
        self.records(self.authority.tlsa(self.cert))
        self.assertEqual(self.send(), "delivered")
        self.assertIn("verified by DANE", self.tls)
        self.assertEqual([(e["policy_type"], e["policy_domain"], e["result"]) for e in self.events], [(1, "mx.example.test", "")])

    def test_another_key_gets_no_mail(self):
        other, _ = self.authority.make("mx.example.test")
        self.records(self.authority.tlsa(other))
        self.assertEqual(self.send(settings={"tls_ca_file": str(self.authority.ca)}), "deferred")
        self.assertEqual(self.events[0]["result"], "certificate-not-trusted")
        self.assertFalse(self.good.said("MAIL"))
        self.assertEqual(self.send(tls_optional=True), "delivered")

    def test_a_server_without_tls_gets_no_mail(self):
        self.records(self.authority.tlsa(self.cert))
        self.good.handler = polite()
        self.assertEqual(self.send(), "deferred")
        self.assertEqual(self.events[0]["result"], "starttls-not-supported")

    def test_a_ca_that_dns_names_vouches_for_the_right_names_only(self):
        anchor = self.authority.tlsa(self.authority.ca, usage=2)
        self.records(anchor)
        for name, status in (("mx.example.test", "delivered"), ("example.test", "delivered"), ("wrong.test", "deferred")):
            cert, key = self.authority.make(name)
            chain = self.folder / "chain.pem"
            chain.write_text(cert.read_text() + self.authority.ca.read_text())
            self.good.handler = polite(starttls=server_context(chain, key))
            self.assertEqual(self.send(), status, name)

    def test_records_that_nobody_can_use_ask_for_tls(self):
        self.records("0 0 1 " + "ab" * 32)
        self.assertEqual(self.send(), "delivered")
        self.assertEqual(self.events[0]["result"], "tlsa-invalid")
        self.good.handler = polite()
        self.assertEqual(self.send(), "deferred")

    def test_when_dns_does_not_say_whether_there_are_records_mail_waits(self):
        self.records(self.authority.tlsa(self.cert))
        self.dns.set_behaviour((f"_{self.port}._tcp.mx.example.test", "TLSA"), "servfail")
        self.assertEqual(self.send(settings={"dns_timeout": "3s"}), "deferred")
        self.assertEqual(self.events[0]["result"], "dnssec-invalid")
        self.assertFalse(self.good.said("MAIL"))

    def test_an_address_lookup_that_fails_does_not_undo_the_records(self):
        other, _ = self.authority.make("mx.example.test")
        self.records(self.authority.tlsa(other))
        self.dns.set_behaviour(("mx.example.test", "AAAA"), "servfail")
        self.assertEqual(self.send(settings={"dns_timeout": "3s"}), "deferred")
        self.assertFalse(self.good.said("MAIL"))
        self.records(self.authority.tlsa(self.cert))
        self.assertEqual(self.send(settings={"dns_timeout": "3s"}), "delivered")
        self.assertIn("verified by DANE", self.tls)

    def test_without_records_anything_goes_and_requiretls_is_content_with_dnssec(self):
        self.records()
        self.assertEqual(self.send(), "delivered")
        cert, key = self.authority.make("mx.example.test")
        self.good.handler = polite(starttls=server_context(cert, key), tls_extensions=("REQUIRETLS",))
        self.assertEqual(self.send(requires_tls=True, settings={"tls_ca_file": str(self.authority.ca)}), "delivered")

    def test_records_behind_a_cname_are_found(self):
        self.records(self.authority.tlsa(self.cert), host="alias.example.test",
                     **{"alias.example.test": [("CNAME", "mx.example.test.")]})
        self.assertEqual(self.send(), "delivered")
        self.assertIn("verified by DANE", self.tls)


class Sink(RemoteTest):
    """Postfix's smtp-sink: a server that nobody here wrote."""

    def test_smtp_sink_takes_mail(self):
        sink = shutil.which("smtp-sink") or "/usr/sbin/smtp-sink"
        if not os.access(sink, os.X_OK):
            self.skipTest("smtp-sink is not installed")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        process = subprocess.Popen([sink, *user, "-h", "sink.test", f"127.0.0.1:{port}", "100"])
        try:
            def is_up():
                with socket.socket() as s:
                    return s.connect_ex(("127.0.0.1", port)) == 0
            self.assertTrue(harness.eventually(is_up, 10))
            answers = self.deliver(*[job("a@example.test", "b@example.test") for _ in range(10)], port=port, parallel=True,
                                   settings={"delivery_idle": "2s"})
            self.assertEqual([self.statuses(a) for a in answers], [["delivered"] * 2] * 10)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


if __name__ == "__main__":
    unittest.main()
