"""DMARC against a real DNS server: the tree walk, policies, alignment, DNS that fails; whole messages; and the reports
of other servers, read and written."""

import json
import pathlib
import subprocess
import tempfile
import unittest

from dns_server import DnsServer
from harness import ROOT, SHARED_DATA

REPORTS = SHARED_DATA / "dmarc"
TOOL = ROOT / "build/asan/tools/dmarc_tool"


def ask(questions, dns=None, **more):
    """Questions are tuples; one answer each."""
    settings = [f"dns_server={dns.address}", "dns_timeout=5s", *(f"{k}={v}" for k, v in more.items())] if dns else []
    text = "".join("\t".join(map(str, q)) + "\n" for q in questions)
    run = subprocess.run([str(TOOL), *settings], input=text, capture_output=True, text=True, timeout=300)
    if run.returncode != 0 or run.stderr:
        raise AssertionError(run.stderr)
    return [json.loads(line) for line in run.stdout.splitlines()]


ZONE = {
    "reject.test": [("A", "192.0.2.1")],
    "_dmarc.reject.test": [("TXT", "v=DMARC1; p=reject; sp=quarantine; np=reject; rua=mailto:d@reject.test")],
    "mail.reject.test": [("A", "192.0.2.1")],
    "own.reject.test": [("A", "192.0.2.1")],
    "_dmarc.own.reject.test": [("TXT", "v=DMARC1; p=none")],
    "strict.test": [("A", "192.0.2.1")],
    "_dmarc.strict.test": [("TXT", "v=DMARC1; p=reject; adkim=s; aspf=s")],
    "testing.test": [("A", "192.0.2.1")],
    "_dmarc.testing.test": [("TXT", "v=DMARC1; p=reject; t=y")],
    "bare.test": [("A", "192.0.2.1"), ("TXT", "v=spf1 -all")],
    "twice.test": [("A", "192.0.2.1")],
    "_dmarc.twice.test": [("TXT", "v=DMARC1; p=reject"), ("TXT", "v=DMARC1; p=none")],
    "beside.test": [("A", "192.0.2.1")],
    "_dmarc.beside.test": [("TXT", "hello"), ("TXT", "v=DMARC1; p=quarantine"), ("TXT", "v=DMARC12; p=none")],
    "broken.test": [("A", "192.0.2.1")],
    "_dmarc.broken.test": [("TXT", "v=DMARC1; p=maybe")],
    # A public suffix with registrants below it, one of them with a record.
    "_dmarc.psd": [("TXT", "v=DMARC1; p=none; sp=quarantine; np=reject; psd=y")],
    "_dmarc.with.psd": [("TXT", "v=DMARC1; p=reject")],
    "mx.with.psd": [("A", "192.0.2.1")],
    "a.without.psd": [("A", "192.0.2.1")],
    # A part of an organization that is one of its own.
    "_dmarc.company.test": [("TXT", "v=DMARC1; p=reject")],
    "_dmarc.branch.company.test": [("TXT", "v=DMARC1; p=quarantine; psd=n")],
    "x.branch.company.test": [("A", "192.0.2.1")],
    "y.company.test": [("A", "192.0.2.1")],
    # 12 labels; only the name itself, and 7 labels and fewer are asked for.
    "_dmarc.b.c.d.e.f.g.deep.test": [("TXT", "v=DMARC1; p=none")],
    "_dmarc.d.e.f.g.deep.test": [("TXT", "v=DMARC1; p=quarantine")],
    "_dmarc.deep.test": [("TXT", "v=DMARC1; p=reject")],
    "1.2.3.a.b.c.d.e.f.g.deep.test": [("A", "192.0.2.1")],
    "_dmarc.xn--mller-kva.test": [("TXT", "v=DMARC1; p=reject")],
    "xn--mller-kva.test": [("A", "192.0.2.1")],
    # Whose reports go elsewhere.
    "_dmarc.collector.test": [("TXT", "v=DMARC1; p=none")],
    "reject.test._report._dmarc.agrees.test": [("TXT", "v=DMARC1")],
    "reject.test._report._dmarc.moved.test": [("TXT", "v=DMARC1; rua=mailto:new@moved.test")],
    "reject.test._report._dmarc.steals.test": [("TXT", "v=DMARC1; rua=mailto:new@elsewhere.test")],
    "reject.test._report._dmarc.nonsense.test": [("TXT", "yes please")],
    "*._report._dmarc.everybody.test": [("TXT", "v=DMARC1;")],
}
FAILING = {"_dmarc.servfail.test": "servfail", "_dmarc.up.servfail.test": "nxdomain", "_dmarc.half.test": "servfail",
           "gone.np-unknown.test": "servfail", "reject.test._report._dmarc.silent.test": "servfail",
           "_dmarc.garbage.test": "garbage"}
