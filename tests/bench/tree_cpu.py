#!/usr/bin/env python3
"""tree_cpu.py PID: CPU seconds of a process and its descendants, those that have ended and were waited for included."""
import os
import sys

children, ticks = {}, {}
for name in os.listdir("/proc"):
    if name.isdigit():
        try:
            stat = open(f"/proc/{name}/stat").read()
        except OSError:
            continue
        fields = stat[stat.rindex(")") + 2:].split()
        children.setdefault(int(fields[1]), []).append(int(name))
        ticks[int(name)] = sum(int(t) for t in fields[11:15])
todo, total = [int(sys.argv[1])], 0
while todo:
    pid = todo.pop()
    total += ticks.get(pid, 0)
    todo += children.get(pid, [])
print(total / os.sysconf("SC_CLK_TCK"))
