"""Mailboxes of others: NAMESPACE, ACL, LIST-MYRIGHTS, and the rights that every command asks for (RFC 4314)."""

import itertools
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest
import urllib.request

from harness import PASSWORD, ServerTest, eventually
from imap_wire import Session, one_per_worker, worker_of

ALL = "lrswipkxte"
MESSAGE = b"From: a@example.test\r\nSubject: shared\r\n\r\nA body.\r\n"
EVERY_FLAG = r"\Seen \Answered \Flagged \Deleted \Draft $Work"


def others(path, address="alice@example.test"):
    return f'"Other Users/{address}/{path}"'


def shared(path, address="support@example.test"):
    return f'"Shared/{address}/{path}"'


class SharingTest(ServerTest):
    accounts = ("alice", "bob", "carol", "dave")
    numbers = itertools.count(1)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.cli("account", "add", "support@example.test", "--kind", "shared")

    def setUp(self):
        self.alice, self.bob = self.session("alice"), self.session("bob")

    def session(self, user):
        s = Session(self.server, user)
        self.addCleanup(s.close)
        return s

    def box(self, rights="", with_whom="bob@example.test", messages=0, flags="", parent=""):
        """A new mailbox of alice's, on which somebody has these rights; its path."""
        path = f"{parent}box{next(self.numbers)}"
        self.alice.ok(f"CREATE {path}")
        for _ in range(messages):
            self.alice.append(path, MESSAGE, flags)
        self.grant(path, rights, with_whom)
        return path

    def grant(self, path, rights, with_whom="bob@example.test"):
        self.alice.ok(f'SETACL {path} {with_whom} "{rights}"')

    def myrights(self, session, name):
        (line,) = session.ok(f"MYRIGHTS {name}")
        return re.fullmatch(rb'\* MYRIGHTS "[^"]*" (\S+)\r\n', line).group(1).decode()

    def flags(self, session, mailbox):
        """Flags of each message, as its owner sees them."""
        session.ok(f"EXAMINE {mailbox}")
        rows = [re.search(rb"FLAGS \(([^)]*)\)", r) for r in session.ok("FETCH 1:* (FLAGS)")]
        session.ok("UNSELECT")
        return [set(r.group(1).decode().split()) for r in rows if r]

    def names(self, session, command='LIST "" *'):
        return [re.match(rb'\* L\w+ \(([^)]*)\) "/" "([^"]*)"', r).group(2, 1) for r in session.ok(command) if r.startswith((b"* LIST", b"* LSUB"))]


class AclCommandsTest(SharingTest):
    def test_the_namespaces_are_always_told(self):
        self.assertEqual(self.bob.ok("NAMESPACE"), [b'* NAMESPACE (("" "/")) (("Other Users/" "/")) (("Shared/" "/"))\r\n'])
        capabilities = self.bob.ok("CAPABILITY")[0].split()
        for capability in (b"ACL", b"RIGHTS=kxte", b"LIST-MYRIGHTS", b"NAMESPACE"):
            self.assertIn(capability, capabilities)

    def test_an_acl_is_set_changed_and_deleted(self):
        box = self.box("lrd")
        owner = b'* ACL "%s" "alice@example.test" lrswipkxtecda' % box.encode()
        acl = lambda: self.alice.ok(f"GETACL {box}")
        self.assertEqual(acl(), [owner + b' "bob@example.test" lrted\r\n'])
        self.alice.ok(f"SETACL {box} bob@example.test +wc")
        self.assertEqual(acl(), [owner + b' "bob@example.test" lrwkxtecd\r\n'])
        self.alice.ok(f"SETACL {box} bob@example.test -xed")
        self.assertEqual(acl(), [owner + b' "bob@example.test" lrwkc\r\n'])
        self.alice.ok(f"SETACL {box} anyone l")
        self.alice.ok(f"SETACL {box} authenticated +r")
        self.alice.ok(f"SETACL {box} -bob@example.test w")
        self.assertEqual(acl(), [owner + b' "bob@example.test" lrwkc "-bob@example.test" w "anyone" lr\r\n'])
        self.alice.ok(f"DELETEACL {box} bob@example.test")
        self.alice.ok(f"DELETEACL {box} carol@example.test")                # who has none
        self.assertEqual(acl(), [owner + b' "-bob@example.test" w "anyone" lr\r\n'])
        self.alice.ok(f'SETACL {box} anyone ""')
        self.alice.ok(f"DELETEACL {box} -bob@example.test")
        self.assertEqual(acl(), [owner + b"\r\n"])

    def test_identifiers_are_every_name_one_logs_in_by(self):
        self.server.cli("alias", "add", "bobby@example.test", "bob@example.test")
        box = self.box("l", "bobby@example.test")
        self.alice.ok(f'SETACL {box} "BOB@Example.Test" +r')
        self.alice.ok(f"SETACL {box} bob +s")
        self.assertEqual(self.myrights(self.bob, others(box)), "lrs")
        self.assertIn(b'"bob@example.test" lrs', self.alice.ok(f"GETACL {box}")[0])

    def test_wrong_arguments_are_told(self):
        box = self.box("lra")
        for command in ("SETACL", f"SETACL {box}", f"SETACL {box} bob", f"SETACL {box} bob lrq", f"SETACL {box} bob lrS",
                        f"SETACL {box} bob +", f'SETACL {box} "" lr', f'SETACL {box} "-" lr', f"SETACL {box} bob lr x",
                        f'SETACL {box} bob "l r"', f"SETACL {box} {{3+}}\r\nb\x01b lr", "GETACL", f"GETACL {box} x", f"DELETEACL {box}",
                        "DELETEACL", f"LISTRIGHTS {box}", f"LISTRIGHTS {box} bob x", "MYRIGHTS", f"MYRIGHTS {box} x"):
            if command.endswith("+"):
                self.alice.ok(command)                                      # adds nothing
            else:
                self.assertRegex(self.alice.refused(command), b"^BAD ", command)
        for identifier in ("nobody", "nobody@example.test", "x@elsewhere.test", "-nobody@example.test", "group:x"):
            for command in (f"SETACL {box} {identifier} lr", f"DELETEACL {box} {identifier}", f"LISTRIGHTS {box} {identifier}"):
                self.assertRegex(self.alice.refused(command), rb"^NO \[CANNOT\]")

    def test_the_owner_cannot_be_locked_out(self):
        box = self.box("lra")
        for command in (f'SETACL {box} alice@example.test ""', f"SETACL {box} alice l", f"DELETEACL {box} alice", f"SETACL {box} -alice lr"):
            self.assertRegex(self.alice.refused(command), rb"^NO \[CANNOT\]")
        self.assertRegex(self.bob.refused(f"SETACL {others(box)} -alice lr"), rb"^NO \[CANNOT\]")
        self.bob.ok(f"SETACL {others(box)} -anyone lrswipkxtea")
        self.assertEqual(self.myrights(self.alice, box), "lrswipkxtecda")
        self.assertRegex(self.bob.refused(f"MYRIGHTS {others(box)}"), rb"^NO \[NONEXISTENT\]")
        self.assertEqual(self.alice.ok(f"LISTRIGHTS {box} alice"), [b'* LISTRIGHTS "%s" "alice" lrswipkxtecda\r\n' % box.encode()])

    def test_listrights_repeats_the_identifier(self):
        box = self.box("la")
        for identifier in ("bob", "BOB@example.test", "anyone", "-carol"):
            self.assertEqual(self.alice.ok(f"LISTRIGHTS {box} {identifier}"),
                             [b'* LISTRIGHTS "%s" "%s" "" l r s w i p k x t e c d a\r\n' % (box.encode(), identifier.encode())])
        self.assertEqual(self.bob.ok(f"LISTRIGHTS {others(box)} alice"),
                         [b"* LISTRIGHTS %s \"alice\" lrswipkxtecda\r\n" % others(box).encode()])

    def test_an_administrator_shares_on(self):
        box = self.box("lra")
        carol = self.session("carol")
        self.bob.ok(f"SETACL {others(box)} carol@example.test lr")
        self.assertEqual(self.myrights(carol, others(box)), "lr")
        self.assertEqual(self.bob.ok(f"GETACL {others(box)}"),
                         [b'* ACL %s "alice@example.test" lrswipkxtecda "bob@example.test" lra "carol@example.test" lr\r\n' % others(box).encode()])
        self.assertRegex(carol.refused(f"SETACL {others(box)} carol@example.test lra"), rb"^NO \[NOPERM\]")
        self.bob.ok(f"SETACL {others(box)} bob@example.test -a")            # of one's own, too
        self.assertRegex(self.bob.refused(f"SETACL {others(box)} bob@example.test +a"), rb"^NO \[NOPERM\]")

    def test_too_many_grants_are_refused(self):
        rows = "address,kind\n" + "".join(f"many{i}@example.test,shared\n" for i in range(501))
        self.server.cli("account", "add", "--from-csv", "-", input=rows)
        box = self.box()
        for i in range(500):
            self.alice.ok(f"SETACL {box} many{i}@example.test l")
        self.assertRegex(self.alice.refused(f"SETACL {box} many500@example.test l"), rb"^NO \[LIMIT\]")

    def test_imaplib_sets_and_reads_acls(self):
        with self.server.imap("alice") as c:
            c.create("lib")
            self.assertEqual(c.setacl("lib", "bob@example.test", "lrs")[0], "OK")
            self.assertEqual(c.getacl("lib")[1], [b'"lib" "alice@example.test" lrswipkxtecda "bob@example.test" lrs'])
            self.assertEqual(c.deleteacl("lib", "bob@example.test")[0], "OK")
            self.assertEqual(c.myrights("lib")[1], [b'"lib" lrswipkxtecda'])
            self.assertEqual(c.namespace()[1], [b'(("" "/")) (("Other Users/" "/")) (("Shared/" "/"))'])


