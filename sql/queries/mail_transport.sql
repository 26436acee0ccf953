-- name: sts_policy_get :maybe
SELECT policy_id, policy, fetched_at, expires_at
  FROM sts_policy
 WHERE domain = $1 AND expires_at > now();

-- name: sts_policy_put :exec
-- $4 in seconds. Who comes here has just fetched it, so the later one wins. A few that expired go on the way.
WITH old AS (
    DELETE FROM sts_policy
     WHERE domain IN (SELECT domain FROM sts_policy
                       WHERE expires_at < now() AND domain <> $1
                       ORDER BY expires_at LIMIT 10 FOR UPDATE SKIP LOCKED)
)
INSERT INTO sts_policy (domain, policy_id, policy, fetched_at, expires_at)
VALUES ($1, $2, $3, now(), now() + make_interval(secs => $4::bigint))
ON CONFLICT (domain) DO UPDATE
   SET policy_id = excluded.policy_id, policy = excluded.policy,
       fetched_at = excluded.fetched_at, expires_at = excluded.expires_at;
