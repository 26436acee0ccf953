#!/usr/bin/env python3
"""Debian's Thunderbird, headless, with the settings that the README tells people to use.

As a module: `with Thunderbird(folder) as t:`, then t.trust(), t.account(), t.subjects(), t.send(). As a program it
starts a server of its own, sets Thunderbird up, reads and sends a letter, and says how far it came. Thunderbird is
driven through Marionette, its own remote control; what a person would type into dialogs is set by preferences."""

import base64
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

PREFERENCES = {
    "app.update.enabled": False, "datareporting.policy.dataSubmissionEnabled": False, "toolkit.telemetry.enabled": False,
    "mail.provider.enabled": False, "mail.spotlight.firstRunDone": True, "mail.shell.checkDefaultClient": False,
    "mailnews.start_page.enabled": False, "mailnews.auto_config.guess.enabled": False, "mail.startup.enabledMailCheckOnce": True,
    "network.dns.disableIPv6": True, "network.captive-portal-service.enabled": False, "network.connectivity-service.enabled": False,
    "extensions.update.enabled": False, "extensions.systemAddon.update.enabled": False, "browser.safebrowsing.update.enabled": False,
    "services.settings.server": "data:,", "geo.enabled": False, "mail.chat.enabled": False, "calendar.timezone.local": "UTC",
    "app.donation.eoy.version.viewed": 999, "mail.inappnotifications.enabled": False, "mail.inappnotifications.url": "",
}

# The table of the README: SSL/TLS is socketType 3, "Normal password" is authMethod 3.
SSL_TLS, NORMAL_PASSWORD = 3, 3


def account_preferences(address, host, imap_port, smtp_port):
    return {
        "mail.accountmanager.accounts": "account1,account2", "mail.accountmanager.defaultaccount": "account1",
        "mail.accountmanager.localfoldersserver": "server2",
        "mail.account.account1.identities": "id1", "mail.account.account1.server": "server1",
        "mail.account.account2.server": "server2",
        "mail.server.server2.type": "none", "mail.server.server2.name": "Local Folders",
        "mail.server.server2.hostname": "Local Folders", "mail.server.server2.userName": "nobody",
        "mail.server.server1.type": "imap", "mail.server.server1.hostname": host, "mail.server.server1.port": imap_port,
        "mail.server.server1.socketType": SSL_TLS, "mail.server.server1.authMethod": NORMAL_PASSWORD,
        "mail.server.server1.userName": address, "mail.server.server1.name": address,
        "mail.server.server1.login_at_startup": False, "mail.server.server1.check_new_mail": True,
        "mail.identity.id1.fullName": "Tester", "mail.identity.id1.useremail": address, "mail.identity.id1.valid": True,
        "mail.identity.id1.smtpServer": "smtp1", "mail.identity.id1.compose_html": False,
        "mail.smtpservers": "smtp1", "mail.smtp.defaultserver": "smtp1",
        "mail.smtpserver.smtp1.hostname": host, "mail.smtpserver.smtp1.port": smtp_port,
        "mail.smtpserver.smtp1.try_ssl": SSL_TLS, "mail.smtpserver.smtp1.authMethod": NORMAL_PASSWORD,
        "mail.smtpserver.smtp1.username": address,
    }


