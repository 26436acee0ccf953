"""NOTIFY (RFC 5465): news of every mailbox, told between commands, across workers; and ENABLE METADATA (RFC 5464, 4.4)."""

import random
import re
import unittest

from harness import eventually
from imap_wire import ImapTest, Session, one_per_worker, response, worker_of

MESSAGE = b"From: a@elsewhere.test\r\nTo: alice@example.test\r\nSubject: %s\r\n\r\nHello.\r\n"
MESSAGES = "MessageNew MessageExpunge"


class NotifyTest(ImapTest):
    accounts = tuple(f"u{i:02}" for i in range(40)) + ("root",)
    settings = {"imap_notify_mailboxes_max": "30"}
    used = 0

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server.cli("account", "admin", "root@example.test", "yes")

    def user(self):
        """An account nobody else uses."""
        NotifyTest.used += 1
        return f"u{NotifyTest.used - 1:02}"

    def pair(self, user):
        """A watcher and a doer in different workers."""
        both = one_per_worker(self.server, lambda: Session(self.server, user))
        for s in both.values():
            self.addCleanup(s.close)
        return list(both.values())

    def beside(self, s, user):
        """An idling session on INBOX in the worker of s: what it was told, that worker knows."""
        for _ in range(100):
            control = self.session(user, "INBOX")
            if worker_of(self.server, control.sock) == worker_of(self.server, s.sock):
                control.idle()
                return control
        raise AssertionError("the worker is not reached")

    def next(self, s):
        """The next response that comes by itself."""
        return response(s)

    def assert_silent(self, s, doer, name="Fence"):
        """Nothing comes before what is known to come: the making of a mailbox under the watched ones."""
        doer.ok(f"CREATE {name}")
        self.assertEqual(self.next(s), b'* LIST (\\HasNoChildren \\Subscribed) "/" "%s"\r\n' % name.encode())

    # ---- what is asked -----------------------------------------------------------------------------
    def test_every_form_is_understood(self):
        s = self.session(self.user(), "INBOX")
        self.assertIn(b" NOTIFY ", s.ok("CAPABILITY")[0])
        for text in ("NONE", "none", "SET (SELECTED NONE)", f"SET (selected ({MESSAGES}))", f"SET (Selected-Delayed ({MESSAGES} FlagChange))",
                     f"SET (SELECTED (MessageNew (UID FLAGS BODY.PEEK[HEADER.FIELDS (From To)]) MessageExpunge FlagChange))",
                     f"SET (inboxes ({MESSAGES}))", f"SET (personal ({MESSAGES} FlagChange MailboxName SubscriptionChange "
                     "MailboxMetadataChange ServerMetadataChange))", f"SET (subscribed ({MESSAGES}))", f"SET (subtree INBOX ({MESSAGES}))",
                     f"SET (subtree (Sent Drafts) ({MESSAGES})) (mailboxes (INBOX \"Trash\") ({MESSAGES})) (mailboxes Junk NONE)",
                     f"SET (mailboxes (nothing \"a//b\" \"x*\") ({MESSAGES}))", "SET (personal (MailboxName)) (selected NONE)",
                     f"SET (selected {MESSAGES}) (subtree Lists {MESSAGES})", f"SET STATUS (selected ({MESSAGES}))",
                     f"SET (mailboxes {{5+}}\r\nINBOX ({MESSAGES}))"):
            s.ok("NOTIFY " + text)

    def test_malformed_commands_are_bad(self):
        s = self.session(self.user(), "INBOX")
        for text in ("", " SET", " NONE x", " ALL", " SET SELECTED NONE", " SET (selected)", " SET (selected ())", " SET (selected (MessageNew))",
                     " SET (selected (MessageExpunge))", " SET (personal (FlagChange))", " SET (personal (MessageNew FlagChange))",
                     f" SET (selected ({MESSAGES} MailboxName))", f" SET (selected-delayed ({MESSAGES} ServerMetadataChange))",
                     " SET (personal (MessageNew (UID) MessageExpunge))", " SET (selected (MessageNew (UID MessageExpunge)))",
                     " SET (selected (MessageNew (NOITEM) MessageExpunge))", " SET (selected (MessageNew () MessageExpunge))",
                     f" SET (selected ({MESSAGES})) (selected-delayed ({MESSAGES}))", f" SET (nowhere ({MESSAGES}))",
                     f" SET (subtree ({MESSAGES}))", f" SET (mailboxes () ({MESSAGES}))", f" SET (selected ({MESSAGES})) x",
                     f" SET STATUS", f" SET (selected ({MESSAGES})", f" SET (mailboxes (INBOX) )"):
            answer = s.refused("NOTIFY" + text)
            self.assertTrue(answer.startswith(b"BAD "), (text, answer))
        before = self.session(None)
        self.assertTrue(before.refused("NOTIFY NONE").startswith(b"BAD "))

    def test_unknown_events_are_named(self):
        s = self.session(self.user())
        for event in ("MessageRead", "AnnotationChange"):
            answer = s.refused(f"NOTIFY SET (personal ({MESSAGES} {event}))")
            self.assertTrue(answer.startswith(b"NO [BADEVENT ("), answer)
            names = re.search(rb"\((.*?)\)", answer)[1].split()
            self.assertEqual(sorted(names), sorted([b"MessageNew", b"MessageExpunge", b"FlagChange", b"MailboxName", b"SubscriptionChange",
                                                    b"MailboxMetadataChange", b"ServerMetadataChange"]))

    def test_too_much_is_refused_and_leaves_what_was(self):
        user = self.user()
        s, doer = self.pair(user)
        s.ok("NOTIFY SET (personal (MailboxName))")
        for text in ("SET " + " ".join(["(personal NONE)"] * 51), "SET (mailboxes (" + " ".join(f"m{i}" for i in range(501)) + ") NONE)",
                     "SET (selected (MessageNew (" + " ".join(["BODY.PEEK[HEADER.FIELDS (" + "x" * 900 + ")]"] * 5) + ") MessageExpunge))"):
            self.assertTrue(s.refused("NOTIFY " + text).startswith(b"NO [NOTIFICATIONOVERFLOW]"), text[:60])
        self.assert_silent(s, doer)

    # ---- other mailboxes ---------------------------------------------------------------------------
    def test_arrivals_flags_and_removals_elsewhere_are_told_by_status(self):
        s, doer = self.pair(self.user())
        s.ok("SELECT INBOX")
        s.ok(f"NOTIFY SET (selected ({MESSAGES})) (mailboxes Sent ({MESSAGES} FlagChange)) (mailboxes Drafts ({MESSAGES}))")
        doer.append("Sent", MESSAGE % b"one")
        told = self.next(s)
        self.assertTrue(told.startswith(b'* STATUS "Sent" ('), told)
        for item in (b"MESSAGES 1", b"UIDNEXT 2", b"UNSEEN 1", b"UIDVALIDITY "):
            self.assertIn(item, told)
        self.assertNotIn(b"HIGHESTMODSEQ", told)
        doer.ok("SELECT Sent")
        doer.ok(r"STORE 1 +FLAGS (\Seen)")
        self.assertIn(b"UNSEEN 0", self.next(s))
        doer.ok(r"STORE 1 +FLAGS (\Deleted)")
        self.assertTrue(self.next(s).startswith(b'* STATUS "Sent" ('))
        doer.ok("EXPUNGE")
        self.assertIn(b"MESSAGES 0", self.next(s))
        doer.ok("SELECT Drafts")
        doer.append("Drafts", MESSAGE % b"two")
        self.assertTrue(self.next(s).startswith(b'* STATUS "Drafts" (MESSAGES 1'))
        doer.ok(r"STORE 1 +FLAGS (\Flagged)")          # not asked for
        doer.append("Trash", MESSAGE % b"three")       # nor this
        doer.append("Sent", MESSAGE % b"four")
        self.assertIn(b'"Sent"', self.next(s))

    def test_modseqs_are_told_to_who_wants_them(self):
        s, doer = self.pair(self.user())
        s.ok("ENABLE CONDSTORE")
        s.ok(f"NOTIFY SET (personal ({MESSAGES} FlagChange))")
        doer.append("Sent", MESSAGE % b"one")
        first = int(re.search(rb"HIGHESTMODSEQ (\d+)", self.next(s))[1])
        doer.ok("SELECT Sent")
        doer.ok(r"STORE 1 +FLAGS (\Flagged)")
        self.assertGreater(int(re.search(rb"HIGHESTMODSEQ (\d+)", self.next(s))[1]), first)

    def test_status_tells_the_numbers_of_all_that_is_watched(self):
        s = self.session(self.user(), "INBOX")
        s.append("Sent", MESSAGE % b"one")
        told = s.ok(f"NOTIFY SET STATUS (selected ({MESSAGES})) (personal ({MESSAGES})) (mailboxes Junk ({MESSAGES} FlagChange))")
        statuses = {re.match(rb'\* STATUS "(.*?)"', r)[1]: r for r in told if b"STATUS" in r}
        self.assertEqual(sorted(statuses), [b"Archive", b"Drafts", b"Junk", b"Sent", b"Trash"])
        self.assertIn(b"MESSAGES 1 UIDNEXT 2", statuses[b"Sent"].replace(b"RECENT 0 ", b""))
        self.assertIn(b"UIDVALIDITY", statuses[b"Sent"])
        self.assertIn(b"HIGHESTMODSEQ", statuses[b"Junk"])
        self.assertNotIn(b"HIGHESTMODSEQ", statuses[b"Sent"])
        self.assertEqual(s.ok("NOTIFY SET STATUS (personal (MailboxName))"), [])

    def test_a_delivery_is_told_in_every_worker(self):
        user = self.user()
        sessions = self.pair(user)
        for s in sessions:
            s.ok(f"NOTIFY SET (inboxes ({MESSAGES}))")
        self.server.deliver(f"{user}@example.test", MESSAGE % b"delivered")
        for s in sessions:
            self.assertTrue(self.next(s).startswith(b'* STATUS "INBOX" (MESSAGES 1 '))

    # ---- names -------------------------------------------------------------------------------------
    def test_names_come_go_and_change(self):
        s, doer = self.pair(self.user())
        s.ok("NOTIFY SET (personal (MailboxName))")
        doer.ok("CREATE Work")
        self.assertEqual(self.next(s), b'* LIST (\\HasNoChildren \\Subscribed) "/" "Work"\r\n')
        doer.ok("CREATE Work/2026")
        both = {self.next(s), self.next(s)}
        self.assertEqual(both, {b'* LIST (\\HasNoChildren \\Subscribed) "/" "Work/2026"\r\n', b'* LIST (\\HasChildren \\Subscribed) "/" "Work"\r\n'})
        doer.ok("RENAME Work Arbeit")                  # what is below is not told
        self.assertEqual(self.next(s), b'* LIST (\\HasChildren \\Subscribed) "/" "Arbeit" ("OLDNAME" ("Work"))\r\n')
        doer.ok("DELETE Arbeit/2026")
        both = {self.next(s), self.next(s)}
        self.assertEqual(both, {b'* LIST (\\NonExistent) "/" "Arbeit/2026"\r\n', b'* LIST (\\HasNoChildren \\Subscribed) "/" "Arbeit"\r\n'})
        doer.ok("DELETE Arbeit")
        self.assertEqual(self.next(s), b'* LIST (\\NonExistent) "/" "Arbeit"\r\n')
        doer.append("INBOX", MESSAGE % b"not asked for")
        doer.ok("UNSUBSCRIBE Sent")
        self.assert_silent(s, doer)

    def test_names_are_in_the_clients_encoding(self):
        user = self.user()
        s, doer = self.pair(user)
        s.ok("ENABLE IMAP4rev2")
        s.ok("NOTIFY SET (personal (MailboxName))")
        doer.ok("CREATE Entw&APw-rfe")
        self.assertIn('"Entwürfe"'.encode(), self.next(s))
        doer.ok("RENAME Entw&APw-rfe &AOQ-")
        self.assertIn('"ä" ("OLDNAME" ("Entwürfe"))'.encode(), self.next(s))

    def test_names_outside_what_is_watched_stay_untold(self):
        s, doer = self.pair(self.user())
        doer.ok("CREATE a/b")
        s.ok("NOTIFY SET (subtree a (MailboxName)) (mailboxes later (MailboxName))")
        for name in ("ab", "a/b/c", "later", "other"):
            doer.ok(f"CREATE {name}")
        told = [self.next(s) for _ in range(3)]
        self.assertEqual({re.search(rb'"/" "(.*?)"', r)[1] for r in told}, {b"a/b/c", b"a/b", b"later"})
        doer.ok("RENAME other a/other")
        self.assertIn(b'"a/other" ("OLDNAME" ("other"))', self.next(s))
        self.assertIn(b'(\\NonExistent) "/" "later"', (doer.ok("DELETE later"), self.next(s))[1])

    def test_subscriptions(self):
        s, doer = self.pair(self.user())
        s.ok("NOTIFY SET (personal (SubscriptionChange))")
        doer.ok("UNSUBSCRIBE Sent")
        self.assertEqual(self.next(s), b'* LIST (\\HasNoChildren \\Sent) "/" "Sent"\r\n')
        doer.ok("SUBSCRIBE Sent")
        self.assertEqual(self.next(s), b'* LIST (\\HasNoChildren \\Subscribed \\Sent) "/" "Sent"\r\n')
        s.ok(f"NOTIFY SET (subscribed ({MESSAGES} SubscriptionChange))")
        doer.ok("UNSUBSCRIBE Drafts")
        self.assertEqual(self.next(s), b'* LIST (\\HasNoChildren \\Drafts) "/" "Drafts"\r\n')
        doer.append("Drafts", MESSAGE % b"unheard")
        doer.append("Sent", MESSAGE % b"heard")
        self.assertTrue(self.next(s).startswith(b'* STATUS "Sent"'))
        doer.ok("SUBSCRIBE Drafts")
        self.assertIn(b"\\Subscribed", self.next(s))
        doer.append("Drafts", MESSAGE % b"heard")
        self.assertTrue(self.next(s).startswith(b'* STATUS "Drafts" (MESSAGES 2'))

    # ---- mailboxes of others -----------------------------------------------------------------------
    def test_granted_mailboxes_of_others(self):
        user, owner = self.user(), self.user()
        s = self.session(user)
        doer = self.session(owner)
        for name, rights in (("Team", "lr"), ("Team/Sub", "lr"), ("Team/Listed", "l"), ("Team/Secret", "")):
            doer.ok(f"CREATE {name}")
            doer.ok(f'SETACL {name} {user}@example.test "{rights}"')
        top = f"Other Users/{owner}@example.test/Team"
        told = s.ok(f'NOTIFY SET STATUS (subtree "{top}" ({MESSAGES} FlagChange MailboxName SubscriptionChange MailboxMetadataChange))')
        named = {re.search(rb'"(Other Users/.*?)"', r)[1].decode(): r for r in told}
        self.assertEqual(sorted(named), [top, top + "/Listed", top + "/Sub"])
        self.assertTrue(named[top + "/Listed"].startswith(b"* LIST (\\NoAccess) "))
        self.assertNotIn(b"UNSEEN", named[top])                 # that count is the owner's
        doer.append("Team/Secret", MESSAGE % b"hidden")
        doer.append("Team/Listed", MESSAGE % b"hidden")
        doer.ok("SETMETADATA Team/Secret (/shared/comment \"hidden\")")
        doer.append("INBOX", MESSAGE % b"not asked for")
        doer.ok("UNSUBSCRIBE Team")                             # which is the owner's
        doer.append("Team", MESSAGE % b"heard")
        self.assertTrue(self.next(s).startswith(b'* STATUS "%s" (MESSAGES 1' % top.encode()))
        doer.ok('SETMETADATA Team (/shared/comment "for all" /private/comment "own")')
        self.assertEqual(self.next(s), b'* METADATA "%s" /shared/comment\r\n' % top.encode())
        doer.ok("RENAME Team/Sub Team/Below")
        self.assertEqual(self.next(s), f'* LIST () "/" "{top}/Below" ("OLDNAME" ("{top}/Sub"))\r\n'.encode())
        doer.ok(f"SETACL Team/Secret {user}@example.test lr")    # granting makes, revoking removes
        self.assertEqual(self.next(s), f'* LIST () "/" "{top}/Secret"\r\n'.encode())
        self.assertTrue(self.next(s).startswith(f'* STATUS "{top}/Secret" (MESSAGES 1'.encode()))
        doer.ok(f"DELETEACL Team/Secret {user}@example.test")
        self.assertEqual(self.next(s), f'* LIST (\\NonExistent) "/" "{top}/Secret"\r\n'.encode())
        doer.append("Team/Secret", MESSAGE % b"hidden again")
        doer.ok("DELETE Team/Below")
        self.assertEqual(self.next(s), f'* LIST (\\NonExistent) "/" "{top}/Below"\r\n'.encode())
        stranger = self.session(self.user())
        self.assertEqual(stranger.ok(f'NOTIFY SET STATUS (mailboxes "{top}" ({MESSAGES}))'), [])

    def test_who_hears_nothing_of_the_mailbox_above_is_told_of_moves(self):
        user, owner = self.user(), self.user()
        s, own, doer = self.session(user), self.session(owner), self.session(owner)
        for name in ("Hidden", "Hidden/Shared", "Hidden/Shared/Deep"):
            doer.ok(f"CREATE {name}")
        for name in ("Hidden/Shared", "Hidden/Shared/Deep"):
            doer.ok(f"SETACL {name} {user}@example.test lr")
        top = f"Other Users/{owner}@example.test"
        s.ok(f'NOTIFY SET (mailboxes ("{top}/Hidden/Shared" "{top}/Hidden/Shared/Deep") (MailboxName))')
        own.ok("NOTIFY SET (mailboxes Hidden/Shared (MailboxName))")
        doer.ok("NOTIFY SET (personal (MailboxName))")
        doer.ok("RENAME Hidden Moved")
        told = {self.next(s), self.next(s)}
        self.assertEqual(told, {f'* LIST () "/" "{top}/Moved/{path}" ("OLDNAME" ("{top}/Hidden/{path}"))\r\n'.encode()
                                for path in ("Shared", "Shared/Deep")})
        self.assertEqual(self.next(own), b'* LIST (\\HasChildren \\Subscribed) "/" "Moved/Shared" ("OLDNAME" ("Hidden/Shared"))\r\n')
        self.assertEqual(doer.ok("NOOP"), [])                   # did it itself

    # ---- annotations -------------------------------------------------------------------------------
    def test_annotations_of_mailboxes_and_of_the_server(self):
        user = self.user()
        s, doer = self.pair(user)
        root = self.session("root")
        s.ok("NOTIFY SET (personal (MailboxMetadataChange ServerMetadataChange))")
        doer.ok('SETMETADATA Sent (/private/comment "a" /shared/comment "b")')
        self.assertEqual(self.next(s), b'* METADATA "Sent" /private/comment /shared/comment\r\n')
        doer.ok("SETMETADATA Sent (/private/comment NIL)")
        self.assertEqual(self.next(s), b'* METADATA "Sent" /private/comment\r\n')
        doer.ok('SETMETADATA "" (/private/vendor/x/y "c")')
        self.assertEqual(self.next(s), b'* METADATA "" /private/vendor/x/y\r\n')
        root.ok('SETMETADATA "" (/shared/comment "for all")')
        self.assertEqual(self.next(s), b'* METADATA "" /shared/comment\r\n')
        doer.ok(r'SETMETADATA Archive (/private/specialuse "\\Junk")')
        self.assertEqual({self.next(s), self.next(s)},
                         {b'* METADATA "Archive" /private/specialuse\r\n', b'* METADATA "Junk" /private/specialuse\r\n'})
        s.ok('SETMETADATA Sent (/private/comment "own")')     # what it did itself it is not told
        doer.ok('SETMETADATA Drafts (/private/comment "x")')
        self.assertEqual(self.next(s), b'* METADATA "Drafts" /private/comment\r\n')

    def test_enable_metadata_tells_with_commands_and_in_idle(self):
        user = self.user()
        s, doer = self.pair(user)
        silent = self.session(user)
        self.assertEqual(s.ok("ENABLE METADATA"), [b"* ENABLED METADATA\r\n"])
        self.assertEqual(s.ok("ENABLE METADATA-SERVER METADATA"), [b"* ENABLED\r\n"])
        doer.ok('SETMETADATA Sent (/private/comment "a")')
        told = []
        self.assertTrue(eventually(lambda: told.extend(s.ok("NOOP")) or told))
        self.assertEqual(told, [b'* METADATA "Sent" /private/comment\r\n'])
        s.idle()
        doer.ok('SETMETADATA INBOX (/shared/comment "a")')
        self.assertEqual(s.until_told(rb"\* METADATA")[-1], b'* METADATA "INBOX" /shared/comment\r\n')
        s.done()
        doer.ok("CREATE Unheard")
        s.ok('SETMETADATA INBOX (/shared/comment "b")')
        self.assertEqual([r for r in s.ok("NOOP") + silent.ok("NOOP") if b"OK" not in r], [])

    # ---- the selected mailbox ----------------------------------------------------------------------
    def test_the_selected_mailbox_is_told_of_at_rest(self):
        s, doer = self.pair(self.user())
        s.ok("SELECT INBOX")
        doer.ok("SELECT INBOX")
        s.ok("NOTIFY SET (selected (MessageNew (UID FLAGS BODY.PEEK[HEADER.FIELDS (Subject)]) MessageExpunge FlagChange))")
        doer.append("INBOX", MESSAGE % b"one", r"\Flagged")
        told = s.until_told(rb"\* 1 FETCH")
        self.assertIn(b"* 1 EXISTS\r\n", told)
        self.assertIn(b"UID 1 FLAGS (\\Flagged) BODY[HEADER.FIELDS (Subject)] {", told[-1])
        self.assertIn(b"Subject: one\r\n", told[-1])
        doer.ok(r"STORE 1 +FLAGS.SILENT (\Seen)")
        self.assertRegex(self.next(s), rb"^\* 1 FETCH \(UID 1 FLAGS \(\\Flagged \\Seen\)\)\r\n$")
        doer.ok(r"STORE 1 +FLAGS.SILENT (\Deleted)")
        self.next(s)
        doer.ok("EXPUNGE")
        self.assertEqual(self.next(s), b"* 1 EXPUNGE\r\n")

    def test_what_one_adds_oneself_is_not_fetched(self):
        s, doer = self.pair(self.user())
        s.ok("SELECT INBOX")
        s.ok(f"NOTIFY SET (selected (MessageNew (UID) MessageExpunge))")
        told = s.append("INBOX", MESSAGE % b"own") + s.ok("UID COPY 1 INBOX")
        self.assertIn(b"* 2 EXISTS\r\n", told)
        self.assertEqual([r for r in told if b"FETCH" in r], [])
        doer.append("INBOX", MESSAGE % b"another's")
        self.assertEqual(s.until_told(rb"\* \d+ FETCH")[-1], b"* 3 FETCH (UID 3)\r\n")

    def test_with_qresync_removals_are_vanished(self):
        s, doer = self.pair(self.user())
        s.ok("ENABLE QRESYNC")
        s.ok("SELECT INBOX")
        s.ok(f"NOTIFY SET (selected (MessageNew (UID MODSEQ) {MESSAGES.split()[1]}))")
        doer.append("INBOX", MESSAGE % b"one", r"\Deleted")
        self.assertRegex(s.until_told(rb"\* 1 FETCH")[-1], rb"UID 1 MODSEQ \(\d+\)")
        doer.ok("SELECT INBOX")
        doer.ok("EXPUNGE")
        self.assertEqual(self.next(s), b"* VANISHED 1\r\n")

    def test_selected_delayed_keeps_numbers_until_a_command(self):
        s, doer = self.pair(self.user())
        for i in range(3):
            doer.append("INBOX", MESSAGE % b"%d" % i)
        s.ok("SELECT INBOX")
        s.ok(f"NOTIFY SET (selected-delayed (MessageNew (UID) MessageExpunge FlagChange)) (personal (MailboxName))")
        doer.ok("SELECT INBOX")
        doer.ok(r"STORE 1 +FLAGS.SILENT (\Deleted)")
        self.next(s)
        doer.ok("EXPUNGE")
        doer.append("INBOX", MESSAGE % b"new")
        told = s.until_told(rb"\* \d+ FETCH")
        self.assertEqual([r for r in told if b"EXPUNGE" in r], [])
        self.assertEqual(told[-1], b"* 4 FETCH (UID 4)\r\n")
        self.assertEqual(s.ok("FETCH 2 (UID)")[-1:], [b"* 2 FETCH (UID 2)\r\n"])
        self.assertIn(b"* 1 EXPUNGE\r\n", s.ok("NOOP"))
        doer.ok(r"STORE 1 +FLAGS.SILENT (\Deleted)")
        self.next(s)
        s.idle()
        doer.ok("EXPUNGE")
        s.until_told(rb"\* 1 EXPUNGE\r")
        s.done()

    def test_flags_that_were_not_asked_for_are_not_told(self):
        s, doer = self.pair(self.user())
        doer.append("INBOX", MESSAGE % b"one")
        s.ok("SELECT INBOX")
        s.ok(f"NOTIFY SET (selected ({MESSAGES}))")
        doer.ok("SELECT INBOX")
        doer.ok(r"STORE 1 +FLAGS.SILENT (\Flagged)")
        doer.append("INBOX", MESSAGE % b"two")
        told = s.until_told(rb"\* 2 EXISTS")
        self.assertEqual([r for r in told if b"FETCH" in r], [])
        self.assertEqual([r for r in s.ok("NOOP") if b"FETCH" in r], [])
        self.assertIn(rb"\Flagged", s.ok("UID FETCH 1 (FLAGS)")[0])

    def test_selected_none_and_notify_none_hold_everything_back(self):
        for text in ("SET (selected NONE)", "SET (personal (MailboxName))", "NONE"):
            user = self.user()
            s, doer = self.pair(user)
            doer.append("INBOX", MESSAGE % b"one")
            s.ok("SELECT INBOX")
            s.ok("NOTIFY " + text)
            control = self.beside(s, user)
            doer.append("INBOX", MESSAGE % b"two")
            control.until_told(rb"\* 2 EXISTS")
            s.idle()
            self.assertEqual(s.done() + s.ok("NOOP"), [], text)
            s.ok(r"STORE 1 +FLAGS.SILENT (\Deleted)")
            self.assertIn(b"* 1 EXPUNGE\r\n", s.ok("EXPUNGE"))         # one's own doing is told
            doer.append("INBOX", MESSAGE % b"three")
            control.until_told(rb"\* 1 EXPUNGE")
            control.until_told(rb"\* 2 EXISTS")
            self.assertIn(b"* 2 EXISTS\r\n", s.ok(f"NOTIFY SET (selected ({MESSAGES}))"))   # and so is all, by SET

    def test_the_selected_mailbox_is_not_told_by_status(self):
        s, doer = self.pair(self.user())
        s.ok("SELECT INBOX")
        s.ok(f"NOTIFY SET (selected ({MESSAGES})) (personal ({MESSAGES}))")
        doer.append("INBOX", MESSAGE % b"one")
        doer.append("Sent", MESSAGE % b"two")
        told = s.until_told(rb"\* STATUS")
        self.assertIn(b"* 1 EXISTS\r\n", told)
        self.assertTrue(told[-1].startswith(b'* STATUS "Sent"'))
        s.ok("SELECT Sent")
        doer.append("INBOX", MESSAGE % b"three")
        self.assertTrue(self.next(s).startswith(b'* STATUS "INBOX" (MESSAGES 2'))
        doer.append("Sent", MESSAGE % b"four")
        s.until_told(rb"\* 2 EXISTS")

    def test_idle_tells_the_same(self):
        s, doer = self.pair(self.user())
        s.ok("SELECT INBOX")
        s.ok(f"NOTIFY SET (selected (MessageNew (UID) MessageExpunge)) (mailboxes Sent ({MESSAGES}))")
        s.idle()
        doer.append("INBOX", MESSAGE % b"one")
        s.until_told(rb"\* 1 FETCH \(UID 1\)")
        doer.append("Sent", MESSAGE % b"two")
        s.until_told(rb'\* STATUS "Sent"')
        s.done()

    def test_a_removed_selected_mailbox_is_told_at_rest(self):
        s, doer = self.pair(self.user())
        doer.ok("CREATE Old")
        s.ok("SELECT Old")
        s.ok(f"NOTIFY SET (selected ({MESSAGES})) (personal (MailboxName))")
        doer.ok("DELETE Old")
        told = s.until_told(rb"\* OK \[CLOSED\]")
        self.assertIn(b'* LIST (\\NonExistent) "/" "Old"\r\n', told + ([self.next(s)] if len(told) == 1 else []))
        s.ok("SELECT INBOX")

    # ---- one's own doing ---------------------------------------------------------------------------
    def test_what_one_does_oneself_is_not_told(self):
        s, doer = self.pair(self.user())
        s.ok("NOTIFY SET (personal (MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange))")
        for text in ("CREATE Own/Deep/Down", "RENAME Own Mine/New", "UNSUBSCRIBE Sent", "SUBSCRIBE Sent", "DELETE Mine/New/Deep/Down",
                     'SETMETADATA INBOX (/private/comment "x")', 'SETMETADATA "" (/private/comment "x")', "NOOP"):
            self.assertEqual(s.ok(text), [], text)
        self.assert_silent(s, doer)

    # ---- many --------------------------------------------------------------------------------------
    def test_too_many_mailboxes_end_it(self):
        user = self.user()
        s, doer = self.pair(user)
        s.ok("NOTIFY SET (personal (MailboxName))")
        for i in range(60):
            doer.ok(f"CREATE m{i}")
        told = s.until_told(rb"\* OK \[NOTIFICATIONOVERFLOW\]")
        self.assertGreater(len(told), 1)
        doer.ok("DELETE m0")
        self.assertEqual(s.ok("NOOP"), [])
        self.assertTrue(s.refused("NOTIFY SET (personal (MailboxName))").startswith(b"NO [NOTIFICATIONOVERFLOW]"))

    def test_a_burst_ends_with_the_last_state(self):
        s, doer = self.pair(self.user())
        s.ok(f"NOTIFY SET (personal ({MESSAGES}))")
        for i in range(50):
            doer.append("Sent", MESSAGE % b"%d" % i)
        counts = [int(re.search(rb"MESSAGES (\d+)", r)[1]) for r in s.until_told(rb'\* STATUS "Sent" \(MESSAGES 50 ')]
        self.assertEqual(counts, sorted(counts))

    def test_random_changes_leave_every_watcher_with_the_truth(self):
        rng = random.Random(5465)
        user = self.user()
        watcher, doer = self.pair(user)
        known = {re.search(rb'"/" "(.*?)"', r)[1]: 0 for r in watcher.ok('LIST "" "*"')}
        watcher.ok(f"NOTIFY SET (personal ({MESSAGES} FlagChange MailboxName))")
        names = [b"n%d" % i for i in range(6)]
        counts = dict.fromkeys(known, 0)
        for _ in range(150):
            name, other = rng.choice(names), rng.choice(names)
            pick = rng.randrange(5)
            if name not in counts:
                doer.ok(b"CREATE " + name)
                counts[name] = 0
            elif pick == 0:
                doer.ok(b"DELETE " + name)
                del counts[name]
            elif pick == 1 and other not in counts:
                doer.ok(b"RENAME %s %s" % (name, other))
                counts[other] = counts.pop(name)
            else:
                doer.ok(b"APPEND %s {9+}\r\nA: b\r\n\r\nc" % name)
                counts[name] += 1
        doer.ok("CREATE end")
        counts[b"end"] = 0
        for r in watcher.until_told(rb'\* LIST .* "end"'):
            self.take(known, r)
        for r in watcher.ok("NOOP"):
            self.take(known, r)
        self.assertEqual(known, counts)

    def take(self, known, r):
        if m := re.match(rb'\* STATUS "(.*?)" \(MESSAGES (\d+)', r):
            known[m[1]] = int(m[2])
        elif m := re.match(rb'\* LIST \((.*?)\) "/" "(.*?)"(?: \("OLDNAME" \("(.*?)"\)\))?', r):
            if b"NonExistent" in m[1]:
                known.pop(m[2], None)
            elif m[3]:
                known[m[2]] = known.pop(m[3], 0)
            else:
                known.setdefault(m[2], 0)

    def test_many_watchers_cost_little(self):
        user = self.user()
        watchers = [self.session(user) for _ in range(200)]
        pids = {worker_of(self.server, w.sock) for w in watchers}
        self.assertEqual(len(pids), 2)
        for w in watchers:
            w.ok(f"NOTIFY SET (personal ({MESSAGES} FlagChange MailboxName)) (subtree (a b c) ({MESSAGES}))")
        with Session(self.server, user) as doer:
            doer.append("Sent", MESSAGE % b"for all")
        for w in watchers:
            self.assertTrue(self.next(w).startswith(b'* STATUS "Sent" (MESSAGES 1'))


if __name__ == "__main__":
    unittest.main()