class WhoHasRightsTest(SharingTest):
    def test_rights_of_user_groups_and_anyone_add_up_less_the_negative_ones(self):
        for args in (["add", "inner@example.test", "bob@example.test"], ["add", "outer@example.test", "inner@example.test", "carol@example.test"],
                     ["add", "ring@example.test", "inner@example.test"], ["add-member", "inner@example.test", "ring@example.test"]):
            self.server.cli("group", *args)
        box = self.box("l")
        carol, dave = self.session("carol"), self.session("dave")
        steps = (("inner@example.test", "r", "lr", None, None), ("outer@example.test", "ls", "lrs", "ls", None),
                 ("anyone", "rw", "lrsw", "lrsw", "rw"), ("-carol@example.test", "s", "lrsw", "lrw", "rw"),
                 ("-outer@example.test", "w", "lrs", "lr", "rw"), ("-anyone", "l", "rs", "r", "rw"),
                 ("dave@example.test", "s", "rs", "r", "rsw"), ("anyone", "", "rs", None, None))
        for identifier, rights, of_bob, of_carol, of_dave in steps:
            self.grant(box, rights, identifier)
            for session, expected in ((self.bob, of_bob), (carol, of_carol), (dave, of_dave)):
                with self.subTest(f"{identifier} {rights}: {expected}"):
                    if expected is None:
                        self.assertRegex(session.refused(f"MYRIGHTS {others(box)}"), rb"^NO \[NONEXISTENT\]")
                    else:
                        self.assertEqual(self.myrights(session, others(box)), expected)
        self.server.cli("group", "remove-member", "inner@example.test", "bob@example.test")
        self.assertRegex(self.bob.refused(f"MYRIGHTS {others(box)}"), rb"^NO \[NONEXISTENT\]")

    def test_a_mailbox_takes_the_grants_of_the_one_above_and_keeps_them(self):
        top = self.box("lrk")
        self.grant(top, "l", "-carol@example.test")
        self.alice.ok(f"CREATE {top}/a/b")
        acl = self.alice.ok(f"GETACL {top}")[0].split(b" ", 3)[3]
        self.assertEqual(self.alice.ok(f"GETACL {top}/a/b")[0].split(b" ", 3)[3], acl)
        self.grant(f"{top}/a/b", "lrw")
        self.alice.ok(f"RENAME {top}/a {top}x")
        self.assertEqual(self.myrights(self.bob, others(f"{top}x")), "lrkc")
        self.assertEqual(self.myrights(self.bob, others(f"{top}x/b")), "lrw")
        self.alice.ok(f"DELETE {top}x/b")
        self.alice.ok(f"CREATE {top}x/b")                                   # another mailbox of that name
        self.assertEqual(self.myrights(self.bob, others(f"{top}x/b")), "lrkc")
        self.alice.ok("CREATE alone")
        self.assertEqual(len(self.alice.ok("GETACL alone")[0].split()), 5)

    def test_a_shared_account_is_found_below_its_own_namespace(self):
        self.server.cli("account", "share", "support@example.test", "--with", "bob@example.test", "--rights", ALL)
        names = dict(self.names(self.bob))
        self.assertIn(b"Shared/support@example.test/INBOX", names)
        self.assertEqual(names[b"Shared/support@example.test"], rb"\NonExistent \Noselect \HasChildren")
        self.assertEqual(names[b"Shared/support@example.test/Sent"], rb"\HasNoChildren")   # the use of \Sent is not bob's
        self.bob.ok(f"CREATE {shared('Tickets')}")                          # takes INBOX's grants
        self.bob.ok(f"SELECT {shared('Tickets')}")
        self.assertRegex(self.bob.refused(f"SELECT {others('INBOX', 'support@example.test')}"), rb"^NO \[NONEXISTENT\]")
        self.assertRegex(self.session("carol").refused(f"SELECT {shared('Tickets')}"), rb"^NO \[NONEXISTENT\]")
        self.server.cli("account", "unshare", "support@example.test", "--with", "bob@example.test")
        self.assertNotIn(b"Shared", dict(self.names(self.bob)))

    def test_a_removed_account_takes_its_mailboxes_along(self):
        self.server.add_accounts("leaver")
        with self.server.imap("leaver") as c:
            c.setacl("INBOX", "bob", "lr")
        self.bob.ok(f"SELECT {others('INBOX', 'leaver@example.test')}")
        number = self.server.cli_json("account", "remove", "leaver@example.test")["account_id"]
        other = self.session("bob")
        self.assertRegex(other.refused(f"SELECT {others('INBOX', 'leaver@example.test')}"), rb"^NO \[NONEXISTENT\]")
        self.assertTrue(eventually(lambda: self.bob.command("FETCH 1:* FLAGS")[1].startswith(b"NO [NONEXISTENT]")))
        self.assertNotIn(b"Other Users/leaver@example.test/INBOX", dict(self.names(self.bob)))
        self.server.cli("account", "restore", str(number))
        self.bob.ok(f"SELECT {others('INBOX', 'leaver@example.test')}")

    def test_an_address_that_cannot_be_a_level_is_spelled_otherwise(self):
        self.server.cli("account", "add", "a/b=c*d@example.test", "--kind", "shared")
        self.server.cli("account", "share", "a/b=c*d@example.test", "--with", "bob", "--rights", "lr", "--mailbox", "INBOX")
        name = 'Shared/a=2Fb=3Dc=2Ad@example.test/INBOX'
        self.assertIn(name.encode(), dict(self.names(self.bob)))
        self.bob.ok(f'SELECT "{name}"')
        for wrong in ("Shared/a/b=3Dc=2Ad@example.test/INBOX", "Shared/a=2@example.test/INBOX", "Shared/a=@example.test/INBOX"):
            self.assertRegex(self.bob.refused(f'SELECT "{wrong}"'), rb"^NO \[NONEXISTENT\]")


