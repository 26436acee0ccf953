-- The outbound queue (mail/store/outbound.h).

-- name: queue_id_block :one
SELECT nextval('queue_id_block') AS first_id;

-- name: queue_insert :exec
-- Times in milliseconds from now; $6, $7: Unix time in microseconds or NULL. Recipients are numbered from 1 on.
WITH message AS (
    INSERT INTO queue_message (queue_id, trace_id, account_id, blob_id, size, check_at, warn_at, expires_at, deliver_by,
                               blob_offset, recipient_count, ret, body, priority, is_utf8, requires_tls,
                               deliver_by_notify, sender, envid, language)
    SELECT $1, $2, $3, $4, $5, least(t.warn_at, t.expires_at), t.warn_at, t.expires_at, $7::timestamptz, $8, cardinality($21::text[]),
           $9, $10, $11, $12, $13, $14, $15, $16, $17
      FROM (SELECT CASE WHEN $14::boolean THEN least($7::timestamptz, greatest($6::timestamptz, now()) + queue_ms($18))
                        ELSE greatest($6::timestamptz, now()) + queue_ms($18) END AS warn_at,
                   CASE WHEN $14::boolean THEN greatest($6::timestamptz, now()) + queue_ms($19)
                        ELSE least($7::timestamptz, greatest($6::timestamptz, now()) + queue_ms($19)) END AS expires_at) AS t)
INSERT INTO queue_recipient (queue_id, recipient_no, claimed_by, next_at, held, priority, notify, hop, route, destination, address, orcpt)
SELECT $1, u.no, $20::bigint,
       CASE WHEN $27::text IS NULL THEN greatest($6::timestamptz, now()) ELSE 'infinity' END, $27::text,
       $11, u.notify, u.hop, u.route, u.destination, u.address, u.orcpt
  FROM unnest($21::text[], $22::text[], $23::integer[], $24::text[], $25::text[], $26::integer[], $28::text[])
       AS u (address, orcpt, notify, destination, route, no, hop);

-- name: queue_worker_begin :maybe
SELECT queue_worker_begin($1, $2, $3) AS worker_id;

-- name: queue_worker_renew :exec
UPDATE queue_worker SET alive_until = now() + queue_ms($2) WHERE worker_id = $1 AND alive_until > now();

-- name: queue_worker_release :maybe
SELECT queue_release_claims(ARRAY[$1::bigint], false) AS released;

-- name: queue_worker_end :exec
DELETE FROM queue_worker WHERE worker_id = $1;

-- name: queue_sweep :maybe
SELECT claims, hops FROM queue_sweep();

-- name: queue_claim :many
SELECT * FROM queue_claim($1, $2, $3, $4, $5, $6, $7, $8);

-- name: queue_claim_late :many
SELECT * FROM queue_claim_late($1, $2, $3);

-- name: queue_read_message :maybe
SELECT substring(b.data FROM m.blob_offset + 1) AS data
  FROM queue_message m JOIN blob b ON b.blob_id = m.blob_id
 WHERE m.queue_id = $1;

-- name: queue_still_claimed :many
-- Of the recipients $3; those that are held by now are given back. Written so that nobody looks through all claims of a worker.
WITH given_back AS (
    UPDATE queue_recipient SET claimed_by = NULL
     WHERE queue_id = $1 AND claimed_by IS NOT DISTINCT FROM $2 AND recipient_no = ANY ($3::integer[]) AND held IS NOT NULL)
SELECT recipient_no FROM queue_recipient
 WHERE queue_id = $1 AND claimed_by IS NOT DISTINCT FROM $2 AND recipient_no = ANY ($3::integer[]) AND held IS NULL
 ORDER BY recipient_no;

-- name: queue_remove :maybe
SELECT queue_remove($1, $2, $3, $4) AS removed;

-- name: queue_defer :maybe
SELECT queue_defer($1, $2, $3, $4, $5, $6, $7, $8);

-- name: queue_warned :maybe
SELECT queue_warned($1);

-- name: queue_block :many
SELECT hop, failures, blocked_ms FROM queue_block($1, $2, $3);

-- name: queue_unblock :maybe
SELECT queue_unblock($1);

-- name: queue_note_due :maybe
SELECT queue_note_due($1::text[], (SELECT array_agg(now()) FROM unnest($1::text[])));

-- name: queue_list :many
-- $7, $8: after these; $9: how many. The two numbers stand in two tables, so that only the first by itself finds its place.
SELECT * FROM queue_entry e
 WHERE ($1::bigint IS NULL OR e.queue_id = $1) AND ($2::bigint IS NULL OR e.account_id = $2)
   AND ($3::text IS NULL OR queue_matches(e.sender, $3)) AND ($4::text IS NULL OR queue_matches(e.address, $4))
   AND ($5::text IS NULL OR $5 IN (e.destination, e.hop)) AND ($6::boolean IS NOT TRUE OR e.held IS NOT NULL)
   AND e.queue_id >= $7::bigint AND (e.queue_id, e.recipient_no) > ($7::bigint, $8::integer)
 ORDER BY e.queue_id, e.recipient_no
 LIMIT $9::integer;

-- name: queue_hold :maybe
SELECT queue_hold($1, $2, $3, $4, $5, $6, $7) AS changed;

-- name: queue_release :maybe
SELECT queue_release($1, $2, $3, $4, $5, $6, $7) AS changed;

-- name: queue_retry :maybe
SELECT queue_retry($1, $2, $3, $4, $5, $6) AS changed;

-- name: queue_reroute :maybe
SELECT queue_reroute($1, $2, $3, $4, $5, $6, $7) AS changed;

-- name: queue_delete :maybe
SELECT queue_delete($1, $2, $3, $4, $5, $6) AS changed;

-- name: queue_refuse :maybe
SELECT queue_refuse($1, $2, $3, $4, $5, $6) AS changed;

-- name: queue_count :one
SELECT (SELECT count(*) FROM queue_message) AS messages, count(*) AS recipients,
       count(*) FILTER (WHERE held IS NOT NULL) AS held, count(*) FILTER (WHERE attempts > 0) AS deferred,
       (SELECT count(*) FROM queue_destination) AS hops, (SELECT min(created_at) FROM queue_message) AS oldest
  FROM queue_recipient;

-- name: upkeep_tally_queue :exec
INSERT INTO blob_tally (blob_id, uses) SELECT blob_id, count(*) FROM queue_message GROUP BY blob_id;
