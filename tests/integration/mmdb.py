"""Writes a tiny country database in MaxMind's format (version 2.0 of its specification): IPv4 networks alone, 24-bit records."""

import ipaddress
import os
import struct


def text(s):
    return bytes([2 << 5 | len(s)]) + s.encode()


def number(key, kind, value, size):
    head = bytes([kind << 5 | size]) if kind < 8 else bytes([size, kind - 7])
    return text(key) + head + value.to_bytes(size, "big")


def write(path, countries):
    """countries: {"192.0.2.0/24": "ID"}. A new file takes the old one's place."""
    nodes, data = [[None, None]], b""
    for network, country in countries.items():
        network, at = ipaddress.ip_network(network), 0
        bits = f"{int(network.network_address):032b}"[:network.prefixlen]
        for bit in bits[:-1]:
            if nodes[at][int(bit)] is None:
                nodes.append([None, None])
                nodes[at][int(bit)] = len(nodes) - 1
            at = nodes[at][int(bit)]
        nodes[at][int(bits[-1])] = ("data", len(data))
        data += bytes([7 << 5 | 1]) + text("country") + bytes([7 << 5 | 1]) + text("iso_code") + text(country)

    def record(value):
        if value is None:
            value = len(nodes)
        elif isinstance(value, tuple):
            value = len(nodes) + 16 + value[1]
        return struct.pack(">I", value)[1:]

    metadata = b"".join([
        number("node_count", 6, len(nodes), 4), number("record_size", 5, 24, 2), number("ip_version", 5, 4, 2),
        number("binary_format_major_version", 5, 2, 2), number("binary_format_minor_version", 5, 0, 2),
        number("build_epoch", 9, 1700000000, 8), text("database_type") + text("Test-Country"),
        text("languages") + bytes([0, 11 - 7]), text("description") + bytes([7 << 5])])
    with open(f"{path}.new", "wb") as f:
        f.write(b"".join(record(r) for node in nodes for r in node) + bytes(16) + data
                + b"\xab\xcd\xefMaxMind.com" + bytes([7 << 5 | 9]) + metadata)
    os.rename(f"{path}.new", path)