# What each command needs: {box} is the mailbox of the rights, {above} and {below} what is around it.
NEEDS = (
    ("SELECT {box}", "r"), ("EXAMINE {box}", "r"), ("STATUS {box} (MESSAGES)", "r"), ("APPEND {box} {{3+}}\r\nx\r\n", "i"),
    ("CREATE {below}", "k"), ("DELETE {box}", "x"), ("SUBSCRIBE {box}", "l"), ("GETACL {box}", "a"), ("SETACL {box} carol l", "a"),
    ("DELETEACL {box} carol", "a"), ("LISTRIGHTS {box} carol", "a"),
)
# The same with the mailbox selected, which takes "r"; {own} is bob's.
NEEDS_SELECTED = (
    ("EXPUNGE", "e"), ("UID EXPUNGE 1", "e"), (r"STORE 1 +FLAGS (\Seen)", "s"), (r"STORE 1 -FLAGS.SILENT (\Deleted)", "t"),
    (r"UID STORE 1 +FLAGS (\Flagged)", "w"), ("STORE 1 +FLAGS ($Work)", "w"), (r"STORE 1 FLAGS (\Answered)", "w"),
    (r"STORE 1 +FLAGS (\Draft $Work)", "w"),
)


class RightsTest(SharingTest):
    def refusal(self, command, code):
        self.assertRegex(self.bob.refused(command), rb"^NO \[%s\] " % code, command)

    def test_each_command_needs_its_right_and_no_other(self):
        for command, right in NEEDS:
            with self.subTest(command):
                box = self.box(right)
                text = command.format(box=others(box), below=others(box + "/below"))
                self.bob.ok(text)
                box = self.box((ALL + "a").replace(right, ""))
                text = command.format(box=others(box), below=others(box + "/below"))
                self.refusal(text, b"NOPERM")
                box = self.box("")
                text = command.format(box=others(box), below=others(box + "/below"))
                self.refusal(text, b"CANNOT" if command.startswith("CREATE") else b"NONEXISTENT")

    def test_each_command_on_the_selected_mailbox_needs_its_right_and_no_other(self):
        for command, right in NEEDS_SELECTED:
            with self.subTest(command):
                self.bob.ok(f"SELECT {others(self.box('r' + right, messages=1))}")
                self.bob.ok(command)
                self.bob.ok(f"SELECT {others(self.box(ALL.replace(right, ''), messages=1))}")
                self.refusal(command, b"NOPERM")
                self.bob.ok(f"EXAMINE {others(self.box(ALL, messages=1))}")
                self.refusal(command, b"READ-ONLY")

    def test_myrights_needs_any_of_the_rights_that_show_a_mailbox(self):
        for right in ALL + "a":
            box = self.box(right)
            with self.subTest(right):
                if right in "lrikxa":
                    self.assertEqual(self.myrights(self.bob, others(box)).strip("cd"), right)
                else:
                    self.refusal(f"MYRIGHTS {others(box)}", b"NONEXISTENT")

    def test_copy_and_move_need_insert_where_they_lead_and_move_deleting_where_they_come_from(self):
        self.bob.ok("CREATE target")
        for verb, needed in (("COPY", ""), ("MOVE", "te")):
            with self.subTest(verb):
                self.bob.ok(f"SELECT {others(self.box('r' + needed, messages=1))}")
                self.bob.ok(f"{verb} 1 target")
                for missing in needed:
                    self.bob.ok(f"SELECT {others(self.box(ALL.replace(missing, ''), messages=1))}")
                    self.refusal(f"{verb} 1 target", b"NOPERM")
                self.bob.append("target", MESSAGE)
                self.bob.ok("SELECT target")
                self.bob.ok(f"{verb} 1 {others(self.box('i'))}")
                self.bob.append("target", MESSAGE)
                self.refusal(f"{verb} 1 {others(self.box(ALL.replace('i', '')))}", b"NOPERM")
                self.refusal(f"{verb} 1 {others(self.box(''))}", b"NONEXISTENT")
                self.refusal(f"{verb} 1 {others(self.box('k') + 'x')}".replace('"x', 'x"'), b"NONEXISTENT")
                below = others(self.box("lk") + "/none")
                self.refusal(f"{verb} 1 {below}", b"TRYCREATE")

    def test_rename_needs_the_right_to_remove_and_to_create(self):
        above = self.box("lk")
        self.alice.ok(f"CREATE {above}/old")
        self.grant(f"{above}/old", "x")
        self.bob.ok(f"RENAME {others(above + '/old')} {others(above + '/new')}")
        self.grant(f"{above}/new", "lrk")
        self.refusal(f"RENAME {others(above + '/new')} {others(above + '/newer')}", b"NOPERM")
        self.grant(f"{above}/new", "lrkx")
        self.grant(above, "lrx")
        self.refusal(f"RENAME {others(above + '/new')} {others(above + '/newer')}", b"NOPERM")
        self.grant(above, "")
        self.refusal(f"RENAME {others(above + '/new')} {others(above + '/newer')}", b"CANNOT")
        self.refusal(f"RENAME {others(above + '/new')} {others('top')}", b"CANNOT")
        self.refusal(f"RENAME {others(above + '/new')} mine", b"CANNOT")
        self.refusal(f"RENAME mine {others('top')}", b"CANNOT")
        self.assertIn(f"{above}/new".encode(), dict(self.names(self.alice)))

    def test_only_flags_that_a_right_covers_are_stored(self):
        for rights, kept in (("i", set()), ("is", {r"\Seen"}), ("it", {r"\Deleted"}), ("iw", {r"\Answered", r"\Flagged", r"\Draft", "$Work"}),
                             ("isw", {r"\Seen", r"\Answered", r"\Flagged", r"\Draft", "$Work"}), ("istw", set(EVERY_FLAG.split()))):
            with self.subTest(rights):
                box = self.box("r" + rights)
                self.bob.append(others(box), MESSAGE, EVERY_FLAG)
                self.bob.ok("CREATE flagged")
                for _ in range(2):
                    self.bob.append("flagged", MESSAGE, EVERY_FLAG)
                self.bob.ok("SELECT flagged")
                self.bob.ok(f"COPY 1 {others(box)}")
                self.bob.ok(f"MOVE 2 {others(box)}")
                self.bob.ok("UNSELECT")
                self.bob.ok("DELETE flagged")
                self.assertEqual(self.flags(self.bob, others(box)), [kept] * 3)

    def test_store_changes_what_it_may_and_tells_what_came_of_it(self):
        for rights, command, before, after in (
                ("rs", r"+FLAGS (\Seen \Flagged $Work)", r"\Answered", r"\Answered \Seen"),
                ("rt", r"FLAGS (\Deleted)", r"\Answered $Work", r"\Answered $Work \Deleted"),
                ("rt", r"FLAGS ()", r"\Answered \Deleted", r"\Answered"),
                ("rw", r"FLAGS (\Flagged \Deleted)", r"\Answered $Work", r"\Flagged"),
                ("rw", r"FLAGS (\Flagged)", r"\Deleted", r"\Flagged \Deleted"),
                ("rw", r"-FLAGS (\Deleted $Work)", r"\Deleted $Work", r"\Deleted"),
                ("rsw", r"+FLAGS.SILENT (\Flagged \Deleted)", r"", r"\Flagged")):
            with self.subTest(f"{rights} {command}"):
                box = self.box(rights, messages=1, flags=before)
                self.bob.ok(f"SELECT {others(box)}")
                told = self.bob.ok(f"STORE 1 {command}")
                self.assertEqual(set(re.search(rb"FLAGS \(([^)]*)\)", told[-1]).group(1).decode().split()), set(after.split()))
                self.assertEqual(self.flags(self.bob, others(box)), [set(after.split())])

    def test_permanentflags_and_read_only_follow_the_rights(self):
        for rights, flags, code in (("r", b"", b"READ-ONLY"), ("rs", rb"\Seen", b"READ-ONLY"), ("rt", rb"\Deleted", b"READ-WRITE"),
                                    ("ri", b"", b"READ-WRITE"), ("re", b"", b"READ-WRITE"), ("rst", rb"\Deleted \Seen", b"READ-WRITE"),
                                    ("rw", rb"\Answered \Flagged \Draft \*", b"READ-WRITE"),
                                    ("rwst", rb"\Answered \Flagged \Deleted \Seen \Draft \*", b"READ-WRITE")):
            with self.subTest(rights):
                untagged, answer = self.bob.command(f"SELECT {others(self.box(rights))}")
                self.assertTrue(answer.startswith(b"OK [%s]" % code), answer)
                self.assertIn(b"* OK [PERMANENTFLAGS (%s)]" % flags, b"".join(untagged))

    def test_fetch_sets_seen_only_with_the_right_to(self):
        for rights, is_seen in (("r", False), ("rw", False), ("rs", True)):
            with self.subTest(rights):
                box = self.box(rights, messages=1)
                self.bob.ok(f"SELECT {others(box)}")
                self.assertIn(b"A body.", b"".join(self.bob.ok("FETCH 1 BODY[]")))
                self.assertEqual(self.flags(self.bob, others(box)), [{r"\Seen"} if is_seen else set()])

    def test_close_without_the_right_to_expunge_keeps_everything(self):
        for rights, left in (("rt", 1), ("rte", 0)):
            box = self.box(rights, messages=1, flags=r"\Deleted")
            self.bob.ok(f"SELECT {others(box)}")
            self.bob.ok("CLOSE")
            self.assertEqual(self.alice.ok(f"STATUS {box} (MESSAGES)"), [b'* STATUS "%s" (MESSAGES %d)\r\n' % (box.encode(), left)])

    def test_special_uses_are_the_owners(self):
        self.assertRegex(self.bob.refused(f"CREATE {others(self.box(ALL) + '/x')} (USE (\\Junk))"), rb"^NO \[USEATTR\]")

    def test_unsubscribe_needs_nothing(self):
        box = self.box("l")
        self.bob.ok(f"SUBSCRIBE {others(box)}")
        self.assertIn(others(box).strip('"').encode(), dict(self.names(self.bob, 'LSUB "" *')))
        self.grant(box, "")
        self.assertRegex(self.bob.refused(f"SUBSCRIBE {others(box)}"), rb"^NO \[NONEXISTENT\]")
        self.bob.ok(f"UNSUBSCRIBE {others(box)}")
        self.assertNotIn(others(box).strip('"').encode(), dict(self.names(self.bob, 'LSUB "" *')))


