-- name: metadata_find :many
-- $4: names; $5: how many levels below them count, too (-1: any number); $6: values longer than this stay out.
SELECT mailbox_id, entry, octet_length(value) AS size, CASE WHEN octet_length(value) <= $6::bigint THEN value END AS value
  FROM annotation
 WHERE account_id = $1 AND mailbox_id = ANY ($2::bigint[]) AND user_id IN (0, $3::bigint) AND value IS NOT NULL
   AND EXISTS (SELECT FROM unnest($4::text[]) AS asked (name)
                WHERE entry = name COLLATE "C"
                   OR $5::integer <> 0 AND starts_with(entry, name || '/')
                      AND ($5::integer < 0 OR strpos(substr(entry, length(name) + 2), '/') = 0))
 ORDER BY mailbox_id, entry;

-- name: metadata_annotate :maybe
SELECT mail_annotate($1, $2, $3, $4, $5, $6, $7, $8) AS modseq;

-- name: metadata_set_role :maybe
SELECT modseq, loser FROM mail_set_role($1, $2, $3);

-- name: metadata_changed :many
-- Names only: what a session is told of changes.
SELECT mailbox_id, entry, modseq
  FROM annotation
 WHERE account_id = $1 AND modseq > $2 AND modseq <= $3 AND user_id IN (0, $4::bigint)
 ORDER BY mailbox_id, entry
 LIMIT $5;

-- name: metadata_modseq :one
SELECT coalesce(max(modseq), 0) AS modseq FROM annotation WHERE account_id = $1;
