"""Two servers that know each other by DNS alone: MX records, TLSA records under DNSSEC, signed mail, reports."""

import email
import email.policy
import hashlib
import re
import subprocess
import unittest

from dns_server import DnsServer
from harness import PASSWORD, Server, eventually

try:
    import dkim
except ImportError:
    dkim = None

LETTER = b"From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%s@one.test>\r\n\r\nHello.\r\n"


def tlsa(server):
    """3 1 1: the digest of the key that the server shows."""
    pem = subprocess.run(["openssl", "x509", "-in", str(server.data / "tls/cert.pem"), "-noout", "-pubkey"], capture_output=True,
                         check=True).stdout
    key = subprocess.run(["openssl", "pkey", "-pubin", "-outform", "DER"], input=pem, capture_output=True, check=True).stdout
    return "3 1 1 " + hashlib.sha256(key).hexdigest()


class TwoServersTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dns = DnsServer({"test": [("TXT", "the top")]}, signed=True).start()
        cls.addClassCleanup(cls.dns.stop)
        cls.one, cls.two = Server(), Server()
        for here, there, name in ((cls.one, cls.two, "one"), (cls.two, cls.one, "two")):
            cls.addClassCleanup(here.remove)
            here.write_config({"hostname": f"mail.{name}.test", "delivery_routes": "", "delivery_refused_networks": "", "fetch_refused_networks": "",
                               "delivery_port": str(there.port("smtp")), "dns_server": cls.dns.address,
                               "dns_trust_anchor": cls.dns.trust_anchor, "dns_cache": "no", "mta_sts": "no",
                               "queue_retry_min": "1s", "queue_backoff_min": "1s", "smtp_sender_domain_exists": "no"})
            here.start()
            here.cli("domain", "add", f"{name}.test")
        cls.one.add_accounts("alice", domain="one.test")
        cls.two.add_accounts("bob", domain="two.test")
        cls.dns.set_records(cls.records())

    @classmethod
    def records(cls):
        records = {"test": [("TXT", "the top")]}
        for server, name in ((cls.one, "one"), (cls.two, "two")):
            records[f"{name}.test"] = [("MX", f"10 mail.{name}.test."), ("TXT", "v=spf1 mx -all")]
            records[f"mail.{name}.test"] = [("A", "127.0.0.1")]
            records[f"_{server.port('smtp')}._tcp.mail.{name}.test"] = [("TLSA", tlsa(server))]
            for key in server.cli_json("dkim", "show", f"{name}.test"):
                records[key["name"]] = [("TXT", key["record"])]
        return records

    def send(self, server, sender, to, subject, **kw):
        with server.smtp("submission") as c:
            c.login(sender, PASSWORD)
            c.sendmail(sender, [to], LETTER % (sender.encode(), to.encode(), subject.encode(), subject.encode().replace(b" ", b".")), **kw)

    def find(self, server, user, *criteria):
        with server.imap(user) as c:
            c.select("INBOX", readonly=True)
            ids = c.search(None, *criteria)[1][0].split()
            return [c.fetch(i, "(BODY.PEEK[])")[1][0][1] for i in ids]

    def wait_for(self, server, user, *criteria):
        got = eventually(lambda: self.find(server, user, *criteria), timeout=90)
        self.assertEqual(len(got), 1, server.log()[-3000:])
        return got[0]

    def published(self, name, timeout=5):
        records = self.dns.records.get(name.decode().rstrip("."), [])
        return next((data.encode() for kind, data in records if kind == "TXT"), None)

    @unittest.skipIf(dkim is None, "python3-dkim is not installed")
    def test_signed_letters_go_both_ways_over_connections_that_dane_vouches_for(self):
        for here, there, sender, to in ((self.one, self.two, "alice@one.test", "bob@two.test"),
                                        (self.two, self.one, "bob@two.test", "alice@one.test")):
            self.send(here, sender, to, f"from {sender}")
            got = self.wait_for(there, to, "SUBJECT", f'"from {sender}"')
            self.assertRegex(got, rb"by mail\.(one|two)\.test with ESMTPS")
            signed = got[got.index(b"DKIM-Signature:"):]
            self.assertEqual(signed.count(b"DKIM-Signature:"), 2)
            self.assertTrue(dkim.verify(signed, dnsfunc=self.published))
            self.assertIn("verified by DANE", here.log())
        self.assertEqual(self.one.cli_json("queue", "list"), [])

    def test_who_is_not_there_is_reported_to_the_sender(self):
        self.send(self.one, "alice@one.test", "nobody@two.test", "to nobody")
        report = email.message_from_bytes(self.wait_for(self.one, "alice@one.test", "FROM", "mail.one.test"), policy=email.policy.default)
        self.assertEqual(report.get_content_type(), "multipart/report")
        status = report.get_payload()[1].as_string()
        self.assertRegex(status, r"Final-Recipient: rfc822; ?nobody@two\.test")
        self.assertRegex(status, r"Status: 5\.1\.1")
        self.assertRegex(status, r"Remote-MTA: dns; ?mail\.two\.test")

        def ended():
            seen = self.one.cli_json("trace", "--recipient", "nobody@two.test")
            return any({"queued", "failed", "bounced"} <= {e["kind"] for e in s["events"]} for s in seen)
        self.assertTrue(eventually(ended), self.one.cli("trace", "--recipient", "nobody@two.test").stdout)

    def test_delivery_is_reported_where_it_was_asked_for(self):
        with self.one.smtp("submission") as c:
            c.login("alice@one.test", PASSWORD)
            c.mail("alice@one.test", ["RET=HDRS", "ENVID=QQ314159"])
            c.rcpt("bob@two.test", ["NOTIFY=SUCCESS", "ORCPT=rfc822;bob@two.test"])
            c.data(LETTER % (b"alice@one.test", b"bob@two.test", b"with notice", b"notice"))
        report = self.wait_for(self.one, "alice@one.test", "FROM", "mail.two.test")
        self.assertRegex(report, rb"Original-Envelope-Id: QQ314159\r\n")
        self.assertRegex(report, rb"Action: delivered\r\n")
        self.assertRegex(report, rb"Reporting-MTA: dns; ?mail\.two\.test\r\n")

    def test_binary_goes_by_chunks_as_the_same_bytes(self):
        body = bytes(range(1, 256)) * 3 + b"\r\nbare \n and \r.\r\n.\r\n"
        message = (b"From: <alice@one.test>\r\nTo: <bob@two.test>\r\nSubject: bytes\r\nMIME-Version: 1.0\r\n"
                   b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n" + body)
        with self.one.smtp("submission") as c:
            c.login("alice@one.test", PASSWORD)
            c.mail("alice@one.test", ["BODY=BINARYMIME"])
            c.rcpt("bob@two.test")
            c.send(b"BDAT %d LAST\r\n" % len(message) + message)
            self.assertEqual(c.getreply()[0], 250)
        got = self.wait_for(self.two, "bob@two.test", "SUBJECT", "bytes")
        self.assertEqual(got.partition(b"\r\n\r\n")[2], body)
        self.assertIn(b"Content-Transfer-Encoding: binary\r\n", got)

    def test_another_key_in_dns_keeps_mail_back_until_it_is_right(self):
        records = self.records()
        name = f"_{self.two.port('smtp')}._tcp.mail.two.test"
        self.addCleanup(self.dns.set_records, self.records())
        self.dns.set_records({**records, name: [("TLSA", "3 1 1 " + "ab" * 32)]})
        self.send(self.one, "alice@one.test", "bob@two.test", "kept back")
        waiting = eventually(lambda: [r for r in self.one.cli_json("queue", "list") if r["attempts"] > 0 or r["reason"]], timeout=60)
        self.assertEqual([r["recipient"] for r in waiting], ["bob@two.test"])
        self.assertEqual(self.find(self.two, "bob@two.test", "SUBJECT", '"kept back"'), [])
        self.dns.set_records(records)
        self.one.cli("queue", "retry", "--all")
        self.wait_for(self.two, "bob@two.test", "SUBJECT", '"kept back"')


if __name__ == "__main__":
    unittest.main()
