"""build/asan/tools/dkim_tool: DKIM and ARC of one message at a time, over a pipe."""

import json
import subprocess

from harness import ROOT

TOOL = ROOT / "build/asan/tools/dkim_tool"


class DkimTool:
    def __init__(self, dns=None, settings=None):
        settings = {**({"dns_server": dns.address} if dns else {}), "dns_cache": "no", **(settings or {})}
        self.process = subprocess.Popen([str(TOOL), *(f"{k}={v}" for k, v in settings.items())],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, *words, data=b""):
        self.process.stdin.write(" ".join(map(str, words)).encode() + b"\n" + data)
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"dkim_tool ended with {self.process.wait(30)}")
        return json.loads(line)

    def verify(self, message):
        return self.ask("verify", len(message), data=message)["signatures"]

    def results(self, message):
        return [s["result"] for s in self.verify(message)]

    def arc(self, message):
        return self.ask("arc", len(message), data=message)

    def key(self, name, pem):
        return self.ask("key", name, len(pem), data=pem)

    def make(self, name, kind):
        return self.ask("make", name, kind)

    def text(self, *words):
        return self.ask(*words)["text"]

    def sign(self, message, *signers, now=1_700_000_000):
        """Signers are (key name, domain, selector); the message with its new fields, or the error."""
        answer = self.ask("sign", len(message), now, *(w for s in signers for w in s), data=message)
        return answer["fields"].encode() + message if "fields" in answer else answer["error"]

    def seal(self, message, key, domain, selector, authserv_id, results, names="-", now=1_700_000_000):
        """The new fields."""
        payload = results.encode()
        answer = self.ask("seal", len(message), now, key, domain, selector, authserv_id, names, len(payload),
                          data=message + payload)
        return answer["fields"] if "fields" in answer else answer["error"]

    def close(self):
        self.process.stdin.close()
        status = self.process.wait(60)
        self.process.stdout.close()
        if status != 0:
            raise AssertionError(f"dkim_tool ended with {status}")
