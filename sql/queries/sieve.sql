-- Sieve scripts and what their runs remember; see mail/store/sieve_store.h.

-- name: sieve_list :many
SELECT name, is_active, size, changed_at FROM sieve_script WHERE account_id = $1 ORDER BY name;

-- name: sieve_get :maybe
SELECT content FROM sieve_script WHERE account_id = $1 AND name = $2;

-- name: sieve_put :maybe
SELECT sieve_put($1, $2, $3, $4, $5);

-- name: sieve_check_room :maybe
SELECT sieve_check_room($1, $2, $3, $4, $5);

-- name: sieve_activate :maybe
SELECT sieve_activate($1, $2);

-- name: sieve_remove :maybe
SELECT sieve_remove($1, $2);

-- name: sieve_rename :maybe
SELECT sieve_rename($1, $2, $3);

-- name: sieve_running :many
-- What runs when mail comes: the domain's before, the account's, the domain's after.
SELECT name, content, place, 1 + (place = 'after')::integer * 2 AS turn
  FROM sieve_domain_script
 WHERE domain_id = (SELECT domain_id FROM address WHERE account_id = $1 AND is_primary) AND place IN ('before', 'after')
 UNION ALL
SELECT name, content, 'own', 2 FROM sieve_script WHERE account_id = $1 AND is_active
 ORDER BY turn, name;

-- name: sieve_get_global :maybe
-- Scripts of the account's domain that others include.
SELECT content FROM sieve_domain_script
 WHERE domain_id = (SELECT domain_id FROM address WHERE account_id = $1 AND is_primary) AND name = $2;

-- name: sieve_domain_list :many
SELECT d.name AS domain, s.name, s.place, octet_length(s.content) AS size, s.changed_at
  FROM sieve_domain_script s JOIN domain d USING (domain_id)
 WHERE d.name = $1 ORDER BY s.place, s.name;

-- name: sieve_domain_get :maybe
SELECT s.content FROM sieve_domain_script s JOIN domain d USING (domain_id) WHERE d.name = $1 AND s.name = $2;

-- name: sieve_domain_put :maybe
INSERT INTO sieve_domain_script AS s (domain_id, name, place, content)
SELECT domain_id, $2, $3, $4 FROM domain WHERE name = $1
    ON CONFLICT (domain_id, name)
    DO UPDATE SET place = excluded.place, content = excluded.content, changed_at = now()
RETURNING domain_id, sieve_tell_domains();

-- name: sieve_domain_remove :maybe
DELETE FROM sieve_domain_script
 WHERE domain_id = (SELECT domain_id FROM domain WHERE domain.name = $1) AND name = $2
RETURNING domain_id, sieve_tell_domains();

-- name: sieve_remember :maybe
-- A row when it was not remembered.
INSERT INTO sieve_memory AS m (account_id, digest, expires_at) VALUES ($1, $2, $3)
    ON CONFLICT (account_id, digest) DO UPDATE SET expires_at = excluded.expires_at WHERE m.expires_at <= now()
RETURNING account_id;

-- name: sieve_remember_anew :exec
INSERT INTO sieve_memory AS m (account_id, digest, expires_at) VALUES ($1, $2, $3)
    ON CONFLICT (account_id, digest) DO UPDATE SET expires_at = excluded.expires_at;

-- name: sieve_remembers :maybe
SELECT account_id FROM sieve_memory WHERE account_id = $1 AND digest = $2 AND expires_at > now();

-- name: sieve_forget :exec
DELETE FROM sieve_memory WHERE account_id = $1 AND digest = $2;

-- name: sieve_forget_expired :one
WITH gone AS (
    DELETE FROM sieve_memory
     WHERE (account_id, digest) IN (SELECT account_id, digest FROM sieve_memory WHERE expires_at <= now()
                                     ORDER BY expires_at LIMIT $1::integer)
    RETURNING 1)
SELECT count(*) AS forgotten FROM gone;