class ListingTest(SharingTest):
    def mine(self, session, command):
        return [(name.decode(), attributes.decode()) for name, attributes in self.names(session, command) if name.startswith((b"Other", b"Shared"))]

    def test_a_granted_mailbox_appears_by_itself_with_what_is_above_it(self):
        carol = self.session("carol")
        top = self.box("")
        self.alice.ok(f"CREATE {top}/hidden/seen")
        self.alice.ok(f"CREATE {top}/hidden/seen/below")
        self.alice.ok(f"CREATE {top}/other")
        root = "Other Users/alice@example.test"
        self.assertEqual(self.mine(carol, 'LIST "" *'), [])
        self.grant(f"{top}/hidden/seen", "lr", "carol@example.test")
        none = r"\NonExistent \Noselect \HasChildren"
        seen = (f"{root}/{top}/hidden/seen", r"\HasNoChildren")
        above = [("Other Users", none), (root, none), (f"{root}/{top}", none), (f"{root}/{top}/hidden", none)]
        self.assertEqual(self.mine(carol, 'LIST "" *'), above + [seen])
        self.assertEqual(self.mine(carol, 'LIST "" %'), above[:1])
        self.assertEqual(self.mine(carol, 'LIST "" "Other Users/%"'), above[1:2])
        self.assertEqual(self.mine(carol, f'LIST "{root}/" %/%/%'), [seen])
        self.assertEqual(self.mine(carol, f'LIST "" ("{root}/{top}" "*seen")'), [above[2], seen])
        self.assertEqual(self.mine(carol, f'LIST "" "{root}/{top}/hidden/seen/%"'), [])
        self.assertEqual(carol.ok('LIST "Other Users/" ""'), [b'* LIST (\\Noselect) "/" "Other Users/"\r\n'])
        self.grant(f"{top}/hidden/seen/below", "l", "carol@example.test")
        self.assertEqual(self.mine(carol, f'LIST "" "{root}/{top}/hidden/seen*"'),
                         [(seen[0], r"\HasChildren"), (seen[0] + "/below", r"\Noselect \HasNoChildren")])

    def test_what_is_asked_for_beside_the_names_keeps_to_the_rights(self):
        readable, listed, rights = self.box("lrs", messages=2), self.box("l", messages=2), self.box("lkta")
        asked = f'LIST "" ({others(readable)} {others(listed)} {others(rights)} "Other Users") RETURN (STATUS (MESSAGES) MYRIGHTS)'
        told = b"".join(self.bob.ok(asked))
        name = lambda box: others(box).encode()
        self.assertIn(b"* STATUS %s (MESSAGES 2)\r\n* MYRIGHTS %s lrs\r\n" % (name(readable), name(readable)), told)
        self.assertIn(b'* LIST (\\Noselect \\HasNoChildren) "/" %s\r\n* MYRIGHTS %s l\r\n' % (name(listed), name(listed)), told)
        self.assertIn(b"* MYRIGHTS %s lktcda\r\n" % name(rights), told)
        self.assertEqual((told.count(b"* STATUS"), told.count(b"* MYRIGHTS"), told.count(b"* LIST")), (1, 3, 4))
        self.assertEqual(self.bob.ok('LIST "" INBOX RETURN (MYRIGHTS)'),
                         [b'* LIST (\\HasNoChildren) "/" "INBOX"\r\n', b'* MYRIGHTS "INBOX" lrswipkxtecda\r\n'])

    def test_subscriptions_lead_into_other_accounts(self):
        dave = self.session("dave")
        box = self.box("lr", "dave@example.test")
        dave.ok(f"SUBSCRIBE {others(box)}")
        full = f"Other Users/alice@example.test/{box}"
        self.assertEqual(self.mine(dave, 'LIST (SUBSCRIBED) "" *'), [(full, r"\HasNoChildren \Subscribed")])
        self.assertIn((full, r"\HasNoChildren \Subscribed"), self.mine(dave, 'LIST "" * RETURN (SUBSCRIBED)'))
        self.assertEqual(self.mine(dave, 'LSUB "" *'), [(full, "")])
        self.assertEqual(self.mine(dave, 'LSUB "" %'), [("Other Users", r"\Noselect")])
        recursive = dave.ok('LIST (SUBSCRIBED RECURSIVEMATCH) "" "Other Users" RETURN (MYRIGHTS)')
        self.assertEqual(recursive, [b'* LIST (\\NonExistent \\Noselect \\HasChildren) "/" "Other Users" ("CHILDINFO" ("SUBSCRIBED"))\r\n'])

    def test_however_long_or_deep_another_s_mailbox_is_it_can_be_subscribed(self):
        carol = self.session("carol")
        for path in ("/".join(["deep"] * 50), "/".join(["n" * 190] * 5)):
            self.alice.ok(f"CREATE {path}")
            self.grant(path, "lr", "carol@example.test")
            carol.ok(f"SUBSCRIBE {others(path)}")
            self.assertIn(f"Other Users/alice@example.test/{path}", [n for n, _ in self.mine(carol, 'LSUB "" *')])
            carol.ok(f"UNSUBSCRIBE {others(path)}")
            self.assertEqual([n for n, _ in self.mine(carol, 'LSUB "" *') if n.endswith(path)], [])

    def test_the_names_are_kept_free(self):
        for name in ("Shared", '"Shared/x"', '"Other Users"', '"Other Users/x"', '"Other Users/alice@example.test"'):
            self.assertRegex(self.bob.refused(f"CREATE {name}"), rb"^NO \[CANNOT\]")
            self.assertRegex(self.bob.refused(f"RENAME Sent {name}"), rb"^NO \[CANNOT\]")
            self.assertRegex(self.bob.refused(f"SELECT {name}"), rb"^NO \[NONEXISTENT\]")
        self.bob.ok("CREATE Shared2")
        self.bob.ok('CREATE "other users"')

    def test_rev2_clients_are_told_the_whole_name(self):
        box = self.box("lr")
        self.bob.ok("ENABLE IMAP4rev2")
        self.assertIn(b'* LIST () "/" %s\r\n' % others(box).encode(), self.bob.ok(f"SELECT {others(box)}"))

    def test_ones_own_name_among_others_is_ones_own_mailbox(self):
        self.bob.ok(f"SELECT {others('INBOX', 'bob@example.test')}")
        self.assertEqual(self.bob.ok(f"STATUS {others('INBOX', 'bob@example.test')} (UIDVALIDITY)")[0].split()[2], b'"INBOX"')


