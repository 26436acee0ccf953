"""DKIM over real DNS: messages that others signed and broke, and what we sign checked by others."""

import json
import re
import subprocess
import tempfile
import unittest

from dkim_driver import DkimTool
from dns_server import DnsServer
from harness import SHARED_DATA

try:
    import dkim
except ImportError:
    dkim = None

DATA = SHARED_DATA / "dkim"
MESSAGE = (b"From: Ann <ann@example.org>\r\nTo: bob@example.net\r\nSubject: A  test\r\nDate: Mon, 23 Nov 2026 10:00:00 +0700\r\n"
           b"Message-ID: <1@example.org>\r\nList-Unsubscribe: <https://example.org/u>\r\n\r\nHello  there,\r\n\r\nbye \r\n\r\n")


def crlf(raw):
    return re.sub(rb"\r?\n", b"\r\n", raw)


def records_and_message(path):
    """The form of mail-auth: lines "name record", an empty line, the message."""
    head, message = path.read_bytes().split(b"\n\n", 1)
    records = {}
    for line in head.decode().splitlines():
        name, _, text = line.partition(" ")
        records[name] = text
    return records, crlf(message)


def dkimpy_records(fixture):
    """A fixture of dkimpy as records of a DNS server."""
    fixtures = json.loads((DATA / "dkimpy/dns-records.json").read_text())["fixtures"]
    text = lambda v: (DATA / "dkimpy" / v[6:]).read_text().strip() if v.startswith("@file:") else v
    return {name.rstrip("."): text(value) for name, value in fixtures[fixture].items()}


class DkimTest(unittest.TestCase):
    def start(self, records, behaviours=None, settings=None):
        """A tool and its DNS server; records are texts by name."""
        zone = {name: [("TXT", t) for t in ([text] if isinstance(text, str) else text)] for name, text in records.items()}
        self.dns = DnsServer(zone, behaviours).start()
        self.addCleanup(self.dns.stop)
        tool = DkimTool(self.dns, settings)
        self.addCleanup(tool.close)
        return tool


