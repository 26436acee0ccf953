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

-- name: upkeep_collect_blobs :exec
-- Nobody can begin to use a blob without uses; the hour is caution.
WITH due AS MATERIALIZED (
    SELECT blob_id FROM blob
     WHERE uses <= 0 AND created_at < now() - interval '1 hour'
     ORDER BY created_at LIMIT $1::integer
), texts AS (
    DELETE FROM blob_text WHERE blob_id = ANY (ARRAY(SELECT blob_id FROM due))
)
DELETE FROM blob WHERE blob_id = ANY (ARRAY(SELECT blob_id FROM due)) AND uses <= 0;

-- name: upkeep_accounts_to_forget :many
SELECT account_id, max(modseq) AS modseq
  FROM message_vanished
 WHERE vanished_at < $1
 GROUP BY account_id;

-- name: upkeep_forget :exec
SELECT mail_forget_tombstones($1, $2);

-- name: upkeep_miscounted_blobs :many
-- All of one snapshot, so the difference stays right however the counts move meanwhile.
SELECT b.blob_id, coalesce(c.n, 0)::integer - b.uses AS difference
  FROM blob b
  LEFT JOIN (SELECT blob_id, count(*) AS n
               FROM (SELECT blob_id FROM message
                     UNION ALL
                     SELECT blob_id FROM message_removed WHERE blob_id IS NOT NULL) AS used
              GROUP BY blob_id) AS c ON c.blob_id = b.blob_id
 WHERE b.uses <> coalesce(c.n, 0)
 LIMIT 1000;

-- name: upkeep_correct_blob :exec
UPDATE blob SET uses = uses + $2 WHERE blob_id = $1;
