-- name: mail_blob_block :one
SELECT nextval('blob_id_block') AS first_id;

-- name: mail_blob_insert :exec
INSERT INTO blob (blob_id, uses, size, data) VALUES ($1, $2, $3, $4);

-- name: mail_blob_read :one
SELECT data FROM blob WHERE blob_id = $1;

-- name: mail_blob_read_slice :one
-- $2 counts from 1.
SELECT substring(data FROM $2::integer FOR $3::integer) AS data FROM blob WHERE blob_id = $1;

-- name: mail_deliver :one
SELECT status, uid_validity, uid, message_id, thread_id, modseq
  FROM mail_deliver($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15);

-- name: mail_append :one
SELECT status, uid_validity, uid, message_id, thread_id, modseq
  FROM mail_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15);
