"""Reads the SPF test vectors in shared data as scenarios: records for DnsServer, and cases with what is right.

Two formats: the RFC 7208 test suite (YAML: zonedata and tests), and one of lines, where within a test a later
line takes the place of an earlier one and each "expect" makes a case."""

import ipaddress

import yaml

from dns_server import escape_name


class Scenario:
    def __init__(self, name):
        self.name, self.records, self.behaviours, self.cases = name, {}, {}, []

    def add(self, name, kind, data):
        if len(name) > 253 or any(len(label) > 63 for label in name.split(".")):
            return                              # no zone can have it
        self.records.setdefault(name, []).append((kind, data))


class Case:
    def __init__(self, name, client, helo, sender, results, explanation=None):
        self.name, self.client, self.helo, self.sender = name, client, helo, sender
        self.results, self.explanation = results, explanation


# ---- the RFC 7208 suite --------------------------------------------------------------------------

def suite(path):
    with open(path, "rb") as f:
        return [suite_scenario(d) for d in yaml.safe_load_all(f) if d]


def suite_scenario(document):
    s = Scenario(document["description"])
    for name, entries in document["zonedata"].items():
        add_suite_name(s, str(name), entries)
    for name, t in document["tests"].items():
        results = t["result"] if isinstance(t["result"], list) else [t["result"]]
        s.cases.append(Case(name, str(t["host"]), str(t["helo"]), str(t["mailfrom"]), results, t.get("explanation")))
    return s


def add_suite_name(s, name, entries):
    """An SPF record is a TXT record too, unless the name has TXT; NONE means no such record; TIMEOUT is for
    all types that are not there."""
    has_txt = any(isinstance(e, dict) and "TXT" in e for e in entries)
    kinds = set()
    for entry in entries:
        if entry == "TIMEOUT":
            continue
        (kind, data), = entry.items()
        kinds.add(kind)
        if data == "NONE":
            kinds.discard(kind)
            continue
        s.add(name, kind, suite_data(kind, data))
        if kind == "SPF" and not has_txt:
            kinds.add("TXT")
            s.add(name, "TXT", data)
    if "TIMEOUT" in entries:
        for kind in {"A", "AAAA", "MX", "PTR", "TXT"} - kinds:
            s.behaviours[(name, kind)] = "timeout"


def suite_data(kind, data):
    if kind == "MX":
        return f"{data[0]} {escape_name(data[1])}"
    return escape_name(data) if kind in ("PTR", "CNAME") else data


# ---- the other one -------------------------------------------------------------------------------

def reverse_name(address):
    return ipaddress.ip_address(address).reverse_pointer


def add_line(s, kind, text):
    """"mx: name address, ..." makes a host for each address."""
    name, _, data = text.strip().partition(" ")
    name, values = name.rstrip("."), [v.strip() for v in data.split(",") if v.strip()]
    if kind in ("spf", "exp"):
        s.records[name] = [r for r in s.records.get(name, []) if r[0] != "TXT"]
        s.add(name, "TXT", data)
    elif kind in ("a", "aaaa"):
        for value in values:
            s.add(name, kind.upper(), value)
    elif kind == "ptr":
        for value in values:
            s.add(reverse_name(name), "PTR", value.rstrip(".") + ".")
    elif kind == "mx":
        s.records[name] = [r for r in s.records.get(name, []) if r[0] != "MX"]
        for i, value in enumerate(values):
            s.add(name, "MX", f"{i} mx-host-{i}.{name}.")
            s.records[f"mx-host-{i}.{name}"] = [("AAAA" if ":" in value else "A", value)]
    else:
        raise ValueError(kind)


def lines(path):
    """Scenarios of one file: a new one whenever records change between cases."""
    scenarios = []
    for document in path.read_text().split("\n---"):
        title, s, state, changed = path.name, Scenario(path.name), {}, False
        for raw in document.splitlines():
            line = raw.strip()
            if line.startswith("- "):
                line = line[2:].strip()
            key, colon, value = line.partition(":")
            if not colon or line.startswith("#") or key in ("records", "tests"):
                continue
            value = value.strip()
            if key == "name":
                title = value
            elif key in ("spf", "exp", "a", "aaaa", "ptr", "mx"):
                if s.cases:
                    s = branch(scenarios, s)
                add_line(s, key, raw.strip().lstrip("- ").partition(":")[2].lstrip())
            elif key == "expect":
                result, _, explanation = value.partition(" ")
                s.name = f"{path.name}: {title}"
                s.cases.append(Case(f"{title} ({state['ip']})", state["ip"], state["domain"], state["sender"], [result],
                                    explanation or None))
            else:
                state[key] = value
        scenarios.append(s)
    return [s for s in scenarios if s.cases]


def branch(scenarios, s):
    scenarios.append(s)
    new = Scenario(s.name)
    new.records = {name: list(entries) for name, entries in s.records.items()}
    return new
