"""What is done with strangers' mail: SPF, DKIM, ARC and DMARC of whole messages on port 25, with real DNS. A trusted proxy
plays the strangers; dkimpy and our own code sign."""

import itertools
import re
import shutil
import subprocess
import unittest
import urllib.request

from dkim_driver import DkimTool
from dns_server import DnsServer
from harness import eventually
from test_smtp_policy import PolicyTest

try:
    import authres
    import dkim
except ImportError:
    authres = dkim = None

SERVER, ELSEWHERE, LIST = "192.0.2.10", "198.51.100.66", "198.51.100.25"
SPF = ("TXT", f"v=spf1 ip4:{SERVER} -all")
OWNED = ("reject.test", "quarantine.test", "none.test", "bare.test", "testing.test", "strict.test", "lists.test", "other.test", "half.test")
numbers = itertools.count(1)


def zone(key):
    """Every domain has the same key, at the selector s."""
    records = {
        **{d: [("A", SERVER), SPF] for d in OWNED},
        **{f"s._domainkey.{d}": [("TXT", key)] for d in OWNED},
        "_dmarc.reject.test": [("TXT", "v=DMARC1; p=reject; sp=quarantine; np=reject; rua=mailto:d@reject.test")],
        "_dmarc.quarantine.test": [("TXT", "v=DMARC1; p=quarantine; sp=none")],
        "_dmarc.none.test": [("TXT", "v=DMARC1; p=none")],
        "_dmarc.testing.test": [("TXT", "v=DMARC1; p=reject; t=y")],
        "_dmarc.strict.test": [("TXT", "v=DMARC1; p=reject; adkim=s; aspf=s")],
        "_dmarc.half.test": [("TXT", "v=DMARC1; p=reject")],
        "lists.test": [("A", LIST), ("TXT", f"v=spf1 ip4:{LIST} -all")],
        "mail.reject.test": [("A", SERVER), SPF], "s._domainkey.mail.reject.test": [("TXT", key)],
        "sub.quarantine.test": [("A", SERVER)],
        "mail.strict.test": [("A", SERVER), SPF], "s._domainkey.mail.strict.test": [("TXT", key)],
        "10.2.0.192.in-addr.arpa": [("PTR", "mail.reject.test.")],
    }
    return records


BEHAVIOURS = {("_dmarc.servfail.test", "TXT"): "servfail", ("_dmarc.timeout.test", "TXT"): "timeout",
              ("_dmarc.heals.test", "TXT"): "servfail", ("_dmarc.garbage.test", "TXT"): "garbage",
              ("t._domainkey.half.test", "TXT"): "servfail",
              ("t._domainkey.none.test", "TXT"): "servfail", ("stuck.test", "TXT"): "servfail"}


def message(author, subject, extra="", body="Hello there.\r\n"):
    return (f"{extra}From: {author}\r\nTo: alice@example.test\r\nSubject: {subject}\r\nDate: Mon, 23 Nov 2026 10:00:00 +0700\r\n"
            f"Message-ID: <{next(numbers)}@client.test>\r\n\r\n{body}").encode()