class Marionette:
    """Thunderbird's remote control: JSON with its length before it, over TCP."""

    def __init__(self, port, timeout=120):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.file = self.sock.makefile("rb")
        self.number = 0
        self.receive()                  # who it is
        self.call("WebDriver:NewSession", {"capabilities": {}})
        self.call("Marionette:SetContext", {"value": "chrome"})
        self.call("WebDriver:SetTimeouts", {"script": timeout * 1000})

    def receive(self):
        size = b""
        while (c := self.file.read(1)) != b":":
            if not c:
                raise EOFError("Thunderbird has gone")
            size += c
        return json.loads(self.file.read(int(size)))

    def call(self, name, parameters):
        self.number += 1
        text = json.dumps([0, self.number, name, parameters]).encode()
        self.sock.sendall(b"%d:%s" % (len(text), text))
        _, _, error, result = self.receive()
        if error:
            raise RuntimeError(f"{name}: {error.get('message')}")
        return result

    def run(self, script, *args):
        """Runs an async function's body in Thunderbird itself and returns what it returns."""
        wrapped = ("const [args, done] = [arguments[0], arguments[arguments.length - 1]];"
                   'const { MailServices } = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");'
                   "(async () => {" + script + "})().then(v => done({ value: v ?? null }), e => done({ error: String(e) }));")
        result = self.call("WebDriver:ExecuteAsyncScript", {"script": wrapped, "args": [list(args)]})["value"]
        if "error" in result:
            raise RuntimeError(result["error"])
        return result["value"]

    def close(self):
        self.file.close()
        self.sock.close()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Thunderbird:
    def __init__(self, folder, address, password, host, imap_port, smtp_port, ca_path):
        self.profile = pathlib.Path(folder) / "profile"
        self.address, self.password, self.host, self.ca_path = address, password, host, ca_path
        self.port = free_port()
        self.log_path = pathlib.Path(folder) / "thunderbird.log"
        self.profile.mkdir(parents=True)
        preferences = {**PREFERENCES, **account_preferences(address, host, imap_port, smtp_port), "marionette.port": self.port}
        (self.profile / "user.js").write_text("".join(f'user_pref("{k}", {json.dumps(v)});\n' for k, v in preferences.items()))

    def __enter__(self):
        env = {**os.environ, "HOME": str(self.profile.parent), "MOZ_HEADLESS": "1"}
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(["thunderbird", "--headless", "--no-remote", "--marionette",
                                             "--remote-allow-system-access", "--profile", str(self.profile)],
                                            stdout=log, stderr=log, env=env, start_new_session=True)
        try:
            self.control = self.connect()
            self.trust()
            self.remember_password()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *unused):
        if hasattr(self, "control"):
            self.control.close()
        os.killpg(self.process.pid, signal.SIGKILL)     # its own session: it and its children
        self.process.wait(60)

    def connect(self, timeout=180):
        deadline = time.monotonic() + timeout
        while True:
            try:
                return Marionette(self.port)
            except (ConnectionRefusedError, EOFError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"Thunderbird did not start: {self.log_path.read_text(errors='replace')[-2000:]}")
                time.sleep(0.2)

    def trust(self):
        """What Settings > Privacy & Security > Certificates > Authorities > Import does."""
        pem = pathlib.Path(self.ca_path).read_text()
        der = base64.b64decode("".join(line for line in pem.splitlines() if not line.startswith("-----")))
        self.control.run("""
            const db = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
            db.addCertFromBase64(args[0], "CT,CT,CT");""", base64.b64encode(der).decode())

    def remember_password(self):
        for protocol in ("imap", "smtp"):
            self.control.run("""
                const login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
                login.init(args[0], null, args[0], args[1], args[2], "", "");
                await Services.logins.addLoginAsync(login);""", f"{protocol}://{self.host}", self.address, self.password)

    def get_messages(self):
        """What the button Get Messages does; starts it and returns."""
        self.control.run("""
            const server = MailServices.accounts.findServer(args[0], args[1], "imap");
            server.rootFolder.subFolders.length > 1 ? server.getNewMessages(server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox), null, null)
                                                    : server.performExpand(null);""", self.address, self.host)

    def folders(self):
        """The server's name of the folder that Thunderbird took for each purpose (SPECIAL-USE)."""
        return self.control.run("""
            const root = MailServices.accounts.findServer(args[0], args[1], "imap").rootFolder;
            const of = flag => root.getFolderWithFlags(flag)?.URI.split("/").pop();
            const { Inbox, SentMail, Drafts, Trash, Junk, Archive } = Ci.nsMsgFolderFlags;
            return { inbox: of(Inbox), sent: of(SentMail), drafts: of(Drafts), trash: of(Trash), junk: of(Junk), archive: of(Archive) };""",
                                self.address, self.host)

    def subjects(self):
        """Of the INBOX as Thunderbird has it: the headers that it fetched."""
        return self.control.run("""
            const server = MailServices.accounts.findServer(args[0], args[1], "imap");
            const inbox = server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
            if (!inbox) return [];
            inbox.updateFolder(null);
            return [...inbox.messages].map(m => m.mime2DecodedSubject);""", self.address, self.host)

    def send(self, to, subject, body):
        """Writes a plain letter and sends it as the window's Send button would."""
        return self.control.run("""
            const account = MailServices.accounts.defaultAccount, identity = account.defaultIdentity;
            const fields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
            [fields.from, fields.to, fields.subject, fields.body] = [identity.email, args[0], args[1], args[2]];
            const params = Cc["@mozilla.org/messengercompose/composeparams;1"].createInstance(Ci.nsIMsgComposeParams);
            [params.composeFields, params.identity] = [fields, identity];
            [params.type, params.format] = [Ci.nsIMsgCompType.New, Ci.nsIMsgCompFormat.PlainText];
            const compose = Cc["@mozilla.org/messengercompose/compose;1"].createInstance(Ci.nsIMsgCompose);
            compose.initialize(params);
            const progress = Cc["@mozilla.org/messenger/progress;1"].createInstance(Ci.nsIMsgProgress);
            await compose.sendMsg(Ci.nsIMsgCompDeliverMode.Now, identity, account.key, null, progress);""", to, subject, body)


def main():
    from harness import PASSWORD, Server, eventually
    if not shutil.which("thunderbird"):
        sys.exit("thunderbird is not installed")
    server, folder = Server(), tempfile.mkdtemp(prefix="merpati-thunderbird-", dir="/tmp")
    try:
        server.start()
        server.cli("domain", "add", "example.test")
        server.add_accounts("alice", "bob")
        server.deliver("alice@example.test", b"From: bob@example.test\r\nTo: alice@example.test\r\nSubject: Welcome\r\n\r\nHello.\r\n")
        with Thunderbird(folder, "alice@example.test", PASSWORD, "localhost", server.port("imaps"), server.port("submissions"),
                         server.data / "tls/ca.pem") as t:
            t.get_messages()
            print("subjects:", eventually(t.subjects, timeout=60, pause=1))
            print("folders:", t.folders())
            t.send("bob@example.test", "From Thunderbird", "Hello Bob")
            print("sent")
    finally:
        print("\n".join(line for line in server.log().splitlines() if "login" in line or "deliver" in line))
        server.remove()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