@unittest.skipUnless(DATA.is_dir(), "the messages of others are not here")
class OthersMessagesTest(DkimTest):
    def test_mail_auth(self):
        wanted = {"001": ["pass", "pass"], "002": ["pass"], "003": ["pass", "pass"], "004": ["pass"],
                  "005": ["policy"], "006": ["pass"]}
        cases = {p.stem: records_and_message(p) for p in sorted((DATA / "mail-auth").glob("*.txt"))}
        self.assertEqual(set(cases), set(wanted))
        tool = self.start({k: v for records, _ in cases.values() for k, v in records.items()})
        for name, (_, message) in cases.items():
            with self.subTest(name):
                answer = tool.verify(message)
                self.assertEqual([s["result"] for s in answer], wanted[name], answer)
                self.assertEqual(tool.results(message.replace(b"\r\n", b"\n")), wanted[name])
        self.assertIn("expired", tool.verify(cases["005"][1])[0]["problem"])

    def test_james(self):
        tool = self.start(json.loads((DATA / "james-jdkim/dns-records.json").read_text())["records"])
        seen = 0
        for path in sorted((DATA / "james-jdkim").glob("*.eml")):
            with self.subTest(path.name):
                message = crlf(path.read_bytes())
                answer = tool.verify(message)
                seen += 1
                if re.search(rb"(?i)dkim-signature:[^;]*;?[^;]* a=rsa-sha1", message):
                    self.assertEqual(answer[0]["result"], "permerror")
                    self.assertIn("rsa-sha1", answer[0]["problem"])
                    self.assertNotEqual(answer[0]["domain"], "")
                elif path.name.startswith("FAIL_"):
                    self.assertNotEqual(answer[0]["result"], "pass")
                else:
                    self.assertEqual(answer[0]["result"], "pass", answer)
        self.assertEqual(seen, 7)

    def test_mimekit(self):
        pem = (DATA / "mimekit/gmail.pub").read_text()
        key = "".join(line for line in pem.splitlines() if "---" not in line)
        records, _ = records_and_message(DATA / "mail-auth/001.txt")
        tool = self.start({**records, "20120113._domainkey.gmail.com": "k=rsa; p=" + key})
        for name, wanted in (("gmail", ["pass"]), ("related", ["pass"]), ("multipart-no-end-boundary", ["pass"]),
                             ("rfc8463-example", ["pass", "pass"])):
            with self.subTest(name):
                answer = tool.verify(crlf((DATA / f"mimekit/{name}.msg").read_bytes()))
                self.assertEqual([s["result"] for s in answer], wanted, answer)

    def test_rspamd(self):
        football, _ = records_and_message(DATA / "mail-auth/001.txt")
        tool = self.start({
            **football, "broken._domainkey.brokenkey.za.org": "v=DKIM1; k=ed2014; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            "revoked._domainkey.revokedkey.za.org": "v=DKIM1; k=rsa; p=",
            "long._domainkey.bigkey.za.org": "v=DKIM1; k=ed25519; p=" + "A" * 8000})
        wanted = {"ed25519": (["pass", "pass"], ""), "ed25519-broken": (["fail", "fail"], "does not match"),
                  "dkim_broken_key": (["permerror"], "k="), "dkim_revoked_key": (["permerror"], "revoked"),
                  "dkim_key_too_long": (["permerror"], "larger"), "dkim_key_too_wide": (["permerror"], "no key"),
                  "dkim_huge_hlist": (["neutral"], "bh= is malformed"), "dkim_large_hlist": (["neutral"], "b= is malformed")}
        for name, (results, problem) in wanted.items():
            with self.subTest(name):
                answer = tool.verify(crlf((DATA / f"rspamd/{name}.eml").read_bytes()))
                self.assertEqual([s["result"] for s in answer], results, answer)
                self.assertIn(problem, answer[0]["problem"])
        for name, problem in (("dkim_huge_hlist", "more than 1000"), ("dkim_large_hlist", "no key")):
            message = crlf((DATA / f"rspamd/{name}.eml").read_bytes())
            message = re.sub(rb"\bbh=[^;\r]*", b"bh=" + b"A" * 43 + b"=", re.sub(rb"\bb=[^;\r]*", b"b=AAAA", message))
            self.assertIn(problem, tool.verify(message)[0]["problem"])
        for name, count in (("dkim_many_sigs", 6), ("dkim_sigs_at_limit", 5)):
            with self.subTest(name):
                results = tool.results(crlf((DATA / f"rspamd/{name}.eml").read_bytes()))
                self.assertEqual(len(results), count)
                self.assertNotIn("pass", results)

    def test_dkimpy_messages(self):
        read = lambda name: crlf((DATA / "dkimpy" / name).read_bytes())
        tool = self.start({**dkimpy_records("test_dkim.py:dnsfunc5"), **dkimpy_records("test_dkim_ed25519.py:dnsfunc"),
                           **dkimpy_records("test_dkim.py:dnsfunc"),
                           "test._domainkey.football.example.com": dkimpy_records("test_dkim.py:dnsfunc5")["test._domainkey.football.example.com"],
                           "2007-00._domainkey.kitterman.com": json.loads((DATA / "james-jdkim/dns-records.json").read_text())
                           ["records"]["2007-00._domainkey.kitterman.com"]})
        self.assertEqual(tool.results(read("rfc6376.signed.msg")), ["pass", "pass"])
        self.assertEqual(tool.results(read("rfc6376.signed.rsa.msg")), ["pass"])
        self.assertEqual(tool.results(read("ed25519test2.msg")), ["pass"])
        self.assertEqual(tool.results(read("test2.message")), ["pass"])
        bad = tool.verify(read("test.message.baddomain"))[0]
        self.assertEqual((bad["result"], bad["problem"]), ("neutral", "the tag d= is malformed"))

    def test_dkimpy_keys(self):
        """Records in both forms of an RSA key, and ones that must not serve."""
        key = lambda name: (DATA / "dkimpy" / name).read_bytes()
        tool = self.start({**dkimpy_records("test_dkim_rsavariants.py:dnsfunc"),
                           **{f"{n}._domainkey.example.com": key(f"{n}.txt").decode().strip()
                              for n in ("badk", "badversion", "test2", "test_tlsrpt")},
                           "b512._domainkey.example.com": dkimpy_records("test_dkim.py:dnsfunc")["example._domainkey.canonical.com"]})
        self.assertEqual(tool.key("k1024", key("1024_testkey.key"))["bits"], 1024)
        self.assertEqual(tool.key("k2048", key("2048_testkey.key"))["bits"], 2048)
        self.assertEqual(tool.key("pkcs8", key("2048_testkey_PKCS8.key"))["bits"], 2048)
        self.assertEqual(tool.key("test", key("test.private"))["bits"], 1024)
        for name, selector, wanted in (("k1024", "test", "pass"), ("k2048", "test3", "pass"), ("k2048", "test4", "pass"),
                                       ("pkcs8", "test5", "pass"), ("k1024", "test3", "fail"), ("test", "badk", "permerror"),
                                       ("test", "badversion", "permerror"), ("test", "test_tlsrpt", "permerror"),
                                       ("test", "b512", "permerror"), ("test", "missing", "permerror")):
            with self.subTest(selector):
                self.assertEqual(tool.results(tool.sign(MESSAGE, (name, "example.com", selector))), [wanted])
        self.assertEqual(tool.sign(crlf(key("test_nofrom.message")), ("k2048", "example.com", "test3"))[0], "syntax")


