"""Reports go out and come in: what a real server saw of strangers' mail and of its own deliveries reaches who asked for it, by
mail and HTTPS, once, whatever is killed when; and reports of others are read."""

import email
import email.message
import email.policy
import gzip
import json
import pathlib
import random
import re
import shutil
import subprocess
import tempfile
import time
import unittest
import xml.etree.ElementTree as ET

from dns_server import DnsServer
from harness import PASSWORD, SHARED_DATA, ServerTest, eventually
from smtp_peer import Authority, Peer, polite

NS = {"r": "urn:ietf:params:xml:ns:dmarc-2.0"}
CROWD = 24


def record(kind, text):
    return [(kind, text)]


def parts(message):
    return email.message_from_bytes(message.replace(b"\n..", b"\n."), policy=email.policy.default)


def attachment(message):
    file = next(p for p in parts(message).walk() if p.get_filename())
    return file.get_filename(), gzip.decompress(file.get_payload(decode=True))


class Collector:
    """A web server that takes TLS reports."""

    def __init__(self, context):
        self.posts, self.status = [], "201 Created"
        self.before_answer = lambda: None
        self.peer = Peer(self.answer, context=context)
        self.port = self.peer.port

    def answer(self, peer, wire):
        lines = []
        while line := wire.line():
            lines.append(line)
        fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        self.posts.append((lines[0], fields, wire.exact(int(fields["content-length"]))))
        self.before_answer()
        wire.send(f"HTTP/1.1 {self.status}\r\nContent-Length: 0\r\n\r\n")

    def close(self):
        self.peer.close()


def zone(web_port):
    mx = {"mx.test": record("A", "127.0.0.1"), "web.test": record("A", "127.0.0.1"),
          "good.test": [("A", "192.0.2.1"), ("TXT", "v=spf1 ip4:192.0.2.7 -all"), ("MX", "10 mx.test")],
          "_dmarc.good.test": record("TXT", "v=DMARC1; p=none; rua=mailto:dmarc%2Breports@good.test,mailto:spy@third.test"),
          "_smtp._tls.them.test": record("TXT", "v=TLSRPTv1; rua=mailto:tls@collect.test"),
          "_smtp._tls.both.test": record("TXT", f"v=TLSRPTv1; rua=https://web.test:{web_port}/v1?a=b"),
          "_smtp._tls.twice.test": [("TXT", "v=TLSRPTv1; rua=mailto:a@collect.test"),
                                    ("TXT", "v=TLSRPTv1; rua=mailto:b@collect.test")]}
    for name in ("them.test", "both.test", "twice.test", "silent.test", "collect.test", "third.test",
                 *(f"d{i}.test" for i in range(CROWD))):
        mx[name] = record("MX", "10 mx.test")
    return mx


