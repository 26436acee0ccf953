"""SPF against a real DNS server: the RFC 7208 test suite and others' vectors, and DNS that fails, lies or loops.

Each scenario has a zone of its own; its cases run at once. A case is right with any of the results that its suite
allows."""

import unittest

import spf_vectors
from auth_tool import AuthTool
from dns_server import DnsServer
from harness import SHARED_DATA

SUITE = SHARED_DATA / "spf/rfc7208-test-suite/rfc7208-tests.yml"
LINES = SHARED_DATA / "spf/mail-auth"

# Where the vectors of LINES differ from RFC 7208: (file, case, HELO) -> what is right.
CORRECTED = {
    # 5.7: "exists" asks for A records only, which the RFC's suite tests (exists-ip6only).
    ("exists.yml", "Exists (167.1.2.3)", "ip6.test.org"): {"fail"},
    ("macro.yml", "Macro expansion 2 (2001:db8::cb01)", "mx.example.org"): {"fail"},
    # 4.6: an error anywhere makes it a permerror, behind "all" too; there is no mechanism "ip".
    ("all.yml", "All test (10.0.0.1)", "test.org"): {"permerror"},
    # 5: IPv4 addresses are listed by "ip4" only.
    ("ip.yml", "IPv6 match (10.1.2.3)", "test.org"): {"fail"},
    # 4.6.4: ten of eleven PTR records count, and DNS puts them into any order.
    ("basic.yml", "DNS Lookup Limits (10.0.0.11)", "ptr.test.org"): {"fail", "pass"},
}
# Names that the vectors expect to lead nowhere without counting (4.6.4 allows two of them): they get an address.
PEOPLED = {"t%d.org" % i for i in range(1, 12)}


def explanation_is_right(wanted, got):
    """DEFAULT: the domain gives none. IPv6 addresses may be written in any case."""
    return wanted is None or got.lower() == ("" if wanted == "DEFAULT" else wanted.lower())


class Spf(unittest.TestCase):
    def check_suite(self, scenario):
        with DnsServer(scenario.records, scenario.behaviours) as dns, AuthTool(dns) as tool:
            answers = tool.ask([("spf", c.client, c.helo, c.sender, "unknown") for c in scenario.cases])
        for case, (result, mechanism, explanation, problem) in zip(scenario.cases, answers):
            with self.subTest(scenario=scenario.name, case=case.name):
                self.assertIn(result, case.results, (mechanism, problem))
                self.assertTrue(explanation_is_right(case.explanation, explanation), explanation)
                self.assertEqual(bool(problem), result in ("none", "temperror", "permerror"))

    @unittest.skipUnless(SUITE.exists(), "no shared data")
    def test_every_case_of_the_rfc_7208_suite(self):
        scenarios = spf_vectors.suite(SUITE)
        self.assertGreater(sum(len(s.cases) for s in scenarios), 190)
        for scenario in scenarios:
            self.check_suite(scenario)

    # These vectors judge as a server does that looks at HELO first: the sender counts when HELO passes or is the same.
    def check_lines(self, file, scenario):
        for name in PEOPLED:
            scenario.records.setdefault(name, [("A", "192.0.2.254")])
        servfail = {name: "servfail" for name in ("_dns_error.org", "_dns_error.test.org")}
        with DnsServer(scenario.records, servfail) as dns, AuthTool(dns) as tool:
            helo = tool.ask([("spf", c.client, c.helo, "", "unknown") for c in scenario.cases])
            sender = tool.ask([("spf", c.client, c.helo, c.sender, "unknown") for c in scenario.cases])
        for case, by_helo, by_sender in zip(scenario.cases, helo, sender):
            is_same = case.sender.endswith("@" + case.helo)
            result, mechanism, explanation, problem = by_sender if is_same or by_helo[0] == "pass" else by_helo
            right = CORRECTED.get((file, case.name, case.helo), case.results)
            with self.subTest(scenario=scenario.name, case=case.name):
                self.assertIn(result, right, (mechanism, problem))
                self.assertTrue(explanation_is_right(case.explanation, explanation), explanation)

    @unittest.skipUnless(LINES.is_dir(), "no shared data")
    def test_every_case_of_the_other_vectors(self):
        count = 0
        for path in sorted(LINES.glob("*.yml")):
            for scenario in spf_vectors.lines(path):
                self.check_lines(path.name, scenario)
                count += len(scenario.cases)
        self.assertGreater(count, 100)


