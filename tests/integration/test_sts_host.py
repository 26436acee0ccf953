"""Our own MTA-STS policy (RFC 8461): who may ask for it, what it says, and that our own client obeys it."""

import http.client
import subprocess
import unittest

from harness import Server, ServerTest

PATH = "/.well-known/mta-sts.txt"


class PolicyHost(ServerTest):
    accounts = ()
    workers = 1
    settings = {"mta_sts_mode": "enforce", "mta_sts_max_age": "30d", "mx_hosts": "MX1.example.test, *.mx.example.test"}

    def get(self, host, tls=True, method="GET"):
        if tls:
            c = http.client.HTTPSConnection("localhost", self.server.port("https"), context=self.server.tls_context(), timeout=60)
        else:
            c = http.client.HTTPConnection("127.0.0.1", self.server.port("http"), timeout=60)
        c.request(method, PATH, headers={"Host": host})
        answer = c.getresponse()
        body = answer.read().decode()
        c.close()
        return answer.status, answer.getheader("Content-Type"), body

    def test_the_policy_says_what_the_settings_say(self):
        for host in ("mta-sts.example.test", "MTA-STS.Example.Test.", "mta-sts.example.test:443"):
            self.assertEqual(self.get(host), (200, "text/plain", "version: STSv1\r\nmode: enforce\r\nmx: mx1.example.test\r\n"
                                              "mx: *.mx.example.test\r\nmax_age: 2592000\r\n"))

    def test_a_proxy_may_ask_by_plain_http(self):
        self.assertEqual(self.get("mta-sts.example.test", tls=False)[0], 200)

    def test_head_is_answered_and_post_is_not(self):
        self.assertEqual(self.get("mta-sts.example.test", method="HEAD")[::2], (200, ""))
        self.assertEqual(self.get("mta-sts.example.test", method="POST")[0], 405)

    def test_nobody_elses_policy_is_told(self):
        for host in ("example.test", "mta-sts.elsewhere.test", "mta-sts.", "mta-sts.mta-sts.example.test", "localhost",
                     "mta-sts." + "a" * 300, "mta-sts.example.test x", "xmta-sts.example.test"):
            self.assertEqual(self.get(host)[0], 404, host)


class Defaults(ServerTest):
    accounts = ()
    workers = 1

    def test_without_settings_it_is_only_tested_and_names_this_host(self):
        c = http.client.HTTPConnection("127.0.0.1", self.server.port("http"), timeout=60)
        c.request("GET", PATH, headers={"Host": "mta-sts.example.test"})
        self.assertEqual(c.getresponse().read().decode(),
                         "version: STSv1\r\nmode: testing\r\nmx: mail.example.test\r\nmax_age: 1209600\r\n")
        c.close()


class WrongSettings(unittest.TestCase):
    def test_a_wrong_setting_is_told_at_start(self):
        for setting, value in (("mta_sts_mode", "sometimes"), ("mx_hosts", "mx one.test"), ("mx_hosts", "a.test, mx:1")):
            server = Server({setting: value})
            try:
                answer = subprocess.run(server.command(), capture_output=True, text=True, timeout=60, env=server.env)
            finally:
                server.remove()
            self.assertNotEqual(answer.returncode, 0, value)
            self.assertRegex(answer.stderr, rf"\Amerpati: {setting}: .*write .*\n\Z")


if __name__ == "__main__":
    unittest.main()
