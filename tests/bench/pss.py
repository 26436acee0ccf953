#!/usr/bin/env python3
"""pss.py PID: the memory of a process tree without PostgreSQL, as proportional set size in KiB."""
import os
import sys


def processes():
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = open(f"/proc/{name}/stat").read()
                yield int(name), int(stat[stat.rindex(")") + 2:].split()[1]), stat[stat.index("(") + 1:stat.rindex(")")]
            except OSError:
                pass


def pss(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss:"))


children, names = {}, {}
for pid, parent, name in processes():
    children.setdefault(parent, []).append(pid)
    names[pid] = name
todo, rows = [int(sys.argv[1])], []
while todo:
    pid = todo.pop()
    if names.get(pid) != "postgres":
        rows.append((pss(pid), names.get(pid)))
        todo += children.get(pid, [])
print(f"pss_kib={sum(k for k, _ in rows)} procs={len(rows)}  " + ", ".join(f"{n} {k}K" for k, n in rows), flush=True)
