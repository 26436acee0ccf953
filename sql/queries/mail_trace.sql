-- name: trace_lane :one
SELECT nextval('trace_lane')::bigint AS lane;

-- name: trace_commit_lazily :many
-- What a crash of the database loses of the trace is no mail.
SELECT set_config('synchronous_commit', 'off', true);

-- name: trace_write :exec
-- A batch that was written without our hearing so is written again.
WITH written AS (
    INSERT INTO trace_message (trace_id, account_id, size, recipient_count, direction, sender, message_id, subject,
                               recipients, client_ip, client_name, helo, protocol, tls)
    SELECT trace_id, account_id, size, recipient_count, direction::smallint, sender, message_id, subject, recipients,
           client_ip, client_name, helo, protocol, tls
      FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::integer[], $5::integer[], $6::text[], $7::text[],
                  $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[])
        AS m (trace_id, account_id, size, recipient_count, direction, sender, message_id, subject, recipients,
              client_ip, client_name, helo, protocol, tls)
        ON CONFLICT DO NOTHING)
INSERT INTO trace_event (trace_id, event_id, account_id, kind, recipient, text)
SELECT trace_id, event_id, account_id, kind::smallint, recipient, text
  FROM unnest($15::bigint[], $16::bigint[], $17::bigint[], $18::integer[], $19::text[], $20::text[])
    AS e (trace_id, event_id, account_id, kind, recipient, text)
    ON CONFLICT DO NOTHING;

-- name: trace_search :many
SELECT m.*, coalesce(a.address, '') AS account
  FROM trace_search($1, $2, $3, $4, $5, $6, $7, $8) AS m
  LEFT JOIN address a ON a.account_id = m.account_id AND a.is_primary
 ORDER BY m.trace_id;

-- name: trace_lines :many
SELECT e.event_id, e.kind, e.recipient, e.text, coalesce(a.address, '') AS account
  FROM trace_event e
  LEFT JOIN address a ON a.account_id = e.account_id AND a.is_primary
 WHERE e.trace_id = $1
 ORDER BY e.event_id
 LIMIT $2::integer;

-- name: trace_keep_partitions :one
SELECT trace_keep_partitions($1) AS is_done;