class SecrecyTest(SharingTest):
    """What somebody may not know answers as what does not exist, to the letter."""

    def assert_alike(self, session, command, *names):
        answers = {name: session.command(command.format(name=name)) for name in names}
        first = answers[names[0]]
        for name, answer in answers.items():
            self.assertEqual(answer, first, f"{command}: {name}")
        self.assertTrue(first[1].startswith((b"NO ", b"OK ")), first)
        return first[1]

    COMMANDS = ("SELECT {name}", "EXAMINE {name}", "STATUS {name} (MESSAGES UNSEEN)", "DELETE {name}", "RENAME {name} mine", "RENAME Sent {name}",
                "SUBSCRIBE {name}", "UNSUBSCRIBE {name}", "GETACL {name}", "SETACL {name} bob lr", "SETACL {name} nobody lr",
                "DELETEACL {name} bob", "LISTRIGHTS {name} bob", "MYRIGHTS {name}", "APPEND {name} {{3+}}\r\nx\r\n", "CREATE {name}",
                'LIST "" {name} RETURN (STATUS (MESSAGES) MYRIGHTS)', 'LSUB "" {name}')

    def test_mailboxes_and_accounts_that_are_hidden_answer_as_if_there_were_none(self):
        carol = self.session("carol")
        hidden = self.box("lrswipkxtea", "dave@example.test", messages=1)
        names = (others(hidden), others("none"), others(f"{hidden}/x"), others("INBOX", "nobody@example.test"), others("INBOX", "support@example.test"),
                 shared("INBOX"), shared("INBOX", "alice@example.test"), others("INBOX", "not an address"))
        for command in self.COMMANDS:
            with self.subTest(command):
                self.assert_alike(carol, command, *names)

    def test_neither_does_a_grant_elsewhere_in_the_account_show_them(self):
        self.box("lrswi")
        hidden = self.box("swpte", messages=1)
        for command in self.COMMANDS:
            with self.subTest(command):
                self.assert_alike(self.bob, command, others(hidden), others("none"), others(f"{hidden}/x"), others("INBOX", "nobody@example.test"))

    def test_copy_and_move_show_nothing_either(self):
        self.box("lrk")
        hidden = self.box("swpte")
        self.bob.append("INBOX", MESSAGE)
        self.bob.ok("SELECT INBOX")
        for verb in ("COPY", "MOVE", "UID COPY", "UID MOVE"):
            answer = self.assert_alike(self.bob, verb + " 1 {name}", others(hidden), others("none"), others("INBOX", "nobody@example.test"))
            self.assertTrue(answer.startswith(b"NO [NONEXISTENT]"))

    def test_creating_over_a_hidden_mailbox_does_not_show_it(self):
        top = self.box("lk")
        self.alice.ok(f"CREATE {top}/hidden")
        self.grant(f"{top}/hidden", "")
        self.assertRegex(self.bob.refused(f"CREATE {others(top + '/hidden')}"), rb"^NO \[CANNOT\] no mailbox can be made there")
        self.grant(f"{top}/hidden", "l")
        self.assertRegex(self.bob.refused(f"CREATE {others(top + '/hidden')}"), rb"^NO \[ALREADYEXISTS\]")


    def test_removing_what_hides_mailboxes_below_does_not_show_them(self):
        top = self.box("lkx")
        self.alice.ok(f"CREATE {top}/hidden")
        self.grant(f"{top}/hidden", "r")
        self.assertRegex(self.bob.refused(f"DELETE {others(top)}"), rb"^NO \[CANNOT\] this mailbox cannot be removed$")
        self.grant(f"{top}/hidden", "l")
        self.assertRegex(self.bob.refused(f"DELETE {others(top)}"), rb"^NO \[HASCHILDREN\]")
        self.alice.ok(f"DELETE {top}/hidden")
        self.bob.ok(f"DELETE {others(top)}")


