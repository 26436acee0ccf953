#!/usr/bin/env python3
"""compare.py OURS PEER: the medians of both runs side by side, with the ratio that counts as better when above 1."""
import pathlib
import re
import sys
from statistics import median


def read(path):
    rates, times, idle, extra = {}, {}, {}, ""
    if not pathlib.Path(path).exists():
        return rates, times, idle
    before = None
    for line in open(path, errors="replace"):
        if line.startswith("$ mbench"):
            extra = (" STARTTLS, one message a session" if "-s starttls" in line and " -k 1" in line else "")
            continue
        m = re.match(r"(.+?)\s+([\d.]+) (\w+)/s  n=.*?(?:server_cpu=\d+% \(([\d.]+) ms)?", line)
        cpu = re.search(r"server_cpu=\d+% \(([\d.]+) ms", line)
        if m and " n=" in line:
            rates.setdefault(m.group(1).strip() + extra, []).append((float(m.group(2)), float(cpu.group(1)) if cpu else 0.0))
            continue
        m = re.match(r"(\S+(?: #\d)?)\s+([\d.]+) ms", line)
        if m and not line.startswith("  "):
            times.setdefault(m.group(1), []).append(float(m.group(2)))
        m = re.search(r"pss_kib=(\d+)", line)
        if m:
            if before is None:
                before = int(m.group(1))
            else:
                idle["idle connection, KiB"] = (int(m.group(1)) - before) / 2000
                idle["all processes at 2,000, KiB a connection"] = int(m.group(1)) / 2000
        if "p50" in line:
            print(f"  {path.rsplit('/', 1)[-1]}: {line.strip()}")
    return rates, times, idle


ours, peer = read(sys.argv[1]), read(sys.argv[2])
print(f"{'measure':<46}{'Merpati':>12}{'peer':>12}{'ratio':>8}   server CPU, ms (Merpati / peer)")
for key, values in ours[0].items():
    a, ca = median(v[0] for v in values), median(v[1] for v in values)
    other = peer[0].get(key)
    b, cb = (median(v[0] for v in other), median(v[1] for v in other)) if other else (0, 0)
    print(f"{key:<46}{a:>10.1f}/s{b:>10.1f}/s{(a / b if b else 0):>7.1f}x   {ca:.3g} / {cb:.3g}")
for key, values in ours[1].items():
    a, b = median(values), median(peer[1][key]) if key in peer[1] else 0
    print(f"{key:<46}{a:>9.1f} ms{b:>9.1f} ms{(b / a if a else 0):>7.1f}x")
for key, a in ours[2].items():
    b = peer[2].get(key, 0)
    print(f"{key:<46}{a:>12.1f}{b:>12.1f}{(b / a if a else 0):>7.1f}x")
