-- What accounts send, and whose mail is held; see mail/store/sending_guard.h. Hours count from 1970.

-- name: sending_add :many
-- Rows are locked in one order, so that workers do not wait for each other in a circle.
INSERT INTO sending_hour AS h (account_id, hour, messages, recipients, recipients_away, bounces)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
              AS u (account_id, hour, messages, recipients, recipients_away, bounces)
 ORDER BY u.account_id, u.hour
    ON CONFLICT (account_id, hour) DO UPDATE
   SET messages = h.messages + excluded.messages, recipients = h.recipients + excluded.recipients,
       recipients_away = h.recipients_away + excluded.recipients_away, bounces = h.bounces + excluded.bounces
RETURNING account_id, hour, messages, recipients, recipients_away, bounces;

-- name: sending_add_places :exec
INSERT INTO sending_place AS p (account_id, place, first_at, last_at)
SELECT u.account_id, u.place, now(), now() FROM unnest($1::bigint[], $2::text[]) AS u (account_id, place)
 ORDER BY u.account_id, u.place COLLATE "C"
    ON CONFLICT (account_id, place) DO UPDATE SET last_at = now();

-- name: sending_past :many
-- $2: the hour that is now; $3: hours that count. The busiest hour is one of those before yesterday at this time.
SELECT a.account_id, s.*
  FROM unnest($1::bigint[]) AS a (account_id)
 CROSS JOIN LATERAL (
    SELECT coalesce(sum(messages) FILTER (WHERE hour = $2), 0)::bigint AS messages,
           coalesce(sum(recipients) FILTER (WHERE hour = $2), 0)::bigint AS recipients,
           coalesce(sum(recipients_away) FILTER (WHERE hour = $2), 0)::bigint AS recipients_away,
           coalesce(sum(bounces) FILTER (WHERE hour = $2), 0)::bigint AS bounces,
           coalesce(sum(messages) FILTER (WHERE hour = $2 - 1), 0)::bigint AS messages_before,
           coalesce(sum(recipients) FILTER (WHERE hour = $2 - 1), 0)::bigint AS recipients_before,
           coalesce(sum(recipients_away) FILTER (WHERE hour = $2 - 1), 0)::bigint AS recipients_away_before,
           coalesce(sum(recipients_away) FILTER (WHERE hour BETWEEN $2 - 23 AND $2 - 1), 0)::bigint AS day_away,
           coalesce(sum(bounces) FILTER (WHERE hour BETWEEN $2 - 23 AND $2 - 1), 0)::bigint AS day_bounces,
           coalesce(max(messages) FILTER (WHERE hour < $2 - 23), 0)::bigint AS messages_most,
           coalesce(max(recipients) FILTER (WHERE hour < $2 - 23), 0)::bigint AS recipients_most,
           coalesce(max(recipients_away) FILTER (WHERE hour < $2 - 23), 0)::bigint AS recipients_away_most
      FROM sending_hour h
     WHERE h.account_id = a.account_id AND h.hour BETWEEN $2::bigint - $3::bigint AND $2::bigint) AS s;

-- name: sending_places :many
-- Countries first, then the latest networks.
SELECT a.account_id, p.place, p.first_at, p.last_at
  FROM unnest($1::bigint[]) AS a (account_id)
 CROSS JOIN LATERAL (
    SELECT place, first_at, last_at FROM sending_place p
     WHERE p.account_id = a.account_id
     ORDER BY length(place) = 2 DESC, last_at DESC
     LIMIT $2::integer) AS p
 ORDER BY a.account_id;

-- name: sending_forget :exec
WITH old AS (
    DELETE FROM sending_hour WHERE hour < $1
)
DELETE FROM sending_place WHERE last_at < now() - make_interval(hours => $2::integer);

-- name: guard_states :many
-- All that a worker must know by heart. A change is of interest for as long as something may be forgiven.
SELECT account_id, is_off, held_at, told_at, cause, seen, usual, detail, language, forgiven_at, forgiven, version
  FROM sending_guard
 WHERE is_off OR held_at IS NOT NULL OR changed_at > now() - interval '8 days';

