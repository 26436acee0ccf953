"""ARC: every case of ValiMail's suite, real chains, and chains of our own that others verify."""

import re
import unittest

import yaml
from dkim_driver import DkimTool
from dns_server import DnsServer
from harness import SHARED_DATA
from test_dkim import MESSAGE, crlf, records_and_message

try:
    import dkim
except ImportError:
    dkim = None

SUITE = SHARED_DATA / "arc/arc_test_suite"
RESULTS = "spf=pass smtp.mailfrom=ann@example.org;\r\n\tdkim=pass header.d=example.org"


def one_line(text):
    return re.sub(r"\s*\n\s*", "", text.strip())


def txt_zone(records):
    return {name.rstrip("."): [("TXT", one_line(text or ""))] for name, text in (records or {}).items()}


def documents(name):
    with open(SUITE / name, encoding="utf-8") as f:
        return list(yaml.safe_load_all(f))


def tags(text):
    """A tag list as a dict, white space that means nothing taken out."""
    pairs = (part.partition("=") for part in text.strip().rstrip(";").split(";"))
    return {name.strip(): re.sub(r"\s+", "", value) for name, _, value in pairs}


def fields_of(text):
    unfolded = re.sub(r"\r?\n[ \t]+", " ", text)
    return [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in unfolded.split("\r\n") if line)]


class ArcTest(unittest.TestCase):
    def setUp(self):
        self.dns = DnsServer().start()
        self.addCleanup(self.dns.stop)
        self.tool = DkimTool(self.dns)
        self.addCleanup(self.tool.close)


@unittest.skipUnless(SUITE.is_dir(), "the suite is not here")
class SuiteTest(ArcTest):
    def test_validation(self):
        wanted = {"none": "none", "pass": "pass", "fail": "fail", "": "fail"}       # "": cv=fail was there before
        seen = 0
        for document in documents("arc-draft-validation-tests.yml"):
            self.dns.set_records(txt_zone(document["txt-records"]))
            for name, case in document["tests"].items():
                with self.subTest(name):
                    answer = self.tool.arc(crlf(case["message"].encode()))
                    self.assertEqual(answer["result"], wanted[str(case["cv"]).lower()], answer)
                    self.assertFalse(answer["temporary"])
                seen += 1
        self.assertEqual(seen, 171)

    def own_results(self, message, authserv_id):
        """The results of our own fields in one list, as the server itself keeps them."""
        head = re.sub(r"\n[ \t]+", " ", message.partition("\n\n")[0])
        values = re.findall(r"^Authentication-Results: *(.*?)\s*$", head, re.M)
        return "; ".join(v.partition(";")[2].strip().rstrip(";") for v in values if v.partition(";")[0] == authserv_id)

    def test_signing(self):
        seen = 0
        for document in documents("arc-draft-sign-tests.yml"):
            self.dns.set_records(txt_zone(document["txt-records"]))
            self.assertNotIn("error", self.tool.key("k", document["privatekey"].encode()))
            for name, case in document["tests"].items():
                with self.subTest(name):
                    self.check_signing(document, case)
                seen += 1
        self.assertEqual(seen, 17)

    def check_signing(self, document, case):
        message = crlf(case["message"].encode())
        results = self.own_results(case["message"], case["srv-id"])
        text = self.tool.seal(message, "k", document["domain"], document["sel"], case["srv-id"], results,
                              case["sig-headers"], case["t"])
        if not case["AS"].strip():
            self.assertEqual(text, "")
            return
        made = dict(fields_of(text))
        squeeze = lambda s: re.sub(r"\s+", " ", s).strip().rstrip(";")
        self.assertEqual(squeeze(made["arc-authentication-results"]), squeeze(case["AAR"]))
        for field, expected in (("arc-message-signature", case["AMS"]), ("arc-seal", case["AS"])):
            got, want = tags(made[field]), tags(expected)
            self.assertGreater(len(got.pop("b")), 100)
            want.pop("b")               # covers the field as it is written
            self.assertEqual(got, want)
        status = tags(case["AS"])["cv"]
        answer = self.tool.arc(text.encode() + message)
        self.assertEqual(answer["result"], "fail" if status == "fail" else "pass", answer)
        self.assertEqual(answer["ended"], status == "fail")


@unittest.skipUnless(SUITE.is_dir(), "the messages of others are not here")
class RealChainsTest(ArcTest):
    def test_mail_auth(self):
        for path in sorted((SHARED_DATA / "arc/mail-auth").glob("*.txt")):
            with self.subTest(path.name):
                records, message = records_and_message(path)
                self.dns.set_records(txt_zone(records))
                answer = self.tool.arc(message)
                self.assertEqual(answer["result"], "pass", answer)
                changed = message.replace(b"\r\n\r\n", b"\r\n\r\nMore.\r\n", 1)
                self.assertEqual(self.tool.arc(changed)["result"], "fail")


