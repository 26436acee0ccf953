"""Every command of the server's table: in the wrong state, with an argument missing, with one too many.

The table is read from the source, so a command without a row here fails; so does a capability that docs/imap.md does not
name."""

import re
import unittest

from harness import ROOT, ServerTest
from imap_wire import Session

TABLE = ROOT / "mail/imap/imap_verbs.c"
LETTER = "{14+}\r\nSubject: x\r\n\r\n"

# Arguments that are right, and whether the command can do without any. NEW, AUTHENTICATED, SELECTED as in the table.
ROWS = {
    "NOOP": ("", False), "CHECK": ("", False), "CLOSE": ("", False), "UNSELECT": ("", False), "EXPUNGE": ("", False), "CAPABILITY": ("", False),
    "LOGOUT": ("", False), "NAMESPACE": ("", False), "STARTTLS": ("", False), "IDLE": ("", False), "UNAUTHENTICATE": ("", False),
    "GETJMAPACCESS": ("", False), "LANGUAGE": ("en", False),
    "FETCH": ("1 FLAGS", True), "STORE": ("1 +FLAGS (\\Seen)", True), "SEARCH": ("ALL", True), "SORT": ("(DATE) UTF-8 ALL", True),
    "THREAD": ("REFERENCES UTF-8 ALL", True), "ESEARCH": ("IN (personal) RETURN (COUNT) ALL", True), "CANCELUPDATE": ('"nothing"', True),
    "COPY": ("1 Drafts", True), "MOVE": ("1 Drafts", True), "UID EXPUNGE": ("1", True), "SELECT": ("INBOX", True), "EXAMINE": ("INBOX", True),
    "LIST": ('"" *', True), "LSUB": ('"" *', True), "STATUS": ("INBOX (MESSAGES)", True), "CREATE": ("Made", True), "DELETE": ("Made", True),
    "RENAME": ("Made Other", True), "SUBSCRIBE": ("INBOX", True), "UNSUBSCRIBE": ("INBOX", True),
    "APPEND": ("INBOX " + LETTER, True), "REPLACE": ("1 INBOX " + LETTER, True),
    "GETACL": ("INBOX", True), "SETACL": ("INBOX other@example.test lr", True), "DELETEACL": ("INBOX other@example.test", True),
    "LISTRIGHTS": ("INBOX other@example.test", True), "MYRIGHTS": ("INBOX", True), "NOTIFY": ("NONE", True),
    "GETMETADATA": ('"" /private/comment', True), "SETMETADATA": ('INBOX (/private/comment "x")', True), "GETQUOTA": ('""', True),
    "GETQUOTAROOT": ("INBOX", True), "SETQUOTA": ('"" (STORAGE 1)', True), "ENABLE": ("CONDSTORE", True), "UIDBATCHES": ("2000", True),
    "ID": ("NIL", True), "COMPRESS": ("DEFLATE", True), "LOGIN": ("every@example.test secret", True), "AUTHENTICATE": ("PLAIN AGEAYg==", True),
}
# These take any number of what would be the surplus one.
NO_SURPLUS = {"ENABLE", "LANGUAGE", "CANCELUPDATE"}


def table():
    """Name as it is sent -> phases in which it is legal."""
    found = {}
    for name, phases, flags in re.findall(r'^    \{"([A-Z]+)",\s*\w+,\s*([^,]+),\s*([^}]+)\}', TABLE.read_text(), re.M):
        legal = {"NEW", "AUTHENTICATED", "SELECTED"} if "ANY_PHASE" in phases else set()
        if "LOGGED_IN" in phases:
            legal |= {"AUTHENTICATED", "SELECTED"}
        legal |= set(re.findall(r"IN\((\w+)\)", phases))
        if "VERB_UID_FORM_ONLY" not in flags:
            found[name] = legal
        if "VERB_HAS_UID_FORM" in flags or "VERB_UID_FORM_ONLY" in flags:
            found["UID " + name] = legal
    return found


def row_of(name):
    return ROWS.get(name) or ROWS[name.removeprefix("UID ")]


