"""What became of a message: `merpati trace`, and the id that leads there."""

import re
import unittest

from harness import PASSWORD, ServerTest, eventually

ID = r"[0-9A-HJKMNP-TV-Z]{13}"


def message(subject, message_id="", sender="ani@elsewhere.test"):
    head = f"From: {sender}\r\nTo: alice@example.test\r\nSubject: {subject}\r\n"
    return (head + (f"Message-ID: {message_id}\r\n" if message_id else "") + "\r\nHello.\r\n").encode()


class TraceTest(ServerTest):
    accounts = ("alice", "bob")

    def send(self, subject, recipients, message_id="", sender="ani@elsewhere.test"):
        """Delivers and returns the id that the server answered."""
        with self.server.smtp() as s:
            s.ehlo("client.test")
            s.mail(sender)
            for r in recipients:
                self.assertEqual(s.rcpt(r)[0], 250)
            code, text = s.data(message(subject, message_id, sender))
        self.assertEqual(code, 250)
        return re.search(ID, text.decode()).group()

    def trace(self, *question, count=1):
        """The answer, as soon as it is written."""
        def ask():
            found = self.server.cli_json("trace", *question)
            return found if len(found) >= count else None
        return eventually(ask)

    def test_a_delivery_is_traced_from_arrival_to_mailbox(self):
        trace_id = self.send("Laporan bulanan", ["alice@example.test", "bob@example.test"], "<one@elsewhere.test>")
        (found,) = self.trace("--message-id", "<one@elsewhere.test>")
        self.assertEqual(found["id"], trace_id)
        self.assertEqual(found["sender"], "ani@elsewhere.test")
        self.assertEqual(found["subject"], "Laporan bulanan")
        self.assertEqual(found["recipient_count"], 2)
        self.assertEqual(found["helo"], "client.test")
        self.assertEqual(found["protocol"], "ESMTP")
        self.assertEqual(found["client_ip"], "127.0.0.1")
        self.assertEqual(found["direction"], "in")
        self.assertEqual([(e["kind"], e["recipient"], e["account"], e["text"]) for e in found["events"]],
                         [("delivered", "alice@example.test", "alice@example.test", "INBOX"),
                          ("delivered", "bob@example.test", "bob@example.test", "INBOX")])

    def test_the_same_id_stands_in_the_message_and_in_the_log(self):
        trace_id = self.send("Ids", ["alice@example.test"])
        with self.server.imap("alice") as c:
            c.select("INBOX", readonly=True)
            number = c.search(None, "SUBJECT", "Ids")[1][0].split()[-1]
            received = c.fetch(number, "(BODY.PEEK[HEADER.FIELDS (RECEIVED)])")[1][0][1].decode()
        self.assertRegex(received, rf"\tid {trace_id}\r\n")
        self.assertRegex(self.server.log(), rf"event=message_accepted .*id={trace_id} ")

    def test_every_question_finds_its_messages(self):
        first = self.send("Undangan rapat", ["alice@example.test"], sender="budi@kantor.test")
        second = self.send("Undangan makan", ["bob@example.test"], sender="citra@kantor.test")
        self.trace("--sender", "kantor.test", count=2)
        for question, expected in (
                (["--sender", "budi@kantor.test"], [first]),
                (["--sender", "@kantor.test"], [first, second]),
                (["--sender", "kantor.test", "--recipient", "bob@example.test"], [second]),
                (["--sender", "kantor.test", "--recipient", "example.test"], [first, second]),
                (["--subject", "undangan RAPAT"], [first]),
                (["--sender", "kantor.test", "--account", "bob@example.test"], [second]),
                (["--id", first], [first]),
                ([second.lower()], [second]),
                (["--sender", "kantor.test", "--since", "1h"], [first, second]),
                (["--sender", "kantor.test", "--until", "2026-01-01"], []),
                (["--sender", "kantor.test", "--limit", "1"], [second]),
                (["--sender", "kantor.test", "--limit", "1", "--before", second], [first]),
                (["--sender", "nobody@kantor.test"], [])):
            with self.subTest(question=question):
                self.assertEqual([m["id"] for m in self.server.cli_json("trace", *question)], expected)

    def test_people_read_sentences(self):
        trace_id = self.send("Kalimat", ["alice@example.test"])
        self.trace(trace_id)
        text = self.server.cli("trace", trace_id).stdout
        self.assertRegex(text, rf'^{trace_id}  from <ani@elsewhere.test>  "Kalimat"\n')
        self.assertIn("received from client.test [127.0.0.1] with ESMTP", text)
        self.assertIn("delivered to alice@example.test: INBOX", text)

    def test_a_submission_names_its_account(self):
        with self.server.smtp("submission") as s:
            s.starttls(context=self.server.tls_context())
            s.login("alice@example.test", PASSWORD)
            s.sendmail("alice@example.test", ["bob@example.test"], message("Kiriman", sender="alice@example.test"))
        (found,) = self.trace("--subject", "Kiriman")
        self.assertEqual((found["direction"], found["account"]), ("submitted", "alice@example.test"))
        self.assertTrue(found["tls"].startswith("TLS"))

    def test_lmtp_answers_hold_the_id(self):
        with self.server.raw("lmtp") as s:
            s.reply()
            for line in ("LHLO neighbour.test", "MAIL FROM:<>", "RCPT TO:<alice@example.test>", "DATA"):
                s.send(line + "\r\n")
                s.reply()
            s.send(message("Lewat LMTP") + b".\r\n")
            trace_id = re.search(ID, s.reply().decode()).group()
        (found,) = self.trace(trace_id)
        self.assertEqual((found["protocol"], found["sender"]), ("LMTP", ""))

    def refuse(self, sender, recipients, after=()):
        with self.server.raw("smtp") as s:
            s.reply()
            for line in ("EHLO client.test", f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{r}>" for r in recipients), *after):
                s.send(line + "\r\n")
                s.reply()

    def test_recipients_refused_at_once_have_one_timeline(self):
        for n, after in enumerate(([], ["RSET", "QUIT"], ["QUIT"])):
            with self.subTest(after=after):
                self.refuse(f"r{n}@refused.test", ["nobody@example.test", "someone@elsewhere.test"], after)
                (found,) = self.trace("--sender", f"r{n}@refused.test")
                self.assertEqual([e["recipient"] for e in found["events"]], ["nobody@example.test", "someone@elsewhere.test"])
                self.assertEqual({e["kind"] for e in found["events"]}, {"refused"})
                self.assertIn("550 5.1.1", found["events"][0]["text"])
                self.assertIn("relaying is not allowed", found["events"][1]["text"])

    def test_refusals_beside_a_message_are_in_its_timeline(self):
        with self.server.smtp() as c:
            self.assertEqual(set(c.sendmail("beside@elsewhere.test", ["nobody@example.test", "alice@example.test"],
                                            b"Subject: Beside\r\n\r\nx\r\n")), {"nobody@example.test"})
        (found,) = self.trace("--sender", "beside@elsewhere.test")
        self.assertEqual(found["subject"], "Beside")
        self.assertEqual([e["kind"] for e in found["events"]], ["refused", "delivered"])

    def test_who_tries_out_names_does_not_fill_the_trace(self):
        self.refuse("guesser@refused.test", [f"name{i}@example.test" for i in range(19)])
        (found,) = self.trace("--sender", "guesser@refused.test")
        self.assertEqual([e["text"] for e in found["events"]][10:], ["9 more recipients"])

    def test_a_sender_refused_at_once_has_a_timeline(self):
        rows = (("too.large@refused.test", " SIZE=99999999999", "larger than"), ("odd@refused.test", " COLOUR=RED", "555 5.5.4"),
                ("n\u00f6@refused.test", "", "553 5.6.7"))
        with self.server.raw("smtp") as s:
            s.reply()
            for line in ("EHLO client.test", *(f"MAIL FROM:<{sender}>{more}" for sender, more, _ in rows)):
                s.send(line.encode() + b"\r\n")
                s.reply()
        for sender, _, answer in rows:
            with self.subTest(sender):
                (found,) = self.trace("--sender", sender)
                self.assertEqual(([e["kind"] for e in found["events"]], found["helo"]), (["refused"], "client.test"))
                self.assertIn(answer, found["events"][0]["text"])

    def test_who_tries_out_senders_does_not_fill_the_trace(self):
        with self.server.raw("smtp") as s:
            s.reply()
            for line in ("EHLO client.test", *(f"MAIL FROM:<s{n}@flood.test> COLOUR=RED" for n in range(19))):
                s.send(line + "\r\n")
                s.reply()
        self.assertEqual(len(self.trace("--sender", "flood.test")), 10)

    def test_mistakes_are_told_in_a_sentence(self):
        for question, says in ((["--id", "xyz"], "no trace id"),
                               (["--since", "yesterday"], "no time"),
                               (["--limit", "0"], "from 1 to"),
                               ([], "say which messages")):
            with self.subTest(question=question):
                done = self.server.cli("trace", *question, check=False)
                self.assertEqual(done.returncode, 2)
                self.assertIn(says, done.stderr)

    def test_what_was_told_just_before_the_end_is_there_after_it(self):
        trace_id = self.send("Terakhir", ["alice@example.test"])
        self.server.stop()
        self.server.start()
        self.assertEqual(len(self.server.cli_json("trace", trace_id)), 1)


if __name__ == "__main__":
    unittest.main()
