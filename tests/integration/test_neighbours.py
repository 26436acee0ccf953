"""Debian's Postfix and Exim as neighbours: what they send us and what we send them, by all that the extensions promise. Every
test runs with each of them."""

import base64
import email
import email.policy
import os
import re
import unittest

import neighbours
from dns_server import DnsServer
from harness import PASSWORD, ServerTest, eventually
from neighbours import DOORS, SMALL, Stranger
from smtp_peer import Peer, polite

try:
    import dkim
except ImportError:
    dkim = None

FRIEND, ALICE = "friend@neighbour.test", "alice@example.test"
THEIRS, MINE = "j\u00fcrgen@neighbour.test", "j\u00fcrgen@example.test"
HOPS = 20
EIGHT_BIT = "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=%s\r\nContent-Transfer-Encoding: 8bit\r\n"
TEXT = "Burung merpati terbang \u2014 caf\u00e9, \u00fcber \u4e2d\u6587.\r\n.\r\n..\r\nFrom the roof\r\n"
DOTS = b"".join(b"." * n + b"\r\n" for n in (1, 2, 3, 0, 1)) + b".x\r\n.\r\n" + b"..." * 332 + b".y\r\n" + b"l" * 998 + b"\r\n.\r\n"


def letter(sender, to, subject, body=b"Hello.\r\n", fields=""):
    """With all that else somebody on the way would add."""
    number = re.sub(r"\W", ".", subject)
    head = (f"From: <{sender}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n"
            f"Message-ID: <{number}@{sender.rpartition('@')[2]}>\r\n{fields}\r\n")
    return head.encode() + body


def unpacked(part):
    return part.get_payload(decode=True)


class Report:
    """A multipart/report, taken apart."""

    def __init__(self, raw):
        self.raw = raw
        self.message = email.message_from_bytes(raw, policy=email.policy.default)
        _, status, original = list(self.message.iter_parts())
        self.original_type = original.get_content_type()
        self.original = original.as_bytes()
        first, *others = self.blocks(status)
        self.envid = first["Original-Envelope-Id"]
        self.by = first["Reporting-MTA"].partition(";")[2].strip()
        self.rcpts = others

    def blocks(self, status):
        """Python knows message/delivery-status, but not message/global-delivery-status (RFC 6533)."""
        _, _, text = status.as_bytes().replace(b"\r\n", b"\n").partition(b"\n\n")
        return [email.message_from_bytes(b) for b in text.strip().split(b"\n\n")]

    @property
    def rcpt(self):
        (only,) = self.rcpts
        return only

    @staticmethod
    def is_one(raw):
        return email.message_from_bytes(raw).get_content_type() == "multipart/report"


