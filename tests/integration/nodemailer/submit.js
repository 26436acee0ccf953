// Submits as programs with nodemailer do, over STARTTLS, TLS and a pool, and meets a refusal; prints "done" when all was well.
// usage: submit.js SUBMISSION-PORT SUBMISSIONS-PORT PASSWORD, with NODE_EXTRA_CA_CERTS
"use strict";
const assert = require("node:assert");
const nodemailer = require("nodemailer");

const [submission, submissions, pass] = process.argv.slice(2);

function transport(port, more) {
  return nodemailer.createTransport({ host: "localhost", port: Number(port), auth: { user: "ani@example.test", pass }, ...more });
}

function letter(subject, more = {}) {
  return { from: "Ani <ani@example.test>", to: "Citra <citra@example.test>", subject, text: "Halo\n.\n..dua titik\n", ...more };
}

async function sendOne(way, mailer) {
  assert(await mailer.verify());
  const info = await mailer.sendMail(letter(`nodemailer ${way}.`, {
    bcc: "dewi@example.test", html: "<p>Halo</p>", attachments: [{ filename: "surat – 1.txt", content: "isi" }],
  }));
  assert.deepStrictEqual(info.accepted.sort(), ["citra@example.test", "dewi@example.test"]);
  assert.match(info.response, /^250 2\.0\.0 /);
}

async function sendPooled() {
  const mailer = transport(submissions, { secure: true, pool: true, maxConnections: 1 });
  await Promise.all([0, 1, 2].map((i) => mailer.sendMail(letter(`nodemailer pooled ${i}.`))));
  mailer.close();
}

async function meetRefusal(mailer) {
  await assert.rejects(mailer.sendMail(letter("no", { from: "citra@example.test", envelope: { from: "ani@example.test", to: ["dewi@example.test"] } })),
    (e) => e.responseCode === 550 && e.response.includes("as which you may not send"));
  await assert.rejects(mailer.sendMail(letter("no", { from: "citra@example.test" })), (e) => e.responseCode === 550 && e.command === "MAIL FROM");
}

(async () => {
  await sendOne("STARTTLS", transport(submission, { requireTLS: true }));
  await sendOne("TLS", transport(submissions, { secure: true }));
  await sendPooled();
  await meetRefusal(transport(submission, { requireTLS: true }));
  console.log("done");
})().catch((e) => { console.error(e); process.exit(1); });
