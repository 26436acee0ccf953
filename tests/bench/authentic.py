#!/usr/bin/env python3
"""CPU time of mail authentication for one message of 5 KB: iprev, SPF, DKIM, ARC, DMARC and a signature, with warm DNS.

    make -j2 build/tools/authentic_cost build/tools/dkim_tool && python3 tests/bench/authentic.py [COUNT]

The goal is less than 1000 microseconds for all of it. A ring of other work on the machine makes the figures worse: the load
is printed beside them."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/integration"))

import dkim_driver
from dns_server import DnsServer

TOOLS = ROOT / "build/tools"
dkim_driver.TOOL = TOOLS / "dkim_tool"


def records(key):
    return {"ex.test": [("A", "192.0.2.10"), ("MX", "10 mx.ex.test"), ("TXT", "v=spf1 include:spf.ex.test mx -all")],
            "spf.ex.test": [("TXT", "v=spf1 ip4:198.51.100.0/24 ip6:2001:db8::/32 ip4:192.0.2.0/24 ~all")],
            "mx.ex.test": [("A", "192.0.2.10"), ("TXT", "v=spf1 a -all")],
            "10.2.0.192.in-addr.arpa": [("PTR", "mx.ex.test.")],
            "_dmarc.ex.test": [("TXT", "v=DMARC1; p=reject; rua=mailto:d@ex.test")],
            "s._domainkey.ex.test": [("TXT", key)]}


def make_message():
    head = ("From: Ann Example <ann@news.ex.test>\r\nTo: bob@us.test\r\nSubject: The monthly report of the finance department\r\n"
            "Date: Mon, 23 Nov 2026 10:00:00 +0700\r\nMessage-ID: <1234567890@ex.test>\r\nMIME-Version: 1.0\r\n"
            "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\nReply-To: ann@ex.test\r\n"
            "Received: from inner.ex.test (inner.ex.test [10.0.0.1])\r\n\tby mx.ex.test with ESMTPS id 4711;\r\n\tMon, 23 Nov 2026 10:00:01 +0700\r\n\r\n")
    line = "The quick brown fox jumps over the lazy dog, and the  dog does not mind it.\r\n"
    return (head + line * ((5000 - len(head)) // len(line))).encode()


def measure(kind, count):
    tool = dkim_driver.DkimTool()
    tool.make("k", kind)
    raw = tool.sign(make_message(), ("k", "ex.test", "s"))
    with tempfile.TemporaryDirectory() as folder, DnsServer(records(tool.text("record", "k")), ttl=3600) as dns:
        message, key = pathlib.Path(folder, "message"), pathlib.Path(folder, "key")
        message.write_bytes(raw)
        key.write_text(tool.text("pem", "k"))
        tool.close()
        run = subprocess.run([TOOLS / "authentic_cost", str(count), "192.0.2.10", "mx.ex.test", "bounce@ex.test", message, key, "ex.test", "s",
                              f"dns_server={dns.address}"], capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    for kind in ("rsa", "ed25519"):
        print(kind, json.dumps(measure(kind, count)), "load", os.getloadavg()[0])
