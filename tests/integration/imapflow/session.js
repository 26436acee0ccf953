// A session of imapflow, as programs use it; exits with 0 when everything was as it should be.
// usage: session.js IMAPS-PORT USER PASSWORD CA-FILE
"use strict";
const assert = require("node:assert");
const fs = require("node:fs");
const { ImapFlow } = require("imapflow");

const [port, user, pass, ca] = process.argv.slice(2);

function connect(more = {}) {
  return new ImapFlow({
    host: "localhost", port: Number(port), secure: true, auth: { user, pass },
    tls: { ca: fs.readFileSync(ca) }, logger: false, ...more,
  });
}

function letter(subject, body = "Hello from imapflow.") {
  return `From: Node <node@elsewhere.test>\r\nTo: ${user}\r\nSubject: ${subject}\r\n` +
    `Message-ID: <${subject.replaceAll(" ", ".")}@elsewhere.test>\r\nMIME-Version: 1.0\r\n` +
    `Content-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n${body}\r\n` +
    "--bb\r\nContent-Type: application/octet-stream; name=data.bin\r\nContent-Transfer-Encoding: base64\r\n" +
    "Content-Disposition: attachment; filename=data.bin\r\n\r\nAAECAwQF\r\n--bb--\r\n";
}

async function all(iterator) {
  const out = [];
  for await (const item of iterator) out.push(item);
  return out;
}

async function mailboxes(client) {
  const list = await client.list({ statusQuery: { messages: true, unseen: true } });
  const byUse = Object.fromEntries(list.filter((m) => m.specialUse).map((m) => [m.specialUse, m.path]));
  for (const use of ["\\Drafts", "\\Sent", "\\Archive", "\\Junk", "\\Trash"]) assert(byUse[use], `no mailbox for ${use}`);
  const made = await client.mailboxCreate(["Projekte", "Grüße"]);
  assert.strictEqual(made.path, "Projekte/Grüße");
  assert((await client.list()).some((m) => m.path === "Projekte/Grüße"));
  await client.mailboxSubscribe("Projekte/Grüße");
  await client.mailboxUnsubscribe("Projekte/Grüße");
  const renamed = await client.mailboxRename("Projekte/Grüße", "Projekte/Done");
  assert.strictEqual(renamed.newPath, "Projekte/Done");
  await client.mailboxDelete("Projekte/Done");
  assert(!(await client.list()).some((m) => m.path === "Projekte/Done"));
}

async function messages(client) {
  for (let i = 1; i <= 5; i++) {
    const put = await client.append("INBOX", letter(`flow ${i}`), i === 1 ? ["\\Seen", "$Label"] : [], new Date("2026-11-23T10:00:00Z"));
    assert(put.uid > 0 && put.uidValidity > 0n);
  }
  const lock = await client.getMailboxLock("INBOX");
  try {
    assert.strictEqual(client.mailbox.exists, 5);
    const found = await all(client.fetch("1:*", { uid: true, flags: true, envelope: true, bodyStructure: true, internalDate: true, size: true, modseq: true }));
    assert.deepStrictEqual(found.map((m) => m.envelope.subject), ["flow 1", "flow 2", "flow 3", "flow 4", "flow 5"]);
    assert(found[0].flags.has("\\Seen") && found[0].flags.has("$Label"));
    assert.strictEqual(found[0].internalDate.toISOString(), "2026-11-23T10:00:00.000Z");
    assert.strictEqual(found[0].bodyStructure.childNodes.length, 2);
    assert(found.every((m) => m.modseq > 0n));
    const [raw] = await all(client.fetch("2", { source: true, headers: ["subject"] }));
    assert.strictEqual(raw.source.toString(), letter("flow 2"));
    const { meta, content } = await client.download("3", "2");
    const chunks = await all(content);
    assert.deepStrictEqual([...Buffer.concat(chunks)], [0, 1, 2, 3, 4, 5]);
    assert.strictEqual(meta.filename, "data.bin");
    await searches(client);
    await changes(client, found);
  } finally {
    lock.release();
  }
}

