"""merpati doctor dns: with everything published all is well; each record broken in turn is named."""

import copy
import hashlib
import json
import pathlib
import re
import subprocess
import tempfile
import unittest

from dns_server import DnsServer, find_nsd, zone_text
from harness import ServerTest, eventually

D = "example.test"
HOST = "mail.example.test"
ADDRESS, ADDRESS6 = "192.0.2.10", "2001:db8::10"
PTR = "10.2.0.192.in-addr.arpa"
PTR6 = ".".join(reversed("20010db8000000000000000000000010")) + ".ip6.arpa"
SERVICES = {"_submissions._tcp": 465, "_submission._tcp": 587, "_imaps._tcp": 993, "_imap._tcp": 143, "_pop3s._tcp": 995,
            "_jmap._tcp": 443, "_caldavs._tcp": 443, "_carddavs._tcp": 443}


class Doctor(ServerTest):
    accounts = ()
    workers = 1
    signed = False

    @classmethod
    def setUpClass(cls):
        cls.dns = DnsServer(signed=cls.signed).start()
        cls.settings = {"dns_server": cls.dns.address, "dns_cache": "no", "mta_sts_mode": "enforce", "dns_timeout": "2s"}
        if cls.signed:
            cls.settings["dns_trust_anchor"] = cls.dns.trust_anchor
        try:
            super().setUpClass()
            cls.options = ["--address", f"{ADDRESS},{ADDRESS6}", "--set", "delivery_refused_networks=", "--set", "fetch_refused_networks=",
                           "--set", f"mta_sts_port={cls.server.port('https')}", "--set", "mta_sts_timeout=4s",
                           "--set", f"tls_ca_file={cls.server.data}/tls/ca.pem"]
            eventually(lambda: f"mta-sts.{D}" in cls.certificate_text())
            cls.keys = {k["algorithm"]: k for k in cls.server.cli_json("dkim", "show", D)}
            cls.good = cls.all_records()
        except BaseException:
            cls.dns.stop()
            raise

    @classmethod
    def tearDownClass(cls):
        try:
            super().tearDownClass()
        finally:
            cls.dns.stop()

    @classmethod
    def openssl(cls, *args, input=None):
        return subprocess.run(["openssl", *args], input=input, capture_output=True, check=True).stdout

    @classmethod
    def certificate_text(cls):
        return cls.openssl("x509", "-noout", "-text", "-in", str(cls.server.data / "tls/cert.pem")).decode()

    @classmethod
    def tlsa(cls):
        """3 1 1 by OpenSSL's command line."""
        pem = cls.openssl("x509", "-noout", "-pubkey", "-in", str(cls.server.data / "tls/cert.pem"))
        return "3 1 1 " + hashlib.sha256(cls.openssl("pkey", "-pubin", "-outform", "DER", input=pem)).hexdigest()

    @classmethod
    def all_records(cls):
        policy = "version: STSv1\r\nmode: enforce\r\nmx: mail.example.test\r\nmax_age: 1209600\r\n"
        number = 0xcbf29ce484222325
        for byte in policy.encode():            # FNV-1a
            number = (number ^ byte) * 0x100000001b3 % (1 << 64)
        records = {
            HOST: [("A", ADDRESS), ("AAAA", ADDRESS6), ("TXT", "v=spf1 a -all")],
            PTR: [("PTR", HOST + ".")], PTR6: [("PTR", HOST + ".")],
            f"_25._tcp.{HOST}": [("TLSA", cls.tlsa())],
            D: [("MX", f"10 {HOST}."), ("TXT", "v=spf1 mx -all"), ("TXT", "unrelated=1")],
            f"_dmarc.{D}": [("TXT", f"v=DMARC1; p=reject; rua=mailto:postmaster@{D}")],
            f"_mta-sts.{D}": [("TXT", f"v=STSv1; id={number:016x}")],
            f"mta-sts.{D}": [("A", "127.0.0.1")],
            f"_smtp._tls.{D}": [("TXT", f"v=TLSRPTv1; rua=mailto:postmaster@{D}")],
            f"autoconfig.{D}": [("CNAME", HOST + ".")], f"autodiscover.{D}": [("A", ADDRESS)],
        }
        for key in cls.keys.values():
            records[key["name"]] = [("TXT", key["record"])]
        for name, port in SERVICES.items():
            records[f"{name}.{D}"] = [("SRV", f"0 1 {port} {HOST}.")]
        return records

    def doctor(self, records, *args, status=0, options=None, domains=(D,)):
        self.dns.set_records(records)
        result = self.server.cli("doctor", "dns", *domains, *(self.options if options is None else options), *args, check=False)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        return result

    def advice(self, records, *args, status=0, **kw):
        rows = json.loads(self.doctor(records, "--json", *args, status=status, **kw).stdout)
        return {(r["subject"], r["name"]): r for r in rows}

    def change(self, **kw):
        """The good records with some names changed; None takes one out. "__" stands for the domain."""
        records = copy.deepcopy(self.good)
        for name, value in kw.get("names", {}).items():
            if value is None:
                records.pop(name)
            else:
                records[name] = value
        return records


