-- name: index_mailbox :maybe
SELECT uid_validity, uid_next, modseq, changed_modseq FROM mailbox WHERE account_id = $1 AND mailbox_id = $2;

-- name: index_floor :one
SELECT unlogged_modseq FROM account_state WHERE account_id = $1;

-- name: index_load :many
-- The next slice; also what arrived since.
SELECT uid, message_id, modseq, flags, keywords
  FROM message
 WHERE account_id = $1 AND mailbox_id = $2 AND uid >= $3
 ORDER BY uid
 LIMIT $4;

-- name: index_changed :many
-- A message may be named by several rows of the journal, but comes once. From ranges to messages, never the other way:
-- see mail_set.
SELECT m.*
  FROM (SELECT unnest(range_agg(r)) AS r
          FROM mailbox_change, unnest(uids) AS r
         WHERE account_id = $1 AND mailbox_id = $2 AND modseq > $3 AND NOT is_vanished) AS changed
 CROSS JOIN LATERAL (
        SELECT uid, message_id, modseq, flags, keywords
          FROM message
         WHERE account_id = $1 AND mailbox_id = $2 AND uid >= lower(changed.r) AND uid < upper(changed.r)
           AND modseq > $3
         ORDER BY uid OFFSET 0) AS m
 LIMIT $4;

-- name: index_vanished :many
SELECT lower(r) AS first, upper(r) - 1 AS last
  FROM mailbox_change, unnest(uids) AS r
 WHERE account_id = $1 AND mailbox_id = $2 AND modseq > $3 AND is_vanished
 ORDER BY lower(r)
 LIMIT $4;

-- name: index_seen :many
-- What some users have seen that are not the owner: everything, of those for whom something changed. One without ranges has
-- seen nothing.
SELECT s.user_id, lower(r) AS first, upper(r) - 1 AS last
  FROM unnest($3::bigint[], $4::bigint[]) AS asked (user_id, known_modseq)
  JOIN mailbox_seen s ON s.account_id = $1 AND s.mailbox_id = $2 AND s.user_id = asked.user_id
                     AND s.modseq > asked.known_modseq
  LEFT JOIN LATERAL unnest(s.uids) AS r ON true
 ORDER BY s.user_id, lower(r);

-- name: mailbox_vanished_floor :one
SELECT s.forgotten_modseq, b.uid_next
  FROM account_state s JOIN mailbox b ON b.account_id = s.account_id AND b.mailbox_id = $2
 WHERE s.account_id = $1;

-- name: mailbox_vanished :many
-- Behind the row of the journal and the range of it that were read last.
SELECT modseq, lower(r) AS first, upper(r) - 1 AS last
  FROM mailbox_change, unnest(uids) AS r
 WHERE account_id = $1 AND mailbox_id = $2 AND is_vanished AND modseq >= $3 AND (modseq > $3 OR lower(r) > $4)
 ORDER BY modseq, lower(r)
 LIMIT $5;

-- name: mailbox_uids :many
SELECT uid
  FROM message
 WHERE account_id = $1 AND mailbox_id = $2 AND uid >= $3
 ORDER BY uid
 LIMIT $4;