class ExtensionsTest(SharingTest):
    """What other extensions make of mailboxes of others."""

    def test_their_names_are_told_whole(self):
        box = self.box("lrswi")
        name = others(box).encode()
        self.assertTrue(self.bob.ok(f"GETQUOTAROOT {others(box)}")[0].startswith(b'* QUOTAROOT %s "alice@example.test"' % name))
        self.bob.ok(f'SETMETADATA {others(box)} (/private/comment "mine" /shared/comment "ours")')
        self.assertIn(name, self.bob.ok(f"GETMETADATA {others(box)} /shared/comment")[0])
        self.assertIn(b'"ours"', self.alice.ok(f"GETMETADATA {box} /shared/comment")[0])
        self.assertNotIn(b"mine", b"".join(self.alice.ok(f"GETMETADATA {box} /private/comment")))
        told = b"".join(self.bob.ok(f'LIST "" {others(box)} RETURN (METADATA (/shared/comment))'))
        self.assertIn(b"* METADATA " + name, told)

    def test_rights_taken_away_while_a_message_comes_count(self):
        for command, rights, left in (("APPEND", "lri", "lr"), ("REPLACE 1", "lrite", "lrti"), ("REPLACE 1", "lrite", "lrte"),
                                      ("REPLACE 1", "lrite", "")):
            with self.subTest(command=command, left=left):
                box = self.box(rights, messages=1)
                self.bob.ok(f"SELECT {others(box)}")
                self.bob.send(f"slow {command} {others(box)} {{{len(MESSAGE)}}}\r\n")
                self.assertTrue(self.bob.line().startswith(b"+"))
                self.alice.ok(f'SETACL {box} bob@example.test "{left}"')
                self.bob.send(MESSAGE + b"\r\n")
                self.assertRegex(self.bob.finish(b"slow")[1], rb"^NO \[(NOPERM|NONEXISTENT|READ-ONLY)\] ")
                self.assertIn(b"(MESSAGES 1)", b"".join(self.alice.ok(f"STATUS {box} (MESSAGES)")))

    def test_replace_needs_the_rights_of_append_and_of_expunge(self):
        for rights, code in (("rite", None), ("rit", rb"NOPERM"), ("rie", rb"NOPERM"), ("rte", rb"NOPERM")):
            with self.subTest(rights):
                box = self.box(rights, messages=1)
                self.bob.ok(f"SELECT {others(box)}")
                command = b"REPLACE 1 %s {%d+}\r\n" % (others(box).encode(), len(MESSAGE)) + MESSAGE
                if code is None:
                    self.bob.ok(command)
                else:
                    self.assertRegex(self.bob.refused(command), rb"^NO \[%s\]" % code)

    def test_catenate_reads_only_where_the_user_may(self):
        readable, hidden = self.box("lr", messages=1), self.box("", messages=1)
        self.bob.ok("CREATE joined")

        def append(box):
            return self.bob.command("APPEND joined CATENATE (TEXT {19+}\r\nSubject: joined\r\n\r\n "
                                    f'URL "/Other%20Users/alice%40example.test/{box}/;UID=1/;SECTION=TEXT")')[1]

        self.assertRegex(append(hidden), rb"^NO \[BADURL")
        self.assertEqual(append("none").replace(b"none", hidden.encode()), append(hidden))
        self.assertRegex(append(readable), rb"^OK ")


