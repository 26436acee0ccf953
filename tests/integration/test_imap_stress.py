"""A minute of the stress client (imap_stress.py) against the server under sanitizers; a seed of its own each time."""

import random
import unittest

from harness import ServerTest
from imap_stress import World


class StressTest(ServerTest):
    accounts = ("stress", "friend")
    workers = 2
    SECONDS = 65

    def test_many_sessions_at_random_meet_no_contradiction(self):
        world = World(self.server, seed=random.randrange(1 << 30))
        world.run(self.SECONDS)
        self.assertGreater(sum(world.commands.values()), 500, world.report())
        self.assertGreater(len(world.commands), 25, world.report())


if __name__ == "__main__":
    unittest.main()
