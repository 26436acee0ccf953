#!/usr/bin/env python3
"""large.py [MESSAGES]: what a very large mailbox costs (default 1,000,000 messages).

Starts build/merpati on a private data directory and free ports, fills one mailbox by APPEND and COPY, starts the server
anew and prints what opening, resynchronising, searching and changing cost, and the memory of the worker per message for
the first and for each further session. Needs some 3 GB of disk and a few minutes."""

import pathlib
import re
import sys
import time

root = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(root / "tests/integration"))
from harness import Server        # noqa: E402
from imap_wire import Session     # noqa: E402

SEED, SHARE = 5000, 20000       # appended; copied at most by one command
wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000


def letter(n):
    body = b"".join(b"line %d of message %d, %x\r\n" % (i, n, hash((n, i)) & 0xffffffff) for i in range(20))
    return (b"From: Sender %d <s%d@elsewhere.test>\r\nTo: big@example.test\r\nSubject: message %d\r\nMessage-ID: <%d@elsewhere.test>\r\n"
            b"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\n" % (n, n % 97, n, n)) + body


def fill(s):
    for at in range(0, SEED, 100):
        parts = [letter(n) for n in range(at, at + 100)]
        s.ok(b"APPEND big " + b" ".join(b"{%d+}\r\n%s" % (len(p), p) for p in parts))
    s.ok("SELECT big")
    count = SEED
    while count < wanted:
        portion = min(count, SHARE, wanted - count)
        s.ok(f"COPY 1:{portion} big")
        count += portion
    s.ok(r"STORE 1:%d +FLAGS.SILENT (\Seen)" % (wanted // 2))


def pss(server):
    return sum(int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M).group(1))
               for pid in server.named("worker-0"))


def timed(name, s, command):
    began = time.monotonic()
    answer = s.ok(command)
    print(f"{name:42} {(time.monotonic() - began) * 1000:10.1f} ms  {sum(map(len, answer)):>12,} bytes", flush=True)
    return answer


def search_text(s):
    """The index is made behind the deliveries: asked until it is."""
    began = time.monotonic()
    for _ in range(600):
        at = time.monotonic()
        s.ok("SEARCH TEXT qqzzyyxx")
        if time.monotonic() - at < 1e-6 * wanted:
            break
        time.sleep(1)
    print(f"{'the index has all texts after':42} {time.monotonic() - began:10.1f} s")
    timed("SEARCH TEXT without hits", s, "SEARCH TEXT qqzzyyxx")


def measure(server):
    s = Session(server, "big", timeout=600)
    s.ok("ENABLE QRESYNC")
    idle = pss(server)
    answer = timed("SELECT, nobody has it open", s, "SELECT big")
    first = pss(server)
    others = [Session(server, "big", timeout=600) for _ in range(3)]
    timed("SELECT, open in another session", others[0], "SELECT big")
    for other in others[1:]:
        other.ok("SELECT big")
    print(f"{'memory of the index':42} {(first - idle) * 1024 / wanted:10.1f} bytes a message")
    print(f"{'memory of each further session':42} {(pss(server) - first) * 1024 / wanted / len(others):10.2f} bytes a message")
    modseq = int(re.search(rb"HIGHESTMODSEQ (\d+)", b"".join(answer)).group(1))
    validity = int(re.search(rb"UIDVALIDITY (\d+)", b"".join(answer)).group(1))
    timed("UID FETCH 1:* (FLAGS)", s, "UID FETCH 1:* (FLAGS)")
    timed("UID SEARCH UNSEEN, RETURN (ALL)", s, "UID SEARCH RETURN (ALL) UNSEEN")
    search_text(s)
    timed("SORT DATE of 1,000", s, "UID SORT (DATE) UTF-8 1:1000")
    timed("STORE of 10,000, silent", s, r"STORE 500001:510000 +FLAGS.SILENT (\Flagged)" if wanted >= 510000 else r"STORE 1:* +FLAGS.SILENT (\Flagged)")
    timed("EXPUNGE of 1,000: marking", s, rf"UID STORE {wanted // 3}:{wanted // 3 + 999} +FLAGS.SILENT (\Deleted)")
    timed("EXPUNGE of 1,000", s, "EXPUNGE")
    s.ok("UNSELECT")
    timed("SELECT (QRESYNC), 11,000 changes", s, f"SELECT big (QRESYNC ({validity} {modseq}))")
    timed("FETCH of one in the middle", s, f"FETCH {wanted // 2} (UID FLAGS ENVELOPE BODY.PEEK[])")


server = Server(settings={"quota_messages": "0", "quota_bytes": "0"}, workers=1, binary=root / "build/merpati")
try:
    server.start()
    server.cli("domain", "add", "example.test")
    server.add_accounts("big")
    first = Session(server, "big", timeout=600)
    first.ok("CREATE big")
    began = time.monotonic()
    fill(first)
    print(f"filled with {wanted:,} messages in {time.monotonic() - began:.0f} s", flush=True)
    first.close()
    server.stop()
    server.start()
    measure(server)
finally:
    server.stop()
    server.remove()
