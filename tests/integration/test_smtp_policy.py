"""Whom the server takes mail from: XCLIENT, rates, lists, greylisting, early talk. A trusted proxy plays the strangers."""

import base64
import re
import shutil
import socket
import subprocess
import time
import unittest

from dns_server import DnsServer
from harness import PASSWORD, ServerTest, eventually

MESSAGE = b"From: a@good.test\r\nTo: alice@example.test\r\nSubject: %s\r\n\r\nHello.\r\n.\r\n"

RECORDS = {
    "good.test": [("MX", "10 mx.good.test")], "mx.good.test": [("A", "192.0.2.1")],
    "host.test": [("A", "192.0.2.2")],
    "nomail.test": [("MX", "0 .")],
    "text.test": [("TXT", "nothing else")],
    "66.2.0.192.bl.test": [("A", "127.0.0.2"), ("TXT", "spam was seen, see https://bl.test/")],
    "67.2.0.192.bl.test": [("A", "127.0.0.2")], "67.2.0.192.wl.test": [("A", "127.0.0.1")],
    "68.2.0.192.bl.test": [("A", "127.255.255.254")],
    "69.2.0.192.weak.test": [("A", "127.0.0.2")],
    "70.2.0.192.weak.test": [("A", "127.0.0.2")], "70.2.0.192.half.test": [("A", "127.0.0.3")],
}


class PolicyTest(ServerTest):
    settings = {"smtp_xclient_networks": "127.0.0.0/8", "smtp_greeting_delay": "0s", "smtp_unknown_rcpt_delay": "0s",
                "smtp_errors_max": "50"}
    records = None

    @classmethod
    def setUpClass(cls):
        if cls.records is not None:
            cls.dns = DnsServer(cls.records, getattr(cls, "behaviours", {})).start()
            cls.addClassCleanup(cls.dns.stop)
            cls.settings = {**cls.settings, "dns_server": cls.dns.address}
        super().setUpClass()

    def raw(self, port="smtp"):
        raw = self.server.raw(port)
        self.addCleanup(raw.close)
        self.assertTrue(raw.reply().startswith(b"220 "))
        return raw

    def say(self, raw, line):
        raw.send(line + "\r\n")
        return raw.reply().decode()

    def expect(self, raw, start, line):
        answer = self.say(raw, line)
        self.assertTrue(answer.startswith(start), (line, answer))
        return answer

    def stranger(self, address="192.0.2.7", hello="EHLO client.good.test", rest=""):
        raw = self.raw()
        self.expect(raw, "220 ", f"XCLIENT ADDR={address} {rest}".strip())
        if hello:
            self.expect(raw, "250", hello)
        return raw

    def transaction(self, raw, to="alice@example.test", sender="a@good.test"):
        """The first answer that is no 250, or the last."""
        for line in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>"):
            answer = self.say(raw, line)
            if not answer.startswith("250"):
                return answer
        return answer

    def send(self, raw, subject, **kw):
        answer = self.transaction(raw, **kw)
        if not answer.startswith("250"):
            return answer
        self.expect(raw, "354", "DATA")
        raw.send((MESSAGE % subject.encode()).replace(b"a@good.test", kw.get("sender", "a@good.test").encode()))
        return raw.reply().decode()

    def fetch(self, user, subject):
        with self.server.imap(user) as c:
            c.select("INBOX", readonly=True)
            ids = c.search(None, "SUBJECT", f'"{subject}"')[1][0].split()
            return [c.fetch(i, "(BODY.PEEK[])")[1][0][1] for i in ids]

    def log_in(self, raw, user="alice"):
        plain = base64.b64encode(f"\0{user}@example.test\0{PASSWORD}".encode()).decode()
        self.expect(raw, "235", f"AUTH PLAIN {plain}")


