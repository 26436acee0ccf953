"""Certificates, TLS versions, and the PROXY protocol: what stands between the socket and the first command."""

import http.client
import imaplib
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import unittest

from harness import PASSWORD, ServerTest, eventually
from imap_wire import Session


def make_pair(folder, name, serial):
    """A self-signed pair in folder, as `serial` so that tests can tell two apart."""
    folder = pathlib.Path(folder)
    new = folder / "new"
    new.mkdir(exist_ok=True)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},DNS:localhost", "-days", "30",
                    "-set_serial", str(serial), "-keyout", str(new / "key.pem"), "-out", str(new / "cert.pem")],
                   check=True, capture_output=True)
    for file in ("key.pem", "cert.pem"):
        os.chmod(new / file, 0o644)
        os.replace(new / file, folder / file)


class TlsClient(ServerTest):
    def connect(self, port="imaps", name="localhost", context=None, **kw):
        raw = socket.create_connection(("127.0.0.1", self.server.port(port)), timeout=60)
        self.addCleanup(raw.close)
        tls = (context or self.server.tls_context()).wrap_socket(raw, server_hostname=name, **kw)
        self.addCleanup(tls.close)
        return tls

    def anything_goes(self):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    def serial(self, port="imaps"):
        """The serial number that a new connection is shown."""
        der = self.connect(port, context=self.anything_goes()).getpeercert(binary_form=True)
        pem = ssl.DER_cert_to_PEM_cert(der)
        out = subprocess.run(["openssl", "x509", "-noout", "-serial"], input=pem, capture_output=True, text=True, check=True)
        return int(out.stdout.strip().removeprefix("serial="), 16)


class SelfSignedTest(TlsClient):
    def names(self):
        return {v for k, v in self.connect().getpeercert()["subjectAltName"]}

    def vouches_for(self, port, name):
        """Each worker loads a new certificate by itself, a moment after it was made."""
        try:
            return self.connect(port, name).version() in ("TLSv1.2", "TLSv1.3")
        except ssl.SSLCertVerificationError:
            return False

    def test_certificate_names_host_and_domains_and_the_ca_file_vouches_for_it(self):
        wanted = {"localhost", "mail.example.test", "127.0.0.1"}
        wanted |= {p + "example.test" for p in ("", "mail.", "autoconfig.", "autodiscover.", "mta-sts.")}
        self.assertTrue(eventually(lambda: wanted <= self.names()), self.names())
        for port in ("imaps", "submissions", "https"):
            for name in ("localhost", "mail.example.test", "autoconfig.example.test"):
                self.assertTrue(eventually(lambda: self.vouches_for(port, name)), (port, name))
        with self.assertRaises(ssl.SSLCertVerificationError):
            self.connect("imaps", "mail.elsewhere.test")

    def test_new_domain_gets_its_names_while_the_server_runs_and_the_ca_stays(self):
        ca = (self.server.data / "tls/ca.pem").read_text()
        session = self.server.imap("alice", tls=True)
        self.server.cli("domain", "add", "second.test")
        self.assertTrue(eventually(lambda: {"second.test", "mta-sts.second.test"} <= self.names()), self.names())
        self.assertEqual((self.server.data / "tls/ca.pem").read_text(), ca)
        self.assertEqual(session.noop()[0], "OK")
        session.logout()

    def test_a_domain_in_the_place_of_another_gets_its_names(self):
        self.server.cli("domain", "add", "one.test")
        self.assertTrue(eventually(lambda: "one.test" in self.names()), self.names())
        self.server.cli("domain", "remove", "one.test")
        self.server.cli("domain", "add", "two.test")
        self.assertTrue(eventually(lambda: "two.test" in self.names()), self.names())

    def test_private_keys_are_private(self):
        for name in ("key.pem", "ca-key.pem"):
            self.assertEqual((self.server.data / "tls" / name).stat().st_mode & 0o077, 0, name)

    def test_starttls_on_imap_then_plain_login_is_offered(self):
        with self.server.imap() as c:
            c.host = "localhost"
            c.starttls(self.server.tls_context())
            self.assertEqual(c.login("alice@example.test", PASSWORD)[0], "OK")

    def test_nothing_said_before_starttls_counts_after_it(self):
        with Session(self.server) as s:
            s.send(b"a STARTTLS\r\nb LOGIN alice@example.test secret\r\n")
            self.assertTrue(s.line().startswith(b"a OK"))
            self.assertNotIn(b"b OK", s.file.read())

    def test_old_protocol_versions_are_refused_and_new_ones_are_not(self):
        for version, spoken in ((ssl.TLSVersion.TLSv1, False), (ssl.TLSVersion.TLSv1_1, False),
                                (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)):
            context = self.anything_goes()
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = context.maximum_version = version
            for port in ("imaps", "submissions", "https"):
                if spoken:
                    self.connect(port, context=context)
                    continue
                with self.assertRaises(ssl.SSLError) as caught:
                    self.connect(port, context=context)
                self.assertIn("PROTOCOL_VERSION", str(caught.exception), (version, port))

    def test_a_browser_led_to_the_wrong_port_is_refused(self):
        for port, offer, good in (("imaps", "imap", True), ("imaps", "http/1.1", False), ("submissions", "http/1.1", False),
                                  ("https", "http/1.1", True)):
            context = self.server.tls_context()
            context.set_alpn_protocols([offer])
            if good:
                self.assertEqual(self.connect(port, context=context).selected_alpn_protocol(), offer)
            else:
                self.assertRaises((ssl.SSLError, ConnectionError), self.connect, port, context=context)

    def test_a_session_is_resumed_in_any_worker(self):
        context = self.server.tls_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        first = self.connect(context=context)
        for _ in range(12):
            self.assertTrue(self.connect(context=context, session=first.session).session_reused)

    def test_plain_bytes_on_a_tls_port_end_the_connection_and_nothing_else(self):
        with self.server.raw("imaps") as raw:
            raw.send(b"a LOGIN alice@example.test secret\r\n\r\n")
            self.assertNotIn(b"OK", raw.file.read())
        self.assertEqual(self.server.imap("alice", tls=True).logout()[0], "BYE")


