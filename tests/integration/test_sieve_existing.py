"""Sieve over mail that is here already, and over one message to see what it would do."""

import unittest

from test_sieve import SieveTest, letter

SORT = """require ["fileinto", "imap4flags", "mailbox", "copy", "vacation", "include", "duplicate"];
if duplicate { discard; stop; }
if header :contains "subject" "list" { fileinto :create :flags "$sorted" "Lists"; }
elsif header :contains "subject" "junk" { discard; }
elsif header :contains "subject" "both" { fileinto :copy "Archive"; addflag "\\\\Flagged"; }
elsif header :contains "subject" "away" { redirect "x@elsewhere.test"; vacation "I am away"; }
elsif header :contains "subject" "broken" { fileinto "Archive"; include "nowhere"; }
elsif header :contains "subject" "lost" { fileinto "Nowhere"; }
"""


class ExistingTest(SieveTest):
    SUBJECTS = ("a list", "junk", "both ways", "away", "broken", "lost", "plain")

    def fill(self):
        for subject in self.SUBJECTS:
            self.send(letter(subject))
        script = self.server.data.parent / "sort.sieve"
        script.write_text(SORT)
        return str(script)

    def run_it(self, script, *options, mailbox="INBOX"):
        args = ["sieve", "run", "alice@example.test", *([script] if script else []), "--mailbox", mailbox, *options]
        result = self.server.cli(*args, "--json", check=False)
        self.assertIn(result.returncode, (0, 1), result.stderr)
        import json
        return result.returncode, [(r["subject"], r["what"], r["object"], r["line"]) for r in json.loads(result.stdout)]

    def test_a_dry_run_tells_and_changes_nothing(self):
        script = self.fill()
        status, rows = self.run_it(script, "--dry-run")
        self.assertEqual(status, 1)  # the script failed on one
        self.assertIn(("a list", "moves", "Lists (new)", 3), rows)
        self.assertIn(("junk", "moves", "Trash", 4), rows)
        self.assertIn(("both ways", "copies", "Archive", 5), rows)
        self.assertIn(("both ways", "flags", r"\Flagged", 0), rows)
        self.assertIn(("away", "not done", "redirect x@elsewhere.test", 6), rows)
        self.assertIn(("away", "not done", "vacation answer to ani@elsewhere.test", 6), rows)
        self.assertTrue([r for r in rows if r[:2] == ("broken", "failed") and r[3] == 7], rows)
        self.assertIn(("lost", "stays", "there is no mailbox Nowhere", 8), rows)
        self.assertIn(("plain", "stays", "", 0), rows)
        self.assertEqual(self.subjects("alice"), list(self.SUBJECTS))
        self.assertEqual(self.subjects("alice", "Lists"), [])

    def test_a_run_files_and_a_second_one_finds_nothing_more_to_do(self):
        script = self.fill()
        for _ in range(2):
            self.run_it(script)
            self.assertEqual(self.subjects("alice"), ["both ways", "away", "broken", "lost", "plain"])
            [(flags, _)] = self.messages("alice", "Lists")
            self.assertEqual(flags, {"$sorted"})
            self.assertEqual(self.subjects("alice", "Trash"), ["junk"])
            self.assertEqual(self.subjects("alice", "Archive"), ["both ways"])
            self.assertEqual([s for s, in [(m["Subject"],) for f, m in self.messages("alice") if r"\Flagged" in f]], ["both ways"])
        with self.server.imap("alice") as c:
            c.delete("Lists")

    def test_without_a_name_the_active_script_runs(self):
        self.fill()
        result = self.server.cli("sieve", "run", "alice@example.test", "--mailbox", "INBOX", check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("no active script", result.stderr)
        self.activate("alice", 'require "fileinto"; if header "subject" "plain" { fileinto "Archive"; }')
        self.assertIn(("plain", "moves", "Archive", 1), self.run_it(None)[1])
        self.assertEqual(self.subjects("alice", "Archive"), ["plain"])

    def test_trash_stays_trash(self):
        self.send(letter("junk"))
        script = self.server.data.parent / "drop.sieve"
        script.write_text("discard;")
        self.run_it(str(script))
        self.assertEqual(self.run_it(str(script), mailbox="Trash")[1], [("junk", "stays", "it is in the trash already", 1)])
        self.assertEqual(self.subjects("alice", "Trash"), ["junk"])

    def test_of_many_messages_each_is_seen_once(self):
        with self.server.imap("alice") as c:
            for i in range(450):
                c.append("Drafts", None, None, letter(f"n{i}"))
        script = self.server.data.parent / "many.sieve"
        script.write_text('require "fileinto"; fileinto "Archive";')
        _, rows = self.run_it(str(script), mailbox="Drafts")
        self.assertEqual([r[0] for r in rows], [f"n{i}" for i in range(450)])
        self.assertEqual(len(self.subjects("alice", "Archive")), 450)


class TryTest(SieveTest):
    def test_actions_and_why(self):
        folder = self.server.data.parent
        (folder / "m.eml").write_bytes(letter("a list"))
        (folder / "sort.sieve").write_text(SORT)
        for who in ("-", "alice@example.test"):
            rows = [(r["kind"], r["line"], r["text"]) for r in
                    self.server.cli_json("sieve", "test", who, str(folder / "sort.sieve"), str(folder / "m.eml"))]
            self.assertIn(("action", 3, "fileinto Lists (flags $sorted)"), rows)
            self.assertIn(("true", 3, 'header: "a list" meets "list"'), rows)
            self.assertNotIn("keep", [r[2] for r in rows])
        self.assertEqual(self.subjects("alice"), [])


if __name__ == "__main__":
    unittest.main()
