-- Passwords and the secrets that hosts share.

-- name: credential_find :many
-- All that a log-in needs, in one answer: the account with each of its credentials, and how the limiter stands for
-- it in this network. One row at least; account_id is NULL when nobody has that address. $2: $1 is a local
-- part alone, which the server's only domain completes.
-- $3 network, $4 seconds of memory, $5 guesses per account, $6 guesses per network; see limiter_standing.
WITH asked AS MATERIALIZED (
    SELECT CASE WHEN $2::boolean
                THEN coalesce($1 || '@' || (SELECT min(name) FROM domain WHERE target_domain_id IS NULL HAVING count(*) = 1), $1)
                ELSE address_home($1) END AS address
), who AS MATERIALIZED (
    SELECT account.account_id, account.kind, account.name, account.is_active, account.is_administrator, main.address,
           account_state.quota_bytes, account_state.quota_messages
      FROM asked
      JOIN address AS any_address ON any_address.address = asked.address
      JOIN account ON account.account_id = any_address.account_id
      JOIN address AS main ON main.account_id = account.account_id AND main.is_primary
      JOIN account_state ON account_state.account_id = account.account_id
), key AS MATERIALIZED (
    SELECT coalesce((SELECT address FROM who), (SELECT address FROM asked)) AS name
)
SELECT key.name AS limiter_name, who.*,
       credential.credential_id, credential.crypt, credential.scram, credential.old_scram, credential.created_at,
       coalesce(credential.used_at < now() - interval '1 hour', true) AS is_use_due,
       (SELECT extract(epoch FROM at - now())::bigint + $4::bigint FROM login_guess
         WHERE network = $3 AND login_guess.name = key.name AND at > now() - make_interval(secs => $4::bigint)
         ORDER BY at DESC OFFSET $5::bigint - 1 LIMIT 1) AS account_wait_s,
       (SELECT extract(epoch FROM at - now())::bigint + $4::bigint FROM login_guess
         WHERE network = $3 AND at > now() - make_interval(secs => $4::bigint)
           AND NOT EXISTS (SELECT FROM login_success
                            WHERE network = $3 AND login_success.name = key.name
                              AND at > now() - make_interval(secs => $4::bigint))
         ORDER BY at DESC
        OFFSET $6::bigint * (1 + (SELECT count(*) FROM (SELECT FROM login_success
                                                         WHERE network = $3 AND at > now() - make_interval(secs => $4::bigint)
                                                         LIMIT 1000) AS good)) - 1
         LIMIT 1) AS network_wait_s
  FROM key
  LEFT JOIN who ON true
  LEFT JOIN credential ON credential.account_id = who.account_id
 ORDER BY credential.credential_id;

-- name: credential_set :maybe
-- The verifier of the password before stays as old_scram: see limiter.h.
INSERT INTO credential AS c (account_id, credential_id, crypt, scram) VALUES ($1, 0, $2, $3)
ON CONFLICT (account_id, credential_id)
DO UPDATE SET crypt = excluded.crypt, scram = excluded.scram, old_scram = coalesce(c.scram, c.old_scram),
              created_at = clock_timestamp(), used_at = NULL
RETURNING login_notice(account_id);

-- name: credential_insert_new :exec
INSERT INTO credential (account_id, credential_id, crypt, scram)
SELECT account_id, 0, $2, $3 FROM address WHERE address = $1;

-- name: credential_renew :exec
-- Better forms of a password that just proved right; only if nobody changed it meanwhile.
UPDATE credential SET crypt = $3, scram = $4 WHERE account_id = $1 AND credential_id = 0 AND crypt = $2;

-- name: credential_scram_any :maybe
SELECT scram FROM credential WHERE account_id = $1 AND scram IS NOT NULL ORDER BY credential_id LIMIT 1;

-- name: credential_used :exec
UPDATE credential SET used_at = now() WHERE account_id = $1 AND credential_id = $2;

-- name: app_password_insert :maybe
WITH counted AS (
    UPDATE account_state SET next_credential_id = next_credential_id + 1
     WHERE account_id = $1 AND (SELECT count(*) FROM credential WHERE account_id = $1) < $5
    RETURNING account_id, next_credential_id - 1 AS credential_id
)
INSERT INTO credential (account_id, credential_id, label, crypt, scram)
SELECT account_id, credential_id, $2, $3, $4 FROM counted
RETURNING credential_id;

-- name: app_password_delete :maybe
DELETE FROM credential WHERE account_id = $1 AND credential_id = $2 AND credential_id <> 0
RETURNING credential_id, login_notice(account_id);

-- name: app_passwords :many
SELECT credential_id, label, created_at, used_at FROM credential
 WHERE account_id = $1 AND credential_id <> 0 ORDER BY credential_id;

-- name: login_standing :many
-- For sessions: is the account still active, and which passwords has it?
SELECT account.account_id, account.is_active AND account.removed_at IS NULL AS is_active,
       credential.credential_id, credential.created_at
  FROM account
  LEFT JOIN credential ON credential.account_id = account.account_id
 WHERE account.account_id = ANY ($1::bigint[])
 ORDER BY account.account_id, credential.credential_id;

-- name: server_secret_insert :exec
INSERT INTO server_secret (name, secret) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: server_secret :one
SELECT secret FROM server_secret WHERE name = $1;