class ReportsTest(ServerTest):
    accounts = ("alice",)
    # One worker could send everything; two show that they do not send the same.
    workers = 2

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="reports-", dir="/tmp")
        authority = Authority(cls.folder)
        cls.context = authority.context("other.test")
        cls.sink = Peer(polite(starttls=cls.context))
        cls.web = Collector(authority.context("wrong.test"))
        cls.dns = DnsServer(zone(cls.web.port)).start()
        cls.settings = {
            "dns_server": cls.dns.address, "delivery_routes": "", "delivery_port": str(cls.sink.port),
            "delivery_refused_networks": "", "fetch_refused_networks": "", "smtp_xclient_networks": "127.0.0.1", "smtp_greeting_delay": "0s",
            "queue_poll_interval": "50ms", "queue_retry_min": "1s", "queue_retry_max": "1s", "queue_backoff_min": "1s",
            "queue_backoff_max": "1s", "report_spread": "20h", "report_organization": "Example & Sons",
            "delivery_reuse": "1", "mta_sts": "no", "dane": "no",
        }
        try:
            super().setUpClass()
        except BaseException:
            cls.end()
            raise

    @classmethod
    def end(cls):
        cls.dns.stop()
        cls.sink.close()
        cls.web.close()
        shutil.rmtree(cls.folder, ignore_errors=True)

    @classmethod
    def tearDownClass(cls):
        try:
            super().tearDownClass()
        finally:
            cls.end()

    def setUp(self):
        self.sql("TRUNCATE report_due, report_dmarc_row, report_tls_row; DELETE FROM report_received")
        self.sink.messages.clear()
        self.web.posts.clear()
        self.web.status = "201 Created"

    def sql(self, statement):
        done = subprocess.run(["psql", "-XqAt", "-h", str(self.server.data / "run"), "-U", "merpati", "-d", "merpati", "-c", statement],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def let_a_day_pass(self):
        """What was collected today is yesterday's."""
        for table in ("report_due", "report_dmarc_row", "report_tls_row"):
            self.sql(f"UPDATE {table} SET day = day - 1")

    def collected(self, *domains):
        """Waits until the workers wrote what they counted."""
        self.assertTrue(eventually(lambda: set(self.sql("SELECT domain FROM report_due").split()) >= set(domains)),
                        (self.sql("SELECT kind, domain FROM report_due"), self.server.log()[-3000:]))

    def due(self, domain):
        return next(d for d in self.server.cli_json("report", "due") if d["domain"] == domain)

    def ended(self, domain):
        self.assertTrue(eventually(lambda: self.due(domain)["sent"]), self.due(domain))
        return self.due(domain)["note"]

    def received(self, address):
        """The messages that went there."""
        return [m for m in self.sink.messages if address in parts(m)["To"]]

    def submit(self, *to):
        with self.server.smtp("submissions") as s:
            s.login("alice@example.test", PASSWORD)
            s.sendmail("alice@example.test", list(to), "From: alice@example.test\r\nSubject: hello\r\n\r\nhello\r\n")


@unittest.skipUnless(shutil.which("psql"), "no psql")
class Sent(ReportsTest):
    def stranger(self, address, sender, count=1):
        for _ in range(count):
            with self.server.smtp() as s:
                s.docmd("XCLIENT", f"ADDR={address}")
                s.ehlo("client.good.test")
                s.sendmail(sender, ["alice@example.test"], f"From: <{sender}>\r\nSubject: from {address}\r\n\r\nhello\r\n")

    def test_who_asks_for_dmarc_reports_is_told_what_was_received_in_their_name(self):
        self.stranger("192.0.2.7", "boss@good.test", 3)
        self.stranger("198.51.100.66", "boss@good.test")
        self.collected("good.test")
        time.sleep(0.5)
        self.assertEqual(self.server.cli_json("report", "send")["reports"], 0)      # its day is not over
        self.let_a_day_pass()
        self.assertEqual(self.server.cli_json("report", "send")["reports"], 1)
        self.assertEqual(self.ended("good.test"), "sent to dmarc+reports@good.test")  # third.test did not agree
        self.assertTrue(eventually(lambda: self.sink.messages))
        message = self.sink.messages[0]
        head = parts(message)
        self.assertEqual((head["To"], head["From"]), ("dmarc+reports@good.test", "postmaster@example.test"))
        self.assertRegex(head["Subject"], r"^Report Domain: good\.test\s+Submitter: example\.test\s+Report-ID: <\d{8}\.dmarc\.good\.test@")
        self.assertIn("d=example.test", head["DKIM-Signature"])
        name, xml = attachment(message)
        self.assertRegex(name, r"^example\.test!good\.test!\d+!\d+\.xml\.gz$")
        root = ET.fromstring(xml)
        text = lambda path, at=root: at.findtext(re.sub(r"(\w+)", r"{*}\1", path))
        self.assertEqual(text("report_metadata/org_name"), "Example & Sons")
        self.assertEqual((text("policy_published/domain"), text("policy_published/p")), ("good.test", "none"))
        rows = {text("row/source_ip", r): r for r in root.findall("{*}record")}
        self.assertEqual(set(rows), {"192.0.2.7", "198.51.100.66"})
        self.assertEqual((text("row/count", rows["192.0.2.7"]), text("row/policy_evaluated/spf", rows["192.0.2.7"])), ("3", "pass"))
        self.assertEqual(text("row/policy_evaluated/spf", rows["198.51.100.66"]), "fail")
        self.assertEqual((text("row/policy_evaluated/disposition", rows["198.51.100.66"]),
                          text("identifiers/header_from", rows["198.51.100.66"])), ("none", "good.test"))

    def collect_sessions(self, *domains):
        self.submit(*(f"x@{d}" for d in domains))
        self.assertTrue(eventually(lambda: len(self.sink.messages) == len(domains)))
        self.collected(*domains)
        self.sink.messages.clear()
        self.let_a_day_pass()

    def test_who_asks_for_tls_reports_is_told_of_sessions_with_them(self):
        self.collect_sessions("them.test", "silent.test", "twice.test")
        self.server.cli("report", "send")
        self.assertEqual(self.ended("them.test"), "sent to tls@collect.test")
        for domain in ("silent.test", "twice.test"):
            self.assertEqual(self.ended(domain), "not sent: the domain asks for no TLS reports")
        self.assertTrue(eventually(lambda: self.sink.messages))
        head = parts(self.sink.messages[0])
        self.assertEqual(head.get_content_type(), "multipart/report")
        self.assertEqual(head.get_param("report-type"), "tlsrpt")
        self.assertEqual((head["TLS-Report-Domain"], head["TLS-Report-Submitter"], head["TLS-Required"]),
                         ("them.test", "example.test", "No"))
        self.assertIn("d=example.test", head["DKIM-Signature"])
        report = json.loads(attachment(self.sink.messages[0])[1])
        self.assertEqual(report["organization-name"], "Example & Sons")
        policy, = report["policies"]
        self.assertEqual(policy["policy"]["policy-type"], "no-policy-found")
        self.assertEqual(policy["summary"]["total-successful-session-count"], 1)
        time.sleep(1)
        self.assertEqual(len(self.sink.messages), 1)
        # The session that carried the report is in no report.
        self.submit("x@both.test")
        self.assertTrue(eventually(lambda: self.sql("SELECT count(*) FROM report_due WHERE domain = 'both.test'") == "1"))
        self.assertEqual(self.sql("SELECT count(*) FROM report_due WHERE domain = 'collect.test'"), "0")

    def test_reports_are_posted_and_posted_again_when_the_web_server_refused(self):
        self.collect_sessions("both.test")
        self.web.status = "503 Later"
        self.server.cli("report", "send")
        self.assertTrue(eventually(lambda: "503" in self.due("both.test")["note"]), self.due("both.test"))
        self.assertFalse(self.due("both.test")["sent"])
        self.web.status = "201 Created"
        # It ends when the web server has it: what is killed before then does not lose it.
        was_sent = []
        self.web.before_answer = lambda: was_sent.append(bool(self.due("both.test")["sent"]))
        self.addCleanup(setattr, self.web, "before_answer", lambda: None)
        self.server.cli("report", "send")
        self.assertIn("posted to https://web.test", self.ended("both.test"))
        self.assertEqual((len(self.web.posts), was_sent), (2, [False]))
        line, fields, body = self.web.posts[1]
        self.assertEqual(line, "POST /v1?a=b HTTP/1.1")
        self.assertEqual((fields["host"], fields["content-type"]), (f"web.test:{self.web.port}", "application/tlsrpt+gzip"))
        report = json.loads(gzip.decompress(body))
        self.assertEqual(report["report-id"], json.loads(gzip.decompress(self.web.posts[0][2]))["report-id"])
        self.assertEqual(self.sink.messages, [])

    def test_a_report_waits_while_dns_is_away(self):
        self.collect_sessions("them.test")
        self.dns.set_behaviour("_smtp._tls.them.test", "servfail")
        self.server.cli("report", "send")
        self.assertTrue(eventually(lambda: self.due("them.test")["note"].startswith("not yet: ")))
        self.dns.set_behaviour("_smtp._tls.them.test", None)
        self.assertTrue(eventually(lambda: self.server.cli("report", "send") and self.due("them.test")["sent"], pause=1))
        self.assertTrue(eventually(lambda: self.received("tls@collect.test")))

    def test_who_is_reported_to_is_asked_for_at_the_time_of_sending(self):
        self.sql("INSERT INTO report_due (kind, day, domain, policy, rua) VALUES ('dmarc', extract(epoch FROM now())::int / 86400 - 1, "
                 "'d1.test', 'p=none', '{a@third.test}')")
        self.server.cli("report", "send")
        self.assertEqual(self.ended("d1.test"), "not sent: none of the addresses in the domain's record wants it")


@unittest.skipUnless(shutil.which("psql"), "no psql")
class Killed(ReportsTest):
    expects_losses = True

    def crowd(self):
        self.sql("INSERT INTO report_due (kind, day, domain, policy, rua) SELECT 'dmarc', extract(epoch FROM now())::int / 86400 - 1, "
                 "'d' || i || '.test', 'p=none sp=- np=- adkim=r aspf=r fo=0 testing=n', ARRAY['r@d' || i || '.test'] "
                 f"FROM generate_series(0, {CROWD - 1}) AS i")
        self.sql("INSERT INTO report_dmarc_row (day, domain, key, source_ip, disposition, dkim, spf, header_from, envelope_from, reason, "
                 "results, count) SELECT day, domain, md5(domain)::uuid, '192.0.2.1', 'none', 'fail', 'fail', domain, domain, '', '', 5 "
                 "FROM report_due")

    def test_whatever_is_killed_when_each_report_is_sent_once(self):
        self.crowd()
        # So that every copy waits in the queue and can be counted.
        self.sink.handler = polite(starttls=self.context, answers={"RCPT": "451 4.7.1 later"})
        for _ in range(5):
            self.server.cli("report", "send")
            time.sleep(random.uniform(0.0, 0.4))
            self.server.kill()
            self.server.start()
        self.server.cli("report", "send")
        self.assertTrue(eventually(lambda: self.sql("SELECT count(*) FROM report_due WHERE kind = 'dmarc' AND sent_at IS NULL") == "0", timeout=120))
        waiting = sorted(e["recipient"] for e in self.server.cli_json("queue", "list"))
        self.assertEqual(waiting, sorted(f"r@d{i}.test" for i in range(CROWD)))
        self.sink.handler = polite(starttls=self.context)
        self.assertTrue(eventually(lambda: len(self.sink.messages) >= CROWD))
        ids = [parts(m)["Message-ID"] for m in self.sink.messages]
        self.assertEqual(len(set(ids)), CROWD)


DMARC_XML = """<?xml version="1.0"?><feedback><report_metadata><org_name>{org}</org_name><email>a@b.test</email>
<report_id>{id}</report_id><date_range><begin>1700000000</begin><end>1700086399</end></date_range></report_metadata>
<policy_published><domain>example.test</domain><p>none</p></policy_published>{rows}</feedback>"""
ROW = """<record><row><source_ip>{ip}</source_ip><count>{count}</count><policy_evaluated><disposition>none</disposition>
<dkim>{dkim}</dkim><spf>fail</spf></policy_evaluated></row><identifiers><header_from>example.test</header_from></identifiers>
<auth_results><spf><domain>example.test</domain><result>fail</result></spf></auth_results></record>"""


class Received(ReportsTest):
    def report(self, org, *rows):
        message = email.message.EmailMessage()
        message["From"], message["To"], message["Subject"] = "reports@other.test", "dmarc-reports@example.test", "Report Domain: example.test"
        xml = DMARC_XML.format(org=org, id=f"{org}-1", rows="".join(ROW.format(ip=ip, dkim=dkim, count=n) for ip, dkim, n in rows))
        message.add_attachment(gzip.compress(xml.encode()), "application", "gzip", filename="other.test!example.test!1!2.xml.gz")
        return message.as_bytes(policy=email.policy.SMTP)

    def inbox(self):
        with self.server.imap("alice") as c:
            return int(c.select("INBOX")[1][0])

    def send(self, to, message):
        with self.server.smtp() as s:
            s.ehlo("client.other.test")
            s.docmd("XCLIENT", "ADDR=192.0.2.99")
            s.ehlo("client.other.test")
            s.sendmail("", [to], message)

    def test_reports_need_no_account_and_failing_sources_stand_first(self):
        before = self.inbox()
        self.send("dmarc-reports@example.test", self.report("One", ("192.0.2.7", "pass", 500), ("203.0.113.5", "fail", 3)))
        self.send("DMARC-Reports+x@example.test", self.report("Two", ("203.0.113.5", "fail", 4), ("203.0.113.6", "fail", 1)))
        self.send("dmarc-reports@example.test", self.report("Two", ("203.0.113.5", "fail", 4), ("203.0.113.6", "fail", 1)))
        self.assertEqual(self.inbox(), before)
        reports = self.server.cli_json("report", "list", "--domain", "example.test")
        self.assertEqual([(r["from"], r["passed"], r["failed"]) for r in reports], [("Two", 0, 5), ("One", 500, 3)])
        lines = self.server.cli_json("report", "show", str(reports[1]["id"]))
        self.assertEqual([(r["source"], r["pass"]) for r in lines], [("203.0.113.5", False), ("192.0.2.7", True)])
        sources = self.server.cli_json("report", "sources", "--kind", "dmarc")
        self.assertEqual([(s["source"], s["passed"], s["failed"], s["reporters"]) for s in sources],
                         [("203.0.113.5", 0, 7, 2), ("203.0.113.6", 0, 1, 1), ("192.0.2.7", 500, 0, 1)])
        self.assertIn("add ip4:203.0.113.5 to the SPF record of example.test", sources[0]["advice"])
        self.assertEqual(sources[2]["advice"], "")
        self.send("dmarc-reports@example.test", self.report("Liar", ("0.0.0.0/0", "fail", 900), ("192.0.2.1 +all", "fail", 800)))
        lies = self.server.cli_json("report", "sources", "--kind", "dmarc")[:2]
        self.assertEqual([s["source"] for s in lies], ["0.0.0.0/0", "192.0.2.1 +all"])
        self.assertEqual({s["advice"] for s in lies}, {"this is no address: a report with it is not to be believed"})
        self.assertEqual(self.server.cli_json("report", "sources", "--since", "0m"), [])
        self.assertEqual(self.server.cli("report", "sources", "--since", "soon", check=False).returncode, 2)

    def test_an_address_that_is_a_persons_gets_the_mail_too(self):
        before = self.inbox()
        self.send("postmaster@example.test", self.report("Three", ("192.0.2.7", "fail", 1)))
        self.assertEqual(self.inbox(), before + 1)
        self.assertEqual([r["from"] for r in self.server.cli_json("report", "list")], ["Three"])
        self.send("postmaster@example.test", b"From: x@other.test\r\nSubject: hello\r\n\r\nhello\r\n")
        self.assertEqual(self.inbox(), before + 2)

    def test_what_strangers_report_moves_no_terminals_cursor(self):
        self.send("dmarc-reports@example.test", self.report("\u009b31mRed \u202eevil", ("192.0.2.7", "fail", 1)))
        self.assertIn("?31mRed ?evil", self.server.cli("report", "list").stdout)
        self.assertIn("\u009b31mRed \u202eevil", [r["from"] for r in self.server.cli_json("report", "list")])

    def test_other_addresses_that_nobody_has_are_refused(self):
        with self.assertRaises(Exception) as refused:
            self.send("reports@example.test", self.report("Four"))
        self.assertIn("5.1.1", str(refused.exception))

    @unittest.skipUnless((SHARED_DATA / "dmarc").exists(), "no shared data")
    def test_reports_of_the_world_are_kept(self):
        files = sorted((SHARED_DATA / "dmarc/mox/dmarc-reports").glob("*.eml")) + \
            sorted((SHARED_DATA / "dmarc/mail-auth/tlsrpt").glob("*.eml"))
        self.assertTrue(files)
        for file in files:
            self.send("tls-reports@example.test", re.sub(rb"\r?\n", b"\r\n", file.read_bytes()))
        kinds = [r["kind"] for r in self.server.cli_json("report", "list")]
        self.assertEqual(kinds.count("tls"), 2)
        self.assertGreater(kinds.count("dmarc"), 3)
        self.assertTrue(self.server.cli("report", "sources", "--since", "1d").stdout)


if __name__ == "__main__":
    unittest.main()
