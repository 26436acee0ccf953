"""Other people's mail servers as neighbours: Debian's Postfix and Exim 4 on private directories and free ports of loopback.

    neighbour = Postfix()                   # its ports are known from now on
    neighbour.start(server)                 # routes example.test to that Server and trusts its CA
    neighbour.ports["mx"]                   # and others: see DOORS
    neighbour.send(sender, [to], message)   # as a client that may relay; the neighbour delivers to us
    neighbour.mail("a subject")             # what its mailbox has: a list of Letters
    neighbour.stop(); neighbour.start(server); neighbour.flush(); neighbour.remove()

The neighbour is mx.neighbour.test. It has the mailboxes of USERS in each domain of DOORS, all in one folder. "bounces" is
taken and returned later; who is not named there is refused at RCPT, a Subject with "refuse this" after DATA.

Both are taken from `make test-deps`, which only unpacks them: installed they would exclude each other and run as services.
They become users of their own, so only root can start them."""

import base64
import contextlib
import dataclasses
import email
import email.policy
import os
import pathlib
import pwd
import random
import re
import shutil
import signal
import smtplib
import socket
import struct
import subprocess
import tempfile
import threading

from harness import PASSWORD, ROOT, eventually
from smtp_peer import Authority

POSTFIX = ROOT / "build/postfix"
SASL = ROOT / "build/sasl2-bin"
EXIM = ROOT / "build/exim4-daemon-light"

# Where one may knock -> the domain that is delivered by it, and the name of the host.
DOORS = {"mx": "neighbour.test",            # offers all that it can
         "old": "old.test",                 # no STARTTLS, 8BITMIME, SMTPUTF8, DSN, CHUNKING, PIPELINING
         "small": "small.test",             # takes 50,000 bytes
         "auth": "auth.test",               # only from who logged in
         "auth2": "auth2.test"}             # so too, with one mechanism
USERS = ("friend", "other", "bounces", "jürgen", *(f"r{n:03}" for n in range(100)))
NAME, WORD = "relay-user", "open sesame"
SMALL = 50000


def host(door):
    return f"{door}.neighbour.test"


def free_ports(count):
    """Where neither harness.free_offset nor the kernel takes any."""
    first = 21000 + 10000 * int(os.environ.get("MERPATI_TEST_PORT_RANGE", "0"))
    found = []
    for port in random.sample(range(first, first + 990), 990):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise RuntimeError("no free ports")


@dataclasses.dataclass
class Letter:
    sender: str                 # of the envelope
    rcpt: str
    raw: bytes                  # as it came, with the neighbour's Received fields, lines ending in CR LF
    message: email.message.EmailMessage

    @property
    def body(self):
        return self.raw.partition(b"\r\n\r\n")[2]