class OurSignaturesTest(DkimTest):
    def keys(self, behaviours=None, settings=None, more=None):
        """A tool with the keys r and e, which are published."""
        maker = DkimTool()
        pems = {}
        records = dict(more or {})
        for name, kind in (("r", "rsa"), ("e", "ed25519")):
            maker.make(name, kind)
            pems[name] = maker.text("pem", name).encode()
            records[f"{name}._domainkey.example.org"] = maker.text("record", name)
            self.assertTrue(maker.ask("matches", name, len(records[f"{name}._domainkey.example.org"]),
                                      data=records[f"{name}._domainkey.example.org"].encode())["matches"])
        maker.close()
        tool = self.start(records, behaviours, settings)
        for name, pem in pems.items():
            self.assertNotIn("error", tool.key(name, pem))
        self.records, self.pems = records, pems
        return tool

    def sign_both(self, tool, message=MESSAGE):
        return tool.sign(message, ("r", "example.org", "r"), ("e", "example.org", "e"))

    def test_both_algorithms_verify(self):
        tool = self.keys()
        answer = tool.verify(self.sign_both(tool))
        self.assertEqual([(s["result"], s["domain"], s["selector"], s["identity"], s["algorithm"], s["bits"]) for s in answer],
                         [("pass", "example.org", "r", "@example.org", "rsa-sha256", 2048),
                          ("pass", "example.org", "e", "@example.org", "ed25519-sha256", 256)])

    def test_lines_are_short_and_what_is_signed_cannot_be_added_to(self):
        tool = self.keys()
        signed = self.sign_both(tool)
        fields = signed[:-len(MESSAGE)]
        self.assertLess(max(len(line) for line in fields.split(b"\r\n")), 79)
        for more in (b"From: eve@example.org\r\n", b"Subject: other\r\n", b"To: eve@example.org\r\n",
                     b"Content-Type: text/html\r\n", b"Message-ID: <2@example.org>\r\n"):
            self.assertEqual(tool.results(fields + more + MESSAGE), ["fail", "fail"], more)
            self.assertEqual(tool.results(fields + MESSAGE.replace(b"\r\n\r\n", b"\r\n" + more + b"\r\n", 1)), ["fail", "fail"], more)
        for more in (b"Received: by mx\r\n", b"Return-Path: <>\r\n", b"X-Spam: no\r\n", b"Reply-To: list@example.net\r\n"):
            self.assertEqual(tool.results(more + signed), ["pass", "pass"], more)

    def test_changes_that_mean_nothing_are_allowed(self):
        tool = self.keys()
        signed = self.sign_both(tool)
        for changed in (signed.replace(b"\r\n", b"\n"), signed + b"\r\n\r\n", signed.replace(b"Hello  there", b"Hello \t there"),
                        signed.replace(b"Subject: A  test", b"SUBJECT:\r\n A test  ")):
            self.assertNotEqual(changed, signed)
            self.assertEqual(tool.results(changed), ["pass", "pass"])
        for changed in (signed.replace(b"Hello  there", b"Hellothere"), signed + b"more\r\n", signed.replace(b"<1@", b"<2@"),
                        signed.replace(b"s=r; t=17", b"s=r; t=18").replace(b"s=e; t=17", b"s=e; t=18")):
            self.assertEqual(tool.results(changed), ["fail", "fail"])

    def test_bodies_of_all_sizes_are_signed(self):
        tool = self.keys()
        head = MESSAGE[:MESSAGE.index(b"\r\n\r\n") + 4]
        for body in (b"", b"\r\n", b"x", b"x\r\n" * 200_000, b"y" * 3_000_000, b" \t\r\n" * 1000):
            self.assertEqual(tool.results(self.sign_both(tool, head + body)), ["pass", "pass"])
        self.assertEqual(tool.results(self.sign_both(tool, head[:-2])), ["pass", "pass"])

    def test_dns_troubles(self):
        signed = self.sign_both(self.keys())
        for behaviour, wanted in (("nxdomain", "permerror"), ("servfail", "temperror"), ("refused", "temperror"),
                                  ("tcp", "pass")):
            self.dns.set_behaviour("r._domainkey.example.org", behaviour)
            tool = DkimTool(self.dns)           # a resolver remembers failures for a while
            self.assertEqual(tool.results(signed), [wanted, "pass"], behaviour)
            tool.close()

    def test_a_silent_server_is_a_temperror(self):
        tool = self.keys({"r._domainkey.example.org": "timeout"}, {"dns_timeout": "500ms"})
        self.assertEqual(tool.results(self.sign_both(tool)), ["temperror", "pass"])

    def test_a_name_is_asked_for_once(self):
        tool = self.keys(settings={"dns_root_key": "/nonexistent"})     # or the first names are asked for by two ways
        fields = self.sign_both(tool)[:-len(MESSAGE)]
        self.dns.queries.clear()
        self.assertEqual(tool.results(fields * 2000 + MESSAGE)[:1], ["permerror"])      # the header is too large
        self.assertEqual(tool.results(fields * 300 + MESSAGE), ["pass"] * 10)
        asked = [name for name, kind in self.dns.queries if kind == "TXT"]
        self.assertEqual(sorted(set(asked)), ["e._domainkey.example.org", "r._domainkey.example.org"])
        self.assertEqual(len(asked), 2)

    def test_other_records_at_the_name_do_not_matter(self):
        tool = self.keys(more={})
        key = self.records["r._domainkey.example.org"]
        self.dns.set_records({"r._domainkey.example.org": [("TXT", "v=spf1 -all"), ("TXT", "x" * 300), ("TXT", key)]})
        self.assertEqual(tool.results(tool.sign(MESSAGE, ("r", "example.org", "r"))), ["pass"])

    def test_a_key_in_testing_condemns_nobody(self):
        tool = self.keys()
        self.dns.set_records({"r._domainkey.example.org": [("TXT", self.records["r._domainkey.example.org"] + "; t=y")]})
        signed = tool.sign(MESSAGE, ("r", "example.org", "r"))
        answer = tool.verify(signed)[0]
        self.assertEqual((answer["result"], answer["testing"]), ("pass", True))
        answer = tool.verify(signed + b"more")[0]
        self.assertEqual((answer["result"], answer["testing"]), ("neutral", True))

    def test_keys_are_judged(self):
        tool = self.keys()
        openssl = lambda *args: subprocess.run(["openssl", *args], check=True, capture_output=True).stdout
        self.assertEqual(tool.key("a", openssl("genrsa", "1024"))["bits"], 1024)
        self.assertEqual(tool.key("b", openssl("genrsa", "512"))["error"][0], "unsupported")
        self.assertEqual(tool.key("c", openssl("ecparam", "-genkey", "-noout", "-name", "prime256v1"))["error"][0], "unsupported")
        self.assertEqual(tool.key("d", b"no key")["error"][0], "syntax")
        self.assertEqual(tool.key("d", self.pems["r"].replace(b"A", b"B"))["error"][0], "syntax")
        with tempfile.NamedTemporaryFile() as f:
            f.write(self.pems["r"])
            f.flush()
            self.assertEqual(tool.key("e2", openssl("pkey", "-in", f.name, "-outform", "DER"))["bits"], 2048)
            locked = openssl("pkey", "-in", f.name, "-aes128", "-passout", "pass:x")
            self.assertEqual(tool.key("f", locked)["error"][0], "syntax")

    def test_zone_lines_are_read_by_a_name_server(self):
        tool = self.keys()
        line = tool.text("zone", "r", "r", "example.org")
        name, data = re.fullmatch(r"(\S+) IN TXT \( (.*) \)", line).groups()
        self.assertEqual(name, "r._domainkey.example.org.")
        self.assertLessEqual(max(len(part) for part in re.findall(r'"([^"]*)"', data)), 255)
        self.dns.set_records({name.rstrip("."): [("TXT", data)]})
        self.assertEqual(tool.results(tool.sign(MESSAGE, ("r", "example.org", "r"))), ["pass"])

    # ---- what others say -------------------------------------------------------------------------
    def dnsfunc(self, name, timeout=5):
        return self.records.get(name.decode().rstrip("."), "").encode() or None

    @unittest.skipIf(dkim is None, "python3-dkim is not installed")
    def test_dkimpy_verifies_what_we_sign(self):
        tool = self.keys()
        for message in (MESSAGE, MESSAGE.replace(b"\r\n\r\n", b"\r\n\r\n" + b"\r\n", 1), MESSAGE[:MESSAGE.index(b"\r\n\r\n") + 4],
                        b"From: a@example.org\r\n\r\n" + b"many\twords \r\n" * 5000):
            signed = self.sign_both(tool, message)
            checker = dkim.DKIM(signed)
            self.assertTrue(checker.verify(0, dnsfunc=self.dnsfunc))
            self.assertTrue(checker.verify(1, dnsfunc=self.dnsfunc))

    @unittest.skipIf(dkim is None, "python3-dkim is not installed")
    def test_we_verify_what_dkimpy_signs(self):
        tool = self.keys()
        forms = (b"simple", b"relaxed")
        for canonicalize in [(h, b) for h in forms for b in forms]:
            for length in (False, True):
                field = dkim.sign(MESSAGE, b"r", b"example.org", self.pems["r"], canonicalize=canonicalize, length=length,
                                  include_headers=[b"from", b"to", b"from", b"subject", b"list-unsubscribe"])
                with self.subTest(canonicalize=canonicalize, length=length):
                    answer = tool.verify(field + MESSAGE)[0]
                    self.assertEqual((answer["result"], answer["has_length"], answer["unsigned"]), ("pass", length, 0), answer)
                    answer = tool.verify(field + MESSAGE.rstrip() + b"\r\n\r\nAn advertisement.\r\n")[0]
                    self.assertEqual(answer["result"], "fail" if not length or canonicalize[1] == b"simple" else "policy")
                    if answer["result"] == "policy":
                        self.assertGreater(answer["unsigned"], 10)
                        self.assertIn("end of the body (l=)", answer["problem"])
                    answer = tool.verify(field + MESSAGE.replace(b"Hello", b"Hallo"))[0]
                    self.assertEqual(answer["result"], "fail")
        short = field.replace(b"l=", b"l=9")
        self.assertEqual(tool.verify(short + MESSAGE)[0]["result"], "permerror")

    @unittest.skipIf(dkim is None, "python3-dkim is not installed")
    def test_a_second_field_beside_a_signed_one_is_no_pass(self):
        """Most signers name each field once, and then anybody can put another one above it."""
        tool = self.keys()
        raw = MESSAGE.replace(b"List-", b"Content-Type: text/plain\r\nList-", 1)
        names = [b"from", b"to", b"subject", b"date", b"content-type", b"list-unsubscribe"]
        signed = dkim.sign(raw, b"r", b"example.org", self.pems["r"], include_headers=names) + raw
        self.assertEqual(tool.results(signed), ["pass"])
        for more in (b"From: ceo@example.org\r\n", b"subject : other\r\n", b"Content-Type: text/html\r\n", b"TO: x@example.org\r\n"):
            answer = tool.verify(more + signed)[0]
            self.assertEqual(answer["result"], "policy", more)
            self.assertIn("another", answer["problem"])
        for more in (b"List-Unsubscribe: <mailto:u@example.org>\r\n", b"Reply-To: a@example.org\r\nReply-To: b@example.org\r\n"):
            self.assertEqual(tool.results(more + signed), ["pass"], more)

    @unittest.skipIf(dkim is None, "python3-dkim is not installed")
    def test_each_length_has_its_own_digest(self):
        """Signed by dkimpy when the body was shorter; all in one message, the longest first."""
        tool = self.keys()
        head, lines = b"From: a@example.org\r\nSubject: x\r\n\r\n", b"".join(b"line %d\r\n" % i for i in range(500))
        for form in (b"simple", b"relaxed"):
            fields, sizes = b"", []
            for count in (500, 499, 250, 117, 116, 3, 1, 0):
                body = b"".join(lines.splitlines(True)[:count])
                fields += dkim.sign(head + body, b"r", b"example.org", self.pems["r"], canonicalize=(b"relaxed", form), length=True,
                                    include_headers=[b"from", b"subject"])
                sizes.append(len(lines) - len(body))
            if form == b"simple":               # an empty body is one empty line
                fields, sizes = fields[:fields.rindex(b"DKIM-Signature")], sizes[:-1]
            answer = tool.verify(fields + head + lines)
            self.assertEqual([(s["result"], s["unsigned"]) for s in answer], [("policy" if n else "pass", n) for n in sizes])
            self.assertEqual(tool.results(fields + head + lines.replace(b"line 117", b"line  118")),
                             ["fail"] * 3 + ["policy"] * (len(sizes) - 3))


if __name__ == "__main__":
    unittest.main()