class EveryCommandTest(ServerTest):
    accounts = ("every", "other")
    settings = {"imap_errors_max": "1000"}

    def session(self, phase):
        s = Session(self.server, None if phase == "NEW" else "every")
        self.addCleanup(s.close)
        if phase == "SELECTED":
            s.append("INBOX", b"Subject: x\r\n\r\n")
            s.ok("SELECT INBOX")
        return s

    def test_the_table_is_known_here(self):
        verbs = table()
        self.assertGreater(len(verbs), 50)
        self.assertEqual({name.removeprefix("UID ") for name in verbs if name != "UID EXPUNGE"} | {"UID EXPUNGE"}, set(ROWS))

    def test_in_the_wrong_state_each_is_bad_and_says_what_is_missing(self):
        for phase, says in (("NEW", rb"log-in"), ("AUTHENTICATED", rb"selected|logged in"), ("SELECTED", rb"not possible|logged in")):
            s = self.session(phase)
            for name, legal in table().items():
                if phase not in legal:
                    answer = s.refused(f"{name} {row_of(name)[0]}" if "{" not in row_of(name)[0] else name)
                    self.assertRegex(answer, rb"^BAD .*(" + says + rb")", name)

    def test_a_missing_argument_is_bad_with_a_text(self):
        for name, legal in table().items():
            arguments, needs_some = row_of(name)
            if needs_some:
                s = self.session("SELECTED" if "SELECTED" in legal else "NEW")
                ends = [at for at in range(1, len(arguments)) if arguments[at] == " " and "{" not in arguments[:at]]
                for shorter in ["", *(arguments[:at] for at in ends if name != "AUTHENTICATE")]:     # which would wait for more
                    self.assertRegex(s.refused(f"{name} {shorter}".rstrip()), rb"^BAD \S.{7,}", f"{name} {shorter}")

    def test_a_surplus_argument_is_bad_and_named(self):
        for name, legal in table().items():
            arguments, _ = row_of(name)
            if name in NO_SURPLUS:
                continue
            phase = "SELECTED" if "SELECTED" in legal else "NEW"
            s = self.session(phase)
            text = f"{name} {arguments}".rstrip(" ") + " surplus"
            if name == "AUTHENTICATE":
                text = "AUTHENTICATE PLAIN = surplus"
            # Of what may be part of a password nothing is repeated.
            self.assertRegex(s.refused(text), rb"^BAD .*" + {"LOGIN": b"password", "AUTHENTICATE": b"base64"}.get(name, b"surplus"), text)
            s.ok("NOOP")                # and the session goes on in its state

    def test_what_is_right_is_not_bad(self):
        for name, legal in table().items():
            s = self.session("SELECTED" if "SELECTED" in legal else "NEW")
            if name == "CANCELUPDATE":      # only a context that is there can be ended
                s.ok("UID SEARCH RETURN (UPDATE) ALL")
                s.ok(f'CANCELUPDATE "t{s.number}"')
                continue
            if name == "IDLE":
                s.idle()
                s.done()
                continue
            self.assertRegex(s.command(f"{name} {row_of(name)[0]}".rstrip(" "))[1], rb"^(OK|NO) ", name)

    def test_each_is_the_subject_of_some_other_test(self):
        tests = "".join(f.read_text() for f in (ROOT / "tests/integration").glob("test_*.py") if f.name != "test_imap_every_command.py")
        for name in table():
            self.assertIn(name.removeprefix("UID ") + ("" if row_of(name)[1] is False else " "), tests, name)

    def test_each_capability_is_in_the_documentation(self):
        document = (ROOT / "docs/imap.md").read_text()
        new, selected = self.session("NEW"), self.session("SELECTED")
        offered = {c.decode() for s in (new, selected) for c in s.ok("CAPABILITY")[0].split()[2:]}
        self.assertGreater(len(offered), 40)
        for capability in offered:
            name = re.sub(r"^(AUTH=).*|^(APPENDLIMIT|MESSAGELIMIT|SAVELIMIT)=\d+$", r"\1\2", capability)
            self.assertIn(name.rstrip("="), document, capability)


if __name__ == "__main__":
    unittest.main()