class AllRight(Doctor):
    def test_all_is_well(self):
        advice = self.advice(self.good)
        bad = {k: v for k, v in advice.items() if v["state"] != "ok" and k != ("certificate", HOST)}
        self.assertEqual(bad, {})
        self.assertEqual(advice["certificate", HOST]["state"], "missing", "self-signed, which is told and no fault")
        self.assertEqual({s for s, _ in advice}, {"A/AAAA", "PTR", "SPF", "certificate", "TLSA", "MX", "DKIM", "DMARC", "MTA-STS",
                                                  "MTA-STS policy", "TLS-RPT", "SRV", "autoconfig", "autodiscover"})
        people = self.doctor(self.good)
        self.assertEqual(people.stderr, "")
        self.assertNotIn("!", people.stdout)

    def test_all_domains_are_looked_at_when_none_is_named(self):
        self.server.cli("domain", "add", "second.test")
        try:
            result = self.doctor(self.good, status=1, domains=())
            self.assertIn("MX of second.test", result.stderr)
            self.assertNotIn(D, result.stderr)
        finally:
            self.server.cli("domain", "remove", "second.test")

    def test_a_domain_that_is_not_ours_is_refused(self):
        result = self.doctor(self.good, status=1, domains=("elsewhere.test",))
        self.assertRegex(result.stderr, r"\Amerpati: .*elsewhere\.test.*\n\Z")
        self.assertIn("--address", self.doctor(self.good, status=1, options=["--address", "nowhere"]).stderr)

    def test_the_zone_can_be_pasted_and_then_all_is_well(self):
        text = self.doctor({}, "--zone").stdout
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            zone = pathlib.Path(folder) / "zone"
            zone.write_text(zone_text({}, 60, 1) + text)
            answer = subprocess.run([str(pathlib.Path(find_nsd()).with_name("nsd-checkzone")), ".", str(zone)],
                                    capture_output=True, text=True)
            self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr + text)
        records = {PTR: [("PTR", HOST + ".")], PTR6: [("PTR", HOST + ".")]}
        for line in text.splitlines():
            match = re.fullmatch(r"(\S+)\. IN (\S+) (.*)", line)
            if not match:
                self.assertTrue(line.startswith(";"), line)
                continue
            name, kind, data = match.groups()
            data = data.strip("() ") if kind == "TXT" else data
            records.setdefault(name, []).append((kind, data))
        records[f"mta-sts.{D}"] = [("A", "127.0.0.1")]     # where the test's web server is
        advice = self.advice(records)
        self.assertEqual([k for k, v in advice.items() if v["state"] != "ok"], [("certificate", HOST), ("TLSA", f"_25._tcp.{HOST}")])

    def test_a_zone_keeps_what_is_right_already(self):
        text = self.doctor(self.good, "--zone").stdout
        self.assertIn(f'{D}. IN TXT "v=spf1 mx -all"\n', text)
        self.assertIn(f'_dmarc.{D}. IN TXT "v=DMARC1; p=reject;', text)
        self.assertNotIn("unrelated", text)

    def test_without_addresses_dns_is_believed(self):
        options = self.options[2:] + ["--set", f"delivery_source_ipv4={ADDRESS}", "--set", "delivery_ipv6=no"]
        self.assertEqual(self.doctor(self.good, options=options).stderr, "")

    def test_records_for_the_next_certificate_do_no_harm(self):
        tlsa = f"_25._tcp.{HOST}"
        records = self.change(names={tlsa: self.good[tlsa] + [("TLSA", "3 1 1 " + "ab" * 32)]})
        self.assertEqual(self.advice(records)["TLSA", tlsa]["state"], "ok")

    def test_a_record_of_the_ca_is_one_of_ours(self):
        tlsa = f"_25._tcp.{HOST}"
        chain = (self.server.data / "tls/cert.pem").read_text().count("BEGIN CERTIFICATE")
        if chain < 2:
            self.skipTest("the chain is sent without its CA")
        ca = self.openssl("x509", "-outform", "DER", "-in", str(self.server.data / "tls/ca.pem"))
        records = self.change(names={tlsa: [("TLSA", "2 0 2 " + hashlib.sha512(ca).hexdigest())]})
        self.assertEqual(self.advice(records)["TLSA", tlsa]["state"], "ok")

    def test_block_lists_are_asked_when_wanted(self):
        listed = self.change(names={"10.2.0.192.zen.spamhaus.org": [("A", "127.0.0.2"), ("TXT", "see there")]})
        self.assertNotIn(("block lists", ADDRESS), self.advice(listed))
        entry = self.advice(listed, "--block-lists", status=1)["block lists", ADDRESS]
        self.assertEqual((entry["state"], entry["found"]), ("different", "zen.spamhaus.org"))
        self.assertIn("see there", entry["remark"])
        self.assertEqual(self.advice(self.good, "--block-lists")["block lists", ADDRESS]["state"], "ok")