class Neighbour:
    def __init__(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix=f"{type(self).__name__.lower()}-", dir="/tmp"))
        self.base.chmod(0o755)
        self.folder = self.base / "mail"
        self.ports = dict(zip((*DOORS, "stranger"), free_ports(len(DOORS) + 1)))
        self.authority = Authority(self.base)
        self.certificate, self.key = self.authority.make(*map(host, DOORS), "neighbour.test")
        self.processes = []
        self.is_made = False

    # ---- how the server under test finds it ------------------------------------------------------
    def settings(self):
        (self.base / "credentials").write_text("".join(f"{host(d)} {NAME} {WORD}\n" for d in ("auth", "auth2")))
        routes = [f"{domain}={host(door)}:{self.ports[door]}" for door, domain in DOORS.items()]
        return {"delivery_routes": "; ".join(routes), "delivery_credentials": str(self.base / "credentials"), "tls_ca_file": str(self.authority.ca),
                "delivery_tls_domains": DOORS["mx"]}

    def records(self):
        """For DNS; the strangers' network of Stranger is allowed to send."""
        return {**{host(door): [("A", "127.0.0.1")] for door in DOORS},
                DOORS["mx"]: [("MX", f"10 {host('mx')}."), ("TXT", f"v=spf1 ip4:{Stranger.address} -all")],
                f"s1._domainkey.{DOORS['mx']}": [("TXT", f"v=DKIM1; k=rsa; p={self.signing_key()}")],
                f"_dmarc.{DOORS['mx']}": [("TXT", "v=DMARC1; p=reject")]}

    # ---- life ------------------------------------------------------------------------------------
    def start(self, server):
        if not self.is_made:
            shutil.copy(server.data / "tls/ca.pem", self.base / "our-ca.pem")
            self.make(server)
            self.is_made = True
        self.processes = [self.run(*command) for command in self.commands()]
        if not eventually(self.listens, 30):
            raise RuntimeError(f"{type(self).__name__} does not start: {self.log()}")
        return self

    def run(self, *command):
        out = open(self.base / "out", "ab")
        with out:
            return subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.environment(),
                                    cwd=self.base, start_new_session=True)

    def environment(self):
        return dict(os.environ)

    def listens(self):
        for door in DOORS:
            try:
                with socket.create_connection(("127.0.0.1", self.ports[door]), timeout=30) as s:
                    if not s.recv(100).startswith(b"220"):
                        return False
            except OSError:
                return False
        return True

    def stop(self):
        """With all that they have begotten: an idle session would outlive its daemon, and go on taking mail."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)
        self.processes = []

    def remove(self):
        self.stop()
        shutil.rmtree(self.base, ignore_errors=True)

    def log(self):
        return "".join(p.read_text(errors="replace") for p in [self.base / "out", *self.log_files()] if p.exists())

    def signing_key(self):
        """The public half of the key that Exim signs with, as its record has it."""
        key = self.base / "dkim.key"
        if not key.exists():
            subprocess.run(["openssl", "genrsa", "-traditional", "-out", key, "2048"], check=True, capture_output=True)
        der = subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-outform", "DER"], check=True, capture_output=True).stdout
        return base64.b64encode(der).decode()

    # ---- mail ------------------------------------------------------------------------------------
    def client(self, door="mx"):
        return smtplib.SMTP("127.0.0.1", self.ports[door], local_hostname="client.test", timeout=60)

    def send(self, sender, to, message, mail_options=(), rcpt_options=()):
        with self.client() as c:
            return c.sendmail(sender, to, message, list(mail_options), list(rcpt_options))

    def mail(self, subject):
        """All letters with this subject."""
        return [letter for letter in self.letters() if str(letter.message["Subject"]) == subject]

    def letters(self):
        found = []
        for path in sorted((self.folder / "new").glob("*")):
            raw = path.read_bytes().replace(b"\n", b"\r\n")
            message = email.message_from_bytes(raw, policy=email.policy.default)
            found.append(Letter(*(self.field(raw, name) for name in ("Return-Path", self.rcpt_field)), raw, message))
        return found

    def field(self, raw, name):
        return re.search(rb"(?im)^%s: <?(.*?)>?\r$" % name.encode(), raw)[1].decode()


class Stranger:
    """Lets the neighbour's connections to ports["stranger"] come from afar: with a PROXY header (v2) in front."""

    address = "192.0.2.77"

    def __init__(self, port, target):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
                far = socket.create_connection(self.target, timeout=60)
            except OSError:
                return
            far.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", 12) + socket.inet_aton(self.address)
                        + socket.inet_aton("198.51.100.1") + struct.pack("!HH", 4242, 25))
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self.copy, args=pair, daemon=True).start()

    def copy(self, source, sink):
        with contextlib.suppress(OSError):
            while block := source.recv(65536):
                sink.sendall(block)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Postfix(Neighbour):
    rcpt_field = "X-Original-To"
    program = POSTFIX / "usr/lib/postfix/sbin/master"

    def environment(self):
        return {**os.environ, "LD_LIBRARY_PATH": str(POSTFIX / "usr/lib/postfix"), "MAIL_CONFIG": str(self.base / "etc")}

    def commands(self):
        return [(self.program, "-c", self.base / "etc", "-d")]

    def log_files(self):
        return [self.base / "log"]

    def flush(self):
        subprocess.run([POSTFIX / "usr/sbin/postqueue", "-c", self.base / "etc", "-f"], env=self.environment(), check=True, timeout=60)

    def make(self, server):
        etc, spool = self.base / "etc", self.base / "spool"
        for folder in (etc, etc / "sasl", spool, spool / "pid"):
            folder.mkdir()
        for name in "active bounce corrupt defer deferred flush hold incoming private saved trace maildrop public".split():
            (spool / name).mkdir(mode=0o700)
            shutil.chown(spool / name, "postfix", "postdrop" if name in ("maildrop", "public") else None)
        (spool / "maildrop").chmod(0o1730)
        (spool / "public").chmod(0o2710)
        for folder in (self.base / "data", self.folder):
            folder.mkdir()
            shutil.chown(folder, "postfix")
        self.make_passwords(etc)
        self.make_tables(etc, server)
        (etc / "main.cf").write_text("".join(f"{name} = {value}\n" for name, value in self.main(etc, spool, server).items()))
        (etc / "master.cf").write_text(self.master())

    def make_passwords(self, etc):
        """Cyrus SASL's, from a database of its own; auth2 is for those who know PLAIN only. Debian's Postfix looks for their
        settings below its own, whatever cyrus_sasl_config_path says."""
        database = self.base / "sasldb"
        subprocess.run([SASL / "usr/sbin/saslpasswd2", "-p", "-c", "-f", database, "-u", "mx.neighbour.test", NAME], input=WORD.encode(),
                       check=True, timeout=60)
        shutil.chown(database, "postfix")
        for name, mechanisms in (("smtpd", "SCRAM-SHA-256 PLAIN LOGIN"), ("plain", "PLAIN")):
            (etc / f"sasl/{name}.conf").write_text("pwcheck_method: auxprop\nauxprop_plugin: sasldb\n"
                                              f"sasldb_path: {database}\nmech_list: {mechanisms}\n")

    def make_tables(self, etc, server):
        (etc / "users").write_text("/^(%s)@/ mail/\n" % "|".join(USERS))
        (etc / "subjects").write_text("/^Subject: .*refuse this/ REJECT 5.7.1 not with such a subject\n")
        ours, submission = (f"[localhost]:{server.port(p)}" for p in ("smtp", "submission"))
        (etc / "ways").write_text(f"example.test smtp:{ours}\njudged.test smtp:[localhost]:{self.ports['stranger']}\nplain.relay.test plain:{submission}\nscram.relay.test scram:{submission}\n"
                                  + "".join(f"bounces@{d} refused:\n" for d in DOORS.values()))
        (etc / "our-passwords").write_text(f"{submission} alice@example.test:{PASSWORD}\n")

    def main(self, etc, spool, server):
        owner = pwd.getpwnam("postfix")
        return {
            "compatibility_level": "3.6", "queue_directory": spool, "data_directory": self.base / "data",
            "daemon_directory": self.program.parent, "command_directory": POSTFIX / "usr/sbin",
            "shlib_directory": POSTFIX / "usr/lib/postfix", "meta_directory": POSTFIX / "etc/postfix",
            "import_environment": "MAIL_CONFIG LD_LIBRARY_PATH TZ", "mail_owner": "postfix", "setgid_group": "postdrop",
            "maillog_file": self.base / "log", "maillog_file_prefixes": self.base,
            "myhostname": host("mx"), "mydestination": "", "inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4",
            "mynetworks": "127.0.0.0/8", "alias_maps": "", "alias_database": "", "local_recipient_maps": "",
            "virtual_mailbox_domains": ", ".join(DOORS.values()), "virtual_mailbox_maps": f"regexp:{etc}/users",
            "virtual_mailbox_base": self.base, "virtual_uid_maps": f"static:{owner.pw_uid}", "virtual_gid_maps": f"static:{owner.pw_gid}",
            "virtual_minimum_uid": 1,
            "transport_maps": f"texthash:{etc}/ways", "default_transport": "error:this test sends nowhere else",
            "header_checks": f"regexp:{etc}/subjects", "notify_classes": "", "smtputf8_enable": "yes",
            "message_size_limit": 50000000, "mailbox_size_limit": 0, "virtual_mailbox_limit": 0,
            "smtpd_tls_cert_file": self.certificate, "smtpd_tls_key_file": self.key, "smtpd_tls_security_level": "may",
            "smtpd_tls_received_header": "yes", "smtpd_tls_loglevel": 1, "smtpd_tls_auth_only": "yes",
            "smtpd_peername_lookup": "no", "cyrus_sasl_config_path": etc / "sasl", "smtpd_sasl_authenticated_header": "yes",
            "smtpd_sasl_local_domain": host("mx"), "smtpd_discard_ehlo_keywords": "",
            "smtp_tls_security_level": "secure", "smtp_tls_secure_cert_match": "nexthop", "smtp_tls_CAfile": self.base / "our-ca.pem",
            "smtp_tls_loglevel": 1, "smtp_host_lookup": "native", "smtp_sasl_password_maps": f"texthash:{etc}/our-passwords",
            "smtp_sasl_security_options": "noanonymous",
        }

    def master(self):
        services = "\n".join(f"127.0.0.1:{self.ports[door]} inet n - n - - smtpd {options}" for door, options in {
            "mx": "",
            "old": "-o smtpd_discard_ehlo_keywords=8bitmime,smtputf8,dsn,chunking,pipelining -o smtpd_tls_security_level=none",
            "small": f"-o message_size_limit={SMALL}",
            "auth": "-o smtpd_sasl_auth_enable=yes -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject",
            "auth2": "-o smtpd_sasl_auth_enable=yes -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject"
                     " -o smtpd_sasl_path=plain"}.items())
        return services + """
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
scram unix - - n - - smtp -o smtp_sasl_auth_enable=yes -o smtp_sasl_mechanism_filter=scram-sha-256
plain unix - - n - - smtp -o smtp_sasl_auth_enable=yes -o smtp_sasl_mechanism_filter=plain
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
refused unix - n n - - pipe user=nobody argv=/bin/sh -c {exit 67}
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

    def queue(self):
        return [p for folder in ("maildrop", "incoming", "active", "deferred") for p in (self.base / "spool" / folder).rglob("*")
                if p.is_file()]

    def put_off(self):
        return re.findall("status=deferred", self.log())

    def connections(self):
        return self.log().count(" connect from ")

    def is_tls_verified(self):
        return "Verified TLS connection established to localhost" in self.log()


class Exim(Neighbour):
    rcpt_field = "Envelope-To"
    program = EXIM / "usr/sbin/exim4"

    def commands(self):
        """Two daemons over one spool: whether 8BITMIME is offered is one setting for all ports."""
        doors = {"": [d for d in DOORS if d != "old"], "-DOLD=1": ["old"]}
        for option, ports in doors.items():
            yield [self.base / "exim4", "-C", self.base / "exim.conf", *filter(None, [option]), "-bdf", *([] if option else ["-q10s"]),
                   "-oX", " : ".join(str(self.ports[d]) for d in ports), "-oP", self.base / f"pid{option}"]

    def log_files(self):
        return sorted((self.base / "log").glob("*log"))

    def flush(self):
        subprocess.run([self.base / "exim4", "-C", self.base / "exim.conf", "-qff"], check=True, timeout=60)

    def make(self, server):
        # Its helpers are started by its unprivileged self, which may not get to where it was unpacked.
        shutil.copyfile(self.program, self.base / "exim4")
        (self.base / "exim4").chmod(0o755)
        for folder in (self.base / "spool", self.base / "log", self.folder):
            folder.mkdir()
            shutil.chown(folder, "Debian-exim", "Debian-exim")
        shutil.chown(self.key, "Debian-exim")
        self.signing_key()
        shutil.chown(self.base / "dkim.key", "Debian-exim")
        (self.base / "exim.conf").write_text(self.configuration(server))

    def configuration(self, server):
        ports = self.ports
        unless_old = "${if eq{$received_port}{%s}{}{*}}" % ports["old"]
        return f"""