class ChangingTest(SharingTest):
    def test_rights_taken_away_count_from_the_next_command_on(self):
        box = self.box("lrswite", messages=2)
        self.bob.ok(f"SELECT {others(box)}")
        self.grant(box, "lrs")
        told = []
        self.assertTrue(eventually(lambda: told.extend(self.bob.ok("NOOP")) or b"PERMANENTFLAGS" in b"".join(told)))
        self.assertIn(rb"* OK [PERMANENTFLAGS (\Seen)]", b"".join(told))
        self.assertIn(b"* OK [READ-ONLY]", b"".join(told))
        self.assertRegex(self.bob.refused("EXPUNGE"), rb"^NO \[NOPERM\]")
        self.grant(box, "lrswite")
        self.assertTrue(eventually(lambda: b"* OK [READ-WRITE]" in b"".join(self.bob.ok("NOOP"))))
        self.bob.ok("EXPUNGE")

    def test_without_the_right_to_read_the_mailbox_is_gone(self):
        sessions = one_per_worker(self.server, lambda: Session(self.server, "bob"))
        for session in sessions.values():
            self.addCleanup(session.close)
        near = sessions[worker_of(self.server, self.alice.sock)]            # its worker knows at once
        for command in ("FETCH 1 BODY[]", "STORE 1 +FLAGS (\\Seen)", "EXPUNGE", "SEARCH ALL", "COPY 1 INBOX", "MOVE 1 INBOX"):
            with self.subTest(command):
                box = self.box("lrswite", messages=1)
                near.ok(f"SELECT {others(box)}")
                near.ok("NOOP")
                self.grant(box, "lswite")
                untagged, answer = near.command(command)
                self.assertRegex(answer, rb"^NO \[NONEXISTENT\]")
                self.assertEqual(len(untagged), 1)
                self.assertRegex(untagged[0], rb"^\* OK \[CLOSED\]")
                self.assertRegex(near.refused(command), b"^BAD ")

    def test_commands_that_need_no_mailbox_go_on_when_it_is_gone(self):
        box = self.box("lr", messages=1)
        self.bob.ok(f"SELECT {others(box)}")
        self.grant(box, "")
        told = []
        self.assertTrue(eventually(lambda: told.extend(self.bob.ok("NOOP")) or b"* OK [CLOSED]" in b"".join(told)))
        self.bob.ok("SELECT INBOX")

    def test_close_after_rights_were_taken_removes_nothing(self):
        box = self.box("lrte", messages=1, flags=r"\Deleted")
        workers = one_per_worker(self.server, lambda: Session(self.server, "bob"))
        for session in workers.values():
            self.addCleanup(session.close)
            self.grant(box, "lrte")
            session.ok(f"SELECT {others(box)}")
            session.idle()
            self.grant(box, "lrt")
            session.until_told(rb"\* OK \[PERMANENTFLAGS")
            session.done()
            session.ok("CLOSE")
        self.assertEqual(len(self.flags(self.alice, box)), 1)

    def test_grants_and_revocations_reach_idle_sessions_of_every_worker(self):
        box = self.box("lr", messages=1)
        workers = one_per_worker(self.server, lambda: Session(self.server, "bob"))
        for session in workers.values():
            self.addCleanup(session.close)
            session.ok(f"SELECT {others(box)}")
            session.idle()
        self.alice.append(box, MESSAGE)
        for session in workers.values():
            session.until_told(rb"\* 2 EXISTS")
        self.grant(box, "lrwst")
        for session in workers.values():
            self.assertIn(b"READ-WRITE", session.until_told(rb"\* OK \[READ-WRITE\]")[-1])
        self.grant(box, "lwst")
        for session in workers.values():
            session.until_told(rb"\* OK \[CLOSED\]")
        self.alice.append(box, MESSAGE)
        for session in workers.values():
            self.assertEqual(session.done(), [])
            self.assertEqual(session.ok("NOOP"), [])

    def test_a_grant_shows_at_once_in_every_worker(self):
        workers = one_per_worker(self.server, lambda: Session(self.server, "bob"))
        for session in workers.values():
            self.addCleanup(session.close)
        for _ in range(5):
            box = self.box("lr")
            for session in workers.values():
                self.assertIn(others(box).strip('"').encode(), dict(self.names(session)))
                session.ok(f"SELECT {others(box)}")

    def test_the_command_line_reaches_running_sessions(self):
        self.server.cli("account", "share", "support@example.test", "--with", "dave", "--rights", "lr", "--mailbox", "INBOX")
        dave = self.session("dave")
        dave.ok(f"SELECT {shared('INBOX')}")
        dave.idle()
        self.server.cli("account", "unshare", "support@example.test", "--with", "dave")
        dave.until_told(rb"\* OK \[CLOSED\]")
        dave.done()

    def test_leaving_a_group_ends_its_rights(self):
        self.server.cli("group", "add", "crew@example.test", "dave@example.test")
        box = self.box("lr", "crew@example.test", messages=1)
        dave = self.session("dave")
        dave.ok(f"SELECT {others(box)}")
        self.server.cli("group", "remove-member", "crew@example.test", "dave@example.test")
        self.assertTrue(eventually(lambda: dave.command("FETCH 1 FLAGS")[1].startswith(b"NO [NONEXISTENT]")))

    def test_a_renamed_mailbox_stays_open_and_a_removed_one_closes(self):
        box = self.box("lr", messages=1)
        self.bob.ok(f"SELECT {others(box)}")
        self.alice.ok(f"RENAME {box} {box}new")
        self.bob.ok("FETCH 1 FLAGS")
        self.alice.ok(f"DELETE {box}new")
        self.assertTrue(eventually(lambda: b"* OK [CLOSED]" in b"".join(self.bob.command("NOOP")[0])))


