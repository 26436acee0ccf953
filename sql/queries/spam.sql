-- What the spam filter learns from, and what it made of that; see mail/store/spam_store.h.

-- name: spam_example_put :exec
-- The same call again changes nothing. $6: so many examples of an account are kept, the latest.
WITH learnt AS (
    INSERT INTO spam_example AS e (account_id, message_key, is_spam, version, features)
    VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (account_id, message_key) DO UPDATE
       SET is_spam = excluded.is_spam, version = excluded.version, features = excluded.features,
           learnt_at = excluded.learnt_at
     WHERE e.is_spam <> excluded.is_spam OR e.version <> excluded.version
    RETURNING e.account_id
), old AS (
    DELETE FROM spam_example
     WHERE account_id = $1 AND (account_id, message_key) IN (
        SELECT account_id, message_key FROM spam_example
         WHERE account_id = $1 ORDER BY learnt_at DESC OFFSET $6::integer)
)
INSERT INTO spam_account (account_id, changed_at)
SELECT account_id, clock_timestamp() FROM learnt
    ON CONFLICT (account_id) DO UPDATE SET changed_at = excluded.changed_at;

-- name: spam_example_remove :exec
WITH removed AS (
    DELETE FROM spam_example WHERE account_id = $1 AND message_key = $2 RETURNING account_id
)
INSERT INTO spam_account (account_id, changed_at)
SELECT account_id, clock_timestamp() FROM removed
    ON CONFLICT (account_id) DO UPDATE SET changed_at = excluded.changed_at;

-- name: spam_account_changed :many
SELECT account_id, changed_at FROM spam_account WHERE changed_at > made_at ORDER BY account_id LIMIT $1::integer;

-- name: spam_examples_of :many
SELECT is_spam, features FROM spam_example
 WHERE account_id = $1 AND version = $2
 ORDER BY learnt_at DESC, message_key LIMIT $3::integer;

-- name: spam_own_put :exec
-- $3: when its examples were last changed, as read before they were.
UPDATE spam_account SET model = $2, made_at = $3 WHERE account_id = $1;

-- name: spam_own_get :maybe
SELECT model FROM spam_account WHERE account_id = $1 AND model IS NOT NULL;

-- name: spam_model_claim :maybe
-- One host makes the model, not more often than every $1 seconds, and only when something was learnt since.
UPDATE spam_model_state SET claimed_at = now()
 WHERE claimed_at < now() - make_interval(secs => $1::bigint)
   AND EXISTS (SELECT FROM spam_account WHERE changed_at > spam_model_state.made_at)
RETURNING claimed_at;

-- name: spam_sample :many
-- The latest of each kind, and of one account no more than its share: nobody teaches everybody alone.
SELECT account_id, message_key
  FROM (SELECT account_id, message_key, is_spam, learnt_at,
               row_number() OVER (PARTITION BY account_id, is_spam ORDER BY learnt_at DESC, message_key) AS rank
          FROM spam_example WHERE version = $1) AS e
 WHERE rank <= $2::integer
 ORDER BY row_number() OVER (PARTITION BY is_spam ORDER BY learnt_at DESC, message_key), is_spam
 LIMIT $3::integer;

-- name: spam_sample_read :many
SELECT e.is_spam, e.features
  FROM unnest($1::bigint[], $2::bytea[]) WITH ORDINALITY AS u (account_id, message_key, place)
  JOIN spam_example e USING (account_id, message_key)
 ORDER BY u.place;

-- name: spam_model_clear :exec
DELETE FROM spam_model_piece;

-- name: spam_model_put_piece :exec
INSERT INTO spam_model_piece (piece, bytes) VALUES ($1, $2);

-- name: spam_model_publish :exec
UPDATE spam_model_state
   SET generation = generation + 1, made_at = $1, stamp = hashtextextended(gen_random_uuid()::text, 0);

-- name: spam_model_generation :one
SELECT generation, stamp FROM spam_model_state;

-- name: spam_model_pieces :many
SELECT bytes FROM spam_model_piece ORDER BY piece;