class VerdictTest(PolicyTest):
    accounts = ("alice",)
    settings = {**PolicyTest.settings, "smtp_sender_domain_exists": "no", "smtp_trusted_networks": "203.0.113.0/24",
                "arc_trusted_sealers": "lists.test, second.example", "dns_timeout": "3s"}

    @classmethod
    def setUpClass(cls):
        cls.tool = DkimTool()
        cls.addClassCleanup(cls.tool.close)
        cls.tool.make("rsa", "rsa")
        cls.records, cls.behaviours = zone(cls.tool.text("record", "rsa")), BEHAVIOURS
        cls.pem = cls.tool.text("pem", "rsa").encode()
        super().setUpClass()

    # ---- the sending side ------------------------------------------------------------------------
    def sign(self, raw, domain, selector="s"):
        return self.tool.sign(raw, ("rsa", domain, selector))

    def seal(self, raw, domain, results, names="-"):
        return self.tool.seal(raw, "rsa", domain, "s", domain, results, names).encode() + raw

    def submit(self, raw, sender="a@bare.test", address=ELSEWHERE, hello="EHLO client.test", session=None, to="alice@example.test"):
        """The answer to the message."""
        session = session or self.stranger(address, hello)
        for line in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>"):
            self.expect(session, "250", line)
        self.expect(session, "354", "DATA")
        session.send(re.sub(rb"(?m)^\.", b"..", raw) + b".\r\n")
        return session.reply().decode()

    def find(self, subject, mailbox="INBOX"):
        with self.server.imap("alice") as c:
            c.select(mailbox, readonly=True)
            ids = c.search(None, "SUBJECT", f'"{subject}"')[1][0].split()
            return [c.fetch(i, "(BODY.PEEK[])")[1][0][1] for i in ids]

    def accept(self, raw, mailbox="INBOX", **kw):
        """Sends, and returns the message as it was delivered to that mailbox."""
        subject = re.search(rb"(?m)^Subject: (.*)\r$", raw).group(1).decode()
        answer = self.submit(raw, **kw)
        self.assertTrue(answer.startswith("250 "), answer)
        found = self.find(subject, mailbox)
        self.assertEqual(len(found), 1, (subject, mailbox))
        return found[0]

    def results(self, delivered):
        """method -> result, of our own field, as another program reads it; several of a kind: a list."""
        head = re.sub(rb"\r\n[ \t]+", b" ", delivered.partition(b"\r\n\r\n")[0]).decode()
        (field,) = re.findall(r"(?m)^(Authentication-Results: mail\.example\.test;.*?)\r?$", head)
        parsed = authres.AuthenticationResultsHeader.parse(field)
        self.assertEqual(parsed.authserv_id, "mail.example.test")
        return parsed.results

    def result(self, delivered, method):
        return [r.result for r in self.results(delivered) if r.method == method]

    def metric(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.server.port('http')}/metrics", timeout=30) as r:
            return int(re.search(rf"(?m)^merpati_{name}_total (\d+)$", r.read().decode()).group(1))