primary_hostname = {host("mx")}
spool_directory = {self.base}/spool
log_file_path = {self.base}/log/%slog
exim_path = {self.base}/exim4
deliver_drop_privilege
keep_environment =
disable_ipv6
local_interfaces = 127.0.0.1
host_lookup =
rfc1413_hosts =
notifier_socket =
domainlist neighbours = {" : ".join(DOORS.values())}
localpartlist users = {" : ".join(USERS)}
acl_smtp_mail = check_mail
acl_smtp_rcpt = check_rcpt
acl_smtp_data = check_data
tls_certificate = {self.certificate}
tls_privatekey = {self.key}
tls_advertise_hosts = {unless_old}
smtputf8_advertise_hosts = {unless_old}
dsn_advertise_hosts = {unless_old}
chunking_advertise_hosts = {unless_old}
pipelining_advertise_hosts = {unless_old}
.ifdef OLD
accept_8bitmime = false
.endif
message_size_limit = ${{if eq{{$received_port}}{{{ports["small"]}}}{{{SMALL}}}{{50000000}}}}
smtp_accept_queue_per_connection = 0
smtp_accept_max = 0
smtp_accept_reserve = 0
log_selector = +smtp_connection +pipelining +tls_certificate_verified +smtp_confirmation +outgoing_port +8bitmime +received_recipients +smtp_protocol_error

