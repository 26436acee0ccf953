"""Scripts of domains, put by the command line, and changes of scripts, which every worker sees."""

import itertools
import unittest

from harness import eventually
from test_sieve import SieveTest, letter


class DomainTest(SieveTest):
    accounts = ("alice",)

    def put(self, owner, name, text, *options):
        self.server.cli("sieve", "put", owner, name, "-", *options, input=text)

    def tearDown(self):
        for row in self.server.cli_json("sieve", "list", "example.test"):
            self.server.cli("sieve", "remove", "example.test", row["name"])

    def goes_to(self, subject, mailbox, to="alice@example.test", user="alice"):
        self.send(letter(subject), to)
        return subject in self.subjects(user, mailbox)

    def test_before_own_and_after(self):
        self.put("example.test", "first", 'require "fileinto"; if header :contains "subject" "x1" { fileinto "Archive"; }', "--place", "before")
        self.put("example.test", "last", 'require "fileinto"; if header :contains "subject" ["x1", "x2", "x3"] { fileinto "Drafts"; }',
                 "--place", "after")
        self.put("alice@example.test", "main", 'require "fileinto"; if header :contains "subject" ["x1", "x2"] { fileinto "Junk"; }', "--active")
        eventually(lambda: self.goes_to("x1", "Archive"))
        self.assertTrue(self.goes_to("x2", "Junk"))
        self.assertTrue(self.goes_to("x3", "Drafts"))
        self.assertTrue(self.goes_to("x4", "INBOX"))
        self.assertNotIn("x2", self.subjects("alice", "Drafts"))

    def test_a_script_to_be_included_does_not_run_by_itself(self):
        self.put("example.test", "tidy", 'require "fileinto"; if header :contains "subject" "tidy" { fileinto "Archive"; }', "--place", "include")
        self.assertTrue(self.goes_to("tidy one", "INBOX"))
        self.put("alice@example.test", "main", 'require "include"; include :global "tidy";', "--active")
        eventually(lambda: self.goes_to("tidy two", "Archive"))

    def test_a_change_is_seen_by_all_workers(self):
        numbers = itertools.count()
        for mailbox in ("Archive", "Drafts", "Junk"):
            self.put("alice@example.test", "main", f'require "fileinto"; fileinto "{mailbox}";', "--active")

            def all_there():
                subjects = [f"{mailbox}{next(numbers)}" for _ in range(8)]
                for s in subjects:  # a connection each: any worker may take it
                    self.send(letter(s))
                return set(subjects) <= set(self.subjects("alice", mailbox))

            eventually(all_there)


if __name__ == "__main__":
    unittest.main()
