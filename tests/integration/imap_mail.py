"""Letters for tests of IMAP: made, loaded in bulk, and read back the way imap_sort_model wants them."""

import datetime
import email.header
import email.utils
import re

from imap_response import parse_fetch


def encoded(text):
    return text if text.isascii() else email.header.Header(text, "utf-8", maxlinelen=10000).encode()


def address(text):
    name, addr = re.fullmatch(r"(.*?)\s*<([^>]*)>", text).groups() if text.endswith(">") else ("", text)
    return f"{encoded(name)} <{addr}>" if name else addr


def letter(subject="", sender="", to="", cc="", date="", msgid="", refs=(), reply_to="", body="text"):
    """A field whose value is empty is left out."""
    fields = {"From": address(sender), "To": address(to), "Cc": cc, "Subject": encoded(subject), "Date": date, "Message-ID": msgid,
              "In-Reply-To": reply_to, "References": " ".join(refs)}
    head = "".join(f"{k}: {v}\r\n" for k, v in fields.items() if v)
    return (head + "\r\n" + body + "\r\n").encode()


def load(s, letters, mailbox="INBOX"):
    """In one MULTIAPPEND for each hundred; their arrival differs by a second, backwards in pairs."""
    for at in range(0, len(letters), 100):
        parts = [b"APPEND " + mailbox.encode()]
        for i, raw in enumerate(letters[at:at + 100], at):
            when = datetime.datetime(2024, 5, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(seconds=i)
            parts.append(b' "%s" {%d+}\r\n%s' % (when.strftime("%d-%b-%Y %H:%M:%S +0000").encode(), len(raw), raw))
        s.ok(b"".join(parts))
    s.ok("NOOP")


def expand(text):
    """The numbers of a sequence set, in its order."""
    out = []
    for part in text.split(","):
        low, _, high = part.partition(":")
        out += range(int(low), int(high or low) + 1)
    return out


def text_of(value):
    if not value:
        return ""
    return "".join(part.decode(charset or "ascii", "replace") if isinstance(part, bytes) else part
                   for part, charset in email.header.decode_header(value.decode("latin-1")))


def first_local(addresses):
    return (addresses[0][2] or b"").decode("latin-1") if addresses else ""


def display(addresses):
    """RFC 5957, 3."""
    if not addresses:
        return ""
    name, _, local, host = addresses[0]
    if text_of(name):
        return text_of(name)
    if local is not None and host is not None:
        return f"{local.decode()}@{host.decode()}"
    return (local or b"").decode()


def sent_of(date, arrival):
    """Microseconds; what is no date falls back to the arrival (RFC 5256, 2.2)."""
    try:
        parsed = email.utils.parsedate_to_datetime(date.decode())
    except (AttributeError, ValueError, TypeError):
        return arrival
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=datetime.timezone.utc)
    return int(parsed.timestamp())


PLAIN_DATE = re.compile(r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), *)?\d{1,2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d{4} "
                        r"\d\d:\d\d(?::\d\d)? (?:[+-]\d{4}|GMT)(?: \([^()]*\))?")


def is_plain(raw):
    """Does its header break no rules? Where it does, other programs read something else, and none of them is wrong."""
    header = raw.split(b"\r\n\r\n")[0] + b"\r\n"
    date = field(header, b"Date").strip()
    has_odd_names = re.search(rb"(?m)^[\w-]+[ \t]+:", header) is not None
    return header.isascii() and b"=?" not in header and not has_odd_names and (not date or PLAIN_DATE.fullmatch(date) is not None)


MSGID = re.compile(r"<([^<>]+)>")


def msgids(value):
    ids = MSGID.findall(re.sub(r"\s", "", value or ""))
    return [re.sub(r'\\(.)|"', lambda m: m.group(1) or "", i) for i in ids]


def field(header, name):
    m = re.search(rb"(?mi)^" + name + rb":((?:.*\r\n)(?:[ \t].*\r\n)*)", header)
    return m.group(1).decode("latin-1") if m else ""


def messages_of(s):
    out = []
    for response in s.ok("FETCH 1:* (ENVELOPE INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (References In-Reply-To Message-ID)])"):
        number, items = parse_fetch(response)
        date, subject, sender, _, _, to, cc, _, _, _ = items[b"ENVELOPE"]
        header = next(v for k, v in items.items() if k and k.startswith(b"BODY[HEADER"))
        arrival = int(datetime.datetime.strptime(items[b"INTERNALDATE"].decode().strip(), "%d-%b-%Y %H:%M:%S %z").timestamp())
        refs = msgids(field(header, b"References")) or msgids(field(header, b"In-Reply-To"))[:1]
        out.append({"number": number, "arrival": arrival, "sent": sent_of(date, arrival), "size": int(items[b"RFC822.SIZE"]), "subject": text_of(subject),
                    "from": first_local(sender), "to": first_local(to), "cc": first_local(cc), "displayfrom": display(sender), "displayto": display(to),
                    "msgid": (msgids(field(header, b"Message-ID")) or [""])[0], "refs": refs})
    return out
