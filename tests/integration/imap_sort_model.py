"""SORT and THREAD as RFC 5256 describes them, step by step and without regard for speed: what the server must
answer. Messages are dicts: number, sent, arrival, size, subject, from, to, cc, displayfrom, displayto (texts),
msgid, refs (references, the oldest first)."""

import re
import unicodedata

BLOB = re.compile(r"\[[^\[\]]*\][ \t]*")
REFWD = re.compile(r"(?:re|fwd?)[ \t]*(?:\[[^\[\]]*\][ \t]*)?:", re.I)


def casemap(text):
    """i;unicode-casemap (RFC 5051)."""
    out = []
    for c in text:
        title = c.title()
        out.append(unicodedata.normalize("NFKD", title if len(title) == 1 else c))
    return "".join(out).encode()


def base_subject(text):
    """(base, is reply or forward), RFC 5256, 2.1."""
    s, reply = re.sub(r"[ \t\r\n]+", " ", text), False
    while True:
        while True:                                                         # step 2
            t = s.rstrip(" ")
            if t.lower().endswith("(fwd)"):
                t, reply = t[:-5], True
            if t == s:
                break
            s = t
        while True:                                                         # step 5
            before, s = s, s.lstrip(" ")
            at = 0                                                          # step 3: *subj-blob subj-refwd
            while (m := BLOB.match(s, at)):
                at = m.end()
            if (m := REFWD.match(s, at)):
                s, reply = s[m.end():], True
            elif (m := BLOB.match(s)) and s[m.end():].strip():              # step 4
                s = s[m.end():]
            if s == before:
                break
        if s[:5].lower() == "[fwd:" and s.endswith("]"):                    # step 6
            s, reply = s[5:-1], True
            continue
        return s, reply


def sort(messages, criteria):
    """criteria: [("subject", reverse), ...]; the numbers in order."""
    out = sorted(messages, key=lambda m: m["number"])
    for name, reverse in reversed(criteria):
        def key(m):
            if name in ("sent", "arrival", "size"):
                return m[name]
            return casemap(base_subject(m["subject"])[0] if name == "subject" else m[name])
        out.sort(key=key, reverse=reverse)
        # sort() with reverse keeps equal ones in their order, as the RFC wants.
    return [m["number"] for m in out]


class Node:
    def __init__(self, message=None):
        self.message, self.parent, self.children = message, None, []

    def is_below(self, other):
        node = self
        while node:
            if node is other:
                return True
            node = node.parent
        return False

    def link(self, child):
        if not self.is_below(child):
            self.children.append(child)
            child.parent = self

    def cut(self):
        if self.parent:
            self.parent.children.remove(self)
            self.parent = None

    def first(self):
        return self if self.message else self.children[0]

    def when(self):
        m = self.first().message
        return m["sent"], m["number"]


def in_order(nodes):
    return sorted(nodes, key=Node.when)


def prune(nodes, at_root):
    out = []
    for node in nodes:
        node.children = prune(node.children, False)
        if node.message or (at_root and len(node.children) > 1):
            out.append(node)
        else:
            out += node.children
    return out


def thread_references(messages):
    by_id, nodes = {}, []
    for m in messages:                                                      # who has which id
        node = Node(m)
        nodes.append(node)
        if m["msgid"] and m["msgid"] not in by_id:
            by_id[m["msgid"]] = node
    every = list(nodes)
    for m, node in zip(messages, nodes):                                    # step 1
        last = None
        for ref in m["refs"]:
            if ref not in by_id:
                by_id[ref] = Node()
                every.append(by_id[ref])
            if last and not by_id[ref].parent:
                last.link(by_id[ref])
            last = by_id[ref]
        if node.parent is not last or last is None:
            node.cut()
            if last:
                last.link(node)
    roots = prune([n for n in every if not n.parent], True)                 # steps 2 and 3
    for root in roots:
        if not root.message:
            root.children = in_order(root.children)
    roots = in_order(roots)                                                 # step 4

    def subject(n):
        return casemap(base_subject(n.first().message["subject"])[0])

    def is_reply(n):
        return n.message is not None and base_subject(n.message["subject"])[1]

    table = {}                                                              # step 5
    for n in roots:
        s = subject(n)
        if s and (s not in table or (table[s].message and (not n.message or (is_reply(table[s]) and not is_reply(n))))):
            table[s] = n
    subjects = [(n, subject(n)) for n in roots]
    for n, s in subjects:
        if not s or table[s] is n:
            continue
        head = table[s]
        roots.remove(n)
        if not head.message and not n.message:
            head.children += n.children
        elif not head.message or (is_reply(n) and not is_reply(head)):
            head.children.append(n)
        else:
            dummy = Node()
            roots[roots.index(head)] = dummy
            dummy.children = [head, n]
            table[s] = dummy

    def sort_all(siblings):                                                 # step 6
        for n in siblings:
            n.children = sort_all(n.children)
        return in_order(siblings)
    return sort_all(roots)


def thread_subject(messages):
    threads = {}
    for m in sorted(messages, key=lambda m: (m["sent"], m["number"])):
        threads.setdefault(casemap(base_subject(m["subject"])[0]), []).append(Node(m))
    roots = []
    for nodes in threads.values():
        nodes[0].children = nodes[1:]
        roots.append(nodes[0])
    return in_order(roots)


def show(node):
    """One thread without its parentheses."""
    text = str(node.message["number"]) if node.message else ""
    if node.message and len(node.children) == 1:
        return f"{text} {show(node.children[0])}"
    below = "".join(f"({show(c)})" for c in node.children)
    return f"{text} {below}" if text and below else text + below


def show_all(roots):
    return "".join(f"({show(n)})" for n in roots)
