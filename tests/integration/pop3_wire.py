"""POP3 spoken by hand, so that every byte of an answer can be looked at."""

from harness import PASSWORD, Raw


class Pop3:
    """say() returns the status line, ask() a whole multi-line answer as (status, lines with their dots removed)."""

    def __init__(self, server, user=None, port="pop3", password=PASSWORD):
        self.raw = Raw(server.port(port))
        self.greeting = self.raw.line()
        if user:
            assert self.say(f"USER {user}@example.test").startswith(b"+OK")
            self.welcome = self.say(f"PASS {password}")
            assert self.welcome.startswith(b"+OK"), self.welcome

    def send(self, data):
        self.raw.send(data if isinstance(data, bytes) else data.encode())

    def say(self, line):
        self.send((line if isinstance(line, bytes) else line.encode()) + b"\r\n")
        return self.raw.line()

    def body(self):
        lines = []
        while True:
            line = self.raw.line()
            if line == b".\r\n":
                return lines
            if not line.endswith(b"\r\n"):
                raise AssertionError(f"not a line: {line!r}")
            lines.append(line[1:] if line.startswith(b".") else line)

    def ask(self, line):
        status = self.say(line)
        return status, self.body() if status.startswith(b"+OK") else []

    def message(self, number):
        status, lines = self.ask(f"RETR {number}")
        if not status.startswith(b"+OK"):
            raise AssertionError(status)
        return b"".join(lines)

    def sizes(self):
        return [int(line.split()[1]) for line in self.ask("LIST")[1]]

    def quit(self):
        answer = self.say("QUIT")
        self.close()
        return answer

    def close(self):
        self.raw.close()

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()
