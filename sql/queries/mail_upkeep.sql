-- name: upkeep_claim :maybe
-- One worker of all hosts gets the row; $2 in seconds.
UPDATE store_upkeep SET begun_at = now()
 WHERE task = $1 AND begun_at < now() - $2::integer * interval '1 second'
RETURNING task;

-- name: upkeep_accounts_to_purge :many
SELECT DISTINCT account_id
  FROM (SELECT account_id FROM message_removed
         WHERE blob_id IS NOT NULL AND removed_at < $1
         ORDER BY removed_at LIMIT 10000) AS due
 ORDER BY account_id;

-- name: upkeep_purge_account :one
SELECT mail_purge_removed($1, $2, $3) AS purged;

-- name: upkeep_collect_blobs :one
SELECT mail_collect_blobs($1, $2) AS collected;

-- name: upkeep_mailboxes_to_empty :many
SELECT account_id, mailbox_id FROM mailbox_removed WHERE NOT is_emptied ORDER BY account_id, mailbox_id LIMIT 1000;

-- name: upkeep_accounts_to_forget :many
-- Removals before $1, other changes before $2, which is not earlier.
SELECT account_id, coalesce(max(modseq) FILTER (WHERE changed_at < $1), 0) AS removed_modseq, max(modseq) AS changed_modseq
  FROM mailbox_change
 WHERE changed_at < $2
 GROUP BY account_id
HAVING bool_or(changed_at < $1 OR NOT is_vanished);

-- name: upkeep_forget :one
SELECT mail_forget_tombstones($1, $2, $3, $4) AS is_done;

-- name: upkeep_snapshot :exec
-- First in its transaction: from here on everything is read as it is now.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;

-- name: upkeep_tally_accounts :many
SELECT account_id FROM account_state WHERE account_id > $1 ORDER BY account_id LIMIT $2::integer;

-- name: upkeep_tally :one
SELECT mail_tally_blobs($1, $2, $3) AS last_message_id;

-- name: upkeep_miscounted_blobs :many
-- The next blobs by number, and how far each count is off.
SELECT b.blob_id, coalesce(t.n, 0)::integer - b.uses - coalesce(u.extra, 0) AS difference
  FROM (SELECT blob_id, uses FROM blob WHERE blob_id > $1 ORDER BY blob_id LIMIT $2::integer) AS b
  LEFT JOIN blob_use u ON u.blob_id = b.blob_id
  LEFT JOIN LATERAL (SELECT sum(uses) AS n FROM blob_tally WHERE blob_id = b.blob_id) AS t ON true
 ORDER BY b.blob_id;

-- name: upkeep_correct_blob :exec
SELECT mail_use_blobs(ARRAY[$1::bigint], $2);