async function searches(client) {
  assert.deepStrictEqual(await client.search({ seen: true }), [1]);
  assert.deepStrictEqual(await client.search({ subject: "flow 4" }, { uid: true }), [4]);
  assert.deepStrictEqual(await client.search({ or: [{ keyword: "$Label" }, { header: { "Message-ID": "<flow.2@elsewhere.test>" } }] }), [1, 2]);
  assert.deepStrictEqual(await client.search({ body: "imapflow", since: new Date("2026-11-01") }), [1, 2, 3, 4, 5]);
}

async function changes(client, before) {
  await client.messageFlagsAdd("2:3", ["\\Flagged"]);
  await client.messageFlagsRemove("3", ["\\Flagged"]);
  await client.messageFlagsSet("4", ["\\Answered", "Custom"]);
  assert.deepStrictEqual(await client.search({ flagged: true }), [2]);
  const since = before.reduce((max, m) => (m.modseq > max ? m.modseq : max), 0n);
  const changed = await all(client.fetch("1:*", { flags: true }, { changedSince: since }));
  assert.deepStrictEqual(changed.map((m) => m.seq).sort(), [2, 3, 4]);
  const copied = await client.messageCopy("1:2", "Archive");
  assert.strictEqual(copied.uidMap.size, 2);
  const moved = await client.messageMove("5", "Trash");
  assert.strictEqual(moved.uidMap.size, 1);
  assert(await client.messageDelete("3"));
  const left = await all(client.fetch("1:*", { envelope: true }));
  assert.deepStrictEqual(left.map((m) => m.envelope.subject), ["flow 1", "flow 2", "flow 4"]);
  const status = await client.status("Archive", { messages: true, unseen: true, uidNext: true, uidValidity: true, highestModseq: true });
  assert.strictEqual(status.messages, 2);
  assert.strictEqual(status.unseen, 1);
}

// One client idles; what the other does must reach it.
async function pushes(client) {
  const other = connect();
  await other.connect();
  const lock = await client.getMailboxLock("INBOX");
  const told = { exists: null, flags: null, expunge: null };
  const happened = (name) => new Promise((resolve) => client.once(name, (event) => resolve((told[name] = event))));
  try {
    const news = [happened("exists"), happened("flags"), happened("expunge")];
    const idling = client.idle();
    await other.append("INBOX", letter("pushed"));
    await news[0];
    await other.mailboxOpen("INBOX");
    await other.messageFlagsAdd("1", ["\\Flagged"]);
    await news[1];
    await other.messageDelete("2");
    await news[2];
    await client.noop();
    await idling;
    assert.strictEqual(told.exists.count, 4);
    assert(told.flags.flags.has("\\Flagged"));
  } finally {
    lock.release();
    await other.logout();
  }
}

async function quota(client) {
  if (!client.capabilities.has("QUOTA")) return;
  const q = await client.getQuota("INBOX");
  assert(q === false || q.path === "INBOX");
}

// What vanished and changed while nobody was connected (CONDSTORE, QRESYNC).
async function resynchronises() {
  const first = connect({ qresync: true });
  await first.connect();
  await first.mailboxOpen("INBOX");
  const { highestModseq, uidValidity } = first.mailbox;
  const uids = await first.search({ all: true }, { uid: true });
  await first.logout();

  const other = connect();
  await other.connect();
  await other.mailboxOpen("INBOX");
  await other.messageDelete(String(uids[0]), { uid: true });
  await other.messageFlagsAdd(String(uids[1]), ["Later"], { uid: true });
  await other.logout();

  const second = connect({ qresync: true });
  const vanished = [];
  const flags = [];
  second.on("expunge", (e) => vanished.push(e.uid));
  second.on("flags", (e) => flags.push(e.uid));
  await second.connect();
  assert(second.enabled.has("QRESYNC") || second.enabled.has("CONDSTORE"));
  await second.mailboxOpen("INBOX", { changedSince: highestModseq, uidValidity });
  assert.deepStrictEqual(vanished, [uids[0]]);
  assert.deepStrictEqual(flags, [uids[1]]);
  await second.logout();
}

async function main() {
  const client = connect();
  await client.connect();
  assert(client.authenticated);
  for (const step of [mailboxes, messages, pushes, quota]) {
    await step(client);
    console.log(`${step.name} ok`);
  }
  await client.logout();
  await resynchronises();
  console.log("resynchronises ok");
}

main().catch((e) => {
  console.error(e);
  process.exit(1);
});