ZONE["_dmarc.own.half.test"] = [("TXT", "v=DMARC1; p=reject")]
ZONE["_dmarc.np-unknown.test"] = [("TXT", "v=DMARC1; p=none; np=reject")]

# from, SPF, its domain, DKIM -> result, policy, disposition, the record's domain
CHECKS = [
    ("reject.test", "pass", "reject.test", "", "pass reject none reject.test"),
    ("reject.test", "pass", "mail.reject.test", "", "pass reject none reject.test"),
    ("reject.test", "none", "", "pass deep.mail.reject.test", "pass reject none reject.test"),
    ("REJECT.test.", "fail", "reject.test", "fail reject.test", "fail reject reject reject.test"),
    ("reject.test", "softfail", "reject.test", "neutral reject.test, permerror reject.test", "fail reject reject reject.test"),
    ("reject.test", "pass", "other.test", "pass other.test", "fail reject reject reject.test"),
    ("reject.test", "pass", "evilreject.test", "pass test", "fail reject reject reject.test"),
    ("mail.reject.test", "fail", "", "", "fail quarantine quarantine reject.test"),
    ("mail.reject.test", "pass", "reject.test", "", "pass quarantine none reject.test"),
    ("gone.reject.test", "fail", "", "", "fail reject reject reject.test"),
    ("own.reject.test", "fail", "", "", "fail none none own.reject.test"),
    ("own.reject.test", "fail", "", "pass reject.test", "pass none none own.reject.test"),
    ("strict.test", "pass", "strict.test", "", "pass reject none strict.test"),
    ("strict.test", "pass", "a.strict.test", "pass b.strict.test", "fail reject reject strict.test"),
    ("testing.test", "fail", "", "", "fail reject quarantine testing.test"),
    ("bare.test", "pass", "bare.test", "", "none none none "),
    ("twice.test", "fail", "", "", "none none none "),
    ("beside.test", "fail", "", "", "fail quarantine quarantine beside.test"),
    ("broken.test", "fail", "", "", "permerror none none broken.test"),
    ("", "pass", "reject.test", "", "permerror none none "),
    ("[192.0.2.1]", "fail", "", "", "permerror none none "),
    ("two words.test", "fail", "", "", "permerror none none "),
    # public suffixes
    ("mx.with.psd", "pass", "with.psd", "", "pass reject none with.psd"),
    ("mx.with.psd", "pass", "a.without.psd", "", "fail reject reject with.psd"),
    ("a.without.psd", "fail", "", "", "fail quarantine quarantine psd"),
    ("gone.psd", "fail", "", "", "fail reject reject psd"),
    ("a.without.psd", "pass", "b.without.psd", "", "pass quarantine none psd"),
    ("a.without.psd", "pass", "other.psd", "pass psd", "fail quarantine quarantine psd"),
    # psd=n
    ("x.branch.company.test", "fail", "", "", "fail quarantine quarantine branch.company.test"),
    ("x.branch.company.test", "pass", "branch.company.test", "", "pass quarantine none branch.company.test"),
    ("x.branch.company.test", "pass", "company.test", "", "fail quarantine quarantine branch.company.test"),
    ("y.company.test", "pass", "x.branch.company.test", "", "fail reject reject company.test"),
    # long names
    ("1.2.3.a.b.c.d.e.f.g.deep.test", "fail", "", "", "fail reject reject deep.test"),
    ("1.2.3.a.b.c.d.e.f.g.deep.test", "pass", "deep.test", "", "pass reject none deep.test"),
    ("müller.test", "pass", "xn--mller-kva.test", "", "pass reject none xn--mller-kva.test"),
    # DNS that fails is never "no policy", and never a failure that could have been a pass
    ("servfail.test", "fail", "", "", "temperror none none "),
    ("garbage.test", "fail", "", "", "temperror none none "),
    ("up.servfail.test", "fail", "", "", "temperror none none "),
    ("own.half.test", "pass", "own.half.test", "", "pass reject none own.half.test"),
    ("own.half.test", "fail", "", "", "fail reject reject own.half.test"),
    ("own.half.test", "pass", "half.test", "", "temperror reject none own.half.test"),
    ("gone.np-unknown.test", "fail", "", "", "temperror none none np-unknown.test"),
    ("gone.np-unknown.test", "pass", "np-unknown.test", "", "pass none none np-unknown.test"),
    ("reject.test", "temperror", "reject.test", "", "temperror reject none reject.test"),
    ("reject.test", "temperror", "other.test", "", "fail reject reject reject.test"),
    ("reject.test", "fail", "", "temperror mail.reject.test", "temperror reject none reject.test"),
    ("reject.test", "fail", "", "temperror servfail.test", "fail reject reject reject.test"),
    ("reject.test", "temperror", "reject.test", "pass reject.test", "pass reject none reject.test"),
]


