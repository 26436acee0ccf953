"""The command line: every command, its exit status, its JSON, with the server running and without."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import unittest

from harness import PASSWORD, ROOT, Server, ServerTest

DONE, REFUSED, USAGE = 0, 1, 2


class Commands:
    """What holds whether the server runs or not; self.server is the one whose directory is used."""

    def merpati(self, *args, status=DONE, input="", server=None):
        result = (server or self.server).cli(*args, input=input, check=False)
        self.assertEqual(result.returncode, status, f"{args}\n{result.stdout}{result.stderr}")
        if status != DONE:
            self.assertRegex(result.stderr, r"\Amerpati: \S.{5,}\n\Z", f"one line of reason: {args}")
        else:
            self.assertEqual(result.stderr, "", args)
        return result.stdout

    def json(self, *args, **kw):
        return json.loads(self.merpati(*args, "--json", **kw))

    def refused(self, *args, **kw):
        """Refused, with one line on standard error and the same as JSON on request."""
        self.merpati(*args, status=REFUSED, **kw)
        answer = self.json(*args, status=REFUSED, **kw)
        self.assertEqual(set(answer), {"error", "reason"})
        return answer["reason"]

    def check_domains(self):
        self.assertEqual(self.json("domain", "add", "one.test", "two.test"), {"added": ["one.test", "two.test"]})
        self.assertIn("there already", self.refused("domain", "add", "one.test"))
        self.refused("domain", "add", "no domain")
        self.assertLessEqual({"one.test", "two.test"}, {d["domain"] for d in self.json("domain", "list")})
        self.assertRegex(self.merpati("domain", "list"), r"\Adomain\n(.*\n)*one\.test\n")
        self.merpati("account", "add", "x@one.test")
        self.assertIn("remove its accounts", self.refused("domain", "remove", "one.test"))
        self.merpati("account", "remove", "x@one.test")
        self.merpati("domain", "remove", "one.test")
        self.merpati("domain", "remove", "two.test")
        self.assertIn("not a domain", self.refused("domain", "remove", "two.test"))

    def check_accounts(self):
        made = self.json("account", "add", "Ani.Putri@Example.test", "--name", "Ani Putri", "--quota", "5G", "--password-stdin",
                         input="secret\nnot this\n")
        self.assertEqual((made["address"], made["kind"]), ("ani.putri@example.test", "person"))
        shown = self.json("account", "show", "ani.putri@example.test")
        self.assertEqual({k: shown[k] for k in ("name", "active", "quota", "messages", "account_id", "addresses")},
                         {"name": "Ani Putri", "active": True, "quota": 5 << 30, "messages": 0, "account_id": made["account_id"],
                          "addresses": ["ani.putri@example.test"]})
        self.assertIn("taken", self.refused("account", "add", "ani.putri@example.test"))
        self.assertIn("domain add", self.refused("account", "add", "x@elsewhere.test"))
        self.refused("account", "add", "no address")
        self.merpati("account", "name", "ani.putri@example.test", "Ani ☺")
        self.merpati("account", "quota", "ani.putri@example.test", "1G", "--messages", "1000")
        self.merpati("account", "quota", "ani.putri@example.test", "none")      # the other limit stays
        self.merpati("account", "disable", "ani.putri@example.test")
        shown = self.json("account", "show", "ani.putri@example.test")
        self.assertEqual((shown["name"], shown["active"], shown["quota"], shown["messages_max"]), ("Ani ☺", False, None, 1000))
        self.merpati("account", "enable", "ani.putri@example.test")
        self.assertFalse(shown["admin"])
        self.merpati("account", "admin", "ani.putri@example.test", "yes")
        self.assertTrue(self.json("account", "show", "ani.putri@example.test")["admin"])
        self.merpati("account", "admin", "ani.putri@example.test", "no")
        self.assertFalse(self.json("account", "show", "ani.putri@example.test")["admin"])
        self.merpati("account", "admin", "ani.putri@example.test", "perhaps", status=USAGE)
        self.merpati("account", "add", "root@example.test", "--admin")
        self.assertTrue(self.json("account", "show", "root@example.test")["admin"])
        self.refused("account", "add", "hall@example.test", "--kind", "room", "--admin")
        self.merpati("account", "password", "ani.putri@example.test", "--password-stdin", input="other\n")
        nobody = "nobody@example.test"
        for args in (["show", nobody], ["disable", nobody], ["enable", nobody], ["remove", nobody], ["name", nobody, "x"],
                     ["quota", nobody, "1G"], ["admin", nobody, "yes"], ["app-password", "list", nobody]):
            self.assertIn("no ", self.refused("account", *args))
        self.assertIn("ani.putri@example.test", {a["address"] for a in self.json("account", "list", "--domain", "example.test")})
        self.assertEqual(self.json("account", "list", "--domain", "elsewhere.test"), [])

    def check_removal_and_restoration(self):
        number = self.json("account", "add", "temp@example.test")["account_id"]
        self.assertEqual(self.json("account", "remove", "temp@example.test")["account_id"], number)
        (removed,) = [a for a in self.json("account", "list", "--removed") if a["account_id"] == number]
        self.assertEqual(removed["address"], "temp@example.test")
        self.assertEqual(self.json("account", "restore", str(number))["address"], "temp@example.test")
        self.refused("account", "restore", str(number))
        self.refused("account", "restore", "999999999")
        self.merpati("account", "restore", "x", status=USAGE)

    def check_passwords(self):
        self.merpati("account", "add", "pw@example.test")
        self.merpati("account", "password", "pw@example.test", status=USAGE)
        self.merpati("account", "password", "pw@example.test", "--password-stdin", status=USAGE, input="")
        self.merpati("account", "password", "pw@example.test", "--password-stdin", status=USAGE, input="\n")
        made = self.json("account", "app-password", "add", "pw@example.test", "my phone")
        self.assertEqual([p["label"] for p in self.json("account", "app-password", "list", "pw@example.test")], ["my phone"])
        self.merpati("account", "app-password", "remove", "pw@example.test", str(made["id"]))
        self.refused("account", "app-password", "remove", "pw@example.test", str(made["id"]))
        self.merpati("account", "app-password", "remove", "pw@example.test", "first", status=USAGE)
        self.assertEqual(self.json("account", "app-password", "list", "pw@example.test"), [])

    def check_aliases_groups_and_rooms(self):
        self.merpati("account", "add", "m1@example.test")
        self.merpati("account", "add", "m2@example.test")
        self.merpati("alias", "add", "info@example.test", "m1@example.test")
        self.assertIn({"alias": "info@example.test", "target": "m1@example.test"}, self.json("alias", "list"))
        self.refused("alias", "add", "info@example.test", "m2@example.test")
        self.refused("alias", "remove", "m1@example.test")
        self.merpati("alias", "remove", "info@example.test")
        self.merpati("group", "add", "team@example.test", "m1@example.test", "--name", "The team")
        self.merpati("group", "add-member", "team@example.test", "m2@example.test")
        self.assertEqual({m["address"] for m in self.json("group", "members", "team@example.test")}, {"m1@example.test", "m2@example.test"})
        self.merpati("group", "remove-member", "team@example.test", "m1@example.test")
        self.refused("group", "remove-member", "team@example.test", "m1@example.test")
        self.refused("group", "add-member", "m1@example.test", "m2@example.test")
        self.refused("group", "remove", "m1@example.test")
        self.assertEqual([g["address"] for g in self.json("group", "list")], ["team@example.test"])
        self.merpati("group", "remove", "team@example.test")
        self.merpati("room", "add", "bandung@example.test", "--name", "Bandung")
        self.merpati("room", "add", "beamer@example.test", "--equipment")
        self.assertEqual({r["address"]: r["kind"] for r in self.json("room", "list")},
                         {"bandung@example.test": "room", "beamer@example.test": "equipment"})
        self.refused("room", "remove", "m1@example.test")
        self.merpati("room", "remove", "bandung@example.test")
        self.merpati("room", "remove", "beamer@example.test")

    def check_domain_settings(self):
        for name in ("set.test", "alias.test"):
            self.merpati("domain", "add", name)
        self.merpati("account", "add", "pm@set.test")
        shown = self.json("domain", "show", "set.test")
        self.assertEqual(shown, {"domain": "set.test", "alias_of": "", "catch_all": "", "postmaster": "", "subaddress": True,
                                 "quota": "default", "messages_max": "default", "size_max": "default", "admins_send_as": False})
        shown = self.json("domain", "set", "set.test", "--catch-all", "PM@set.test", "--postmaster", "it@far.test", "--subaddress", "no",
                          "--quota", "1G", "--messages", "none", "--size-max", "20M", "--admins-send-as", "yes")
        self.assertEqual(shown, {"domain": "set.test", "alias_of": "", "catch_all": "pm@set.test", "postmaster": "it@far.test",
                                 "subaddress": False, "quota": 1 << 30, "messages_max": None, "size_max": 20 << 20,
                                 "admins_send_as": True})
        self.merpati("domain", "set", "set.test", "--catch-all", "none", "--quota", "default")
        shown = self.json("domain", "show", "set.test")
        self.assertEqual((shown["catch_all"], shown["quota"], shown["subaddress"]), ("", "default", False))
        self.merpati("domain", "set", "alias.test", "--alias-of", "set.test")
        self.assertEqual(self.json("domain", "show", "alias.test")["alias_of"], "set.test")
        self.assertIn("alias of set.test", self.refused("account", "add", "x@alias.test"))
        self.assertIn("alias of set.test", self.refused("domain", "set", "alias.test", "--quota", "1G"))
        self.assertIn("no account", self.refused("domain", "set", "set.test", "--catch-all", "nobody@set.test"))
        self.assertIn("not a domain", self.refused("domain", "show", "nowhere.test"))
        self.merpati("account", "remove", "pm@set.test")
        self.assertIn("alias.test", self.refused("domain", "remove", "set.test"))
        self.merpati("domain", "set", "set.test", status=USAGE)
        self.merpati("domain", "set", "set.test", "--subaddress", "perhaps", status=USAGE)
        self.merpati("domain", "set", "set.test", "--size-max", "much", status=USAGE)
        self.merpati("domain", "set", "alias.test", "--alias-of", "none")
        self.merpati("domain", "remove", "set.test")
        self.merpati("domain", "remove", "alias.test")

    def check_ways_of_mail(self):
        for name in ("w1", "w2", "w3"):
            self.merpati("account", "add", f"{name}@example.test")
        self.assertEqual(self.json("account", "forward", "set", "w1@example.test", "W2@example.test", "me@Far.test"),
                         {"address": "w1@example.test", "forward": ["me@far.test", "w2@example.test"], "keeps_copy": True})
        self.merpati("account", "forward", "set", "w1@example.test", "me@far.test", "--no-copy")
        shown = self.json("account", "show", "w1@example.test")
        self.assertEqual((shown["forward"], shown["keeps_copy"]), (["me@far.test"], False))
        self.merpati("account", "forward", "off", "w1@example.test")
        self.assertEqual(self.json("account", "forward", "show", "w1@example.test"),
                         {"address": "w1@example.test", "forward": [], "keeps_copy": True})
        self.refused("account", "forward", "set", "w1@example.test", "nobody@example.test")
        self.refused("account", "forward", "show", "nobody@example.test")
        self.merpati("account", "forward", "set", "w1@example.test", status=USAGE)
        self.assertEqual(self.json("account", "sent-copy", "w1@example.test", "others"),
                         {"address": "w1@example.test", "sent_copy": False, "sent_copy_of_others": True})
        self.assertTrue(self.json("account", "show", "w1@example.test")["sent_copy_of_others"])
        self.merpati("account", "sent-copy", "w1@example.test", "some", status=USAGE)
        self.refused("account", "sent-copy", "nobody@example.test", "both")
        self.merpati("account", "grants", "add", "w1@example.test", "w2@example.test", "--on-behalf")
        self.merpati("account", "grants", "add", "w1@example.test", "w3@example.test")
        self.assertEqual(self.json("account", "grants", "list", "w1@example.test"),
                         [{"with": "w2@example.test", "right": "on-behalf"}, {"with": "w3@example.test", "right": "as"}])
        self.merpati("account", "grants", "remove", "w1@example.test", "w2@example.test", "w3@example.test")
        self.refused("account", "grants", "remove", "w1@example.test", "w2@example.test")
        self.refused("account", "grants", "add", "w1@example.test", "x@far.test")
        self.assertEqual(self.json("account", "grants", "list", "w1@example.test"), [])
        self.merpati("alias", "add", "far@example.test", "Someone@far.test")
        self.assertIn({"alias": "far@example.test", "target": "someone@far.test"}, self.json("alias", "list"))
        self.merpati("alias", "remove", "far@example.test")

    def check_groups_that_are_asked(self):
        for name in ("o1", "o2"):
            self.merpati("account", "add", f"{name}@example.test")
        self.merpati("group", "add", "news@example.test", "o1@example.test", "Reader@far.test", "--name", "News")
        self.merpati("group", "owner", "add", "news@example.test", "o1@example.test", "o2@example.test")
        self.merpati("group", "owner", "remove", "news@example.test", "o2@example.test")
        self.merpati("group", "post", "news@example.test", "members")
        self.merpati("group", "sender", "add", "news@example.test", "o2@example.test", "@partner.test", "friend@far.test")
        self.merpati("group", "sender", "remove", "news@example.test", "friend@far.test")
        self.merpati("group", "hide", "news@example.test", "yes")
        self.assertEqual(self.json("group", "show", "news@example.test"),
                         {"address": "news@example.test", "name": "News", "post": "members", "senders": ["@partner.test", "o2@example.test"],
                          "owners": ["o1@example.test"], "members": ["o1@example.test", "reader@far.test"], "hidden": True})
        self.merpati("group", "remove-member", "news@example.test", "reader@far.test")
        self.assertEqual([m["address"] for m in self.json("group", "members", "news@example.test")], ["o1@example.test"])
        self.merpati("group", "post", "news@example.test", "nobody", status=USAGE)
        self.merpati("group", "hide", "news@example.test", "maybe", status=USAGE)
        self.assertIn("not a group", self.refused("group", "post", "o1@example.test", "anyone"))
        self.refused("group", "owner", "add", "news@example.test", "x@far.test")
        self.refused("group", "sender", "remove", "news@example.test", "x@far.test")
        self.assertIn("no account", self.refused("group", "add", "more@example.test", "nobody@example.test"))
        self.merpati("group", "remove", "news@example.test")

    def check_sharing(self):
        for name, kind in (("help", "shared"), ("ann", "person"), ("ben", "person")):
            self.merpati("account", "add", f"{name}@example.test", "--kind", kind)
        self.merpati("group", "add", "helpers@example.test", "ann@example.test")
        done = self.json("account", "share", "help@example.test", "--with", "helpers@example.test", "--rights", "lrsd")
        self.assertEqual((done["rights"], done["mailboxes"]), ("lrsted", 6))
        self.merpati("account", "share", "help@example.test", "--with", "-ben@example.test", "--rights", "w", "--mailbox", "Sent")
        self.assertEqual([(g["with"], g["rights"]) for g in self.json("account", "share", "help@example.test", "--list", "--mailbox", "Sent")],
                         [("-ben@example.test", "w"), ("helpers@example.test", "lrsted")])
        self.merpati("account", "share", "help@example.test", "--with", "anyone", "--rights", "lr", "--mailbox", "inbox")
        self.assertEqual(len(self.json("account", "share", "help@example.test", "--list")), 8)
        self.merpati("account", "unshare", "help@example.test", "--with", "helpers@example.test")
        self.merpati("account", "share", "help@example.test", "--with", "-ben@example.test", "--rights", "")
        self.assertEqual([(g["mailbox"], g["with"]) for g in self.json("account", "share", "help@example.test", "--list")],
                         [("INBOX", "anyone")])
        for args in (["nobody@example.test", "--with", "ann@example.test"], ["help@example.test", "--with", "nobody@example.test"],
                     ["help@example.test", "--with", "help@example.test"], ["helpers@example.test", "--with", "ann@example.test"],
                     ["help@example.test", "--with", "ann@example.test", "--mailbox", "None"]):
            self.refused("account", "share", *args, "--rights", "lr")
        self.merpati("account", "share", "help@example.test", "--rights", "lr", status=USAGE)
        self.merpati("account", "share", "help@example.test", "--with", "ann@example.test", status=USAGE)
        self.merpati("account", "share", "help@example.test", "--with", "ann@example.test", "--rights", "lrQ", status=USAGE)
        self.merpati("account", "unshare", "help@example.test", status=USAGE)

    def check_csv(self):
        rows = "address,name,password,kind,quota\r\n" + "".join(f'csv{i}@example.test,"Person, {i}",pw{i},,\r\n' for i in range(250))
        self.assertEqual(self.json("account", "add", "--from-csv", "-", input=rows), {"added": 250})
        self.assertEqual(self.json("account", "show", "csv249@example.test")["name"], "Person, 249")
        bad = "address,password\nok1@example.test,x\nok2@example.test,x\ncsv0@example.test,x\nnever@example.test,x\n"
        self.assertRegex(self.refused_once("account", "add", "--from-csv", "-", input=bad), r"line 4: .*taken.*\(2 before it were added\)")
        addresses = {a["address"] for a in self.json("account", "list")}
        self.assertLessEqual({"ok1@example.test", "ok2@example.test"}, addresses)
        self.assertNotIn("never@example.test", addresses)
        for text in ("", "name\nx\n", "address,frob\na@example.test,1\n", "address,password\na@example.test\n",
                     'address\n"a@example.test\n', "address,quota\na@example.test,lots\n", "address,kind\na@example.test,king\n"):
            self.merpati("account", "add", "--from-csv", "-", input=text, status=USAGE)
        self.merpati("account", "add", "--from-csv", "/no/such/file", status=REFUSED)

    def refused_once(self, *args, **kw):
        return self.json(*args, status=REFUSED, **kw)["reason"]

    def check_all(self):
        for check in (self.check_domains, self.check_accounts, self.check_removal_and_restoration, self.check_passwords,
                      self.check_aliases_groups_and_rooms, self.check_domain_settings, self.check_ways_of_mail,
                      self.check_groups_that_are_asked, self.check_sharing, self.check_csv):
            with self.subTest(check.__name__):
                check()


class RunningTest(Commands, ServerTest):
    accounts = ()

    def test_every_command_while_the_server_runs(self):
        self.check_all()

    def test_an_imported_person_logs_in_and_a_usage_shows_what_came(self):
        self.merpati("account", "add", "--from-csv", "-", input='address,password\nimp@example.test," spaces, and ""quotes"" "\n')
        with self.server.imap() as c:
            c.authenticate("PLAIN", lambda _: b'\0imp@example.test\0 spaces, and "quotes" ')
        self.server.deliver("imp@example.test", b"Subject: x\r\n\r\n" + b"y" * 5000 + b"\r\n")
        shown = self.json("account", "show", "imp@example.test")
        self.assertEqual(shown["messages"], 1)
        self.assertGreater(shown["used"], 5000)


class StoppedTest(Commands, unittest.TestCase):
    """No server at all: the commands start PostgreSQL for as long as they need it."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.remove)

    def test_every_command_while_no_server_runs(self):
        self.merpati("domain", "add", "example.test")
        self.check_domains()
        self.check_accounts()
        self.check_csv()
        self.assertFalse((self.server.data / "pg/postmaster.pid").exists())
        self.server.start()
        self.server.cli("account", "password", "csv0@example.test", "--password-stdin", input=PASSWORD + "\n")
        self.server.imap("csv0").logout()
        self.assertEqual(self.server.stop(), 0)
        self.assertEqual(self.json("account", "show", "csv1@example.test")["messages"], 0)

    def test_two_commands_at_once_take_turns(self):
        server = Server()
        self.addCleanup(server.remove)
        self.merpati("domain", "add", "example.test", server=server)
        started = [subprocess.Popen([server.binary, "account", "add", f"p{i}@example.test", "--data", str(server.data), "--config",
                                     str(server.config)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=server.env)
                   for i in range(4)]
        for process in started:
            out, err = process.communicate(timeout=120)
            self.assertEqual(process.returncode, DONE, out + err)
        self.assertEqual(len(self.json("account", "list", server=server)), 4)


class UsageTest(Commands, unittest.TestCase):
    """What needs neither server nor database."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.remove)

    def raw(self, *args, input=""):
        return subprocess.run([self.server.binary, *args], input=input, capture_output=True, text=True, timeout=120, env=self.server.env,
                              cwd=self.server.base)

    def test_help_names_every_command(self):
        for args in (["help"], ["--help"], ["-h"]):
            result = self.raw(*args)
            self.assertEqual((result.returncode, result.stderr), (DONE, ""))
            for words in ("merpati serve", "domain add", "account add", "alias add", "group add-member", "room add", "config print", "sieve check"):
                self.assertIn(words, result.stdout)
        self.assertNotIn("domain add", self.raw("help", "account").stdout)
        self.assertNotIn("domain add", self.raw("account", "--help").stdout)

    def test_wrong_use_exits_2_with_one_line(self):
        for args in (["frob"], ["account"], ["account", "frob"], ["account", "add", "--frob"], ["account", "show"], ["account", "list", "x"],
                     ["account", "show", "a@b", "c@d"], ["account", "add", "a@example.test", "--quota"], ["account", "add", "a@example.test", "--quota", "lots"],
                     ["account", "add", "a@example.test", "--kind", "king"], ["domain", "list", "--quota", "1G"], ["account", "add"],
                     ["account", "add", "a@example.test", "--from-csv", "-"], ["domain", "list", "--json=yes"], ["config", "check"],
                     ["domain", "list", "--set", "frob=1"], ["domain", "list", "--set", "workers"]):
            result = self.raw(*args)
            self.assertEqual(result.returncode, USAGE, args)
            self.assertEqual(result.stdout, "", args)
            self.assertRegex(result.stderr, r"\Amerpati: \S.{5,}\n\Z", args)
        self.assertEqual(self.raw().returncode, USAGE)
        self.assertIn("merpati serve", self.raw().stderr)
        self.assertFalse((self.server.base / "var").exists(), "a mistake made a data directory")

    def test_serve_usage(self):
        for args in (["--frob"], ["extra"], ["--port-offset", "x"], ["--port-offset", "70000"], ["--workers", "x"], ["--set", "frob=1"]):
            result = self.raw("serve", *args)
            self.assertEqual(result.returncode, USAGE, args)
            self.assertTrue(result.stderr.strip(), args)
            self.assertEqual(result.stdout, "")

    def test_json_errors_too(self):
        result = self.raw("account", "show", "--json")
        self.assertEqual(result.returncode, USAGE)
        self.assertEqual(set(json.loads(result.stdout)), {"error", "reason"})

    def test_options_may_stand_anywhere_and_end_at_two_dashes(self):
        a = self.raw("config", "print", "--set", "workers=3").stdout
        b = self.raw("--set=workers=3", "config", "print").stdout
        self.assertEqual(a, b)
        self.assertIn("\nworkers = 3\n", a)
        self.assertEqual(self.raw("config", "check", "--", "--no-such-file").returncode, REFUSED)

    # ---- settings ---------------------------------------------------------------------------------
    BROKEN = """# a file with many mistakes
hostname = mail.example.test
wokers = 2
smtp_size_max = 1K
tls_cert = /x
log_level = chatty
listen_smtp 127.0.0.1
hostname = again
imap_autologout = 10 minutes
login_plaintext_loopback = maybe
[unclosed
"""

    def test_all_mistakes_in_a_file_are_told_at_once_with_line_and_mend(self):
        path = self.server.base / "broken.conf"
        path.write_text(self.BROKEN)
        wanted = [(3, "workers"), (4, "smtp_size_max.*64K"), (6, "debug, info, warn or error"), (7, "did you mean listen_smtp"), (8, "line 2"),
                  (9, "imap_autologout"), (10, "yes or no"), (11, "section")]
        for args in (["config", "check", str(path)], ["domain", "list", "--config", str(path)], ["serve", "--config", str(path)]):
            result = self.raw(*args)
            self.assertIn(result.returncode, (REFUSED, USAGE), args)
            lines = [line for line in result.stderr.splitlines() if line.startswith(str(path) + ":")]
            self.assertEqual(len(lines), len(wanted), result.stderr)
            for line, (number, words) in zip(lines, wanted):
                self.assertRegex(line, rf":{number}: .*{words}")
        self.assertFalse((self.server.base / "var").exists())

    def test_every_command_and_serve_agree_about_the_status_of_a_broken_file(self):
        path = self.server.base / "bad.conf"
        path.write_text("frob = 1\n")
        statuses = {args: self.raw(*args, *more).returncode for args, more in
                    ((("domain", "list"), ["--config", str(path)]), (("serve",), ["--config", str(path)]))}
        self.assertEqual(len(set(statuses.values())), 1, statuses)

    def test_a_sieve_script_is_checked_without_a_server(self):
        path = self.server.base / "rules.sieve"
        path.write_text('require "fileinto";\nif header :contains "subject" "x" {\n  fileinto :copy "X";\n}\n')
        result = self.raw("sieve", "check", str(path))
        self.assertEqual(result.returncode, REFUSED)
        self.assertRegex(result.stdout, rf'\A{path}:3:12: ":copy" needs require \["copy"\]: .*\n\Z')
        answer = json.loads(self.raw("sieve", "check", "--json", str(path)).stdout)
        self.assertEqual((answer["is_right"], answer["line"], answer["column"]), (False, 3, 12))
        result = self.raw("sieve", "check", "-", input="keep;")
        self.assertEqual((result.returncode, result.stderr), (DONE, ""))

    def test_printed_settings_can_be_read_back(self):
        printed = self.raw("config", "print", "--set", "workers=5", "--set", "dns_override=mx.test. A 127.0.0.1; test. MX 10 mx.test.").stdout
        path = self.server.base / "printed.conf"
        path.write_text(printed)
        self.assertEqual(self.raw("config", "check", str(path)).returncode, DONE)
        self.assertEqual(self.raw("config", "print", "--config", str(path)).stdout, printed)
        settings = json.loads(self.raw("config", "print", "--json", "--config", str(path)).stdout)
        self.assertEqual((settings["workers"], settings["smtp_size_max"], settings["auth_limit"]), (5, 50 << 20, True))

    def test_the_manual_page_of_settings_is_the_one_in_docs(self):
        page = self.raw("config", "docs").stdout
        for name in settings_of_the_source():
            self.assertIn(f"| `{name}` |", page)
        written = ROOT / "docs/configuration.md"
        self.assertTrue(written.exists(), "run make docs")
        self.assertEqual(written.read_text(), page, "run make docs")


def settings_of_the_source():
    return re.findall(r"^OPTION\((\w+),", (ROOT / "server/run/config.def").read_text(), re.M)


class NoDatabaseTest(Commands, unittest.TestCase):
    def test_an_external_database_that_is_away_is_named_in_one_line(self):
        server = Server({"database": "postgresql://nobody@127.0.0.1:1/none"})
        self.addCleanup(server.remove)
        result = server.cli("domain", "list", check=False)
        self.assertEqual(result.returncode, REFUSED)
        self.assertRegex(result.stderr, r"(?m)^merpati: .*\n\Z")

    @unittest.skipUnless(os.geteuid() == 0, "needs root to become somebody else")
    def test_somebody_else_may_not_use_the_directory(self):
        server = Server()
        self.addCleanup(server.remove)
        server.cli("domain", "add", "example.test")
        binary = shutil.copy(server.binary, server.base)        # where it was built nobody may be able to look
        result = subprocess.run([binary, "domain", "list", "--data", str(server.data)], capture_output=True, text=True, timeout=120,
                                env=server.env, user="nobody", group="nogroup", extra_groups=[])
        self.assertEqual(result.returncode, REFUSED)
        self.assertRegex(result.stderr, r"\Amerpati: .*\n\Z")
        self.assertEqual(pathlib.Path(server.data).stat().st_mode & 0o077, 0)


if __name__ == "__main__":
    unittest.main()
