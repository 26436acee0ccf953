"""Delivery reports read with other eyes: Python's email package, and every message of the shared collection as the one
that comes back."""

import email
import email.policy
import os
import subprocess
import unittest

import harness

TOOL = os.path.join(os.path.dirname(harness.__file__), "..", "..", "build", "asan", "tools", "dsn_print")
PLAIN = b"From: ani@example.test\r\nTo: budi@example.net\r\nSubject: Laporan\r\nMessage-ID: <1@example.test>\r\n\r\nHalo\r\n"
FAILED = ("failed", "budi@example.net", "rfc822;Budi@example.net", "5.1.1", "mx1.example.net [192.0.2.1]:25", "550",
          "5.1.1 User unknown")


@unittest.skipUnless(os.path.exists(TOOL), "dsn_print is not built: make VARIANT=asan unit")
class DsnTest(unittest.TestCase):
    def build(self, *recipients, language="en", form="8bit", original=PLAIN):
        arguments = [TOOL, language, form] + [word for r in recipients for word in r]
        raw = subprocess.run(arguments, input=original, stdout=subprocess.PIPE, check=True, timeout=60).stdout
        for line in raw.split(b"\r\n"):
            self.assertNotIn(b"\n", line)
            self.assertLessEqual(len(line), 998)
        return raw, email.message_from_bytes(raw, policy=email.policy.default)

    def parts(self, report):
        self.assertEqual(report.get_content_type(), "multipart/report")
        self.assertEqual(report.get_param("report-type"), "delivery-status")
        self.assertFalse(report.defects)
        parts = list(report.iter_parts())
        self.assertEqual(len(parts), 3)
        for part in parts:
            self.assertFalse(part.defects)
        return parts

    def test_a_failure_is_read_by_others(self):
        raw, report = self.build(FAILED)
        text, status, original = self.parts(report)
        self.assertTrue(raw.isascii())
        self.assertEqual(report["Auto-Submitted"], "auto-replied")
        self.assertEqual(report["Subject"], "Not delivered: Laporan")
        self.assertEqual(report["References"], "<1@example.test>")
        self.assertIn("There is no such address", " ".join(text.get_content().split()))
        message, recipient = status.get_payload()
        self.assertEqual(message["Reporting-MTA"], "dns; mail.example.test")
        self.assertEqual(message["Original-Envelope-Id"], "QQ314159")
        self.assertEqual(recipient["Final-Recipient"], "rfc822; budi@example.net")
        self.assertEqual(recipient["Original-Recipient"], "rfc822; Budi@example.net")
        self.assertEqual(recipient["Action"], "failed")
        self.assertEqual(recipient["Status"], "5.1.1")
        self.assertEqual(recipient["Remote-MTA"], "dns; mx1.example.net")
        self.assertEqual(recipient["Diagnostic-Code"], "smtp; 550 5.1.1 User unknown")
        self.assertEqual(original.get_content_type(), "message/rfc822")
        self.assertEqual(original.get_payload(0)["Message-ID"], "<1@example.test>")
        self.assertEqual(original.get_payload(0).get_payload(), "Halo\r\n")

    def test_outcomes_stand_in_groups_of_their_own(self):
        _, report = self.build(FAILED, ("delivered", "c@example.test", "", "2.1.5", "", "0", ""),
                               ("relayed", "d@example.org", "", "2.0.0", "mx.example.org", "250", "2.0.0 ok"))
        _, status, _ = self.parts(report)
        self.assertEqual([p["Action"] for p in status.get_payload()[1:]], ["failed", "delivered", "relayed"])

    def test_indonesian_is_written_for_indonesians(self):
        _, report = self.build(FAILED, language="id")
        text, _, _ = self.parts(report)
        self.assertEqual(report["Subject"], "Tidak terkirim: Laporan")
        self.assertIn("Alamat ini tidak ada", " ".join(text.get_content().split()))

    def test_folded_diagnostics_unfold_to_what_was_said(self):
        said = "5.7.1 " + " ".join(f"word{i}" for i in range(60))
        _, report = self.build(FAILED[:6] + (said,))
        _, status, _ = self.parts(report)
        found = status.get_payload()[1]["Diagnostic-Code"]
        self.assertTrue(" ".join(f"smtp; 550 {said}".split()).startswith(" ".join(found.split())))
        self.assertGreater(len(found), 400)

    def test_any_message_can_come_back(self):
        folder = harness.SHARED_DATA and os.path.join(harness.SHARED_DATA, "mail")
        if not folder or not os.path.isdir(folder):
            self.skipTest("the shared collection of messages is not here")
        paths = sorted(os.path.join(d, f) for d, _, names in os.walk(folder) for f in names if f.endswith(".eml"))
        self.assertGreater(len(paths), 100)
        for path in paths[::max(1, len(paths) // 150)]:
            for form in ("8bit", "7bit"):
                with self.subTest(path=path, form=form):
                    with open(path, "rb") as f:
                        original = f.read().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
                    raw, report = self.build(FAILED, form=form, original=original)
                    self.assertEqual([p.get_content_maintype() for p in self.parts(report)][:2], ["text", "message"])
                    if form == "7bit":
                        self.assertTrue(raw.isascii())


if __name__ == "__main__":
    unittest.main()
