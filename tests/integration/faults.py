"""Kills processes of a server at moments that a seed decides, and remembers when."""

import os
import pathlib
import random
import signal
import time

from harness import eventually


def parent_of(pid):
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def described(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text()[:60]
    except OSError:
        return f"{pid} is gone"


def kill_pid(pid):
    try:
        os.kill(pid, signal.SIGKILL)
        return True
    except ProcessLookupError:
        return False


class Killer:
    """kill(kind) kills one process of that kind, or as many as the kind means, and starts the server anew where nobody
    else does:

        worker, supervisor, postgres (any process of PostgreSQL), backend, postmaster: the server mends itself
        guard        the first process alone; the others end themselves, and the server is started again
        everything   the whole tree at once, as a power cut does; the server is started again"""

    def __init__(self, server, seed=None):
        self.server, self.random = server, random.Random(seed)
        self.kills = []                 # (kind, before, after): monotonic times

    def victims(self, kind):
        server = self.server
        if kind == "worker":
            return server.named("worker-0") + server.named("worker-1")
        if kind == "supervisor":
            return [pid for pid in [server.supervisor()] if pid is not None]
        postgres = server.named("postgres")
        masters = [pid for pid in postgres if parent_of(pid) not in postgres]
        if kind == "postmaster":
            return masters
        return [pid for pid in postgres if pid not in masters] if kind == "backend" else postgres

    def kill(self, kind):
        """False when there was nothing to kill."""
        before = time.monotonic()
        restart = {"guard": self.kill_guard, "everything": self.server.kill}.get(kind)
        if restart is not None:
            restart()
            done = True
        else:
            victims = self.victims(kind)
            done = bool(victims) and kill_pid(self.random.choice(victims))
        if done:
            self.kills.append((kind, before, time.monotonic()))
        if restart is not None:
            self.server.start()
        return done

    def kill_guard(self):
        rest = self.server.descendants()
        kill_pid(self.server.process.pid)
        self.server.process.wait(30)
        self.server.process = None
        if not eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in rest), timeout=60):
            raise AssertionError("processes outlive their guard: " + ", ".join(map(described, rest)))
