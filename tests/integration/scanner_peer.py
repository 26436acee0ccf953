"""ClamAV's daemon and Rspamd as Debian has them, each private to a test, and peers that misbehave in their place.

The virus is EICAR's test file, put together here so that it stands in no file; ClamAV knows it from a database of our own,
for the real ones come from the network."""

import os
import pathlib
import shutil
import socket
import struct
import subprocess
import tempfile
import threading

from harness import ROOT, eventually

EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR" + b"-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE" + "-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"


def find(*names):
    return next((p for p in map(pathlib.Path, names) if p.exists()), None)


CLAMD = find(ROOT / "build/clamav/usr/sbin/clamd", "/usr/sbin/clamd")
RSPAMD = find(ROOT / "build/rspamd/usr/bin/rspamd", "/usr/bin/rspamd")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


class Program:
    """One of them in a folder of its own, in the foreground."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="scanner-", dir="/tmp"))
        os.chmod(self.folder, 0o755)
        self.port = free_port()
        self.process = None
        self.prepare()

    def start(self):
        with open(self.folder / "out", "ab") as out:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                            env={**os.environ, **self.env})
        if not eventually(self.is_listening, 90):
            raise RuntimeError((self.folder / "out").read_text(errors="replace")[-3000:])
        return self

    def is_listening(self):
        if self.process.poll() is not None:
            raise RuntimeError((self.folder / "out").read_text(errors="replace")[-3000:])
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            return True
        except OSError:
            return False

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def remove(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


class Clamd(Program):
    env = {}

    def prepare(self):
        self.socket = self.folder / "clamd.ctl"
        (self.folder / "db").mkdir()
        (self.folder / "db/test.ndb").write_text(f"Test.Eicar:0:*:{EICAR[:40].hex()}\n")
        (self.folder / "clamd.conf").write_text(
            f"LocalSocket {self.socket}\nLocalSocketMode 666\nTCPSocket {self.port}\nTCPAddr 127.0.0.1\n"
            f"DatabaseDirectory {self.folder}/db\nForeground yes\nTemporaryDirectory {self.folder}\n"
            "StreamMaxLength 1M\nMaxRecursion 8\nMaxThreads 4\nSelfCheck 0\n")

    def command(self):
        return [str(CLAMD), "-c", str(self.folder / "clamd.conf")]


RULES = """
local function when(word, action, message)
  rspamd_config:register_symbol{name = 'TEST_' .. word:upper(), type = 'prefilter', callback = function(task)
    if (task:get_subject() or ''):find(word) then task:set_pre_result(action, message, 'test') end
  end}
end
when('soft', 'soft reject', 'not now')
rspamd_config:register_symbol{name = 'TEST_PILLS', score = 7.5, group = 't', callback = function(task)
  return (task:get_subject() or ''):find('pills') ~= nil, 1.0
end}
rspamd_config:register_symbol{name = 'TEST_GREY', score = 4.5, group = 't', callback = function(task)
  return (task:get_subject() or ''):find('greyish') ~= nil, 1.0
end}
local function told(name, what)
  rspamd_config:register_symbol{name = name, score = 0.1, group = 't', callback = function(task) return what(task), 1.0 end}
end
told('TOLD_CLIENT', function(task) return tostring(task:get_from_ip()) == '192.0.2.7' and task:get_helo() == 'there.test' end)
told('TOLD_NULL_SENDER', function(task) local f = task:get_from('smtp') return not f or f[1].addr == '' end)
told('TOLD_SENDER', function(task) local f = task:get_from('smtp') return f ~= nil and f[1].addr == 'a@elsewhere.test' end)
told('TOLD_TWO', function(task) local r = task:get_recipients('smtp') return r and #r == 2 and r[2].addr == 'bob@example.test' end)
told('TOLD_THE_END', function(task) return tostring(task:get_content()):find('the very end', -20, true) ~= nil end)
told('TOLD_USER', function(task) return task:get_user() == 'alice@example.test' end)
"""


class Rspamd(Program):
    def prepare(self):
        (self.folder / "tld").write_text("com\norg\nnet\ntest\n")
        (self.folder / "rules.lua").write_text(RULES)
        (self.folder / "rspamd.conf").write_text(
            f'options {{ pidfile = "{self.folder}/pid"; filters = ""; temp_dir = "{self.folder}"; url_tld = "{self.folder}/tld";\n'
            f'  control_socket = "{self.folder}/control mode=0600"; disable_hyperscan = true;\n'
            '  dns { nameserver = ["127.0.0.1:9"]; timeout = 0.1s; retransmits = 1; } }\n'
            'logging { type = "console"; level = "warning"; }\n'
            f'worker "normal" {{ bind_socket = "127.0.0.1:{self.port}"; count = 1; }}\n'
            'actions { reject = 15; add_header = 6; greylist = 4; }\n'
            f'lua = "{self.folder}/rules.lua";\n')

    @property
    def env(self):
        return {"LD_LIBRARY_PATH": str(RSPAMD.parents[1] / "lib/rspamd")}

    def command(self):
        root = RSPAMD.parents[1]
        share = root / "share/rspamd"
        places = {"CONFDIR": root.parent / "etc/rspamd", "RULESDIR": share / "rules", "SHAREDIR": share,
                  "LUALIBDIR": share / "lualib", "PLUGINSDIR": share / "plugins"}
        places.update({name: self.folder for name in ("LOCAL_CONFDIR", "DBDIR", "RUNDIR", "LOGDIR")})
        return [str(RSPAMD), "-f", "-i", "-c", str(self.folder / "rspamd.conf")] + [f"--var={k}={v}" for k, v in places.items()]


class Peer:
    """Listens on `port` and gives each connection to `behave(sock)` in a thread; counts them."""

    def __init__(self, behave):
        self.behave, self.asked, self.threads, self.port = behave, 0, [], free_port()
        self.open()

    def open(self):
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.accepting = threading.Thread(target=self.accept, args=(self.listener,), daemon=True)
        self.accepting.start()

    def accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self.asked += 1
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        sock.settimeout(30)
        try:
            self.behave(sock)
        except OSError:
            pass
        finally:
            sock.close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.accepting.join(30)


def exact(sock, size):
    data = b""
    while len(data) < size:
        block = sock.recv(size - len(data))
        if not block:
            raise OSError("closed")
        data += block
    return data


def read_stream(sock):
    """What INSTREAM carries."""
    command, data = exact(sock, 10), b""
    if command != b"nINSTREAM\n":
        raise OSError("another command")
    while True:
        size = struct.unpack(">I", exact(sock, 4))[0]
        if size == 0:
            return data
        data += exact(sock, size)


def read_request(sock):
    """Header and content of one HTTP request."""
    data = b""
    while b"\r\n\r\n" not in data:
        block = sock.recv(65536)
        if not block:
            raise OSError("closed")
        data += block
    head, _, content = data.partition(b"\r\n\r\n")
    fields = [line.split(b": ", 1) for line in head.split(b"\r\n")[1:]]
    size = int(dict((n.lower(), v) for n, v in fields)[b"content-length"])
    content += exact(sock, size - len(content))
    return fields, content