class ConfiguredPairTest(TlsClient):
    """tls_cert and tls_key; looked at so often that a change is seen while the test waits."""
    settings = {"tls_reload_interval": "200ms"}

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="merpati-tls-", dir="/tmp"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, True)
        os.chmod(cls.folder, 0o755)
        make_pair(cls.folder, "first.test", 1001)
        cls.settings = {**cls.settings, "tls_cert": str(cls.folder / "cert.pem"), "tls_key": str(cls.folder / "key.pem")}
        super().setUpClass()

    def wait_for(self, serial):
        """Every worker must show it: several connections in a row, of which none may show the old one."""
        self.assertTrue(eventually(lambda: all(self.serial() == serial for _ in range(10))))
        self.assertEqual(self.serial("https"), serial)
        self.assertEqual(self.serial("submissions"), serial)

    def logged_in(self):
        c = imaplib.IMAP4_SSL("localhost", self.server.port("imaps"), ssl_context=self.anything_goes(), timeout=60)
        c.login("alice@example.test", PASSWORD)
        return c


class ReloadOnChangeTest(ConfiguredPairTest):
    def test_changed_files_are_served_to_new_connections_and_old_sessions_live_on(self):
        start = self.serial()
        old = self.logged_in()
        make_pair(self.folder, "next.test", start + 1)
        self.wait_for(start + 1)
        self.assertEqual(old.select("INBOX")[0], "OK")
        old.logout()

    def test_a_broken_file_is_not_taken_and_the_next_good_one_is(self):
        start = self.serial()
        (self.folder / "cert.pem").write_text("no certificate\n")
        self.assertTrue(eventually(lambda: "certificate_not_replaced" in self.server.log()))
        self.assertEqual(self.serial(), start)
        make_pair(self.folder, "again.test", start + 1)
        self.wait_for(start + 1)


class ReloadOnSignalTest(ConfiguredPairTest):
    settings = {"tls_reload_interval": "1d"}

    def test_sighup_reads_the_certificate_again(self):
        start = self.serial()
        old = self.logged_in()
        make_pair(self.folder, "signal.test", start + 1)
        self.assertEqual(self.serial(), start)
        self.server.process.send_signal(signal.SIGHUP)
        self.wait_for(start + 1)
        self.assertEqual(old.select("INBOX")[0], "OK")
        old.logout()


SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def proxy_header(source="192.0.2.77", port=4242, command=0x21, tlvs=b"", signature=SIGNATURE):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    kind, there = (0x21, "2001:db8::1") if ":" in source else (0x11, "198.51.100.1")
    body = socket.inet_pton(family, source) + socket.inet_pton(family, there) + struct.pack("!HH", port, 25) + tlvs
    return signature + struct.pack("!BBH", command, kind, len(body)) + body