class XclientTest(PolicyTest):
    settings = {**PolicyTest.settings, "smtp_sender_domain_exists": "no", "smtp_trusted_networks": "198.51.100.0/24"}

    def test_it_is_offered_to_proxies(self):
        self.assertRegex(self.say(self.raw(), "EHLO proxy.test"), r"(?m)^250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN")

    def test_the_client_stands_in_the_received_field_and_the_log(self):
        raw = self.stranger("IPV6:2001:db8::7", rest="NAME=mx.client.test PORT=4711 PROTO=ESMTP DESTADDR=192.0.2.25 DESTPORT=25")
        self.assertTrue(self.send(raw, "by a proxy").startswith("250"))
        (got,) = self.fetch("alice", "by a proxy")
        self.assertIn(b"Received: from client.good.test (mx.client.test [IPv6:2001:db8::7])\r\n", got)
        self.assertIn("peer=2001:db8::7", self.server.log())

    def test_helo_and_log_in_of_the_client_are_believed(self):
        raw = self.stranger(hello=None, rest="HELO=inner.test PROTO=SMTP LOGIN=alice@example.test NAME=[UNAVAILABLE]")
        self.expect(raw, "550 5.7.1", "MAIL FROM:<bob@example.test>")
        self.assertTrue(self.send(raw, "by login", sender="alice@example.test").startswith("250"))
        (got,) = self.fetch("alice", "by login")
        self.assertIn(b"Received: from inner.test (unknown [192.0.2.7])\r\n\tby mail.example.test with SMTP", got)

    def test_bad_attributes_are_refused_and_nothing_changes(self):
        raw = self.raw()
        for args, start in (("", "501"), ("ADDR=300.1.1.1", "501 5.5.4 XCLIENT: ADDR"), ("ADDR", "501"), ("ADDR=", "501"),
                            ("FROB=1", "501 5.5.4 XCLIENT: unknown"), ("PORT=99999", "501"), ("PROTO=LMTP", "501"), ("HELO=a+20b", "501"),
                            ("NAME=a+0D+0Ab", "501"), ("ADDR=192.0.2.9 PORT=x", "501"), ("LOGIN=nobody@example.test", "550 5.1.1"),
                            ("ADDR=IPV6:192.0.2.9x", "501")):
            self.expect(raw, start, f"XCLIENT {args}".strip())
        self.expect(raw, "250", "EHLO c.test")
        self.expect(raw, "250", "MAIL FROM:<a@good.test>")
        self.expect(raw, "503 5.5.1 XCLIENT comes before MAIL", "XCLIENT ADDR=192.0.2.7")
        self.assertNotIn("192.0.2.9", self.server.log())

    def test_the_session_begins_anew_and_may_change_again(self):
        raw = self.stranger()
        self.log_in_refused_without_tls(raw)
        self.expect(raw, "220", "XCLIENT ADDR=192.0.2.8")
        self.expect(raw, "503", "MAIL FROM:<a@good.test>")
        self.expect(raw, "250", "EHLO c.test")
        self.assertTrue(self.send(raw, "second client").startswith("250"))
        self.assertIn(b"[192.0.2.8]", self.fetch("alice", "second client")[0])

    def log_in_refused_without_tls(self, raw):
        """The client is not on this machine, whatever the proxy is."""
        self.expect(raw, "538", "AUTH PLAIN AGFsaWNlQGV4YW1wbGUudGVzdABzZWNyZXQ=")

    @unittest.skipUnless(shutil.which("swaks"), "swaks is not installed")
    def test_swaks_speaks_for_another(self):
        for options in ((), ("--pipeline",)):
            result = subprocess.run(["swaks", "--server", "127.0.0.1", "--port", str(self.server.port("smtp")), "--to", "alice@example.test",
                                     "--from", "s@elsewhere.test", "--helo", "swaks.good.test", "--xclient-addr", "192.0.2.77",
                                     "--xclient-name", "swaks.client.test", "--header", "Subject: by swaks for another", *options],
                                    capture_output=True, text=True, timeout=60)
            self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        self.assertIn(b"Received: from swaks.good.test (swaks.client.test [192.0.2.77])", self.fetch("alice", "by swaks for another")[0])