class OwnSeenTest(SharingTest):
    def test_what_bob_has_read_is_unread_for_alice(self):
        box = self.box("lrs", messages=3)
        self.bob.ok(f"SELECT {others(box)}")
        self.bob.ok("FETCH 1 BODY[]")
        self.bob.ok(r"STORE 2 +FLAGS (\Seen)")
        self.assertEqual(self.flags(self.bob, others(box)), [{r"\Seen"}, {r"\Seen"}, set()])
        self.assertEqual(self.flags(self.alice, box), [set(), set(), set()])
        self.assertEqual(self.bob.ok(f"STATUS {others(box)} (UNSEEN)"), [b"* STATUS %s (UNSEEN 1)\r\n" % others(box).encode()])
        self.assertEqual(self.alice.ok(f"STATUS {box} (UNSEEN)"), [b'* STATUS "%s" (UNSEEN 3)\r\n' % box.encode()])
        self.assertIn(b"* STATUS %s (UNSEEN 1)\r\n" % others(box).encode(), self.bob.ok(f'LIST "" {others(box)} RETURN (STATUS (UNSEEN))'))
        self.alice.ok(f"SELECT {box}")
        self.alice.ok(r"STORE 3 +FLAGS (\Seen)")
        self.assertEqual(self.flags(self.bob, others(box)), [{r"\Seen"}, {r"\Seen"}, set()])

    def test_copies_leave_behind_only_the_movers_own_seen(self):
        for verb in ("COPY", "MOVE"):
            with self.subTest(verb):
                source, target = self.box("lrste", messages=1, flags=r"\Seen \Deleted"), self.box("lri")
                self.bob.ok(f"SELECT {others(source)}")
                self.bob.ok(r"STORE 1 +FLAGS (\Seen)")
                self.bob.ok(f"{verb} 1 {others(target)}")
                self.assertEqual(self.flags(self.alice, target), [{r"\Seen"}])
                self.assertEqual(self.flags(self.bob, others(target)), [set()])
                self.assertEqual(self.alice.ok(f"STATUS {target} (UNSEEN DELETED)"), [b'* STATUS "%s" (UNSEEN 0 DELETED 0)\r\n' % target.encode()])

    def test_what_was_seen_stays_so_when_the_mailbox_is_opened_again_while_others_change_it(self):
        box = self.box(ALL, messages=3)
        self.bob.ok(f"SELECT {others(box)}")
        self.bob.ok(r"STORE 1:3 +FLAGS (\Seen)")
        workers = one_per_worker(self.server, lambda: Session(self.server, "alice", box))
        for alice in workers.values():
            self.addCleanup(alice.close)
            alice.send(b"".join(b"x%d STORE 1:3 FLAGS.SILENT (%s)\r\n" % (i, b"red" if i % 2 else b"blue") for i in range(500)))
        for _ in range(300):
            self.bob.ok(f"SELECT {others(box)}")
            self.assertIn(b"* SEARCH\r\n", self.bob.ok("SEARCH UNSEEN"))

    def test_messages_are_copied_and_moved_between_accounts(self):
        box = self.box(ALL, messages=3, flags=r"\Flagged")
        self.bob.ok("CREATE mine")
        self.bob.ok(f"SELECT {others(box)}")
        self.bob.ok("FETCH 1 BODY[]")
        self.bob.ok("COPY 1:2 mine")
        self.bob.ok("MOVE 3 mine")
        self.assertEqual(self.flags(self.bob, "mine"), [{r"\Flagged", r"\Seen"}, {r"\Flagged"}, {r"\Flagged"}])
        self.assertEqual(len(self.flags(self.alice, box)), 2)
        self.bob.ok("SELECT mine")
        self.bob.ok(f"COPY 1 {others(box)}")
        self.assertIn(b"A body.", b"".join(self.bob.ok("FETCH 3 BODY[]")))
        self.assertEqual(len(self.flags(self.alice, box)), 3)


@unittest.skipUnless(shutil.which("mbsync"), "isync is not installed")
class MbsyncTest(SharingTest):
    def test_mbsync_keeps_a_shared_folder_in_step_both_ways(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="merpati-client-", dir="/tmp"))
        self.addCleanup(shutil.rmtree, folder, True)
        box = self.box(ALL, messages=3)
        self.box("", messages=1)
        (folder / "mail").mkdir()
        (folder / "rc").write_text(f"""
IMAPAccount merpati
Host localhost
Port {self.server.port('imaps')}
User bob@example.test
Pass {PASSWORD}
SSLType IMAPS
CertificateFile {self.server.data / "tls/ca.pem"}

IMAPStore far
Account merpati

MaildirStore near
Path {folder}/mail/
Inbox {folder}/inbox
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns "Other Users/*"
Create Both
Expunge Both
Sync All
SyncState *
""")
        near = folder / "mail" / "Other Users" / "alice@example.test" / box

        def sync():
            done = subprocess.run(["mbsync", "-c", str(folder / "rc"), "-a"], capture_output=True, timeout=120, env={**os.environ, "HOME": str(folder)})
            self.assertEqual(done.returncode, 0, done.stderr[-2000:])
            return [f for sub in ("cur", "new") for f in (near / sub).iterdir()]

        files = sync()
        self.assertEqual(len(files), 3)
        self.assertEqual(sum(len(list(d.glob("cur/*")) + list(d.glob("new/*"))) for d in near.parent.iterdir()), 3)
        (near / "new" / "fresh.1").write_bytes(b"From: b@example.test\nSubject: from bob\n\nHello.\n")
        files[0].rename(near / "cur" / (files[0].name.split(":")[0] + ":2,F"))
        files[1].rename(near / "cur" / (files[1].name.split(":")[0] + ":2,T"))
        sync()
        self.assertEqual(sorted(map(sorted, self.flags(self.alice, box))), [[], [], [r"\Flagged"]])
        self.assertIn(b"from bob", b"".join(self.alice.ok(f"EXAMINE {box}") + self.alice.ok("FETCH 1:* BODY.PEEK[HEADER]")))
        self.alice.append(box, MESSAGE)
        self.assertEqual(len(sync()), 4)


class CostTest(SharingTest):
    def queries(self):
        """Statements sent by all workers so far."""
        text = urllib.request.urlopen(f"http://127.0.0.1:{self.server.port('http')}/metrics", timeout=30).read().decode()
        return sum(float(line.split()[-1]) for line in text.splitlines() if "pg_queries" in line and not line.startswith("#"))

    def cost(self, command):
        before = self.queries()
        self.bob.ok(command)
        return self.queries() - before

    def test_ones_own_mailboxes_cost_no_more_queries_than_before(self):
        expected = {"SELECT INBOX": None, "FETCH 1 FLAGS": 0, "NOOP": 0, r"STORE 1 +FLAGS (\Flagged)": None, "STATUS INBOX (MESSAGES)": 1,
                    'LIST "" INBOX': 1, "EXPUNGE": None, "MYRIGHTS INBOX": 1}
        self.bob.append("INBOX", MESSAGE)
        self.box("lr")
        self.bob.ok("SELECT INBOX")
        for command, count in expected.items():
            self.bob.ok(command)
            if count is not None:
                self.assertEqual(min(self.cost(command) for _ in range(5)), count, command)   # others work, too
