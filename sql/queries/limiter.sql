-- Guesses at passwords. $1 is the network, $2 the name; the window is in seconds.

-- name: limiter_standing :one
-- How long each limit still holds; NULL: not reached. $6: so many guesses beyond the limits are asked for. The more
-- names have logged in well from a network, the more guesses it takes to shut strangers out there; those names are none.
SELECT (SELECT extract(epoch FROM at - now())::bigint + $3::bigint FROM login_guess
         WHERE network = $1 AND name = $2 AND at > now() - make_interval(secs => $3::bigint)
         ORDER BY at DESC OFFSET $4::bigint + $6::bigint - 1 LIMIT 1) AS account_wait_s,
       (SELECT extract(epoch FROM at - now())::bigint + $3::bigint FROM login_guess
         WHERE network = $1 AND at > now() - make_interval(secs => $3::bigint)
           AND NOT EXISTS (SELECT FROM login_success
                            WHERE network = $1 AND name = $2 AND at > now() - make_interval(secs => $3::bigint))
         ORDER BY at DESC
        OFFSET $5::bigint * (1 + (SELECT count(*) FROM (SELECT FROM login_success
                                                         WHERE network = $1 AND at > now() - make_interval(secs => $3::bigint)
                                                         LIMIT 1000) AS good)) + $6::bigint - 1
         LIMIT 1) AS network_wait_s;

-- name: limiter_guess :exec
-- The same guess again counts from its first time on, until that is forgotten.
INSERT INTO login_guess (network, name, digest, at) VALUES ($1, $2, $3, now())
ON CONFLICT (network, name, digest) DO UPDATE SET at = excluded.at
 WHERE login_guess.at <= now() - make_interval(secs => $4::bigint);

-- name: limiter_withdraw :exec
DELETE FROM login_guess WHERE network = $1 AND name = $2 AND digest = $3;

-- name: limiter_success :exec
INSERT INTO login_success (network, name, at) VALUES ($1, $2, now())
ON CONFLICT (network, name) DO UPDATE SET at = excluded.at;

-- name: limiter_forget :exec
WITH old AS (
    DELETE FROM login_success WHERE at < now() - make_interval(secs => $1::bigint)
)
DELETE FROM login_guess WHERE at < now() - make_interval(secs => $1::bigint);
