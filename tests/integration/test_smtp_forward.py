"""Mail that is passed on: under which name, with which mark against circles, and who is always reached."""

import email
import email.policy
import smtplib

from harness import PASSWORD, ServerTest, eventually
from smtp_peer import Peer, polite


class ForwardTest(ServerTest):
    accounts = ("ani", "budi", "citra", "dewi")

    @classmethod
    def setUpClass(cls):
        cls.peer = Peer(polite())
        cls.addClassCleanup(cls.peer.close)
        cls.settings = {"delivery_routes": f"*=127.0.0.1:{cls.peer.port}", "smtp_greeting_delay": "0s"}
        super().setUpClass()
        cli = cls.server.cli
        cli("account", "forward", "set", "ani@example.test", "ani@far.test", "--no-copy")
        cli("account", "forward", "set", "budi@example.test", "budi@far.test")
        cli("group", "add", "team@example.test", "citra@example.test")

    def give(self, subject, to, sender="x@elsewhere.test", user=None, head="", options=()):
        with self.server.smtp("submission" if user else "smtp") as s:
            if user:
                s.login(f"{user}@example.test", PASSWORD)
            s.ehlo_or_helo_if_needed()
            s.putcmd(f"MAIL FROM:<{sender}> {' '.join(options)}".strip())
            self.assertEqual(s.getreply()[0], 250)
            for address in to:
                s.putcmd(f"RCPT TO:<{address}>")
                self.assertEqual(s.getreply()[0], 250)
            return s.data(f"{head}From: {user or 'x'}@example.test\r\nSubject: {subject}\r\n\r\nHalo\r\n")

    def away(self, subject):
        def found():
            return [m for m in self.peer.messages if f"Subject: {subject}".encode() in m]
        self.assertTrue(eventually(found), subject)
        return email.message_from_bytes(found()[0], policy=email.policy.default)

    def inbox(self, user, subject):
        with self.server.imap(user) as c:
            c.select("INBOX", readonly=True)
            numbers = c.search(None, "SUBJECT", f'"{subject}"')[1][0].split()
            return [c.fetch(n, "(BODY.PEEK[])")[1][0][1] for n in numbers]

    # ---- the name ------------------------------------------------------------------------------------
    def test_a_quoted_sender_stays_one_path_when_it_is_rewritten(self):
        self.give("quoted.", ["ani@example.test"], sender=r'"a> SIZE=9 X=\"y"@elsewhere.test')
        self.away("quoted.")
        said = [c for c in self.peer.said("MAIL FROM:") if "SIZE=9" in c]
        self.assertEqual(len(said), 1)
        self.assertRegex(said[0], r'^MAIL FROM:<"SRS0=\w{6}=\w\w=elsewhere.test=a> SIZE=9 X=\\"y"@example.test>')
        rewritten = said[0].partition("<")[2].rpartition('@example.test>')[0] + "@example.test"
        self.give("back.", [rewritten], sender="")                  # a bounce finds its way
        self.away("back.")
        self.assertTrue(self.peer.said(r'RCPT TO:<"a> SIZE=9 X=\"y"@elsewhere.test>'))

    # ---- circles -------------------------------------------------------------------------------------
    def test_what_is_passed_on_says_through_whom(self):
        self.give("marked.", ["ani@example.test"])
        got = self.away("marked.")
        self.assertEqual(got.get_all("Delivered-To"), ["ani@example.test"])

    def test_what_comes_back_to_the_same_address_is_refused(self):
        self.give("circle.", ["ani@example.test"])
        back = self.away("circle.").as_bytes(policy=email.policy.SMTP).decode()
        code, said = self.give("circle again.", ["ani@example.test"], head=back.partition("From:")[0])
        self.assertEqual((code, said[:5]), (554, b"5.4.6"))

    def test_blind_recipients_are_not_shown_by_the_mark(self):
        self.give("blind.", ["ani@example.test", "citra@example.test"])
        self.assertIsNone(self.away("blind.")["Delivered-To"])
        self.assertNotIn(b"ani@", self.inbox("citra", "blind.")[0])

    def test_mail_that_waited_is_marked_too(self):
        self.give("waited.", ["ani@example.test"], user="dewi", sender="dewi@example.test", options=["HOLDFOR=1"])
        self.assertEqual(self.away("waited.").get_all("Delivered-To"), ["ani@example.test"])

    def test_a_copy_that_stays_here_and_mail_by_the_senders_own_choice_bear_no_mark(self):
        self.give("stays.", ["citra@example.test"])
        self.assertNotIn(b"Delivered-To", self.inbox("citra", "stays.")[0])
        self.give("direct.", ["x@far.test"], user="dewi", sender="dewi@example.test")
        self.assertIsNone(self.away("direct.")["Delivered-To"])

    # ---- who is always reached -------------------------------------------------------------------------
    def test_postmaster_without_a_domain_is_reached_later_too(self):
        self.give("at once.", ["postmaster"])
        self.give("later.", ["Postmaster"], user="dewi", sender="dewi@example.test", options=["HOLDFOR=1"])
        self.server.cli("domain", "set", "example.test", "--postmaster", "citra@example.test")
        self.assertTrue(eventually(lambda: self.inbox("citra", "later.")))

    def test_a_full_postmaster_takes_mail(self):
        self.server.add_accounts("eka")
        self.server.cli("domain", "set", "example.test", "--postmaster", "eka@example.test")
        self.give("first.", ["eka@example.test"])
        self.server.cli("account", "quota", "eka@example.test", "10")
        with self.server.smtp() as s:
            s.ehlo()
            s.mail("x@elsewhere.test")
            self.assertEqual(s.rcpt("eka@example.test")[0], 452)
        for name in ("postmaster", "abuse"):
            self.assertEqual(self.give(f"{name}.", [f"{name}@example.test"])[0], 250)
            self.assertEqual(len(self.inbox("eka", f"{name}.")), 1)

    def test_who_was_removed_meanwhile_gets_nothing_and_the_sender_is_told(self):
        self.server.add_accounts("gone", "half")
        for to, code in ((["gone@example.test"], 550), (["half@example.test", "citra@example.test"], 250)):
            with self.server.smtp() as s:
                s.ehlo()
                s.mail("y@elsewhere.test")
                for address in to:
                    self.assertEqual(s.rcpt(address)[0], 250)
                self.server.cli("account", "remove", to[0])
                answer = s.data(f"From: y@elsewhere.test\r\nSubject: removed {code}.\r\n\r\nx\r\n")
                self.assertEqual(answer[0], code, answer)
        self.assertEqual(len(self.inbox("citra", "removed 250.")), 1)
        self.assertTrue(eventually(lambda: [m for m in self.peer.messages if b"half@example.test" in m and b"5.1.1" in m]))
