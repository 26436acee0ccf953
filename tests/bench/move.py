#!/usr/bin/env python3
"""move.py PORT USER PASSWORD: how long MOVE of 1,000 messages takes, which the load driver does not measure.

Moves messages 4001 to 5000 of INBOX away and back, and prints the time of the first in the driver's form."""
import socket
import sys
import time

port, user, password = int(sys.argv[1]), sys.argv[2], sys.argv[3]
connection = socket.create_connection(("127.0.0.1", port))
connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
stream = connection.makefile("rb", 1 << 20)
stream.readline()


def command(text):
    began = time.monotonic()
    connection.sendall(f"m {text}\r\n".encode())
    while not (line := stream.readline()).startswith(b"m "):
        if not line:
            sys.exit("move.py: the connection was closed")
    return line[2:4] == b"OK", (time.monotonic() - began) * 1000


command(f"LOGIN {user} {password}")
command("DELETE bmove")
command("CREATE bmove")
command("SELECT INBOX")
ok, milliseconds = command("MOVE 4001:5000 bmove")
if ok:
    print(f"{'MOVE-1000':<22} {milliseconds:9.1f} ms")
command("SELECT bmove")
command("MOVE 1:* INBOX")
command("SELECT INBOX")
command("DELETE bmove")
command("LOGOUT")