MISSING, DIFFERENT = "missing", "different"


class Broken(Doctor):
    def check(self, subject, name, state, names, remark="", wrong=True, others=()):
        """One change of the records, and the entry that must name it; nothing else but `others` is wrong."""
        with self.subTest(subject=subject, names=names):
            advice = self.advice(self.change(names=names), status=1 if wrong or others else 0)
            entry = advice[subject, name]
            self.assertEqual((entry["state"], entry["wrong"]), (state, wrong), entry)
            self.assertIn(remark, entry["remark"])
            wrongs = {k for k, v in advice.items() if v["wrong"]}
            self.assertEqual(wrongs - set(others), {(subject, name)} if wrong else set())

    def test_addresses_and_their_names(self):
        txt = ("TXT", "v=spf1 ip4:192.0.2.10 ip6:2001:db8::10 -all")
        spf = {D: [("MX", f"10 {HOST}."), txt], f"autodiscover.{D}": [("A", ADDRESS)]}
        self.check("A/AAAA", HOST, DIFFERENT, {HOST: [("A", ADDRESS), txt], **spf}, ADDRESS6, others={("PTR", ADDRESS6)})
        self.check("A/AAAA", HOST, MISSING, {HOST: [txt], **spf}, "publish its addresses",
                   others={("PTR", ADDRESS), ("PTR", ADDRESS6), ("MX", D)})
        self.check("PTR", ADDRESS, MISSING, {PTR: None}, "reverse DNS")
        self.check("PTR", ADDRESS6, DIFFERENT, {PTR6: [("PTR", "elsewhere.test.")]}, "lead back")

    def test_another_confirmed_name_is_remarked_only(self):
        records = self.change(names={PTR: [("PTR", "out.example.test.")], "out.example.test": [("A", ADDRESS)]})
        entry = self.advice(records)["PTR", ADDRESS]
        self.assertEqual((entry["state"], entry["found"]), ("ok", "out.example.test"))
        self.assertIn("hostname", entry["remark"])

    def test_mx(self):
        spf = ("TXT", "v=spf1 ip4:192.0.2.10 ip6:2001:db8::10 ~all")
        for mx, state, remark in (([], MISSING, "where this domain's mail goes"),
                                  ([("MX", "10 mx.elsewhere.test.")], DIFFERENT, f"{HOST} is not among"),
                                  ([("MX", f"10 {HOST}."), ("MX", "20 old.elsewhere.test.")], DIFFERENT, "old.elsewhere.test"),
                                  ([("MX", "0 .")], DIFFERENT, "no mail")):
            self.check("MX", D, state, {D: mx + [spf]}, remark)
        records = self.change(names={HOST: [("CNAME", "real.example.test.")],
                                     "real.example.test": [("A", ADDRESS), ("AAAA", ADDRESS6)], D: [("MX", f"10 {HOST}."), spf]})
        self.assertIn("CNAME", self.advice(records, status=1)["MX", D]["remark"])

    def test_several_mx_hosts_are_named_in_the_settings(self):
        records = self.change(names={D: self.good[D] + [("MX", "20 mx2.example.test.")],
                                     "mx2.example.test": [("A", "192.0.2.20")]})
        advice = self.advice(records, "--set", f"mx_hosts={HOST},mx2.example.test", status=1)
        self.assertEqual({k for k, v in advice.items() if v["wrong"]}, {("MTA-STS", f"_mta-sts.{D}"), ("MTA-STS policy", f"mta-sts.{D}")},
                         "the server was started with another list")
        self.assertEqual(advice["MX", D]["wanted"], f"10 {HOST}., 20 mx2.example.test.")

    def test_spf(self):
        mx = ("MX", f"10 {HOST}.")
        for texts, state, remark in (([], MISSING, "forgeries"),
                                     (["v=spf1 ip4:192.0.2.10 -all"], DIFFERENT, ADDRESS6),
                                     (["v=spf1 mx -all", "v=spf1 a -all"], DIFFERENT, "more than one"),
                                     (["v=spf1 mx +all"], DIFFERENT, "everybody"),
                                     (["v=spf1 mz -all"], DIFFERENT, "permerror"),
                                     (["v=spf1 include:elsewhere.test -all"], DIFFERENT, "no SPF record")):
            self.check("SPF", D, state, {D: [mx] + [("TXT", t) for t in texts]}, remark)
        self.check("SPF", HOST, MISSING, {HOST: [("A", ADDRESS), ("AAAA", ADDRESS6)]}, "bounces", wrong=False)
        self.check("SPF", HOST, DIFFERENT, {HOST: [("A", ADDRESS), ("AAAA", ADDRESS6), ("TXT", "v=spf1 -all")]}, ADDRESS)

    def test_dkim(self):
        rsa, ed = (self.keys[a]["name"] for a in ("rsa-sha256", "ed25519-sha256"))
        self.check("DKIM", rsa, MISSING, {rsa: None}, "nobody can check")
        self.check("DKIM", ed, DIFFERENT, {ed: [("TXT", self.keys["rsa-sha256"]["record"])]}, "nobody can check")
        new = self.server.cli_json("dkim", "new", D)["selector"]
        try:
            self.check("DKIM", f"{new}._domainkey.{D}", MISSING, {}, "takes over", wrong=False)
        finally:
            self.server.cli("dkim", "remove", D, new)

    def test_a_domain_without_keys(self):
        self.server.cli("domain", "add", "nokeys.test")
        self.addCleanup(self.server.cli, "domain", "remove", "nokeys.test")
        self.server.cli("dkim", "show", "nokeys.test")
        for key in self.server.cli_json("dkim", "list", "nokeys.test"):
            self.server.cli("dkim", "retire", "nokeys.test", key["selector"])
        entry = self.advice(self.good, status=1, domains=("nokeys.test",))["DKIM", "_domainkey.nokeys.test"]
        self.assertIn("merpati dkim", entry["remark"])

    def test_dmarc(self):
        name = f"_dmarc.{D}"
        for texts, state, remark in (([], MISSING, "Gmail"), (["v=DMARC1; p=reject", "v=DMARC1; p=none"], DIFFERENT, "leave one"),
                                     (["v=DMARC1; p=reject; rua=mailto:r@elsewhere.test"], DIFFERENT,
                                      f"{D}._report._dmarc.elsewhere.test")):
            self.check("DMARC", name, state, {name: [("TXT", t) for t in texts]}, remark)
        agreed = {name: [("TXT", "v=DMARC1; p=reject; rua=mailto:r@elsewhere.test")],
                  f"{D}._report._dmarc.elsewhere.test": [("TXT", "v=DMARC1")]}
        self.assertEqual(self.advice(self.change(names=agreed))["DMARC", name]["state"], "ok")
        for text, remark in (("v=DMARC1; p=none; rua=mailto:a@example.test", "only reports"), ("v=DMARC1; p=reject", "rua")):
            entry = self.advice(self.change(names={name: [("TXT", text)]}))["DMARC", name]
            self.assertEqual(entry["state"], "ok")
            self.assertIn(remark, entry["remark"])

    def test_mta_sts(self):
        record, host = f"_mta-sts.{D}", f"mta-sts.{D}"
        self.check("MTA-STS", record, MISSING, {record: None}, "TLS", wrong=False)
        self.check("MTA-STS", record, DIFFERENT, {record: [("TXT", "v=STSv1; id=20260101")]}, "id")
        self.check("MTA-STS", record, DIFFERENT, {record: [("TXT", "v=STSv1; id=!")]}, "malformed")
        self.check("MTA-STS", record, DIFFERENT, {record: self.good[record] + [("TXT", "v=STSv1; id=2")]}, "leave one")
        self.check("MTA-STS policy", host, MISSING, {host: None}, "HTTPS")
        self.check("MTA-STS policy", host, DIFFERENT, {host: [("A", "127.0.0.9")]}, "cannot get the policy")

    def test_another_policy_than_ours_is_noticed(self):
        advice = self.advice(self.good, "--set", "mta_sts_mode=testing", status=1)
        self.assertEqual({k[0] for k, v in advice.items() if v["wrong"]}, {"MTA-STS", "MTA-STS policy"})

    def test_without_a_policy_nothing_is_announced(self):
        records = self.change(names={f"_mta-sts.{D}": None, f"mta-sts.{D}": None})
        self.assertNotIn("MTA-STS", {s for s, _ in self.advice(records, "--set", "mta_sts_mode=none")})

    def test_tls_reports(self):
        name = f"_smtp._tls.{D}"
        self.check("TLS-RPT", name, MISSING, {name: None}, "report", wrong=False)
        self.check("TLS-RPT", name, DIFFERENT, {name: [("TXT", "v=TLSRPTv1; rua=nowhere")]}, "no address")
        self.check("TLS-RPT", name, DIFFERENT, {name: self.good[name] + [("TXT", "v=TLSRPTv1; rua=mailto:b@c.test")]}, "leave one")

    def test_tlsa(self):
        name = f"_25._tcp.{HOST}"
        self.check("TLSA", name, MISSING, {name: None}, "DNSSEC", wrong=False)
        self.check("TLSA", name, DIFFERENT, {name: [("TLSA", "3 1 1 " + "ab" * 32)]}, "certificate")
        self.check("TLSA", name, DIFFERENT, {name: [("TLSA", self.tlsa().replace("3 1 1", "1 1 1"))]}, "certificate")

    def test_services_and_names_for_programs(self):
        advice = self.advice(self.change(names={f"{service}.{D}": [("SRV", f"0 1 {port + 1} {HOST}.")]
                                                for service, port in SERVICES.items()}), status=1)
        self.assertEqual({k for k, v in advice.items() if v["wrong"]}, {("SRV", f"{service}.{D}") for service in SERVICES})
        name = f"_imaps._tcp.{D}"
        self.check("SRV", name, DIFFERENT, {name: [("SRV", "0 1 993 imap.elsewhere.test.")]}, "elsewhere")
        self.check("SRV", name, MISSING, {name: None}, "programs", wrong=False)
        self.check("SRV", name, "ok", {name: [("SRV", "0 0 0 .")]}, wrong=False)
        for subject in ("autoconfig", "autodiscover"):
            self.check(subject, f"{subject}.{D}", MISSING, {f"{subject}.{D}": None}, wrong=False)
            self.check(subject, f"{subject}.{D}", DIFFERENT, {f"{subject}.{D}": [("A", "192.0.2.99")]}, "proxy", wrong=False)

    def test_switched_off_services_need_no_names(self):
        records = self.change(names={f"_pop3s._tcp.{D}": None})
        self.assertNotIn(("SRV", f"_pop3s._tcp.{D}"), self.advice(records, "--set", "listen_pop3s="))

    def test_silence_is_not_absence(self):
        for name, subject in ((D, "MX"), (f"_dmarc.{D}", "DMARC"), (HOST, "A/AAAA"), (PTR, "PTR")):
            with self.subTest(name):
                self.dns.set_behaviour(name, "servfail")
                try:
                    advice = self.advice(self.good, status=1)
                finally:
                    self.dns.set_behaviour(name, None)
                entry = advice[subject, ADDRESS if subject == "PTR" else name]
                self.assertEqual((entry["state"], entry["wrong"]), ("no answer", True))
                self.assertEqual({v["state"] for v in advice.values() if v["wrong"]} - {"no answer"}, set(), advice)

    def test_people_are_told_what_to_do(self):
        result = self.doctor(self.change(names={f"_dmarc.{D}": None, PTR: None}), status=1)
        self.assertEqual(result.stderr, f"merpati: to be mended: PTR of {ADDRESS}, DMARC of _dmarc.{D}\n")
        self.assertRegex(result.stdout, rf"(?m)^! missing    DMARC _dmarc\.{D}\n +should be: v=DMARC1; p=none; rua=mailto:dmarc-reports@{D}$")

    def test_what_dns_says_is_printed_without_control_characters(self):
        records = self.change(names={f"_dmarc.{D}": [("TXT", b"v=DMARC1; p=no\x1b[31mne\x07\n"), ("TXT", b"v=DMARC1\xff")]})
        result = self.doctor(records, status=1)
        self.assertNotRegex(result.stdout, r"[\x00-\x09\x0b-\x1f\x7f]")
        self.advice(records, status=1)


class Signed(Doctor):
    signed = True

    def test_in_a_signed_zone_tlsa_counts(self):
        name = f"_25._tcp.{HOST}"
        entry = self.advice(self.good)["TLSA", name]
        self.assertEqual((entry["state"], entry["remark"]), ("ok", ""))
        entry = self.advice(self.change(names={name: None}))["TLSA", name]
        self.assertEqual((entry["state"], entry["zone"]), ("missing", f"{name}. IN TLSA {self.tlsa()}"))
        self.assertIn("signed", entry["remark"])


if __name__ == "__main__":
    unittest.main()