class ProxyTest(ServerTest):
    """127.0.0.1 is a listener as ever, 127.0.0.2 expects a PROXY header before anything else."""
    settings = {"listen_smtp": "127.0.0.1, 127.0.0.2 proxy", "listen_imaps": "127.0.0.1, 127.0.0.2 proxy",
                "listen_imap": "127.0.0.1, 127.0.0.2 proxy", "listen_http": "127.0.0.1, 127.0.0.2 proxy",
                "connections_per_address_max": "20", "mail_authentication": "no", "smtp_sender_domain_exists": "no"}

    def connect(self, port="smtp"):
        sock = socket.create_connection(("127.0.0.2", self.server.port(port)), timeout=60)
        self.addCleanup(sock.close)
        file = sock.makefile("rb")
        self.addCleanup(file.close)
        return sock, file

    def deliver(self, sock, file, subject):
        def say(line):
            sock.sendall(line + b"\r\n")
            while (answer := file.readline())[3:4] == b"-":
                pass
            return answer
        self.assertTrue(file.readline().startswith(b"220 "))
        for line, code in ((b"EHLO client.test", b"250"), (b"MAIL FROM:<s@elsewhere.test>", b"250"),
                           (b"RCPT TO:<alice@example.test>", b"250"), (b"DATA", b"354"),
                           (b"Subject: %s\r\n\r\nx\r\n." % subject.encode(), b"250")):
            self.assertEqual(say(line)[:3], code)

    def received(self, subject):
        with self.server.imap("alice") as c:
            c.select("INBOX", readonly=True)
            number = c.search(None, "SUBJECT", f'"{subject}"')[1][0].split()[0]
            return c.fetch(number, "(BODY.PEEK[HEADER.FIELDS (RECEIVED)])")[1][0][1]

    def test_the_announced_address_is_the_peer(self):
        for source, tlvs, shown in (("192.0.2.77", b"", b"[192.0.2.77]"), ("2001:db8::77", b"", b"2001:db8::77"),
                                    ("192.0.2.78", b"\x04\x00\x03abc", b"[192.0.2.78]")):
            sock, file = self.connect()
            sock.sendall(proxy_header(source, tlvs=tlvs))
            self.deliver(sock, file, f"from {source}")
            self.assertIn(shown, self.received(f"from {source}"))
            self.assertTrue(eventually(lambda: source in self.server.log()))

    def test_a_header_that_drips_is_understood(self):
        sock, file = self.connect()
        for byte in proxy_header("192.0.2.79"):
            sock.sendall(bytes([byte]))
        self.deliver(sock, file, "dripped")
        self.assertIn(b"[192.0.2.79]", self.received("dripped"))

    def test_local_keeps_the_balancers_own_address(self):
        sock, file = self.connect()
        sock.sendall(proxy_header("192.0.2.80", command=0x20))
        self.deliver(sock, file, "local")
        self.assertIn(b"[127.0.0.1]", self.received("local"))

    def test_a_wrong_header_closes_without_a_word(self):
        for wrong in (b"EHLO client.test\r\n", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n", b"\r\n\r\n\0\r\nQUIT\r" + b"x" * 40,
                      proxy_header(command=0x11), proxy_header(command=0x2f), SIGNATURE + b"\x21\x11\0\2ab",
                      SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 100, SIGNATURE + b"\x21\x55\0\0"):
            sock, file = self.connect()
            sock.sendall(wrong)
            try:
                self.assertEqual(file.read(), b"", wrong)
            except ConnectionResetError:
                pass

    def test_a_listener_without_proxy_takes_no_header(self):
        with self.server.raw("smtp") as raw:
            raw.reply()
            raw.send(proxy_header("192.0.2.81"))
            raw.send(b"\r\n")
            self.assertTrue(raw.reply().startswith(b"500"))
        self.assertNotIn("192.0.2.81", self.server.log())

    def test_loopback_privileges_belong_to_the_announced_address(self):
        sock, file = self.connect("imap")
        sock.sendall(proxy_header("192.0.2.82"))
        self.assertTrue(file.readline().startswith(b"* OK"))
        sock.sendall(b"a LOGIN alice@example.test secret\r\n")
        self.assertTrue(file.readline().startswith(b"a NO [PRIVACYREQUIRED]"))

    def test_tls_begins_behind_the_header(self):
        sock, _ = self.connect("imaps")
        sock.sendall(proxy_header("192.0.2.83"))
        with self.server.tls_context().wrap_socket(sock, server_hostname="localhost") as tls:
            self.assertTrue(tls.recv(1000).startswith(b"* OK"))
            tls.sendall(b"a LOGIN alice@example.test secret\r\n")
            self.assertIn(b"a OK", tls.recv(10000))
        self.assertTrue(eventually(lambda: "192.0.2.83" in self.server.log()))

    def test_the_handshake_may_come_in_one_packet_with_the_header(self):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.server.tls_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        sock, _ = self.connect("imaps")
        sent = proxy_header("192.0.2.86")
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                sock.sendall(sent + outgoing.read())
                sent = b""
                incoming.write(sock.recv(65536))
        sock.sendall(outgoing.read())
        while True:
            try:
                self.assertTrue(tls.read(1000).startswith(b"* OK"))
                break
            except ssl.SSLWantReadError:
                incoming.write(sock.recv(65536))

    def test_the_limit_per_address_counts_announced_addresses(self):
        held = []
        for _ in range(60):             # 20 a worker at most; one of the last is one too many wherever it lands
            sock, file = self.connect()
            sock.sendall(proxy_header("192.0.2.84"))
            held.append(file)
        self.assertTrue(eventually(lambda: re.search(r"(?m)^merpati_connections_refused_total [1-9]", self.metrics())))
        sock, file = self.connect()
        sock.sendall(proxy_header("192.0.2.85"))
        self.assertTrue(file.readline().startswith(b"220 "))

    def metrics(self):
        c = http.client.HTTPConnection("127.0.0.1", self.server.port("http"), timeout=60)
        try:
            c.request("GET", "/metrics")
            return c.getresponse().read().decode()
        finally:
            c.close()

    def test_http_knows_the_announced_address(self):
        for source, status in (("192.0.2.86", b"403"), ("127.0.0.9", b"200")):
            sock, file = self.connect("http")
            sock.sendall(proxy_header(source))
            sock.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            self.assertEqual(file.readline().split()[1], status)


if __name__ == "__main__":
    unittest.main()