class TalkTest(PolicyTest):
    settings = {**PolicyTest.settings, "smtp_greeting_delay": "1s", "smtp_sender_domain_exists": "no", "smtp_unknown_rcpt_max": "4",
                "smtp_helo_full_name": "yes"}

    def test_who_talks_before_the_greeting_is_sent_away(self):
        raw = self.raw()
        raw.send("XCLIENT ADDR=192.0.2.10\r\nEHLO early.test\r\n")
        self.assertTrue(raw.reply().startswith(b"554 5.5.1 you spoke before the greeting"))
        self.assertEqual(raw.file.read(), b"")

    def test_who_waits_is_greeted_and_need_not_wait_again(self):
        self.expect(self.stranger("192.0.2.11"), "250", "MAIL FROM:<a@good.test>")
        self.assertTrue(eventually(lambda: self.greeted_although_early("192.0.2.11"), timeout=30))

    def greeted_although_early(self, address):
        """Each worker remembers for itself."""
        raw = self.raw()
        raw.send(f"XCLIENT ADDR={address}\r\nEHLO early.test\r\n")
        return raw.reply().startswith(b"220")

    def test_this_machine_is_not_kept_waiting(self):
        with socket.create_connection(("127.0.0.1", self.server.port("smtp"))) as sock:
            sock.sendall(b"EHLO early.test\r\nMAIL FROM:<a@b.test>\r\nQUIT\r\n")
            answer = b""
            while block := sock.recv(4096):
                answer += block
        self.assertEqual(re.findall(rb"(?m)^(\d+) ", answer), [b"220", b"250", b"250", b"221"])

    def test_commands_sent_ahead_unasked_end_the_session(self):
        for first in ("EHLO ahead.test", "HELO ahead.test"):
            raw = self.stranger("192.0.2.12", hello=None)
            raw.send(first + "\r\nMAIL FROM:<a@good.test>\r\n")
            self.assertTrue(raw.reply().startswith(b"554 5.5.1 you did not wait"))
            self.assertEqual(raw.file.read(), b"")
        raw = self.stranger("192.0.2.12", hello="HELO old.test")
        raw.send("MAIL FROM:<a@good.test>\r\nRCPT TO:<alice@example.test>\r\n")
        self.assertTrue(raw.reply().startswith(b"554 5.5.1"))

    def test_commands_sent_ahead_as_offered_are_fine(self):
        raw = self.stranger("192.0.2.13")
        raw.send("MAIL FROM:<a@good.test>\r\nRCPT TO:<alice@example.test>\r\nRSET\r\nQUIT\r\n")
        self.assertEqual([raw.reply()[:3] for _ in range(4)], [b"250", b"250", b"250", b"221"])

    def test_text_sent_ahead_of_the_answer_to_data_ends_the_session(self):
        raw = self.stranger("192.0.2.13")
        raw.send(b"MAIL FROM:<a@good.test>\r\nRCPT TO:<alice@example.test>\r\nDATA\r\n" + MESSAGE % b"ahead")
        self.assertEqual([raw.reply()[:3] for _ in range(3)], [b"250", b"250", b"554"])
        self.assertEqual(raw.file.read(), b"")

    def test_too_many_unknown_recipients_end_the_session(self):
        raw = self.stranger("192.0.2.14")
        self.expect(raw, "250", "MAIL FROM:<a@good.test>")
        for i in range(4):
            self.expect(raw, "550 5.1.1", f"RCPT TO:<nobody{i}@example.test>")
        self.expect(raw, "550 5.1.1", "RCPT TO:<nobody5@example.test>")
        self.assertTrue(raw.reply().startswith(b"421 4.7.0"))
        self.assertEqual(raw.file.read(), b"")

    def test_a_helo_that_is_no_full_name_is_refused_at_mail(self):
        for name, start in (("localhost", "550 5.7.1"), ("client.", "550 5.7.1"), ("a.test", "250"), ("[192.0.2.15]", "250")):
            self.expect(self.stranger("192.0.2.15", hello=f"EHLO {name}"), start, "MAIL FROM:<a@good.test>")

    def test_the_null_sender_may_write_to_several(self):
        raw = self.stranger("192.0.2.16")
        self.expect(raw, "250", "MAIL FROM:<>")
        self.expect(raw, "250", "RCPT TO:<alice@example.test>")
        self.expect(raw, "250", "RCPT TO:<bob@example.test>")


class ProxyTest(PolicyTest):
    """Strangers as PROXY v2 brings them: here the very first words meet policies."""
    settings = {**PolicyTest.settings, "listen_smtp": "127.0.0.1 proxy", "smtp_greeting_delay": "1s", "smtp_rate_network_connections": "4"}

    def connect(self, address, text=b""):
        raw = self.server.raw("smtp")
        self.addCleanup(raw.close)
        raw.send(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + socket.inet_aton(address) + socket.inet_aton("192.0.2.25") + b"\x10\0\0\x19" + text)
        return raw

    def test_who_talks_first_never_sees_the_greeting(self):
        raw = self.connect("192.0.2.40", b"EHLO early.test\r\n")
        self.assertTrue(raw.reply().startswith(b"554 5.5.1 you spoke before the greeting"))
        self.assertEqual(raw.file.read(), b"")

    def test_who_waits_is_greeted(self):
        raw = self.connect("192.0.2.41")
        self.assertTrue(raw.reply().startswith(b"220 "))
        self.assertTrue(self.say(raw, "EHLO late.test").startswith("250"))

    def test_who_leaves_while_waiting_is_gone(self):
        self.connect("192.0.2.42").close()
        self.assertTrue(self.connect("192.0.2.41").reply().startswith(b"220 "))

    def test_too_many_connections_are_refused_at_once(self):
        self.assertTrue(eventually(lambda: self.connect("192.0.2.43").reply().startswith(b"421 4.7.0 too many connections")))