@unittest.skipIf(dkim is None, "python3-dkim and python3-authres are not installed")
class DmarcTest(VerdictTest):
    def test_what_others_sign_passes(self):
        for i, canonical in enumerate(itertools.product((b"simple", b"relaxed"), repeat=2)):
            raw = message("Ann <ann@reject.test>", f"dkimpy {i}", body="Hello  there, \r\n\r\n..dots\r\n\r\n\r\n")
            raw = dkim.sign(raw, b"s", b"reject.test", self.pem, canonicalize=canonical) + raw
            got = self.accept(raw)
            self.assertEqual((self.result(got, "dkim"), self.result(got, "dmarc")), (["pass"], ["pass"]))
            self.assertTrue(got.endswith(raw))

    def test_what_we_sign_passes(self):
        raw = message("ann@reject.test", "our signature")
        got = self.accept(self.sign(raw, "reject.test"))
        self.assertEqual((self.result(got, "dkim"), self.result(got, "spf"), self.result(got, "dmarc")), (["pass"], ["fail"], ["pass"]))

    CASES = (
        # author, envelope sender, client, d= of the signature, answer, mailbox, dmarc
        ("a@reject.test", "b@reject.test", SERVER, "", "250", "INBOX", "pass"),
        ("a@reject.test", "b@mail.reject.test", SERVER, "", "250", "INBOX", "pass"),
        ("a@mail.reject.test", "b@reject.test", SERVER, "", "250", "INBOX", "pass"),
        ("a@reject.test", "b@bare.test", ELSEWHERE, "mail.reject.test", "250", "INBOX", "pass"),
        ("a@reject.test", "b@bare.test", SERVER, "", "550", "", "fail"),
        ("a@reject.test", "b@reject.test", ELSEWHERE, "", "550", "", "fail"),
        ("a@reject.test", "b@bare.test", SERVER, "bare.test", "550", "", "fail"),
        ("a@mail.reject.test", "b@bare.test", SERVER, "", "250", "Junk", "fail"),
        ("a@gone.reject.test", "b@bare.test", SERVER, "", "550", "", "fail"),
        ("a@quarantine.test", "b@bare.test", SERVER, "", "250", "Junk", "fail"),
        ("a@sub.quarantine.test", "b@bare.test", SERVER, "", "250", "INBOX", "fail"),
        ("a@testing.test", "b@bare.test", SERVER, "", "250", "Junk", "fail"),
        ("a@none.test", "b@bare.test", ELSEWHERE, "", "250", "INBOX", "fail"),
        ("a@bare.test", "b@bare.test", ELSEWHERE, "", "250", "INBOX", "none"),
        ("a@strict.test", "b@mail.strict.test", SERVER, "mail.strict.test", "550", "", "fail"),
        ("a@strict.test", "b@strict.test", SERVER, "", "250", "INBOX", "pass"),
        ("a@REJECT.test", "b@reject.TEST", SERVER, "", "250", "INBOX", "pass"),
        ("undisclosed", "b@bare.test", SERVER, "", "250", "INBOX", "permerror"),
        # several authors: the strictest owner decides
        ("a@bare.test, x@reject.test", "b@bare.test", SERVER, "", "550", "", "fail"),
        ("a@none.test, x@quarantine.test", "b@bare.test", SERVER, "", "250", "Junk", "fail"),
        ("a@bare.test\r\nFrom: x@reject.test", "b@bare.test", SERVER, "", "550", "", "fail"),
        ("a@1.test, a@2.test, a@3.test, a@4.test, x@reject.test", "b@bare.test", SERVER, "", "550", "", ""),
    )

    def test_what_the_authors_domain_asks_for_is_done(self):
        for i, (author, sender, client, signer, code, mailbox, result) in enumerate(self.CASES):
            with self.subTest(author=author, sender=sender, client=client, signer=signer):
                raw = message(author, f"case {i} of policies")
                raw = self.sign(raw, signer) if signer else raw
                if code == "250":
                    self.assertEqual(self.result(self.accept(raw, mailbox, sender=sender, address=client), "dmarc"), [result])
                    continue
                answer = self.submit(raw, sender, client)
                self.assertTrue(answer.startswith("550 5.7.26 "), answer)
                self.assertEqual(self.find(f"case {i} of policies") + self.find(f"case {i} of policies", "Junk"), [])

    def test_an_author_about_whom_nobody_can_be_asked_goes_to_junk(self):
        self.accept(message("ceo@reject.test>", "nearly a domain"), "Junk")
        self.accept(message("a@bare.test, ceo@reject.test\\", "nearly a second domain"), "Junk")
        self.accept(message("x", "no author").replace(b"From: x\r\n", b""), "Junk")
        self.accept(message("undisclosed:;", "a group"))

    def test_a_changed_body_and_a_changed_subject_are_found(self):
        raw = self.sign(message("a@reject.test", "tampering"), "reject.test")
        for forged in (raw.replace(b"Hello", b"Jello"), raw.replace(b"Subject: tampering", b"Subject: tempering"),
                       b"Subject: in front\r\n" + raw, raw.replace(b"From: a@", b"From: b@")):
            self.assertTrue(self.submit(forged).startswith("550 5.7.26"), forged)

    def test_a_bounce_is_judged_by_its_hello(self):
        got = self.accept(message("postmaster@reject.test", "bounce"), sender="", address=SERVER, hello="EHLO mail.reject.test")
        self.assertEqual((self.result(got, "spf"), self.result(got, "dmarc")), (["pass"], ["pass"]))
        answer = self.submit(message("postmaster@reject.test", "bounce"), "", ELSEWHERE, "EHLO mail.reject.test")
        self.assertTrue(answer.startswith("550"), answer)

    def test_a_refusal_names_the_domain_what_failed_and_what_to_do(self):
        answer = self.submit(message("a@reject.test", "refused"), "b@bare.test", SERVER)
        self.assertIn("reject.test wants mail refused", answer)
        self.assertIn("SPF pass for bare.test, no DKIM signature", answer)
        self.assertIn("send through its servers or sign with its key", answer)
        signed = self.sign(message("a@reject.test", "refused"), "reject.test").replace(b"Hello", b"Jello")
        self.assertIn("SPF fail for bare.test, DKIM fail for reject.test", self.submit(signed))
        many = ", ".join(f"a@{i}.test" for i in range(9))
        self.assertIn("authors of more than 4 domains", self.submit(message(many, "refused")))

    def test_refusals_fit_into_a_line_whatever_the_names(self):
        long = ".".join(["x" * 60] * 3) + ".reject.test"
        answer = self.submit(message(f"a@{long}", "long"), f"b@{long}", ELSEWHERE)
        self.assertTrue(answer.startswith("550 5.7.26"), answer)
        self.assertLess(len(answer), 512)
        self.assertTrue(answer.rstrip().endswith("sign with its key"), answer)

    def test_a_refused_message_does_not_end_the_session(self):
        session = self.stranger(ELSEWHERE)
        self.assertTrue(self.submit(message("a@reject.test", "one"), session=session).startswith("550"))
        self.assertTrue(self.submit(message("a@none.test", "two"), session=session).startswith("250"))

    # ---- DNS that fails --------------------------------------------------------------------------
    def test_dns_that_fails_puts_mail_off(self):
        for author, sender in (("a@servfail.test", "b@bare.test"), ("a@timeout.test", "b@bare.test"), ("a@garbage.test", "b@bare.test"),
                               ("a@up.servfail.test", "b@bare.test")):
            with self.subTest(author):
                answer = self.submit(message(author, "dns"), sender)
                self.assertTrue(answer.startswith("451 4."), answer)
                self.assertIn("DNS cannot say now", answer)

    def test_a_key_that_cannot_be_had_puts_mail_off_only_where_it_matters(self):
        unsure = self.sign(message("a@half.test", "key"), "half.test", "t")
        self.assertTrue(self.submit(unsure).startswith("451 4."))
        self.assertTrue(self.submit(unsure, "b@half.test", SERVER).startswith("250 "))      # SPF is enough
        foreign = self.sign(message("a@reject.test", "key"), "half.test", "t")
        self.assertTrue(self.submit(foreign).startswith("550 "))                            # it could not have helped

    def test_spf_that_cannot_be_had_puts_mail_off_only_where_it_matters(self):
        self.assertTrue(self.submit(message("a@none.test", "spf"), "b@stuck.test").startswith("250 "))
        self.dns.set_behaviour(("mail.strict.test", "TXT"), "servfail")
        self.addCleanup(self.dns.set_behaviour, ("mail.strict.test", "TXT"), None)
        self.assertTrue(self.submit(message("a@strict.test", "spf"), "b@mail.strict.test").startswith("550 "))

    def test_nothing_is_put_off_where_the_owner_asks_for_nothing(self):
        """The key cannot be had, and the domain's policy is none whatever it says."""
        self.assertTrue(self.submit(self.sign(message("a@none.test", "key"), "none.test", "t")).startswith("250 "))

    def test_mail_that_was_put_off_is_taken_when_dns_is_back(self):
        raw = message("a@heals.test", "healing")
        self.assertTrue(self.submit(raw).startswith("451 "))
        self.dns.set_behaviour(("_dmarc.heals.test", "TXT"), None)
        self.assertTrue(eventually(lambda: self.submit(raw).startswith("250 "), pause=1))

    # ---- what is told ----------------------------------------------------------------------------
    def test_the_field_is_read_by_others_as_it_is_meant(self):
        raw = self.sign(message("a@reject.test", "the field"), "reject.test")
        got = self.accept(raw, sender="b@reject.test", address=SERVER, hello="EHLO mail.reject.test")
        told = [(r.method, r.result, sorted((p.type, p.name, p.value) for p in r.properties)) for r in self.results(got)]
        b = re.search(rb"b=\s*([^;]{8})", raw.split(b"bh=")[1]).group(1).decode()
        self.assertEqual(told, [
            ("iprev", "pass", [("policy", "iprev", SERVER)]),
            ("spf", "pass", [("smtp", "mailfrom", "b@reject.test")]),
            ("spf", "pass", [("smtp", "helo", "mail.reject.test")]),
            ("dkim", "pass", [("header", "a", "rsa-sha256"), ("header", "b", b), ("header", "d", "reject.test"),
                              ("header", "i", "@reject.test"), ("header", "s", "s")]),
            ("dmarc", "pass", [("header", "from", "reject.test")])])
        self.assertTrue(all(len(line) <= 998 for line in got.split(b"\r\n")))

    def test_the_log_and_the_trace_tell_the_verdict(self):
        self.accept(self.sign(message("a@reject.test", "told"), "reject.test"), sender="told@bare.test")
        wanted = "spf=fail (bare.test) dkim=pass (reject.test) dmarc=pass (reject.test)"
        self.assertIn(f'results="{wanted}"', self.server.log())
        (found,) = eventually(lambda: self.server.cli_json("trace", "--sender", "told@bare.test"))
        self.assertIn(("verdict", wanted), [(e["kind"], e["text"]) for e in found["events"]])
        self.submit(message("a@reject.test", "told"), "untold@bare.test")
        self.assertIn('results="spf=fail (bare.test) dkim=none dmarc=fail (reject.test) p=reject, refused"', self.server.log())

    @unittest.skipUnless(shutil.which("psql"), "no psql")
    def test_the_owner_is_told_of_what_was_refused_too(self):
        self.accept(message("a@mail.reject.test", "reported"), "Junk", sender="b@none.test", address="192.0.2.99")
        self.submit(message("a@reject.test", "reported"), "b@none.test", "192.0.2.98")
        self.accept(self.sign(message("a@reject.test", "reported 2"), "reject.test"), sender="b@none.test", address="192.0.2.97")
        query = ("SELECT source_ip, disposition, dkim, spf, header_from, envelope_from, count FROM report_dmarc_row "
                 "WHERE domain = 'reject.test' AND source_ip ~ '192.0.2.9.' ORDER BY source_ip")
        ask = lambda: subprocess.run(["psql", "-XqAtF,", "-h", str(self.server.data / "run"), "-U", "merpati", "-d", "merpati", "-c", query],
                                     capture_output=True, text=True, timeout=60).stdout.split()
        eventually(lambda: len(ask()) == 3)
        self.assertEqual(ask(), ["192.0.2.97,pass,pass,fail,reject.test,none.test,1",
                                 "192.0.2.98,reject,fail,fail,reject.test,none.test,1",
                                 "192.0.2.99,quarantine,fail,fail,mail.reject.test,none.test,1"])

    @unittest.skipUnless(shutil.which("psql"), "no psql")
    def test_nobody_is_told_of_their_own_reports(self):
        to = "dmarc-reports@example.test"
        self.submit(self.sign(message("a@reject.test", "a report"), "reject.test"), address="192.0.2.87", to=to)
        self.submit(message("a@reject.test", "a forgery"), address="192.0.2.88", to=to)
        self.submit(self.sign(message("a@reject.test", "a letter"), "reject.test"), address="192.0.2.89")
        query = "SELECT source_ip FROM report_dmarc_row WHERE source_ip ~ '192.0.2.8.' ORDER BY source_ip"
        ask = lambda: subprocess.run(["psql", "-XqAt", "-h", str(self.server.data / "run"), "-U", "merpati", "-d", "merpati", "-c", query],
                                     capture_output=True, text=True, timeout=60).stdout.split()
        self.assertTrue(eventually(lambda: "192.0.2.89" in ask()))
        self.assertEqual(ask(), ["192.0.2.88", "192.0.2.89"])

    def test_outcomes_are_counted(self):
        names = ("dmarc_passed", "dmarc_failed", "dmarc_refused", "dmarc_junked", "dmarc_deferred")
        before = [self.metric(n) for n in names]
        self.submit(self.sign(message("a@reject.test", "count"), "reject.test"))
        self.submit(message("a@reject.test", "count"))
        self.submit(message("a@quarantine.test", "count"))
        self.submit(message("a@servfail.test", "count"))
        self.assertEqual([self.metric(n) - b for n, b in zip(names, before)], [1, 2, 1, 1, 1])

    # ---- whom it is for --------------------------------------------------------------------------
    def test_neighbours_and_users_are_not_checked(self):
        raw = message("a@reject.test", "trusted network")
        self.assertNotIn(b"Authentication-Results", self.accept(raw, address="203.0.113.5"))
        raw = message("a@reject.test", "loopback")
        self.server.deliver("alice@example.test", raw)
        self.assertNotIn(b"\r\nAuthentication-Results", self.find("loopback")[0])
        raw = message("a@reject.test", "lmtp")
        with self.server.smtp("lmtp") as s:
            s.sendmail("b@bare.test", ["alice@example.test"], raw)
        self.assertNotIn(b"\r\nAuthentication-Results", self.find("lmtp")[0])

    # ---- forgeries -------------------------------------------------------------------------------
    FORGED = ("Authentication-Results: mail.example.test; dmarc=pass header.from=reject.test\r\n",
              "authentication-RESULTS : MAIL.example.TEST 1;\r\n\tspf=pass;\r\n dkim=pass header.d=reject.test\r\n",
              "Authentication-Results: (hidden) \"mail.example.test\"; none\r\n",
              "Authentication-Results:\r\n mail.example.test;dkim=pass\r\n",
              "Authentication-Results: mail.example.test.; none\r\n")
    FOREIGN = "Authentication-Results: mx.bare.test; spf=pass smtp.mailfrom=a@bare.test\r\n"

    def test_results_that_claim_to_be_ours_are_taken_out(self):
        for address, ours in ((ELSEWHERE, 1), ("203.0.113.5", 0)):
            raw = message("a@none.test", f"forged from {address}", "X-Before: 1\r\n", body="Authentication-Results: mail.example.test; none\r\n.\r\n")
            lines = raw.split(b"\r\n", 3)
            forged = b"\r\n".join([self.FORGED[0].encode() + self.FOREIGN.encode() + lines[0], self.FORGED[1].encode() + lines[1],
                                   self.FORGED[2].encode() + self.FORGED[3].encode() + lines[2], self.FORGED[4].encode() + lines[3]])
            got = self.accept(forged, address=address)
            self.assertTrue(got.endswith(b"\r\n" + self.FOREIGN.encode() + raw), got)
            self.assertEqual(len(re.findall(rb"(?mi)^authentication-results *:[^a-z]*mail", got.partition(b"\r\n\r\n")[0])), ours)
        self.assertIn("event=forged_results_removed", self.server.log())

    def test_a_signature_over_what_is_taken_out_is_checked_first(self):
        raw = self.FORGED[0].encode() + message("a@reject.test", "signed forgery")
        raw = dkim.sign(raw, b"s", b"reject.test", self.pem, include_headers=[b"from", b"subject", b"authentication-results"]) + raw
        got = self.accept(raw)
        self.assertEqual(self.result(got, "dmarc"), ["pass"])
        self.assertNotIn(b"Authentication-Results: mail.example.test; dmarc=pass", got)

    # ---- abuse -----------------------------------------------------------------------------------
    def test_hundreds_of_signatures_cost_ten_lookups(self):
        one = self.sign(message("a@none.test", "bomb"), "other.test").partition(b"From: ")[0]
        for count, lookups, results in ((500, 10, ["permerror"] * 10), (1200, 0, ["permerror"])):    # the second is a header beyond measure
            raw = b"".join(one.replace(b"other.test", b"bomb%d.test" % i) for i in range(count)) + message("a@none.test", f"bomb {count}")
            seen = len(self.dns.queries)
            got = self.accept(raw)
            self.assertEqual(len({name for name, _ in self.dns.queries[seen:] if "_domainkey" in name}), lookups)
            self.assertEqual(self.result(got, "dkim"), results)

    def test_endless_lists_of_fields_and_chains_are_no_trouble(self):
        names = ":".join(["from"] * 900 + ["x"] * 90)
        raw = message("a@none.test", "h= bomb", f"DKIM-Signature: v=1; a=rsa-sha256; d=other.test; s=s; h={names}; bh=AAAA; b=AAAA\r\n" * 10)
        self.assertEqual(self.result(self.accept(raw), "dmarc"), ["fail"])
        chain = "".join(f"ARC-Seal: i={i}; a=rsa-sha256; d=d{i}.test; s=s; cv=pass; b=AAAA\r\nARC-Authentication-Results: i={i}; x; none\r\n"
                        f"ARC-Message-Signature: i={i}; a=rsa-sha256; d=d{i}.test; s=s; h=from; bh=AAAA; b=AAAA\r\n" for i in range(60, 0, -1))
        self.assertEqual(self.result(self.accept(message("a@none.test", "chain bomb", chain)), "arc"), ["fail"])
        junk = "Authentication-Results: mail.example.test; none\r\n" * 8000
        self.assertNotIn(b"Authentication-Results: mail.example.test; none", self.accept(message("a@bare.test", "field bomb", junk)))

    def test_hostile_names_end_no_line_and_forge_no_field(self):
        raw = message("a@none.test", "odd names", 'DKIM-Signature: v=1; a=rsa-sha256; d="x\\; dmarc=pass"; s=a(b; h=from; bh=AA; b=BB\r\n')
        got = self.accept(raw, sender='"x; dmarc=pass (y"@bare.test')
        self.assertEqual(self.result(got, "dmarc"), ["fail"])

    # ---- mailing lists ---------------------------------------------------------------------------
    def through_list(self, subject, sealer="lists.test", results=None, author="a@reject.test"):
        """Signed by its author, changed by a list, sealed."""
        raw = self.sign(message(author, subject), "reject.test").replace(b"Hello", b"[list] Hello")
        results = results or "dkim=pass header.d=reject.test; dmarc=pass header.from=reject.test"
        return self.seal(raw, sealer, results)

    def test_a_trusted_lists_word_is_taken(self):
        before = self.metric("dmarc_overridden")
        got = self.accept(self.through_list("list mail 1"), sender="list-bounces@lists.test", address=LIST)
        self.assertEqual((self.result(got, "arc"), self.result(got, "dmarc"), self.result(got, "dkim")), (["pass"], ["fail"], ["fail"]))
        self.assertEqual(self.metric("dmarc_overridden"), before + 1)
        self.assertIn("dmarc=fail (reject.test) p=reject, taken for its sealer is trusted", self.server.log())

    def test_a_trusted_list_may_write_what_it_likes_of_spf(self):
        self.accept(self.through_list("list mail 2", results="spf=pass smtp.mailfrom=x@y.test"), sender="l@lists.test", address=LIST)

    @unittest.skipUnless(shutil.which("psql"), "no psql")
    def test_the_owner_is_told_why_it_was_taken(self):
        self.accept(self.through_list("list mail 3"), sender="list-bounces@lists.test", address="192.0.2.77")
        query = "SELECT disposition || '/' || reason FROM report_dmarc_row WHERE source_ip = '192.0.2.77'"
        ask = lambda: subprocess.run(["psql", "-XqAt", "-h", str(self.server.data / "run"), "-U", "merpati", "-d", "merpati", "-c", query],
                                     capture_output=True, text=True, timeout=60).stdout.strip()
        self.assertEqual(eventually(ask), "none/local_policy arc=pass as[1].d=lists.test")

    def test_dkimpy_seals_for_a_list(self):
        raw = self.sign(message("a@reject.test", "sealed by dkimpy"), "reject.test").replace(b"Hello", b"[list] Hello")
        raw = b"Authentication-Results: lists.test; dmarc=pass header.from=reject.test\r\n" + raw
        raw = b"".join(dkim.arc_sign(raw, b"s", b"lists.test", self.pem, b"lists.test")) + raw
        self.assertEqual(self.result(self.accept(raw, sender="l@lists.test", address=LIST), "arc"), ["pass"])

    def test_nobody_elses_word_is_taken(self):
        failed = "dmarc=fail header.from=reject.test"
        spoilt = self.through_list("untrusted").replace(b"[list]", b"[lost]")
        unsigned = self.seal(message("a@reject.test", "untrusted"), "lists.test", "dmarc=pass", "to:subject")
        for raw in (self.through_list("untrusted", "other.test"),           # not trusted
                    self.seal(self.through_list("untrusted"), "other.test", "arc=pass"),    # not the newest
                    self.through_list("untrusted", results=failed),         # it saw the forgery
                    self.seal(self.through_list("untrusted", "other.test"), "lists.test", "arc=pass; " + failed),
                    unsigned,                                               # its author may be anybody
                    spoilt):                                                # changed behind the seal
            answer = self.submit(raw, "list-bounces@lists.test", LIST)
            self.assertTrue(answer.startswith("550 5.7.26"), answer)


