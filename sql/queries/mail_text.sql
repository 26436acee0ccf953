-- The text index.

-- name: text_find :many
-- All of one snapshot: how far the index is (kind 0), each segment's messages (1), and of each segment the buckets of the
-- terms asked for (2), of which `number` says which term.
SELECT 0 AS kind, 0::bigint AS segment_id, 0 AS number, 0 AS bits, indexed_message_id AS message_count, ''::bytea AS data
  FROM text_state
 WHERE account_id = $1
UNION ALL
SELECT 1, segment_id, 0, bits, message_count, messages
  FROM text_segment
 WHERE account_id = $1
UNION ALL
SELECT 2, s.segment_id, t.nth::integer - 1, s.bits, s.message_count, b.data
  FROM text_segment s
 CROSS JOIN unnest($2::integer[]) WITH ORDINALITY AS t (term, nth)
  JOIN text_bucket b ON b.account_id = $1 AND b.segment_id = s.segment_id AND b.bucket = t.term >> (26 - s.bits)
 WHERE s.account_id = $1
 ORDER BY 1, 2, 3;

-- name: text_due :maybe
-- How much waits to be indexed, counted up to $2 messages.
SELECT count(m.size) AS messages, coalesce(sum(m.size), 0)::bigint AS bytes
  FROM (SELECT coalesce(max(indexed_message_id), 0) AS indexed_message_id FROM text_state WHERE account_id = $1) AS t
 CROSS JOIN LATERAL (SELECT size FROM message
                      WHERE account_id = $1 AND message_id > t.indexed_message_id
                      ORDER BY message_id
                      LIMIT $2::integer) AS m;

-- name: text_accounts_behind :many
-- After a crash nobody may remember what was delivered. $1: accounts above this one; $2: messages.
SELECT s.account_id
  FROM account_state s LEFT JOIN text_state t ON t.account_id = s.account_id
 WHERE s.account_id > $1 AND s.next_message_id - 1 - coalesce(t.indexed_message_id, 0) >= $2
 ORDER BY s.account_id
 LIMIT 1000;

-- name: text_claim :maybe
SELECT indexed_message_id, last_message_id FROM text_claim($1, $2, $3);

-- name: text_release :exec
UPDATE text_state SET claimed_until = '-infinity' WHERE account_id = $1 AND claim = $2;

-- name: text_pending :many
-- What retention keeps is indexed, too, because it may come back.
SELECT message_id, blob_id, size
  FROM message
 WHERE account_id = $1 AND message_id > $2 AND message_id <= $3
UNION ALL
SELECT message_id, blob_id, size
  FROM message_removed
 WHERE account_id = $1 AND message_id > $2 AND message_id <= $3 AND blob_id IS NOT NULL
 ORDER BY message_id
 LIMIT $4;

-- name: text_alive :many
SELECT message_id
  FROM message
 WHERE account_id = $1 AND message_id >= $2 AND message_id <= $3
UNION ALL
SELECT message_id
  FROM message_removed
 WHERE account_id = $1 AND message_id >= $2 AND message_id <= $3 AND blob_id IS NOT NULL
 ORDER BY message_id
 LIMIT $4;

-- name: text_keep :exec
-- Once per blob, and only while the blob is there.
INSERT INTO blob_text (blob_id, data)
SELECT t.blob_id, t.data
  FROM unnest($1::bigint[], $2::bytea[]) AS t (blob_id, data)
 WHERE EXISTS (SELECT FROM blob WHERE blob.blob_id = t.blob_id)
    ON CONFLICT DO NOTHING;

-- name: text_read :many
SELECT blob_id, data FROM blob_text WHERE blob_id = ANY ($1::bigint[]) ORDER BY blob_id;

-- name: text_add_segment :exec
SELECT text_add_segment($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: text_levels :many
-- Levels of which there is enough to merge, the lowest first.
SELECT level
  FROM text_segment
 WHERE account_id = $1
 GROUP BY level
HAVING count(*) >= $2::bigint AND level < $3::integer
 ORDER BY level;

-- name: text_level_segments :many
SELECT segment_id, bits, message_count, bytes, messages
  FROM text_segment
 WHERE account_id = $1 AND level = $2::integer
 ORDER BY first_message_id;

-- name: text_buckets :many
-- Of each of the segments the buckets from..to.
SELECT b.segment_id, b.bucket, b.data
  FROM unnest($2::bigint[], $3::integer[], $4::integer[]) AS r (segment_id, first, last)
  JOIN text_bucket b ON b.account_id = $1 AND b.segment_id = r.segment_id AND b.bucket BETWEEN r.first AND r.last
 ORDER BY b.segment_id, b.bucket;

-- name: text_begin_merge :one
SELECT text_begin_merge($1, $2, $3) AS segment_id;

-- name: text_continue_merge :exec
SELECT text_continue_merge($1, $2, $3, $4, $5, $6);

-- name: text_end_merge :exec
SELECT text_end_merge($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: text_reset :exec
SELECT text_reset($1);