class HostileDns(unittest.TestCase):
    """One zone; what each name does stands in its label."""

    records = {
        "good.test": [("TXT", "v=spf1 ip4:192.0.2.1 -all")],
        "big.test": [("TXT", "v=spf1 " + "ip4:198.51.100.7 " * 700 + "ip4:192.0.2.1 -all")],
        "huge.test": [("TXT", "v=spf1 " + "ip4:198.51.100.7 " * 1500 + "ip4:192.0.2.1 -all")],
        "tcp.test": [("TXT", "v=spf1 ip4:192.0.2.1 -all")],
        "many.test": [("TXT", f"text number {i}") for i in range(200)] + [("TXT", "v=spf1 ip4:192.0.2.1 -all")],
        "loop.test": [("CNAME", "loop2.test.")], "loop2.test": [("CNAME", "loop.test.")],
        "a-servfail.test": [("TXT", "v=spf1 a:servfail.test -all")],
        "mx-servfail.test": [("TXT", "v=spf1 mx:mx.test -all")],
        "mx-half.test": [("TXT", "v=spf1 mx:half.test -all")],
        "mx.test": [("MX", "10 servfail.test."), ("MX", "20 other.test.")],
        "half.test": [("MX", "10 servfail.test."), ("MX", "20 client.test.")],
        "other.test": [("A", "192.0.2.2")], "client.test": [("A", "192.0.2.1")],
        "self.test": [("TXT", "v=spf1 include:self.test -all")],
        "fan.test": [("TXT", "v=spf1 " + "include:fan.test " * 100 + "-all")],
        "bomb.test": [("TXT", "v=spf1 exists:" + "%{s}" * 3000 + ".bomb.test -all")],
        "explained.test": [("TXT", "v=spf1 -all exp=long.test")],
        "long.test": [("TXT", "%{d}" * 400)],
        "ptr.test": [("TXT", "v=spf1 ptr -all")],
        "2.2.0.192.in-addr.arpa": [("PTR", "client.test.")],
        "4.2.0.192.in-addr.arpa": [("PTR", "servfail.test."), ("PTR", "client.test.")],
        "5.2.0.192.in-addr.arpa": [("PTR", f"name{i}.test.") for i in range(60)],
        "1.2.0.192.in-addr.arpa": [("PTR", "a\\000b.ptr.test."), ("PTR", "servfail.test."), ("PTR", "client.test."),
                                   ("PTR", "loop.test.")],
    }
    records.update({f"chain{i}.test": [("TXT", f"v=spf1 include:chain{i + 1}.test -all")] for i in range(11)},
                   **{"chain11.test": [("TXT", "v=spf1 ip4:192.0.2.1 -all")]})
    behaviours = {"servfail.test": "servfail", "refused.test": "refused", "garbage.test": "garbage",
                  "liar.test": "liar", "self-cname.test": "loop", "truncated.test": "truncated", "tcp.test": "tcp",
                  "timeout.test": "timeout", "3.2.0.192.in-addr.arpa": "servfail"}

    @classmethod
    def setUpClass(cls):
        cls.dns = DnsServer(cls.records, cls.behaviours).start()
        cls.tool = AuthTool(cls.dns).__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.tool.__exit__()
        cls.dns.stop()

    def check(self, wanted):
        """domain -> result"""
        answers = self.tool.ask([("spf", "192.0.2.1", "client.test", f"ani@{domain}", "us.test") for domain in wanted])
        self.assertEqual({d: a[0] for d, a in zip(wanted, answers)}, wanted)
        return answers

    def test_what_cannot_be_asked_is_a_temperror_and_never_none(self):
        self.check({"servfail.test": "temperror", "refused.test": "temperror", "garbage.test": "temperror",
                    "self-cname.test": "temperror", "loop.test": "temperror",
                    "truncated.test": "temperror", "timeout.test": "temperror",
                    "a-servfail.test": "temperror", "mx-servfail.test": "temperror"})

    def test_the_answer_to_another_question_is_not_taken(self):
        answer, = self.tool.ask([("spf", "127.0.0.2", "client.test", "ani@liar.test", "us.test")])
        self.assertIn(answer[0], ("temperror", "none"))

    def test_what_is_not_there_is_none(self):
        self.check({"nothing.test": "none", "client.test": "none", "test": "none", "[192.0.2.1]": "none"})

    def test_answers_that_need_tcp_arrive(self):
        self.check({"tcp.test": "pass", "big.test": "pass", "many.test": "pass"})

    def test_an_mx_host_that_matches_is_enough(self):
        self.check({"mx-half.test": "pass"})

    def test_bombs_end_at_the_limits(self):
        answers = self.check({"self.test": "permerror", "fan.test": "permerror", "bomb.test": "permerror",
                              "huge.test": "permerror"})
        self.assertIn("ask DNS", answers[0][3])
        self.assertIn("longer than", answers[3][3])

    def test_includes_nest_as_deep_as_the_limit(self):
        self.check({"chain1.test": "pass", "chain0.test": "permerror"})

    def test_an_explanation_that_is_too_long_is_left_out(self):
        answers = self.check({"explained.test": "fail"})
        self.assertEqual(answers[0][1:3], ["-all", ""])

    def test_strange_names_of_an_address_do_not_hide_its_good_one(self):
        spf, iprev = self.tool.ask([("spf", "192.0.2.1", "x.test", "ani@ptr.test", "us.test"), ("iprev", "192.0.2.1")])
        self.assertEqual(spf[0], "fail")
        self.assertEqual(iprev, ["pass", "client.test"])

    def test_iprev_tells_no_name_from_a_wrong_one_and_from_failures(self):
        wanted = {"192.0.2.2": "fail", "192.0.2.3": "temperror", "192.0.2.4": "temperror", "192.0.2.5": "fail",
                  "192.0.2.99": "permerror", "::ffff:192.0.2.1": "pass"}
        answers = self.tool.ask([("iprev", client) for client in wanted])
        self.assertEqual({c: a[0] for c, a in zip(wanted, answers)}, wanted)
        self.assertLessEqual(sum(name.startswith("name") for name, _ in set(self.dns.queries)), 10)


if __name__ == "__main__":
    unittest.main()