@unittest.skipIf(dkim is None, "python3-dkim and python3-authres are not installed")
class LenientTest(VerdictTest):
    settings = {**VerdictTest.settings, "dmarc_enforce": "no", "dmarc_defer": "no"}

    def test_what_would_be_refused_goes_to_junk(self):
        got = self.accept(message("a@reject.test", "lenient"), "Junk")
        self.assertEqual(self.result(got, "dmarc"), ["fail"])
        self.accept(message(", ".join(f"a@{i}.test" for i in range(9)), "many authors"), "Junk")

    def test_what_dns_cannot_tell_is_taken(self):
        self.assertEqual(self.result(self.accept(message("a@servfail.test", "unknown")), "dmarc"), ["temperror"])


@unittest.skipIf(dkim is None, "python3-dkim and python3-authres are not installed")
class UncheckedTest(VerdictTest):
    settings = {**VerdictTest.settings, "mail_authentication": "no"}

    def test_nothing_is_checked_and_forgeries_still_go(self):
        seen = len(self.dns.queries)
        got = self.accept(message("a@reject.test", "unchecked", DmarcTest.FORGED[0]))
        self.assertNotIn(b"\r\nAuthentication-Results", got)
        self.assertEqual(self.dns.queries[seen:], [])


if __name__ == "__main__":
    unittest.main()