begin acl
check_mail:
  accept control = dkim_disable_verify
check_rcpt:
  deny condition = ${{if or{{{{eq{{$received_port}}{{{ports["auth"]}}}}}{{eq{{$received_port}}{{{ports["auth2"]}}}}}}}}}
       !authenticated = *
       message = log in first
  accept !domains = +neighbours
  accept verify = recipient
  deny message = nobody of this name
check_data:
  deny condition = ${{if match{{$h_Subject:}}{{refuse this}}}}
       message = not with such a subject
  accept

begin routers
relayed:
  driver = manualroute
  domains = plain.relay.test : login.relay.test
  route_list = * localhost::{server.port("submission")} byname
  self = send
  transport = submit
ours:
  driver = manualroute
  domains = example.test
  route_list = * localhost::{server.port("smtp")} byname
  self = send
  transport = smtp
judged:
  driver = manualroute
  domains = judged.test
  route_list = * localhost::{ports["stranger"]} byname
  self = send
  transport = signed
bounces:
  driver = redirect
  domains = +neighbours
  local_parts = bounces
  allow_fail
  no_verify
  data = :fail: this mailbox was closed
mailboxes:
  driver = accept
  domains = +neighbours
  local_parts = +users
  transport = maildir

begin transports
smtp:
  driver = smtp
  hosts_require_tls = *
  tls_verify_certificates = {self.base}/our-ca.pem
  tls_verify_hosts = *
