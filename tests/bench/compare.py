#!/usr/bin/env python3
"""compare.py NAME=FILE...: the medians of several servers' runs side by side, ours first. A peer's figure is followed
by how many times better we are: above 1 is for us."""
import pathlib
import re
import sys
from statistics import median


class Run:
    """What one server's drivers printed: rates and CPU per unit, times in ms, memory."""

    def __init__(self, name, path):
        self.name, self.rates, self.cpu, self.times, self.memory, self.latency = name, {}, {}, {}, {}, []
        if pathlib.Path(path).exists():
            self.read(open(path, errors="replace"))

    def read(self, lines):
        last, variant, before = "", "", None
        for line in lines:
            if line.startswith("$ mbench"):
                variant = " STARTTLS, one message a session" if "-s starttls" in line and " -k 1" in line else ""
            elif m := re.match(r"(.+?)\s+([\d.]+) \w+/s  n=", line):
                last = m.group(1).strip() + variant
                self.rates.setdefault(last, []).append(float(m.group(2)))
                if cpu := re.search(r"server_cpu=\d+% \(([\d.]+) ms", line):
                    self.cpu.setdefault(last, []).append(float(cpu.group(1)))
            elif m := re.match(r"  RETR ([\d.]+)/s", line):
                self.rates.setdefault(last + " (RETR)", []).append(float(m.group(1)))
            elif m := re.match(r"(\S+(?: #\d)?)\s+([\d.]+) ms", line):
                self.times.setdefault(m.group(1), []).append(float(m.group(2)))
            elif m := re.search(r"pss_kib=(\d+)", line):
                if before is None:
                    before = int(m.group(1))
                else:
                    self.memory["an idle connection adds"] = (int(m.group(1)) - before) / 2000
                    self.memory["all processes / 2,000"] = int(m.group(1)) / 2000
            if "p50" in line:
                self.latency.append(line.strip())


def row(label, unit, values, smaller_is_better):
    ours = values[0]
    cells = f"{label:<46}{ours:>10.1f}{unit}"
    for value in values[1:]:
        ratio = (value / ours if smaller_is_better else ours / value) if value and ours else 0
        cells += f"{value:>12.1f}{unit}" + (f" {ratio:>6.1f}x" if ratio else "      - ")
    print(cells)


def table(runs, field, unit, smaller_is_better):
    for key in getattr(runs[0], field):
        medians = [median(v) if isinstance(v := getattr(run, field).get(key, 0), list) else v for run in runs]
        row(key, unit, medians, smaller_is_better)


runs = [Run(*argument.split("=", 1)) for argument in sys.argv[1:]]
print(f"{'measure':<46}{runs[0].name:>12}" + "".join(f"{run.name:>14}   ratio" for run in runs[1:]))
table(runs, "rates", "/s", False)
print("server CPU a unit:")
table(runs, "cpu", "ms", True)
print("one mailbox:")
table(runs, "times", "ms", True)
print("memory:")
table(runs, "memory", "KB", True)
for run in runs:
    for line in run.latency:
        print(f"  {run.name}: {line}")