class NeighbourTests:
    accounts = ("alice", "bob", "fay")
    kind = None

    @classmethod
    def setUpClass(cls):
        cls.there = cls.kind()
        cls.addClassCleanup(cls.there.remove)
        cls.dns = DnsServer(cls.there.records()).start()
        cls.addClassCleanup(cls.dns.stop)
        cls.beyond = Peer(polite())
        cls.addClassCleanup(cls.beyond.close)
        settings = cls.there.settings()
        settings["delivery_routes"] += f"; relay.test=127.0.0.1:{cls.beyond.port}; *=127.0.0.1:9"
        cls.settings = {**settings, "dns_server": cls.dns.address, "dns_cache": "no", "delivery_idle": "60s",
                        "smtp_greeting_delay": "0s", "smtp_received_max": str(HOPS),
                        "listen_smtp": "127.0.0.1, 127.0.0.2 proxy"}
        super().setUpClass()
        try:
            cls.server.cli("domain", "add", "judged.test")
            cls.server.add_accounts("carol", domain="judged.test")
            cls.server.cli("alias", "add", MINE, ALICE)
            cls.there.start(cls.server)
        except BaseException:
            cls.server.remove()
            raise

    @classmethod
    def tearDownClass(cls):
        cls.there.stop()
        super().tearDownClass()

    # ---- sending and finding ---------------------------------------------------------------------
    def submit(self, to, subject, body=b"Hello.\r\n", fields="", mail=(), rcpt=(), sender=ALICE):
        """From here to the neighbour; one or many recipients."""
        to = [to] if isinstance(to, str) else to
        with self.server.smtp("submission") as c:
            c.login(ALICE, PASSWORD)
            self.say(c, sender, to, letter(sender, to[0], subject, body, fields), mail, rcpt)

    def inject(self, to, subject, body=b"Hello.\r\n", fields="", mail=(), rcpt=(), sender=FRIEND):
        """From the neighbour's side to here."""
        to = [to] if isinstance(to, str) else to
        with self.there.client() as c:
            c.ehlo()
            self.say(c, sender, to, letter(sender, to[0], subject, body, fields), mail, rcpt)

    def say(self, c, sender, to, message, mail, rcpt):
        c.command_encoding = "utf-8"
        self.assertEqual(c.mail(sender, list(mail))[0], 250)
        for address in to:
            code, text = c.rcpt(address, list(rcpt))
            self.assertIn(code, (250, 550), text)
        self.assertEqual(c.data(message)[0], 250)

    def there_is(self, subject, count=1, timeout=60):
        """What the neighbour's users got."""
        eventually(lambda: len(self.there.mail(subject)) >= count, timeout)
        found = self.there.mail(subject)
        self.assertEqual(len(found), count, self.logs())
        return found[0] if count == 1 else found

    def inbox(self, words, user=ALICE):
        with self.server.imap(user) as c:
            c.select("INBOX", readonly=True)
            numbers = c.search(None, "TEXT", f'"{words}"')[1][0].split()
            return [c.fetch(n, "(BODY.PEEK[])")[1][0][1] for n in numbers]

    def here_is(self, subject, user=ALICE, timeout=60):
        """What our user got."""
        def find():
            return [raw for raw in self.inbox(subject, user) if not Report.is_one(raw)]
        eventually(find, timeout, 0.2)
        found = find()
        self.assertEqual(len(found), 1, self.logs())
        return found[0]

    def reports_here(self, subject):
        return [Report(raw) for raw in self.inbox(subject) if Report.is_one(raw)]

    def reports_there(self, subject):
        return [Report(x.raw) for x in self.there.letters() if Report.is_one(x.raw) and subject.encode() in x.raw]

    def one_report(self, find, subject):
        """The only one: nothing is on its way any more that could bring another."""
        eventually(lambda: find(subject), pause=0.2)
        self.settle()
        found = find(subject)
        self.assertEqual(len(found), 1, self.logs())
        self.assertIn(found[0].message["Auto-Submitted"], ("auto-replied", "auto-generated"))
        return found[0]

    def settle(self):
        def empty():
            return not self.server.cli_json("queue", "list") and not self.there.queue()
        self.assertTrue(eventually(lambda: empty() and empty()), self.logs())

    def logs(self):
        return f"{self.there.log()[-4000:]}\n{self.server.log()[-4000:]}"

    def check_status(self, report, action, rcpt, by, envid="QQ+1", orcpt=None):
        self.assertEqual(report.envid, envid)
        self.assertEqual(report.by, by)
        self.assertEqual(report.rcpt["Action"].split()[0], action)
        self.assertEqual(report.rcpt["Final-Recipient"].replace(" ", ""), f"rfc822;{rcpt}")
        self.assertEqual(report.rcpt["Original-Recipient"].replace(" ", ""), f"rfc822;{orcpt or rcpt}")

    # ---- STARTTLS --------------------------------------------------------------------------------
    def test_connections_both_ways_are_under_tls_with_certificates_verified(self):
        # Exim goes on calling a session utf8esmtps when one of its messages was.
        self.submit(FRIEND, "tls out")
        self.assertRegex(self.there_is("tls out").raw, rb"(?i)by mx\.neighbour\.test (\(Postfix\) )?with (utf8)?esmtps")
        self.assertRegex(self.server.log(), r'event=queue_delivered .*rcpt=friend@neighbour.test .*tls="TLSv1.3 .*, verified"')
        self.inject(ALICE, "tls in")
        self.assertRegex(self.here_is("tls in"), rb"Received: from mx\.neighbour\.test .*\r\n\tby mail\.example\.test with ESMTPS\r\n\t\(TLSv1\.3 ")
        self.assertTrue(eventually(self.there.is_tls_verified), self.there.log())

    def test_a_neighbour_without_starttls_gets_its_mail_in_clear(self):
        self.submit("friend@old.test", "no tls")
        self.assertRegex(self.there_is("no tls").raw, rb"(?i)by mx\.neighbour\.test (\(Postfix\) )?with esmtp ")

    # ---- AUTH ------------------------------------------------------------------------------------
    def test_the_neighbour_logs_in_at_our_submission_port_and_we_relay(self):
        for mechanism in self.mechanisms_there:
            with self.subTest(mechanism):
                subject = f"smarthost by {mechanism}"
                self.inject(f"x@{mechanism.partition('-')[0].lower()}.relay.test", subject, sender=ALICE)
                found = eventually(lambda: [m for m in self.beyond.messages if subject.encode() in m])
                self.assertEqual(len(found), 1, self.logs())
                self.assertRegex(found[0], rb"Received: from mx\.neighbour\.test .*\r\n\tby mail\.example\.test with ESMTPSA\r\n")
                self.assertIn(b"DKIM-Signature: v=1; a=ed25519-sha256;", found[0])
                self.assertRegex(self.server.log(), f"event=login_ok .*account=alice@example.test mechanism={mechanism} ")

    def test_a_neighbour_with_the_name_of_another_may_not_send(self):
        """Who logs in may write in their own name alone; the neighbour tells the sender what we said."""
        self.inject("x@plain.relay.test", "in a stranger's name", sender=FRIEND)
        report = self.one_report(self.reports_there, "in a stranger's name")
        self.assertEqual(report.rcpt["Action"], "failed")
        self.assertIn("5.7.1", report.rcpt["Diagnostic-Code"])

    def test_we_log_in_at_the_neighbour(self):
        for door, said in self.mechanisms_here.items():
            with self.subTest(said):
                self.submit(f"friend@{DOORS[door]}", f"log-in {door}")
                self.assertRegex(self.there_is(f"log-in {door}").raw, rb"(?i)with esmtpsa")
                self.assertIn(said, self.there.log())

    # ---- DSN -------------------------------------------------------------------------------------
    def test_the_neighbour_reports_delivery_to_our_sender(self):
        self.submit(FRIEND, "success out", mail=("RET=HDRS", "ENVID=QQ+2B1"), rcpt=("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Old+2BName@x.test"))
        report = self.one_report(self.reports_here, "success out")
        self.check_status(report, "delivered", FRIEND, "mx.neighbour.test", self.envid_out, self.orcpt_out)

    def test_we_report_delivery_to_the_neighbours_sender(self):
        self.inject(ALICE, "success in", mail=("RET=HDRS", "ENVID=QQ+2B1"), rcpt=("NOTIFY=SUCCESS", "ORCPT=rfc822;Old+2BName@x.test"))
        self.check_status(self.one_report(self.reports_there, "success in"), "delivered", ALICE, "mail.example.test", orcpt="Old+Name@x.test")
        self.here_is("success in")

    def test_where_dsn_ends_we_say_that_it_was_relayed(self):
        self.submit("friend@old.test", "success relayed", mail=("ENVID=QQ+2B1",), rcpt=("NOTIFY=SUCCESS", "ORCPT=rfc822;friend@old.test"))
        report = self.one_report(self.reports_here, "success relayed")
        self.check_status(report, "relayed", "friend@old.test", "mail.example.test")
        self.there_is("success relayed")

    def test_who_asked_for_nothing_hears_nothing(self):
        self.submit("bounces@neighbour.test", "never out", rcpt=("NOTIFY=NEVER",))
        self.inject("nobody@example.test", "never in", rcpt=("NOTIFY=NEVER",))
        self.submit(FRIEND, "later than never")
        self.there_is("later than never")
        self.settle()
        self.assertEqual(self.reports_here("never out") + self.reports_there("never in"), [])

    def test_what_the_neighbour_refuses_ends_in_one_report(self):
        for to, subject, status in (("nobody@neighbour.test", "refused at RCPT", "5.1.1"), (FRIEND, "please refuse this", "5.7.1")):
            with self.subTest(subject):
                self.submit(to, subject, mail=("ENVID=QQ+2B1",), rcpt=("NOTIFY=FAILURE", f"ORCPT=rfc822;{to}"))
                report = self.one_report(self.reports_here, subject)
                self.check_status(report, "failed", to, "mail.example.test")
                self.assertEqual(report.rcpt["Remote-MTA"].replace(" ", ""), "dns;mx.neighbour.test")
                self.assertRegex(report.rcpt["Diagnostic-Code"], "^smtp; ?55[04]")

    def test_what_the_neighbour_returns_later_ends_in_one_report(self):
        self.submit("bounces@neighbour.test", "returned later", mail=("ENVID=QQ+2B1",), rcpt=("NOTIFY=FAILURE", "ORCPT=rfc822;bounces@neighbour.test"))
        report = self.one_report(self.reports_here, "returned later")
        self.assertEqual(report.rcpt["Action"], "failed")
        self.assertEqual(report.by, "mx.neighbour.test")
        self.assertIn("bounces@neighbour.test", report.rcpt["Final-Recipient"])
        self.assertEqual(report.message["Return-Path"], "<>")

    def test_what_we_refuse_ends_in_one_report_of_the_neighbour(self):
        circle = "".join(f"Received: from a.test by b.test; Mon, 23 Nov 2026 09:00:{n % 60:02} +0000\r\n" for n in range(HOPS + 5))
        for to, subject, fields in (("nobody@example.test", "we refuse at RCPT", ""), (ALICE, "we refuse the message", circle)):
            with self.subTest(subject):
                self.inject(to, subject, fields=fields, mail=("ENVID=QQ+2B1",), rcpt=("NOTIFY=FAILURE", f"ORCPT=rfc822;{to}"))
                report = self.one_report(self.reports_there, subject)
                self.assertEqual((report.rcpt["Action"], report.by), ("failed", "mx.neighbour.test"))
                self.assertIn(to, report.rcpt["Final-Recipient"])
                self.assertRegex(report.rcpt["Diagnostic-Code"], "55[04]")

    def test_what_we_return_later_ends_in_one_report(self):
        """A forward leads back to where nobody of that name is."""
        self.server.cli("account", "forward", "set", "fay@example.test", "nobody@neighbour.test", "--no-copy")
        self.inject("fay@example.test", "forwarded to nobody", mail=("ENVID=QQ+2B1",), rcpt=("NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;fay@example.test"))
        report = self.one_report(self.reports_there, "forwarded to nobody")
        self.assertEqual((report.rcpt["Action"], report.by, report.envid), ("failed", "mail.example.test", "QQ+1"))
        self.assertEqual(report.rcpt["Original-Recipient"].replace(" ", ""), "rfc822;fay@example.test")

    def test_ret_says_how_much_comes_back(self):
        for ret, kinds in (("HDRS", ("text/rfc822-headers",)), ("FULL", ("message/rfc822",))):
            for door, find, send in (("out", self.reports_here, lambda *a, **kw: self.submit("bounces@neighbour.test", *a, **kw)),
                                     ("in", self.reports_there, lambda *a, **kw: self.inject("nobody@example.test", *a, **kw))):
                subject = f"ret {ret} {door}"
                with self.subTest(subject):
                    send(subject, body=b"The body itself.\r\n", mail=(f"RET={ret}",))
                    report = self.one_report(find, subject)
                    self.assertEqual(b"The body itself." in report.original, ret == "FULL")
                    self.assertIn(report.original_type, kinds)

    # ---- bodies ----------------------------------------------------------------------------------
    def test_eight_bit_bodies_arrive_byte_for_byte(self):
        odd = bytes(range(128, 256)) + b"\xc3\x28 \xff\r\n"
        for charset, body in (("utf-8", TEXT.encode()), ("iso-8859-1", odd), ("us-ascii", DOTS)):
            with self.subTest(charset):
                self.submit(FRIEND, f"{charset} out", body, EIGHT_BIT % charset, mail=("BODY=8BITMIME",))
                self.inject(ALICE, f"{charset} in", body, EIGHT_BIT % charset, mail=("BODY=8BITMIME",))
                self.assertEqual(self.there_is(f"{charset} out").body, body)
                self.assertEqual(self.here_is(f"{charset} in").partition(b"\r\n\r\n")[2], body)

    def test_a_neighbour_without_8bitmime_gets_the_same_text_in_seven(self):
        self.submit("friend@old.test", "seven bits", TEXT.encode(), EIGHT_BIT % "utf-8", mail=("BODY=8BITMIME",))
        found = self.there_is("seven bits")
        self.assertTrue(found.raw.isascii())
        self.assertEqual(unpacked(found.message), TEXT.encode())

    def test_binary_arrives_as_the_same_bytes(self):
        body = bytes(range(256)) * 5 + b"\r\nbare \n and \r.\r\n"
        message = letter(ALICE, FRIEND, "binary", body, "MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\n"
                         "Content-Transfer-Encoding: binary\r\n")
        with self.server.smtp("submission") as c:
            c.login(ALICE, PASSWORD)
            c.mail(ALICE, ["BODY=BINARYMIME"])
            c.rcpt(FRIEND)
            c.send(f"BDAT {len(message)} LAST\r\n".encode() + message)
            self.assertEqual(c.getreply()[0], 250)
        self.assertEqual(unpacked(self.there_is("binary").message), body)

    # ---- SMTPUTF8 --------------------------------------------------------------------------------
    def test_addresses_in_other_scripts_go_both_ways(self):
        self.submit(THEIRS, "Gr\u00fc\u00dfe hinaus", TEXT.encode(), EIGHT_BIT % "utf-8", mail=("SMTPUTF8", "BODY=8BITMIME"), sender=MINE)
        found = eventually(lambda: self.there.mail("Gr\u00fc\u00dfe hinaus"))
        self.assertEqual([(x.sender, x.rcpt, x.body) for x in found], [(MINE, THEIRS, TEXT.encode())], self.logs())
        self.assertIn("Subject: Gr\u00fc\u00dfe hinaus\r\n".encode(), found[0].raw)
        self.inject(MINE, "Gr\u00fc\u00dfe herein", TEXT.encode(), EIGHT_BIT % "utf-8", mail=("SMTPUTF8", "BODY=8BITMIME"), sender=THEIRS)
        got = self.here_is("herein")
        self.assertIn(f"Return-Path: <{THEIRS}>\r\n".encode(), got)
        self.assertIn("Subject: Gr\u00fc\u00dfe herein\r\n".encode(), got)
        self.assertRegex(got, rb"by mail\.example\.test with UTF8SMTPS")

    def test_a_neighbour_without_smtputf8_cannot_get_such_mail_and_the_sender_hears_why(self):
        self.submit("j\u00fcrgen@old.test", "too new", mail=("SMTPUTF8",), sender=ALICE)
        report = self.one_report(self.reports_here, "too new")
        self.assertEqual((report.rcpt["Action"], report.rcpt["Status"]), ("failed", "5.6.7"))
        self.assertEqual(self.there.mail("too new"), [])

    # ---- sizes and numbers -----------------------------------------------------------------------
    def test_a_message_beyond_the_neighbours_size_is_returned_and_a_smaller_one_is_not(self):
        self.submit("friend@small.test", "fits", b"x" * 70 + b"\r\n")
        self.submit("friend@small.test", "too large", (b"x" * 70 + b"\r\n") * (SMALL // 70))
        self.there_is("fits")
        report = self.one_report(self.reports_here, "too large")
        self.assertEqual((report.rcpt["Action"], report.rcpt["Status"]), ("failed", "5.3.4"))

    def test_twenty_megabytes_go_both_ways(self):
        body = b"".join(base64.b64encode(os.urandom(54)) + b"\r\n" for _ in range(270000))
        self.assertGreater(len(body), 19 << 20)
        self.submit(FRIEND, "large out", body)
        self.inject(ALICE, "large in", body)
        self.assertTrue(self.there_is("large out", timeout=120).body == body)
        self.assertTrue(self.here_is("large in", timeout=120).partition(b"\r\n\r\n")[2] == body)

    def test_of_a_hundred_recipients_those_get_it_who_are_there(self):
        """Few are refused, for Postfix answers ever more slowly after ten."""
        known = [f"r{n:03}@neighbour.test" for n in range(95)]
        self.submit(sum(([k, f"nobody{n}@neighbour.test"] if n % 19 == 0 else [k] for n, k in enumerate(known)), []), "a hundred")
        self.assertEqual(sorted(x.rcpt for x in self.there_is("a hundred", 95)), known)
        report = self.one_report(self.reports_here, "a hundred")
        self.assertEqual(sorted(r["Final-Recipient"].replace(" ", "") for r in report.rcpts),
                         sorted(f"rfc822;nobody{n}@neighbour.test" for n in range(0, 95, 19)))
        self.inject([f"alice+{n}@example.test" for n in range(45)] + ["nobody1@example.test", "bob@example.test", "nobody2@example.test"], "fifty in")
        self.here_is("fifty in", "bob@example.test")
        report = self.one_report(self.reports_there, "fifty in")
        self.assertEqual(sorted(r["Final-Recipient"].replace(" ", "") for r in report.rcpts),
                         ["rfc822;nobody1@example.test", "rfc822;nobody2@example.test"])

    def test_one_connection_serves_for_many_messages(self):
        with self.server.smtp("submission") as c:           # one session, so one worker
            c.login(ALICE, PASSWORD)
            before = self.there.connections()
            for n in range(4):
                c.sendmail(ALICE, [FRIEND], letter(ALICE, FRIEND, f"again {n}"))
                self.there_is(f"again {n}")
        self.assertLessEqual(self.there.connections() - before, 1)

    # ---- away for a while ------------------------------------------------------------------------
    def restart(self, **settings):
        self.server.stop()
        self.server.write_config({**type(self).settings, **settings})
        self.server.start()

    def test_mail_waits_here_while_the_neighbour_is_down_and_the_sender_hears_of_it_once(self):
        subject = "waits here"
        self.there.stop()
        self.restart(queue_delay_warning="1s")
        try:
            self.submit(FRIEND, subject, mail=("ENVID=QQ+2B1",), rcpt=("NOTIFY=DELAY", f"ORCPT=rfc822;{FRIEND}"))
            self.assertTrue(eventually(lambda: self.reports_here(subject), pause=0.2), self.logs())
            self.assertEqual([r["recipient"] for r in self.server.cli_json("queue", "list")], [FRIEND])
        finally:
            self.there.start(self.server)
            self.restart()
        self.server.cli("queue", "retry", "--all")
        self.there_is(subject)
        self.check_status(self.one_report(self.reports_here, subject), "delayed", FRIEND, "mail.example.test")

    def test_mail_waits_there_while_we_are_down(self):
        self.server.stop()
        try:
            for n in range(3):
                self.inject(ALICE, f"waits there {n}", TEXT.encode(), EIGHT_BIT % "utf-8", mail=("BODY=8BITMIME",))
            self.assertTrue(eventually(lambda: len(self.there.put_off()) >= 3), self.there.log())
        finally:
            self.server.start()
        self.there.flush()
        for n in range(3):
            self.assertIn(TEXT.encode(), self.here_is(f"waits there {n}"))
        self.settle()

    # ---- signatures and verdicts -----------------------------------------------------------------
    @unittest.skipIf(dkim is None, "python3-dkim is not installed")
    def test_our_signatures_survive_the_neighbour(self):
        self.submit(FRIEND, "signed", TEXT.encode(), EIGHT_BIT % "utf-8", mail=("BODY=8BITMIME",))
        raw = self.there_is("signed").raw
        records = {k["name"].rstrip("."): k["record"].encode() for k in self.server.cli_json("dkim", "show", "example.test")}

        def published(name, timeout=5):
            return records.get(name.decode().rstrip("."))
        self.assertEqual(raw.count(b"\r\nDKIM-Signature:"), 2)
        for index in range(2):
            self.assertTrue(dkim.DKIM(raw).verify(index, dnsfunc=published))
        self.assertFalse(dkim.verify(raw.replace(b"merpati", b"Merpati"), dnsfunc=published))

    def test_what_the_neighbour_sends_from_afar_is_judged(self):
        stranger = Stranger(self.there.ports["stranger"], ("127.0.0.2", self.server.port("smtp")))
        self.addCleanup(stranger.close)
        self.inject("carol@judged.test", "judged", TEXT.encode(), EIGHT_BIT % "utf-8", mail=("BODY=8BITMIME",))
        got = self.here_is("judged", "carol@judged.test").decode("utf-8")
        results = " ".join(re.search(r"Authentication-Results: mail\.example\.test;(.*?)\r\n(?=\S)", got, re.S)[1].split())
        self.assertRegex(results, r"spf=pass .*smtp\.mailfrom=(friend@)?neighbour\.test")
        self.assertRegex(results, r"dmarc=pass .*header\.from=neighbour\.test")
        self.assertRegex(results, self.dkim_result)
        self.assertRegex(got, r"Received: from mx\.neighbour\.test \(\S+ \[192\.0\.2\.77\]\)\r\n\tby mail\.example\.test with ESMTPS")


@unittest.skipUnless(os.geteuid() == 0, "only root can start Postfix")
@unittest.skipUnless(neighbours.Postfix.program.exists(), "Postfix is not unpacked: make test-deps")
class PostfixTest(NeighbourTests, ServerTest):
    kind = neighbours.Postfix
    mechanisms_there = ("PLAIN", "SCRAM-SHA-256")
    mechanisms_here = {"auth": "sasl_method=SCRAM-SHA-256", "auth2": "sasl_method=PLAIN"}
    dkim_result = "dkim=none"
    envid_out, orcpt_out = "QQ+1", "Old+Name@x.test"


@unittest.skipUnless(os.geteuid() == 0, "only root can start Exim")
@unittest.skipUnless(neighbours.Exim.program.exists(), "Exim is not unpacked: make test-deps")
class EximTest(NeighbourTests, ServerTest):
    kind = neighbours.Exim
    mechanisms_there = ("PLAIN", "LOGIN")
    mechanisms_here = {"auth": "A=plain:relay-user", "auth2": "A=login:relay-user"}
    dkim_result = r"dkim=pass .*header\.d=neighbour\.test"
    envid_out, orcpt_out = "QQ+2B1", "Old+2BName@x.test"       # it reports them in xtext

    def test_we_send_ahead_where_it_offers_that_and_only_there(self):
        """Its log says L of a message that came by PIPELINING, L- when that was offered and not used; a dot behind it tells
        of another extension."""
        for to, fields in ((FRIEND, ("L", "L.")), ("friend@old.test", (None,))):
            subject = f"ahead to {to.partition('@')[2]}"
            self.submit(to, subject)
            self.there_is(subject)
            line = re.search(rf"<= {ALICE} .* P=\S+ (?:(L\S*) )?.* id={re.sub(r'[^a-z]', '.', subject)}@.*", self.there.log())
            self.assertTrue(line, self.there.log())
            self.assertIn(line[1], fields, line[0])

    def test_it_sends_us_chunks(self):
        self.inject(ALICE, "in chunks", DOTS)
        self.assertEqual(self.here_is("in chunks").partition(b"\r\n\r\n")[2], DOTS)
        sent = re.compile(r"=> alice@example\.test .* K C=")
        self.assertTrue(eventually(lambda: sent.search(self.there.log())), self.there.log())


if __name__ == "__main__":
    unittest.main()
