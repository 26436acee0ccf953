"""`make install`: what lies where, and that the service finds it there."""

import pathlib
import re
import subprocess
import tempfile
import unittest

from harness import ROOT


class InstallTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)

    def install(self, prefix):
        subprocess.run(["make", "-s", "-C", str(ROOT), "install", f"DESTDIR={self.root}", f"PREFIX={prefix}"],
                       check=True, capture_output=True)

    def inside(self, path):
        return self.root / path.lstrip("/")

    def test_the_service_names_files_that_were_installed(self):
        for prefix in ("/usr/local", "/usr", "/opt/merpati"):
            with self.subTest(prefix):
                self.install(prefix)
                unit = self.inside(f"{prefix}/lib/systemd/system/merpati.service").read_text()
                start = re.search(r"(?m)^ExecStart=(\S+) .*--config (\S+)", unit)
                self.assertTrue(self.inside(start[1]).is_file(), start[1])
                self.assertTrue(self.inside(start[2]).is_file(), start[2])
                self.assertTrue(self.inside(re.search(r"(?m)^Documentation=file:(\S+)", unit)[1]).is_file())

    def test_settings_of_an_older_installation_are_kept(self):
        settings = self.inside("/etc/merpati/merpati.conf")
        settings.parent.mkdir(parents=True)
        settings.write_text("hostname = mail.example.org\n")
        self.install("/usr/local")
        self.assertEqual(settings.read_text(), "hostname = mail.example.org\n")


if __name__ == "__main__":
    unittest.main()
