-- POP3: the claim of a maildrop, and sizes.

-- name: maildrop_claim :maybe
-- $1 account, $2 slot, $3 worker, $4 session, $5 seconds. No row: another session has it.
INSERT INTO maildrop_claim AS c (account_id, slot, worker, session, expires_at)
VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5::bigint))
ON CONFLICT (account_id)
DO UPDATE SET slot = excluded.slot, worker = excluded.worker, session = excluded.session, expires_at = excluded.expires_at
 WHERE c.expires_at < now() OR (c.worker = excluded.worker AND c.session = excluded.session)
RETURNING account_id;

-- name: maildrop_renew :many
-- Those of $2 that are still this worker's.
UPDATE maildrop_claim SET expires_at = now() + make_interval(secs => $3::bigint)
 WHERE worker = $1 AND account_id = ANY ($2::bigint[])
RETURNING account_id, session;

-- name: maildrop_release :exec
DELETE FROM maildrop_claim WHERE account_id = $1 AND worker = $2 AND session = $3;

-- name: maildrop_inherit :exec
-- What the worker that had the slot before left behind.
DELETE FROM maildrop_claim WHERE slot = $1 AND worker <> $2;

-- name: maildrop_sizes :many
-- $3 < uid <= $4, in slices of $5.
SELECT m.uid, m.size + coalesce(g.growth, 0) AS size
  FROM message m
  LEFT JOIN message_growth g ON g.account_id = m.account_id AND g.blob_id = m.blob_id
 WHERE m.account_id = $1 AND m.mailbox_id = $2 AND m.uid > $3 AND m.uid <= $4
 ORDER BY m.uid
 LIMIT $5;

-- name: message_growth_insert :exec
INSERT INTO message_growth (account_id, blob_id, growth) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING;

-- name: message_growth_accounts :many
SELECT DISTINCT account_id FROM message_growth WHERE account_id > $1 ORDER BY account_id LIMIT 1000;

-- name: message_growth_lock :one
-- Ahead of the next, or a copy of the message would lose its row.
SELECT mail_begin_change($1) AS modseq;

-- name: message_growth_forget :exec
DELETE FROM message_growth g
 WHERE g.account_id = $1
   AND NOT EXISTS (SELECT FROM message m WHERE m.account_id = g.account_id AND m.blob_id = g.blob_id)
   AND NOT EXISTS (SELECT FROM message_removed r WHERE r.account_id = g.account_id AND r.blob_id = g.blob_id);
