"""Who gets mail and who may log in: aliases, groups, suspended accounts, passwords of every kind, and the limiter."""

import base64
import hashlib
import imaplib
import re
import shutil
import smtplib
import socket
import ssl
import subprocess
import unittest

import scram_client
from harness import PASSWORD, Raw, ServerTest
from imap_wire import Session
from scram_client import Scram

MESSAGE = b"From: a@elsewhere.test\r\nSubject: %s\r\n\r\nHello.\r\n"


class DirectoryTest(ServerTest):
    settings = {"auth_limit": "no"}

    def cli(self, *args, **kw):
        return self.server.cli(*args, **kw)

    def account(self, name, *options, password=PASSWORD, domain="example.test"):
        if password:
            self.cli("account", "add", f"{name}@{domain}", "--password-stdin", *options, input=password + "\n")
        else:
            self.cli("account", "add", f"{name}@{domain}", *options, input="")
        return f"{name}@{domain}"

    def subjects(self, user):
        with self.server.imap(user) as c:
            c.select("INBOX", readonly=True)
            if not int(c.response("EXISTS")[1][0] or 0):
                return []
            data = c.fetch("1:*", "(BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
            return [m[1].decode().strip()[9:] for m in data if isinstance(m, tuple)]

    def login(self, name, password=PASSWORD):
        """IMAP's answer to LOGIN."""
        with Session(self.server) as s:
            return s.command(f'LOGIN "{name}" "{password}"')[1]

    def assert_login(self, name, password=PASSWORD):
        self.assertTrue(self.login(name, password).startswith(b"OK"), (name, password))

    def assert_no_login(self, name, password=PASSWORD):
        self.assertRegex(self.login(name, password), rb"^NO \[AUTHENTICATIONFAILED\]")


class RecipientsTest(DirectoryTest):
    accounts = ("alice", "bob", "carol")

    def deliver(self, to, subject):
        self.server.deliver(to, MESSAGE % subject.encode())

    def test_alias_delivers_and_logs_in_until_it_is_removed(self):
        self.cli("alias", "add", "sales@example.test", "alice@example.test")
        self.deliver("sales@example.test", "by alias")
        self.deliver("Sales+detail@EXAMPLE.test", "by alias with detail")
        self.assertLessEqual({"by alias", "by alias with detail"}, set(self.subjects("alice")))
        self.assert_login("sales@example.test")
        self.cli("alias", "remove", "sales@example.test")
        self.assertRaises(smtplib.SMTPRecipientsRefused, self.deliver, "sales@example.test", "gone")
        self.assert_no_login("sales@example.test")

    def test_an_alias_cannot_take_an_address_that_is_taken(self):
        for taken in ("bob@example.test", "postmaster@elsewhere.test", "no address"):
            self.assertEqual(self.cli("alias", "add", taken, "alice@example.test", check=False).returncode, 1, taken)
        self.assertEqual(self.cli("alias", "add", "new@example.test", "nobody@example.test", check=False).returncode, 1)

    def test_group_reaches_every_member_once_through_nests_and_loops(self):
        self.cli("group", "add", "all@example.test", "alice@example.test", "bob@example.test")
        self.cli("group", "add", "some@example.test", "bob@example.test", "carol@example.test")
        self.cli("group", "add-member", "all@example.test", "some@example.test")
        self.cli("group", "add-member", "some@example.test", "all@example.test")
        self.deliver("all@example.test", "to all")
        self.deliver(["all@example.test", "some@example.test", "bob@example.test"], "to all ways")
        for user in ("alice", "bob", "carol"):
            got = self.subjects(user)
            self.assertEqual((got.count("to all"), got.count("to all ways")), (1, 1), user)
        self.cli("group", "remove-member", "all@example.test", "some@example.test")
        self.deliver("all@example.test", "to two")
        self.assertEqual([self.subjects(u).count("to two") for u in ("alice", "bob", "carol")], [1, 1, 0])
        members = {row["address"] for row in self.server.cli_json("group", "members", "some@example.test")}
        self.assertEqual(members, {"bob@example.test", "carol@example.test", "all@example.test"})

    def test_empty_group_and_group_log_in_are_refused(self):
        self.cli("group", "add", "empty@example.test")
        self.assertRaises(smtplib.SMTPRecipientsRefused, self.deliver, "empty@example.test", "into the void")
        self.assert_no_login("empty@example.test")
        self.assertEqual(self.cli("account", "password", "empty@example.test", "--password-stdin", input="x\n",
                                  check=False).returncode, 1)

    def test_removed_account_is_unknown_its_mail_comes_back_with_it_and_its_address_is_free(self):
        self.account("dora")
        self.deliver("dora@example.test", "before")
        number = self.server.cli_json("account", "remove", "dora@example.test")["account_id"]
        self.assertRaises(smtplib.SMTPRecipientsRefused, self.deliver, "dora@example.test", "while away")
        self.assert_no_login("dora@example.test")
        self.account("dora", password="another")
        self.deliver("dora@example.test", "somebody else")
        with Session(self.server, "dora@example.test", "INBOX", password="another") as s:
            self.assertEqual(s.ok("UID SEARCH ALL"), [b"* SEARCH 1\r\n"])
        self.assertEqual(self.cli("account", "restore", str(number), check=False).returncode, 1)
        self.cli("account", "restore", str(number), "--as", "dora.first@example.test")
        self.assertEqual(self.subjects("dora.first"), ["before"])

    def test_postmaster_leads_somewhere_without_being_asked(self):
        for address in ("postmaster@example.test", "abuse@example.test", "Postmaster"):
            self.deliver(address, f"for {address}")
        got = [s for user in ("alice", "bob", "carol") for s in self.subjects(user) if s.startswith("for ")]
        self.assertEqual(len(got), 3)

    def test_international_addresses(self):
        self.cli("domain", "add", "büro.test")
        self.account("ani", domain="büro.test")
        self.deliver("ani@xn--bro-hoa.test", "by A-label")
        with self.server.smtp() as c:
            c.ehlo()
            c.sendmail("s@elsewhere.test", ["ani@büro.test"], MESSAGE % b"by U-label", mail_options=["SMTPUTF8"])
        self.assertEqual(self.subjects("ani@xn--bro-hoa.test"), ["by A-label", "by U-label"])


class RoutesTest(DirectoryTest):
    accounts = ("alice", "bob", "carol")

    def deliver(self, to, subject, sender="s@elsewhere.test"):
        self.server.deliver(to, MESSAGE % subject.encode(), sender=sender)

    def refusal(self, to, sender="s@elsewhere.test", user=None):
        """What RCPT answers, or None."""
        with self.server.smtp("submission" if user else "smtp") as c:
            if user:
                c.login(f"{user}@example.test", PASSWORD)
            else:
                c.ehlo()
            c.mail(sender)
            code, text = c.rcpt(to)
            return None if code == 250 else (code, text.decode())

    def test_forwards_here_reach_their_targets_and_circles_lose_nothing(self):
        self.account("fay")
        self.account("gus")
        self.cli("account", "forward", "set", "fay@example.test", "gus@example.test", "--no-copy")
        self.deliver("fay@example.test", "forwarded")
        self.assertEqual((self.subjects("fay"), self.subjects("gus")), ([], ["forwarded"]))
        self.cli("account", "forward", "set", "gus@example.test", "fay@example.test", "--no-copy")
        self.deliver("fay@example.test", "round")
        self.assertEqual((self.subjects("fay"), self.subjects("gus")), (["round"], ["forwarded", "round"]))

    def test_closed_group_says_who_may_post_and_whom_to_ask(self):
        self.cli("group", "add", "closed@example.test", "alice@example.test")
        self.cli("group", "owner", "add", "closed@example.test", "bob@example.test")
        self.cli("group", "post", "closed@example.test", "members")
        code, text = self.refusal("closed@example.test")
        self.assertEqual(code, 550)
        self.assertIn("only members may post to closed@example.test: ask bob@example.test", text)
        self.assertIsNotNone(self.refusal("closed@example.test", "alice@example.test"))     # anyone could write that
        self.assertIsNone(self.refusal("closed@example.test", "alice@example.test", "alice"))
        self.assertIsNone(self.refusal("closed@example.test", "bob@example.test", "bob"))
        self.assertIsNotNone(self.refusal("closed@example.test", "carol@example.test", "carol"))

    def test_catch_all_alias_domain_and_details_of_a_domain(self):
        for name in ("shop.test", "shop-alt.test"):
            self.cli("domain", "add", name)
        self.cli("domain", "set", "shop-alt.test", "--alias-of", "shop.test")
        self.account("sam", domain="shop.test")
        self.assertEqual(self.refusal("any@shop.test")[0], 550)
        self.cli("domain", "set", "shop.test", "--catch-all", "sam@shop.test", "--size-max", "64K")
        self.deliver("any@shop.test", "caught")
        self.deliver("sam@shop-alt.test", "by the other name")
        self.assertEqual(self.subjects("sam@shop.test"), ["caught", "by the other name"])
        self.assert_login("sam@shop-alt.test")
        self.cli("domain", "set", "shop.test", "--catch-all", "none", "--subaddress", "no")
        self.assertEqual(self.refusal("sam+x@shop.test")[0], 550)
        with self.server.smtp() as c:
            c.ehlo()
            c.mail("s@elsewhere.test", ["SIZE=100000"])
            self.assertEqual(c.rcpt("sam@shop.test")[0], 552)
            self.assertEqual(c.rcpt("alice@example.test")[0], 250)

    def test_a_grant_lets_send_as_another(self):
        def mail_from(user, sender):
            with self.server.smtp("submission") as c:
                c.login(f"{user}@example.test", PASSWORD)
                return c.mail(sender)[0]

        self.account("desk", "--kind", "shared", password=None)
        self.assertEqual(mail_from("alice", "desk@example.test"), 550)
        self.cli("account", "grants", "add", "desk@example.test", "alice@example.test")
        self.assertEqual(mail_from("alice", "desk@example.test"), 250)
        self.assertEqual(mail_from("bob", "desk@example.test"), 550)

    def test_postmaster_of_the_domain_gets_abuse_reports(self):
        self.cli("domain", "set", "example.test", "--postmaster", "carol@example.test")
        self.deliver("abuse@example.test", "report")
        self.assertEqual(self.subjects("carol").count("report"), 1)


class LoginTest(DirectoryTest):
    accounts = ("alice", "bob")

    def smtp_login(self, name, password):
        with self.server.smtp("submission") as c:
            c.login(name, password)

    def test_names_may_be_written_in_any_case_and_bare_while_there_is_one_domain(self):
        for name in ("alice@example.test", "Alice@Example.TEST", "alice", "ALICE"):
            self.assert_login(name)
        for name in ("nobody", "alice@elsewhere.test", "alice@", "@example.test", "alice@example.test.", ""):
            self.assertFalse(self.login(name).startswith(b"OK"), name)
        self.cli("domain", "add", "zweite.test")
        self.addCleanup(self.cli, "domain", "remove", "zweite.test")
        self.assert_no_login("alice")
        self.assert_login("alice@example.test")

    def test_suspended_account_gets_mail_and_the_same_answer_as_a_wrong_password(self):
        self.account("sue")
        self.assert_login("sue@example.test")
        self.cli("account", "disable", "sue@example.test")
        self.assertEqual(self.login("sue@example.test"), self.login("sue@example.test", "wrong"))
        with self.assertRaises(smtplib.SMTPAuthenticationError) as caught:
            self.smtp_login("sue@example.test", PASSWORD)
        self.assertEqual(caught.exception.smtp_code, 535)
        self.server.deliver("sue@example.test", MESSAGE % b"meanwhile")
        self.cli("account", "enable", "sue@example.test")
        self.assertEqual(self.subjects("sue"), ["meanwhile"])

    def test_unknown_names_are_answered_like_wrong_passwords(self):
        self.assertEqual(self.login("nobody@example.test"), self.login("alice@example.test", "wrong"))

    def test_changed_password_is_valid_at_once_and_the_old_one_is_not(self):
        self.account("pia", password="first")
        for _ in range(4):              # both workers remember it
            self.assert_login("pia@example.test", "first")
        self.cli("account", "password", "pia@example.test", "--password-stdin", input="second pass, with = and ü\n")
        for _ in range(4):
            self.assert_no_login("pia@example.test", "first")
        for mechanism in ("PLAIN",):
            with self.server.imap() as c:
                c.authenticate(mechanism, lambda _: "\0pia@example.test\0second pass, with = and ü".encode())

    def test_app_password_is_one_of_many_and_dies_alone(self):
        self.account("max")
        made = self.server.cli_json("account", "app-password", "add", "max@example.test", "phone")
        self.assertRegex(made["password"], r"^[a-z2-9]{24}$")
        self.assert_login("max@example.test", made["password"])
        self.assertIn(b"OK", self.scram("max@example.test", made["password"]))
        listed = self.server.cli_json("account", "app-password", "list", "max@example.test")
        self.assertEqual([(p["id"], p["label"]) for p in listed], [(made["id"], "phone")])
        self.assertIsNotNone(listed[0]["used"])
        self.assertNotIn(made["password"], self.cli("account", "app-password", "list", "max@example.test").stdout)
        self.cli("account", "password", "max@example.test", "--password-stdin", input="changed\n")
        self.assert_login("max@example.test", made["password"])
        self.assertIn(b"OK", self.scram("max@example.test", "changed"))
        self.cli("account", "app-password", "remove", "max@example.test", str(made["id"]))
        self.assert_no_login("max@example.test", made["password"])
        self.assertNotIn(b"OK", self.scram("max@example.test", made["password"]))
        self.assert_login("max@example.test", "changed")

    def test_hashes_of_other_servers_are_accepted_and_grow_a_scram_verifier(self):
        sha512 = ("$6$saltysalt$Wb6SASNlyFTtQx2W/Tmwa9XVqYu3zlb.Ew4BdY1sFLeIEDsGHqz/"
                  "AdkfydAMifwHQfBGCkiPB8H7foOtMFn.F1")
        other = ("{SHA512-CRYPT}$6$othersalt$yWbVSCJkZ2vwPSOjzg4gnuy.yIFq54VHHC2Mn0XeCpHF6E4"
                 "vSqSPQ/Q7TMZo3H9HnWE0Q4MIvE9DZW9eoiqoz/")
        for i, given in enumerate((sha512, other, "$2b$10$abcdefghijklmnopqrstuuqflPDzB6gcMhKa1rZqKiun2YGL5sa2u",
                                   "{BLF-CRYPT}$2y$06$abcdefghijklmnopqrstuuxLa0AkDDSrQ9VwNnETzOsObiucpMYgC",
                                   "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA")):
            name = self.account(f"moved{i}", "--password-hash", given, password=None)
            self.assertNotIn(b"OK", self.scram(name, PASSWORD), given)
            self.assert_no_login(name, "wrong")
            self.assert_login(name)
            self.assert_login(name)
            self.assertIn(b"OK", self.scram(name, PASSWORD), given)

    def test_what_is_no_hash_is_refused(self):
        for given in ("secret", "{PLAIN}secret", "$6$saltysalt$short", "$9$what$ever", "*", "!", "{SSHA}abcd"):
            result = self.cli("account", "add", "nohash@example.test", "--password-hash", given, input="", check=False)
            self.assertEqual(result.returncode, 1, given)
            self.assertRegex(result.stderr, r"^merpati: .*\n$")

    def test_account_without_a_password_cannot_log_in(self):
        name = self.account("mute", password=None)
        for password in ("", " ", "x", "*", "!"):
            self.assertFalse(self.login(name, password).startswith(b"OK"))

    def test_nobody_logs_in_as_somebody_else(self):
        self.cli("alias", "add", "ally@example.test", "alice@example.test")
        for authzid, good in (("", True), ("alice@example.test", True), ("ally@example.test", True), ("bob@example.test", False),
                              ("nobody@example.test", False)):
            with self.server.imap() as c:
                def plain(_, authzid=authzid):
                    return f"{authzid}\0alice@example.test\0{PASSWORD}".encode()
                if good:
                    self.assertEqual(c.authenticate("PLAIN", plain)[0], "OK", authzid)
                else:
                    with self.assertRaisesRegex(imaplib.IMAP4.error, "AUTHORIZATIONFAILED"):
                        c.authenticate("PLAIN", plain)

    # ---- SCRAM ------------------------------------------------------------------------------------
    def scram(self, name, password, **kw):
        with Session(self.server) as s:
            return scram_client.over_imap(s, Scram(name, password), **kw)

    def test_scram_over_imap(self):
        for name in ("alice@example.test", "ALICE@example.test", "alice"):
            for initial in (True, False):
                self.assertTrue(self.scram(name, PASSWORD, initial=initial).startswith(b"OK"), (name, initial))
        for name, password in (("alice@example.test", "wrong"), ("nobody@example.test", PASSWORD), ("bob@example.test", "Secret")):
            self.assertRegex(self.scram(name, password), rb"^NO \[AUTHENTICATIONFAILED\]")

    def test_scram_over_smtp(self):
        for password, code in ((PASSWORD, b"235"), ("wrong", b"535")):
            with self.server.raw("submission") as raw:
                raw.reply()
                raw.send(b"EHLO client.test\r\n")
                self.assertRegex(raw.reply(), rb"(?m)^250-AUTH .*\bSCRAM-SHA-256\b")
                self.assertTrue(scram_client.over_smtp(raw, Scram("alice@example.test", password)).startswith(code))

    def test_scram_salt_of_unknown_names_looks_like_any_and_stays(self):
        def server_first(name):
            with Session(self.server) as s:
                s.send(f"s AUTHENTICATE SCRAM-SHA-256 {scram_client.b64(Scram(name, 'x').first())}\r\n")
                fields = dict(f.split(b"=", 1) for f in base64.b64decode(s.line()[2:]).split(b","))
                return fields[b"s"], fields[b"i"]
        known, unknown = server_first("alice@example.test"), server_first("nobody@example.test")
        self.assertEqual(server_first("nobody@example.test"), unknown)
        self.assertNotEqual(server_first("somebody@example.test"), unknown)
        self.assertEqual((len(known[0]), known[1]), (len(unknown[0]), unknown[1]))

    def test_tampered_scram_is_refused(self):
        class Tampered(Scram):
            def __init__(self, change):
                super().__init__("alice@example.test", PASSWORD)
                self.change = change

            def final(self, answer):
                return self.change(super().final(answer))
        for change in (lambda m: m.replace(b"c=biws", b"c=eSws"), lambda m: m.replace(b",r=", b",r=x"), lambda m: m[:-8] + b"AAAAAAA=",
                       lambda m: b"", lambda m: b"\0" * 10, lambda m: m + b",x=y", lambda m: m.split(b",p=")[0]):
            with Session(self.server) as s:
                self.assertRegex(scram_client.over_imap(s, Tampered(change)), rb"^(NO|BAD) ")
                self.assertTrue(s.command("NOOP")[1].startswith(b"OK"))

    def tls(self):
        raw = socket.create_connection(("127.0.0.1", self.server.port("imaps")), timeout=60)
        tls = self.server.tls_context().wrap_socket(raw, server_hostname="localhost")
        self.addCleanup(tls.close)
        return TlsLines(tls)

    def test_scram_plus_binds_to_the_certificate(self):
        tls = self.tls()
        greeting = tls.line()
        self.assertIn(b"AUTH=SCRAM-SHA-256-PLUS", greeting)
        der = tls.sock.getpeercert(binary_form=True)
        for binding, good in ((hashlib.sha256(der).digest(), True), (hashlib.sha256(b"man in the middle").digest(), False), (b"", False)):
            client = Scram("alice@example.test", PASSWORD, "tls-server-end-point", binding)
            answer = scram_client.over_imap(tls, client, "SCRAM-SHA-256-PLUS")
            self.assertEqual(answer.startswith(b"OK"), good, answer)
            tls = self.tls()
            tls.line()

    def test_client_that_was_told_there_is_no_binding_hears_that_there_is(self):
        for flag, good in (("n", True), ("y", False)):
            tls = self.tls()
            tls.line()
            answer = scram_client.over_imap(tls, Scram("alice@example.test", PASSWORD, flag=flag))
            self.assertEqual(answer.startswith(b"OK"), good, answer)

    def test_plus_without_tls_is_refused(self):
        with Session(self.server) as s:
            client = Scram("alice@example.test", PASSWORD, "tls-exporter", b"x" * 32)
            self.assertRegex(scram_client.over_imap(s, client, "SCRAM-SHA-256-PLUS"), rb"^NO ")

    @unittest.skipUnless(shutil.which("openssl"), "no openssl to export keying material with")
    def test_scram_plus_binds_to_the_session(self):
        """Python's ssl exports no keying material; openssl's own client prints it, without a context, which is the
        same as the empty one of RFC 9266 in TLS 1.3 only."""
        for change, good in ((lambda exported: exported, True), (lambda exported: exported[::-1], False)):
            client = OpensslClient(self.server.port("imaps"), "-tls1_3")
            self.addCleanup(client.close)
            scram = Scram("alice@example.test", PASSWORD, "tls-exporter", change(client.exported))
            answer = scram_client.over_imap(client, scram, "SCRAM-SHA-256-PLUS")
            self.assertEqual(answer.startswith(b"OK"), good, answer)


class TlsLines:
    def __init__(self, sock):
        self.sock, self.file = sock, sock.makefile("rb")

    def send(self, data):
        self.sock.sendall(data)

    def line(self):
        return self.file.readline()


class OpensslClient:
    def __init__(self, port, version):
        self.process = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", version, "-ign_eof", "-nocommands",
             "-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        while not (m := re.match(rb"\s+Keying material: ([0-9A-F]{64})", line := self.process.stdout.readline())):
            if not line:
                raise EOFError("openssl s_client has ended")
        self.exported = bytes.fromhex(m.group(1).decode())
        while not self.process.stdout.readline().startswith(b"* OK"):
            pass

    def send(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def line(self):
        """IMAP's lines; what s_client says of tickets in between is not for us."""
        while line := self.process.stdout.readline():
            if line.startswith((b"+ ", b"s ", b"* ")):
                return line
        return b""

    def close(self):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait(30)
        self.process.stdout.close()


class LimiterTest(DirectoryTest):
    """Every case speaks from an address of its own, which is a network of its own to the limiter."""
    accounts = tuple(f"user{i}" for i in range(10))
    settings = {"auth_limit": "yes", "auth_failure_delay": "0s", "auth_guesses_account_max": "5", "auth_guesses_network_max": "12"}

    def login(self, name, password=PASSWORD, source="127.0.0.1"):
        raw = socket.create_connection(("127.0.0.1", self.server.port("imap")), timeout=60, source_address=(source, 0))
        with raw, raw.makefile("rb") as file:
            file.readline()
            raw.sendall(f'a LOGIN {name}@example.test "{password}"\r\n'.encode())
            while not (line := file.readline()).startswith(b"a "):
                self.assertTrue(line, "closed")
            return line[2:]

    def guess(self, name, count, source, first=0):
        return [self.login(name, f"wrong-{i}", source) for i in range(first, first + count)]

    def test_the_same_wrong_password_again_never_locks(self):
        for _ in range(40):
            self.assertRegex(self.login("user0", "the old one", "127.0.1.1"), rb"^NO \[AUTHENTICATIONFAILED\]")
        self.assertRegex(self.login("user0", source="127.0.1.1"), rb"^OK")

    def test_many_different_ones_lock_that_account_there_and_nowhere_else(self):
        answers = self.guess("user1", 8, "127.0.1.2")
        self.assertTrue(all(a.startswith(b"NO [AUTHENTICATIONFAILED]") for a in answers[:5]), answers)
        self.assertTrue(all(a.startswith(b"NO [LIMIT] too many wrong passwords") for a in answers[5:]), answers)
        self.assertRegex(self.login("user1", source="127.0.1.2"), rb"^NO \[LIMIT\]")
        self.assertRegex(self.login("user1", source="127.0.1.3"), rb"^OK")
        self.assertRegex(self.login("user2", source="127.0.1.2"), rb"^OK")

    def test_smtp_says_it_with_454(self):
        self.guess("user3", 6, "127.0.0.1")
        with self.server.smtp("submission") as c, self.assertRaises(smtplib.SMTPAuthenticationError) as caught:
            c.login("user3@example.test", PASSWORD)
        self.assertEqual(caught.exception.smtp_code, 454)

    def test_scram_guesses_count_too(self):
        def guess(password):
            raw = Raw.__new__(Raw)
            raw.sock = socket.create_connection(("127.0.0.1", self.server.port("imap")), timeout=60, source_address=("127.0.1.5", 0))
            raw.file = raw.sock.makefile("rb")
            with raw:
                raw.line()
                return scram_client.over_imap(raw, Scram("user4@example.test", password))
        answers = [guess(f"wrong-{i}") for i in range(7)]
        self.assertTrue(answers[0].startswith(b"NO [AUTHENTICATIONFAILED]"))
        self.assertTrue(answers[-1].startswith(b"NO [LIMIT]"), answers)

    def test_network_without_a_good_session_is_stopped_as_a_whole(self):
        for i in range(16):
            self.login(f"stranger{i}", "wrong", "127.0.1.6")
        self.assertRegex(self.login("stranger99", "wrong", "127.0.1.6"), rb"^NO \[LIMIT\]")

    def test_network_with_a_good_session_is_not_and_another_user_still_gets_in(self):
        self.assertRegex(self.login("user5", source="127.0.1.7"), rb"^OK")
        for i in range(16):
            self.login(f"stranger{i}", "wrong", "127.0.1.7")
        self.guess("user6", 8, "127.0.1.7")
        self.assertRegex(self.login("user7", source="127.0.1.7"), rb"^OK")
        self.assertRegex(self.login("user5", source="127.0.1.7"), rb"^OK")

    def test_guesses_count_in_every_worker(self):
        self.assertEqual(self.server.workers, 2)
        answers = self.guess("user8", 30, "127.0.1.8")
        self.assertEqual(sum(a.startswith(b"NO [AUTHENTICATIONFAILED]") for a in answers), 5)


if __name__ == "__main__":
    unittest.main()