def signed(text):
    return text.replace("\n", "\r\n").encode()


class Dmarc(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dns = DnsServer(ZONE, FAILING).start()

    @classmethod
    def tearDownClass(cls):
        cls.dns.stop()

    def test_verdicts(self):
        answers = ask([("check", *c[:4]) for c in CHECKS], self.dns)
        self.assertEqual(len(answers), len(CHECKS))
        for case, a in zip(CHECKS, answers):
            with self.subTest(case=case):
                self.assertEqual(" ".join((a["result"], a["policy"], a["disposition"], a["record"])), case[4], a)
                self.assertEqual(bool(a["problem"]), a["result"] in ("temperror", "permerror"), a)

    def test_what_is_at_stake_while_dns_fails_is_told(self):
        cases = {("servfail.test", ""): "reject", ("reject.test", "temperror reject.test"): "reject",
                 ("gone.np-unknown.test", ""): "reject", ("testing.test", "temperror testing.test"): "quarantine",
                 ("own.reject.test", "temperror own.reject.test"): "none"}
        for case, a in zip(cases, ask([("check", domain, "none", "", dkim) for domain, dkim in cases], self.dns)):
            with self.subTest(case=case):
                self.assertEqual((a["result"], a["at_stake"]), ("temperror", cases[case]))

    def test_which_identifier_was_aligned_is_told(self):
        both, spf, dkim = ask([("check", "reject.test", "pass", "reject.test", "pass reject.test"),
                               ("check", "reject.test", "pass", "reject.test", "pass other.test"),
                               ("check", "reject.test", "pass", "other.test", "fail reject.test, pass reject.test")], self.dns)
        self.assertEqual([(a["spf"], a["dkim"]) for a in (both, spf, dkim)], [(True, True), (True, False), (False, True)])

    def test_organizational_domains(self):
        rows = [("reject.test", "reject.test"), ("a.b.reject.test", "reject.test"), ("x.branch.company.test", "branch.company.test"),
                ("a.b.without.psd", "without.psd"), ("psd", "psd"), ("nowhere.example", "nowhere.example"),
                ("1.2.3.a.b.c.d.e.f.g.deep.test", "deep.test")]
        answers = ask([("organization", name) for name, _ in rows] + [("organization", "servfail.test")], self.dns)
        self.assertEqual([a["organization"] for a in answers[:-1]], [organization for _, organization in rows])
        self.assertEqual(answers[-1].get("error"), "try_later")

    def asked_for(self, *question):
        """Without the key of the root, or the first names are asked for by two ways."""
        before = len(self.dns.queries)
        ask([question], self.dns, dns_root_key="/nonexistent")
        return [name for name, kind in self.dns.queries[before:] if kind == "TXT" and name.startswith("_dmarc.")]

    def test_a_walk_asks_eight_names_at_most(self):
        name = ".".join("abcdefghijklmnopqrstuvwxyz") + ".deep.test"
        names = self.asked_for("organization", name)
        self.assertEqual(names[0], "_dmarc." + name)
        self.assertEqual(names[1], "_dmarc.v.w.x.y.z.deep.test")
        self.assertEqual(len(names), 8)

    def test_nothing_is_asked_for_twice_nor_for_strangers(self):
        strangers = ", ".join(f"pass s{i}.stranger.test" for i in range(10))
        names = self.asked_for("check", "mail.reject.test", "pass", "a.mail.reject.test", strangers)
        self.assertEqual(len(names), len(set(names)), names)
        self.assertFalse([n for n in names if "stranger" in n], names)

    def test_reports_go_where_they_are_wanted(self):
        rows = [("d@reject.test", ["d@reject.test"]), ("d@mail.reject.test", ["d@mail.reject.test"]),
                ("d@agrees.test", ["d@agrees.test"]), ("d@moved.test", ["new@moved.test"]),
                ("d@steals.test", ["d@steals.test"]), ("d@collector.test", []), ("d@nonsense.test", []),
                ("d@everybody.test", ["d@everybody.test"]), ("nobody", []),
                ("d@collector.test,d@agrees.test,d@reject.test", ["d@agrees.test", "d@reject.test"])]
        answers = ask([("addresses", "reject.test", rua) for rua, _ in rows] + [("addresses", "reject.test", "d@silent.test")],
                      self.dns)
        self.assertEqual([a["addresses"] for a in answers[:-1]], [wanted for _, wanted in rows])
        self.assertEqual(answers[-1].get("error"), "try_later")

    # ---- whole messages --------------------------------------------------------------------------
    def authentic(self, message, sender="ani@reject.test", client="192.0.2.1"):
        with tempfile.NamedTemporaryFile(suffix=".eml") as f:
            f.write(signed(message))
            f.flush()
            return ask([("authentic", client, "mail.reject.test", sender, f.name)], self.dns)[0]

    def test_a_message_is_judged_whole(self):
        a = self.authentic("From: Ani <ani@reject.test>\nSubject: x\n\nx\n")
        self.assertEqual((a["dmarc"]["result"], a["dmarc"]["disposition"]), ("fail", "reject"))
        for part in ("iprev=", "policy.iprev=192.0.2.1", "spf=none", "smtp.mailfrom=ani@reject.test", "dkim=none",
                     "dmarc=fail", "(p=reject dis=reject)", "header.from=reject.test"):
            self.assertIn(part, a["field"])
        self.assertTrue(a["field"].startswith("Authentication-Results: mx.us.test;\r\n\t"))
        self.assertEqual(a["report"]["record"][0]["source_ip"], "192.0.2.1")
        self.assertEqual(a["report"]["record"][0]["disposition"], "reject")
        self.assertEqual((a["report"]["domain"], a["report"]["p"], a["report"]["sp"]), ("reject.test", "reject", "quarantine"))

    def test_of_several_authors_the_strictest_outcome_counts(self):
        for header in ("From: a@bare.test, b@reject.test\n", "From: b@reject.test\nFrom: a@bare.test\n",
                       "From: a@bare.test\nfrom: b@reject.test\n"):
            with self.subTest(header=header):
                a = self.authentic(header + "\nx\n", sender="")
                self.assertEqual((a["dmarc"]["from"], a["dmarc"]["disposition"]), ("reject.test", "reject"))

    def test_an_author_whose_domain_dns_does_not_tell_hides_behind_nobody(self):
        for header in ("From: a@own.reject.test, b@servfail.test\n", "From: b@servfail.test\nFrom: a@own.reject.test\n"):
            with self.subTest(header=header):
                self.assertEqual(self.authentic(header + "\nx\n")["dmarc"]["result"], "temperror")

    def test_a_domain_that_readers_still_recognise_is_no_unknown_one(self):
        for domain in ("reject.test>", "reject.test\\", "reject.test:x", "reject.test/x", "reject.test!", "reject.test$", "reject.test="):
            with self.subTest(domain=domain):
                a = self.authentic(f"From: Ani <ani@bare.test>, ceo@{domain}\n\nx\n")
                self.assertNotEqual(a["dmarc"]["result"], "none", a["dmarc"])

    def test_authors_of_many_domains_and_none_are_permerror(self):
        many = "From: " + ", ".join(f"a@d{i}.bare.test" for i in range(20)) + "\n\nx\n"
        for message in (many, "Subject: nobody\n\nx\n", "From: undisclosed\n\nx\n", "From:\n\nx\n"):
            with self.subTest(message=message):
                self.assertEqual(self.authentic(message)["dmarc"]["result"], "permerror")


# ---- reports -------------------------------------------------------------------------------------

WORDS = {"Unspecified": "", "Relaxed": "r", "Strict": "s", "MailFrom": "mfrom", "Treewalk": "treewalk", None: ""}


def word(value):
    if value in WORDS:
        return WORDS[value]
    return "".join("_" + c.lower() if c.isupper() and i else c.lower() for i, c in enumerate(value))


def result_word(value):
    """TempError -> temperror."""
    return WORDS.get(value, value.lower()) if value else ""


def expected_dmarc(wanted):
    """Their JSON in our words."""
    meta, policy = wanted["report_metadata"], wanted["policy_published"]
    out = {"org_name": meta["org_name"], "email": meta["email"], "extra_contact_info": meta["extra_contact_info"] or "",
           "report_id": meta["report_id"], "begin": meta["date_range"]["begin"], "end": meta["date_range"]["end"],
           "errors": len(meta["error"]), "domain": policy["domain"], "version_published": policy["version_published"] or "",
           "adkim": word(policy["adkim"]), "aspf": word(policy["aspf"]), "p": word(policy["p"]), "sp": word(policy["sp"]),
           "fo": policy["fo"] or "", "extensions": wanted["extensions"], "record": []}
    for record in wanted["record"]:
        row, ids, results = record["row"], record["identifiers"], record["auth_results"]
        evaluated = row["policy_evaluated"]
        out["record"].append({
            "source_ip": row["source_ip"], "count": row["count"], "disposition": word(evaluated["disposition"]),
            "dkim": word(evaluated["dkim"]), "spf": word(evaluated["spf"]),
            "reason": [(word(r["type_"]), r["comment"] or "") for r in evaluated["reason"]],
            "envelope_to": ids["envelope_to"] or "", "envelope_from": ids["envelope_from"] or "", "header_from": ids["header_from"],
            "dkims": [(r["domain"], r["selector"], result_word(r["result"]), r["human_result"] or "") for r in results["dkim"]],
            "spfs": [(r["domain"], word(r["scope"]), result_word(r["result"]), r["human_result"] or "") for r in results["spf"]],
            "extensions": record["extensions"]})
    return out


# Their reader knows this one no more; RFC 9990 took it away, and old reports have it.
OLD_REASONS = {"sampled_out": "other", "forwarded": "other"}


def got_dmarc(got, like):
    out = {name: got[name] for name in like if name not in ("record",)}
    out["record"] = []
    for r in got["record"]:
        out["record"].append({
            **{name: r[name] for name in ("source_ip", "count", "disposition", "dkim", "spf", "envelope_to", "envelope_from",
                                          "header_from", "extensions")},
            "reason": [(OLD_REASONS.get(x["type"], x["type"]), x["comment"]) for x in r["reason"]],
            "dkims": [(x["domain"], x["selector"], x["result"], x["human_result"]) for x in r["auth_results"]["dkim"]],
            "spfs": [(x["domain"], x["scope"], x["result"], x["human_result"]) for x in r["auth_results"]["spf"]]})
    return out


@unittest.skipUnless(REPORTS.exists(), "no shared data")
class Reports(unittest.TestCase):
    maxDiff = None

    def files(self, folder, kinds):
        files = sorted(f for f in (REPORTS / folder).iterdir() if f.suffix in kinds)
        self.assertTrue(files)
        return files

    def test_dmarc_reports_of_others_are_read(self):
        files = self.files("mail-auth/dmarc-feedback", (".xml", ".eml"))
        for file, got in zip(files, ask([("dmarc", f) for f in files])):
            with self.subTest(file=file.name):
                self.assertNotIn("error", got)
                wanted = expected_dmarc(json.loads(file.with_suffix(".json").read_text()))
                self.assertEqual(got_dmarc(got, wanted), wanted)

    def test_dmarc_reports_as_zip_gzip_and_xml_are_read(self):
        files = self.files("mox/dmarc-reports", (".eml",))
        for file, got in zip(files, ask([("dmarc", f) for f in files])):
            with self.subTest(file=file.name):
                self.assertNotIn("error", got)
                self.assertTrue(got["domain"] and got["org_name"] and got["report_id"] and got["record"])
                self.assertTrue(all(r["count"] > 0 and r["source_ip"] and r["header_from"] for r in got["record"]))

    def test_what_is_written_is_read_again(self):
        files = self.files("mail-auth/dmarc-feedback", (".xml", ".eml")) + self.files("mox/dmarc-reports", (".eml",))
        before, after = ask([("dmarc", f) for f in files]), ask([("rebuild", f) for f in files])
        for file, first, second in zip(files, before, after):
            with self.subTest(file=file.name):
                mail = second.pop("mail")
                self.assertIn(f'filename="us.test!{first["domain"]}!', mail)
                self.assertIn("Subject: Report Domain: ", mail)
                self.assertNotIn("\n", mail.replace("\r\n", ""))
                for report in (first, second):
                    report.pop("version"), report.pop("version_published"), report.pop("extensions")
                    for record in report["record"]:
                        record.pop("extensions")
                self.assertEqual(first, second)

    def test_tls_reports_are_read(self):
        folder = REPORTS / "mail-auth/tlsrpt"
        for name in ("rpt01", "rpt02", "rpt03"):
            wanted = json.loads((folder / f"{name}.json").read_text())
            file = folder / f"{name}.eml" if (folder / f"{name}.eml").exists() else folder / f"{name}.json"
            with self.subTest(file=file.name):
                report = ask([("tls", file)])[0]["report"]
                for one in (report, wanted):            # what we write in another, equal way
                    for moment in ("start-datetime", "end-datetime"):
                        one["date-range"][moment] = one["date-range"][moment].replace(".000Z", "Z")
                    for policy in one["policies"]:
                        policy["summary"].setdefault("total-failure-session-count", 0)
                        if policy["policy"].get("policy-type") == "invalid-policy-type":
                            del policy["policy"]["policy-type"]
                self.assertEqual(report, wanted)

    def test_tls_reports_of_others_are_read_and_written(self):
        files = self.files("mox/tlsreports", (".eml",)) + self.files("mail-auth/tlsrpt", (".eml",))
        before, after = ask([("tls", f) for f in files]), ask([("rebuild", f) for f in files])
        for file, first, second in zip(files, before, after):
            with self.subTest(file=file.name):
                self.assertTrue(first["report"]["policies"])
                mail = second["mail"]
                self.assertIn("TLS-Report-Domain: there.test\r\nTLS-Report-Submitter: us.test\r\n", mail)
                self.assertIn('Content-Type: multipart/report; report-type="tlsrpt"', mail)
                self.assertEqual(first["report"], second["report"])

    def test_feedback_reports_are_read(self):
        squeeze = lambda text: "".join((text or "").split())
        for file in self.files("mail-auth/arf", (".eml",)):
            got, wanted = ask([("feedback", file)])[0], json.loads(file.with_suffix(".json").read_text())
            with self.subTest(file=file.name):
                self.assertEqual(got["feedback_type"], wanted["feedback_type"].lower().replace("authfailure", "auth-failure"))
                for name in ("user_agent", "original_envelope_id", "original_mail_from", "reporting_mta", "source_ip",
                             "dkim_domain", "dkim_identity", "dkim_selector", "dkim_canonicalized_body"):
                    self.assertEqual(squeeze(got[name]), squeeze(wanted[name]), name)
                self.assertEqual(got["original_rcpt_to"][:1], [wanted["original_rcpt_to"]] if wanted["original_rcpt_to"] else [])
                self.assertEqual(got["arrival_date"], wanted["arrival_date"] or 0)
                self.assertEqual(got["incidents"], wanted["incidents"])
                self.assertEqual(got["reported_domain"], wanted["reported_domain"])
                self.assertEqual(got["reported_uri"], wanted["reported_uri"])
                self.assertEqual([squeeze(v) for v in got["authentication_results"]],
                                 [squeeze(v) for v in wanted["authentication_results"]])
                if wanted["headers"]:
                    self.assertTrue(got["header_only"])
                    self.assertEqual(squeeze(got["original"]), squeeze(wanted["headers"]))


class HostileReports(unittest.TestCase):
    def refused(self, kind, files):
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            paths = []
            for i, content in enumerate(files):
                paths.append(pathlib.Path(folder) / str(i))
                paths[-1].write_bytes(content)
            for i, answer in enumerate(ask([(kind, p) for p in paths])):
                with self.subTest(file=i):
                    self.assertIn("error", answer)

    @staticmethod
    def mail(content):
        import base64
        return (b"From: a@b.test\r\nContent-Type: application/gzip\r\nContent-Transfer-Encoding: base64\r\n\r\n" +
                base64.encodebytes(content).replace(b"\n", b"\r\n"))

    def test_hostile_xml_is_refused(self):
        body = b"<policy_published><domain>a.test</domain></policy_published>"
        entities = b"".join(b'<!ENTITY e%d "%s">' % (i, b"&e%d;" % (i - 1) * 10 if i else b"x" * 100) for i in range(10))
        self.refused("dmarc", [
            b"<", b"<a>", b"<feedback>", b"<feedback></feedback>", b"<other>" + body + b"</other>",
            b"<!DOCTYPE feedback [" + entities + b"]><feedback>" + body.replace(b"a.test", b"&e9;") + b"</feedback>",
            b'<!DOCTYPE f [<!ENTITY x SYSTEM "file:///etc/passwd">]><feedback>' + body.replace(b"a.test", b"&x;") + b"</feedback>",
            b'<!DOCTYPE feedback SYSTEM "http://127.0.0.1:1/x.dtd"><feedback>' + body + b"</feedback>",
            b"<feedback>" + b"<a>" * 100000 + b"</feedback>",
            b"<feedback>" + body + b"<record/>" * 60000 + b"</feedback>",
            b"<feedback>" + body + b"\xff\xfe</feedback>",
        ])

    def test_bombs_and_broken_archives_are_refused(self):
        import gzip
        import io
        import zipfile
        bomb = gzip.compress(b"<feedback>" + b" " * (100 << 20), 9)
        zipped = io.BytesIO()
        with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr("a.xml", b" " * (100 << 20))
        good = io.BytesIO()
        with zipfile.ZipFile(good, "w", zipfile.ZIP_DEFLATED) as z:
            z.writestr("a.xml", b"<feedback><policy_published><domain>a.test</domain></policy_published></feedback>")
        data = good.getvalue()
        parts = [data[:n] for n in range(4, len(data), 7)]
        self.refused("dmarc", [self.mail(x) for x in [bomb, zipped.getvalue(), gzip.compress(b"<feedback>")[:-12],
                                                     b"\x1f\x8b", b"PK\x03\x04", *parts]])
        with tempfile.NamedTemporaryFile() as f:
            f.write(self.mail(data))
            f.flush()
            self.assertEqual(ask([("dmarc", f.name)])[0].get("domain"), "a.test")

    def test_hostile_json_is_refused(self):
        self.refused("tls", [b"{", b"{}", b'{"policies": 1}', b'{"policies": ' + b"[" * 100000 + b"]" * 100000 + b"}",
                             b'{"policies": [' + b"{}," * 2000 + b"{}]}", b'{"policies": [' + b" " * (5 << 20) + b"]}",
                             b'{"policies": [{"failure-details": [' + b"{}," * 20000 + b"{}]}]}"])

    def test_mail_without_a_report_is_refused(self):
        mail = b"From: a@b.test\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
        for kind in ("dmarc", "tls", "feedback"):
            self.refused(kind, [mail, b"x" + mail])


if __name__ == "__main__":
    unittest.main()