class MarkedTest(PolicyTest):
    settings = {**TalkTest.settings, "smtp_early_talk_refused": "no"}

    def test_early_talk_is_only_marked(self):
        raw = self.raw()
        raw.send("XCLIENT ADDR=192.0.2.10\r\nEHLO early.test\r\nMAIL FROM:<a@good.test>\r\n")
        self.assertEqual([raw.reply()[:3] for _ in range(3)], [b"220", b"250", b"250"])
        self.assertIn("client_marked", self.server.log())


class DnsPolicyTest(PolicyTest):
    records = RECORDS
    behaviours = {"broken.test": "servfail"}
    settings = {**PolicyTest.settings, "smtp_block_lists": "bl.test*2, weak.test*1, half.test=127.0.0.2-5",
                "smtp_block_weight": "2", "smtp_allow_lists": "wl.test"}

    def test_the_senders_domain_must_take_answers(self):
        raw = self.stranger()
        for sender, start in (("a@good.test", "250"), ("a@host.test", "250"), ("a@nomail.test", "550 5.7.27"), ("a@text.test", "550 5.1.8"),
                              ("a@nowhere.test", "550 5.1.8"), ("a@broken.test", "451 4.1.8"), ("alice@example.test", "250"),
                              ("a@[192.0.2.1]", "250"), ("", "250")):
            self.expect(raw, start, f"MAIL FROM:<{sender}>")
            self.expect(raw, "250", "RSET")

    def test_this_machine_may_give_any_sender(self):
        raw = self.raw()
        self.say(raw, "EHLO x.test")
        self.expect(raw, "250", "MAIL FROM:<a@nowhere.test>")

    def test_listed_clients_are_refused_with_the_lists_reason(self):
        raw = self.stranger("192.0.2.66")
        self.assertEqual(self.transaction(raw),
                         "554 5.7.1 your address 192.0.2.66 is listed by bl.test: spam was seen, see https://bl.test/\r\n")
        self.expect(raw, "250", "RCPT TO:<postmaster@example.test>")

    def test_allowed_clients_and_odd_answers_and_weak_lists_do_not_block(self):
        for address in ("192.0.2.67", "192.0.2.68", "192.0.2.69", "192.0.2.65"):
            self.assertTrue(self.transaction(self.stranger(address)).startswith("250"), address)

    def test_weights_add_up(self):
        self.assertTrue(self.transaction(self.stranger("192.0.2.70")).startswith("554 5.7.1"))

    def test_who_logs_in_is_not_asked_about(self):
        raw = self.stranger("192.0.2.66", hello=None, rest="HELO=x.test LOGIN=alice@example.test")
        self.assertTrue(self.transaction(raw, sender="alice@example.test").startswith("250"))


class GreylistTest(PolicyTest):
    settings = {**PolicyTest.settings, "smtp_greylist": "yes", "smtp_greylist_delay": "2s", "smtp_sender_domain_exists": "no"}

    def test_a_letter_that_comes_again_opens_the_door_to_its_network(self):
        raw = self.stranger("192.0.2.20")
        self.assertTrue(self.transaction(raw).startswith("451 4.7.1 we do not know your network yet"))
        self.assertTrue(self.transaction(self.stranger("192.0.2.21"), sender="other@good.test").startswith("451 4.7.1"))
        self.expect(raw, "250", "RCPT TO:<postmaster@example.test>")
        self.expect(raw, "250", "RSET")
        self.assertTrue(eventually(lambda: self.send(self.stranger("192.0.2.22"), "came again").startswith("250")))
        self.assertTrue(self.transaction(self.stranger("192.0.2.23"), to="bob@example.test", sender="b@other.test").startswith("250"))
        self.assertTrue(self.transaction(self.stranger("198.51.100.23")).startswith("451"))

    def test_unknown_recipients_are_refused_for_good(self):
        self.assertTrue(self.transaction(self.stranger("203.0.113.1"), to="nobody@example.test").startswith("550 5.1.1"))


