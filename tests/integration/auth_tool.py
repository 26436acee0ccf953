"""Asks build/asan/tools/spf_tool, which checks SPF, iprev, DNS lists and DNS itself, against a DnsServer."""

import subprocess

from harness import ROOT

TOOL = ROOT / "build/asan/tools/spf_tool"


class AuthTool:
    """ask() starts the tool anew, so that nothing is remembered between the calls."""

    def __init__(self, dns, timeout="4s", **settings):
        self.settings = {"dns_server": dns.address, "dns_timeout": timeout, "dns_cache": "no", **settings}

    def ask(self, questions):
        """Questions are tuples of fields; answers are lists of fields, in the same order."""
        text = "".join("\t".join(fields) + "\n" for fields in questions)
        result = subprocess.run([str(TOOL), *(f"{k}={v}" for k, v in self.settings.items())], input=text.encode("latin-1"),
                                capture_output=True, timeout=300)
        if result.returncode != 0:
            raise AssertionError(f"spf_tool ended with {result.returncode}\n{result.stderr.decode(errors='replace')}")
        self.log = result.stderr.decode(errors="replace")
        answers = {}
        for line in result.stdout.decode("latin-1").splitlines():
            number, *fields = line.split("\t")
            answers[int(number)] = fields
        return [answers[i] for i in range(len(questions))]

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        pass
