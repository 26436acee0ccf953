-- Counts and the greylist of SMTP; see mail/store/smtp_policy_store.h.

-- name: smtp_counts_add :many
-- Rows are locked in the order of their keys, so that workers do not wait for each other in a circle.
WITH given AS (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[])
                  WITH ORDINALITY AS g (key, period, connections, messages, recipients, place)
), sums AS (
    INSERT INTO smtp_count AS c (key, period, connections, messages, recipients)
    SELECT key, period, connections, messages, recipients FROM given ORDER BY key COLLATE "C", period
    ON CONFLICT (key, period) DO UPDATE
       SET connections = c.connections + excluded.connections, messages = c.messages + excluded.messages,
           recipients = c.recipients + excluded.recipients
    RETURNING *
)
SELECT g.place, s.connections, s.messages, s.recipients,
       coalesce(p.connections, 0) AS connections_before, coalesce(p.messages, 0) AS messages_before,
       coalesce(p.recipients, 0) AS recipients_before
  FROM given g
  JOIN sums s ON s.key = g.key AND s.period = g.period
  LEFT JOIN smtp_count p ON p.key = g.key AND p.period = g.period - 1;

-- name: smtp_counts_forget :exec
-- Those of the future are from before smtp_rate_window was set to a longer time.
DELETE FROM smtp_count WHERE period < $1 OR period > $1 + 10;

-- name: greylist_try :one
-- $4 to $6: seconds to wait, until when one must come again, for how long a network stays known.
WITH known AS (
    SELECT FROM smtp_greylist_known WHERE network = $1 AND last_at > now() - make_interval(secs => $6::bigint)
), entry AS (
    INSERT INTO smtp_greylist AS g (network, sender, recipient, first_at, last_at)
    SELECT $1, $2, $3, now(), now() WHERE NOT EXISTS (SELECT FROM known)
    ON CONFLICT (network, sender, recipient) DO UPDATE
       SET first_at = CASE WHEN g.first_at > now() - make_interval(secs => $5::bigint) THEN g.first_at ELSE now() END,
           last_at = now()
    RETURNING ceil(extract(epoch FROM first_at - now()) + $4::bigint)::bigint AS wait_s
)
SELECT EXISTS (SELECT FROM known) AS is_known, coalesce((SELECT greatest(wait_s, 0) FROM entry), 0) AS wait_s;

-- name: greylist_pass :exec
INSERT INTO smtp_greylist_known AS k (network, last_at) VALUES ($1, now())
ON CONFLICT (network) DO UPDATE SET last_at = now() WHERE k.last_at < now() - interval '1 hour';

-- name: greylist_forget :exec
WITH old AS (
    DELETE FROM smtp_greylist WHERE last_at < now() - make_interval(secs => $1::bigint)
)
DELETE FROM smtp_greylist_known WHERE last_at < now() - make_interval(secs => $2::bigint);
