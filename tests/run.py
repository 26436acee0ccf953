#!/usr/bin/env python3
"""Runs every test and ends with one line: N passed, N failed.

usage: run.py [--fuzz-seconds N] [unit|valgrind|fuzz|integration|NAME ...]
A NAME picks the tests whose file name contains it."""

import argparse
import concurrent.futures
import functools
import os
import pathlib
import queue
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
UNIT = ROOT / "build/asan/tests"
FUZZ = ROOT / "build/fuzz/tests"
INTEGRATION = ROOT / "tests/integration"


class Tally:
    def __init__(self):
        self.passed, self.failed = 0, 0

    def add(self, name, passed, failed, seconds, output):
        self.passed += passed
        self.failed += failed
        print(f"{'ok  ' if not failed else 'FAIL'} {name:<44} {passed:>4} passed {failed:>3} failed  {seconds:6.1f} s", flush=True)
        if failed:
            print(output[-20000:], flush=True)


def run(command, timeout, env=None):
    started = time.monotonic()
    try:
        p = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
                           env={**os.environ, **(env or {})}, errors="replace")
        return p.returncode, p.stdout, time.monotonic() - started
    except subprocess.TimeoutExpired as e:
        text = e.stdout.decode(errors="replace") if isinstance(e.stdout, bytes) else (e.stdout or "")
        return -1, text + f"\n(no end within {timeout} s)", time.monotonic() - started


def unit(source):
    status, out, seconds = run([str(UNIT / source.stem)], 600)
    passed = sum(int(n) for n in re.findall(r"\[  PASSED  \] (\d+) test", out))
    failed = sum(int(n) for n in re.findall(r"\[  FAILED  \] (\d+) test", out))
    if status != 0 and failed == 0:
        failed = 1
    return source.stem, passed, failed, seconds, out


# The runtime switches stacks under valgrind's feet: these must stay clean there, too.
VALGRIND = ("test_fiber", "test_channel", "test_conn", "test_tls")


def valgrind(name):
    status, out, seconds = run(["valgrind", "-q", "--error-exitcode=9", "--leak-check=full",
                                "--errors-for-leak-kinds=definite", str(ROOT / "build/tests" / name)], 600)
    return f"{name} (valgrind)", int(status == 0), int(status != 0), seconds, out


def fuzz(source, seconds_each):
    corpus = ROOT / "build/fuzz/corpus" / source.stem
    corpus.mkdir(parents=True, exist_ok=True)
    seeds = ROOT / "tests/data" / source.stem
    command = [str(FUZZ / source.stem), f"-max_total_time={seconds_each}", "-max_len=65536", "-rss_limit_mb=4096",
               "-timeout=20", "-print_final_stats=0", f"-artifact_prefix={corpus}-crash-", str(corpus)]
    if seeds.is_dir():
        command.append(str(seeds))
    status, out, seconds = run(command, seconds_each + 120)
    return source.stem, int(status == 0), int(status != 0), seconds, out


# Which range of ports a test may use: one for each test that runs at the same time (see harness.free_offset).
port_ranges = queue.SimpleQueue()


def integration(source):
    port_range = port_ranges.get()
    try:
        status, out, seconds = run([sys.executable, "-W", "error::SyntaxWarning", "-m", "unittest", "-v", source.stem], 1800,
                                   {"PYTHONPATH": str(INTEGRATION), "MERPATI_TEST_PORT_RANGE": str(port_range)})
    finally:
        port_ranges.put(port_range)
    ran = re.search(r"^Ran (\d+) test", out, re.M)
    bad = re.search(r"^FAILED \((.*)\)", out, re.M)
    failed = sum(int(n) for n in re.findall(r"(?:failures|errors|unexpected successes)=(\d+)", bad.group(1))) if bad else 0
    skipped = re.search(r"skipped=(\d+)", out)
    count = int(ran.group(1)) if ran else 0
    if status != 0 and failed == 0:
        failed = 1
    return source.stem, max(0, count - failed - (int(skipped.group(1)) if skipped else 0)), failed, seconds, out


def jobs_of(chosen, wanted, fuzz_seconds):
    """Every test of the kinds chosen, as calls."""
    def sources(folder, pattern):
        return [s for s in sorted((ROOT / "tests" / folder).glob(pattern)) if wanted(s.stem)]
    if "unit" in chosen:
        yield from (functools.partial(unit, s) for s in sources("unit", "test_*.c"))
    if "valgrind" in chosen:
        yield from (functools.partial(valgrind, name) for name in VALGRIND if wanted(name))
    if "fuzz" in chosen:
        yield from (functools.partial(fuzz, s, fuzz_seconds) for s in sources("fuzz", "fuzz_*.c"))
    if "integration" in chosen:
        yield from (functools.partial(integration, s) for s in sources("integration", "test_*.py"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--fuzz-seconds", type=int, default=10)
    parser.add_argument("--at-once", type=int, default=min(2, os.cpu_count()), help="tests that run beside each other (1 or 2)")
    parser.add_argument("what", nargs="*")
    options = parser.parse_args()
    kinds = {"unit", "valgrind", "fuzz", "integration"}
    names = [w for w in options.what if w not in kinds]
    chosen = kinds & set(options.what) or kinds

    def wanted(stem):
        return not names or any(n in stem for n in names)

    for port_range in range(options.at_once):
        port_ranges.put(port_range)
    tally = Tally()
    with concurrent.futures.ThreadPoolExecutor(options.at_once) as pool:
        for done in concurrent.futures.as_completed([pool.submit(job) for job in jobs_of(chosen, wanted, options.fuzz_seconds)]):
            tally.add(*done.result())
    print(f"{tally.passed} passed, {tally.failed} failed")
    sys.exit(1 if tally.failed or not tally.passed else 0)


main()
