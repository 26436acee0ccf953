"""What senders are told of a submission that ended here: DSN's SUCCESS, groups, and recipients that were gone."""

import email
import email.policy
import smtplib

from harness import PASSWORD, ServerTest, eventually
from smtp_peer import Peer, polite


class ReportsTest(ServerTest):
    accounts = ("ani", "budi", "citra")

    @classmethod
    def setUpClass(cls):
        cls.peer = Peer(polite(answers={"RCPT TO:<full@": "552 5.2.2 mailbox full"}))
        cls.addClassCleanup(cls.peer.close)
        cls.settings = {"delivery_routes": f"*=127.0.0.1:{cls.peer.port}", "smtp_greeting_delay": "0s"}
        super().setUpClass()
        cli = cls.server.cli
        cli("group", "add", "team@example.test", "budi@example.test", "citra@example.test")

    def submit(self, subject, rcpts, mail_options=(), port="submission", user="ani", sender=None, body="Halo"):
        with self.server.smtp(port) as s:
            if port == "submission":
                s.login(f"{user}@example.test", PASSWORD)
            s.ehlo_or_helo_if_needed()
            self.assertEqual(s.mail(sender if sender is not None else f"{user}@example.test", list(mail_options))[0], 250)
            for address, *options in rcpts:
                self.assertEqual(s.rcpt(address, options)[0], 250)
            return s.data(f"From: {user}@example.test\r\nSubject: {subject}\r\n\r\n{body}\r\n")

    def inbox(self, user="ani"):
        with self.server.imap(user) as c:
            c.select("INBOX", readonly=True)
            numbers = c.search(None, "ALL")[1][0].split()
            return [email.message_from_bytes(c.fetch(n, "(BODY.PEEK[])")[1][0][1], policy=email.policy.default) for n in numbers]

    def reports(self, subject, user="ani"):
        return [m for m in self.inbox(user) if m.get_content_type() == "multipart/report" and str(m["Subject"]).endswith(subject)]

    def fields(self, report):
        """Of the message, and of the recipients by address."""
        first, *others = list(report.iter_parts())[1].get_payload()
        return first, {o["Final-Recipient"].partition(";")[2].strip(): o for o in others}

    def test_success_is_told_where_it_was_asked_for(self):
        self.submit("asked.", [("budi@example.test", "NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Budi+2Bx@example.test"),
                               ("citra@example.test", "NOTIFY=FAILURE"), ("ani@example.test",)], ["ENVID=QQ+2B1", "RET=FULL"])
        (report,) = self.reports("asked.")
        message, recipients = self.fields(report)
        self.assertEqual(message["Original-Envelope-Id"], "QQ+1")
        self.assertEqual(list(recipients), ["budi@example.test"])
        self.assertEqual(recipients["budi@example.test"]["Action"], "delivered")
        self.assertEqual(recipients["budi@example.test"]["Original-Recipient"], "rfc822; Budi+x@example.test")
        self.assertEqual(report["Return-Path"], "<>")
        self.assertEqual(list(report.iter_parts())[2].get_content_type(), "text/rfc822-headers")

    def test_nobody_is_told_what_was_not_asked_for(self):
        self.submit("unasked.", [("budi@example.test",), ("citra@example.test", "NOTIFY=NEVER"), ("team@example.test", "NOTIFY=DELAY")])
        self.assertEqual(self.reports("unasked."), [])

    def test_a_group_is_expanded(self):
        self.submit("group.", [("team@example.test", "NOTIFY=SUCCESS")])
        (report,) = self.reports("group.")
        _, recipients = self.fields(report)
        self.assertEqual([(a, r["Action"]) for a, r in recipients.items()], [("team@example.test", "expanded")])
        self.assertEqual(len(self.reports("group.", "budi")), 0)

    def test_people_beside_a_report_address_get_what_is_no_report(self):
        self.assertEqual(self.submit("mixed.", [("dmarc-reports@example.test",), ("budi@example.test",)])[0], 250)
        self.assertIn("mixed.", [m["Subject"] for m in self.inbox("budi")])
        _, recipients = self.fields(eventually(lambda: self.reports("mixed."))[0])
        self.assertEqual([(a, r["Action"], r["Status"]) for a, r in recipients.items()],
                         [("dmarc-reports@example.test", "failed", "5.7.1")])
        (found,) = eventually(lambda: [m for m in self.server.cli_json("trace", "--subject", "mixed.") if m["subject"] == "mixed."])
        self.assertEqual({(e["kind"], e["recipient"]) for e in found["events"]} - {("bounced", "ani@example.test")},
                         {("refused", "dmarc-reports@example.test"), ("delivered", "budi@example.test")})

    def test_what_is_for_a_report_address_alone_and_no_report_is_refused(self):
        code, text = self.submit("unmixed.", [("dmarc-reports@example.test",), ("tls-reports@example.test",)])
        self.assertEqual((code, text[:5]), (554, b"5.6.0"))
        self.assertEqual(self.reports("unmixed."), [])

    def test_the_null_sender_is_told_nothing(self):
        self.submit("null.", [("budi@example.test", "NOTIFY=SUCCESS")], port="smtp", sender="")
        self.assertEqual([len([m for m in self.inbox(u) if m["Subject"] == "null."]) for u in ("ani", "budi")], [0, 1])
        self.assertEqual(self.reports("null.", "budi"), [])

    def test_lmtp_tells_of_deliveries_too(self):
        with self.server.smtp("lmtp") as s:
            s.ehlo()
            s.mail("ani@example.test")
            s.rcpt("budi@example.test", ["NOTIFY=SUCCESS"])
            s.putcmd("data")
            self.assertEqual(s.getreply()[0], 354)
            s.send(b"From: ani@example.test\r\nSubject: lmtp.\r\n\r\nx\r\n.\r\n")
            self.assertEqual(s.getreply()[0], 250)
        (report,) = self.reports("lmtp.")
        self.assertEqual(self.fields(report)[1]["budi@example.test"]["Action"], "delivered")

    def test_reports_speak_the_senders_language(self):
        self.submit("bahasa.", [("budi@example.test", "NOTIFY=SUCCESS")],
                    body="Terima kasih atas surat yang sudah dikirim kepada kami, dan untuk semua yang akan datang dari sana.")
        (report,) = self.reports("bahasa.")
        self.assertTrue(report["Subject"].startswith("Terkirim"))
        self.submit("language.", [("budi@example.test", "NOTIFY=SUCCESS")], body="x")
        (report,) = self.reports("language.")
        self.assertTrue(report["Subject"].startswith("Delivered"))

    def away(self, subject):
        """What the other server got with the subject, and its envelope."""
        found = eventually(lambda: [m for m in self.peer.messages if subject.encode() in m])
        self.assertEqual(len(found), 1)
        return email.message_from_bytes(found[0].replace(b"\r\n..", b"\r\n."), policy=email.policy.default)

    def test_a_sender_elsewhere_is_told_through_the_queue(self):
        self.submit("away.", [("budi@example.test", "NOTIFY=SUCCESS")], port="smtp", sender="x@elsewhere.test")
        report = self.away("Delivered: away.")
        self.assertEqual(self.fields(report)[1]["budi@example.test"]["Action"], "delivered")
        self.assertIn("MAIL FROM:<>", [c.split(" SIZE")[0].split(" BODY")[0] for c in self.peer.commands])
        self.assertEqual([c for c in self.peer.commands if c.startswith("RCPT TO:<x@elsewhere.test>")][0].split()[0], "RCPT")

    def test_what_could_not_be_forwarded_is_told_to_whom_it_came_from(self):
        self.server.add_accounts("forward")
        self.server.cli("account", "forward", "set", "forward@example.test", "full@far.test")
        self.submit("forwarded.", [("forward@example.test",)], port="smtp", sender="y@elsewhere.test")
        report = self.away("Not delivered: forwarded.")
        self.assertEqual(str(report["To"]), "y@elsewhere.test")
        self.assertTrue(self.peer.said("MAIL FROM:<SRS0="))
        self.assertTrue(self.peer.said("RCPT TO:<y@elsewhere.test>"))

    def test_mail_that_waits_is_reported_when_it_goes(self):
        self.submit("never.", [("budi@example.test", "NOTIFY=SUCCESS")], ["HOLDFOR=3600"])
        self.submit("later.", [("budi@example.test", "NOTIFY=SUCCESS")], ["HOLDFOR=1"])
        self.assertTrue(eventually(lambda: self.reports("later.")))
        self.assertEqual([r["Action"] for r in self.fields(self.reports("later.")[0])[1].values()], ["delivered"])
        self.assertEqual(self.reports("never."), [])

    def test_the_trace_knows_of_the_report(self):
        self.submit("traced.", [("budi@example.test", "NOTIFY=SUCCESS")])

        def seen():
            found = self.server.cli_json("trace", "--subject", "traced.", "--sender", "ani@example.test")
            return len(found) == 1 and "a report is delivered" in str(self.server.cli_json("trace", "--id", found[0]["id"]))
        self.assertTrue(eventually(seen))


if __name__ == "__main__":
    import unittest
    unittest.main()
