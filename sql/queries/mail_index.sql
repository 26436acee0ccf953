-- name: index_mailbox :maybe
SELECT b.uid_validity, b.uid_next, b.modseq, b.changed_modseq, s.forgotten_modseq
  FROM mailbox b JOIN account_state s ON s.account_id = b.account_id
 WHERE b.account_id = $1 AND b.mailbox_id = $2;

-- name: index_load :many
-- The next slice, from the covering index alone.
SELECT uid, message_id, modseq, flags
  FROM message
 WHERE account_id = $1 AND mailbox_id = $2 AND uid > $3
 ORDER BY uid
 LIMIT $4;

-- name: index_load_keywords :many
SELECT uid, keywords
  FROM message
 WHERE account_id = $1 AND mailbox_id = $2 AND uid > $3 AND keywords IS NOT NULL
 ORDER BY uid
 LIMIT $4;

-- name: index_changed :many
-- In two steps, so that it is always the index by modseq that is read, whatever the planner thinks of $3.
WITH changed AS MATERIALIZED (
    SELECT mailbox_id, uid, message_id, modseq, flags, keywords
      FROM message
     WHERE account_id = $1 AND modseq > $3
)
SELECT uid, message_id, modseq, flags, keywords
  FROM changed
 WHERE mailbox_id = $2
 ORDER BY uid
 LIMIT $4;

-- name: index_vanished :many
SELECT uid
  FROM message_vanished
 WHERE account_id = $1 AND mailbox_id = $2 AND modseq > $3
 ORDER BY uid
 LIMIT $4;

-- name: mailbox_vanished_floor :one
SELECT s.forgotten_modseq, b.uid_next
  FROM account_state s JOIN mailbox b ON b.account_id = s.account_id AND b.mailbox_id = $2
 WHERE s.account_id = $1;

-- name: mailbox_vanished :many
SELECT uid
  FROM message_vanished
 WHERE account_id = $1 AND mailbox_id = $2 AND uid > $3 AND modseq > $5
 ORDER BY uid
 LIMIT $4;

-- name: mailbox_uids :many
SELECT uid
  FROM message
 WHERE account_id = $1 AND mailbox_id = $2 AND uid > $3
 ORDER BY uid
 LIMIT $4;