signed:
  driver = smtp
  hosts_require_tls = *
  tls_verify_certificates = {self.base}/our-ca.pem
  tls_verify_hosts = *
  dkim_domain = {DOORS["mx"]}
  dkim_selector = s1
  dkim_private_key = {self.base}/dkim.key
submit:
  driver = smtp
  hosts_require_tls = *
  hosts_require_auth = *
  tls_verify_certificates = {self.base}/our-ca.pem
  tls_verify_hosts = *
maildir:
  driver = appendfile
  directory = {self.folder}
  maildir_format
  delivery_date_add
  envelope_to_add
  return_path_add
  user = Debian-exim

begin retry
* * F,1d,5m

begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${{if and{{{{eq{{$auth2}}{{{NAME}}}}}{{eq{{$auth3}}{{{WORD}}}}}}}}}
  server_set_id = $auth2
  server_advertise_condition = ${{if and{{{{def:tls_in_cipher}}{{eq{{$received_port}}{{{ports["auth"]}}}}}}}}}
  client_condition = ${{if eq{{$domain}}{{plain.relay.test}}}}
  client_send = ^alice@example.test^{PASSWORD}
login:
  driver = plaintext
  public_name = LOGIN
  server_prompts = User Name : Password
  server_condition = ${{if and{{{{eq{{$auth1}}{{{NAME}}}}}{{eq{{$auth2}}{{{WORD}}}}}}}}}
  server_set_id = $auth1
  server_advertise_condition = ${{if and{{{{def:tls_in_cipher}}{{eq{{$received_port}}{{{ports["auth2"]}}}}}}}}}
  client_send = : alice@example.test : {PASSWORD}
"""

    def queue(self):
        return list((self.base / "spool/input").rglob("*-D"))

    def put_off(self):
        return re.findall(r" == \S+@example\.test .* defer ", self.log())

    def connections(self):
        return len(re.findall("SMTP connection from .* connection count", self.log()))

    def is_tls_verified(self):
        return re.search(r"=> \S+@example\.test .* X=TLS\S+ CV=yes", self.log()) is not None
