"""dns_trust_anchor: signed answers are secure, and what fails its check is no answer."""

import unittest

from auth_tool import AuthTool
from dns_server import DnsServer, question

A, MX, TXT, TLSA = "1", "15", "16", "52"
HASH = "ab" * 32


def forge(query):
    end = question(query)[2]
    return query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:end] + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\2"


class Dnssec(unittest.TestCase):
    records = {"mx.example.org": [("A", "192.0.2.1")], "example.org": [("MX", "10 mx.example.org.")],
               "_25._tcp.mx.example.org": [("TLSA", f"3 1 1 {HASH}")], "alias.example.org": [("CNAME", "mx.example.org.")]}

    @classmethod
    def setUpClass(cls):
        cls.dns = DnsServer(cls.records, signed=True).start()

    @classmethod
    def tearDownClass(cls):
        cls.dns.stop()

    def ask(self, *questions, **settings):
        return AuthTool(self.dns, **{"dns_trust_anchor": self.dns.trust_anchor, **settings}).ask([("dns", *q) for q in questions])

    def test_signed_answers_are_secure(self):
        for answer in self.ask(("mx.example.org", A), ("example.org", MX), ("_25._tcp.mx.example.org", TLSA),
                               ("alias.example.org", A)):
            self.assertEqual(answer, ["found", "secure", "1"])

    def test_that_there_is_nothing_is_secure_too(self):
        self.assertEqual(self.ask(("mx.example.org", TLSA), ("nobody.example.org", A)),
                         [["no data", "secure", "0"], ["no name", "secure", "0"]])

    def test_without_a_trust_anchor_nothing_is_secure(self):
        self.assertEqual(self.ask(("mx.example.org", A), dns_trust_anchor=""), [["found", "insecure", "1"]])

    def test_the_key_of_the_root_is_trusted_by_itself_where_the_resolver_passes_signatures_on(self):
        root = {"dns_trust_anchor": "", "dns_root_key": self.dns.trust_anchor}
        self.assertEqual(self.ask(("mx.example.org", A), ("mx.example.org", TLSA), **root),
                         [["found", "secure", "1"], ["no data", "secure", "0"]])
        self.dns.set_behaviour("mx.example.org", forge)
        self.addCleanup(self.dns.set_behaviour, "mx.example.org", None)
        answer, = self.ask(("mx.example.org", A), **root)
        self.assertEqual(answer[0], "error")

    def test_where_the_resolver_strips_signatures_names_are_found_and_nothing_is_secure(self):
        plain = DnsServer(self.records).start()
        self.addCleanup(plain.stop)
        tool = AuthTool(plain, dns_root_key=self.dns.trust_anchor)
        self.assertEqual(tool.ask([("dns", "mx.example.org", A), ("dns", "nobody.example.org", A)]),
                         [["found", "insecure", "1"], ["no name", "insecure", "0"]])
        self.assertIn("dnssec_unusable", tool.log)

    def test_a_root_that_never_answers_makes_no_lookup_fail(self):
        plain = DnsServer(self.records, {".": "timeout"}).start()
        self.addCleanup(plain.stop)
        tool = AuthTool(plain, "1s", dns_root_key=self.dns.trust_anchor)
        self.assertEqual(tool.ask([("dns", "mx.example.org", A), ("dns", "nobody.example.org", A), ("dns", "example.org", MX)]),
                         [["found", "insecure", "1"], ["no name", "insecure", "0"], ["found", "insecure", "1"]])
        self.assertIn(("", "DNSKEY"), plain.queries)

    def test_a_forged_answer_is_no_answer(self):
        self.dns.set_behaviour("mx.example.org", forge)
        try:
            answer, = self.ask(("mx.example.org", A))
        finally:
            self.dns.set_behaviour("mx.example.org", None)
        self.assertEqual(answer[0], "error")

    def test_stripped_signatures_do_not_make_tlsa_disappear(self):
        def strip(query):
            return query[:2] + b"\x81\x83\0\1\0\0\0\0\0\0" + query[12:question(query)[2]]
        self.dns.set_behaviour("_25._tcp.mx.example.org", strip)
        try:
            answer, = self.ask(("_25._tcp.mx.example.org", TLSA))
        finally:
            self.dns.set_behaviour("_25._tcp.mx.example.org", None)
        self.assertEqual(answer[0], "error")

    def test_the_anchor_stays_when_the_records_change(self):
        self.dns.set_records({**self.records, "new.example.org": [("A", "192.0.2.2")]})
        self.assertEqual(self.ask(("new.example.org", A)), [["found", "secure", "1"]])


if __name__ == "__main__":
    unittest.main()
