"""merpati dkim: keys made, shown as a zone that a name server takes, looked for in DNS, taken over and put away."""

import base64
import pathlib
import re
import subprocess
import tempfile
import unittest

from dns_server import DnsServer, find_nsd, zone_text
from harness import ServerTest

NO_KEY = "-----BEGIN PRIVATE KEY-----\nbm8ga2V5\n-----END PRIVATE KEY-----\n"


def openssl(*args, input=None):
    return subprocess.run(["openssl", *args], input=input, capture_output=True, check=True).stdout.decode()


class DkimCommand(ServerTest):
    """Each test has a domain of its own."""

    accounts = ()
    workers = 1

    @classmethod
    def setUpClass(cls):
        cls.dns = DnsServer().start()
        cls.settings = {"dns_server": cls.dns.address, "dns_cache": "no", "dkim_make_keys": "no"}
        try:
            super().setUpClass()
        except BaseException:
            cls.dns.stop()
            raise

    @classmethod
    def tearDownClass(cls):
        try:
            super().tearDownClass()
        finally:
            cls.dns.stop()

    def setUp(self):
        self.domain = self._testMethodName.replace("_", "-")[5:60].strip("-") + ".test"
        self.server.cli("domain", "add", self.domain)

    def dkim(self, verb, *args):
        return self.server.cli_json("dkim", verb, self.domain, *args)

    def refused(self, *args, status=1):
        result = self.server.cli("dkim", *args, check=False)
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        self.assertRegex(result.stderr, r"\Amerpati: \S.{5,}\n\Z")
        return result.stderr

    def states(self):
        return {k["selector"]: k["state"] for k in self.dkim("list")}

    def active(self, algorithm="rsa-sha256"):
        selector, = [k["selector"] for k in self.dkim("list") if (k["state"], k["algorithm"]) == ("active", algorithm)]
        return selector

    def publish(self, *selectors):
        """The records as `show` gives them, in DNS. With no selector: all."""
        self.dns.set_records({k["name"]: [("TXT", k["record"])] for k in self.dkim("show")
                              if not selectors or k["selector"] in selectors})

    def checked(self):
        return {k["selector"]: k["dns"] for k in self.dkim("check")}

    def make_pem(self, *args):
        path = pathlib.Path(tempfile.mkstemp(dir=self.server.base, suffix=".pem")[1])
        path.write_text(openssl("genpkey", *args))
        return path

    # ---- show --------------------------------------------------------------------------------------
    def test_show_makes_the_first_keys_once(self):
        first = self.dkim("show")
        self.assertEqual([(k["algorithm"], k["state"]) for k in first],
                         [("rsa-sha256", "active"), ("ed25519-sha256", "active")])
        self.assertEqual(self.dkim("show"), first)
        for key in first:
            self.assertEqual(key["name"], f"{key['selector']}._domainkey.{self.domain}")
            self.assertRegex(key["record"], r"\Av=DKIM1; k=(rsa|ed25519); p=[A-Za-z0-9+/]+=*\Z")

    def test_what_is_shown_is_a_zone(self):
        self.server.cli("dkim", "show", self.domain)
        self.dkim("new", "rsa")
        text = self.server.cli("dkim", "show", self.domain).stdout
        self.assertEqual(len(re.findall(r" IN TXT ", text)), 3)
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            zone = pathlib.Path(folder) / "zone"
            zone.write_text(zone_text({}, 60, 1) + text)
            checkzone = pathlib.Path(find_nsd()).with_name("nsd-checkzone")
            answer = subprocess.run([str(checkzone), ".", str(zone)], capture_output=True, text=True)
            self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr + text)

    def test_the_published_record_is_of_the_key(self):
        pem = self.make_pem("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
        self.dkim("import", "mine", str(pem))
        key, = self.dkim("show")
        public = openssl("pkey", "-in", str(pem), "-pubout")
        self.assertEqual(key["record"].split("p=")[1], "".join(public.splitlines()[1:-1]))

    # ---- check and take over -----------------------------------------------------------------------
    def test_check_tells_what_dns_has(self):
        self.server.cli("dkim", "show", self.domain)
        rsa, ed = self.active(), self.active("ed25519-sha256")
        self.dns.set_records({})
        self.assertEqual(self.checked(), {rsa: "not there", ed: "not there"})
        self.publish(rsa)
        self.assertEqual(self.checked(), {rsa: "published", ed: "not there"})
        seen = {k["selector"]: k["seen_in_dns"] for k in self.dkim("list")}
        self.assertIsNotNone(seen[rsa])
        self.assertIsNone(seen[ed])
        self.dns.set_records({f"{rsa}._domainkey.{self.domain}": [("TXT", "v=DKIM1; p=")]})
        self.assertEqual(self.checked()[rsa], "not there")

    def test_check_does_not_take_silence_for_absence(self):
        self.server.cli("dkim", "show", self.domain)
        rsa = self.active()
        self.publish()
        self.dkim("check")
        self.dns.set_behaviour(f"{rsa}._domainkey.{self.domain}", "servfail")
        self.assertNotIn(self.checked()[rsa], ("published", "not there"))
        self.dns.set_behaviour(f"{rsa}._domainkey.{self.domain}", None)
        self.assertIsNotNone({k["selector"]: k["seen_in_dns"] for k in self.dkim("list")}[rsa])

    def test_an_imported_key_signs_when_its_record_is_there(self):
        pem = self.make_pem("-algorithm", "ED25519")
        raw = subprocess.run(["openssl", "pkey", "-in", str(pem), "-pubout", "-outform", "DER"], capture_output=True,
                             check=True).stdout[-32:]
        record = f"v=DKIM1; k=ed25519; p={base64.b64encode(raw).decode()}"
        self.dns.set_records({f"old._domainkey.{self.domain}": [("TXT", record)]})
        self.assertEqual(self.dkim("import", "OLD", str(pem)), {"selector": "old", "active": True})
        self.assertEqual(self.states(), {"old": "active"})

    def test_an_imported_key_waits_for_its_record(self):
        pem = self.make_pem("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024")
        self.dns.set_records({})
        self.assertEqual(self.dkim("import", "k1", str(pem)), {"selector": "k1", "active": False})
        self.assertIn("k1 already", self.refused("import", self.domain, "k1", str(pem)))
        self.assertIn("remove it first", self.refused("import", self.domain, "k2", str(pem)))

    def test_what_is_no_key_is_not_imported(self):
        bad = self.server.base / "bad.pem"
        bad.write_text(NO_KEY)
        good = self.make_pem("-algorithm", "ED25519")
        self.refused("import", self.domain, "k1", str(bad))
        self.refused("import", self.domain, "k1", str(self.server.base / "absent.pem"))
        self.refused("import", self.domain, "k1", str(self.make_pem("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")))
        self.assertIn("selector", self.refused("import", self.domain, "k 1;", str(good)))
        self.refused("import", "elsewhere.test", "k1", str(good))
        self.assertEqual(self.dkim("list"), [])

    # ---- the life of a key -------------------------------------------------------------------------
    def test_a_key_is_made_activated_retired_removed(self):
        self.server.cli("dkim", "show", self.domain)
        old = self.active()
        new = self.dkim("new")["selector"]
        self.assertNotEqual(new, old)
        self.assertEqual(self.states()[new], "new")
        self.assertIn(f"{new}, already", self.refused("new", self.domain))
        self.dkim("activate", new.upper())
        self.assertEqual((self.states()[new], self.states()[old]), ("active", "retired"))
        self.assertIn("retire it first", self.refused("remove", self.domain, new))
        self.dkim("remove", old)
        self.assertNotIn(old, self.states())
        self.dkim("retire", new)
        self.dkim("remove", new)
        self.assertEqual(set(self.states().values()), {"active"}, "the Ed25519 key is left alone")
        for verb in ("activate", "retire", "remove"):
            self.assertIn("no such key", self.refused(verb, self.domain, "nobody"))

    def test_answers_for_people_are_sentences(self):
        self.assertRegex(self.server.cli("dkim", "new", self.domain, "ed25519").stdout, r"\AMade the key e\d{8}\. .*dkim show.*\n\Z")
        self.assertIn("rsa or ed25519", self.refused("new", self.domain, "dsa"))
        self.refused("show", "elsewhere.test")
        self.refused("show", status=2)

    def test_keys_go_with_their_domain(self):
        self.server.cli("dkim", "show", self.domain)
        self.server.cli("domain", "remove", self.domain)
        self.refused("list", self.domain)
        self.server.cli("domain", "add", self.domain)
        self.assertEqual(self.dkim("list"), [])


if __name__ == "__main__":
    unittest.main()