class OurChainsTest(ArcTest):
    def setUp(self):
        super().setUp()
        self.records = {}
        for name, kind in (("r", "rsa"), ("e", "ed25519")):
            self.tool.make(name, kind)
            self.records[f"{name}._domainkey.{name}.example.org"] = self.tool.text("record", name)
        self.dns.set_records({k: [("TXT", v)] for k, v in self.records.items()})

    def seal(self, message, key="r", results=RESULTS):
        fields = self.tool.seal(message, key, f"{key}.example.org", key, f"mx.{key}.example.org", results)
        self.assertTrue(fields)
        self.assertLess(max(len(line) for line in fields.split("\r\n")), 100)
        return fields.encode() + message

    def test_a_chain_grows_and_tells_where_the_message_was_changed(self):
        self.assertEqual(self.tool.arc(MESSAGE)["result"], "none")
        one = self.seal(MESSAGE)
        self.assertEqual(self.tool.arc(one)["domains"], ["r.example.org"])
        two = self.seal(b"Received: by list\r\n" + one, "e")
        answer = self.tool.arc(two)
        self.assertEqual((answer["result"], answer["count"], answer["oldest_pass"], answer["domains"]),
                         ("pass", 2, 0, ["r.example.org", "e.example.org"]))
        changed = two.replace(b"Hello", b"[list] Hello")
        self.assertEqual(self.tool.arc(changed)["result"], "fail")
        three = self.seal(one.replace(b"Hello", b"[list] Hello"))       # its chain had failed
        self.assertIn(b"i=2; cv=fail", three)
        self.assertTrue(self.tool.arc(three)["ended"])
        self.assertEqual(self.tool.seal(three, "r", "r.example.org", "r", "mx", RESULTS), "")

    def test_a_forwarder_that_changes_the_message_seals_first_what_it_saw(self):
        """The verdict is of the message that came, the signature of the one that leaves."""
        one = self.seal(MESSAGE)
        two = self.seal(one)
        for fields in (b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"):
            gone = re.sub(rb"(?m)^" + fields + rb": i=1.*\r\n(?:[ \t].*\r\n)*", b"", two)
            self.assertNotEqual(gone, two)
            answer = self.tool.arc(gone)
            self.assertEqual(answer["result"], "fail")
            self.assertIn("not complete", answer["problem"])
        twice = re.search(rb"(?m)^ARC-Seal: i=1.*\r\n(?:[ \t].*\r\n)*", two).group() + two
        self.assertIn("two ARC-Seal", self.tool.arc(twice)["problem"])

    def test_fifty_sets_and_not_more(self):
        message = MESSAGE
        for _ in range(50):
            message = self.seal(message, "e")
        self.dns.queries.clear()
        answer = self.tool.arc(message)
        self.assertEqual((answer["result"], answer["count"], answer["oldest_pass"]), ("pass", 50, 0), answer)
        self.assertLessEqual(len(self.dns.queries), 4)
        self.assertEqual(self.tool.seal(message, "e", "e.example.org", "e", "mx", RESULTS), "")
        sets = message[:-len(MESSAGE)]
        answer = self.tool.arc(sets * 20 + MESSAGE)
        self.assertEqual(answer["result"], "fail")

    def test_dns_that_does_not_answer_is_told_apart(self):
        one = self.seal(MESSAGE)
        self.dns.set_behaviour("r._domainkey.r.example.org", "servfail")
        answer = self.tool.arc(one)
        self.assertEqual((answer["result"], answer["temporary"]), ("fail", True))
        self.assertEqual(self.tool.seal(one, "e", "e.example.org", "e", "mx", RESULTS), "")
        self.dns.set_behaviour("r._domainkey.r.example.org", None)
        tool = DkimTool(self.dns)               # a resolver remembers failures for a while
        self.assertEqual(tool.arc(one)["result"], "pass")
        tool.close()

    def dnsfunc(self, name, timeout=5):
        return self.records.get(name.decode().rstrip("."), "").encode() or None

    @unittest.skipIf(dkim is None, "python3-dkim is not installed")
    def test_dkimpy_verifies_our_chains(self):
        message = self.seal(self.seal(self.seal(MESSAGE)))
        status, _, reason = dkim.ARC(message).verify(dnsfunc=self.dnsfunc)
        self.assertEqual(status, b"pass", reason)
        status, _, reason = dkim.ARC(self.seal(MESSAGE).replace(b"Hello", b"Hallo")).verify(dnsfunc=self.dnsfunc)
        self.assertEqual(status, b"fail", reason)

    @unittest.skipIf(dkim is None, "python3-dkim is not installed")
    def test_we_verify_and_continue_the_chains_of_dkimpy(self):
        message = b"Authentication-Results: mx.r.example.org; spf=pass\r\n" + MESSAGE
        pem = self.tool.text("pem", "r").encode()
        fields = dkim.ARC(message).sign(b"r", b"r.example.org", pem, b"mx.r.example.org",
                                        include_headers=[b"from", b"to", b"subject"])
        message = b"".join(fields) + message
        answer = self.tool.arc(message)
        self.assertEqual((answer["result"], answer["count"]), ("pass", 1), answer)
        message = self.seal(message)
        self.assertEqual(self.tool.arc(message)["count"], 2)
        status, _, reason = dkim.ARC(message).verify(dnsfunc=self.dnsfunc)
        self.assertEqual(status, b"pass", reason)


if __name__ == "__main__":
    unittest.main()
