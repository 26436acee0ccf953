-- Reading comes in two forms: between two ids when the set is dense, which reads the primary key in one sweep, and by a
-- list of ids, which are looked up one by one whatever the statistics say (see mail_set) and come in their order. The
-- booleans say which of the wide columns are wanted.

-- name: message_rows_between :many
SELECT message_id, thread_id, blob_id, size, received_at, saved_at
  FROM message
 WHERE account_id = $1 AND message_id BETWEEN $2 AND $3
 ORDER BY message_id;

-- name: message_rows_any :many
SELECT m.*
  FROM unnest($2::bigint[]) AS i (id)
 CROSS JOIN LATERAL (
        SELECT message_id, thread_id, blob_id, size, received_at, saved_at
          FROM message WHERE account_id = $1 AND message_id = i.id OFFSET 0) AS m;

-- name: message_meta_between :many
SELECT message_id, size, sent_at, CASE WHEN $4 THEN envelope END AS envelope, CASE WHEN $5 THEN structure END AS structure,
       CASE WHEN $6 THEN headers END AS headers, CASE WHEN $7 THEN preview END AS preview
  FROM message_meta
 WHERE account_id = $1 AND message_id BETWEEN $2 AND $3
 ORDER BY message_id;

-- name: message_meta_any :many
SELECT t.*
  FROM unnest($2::bigint[]) AS i (id)
 CROSS JOIN LATERAL (
        SELECT message_id, size, sent_at, CASE WHEN $3 THEN envelope END AS envelope,
               CASE WHEN $4 THEN structure END AS structure, CASE WHEN $5 THEN headers END AS headers,
               CASE WHEN $6 THEN preview END AS preview
          FROM message_meta WHERE account_id = $1 AND message_id = i.id OFFSET 0) AS t;

-- name: message_blobs :many
SELECT blob_id, data FROM blob WHERE blob_id = ANY ($1::bigint[]) ORDER BY blob_id;

-- name: message_blob_slices :many
SELECT blob_id, substring(data FROM $2 FOR $3) AS data FROM blob WHERE blob_id = ANY ($1::bigint[]) ORDER BY blob_id;

-- name: message_find :one
SELECT message_id FROM message WHERE account_id = $1 AND mailbox_id = $2 AND uid = $3;

-- name: message_store_flags :many
SELECT uid, modseq, flags, keywords, is_changed, is_conflict
  FROM mail_store_flags($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: message_copy :maybe
SELECT uid_validity, first_uid, uids FROM mail_copy($1, $2, $1, $3, $4, $5, $6, '{}', '{}', '{}', $7, $8, $9);

-- name: message_move :maybe
SELECT uid_validity, first_uid, uids FROM mail_move($1, $2, $3, $4, $5, $6, $7);

-- name: message_transfer :maybe
SELECT uid_validity, first_uid, uids FROM mail_transfer($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: message_ids_of_uids :many
SELECT uid, message_id FROM mail_set($1, $2, $3, $4);

-- name: message_expunge :maybe
SELECT uids, modseq FROM mail_expunge($1, $2, $3, $4, $5, $6);

-- name: message_keys_between :many
SELECT message_id, size, sent_at, received_at, sort_keys
  FROM message_meta
 WHERE account_id = $1 AND message_id BETWEEN $2 AND $3
 ORDER BY message_id;

-- name: message_keys_any :many
SELECT t.*
  FROM unnest($2::bigint[]) AS i (id)
 CROSS JOIN LATERAL (
        SELECT message_id, size, sent_at, received_at, sort_keys
          FROM message_meta WHERE account_id = $1 AND message_id = i.id OFFSET 0) AS t;