class IdleCommandsTest(PolicyTest):
    settings = {**PolicyTest.settings, "smtp_sender_domain_exists": "no", "smtp_idle_commands_max": "10"}

    def deliver(self, raw):
        for line in ("MAIL FROM:<a@good.test>", "RCPT TO:<alice@example.test>", "DATA"):
            self.say(raw, line)
        raw.send(MESSAGE % b"in between")
        self.assertTrue(raw.reply().startswith(b"250 2.0.0"))

    def test_commands_that_bring_no_message_are_bounded(self):
        for line in ("NOOP", "RSET", "EHLO client.good.test", "VRFY alice", "HELP"):
            with self.subTest(line):
                raw = self.stranger("192.0.2.35")  # which said EHLO
                for _ in range(9):
                    self.assertFalse(self.say(raw, line).startswith("421"))
                self.expect(raw, "421 4.7.0 too many commands without a message", line)
                self.assertEqual(raw.reply(), b"")

    def test_a_transaction_that_is_given_up_is_no_message(self):
        raw = self.stranger("192.0.2.36")
        answers = []
        while not answers or not answers[-1].startswith("421"):
            answers += [self.say(raw, "MAIL FROM:<a@good.test>"), self.say(raw, "RSET")]
        self.assertEqual(len(answers), 20)

    def test_a_message_begins_the_count_anew(self):
        raw = self.stranger("192.0.2.37")
        for _ in range(3):
            for _ in range(9):
                self.expect(raw, "250", "NOOP")
            self.deliver(raw)


class RatesTest(PolicyTest):
    settings = {**PolicyTest.settings, "smtp_sender_domain_exists": "no", "smtp_rate_window": "1h", "smtp_rate_network_messages": "5",
                "smtp_rate_network_recipients": "8", "smtp_rate_network_connections": "20", "smtp_rate_account_messages": "4",
                "smtp_rate_account_recipients": "6", "smtp_rate_domain_messages": "6", "smtp_rate_postmaster": "3"}
    accounts = ("alice", "bob")

    def submit(self, user, rcpts=1):
        with self.server.smtp("submission") as c:
            c.login(f"{user}@example.test", PASSWORD)
            code, text = c.mail(f"{user}@example.test")
            for _ in range(rcpts if code == 250 else 0):
                code, text = c.rcpt("bob@example.test")
            return code, text.decode()

    def test_networks_accounts_and_domains_have_limits_of_their_own(self):
        answers = [self.say(self.stranger("192.0.2.30"), "MAIL FROM:<a@good.test>")[:9] for _ in range(5)]
        self.assertEqual(answers, ["250 2.1.0"] * 5)
        # Beyond, as soon as the workers have told each other.
        def over():
            raw = self.stranger("192.0.2.30")
            self.say(raw, "MAIL FROM:<a@good.test>")
            return self.say(raw, "RCPT TO:<alice@example.test>").startswith("451 4.7.1 too many messages from your network") and raw
        raw = eventually(over)
        self.assertTrue(raw)
        # Who is over can still ask why, within bounds.
        answers = [self.say(raw, "RCPT TO:<postmaster@example.test>")[:9] for _ in range(5)]
        self.assertEqual(answers, ["250 2.1.5"] * 3 + ["451 4.7.1"] * 2)
        self.expect(self.stranger("192.0.2.31"), "250", "MAIL FROM:<a@good.test>")

    def test_recipients_count_too(self):
        raw = self.stranger("192.0.2.32")
        self.expect(raw, "250", "MAIL FROM:<a@good.test>")
        answers = [self.say(raw, "RCPT TO:<alice@example.test>")[:9] for _ in range(10)]
        self.assertEqual(answers, ["250 2.1.5"] * 8 + ["451 4.7.1"] * 2)

    def test_connections_count_too(self):
        def is_refused():
            raw = self.raw()
            return self.say(raw, "XCLIENT ADDR=IPV6:2001:db8:7::%x" % (time.monotonic_ns() % 65535)).startswith(
                "421 4.7.0 too many connections")
        self.assertTrue(eventually(is_refused, pause=0.01))
        self.assertTrue(self.say(self.raw(), "XCLIENT ADDR=IPV6:2001:db8:7:1::1").startswith("220"))

    def test_accounts_and_their_domain(self):
        self.assertEqual(self.submit("alice", 6)[0], 250)
        self.assertTrue(eventually(lambda: self.submit("alice")[1].startswith("4.7.1 too many recipients from this account")))
        self.assertTrue(eventually(lambda: self.submit("alice")[1].startswith("4.7.1 too many messages from this account")))
        self.assertTrue(eventually(lambda: self.submit("bob")[1].startswith("4.7.1 too many messages from this domain")))


if __name__ == "__main__":
    unittest.main()
