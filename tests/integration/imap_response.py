"""A strict reader of IMAP responses (RFC 9051, 9): raises ValueError on anything that is not the grammar."""


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def peek(self):
        return self.data[self.at:self.at + 1]

    def expect(self, byte):
        if self.peek() != byte:
            raise ValueError(f"{byte!r} expected at {self.at}: {self.data[max(0, self.at - 60):self.at + 60]!r}")
        self.at += 1

    def value(self):
        c = self.peek()
        if c == b"(":
            return self.list()
        if c == b'"':
            return self.quoted()
        if c == b"{" or self.data[self.at:self.at + 2] == b"~{":
            return self.literal()
        return self.atom()

    def list(self):
        items = []
        self.expect(b"(")
        while self.peek() != b")":
            # Only in a list of lists (addresses, multipart bodies) may members touch.
            if items and not (self.peek() == b"(" and isinstance(items[-1], list)):
                self.expect(b" ")
            items.append(self.value())
        self.expect(b")")
        return items

    def quoted(self):
        out = bytearray()
        self.expect(b'"')
        while True:
            c = self.peek()
            if c in (b"", b"\r", b"\n", b"\0"):
                raise ValueError(f"bad byte in a quoted string at {self.at}")
            self.at += 1
            if c == b'"':
                return bytes(out)
            if c == b"\\":
                c = self.peek()
                if c not in (b'"', b"\\"):
                    raise ValueError(f"bad escape at {self.at}")
                self.at += 1
            out += c

    def literal(self):
        is_binary = self.peek() == b"~"
        self.at += is_binary
        end = self.data.index(b"}\r\n", self.at)
        size = int(self.data[self.at + 1:end])
        start = end + 3
        if start + size > len(self.data):
            raise ValueError("literal beyond the end")
        self.at = start + size
        text = self.data[start:self.at]
        if b"\0" in text and not is_binary:
            raise ValueError("NUL in a literal")
        return text

    def atom(self):
        start, depth = self.at, 0
        while self.at < len(self.data):
            c = self.peek()
            if c == b"[":
                depth += 1
            elif c == b"]":
                depth -= 1
            elif depth == 0 and c in b' ()"{\r\n':
                break
            elif c in b"\r\n":
                break
            self.at += 1
        word = self.data[start:self.at]
        if not word:
            raise ValueError(f"nothing where a value was expected at {start}")
        return None if word == b"NIL" else word


def parse_fetch(data):
    """b'* 12 FETCH (UID 3 ...)\\r\\n' -> (12, {b'UID': b'3', ...})"""
    r = Reader(data)
    r.expect(b"*")
    r.expect(b" ")
    number = int(r.atom())
    r.expect(b" ")
    if r.atom() != b"FETCH":
        raise ValueError("not a FETCH")
    r.expect(b" ")
    items = r.list()
    r.expect(b"\r")
    r.expect(b"\n")
    if r.at != len(data):
        raise ValueError("bytes behind the response")
    return number, dict(zip(items[::2], items[1::2]))


def check_envelope(e):
    if not isinstance(e, list) or len(e) != 10:
        raise ValueError(f"envelope of {len(e) if isinstance(e, list) else e!r} fields")
    for field in e[2:8]:
        if field is None:
            continue
        if not field:
            raise ValueError("empty address list")
        for address in field:
            if len(address) != 4:
                raise ValueError(f"address of {len(address)} fields")


def check_structure(b, depth=0):
    """BODYSTRUCTURE, with its extension data."""
    if not isinstance(b, list) or not b or depth > 200:
        raise ValueError(f"not a body: {b!r}")
    if isinstance(b[0], list):
        parts = [p for p in b if isinstance(p, list)]
        n = 0
        while n < len(b) and isinstance(b[n], list):
            check_structure(b[n], depth + 1)
            n += 1
        if not isinstance(b[n], bytes):
            raise ValueError("multipart without subtype")
        return len(parts)
    if len(b) < 7:
        raise ValueError(f"body of {len(b)} fields: {b!r}")
    kind, subtype, params, _id, _description, encoding, size = b[:7]
    if not isinstance(kind, bytes) or not isinstance(subtype, bytes) or not isinstance(encoding, bytes):
        raise ValueError("type, subtype and encoding must be strings")
    if params is not None and (len(params) % 2 or not params):
        raise ValueError("parameters come in pairs")
    int(size)
    if kind.lower() == b"text":
        int(b[7])
    if kind.lower() == b"message" and subtype.lower() in (b"rfc822", b"global"):
        check_envelope(b[7])
        check_structure(b[8], depth + 1)
        int(b[9])
    return 1
