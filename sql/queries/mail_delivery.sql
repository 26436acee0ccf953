-- name: mail_blob_block :one
SELECT nextval('blob_id_block') AS first_id;

-- name: mail_blob_insert :exec
INSERT INTO blob (blob_id, uses, size, data) VALUES ($1, $2, $3, $4);

-- name: mail_blob_insert_many :exec
INSERT INTO blob (blob_id, uses, size, data)
SELECT b.blob_id, 1, b.size, b.data FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS b (blob_id, size, data);

-- name: mail_blob_read :one
SELECT data FROM blob WHERE blob_id = $1;

-- name: mail_blob_read_slice :one
-- $2 counts from 1.
SELECT substring(data FROM $2::integer FOR $3::integer) AS data FROM blob WHERE blob_id = $1;

-- name: mail_deliver :maybe
SELECT status, uid_validity, uid, message_id, thread_id, modseq
  FROM mail_deliver($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17);

-- name: mail_append :maybe
SELECT status, uid_validity, uid, message_id, thread_id, modseq
  FROM mail_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17);

-- name: mail_append_many :maybe
SELECT uid_validity, first_uid, first_message_id, thread_ids, modseq
  FROM mail_append_many($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21);

-- name: mail_delivery_find :many
-- What became of deliveries whose commit was never answered. Rare: blob_id needs no index.
SELECT DISTINCT ON (m.blob_id) m.blob_id, 0 AS status, b.uid_validity, m.uid, m.message_id, m.thread_id,
       m.created_modseq AS modseq
  FROM message m JOIN mailbox b USING (account_id, mailbox_id)
 WHERE m.account_id = $1 AND m.blob_id = ANY ($2::bigint[])
 ORDER BY m.blob_id, m.message_id;

-- name: mail_replace_old :maybe
SELECT mail_expunge_one($1, $2, $3) AS modseq;
