"""DNS block and allow lists: which entries count, and what is said when a list fails or refuses to answer."""

import unittest

from auth_tool import AuthTool
from dns_server import DnsServer


class DnsLists(unittest.TestCase):
    records = {
        "7.2.0.192.bl.test": [("A", "127.0.0.2"), ("A", "127.0.0.10"), ("TXT", "Listed, see https://bl.test/")],
        "8.2.0.192.bl.test": [("A", "127.0.0.10")],
        "9.2.0.192.bl.test": [("A", "192.0.2.66")],                     # a parked domain answers everything
        "10.2.0.192.bl.test": [("A", "127.255.255.254"), ("TXT", "You ask through a public resolver")],
        "7.2.0.192.allow.test": [("A", "127.0.5.1")],
        "7.2.0.192.mute.test": [("A", "127.0.0.2")],
        "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bl.test": [("A", "127.0.0.3")],
        "7.2.0.192.rude.test": [("A", "127.0.0.2"), ("TXT", b"tab\there\xff")],
    }
    behaviours = {"7.2.0.192.down.test": "servfail", "7.2.0.192.slow.test": "timeout",
                  ("7.2.0.192.mute.test", "TXT"): "servfail"}

    @classmethod
    def setUpClass(cls):
        cls.dns = DnsServer(cls.records, cls.behaviours).start()

    @classmethod
    def tearDownClass(cls):
        cls.dns.stop()

    def ask(self, *questions):
        return AuthTool(self.dns).ask([("dnsbl", *q) for q in questions])

    def test_only_answers_in_the_range_count(self):
        answers = self.ask(("192.0.2.7", "bl.test"), ("192.0.2.8", "bl.test=127.0.0.2-9"), ("192.0.2.8", "bl.test=127.0.0.10*4"),
                           ("192.0.2.9", "bl.test"), ("192.0.2.10", "bl.test"), ("192.0.2.11", "bl.test"))
        self.assertEqual(answers[0][:3], ["1", "0", "bl.test"])
        self.assertEqual(answers[0][4], "Listed, see https://bl.test/")
        self.assertEqual(answers[1], ["0", "0"])
        self.assertEqual(answers[2], ["4", "0", "bl.test", "127.0.0.10", ""])
        for answer in answers[3:]:
            self.assertEqual(answer, ["0", "0"])

    def test_ipv6_is_asked_for_by_its_digits_and_mapped_ipv4_as_ipv4(self):
        v6, mapped = self.ask(("2001:db8::1", "bl.test"), ("::ffff:192.0.2.8", "bl.test"))
        self.assertEqual(v6[:4], ["1", "0", "bl.test", "127.0.0.3"])
        self.assertEqual(mapped[:4], ["1", "0", "bl.test", "127.0.0.10"])

    def test_weights_add_up_and_allow_lists_take_away(self):
        answer, = self.ask(("192.0.2.7", "bl.test=127.0.0.2*3, allow.test*-5 mute.test"))
        self.assertEqual(answer[:2], ["-1", "0"])
        self.assertEqual(answer[2::3], ["bl.test", "allow.test", "mute.test"])

    def test_a_list_that_fails_holds_up_nobody_and_blocks_nobody(self):
        answer, = self.ask(("192.0.2.7", "down.test slow.test bl.test=127.0.0.2"))
        self.assertEqual(answer[:3], ["1", "2", "bl.test"])

    def test_reasons_are_fit_for_a_reply(self):
        answer, = self.ask(("192.0.2.7", "rude.test"))
        self.assertEqual(answer[4], "tab?here?")

    def test_private_addresses_are_not_asked_for(self):
        before = len(self.dns.queries)
        self.assertEqual(self.ask(("127.0.0.1", "bl.test"), ("10.1.2.3", "bl.test"), ("::1", "bl.test")), [["0", "0"]] * 3)
        self.assertEqual(self.dns.queries[before:], [])


if __name__ == "__main__":
    unittest.main()