-- name: guard_hold :maybe
-- Nothing when it is held already, or is never held.
WITH held AS (
    INSERT INTO sending_guard AS g (account_id, held_at, cause, seen, usual, detail, language, levels)
    VALUES ($1, now(), $2, $3, $4, $5, $6, $7)
    ON CONFLICT (account_id) DO UPDATE
       SET held_at = now(), told_at = NULL, cause = excluded.cause, seen = excluded.seen, usual = excluded.usual,
           detail = excluded.detail, language = excluded.language, levels = excluded.levels, changed_at = now(),
           version = nextval('sending_guard_version')
     WHERE g.held_at IS NULL AND NOT g.is_off
    RETURNING account_id
)
SELECT account_id, sending_guard_tell() FROM held;

-- name: guard_tell :maybe
UPDATE sending_guard SET told_at = now()
 WHERE account_id = $1 AND held_at IS NOT NULL AND told_at IS NULL
RETURNING account_id;

-- name: guard_untell :exec
UPDATE sending_guard SET told_at = NULL WHERE account_id = $1;

-- name: guard_release :maybe
-- $2: the hour that is now; $3: milliseconds within which countries and networks are counted.
WITH day AS (
    SELECT coalesce(max(messages), 0) AS messages, coalesce(max(recipients), 0) AS recipients,
           coalesce(max(recipients_away), 0) AS recipients_away, coalesce(sum(bounces), 0)::bigint AS bounces
      FROM sending_hour WHERE account_id = $1 AND hour > $2::bigint - 24
), place AS (
    SELECT count(*) FILTER (WHERE length(place) = 2) AS countries, count(*) FILTER (WHERE length(place) > 2) AS networks
      FROM sending_place
     WHERE account_id = $1 AND last_at > now() - $3::bigint * interval '1 millisecond'
), released AS (
    UPDATE sending_guard g
       SET held_at = NULL, told_at = NULL, forgiven_at = now(), changed_at = now(),
           version = nextval('sending_guard_version'),
           forgiven = ARRAY[greatest(levels[1], day.messages), greatest(levels[2], day.recipients),
                            greatest(levels[3], day.recipients_away), greatest(levels[4], day.bounces),
                            greatest(levels[5], place.countries), greatest(levels[6], place.networks)]
      FROM day, place
     WHERE g.account_id = $1 AND g.held_at IS NOT NULL
    RETURNING g.account_id
)
SELECT account_id, sending_guard_tell() FROM released;

-- name: guard_purge :maybe
-- What a stranger did is not the account's past: hours and places from a day before the hold on are forgotten. $2: now.
WITH held AS (
    SELECT account_id, extract(epoch FROM held_at)::bigint / 3600 - 24 AS hour, held_at - interval '1 day' AS since
      FROM sending_guard WHERE account_id = $1 AND held_at IS NOT NULL
), hours AS (
    DELETE FROM sending_hour h USING held WHERE h.account_id = $1 AND h.hour >= held.hour
), places AS (
    DELETE FROM sending_place p USING held WHERE p.account_id = $1 AND p.first_at >= held.since
), changed AS (
    UPDATE sending_guard g
       SET levels = '{0,0,0,0,0,0}', changed_at = now(), version = nextval('sending_guard_version')
      FROM held WHERE g.account_id = $1
    RETURNING g.account_id
)
SELECT account_id, sending_guard_tell() FROM changed;

-- name: guard_set_off :maybe
WITH changed AS (
    INSERT INTO sending_guard AS g (account_id, is_off) VALUES ($1, $2)
    ON CONFLICT (account_id) DO UPDATE
       SET is_off = excluded.is_off, changed_at = now(), version = nextval('sending_guard_version')
    RETURNING account_id
)
SELECT account_id, sending_guard_tell() FROM changed;

-- name: guard_held :many
SELECT g.account_id, a.address, g.held_at, g.cause, g.seen, g.usual, g.detail,
       coalesce(q.messages, 0) AS messages,
       coalesce(q.recipients, 0) AS recipients, coalesce(q.size, 0)::bigint AS size
  FROM sending_guard g
  JOIN address a ON a.account_id = g.account_id AND a.is_primary
  LEFT JOIN (SELECT m.account_id, count(*) AS messages, sum(r.count)::bigint AS recipients, sum(m.size) AS size
               FROM queue_message m
              CROSS JOIN LATERAL (SELECT count(*) FROM queue_recipient r
                                   WHERE r.queue_id = m.queue_id AND r.held IS NOT NULL) AS r
              WHERE r.count > 0
              GROUP BY m.account_id) AS q ON q.account_id = g.account_id
 WHERE g.held_at IS NOT NULL
 ORDER BY a.address;



