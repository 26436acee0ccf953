"""Half a minute of imap_fuzz.py against the server under sanitizers; a seed of its own each time."""

import random
import unittest

import imap_fuzz
from harness import ServerTest


class SessionFuzzTest(ServerTest):
    accounts = imap_fuzz.ACCOUNTS
    settings = imap_fuzz.SETTINGS
    workers = 2
    SECONDS = 35
    GROWTH_MAX_KB = 256 * 1024

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        imap_fuzz.fill(cls.server)

    def test_sessions_of_garbage_are_answered_line_by_line_and_end(self):
        seed = random.randrange(1 << 30)
        imap_fuzz.run(self.server, seed, self.SECONDS / 3)      # caches fill, allocators settle
        before = max(map(imap_fuzz.resident_kb, imap_fuzz.workers_of(self.server)))
        sessions, answers = imap_fuzz.run(self.server, seed + 1, self.SECONDS)
        after = max(map(imap_fuzz.resident_kb, imap_fuzz.workers_of(self.server)))
        self.assertLess(after - before, self.GROWTH_MAX_KB)
        self.assertGreater(sessions, 10)
        for status in ("OK", "NO", "BAD", "+OK", "-ERR"):
            self.assertGreater(answers[status], 0, answers)


if __name__ == "__main__":
    unittest.main()
