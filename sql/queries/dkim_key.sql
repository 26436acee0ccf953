-- Signing keys (mail/store/dkim_key_store.h).

-- name: dkim_keys_of_domain :many
-- No row: the domain is not ours. One without a selector: it has no keys.
SELECT d.name, k.selector, k.algorithm, k.state, k.private_key, k.created_at, k.changed_at, k.seen_at
  FROM domain d LEFT JOIN dkim_key k USING (domain_id)
 WHERE d.name = $1
 ORDER BY k.algorithm DESC, k.created_at;

-- name: dkim_keys_all :many
SELECT d.name, k.selector, k.algorithm, k.state, k.private_key, k.created_at, k.changed_at, k.seen_at
  FROM domain d LEFT JOIN dkim_key k USING (domain_id)
 WHERE d.name > $1
 ORDER BY d.name, k.algorithm DESC, k.created_at
 LIMIT $2;

-- name: dkim_key_insert :maybe
INSERT INTO dkim_key (domain_id, selector, algorithm, state, private_key)
SELECT domain_id, $2, $3, $4, $5 FROM domain WHERE name = $1
    ON CONFLICT DO NOTHING
RETURNING selector;

-- name: dkim_key_seen :exec
UPDATE dkim_key SET seen_at = CASE WHEN $3::boolean THEN now() END
 WHERE domain_id = (SELECT domain_id FROM domain WHERE name = $1) AND selector = $2;

-- name: dkim_key_retire_others :exec
-- Makes room for $2 to become the active one of its kind.
UPDATE dkim_key SET state = 'retired', changed_at = now()
 WHERE domain_id = (SELECT domain_id FROM domain WHERE name = $1) AND state = 'active' AND selector <> $2
   AND algorithm = (SELECT algorithm FROM dkim_key JOIN domain USING (domain_id) WHERE name = $1 AND selector = $2);

-- name: dkim_key_activate :maybe
-- One that signs already stays as old as it is: its age decides when the next one is made.
UPDATE dkim_key SET state = 'active', changed_at = CASE state WHEN 'active' THEN changed_at ELSE now() END
 WHERE domain_id = (SELECT domain_id FROM domain WHERE name = $1) AND selector = $2
RETURNING selector;

-- name: dkim_key_retire :maybe
UPDATE dkim_key SET state = 'retired', changed_at = CASE state WHEN 'retired' THEN changed_at ELSE now() END
 WHERE domain_id = (SELECT domain_id FROM domain WHERE name = $1) AND selector = $2
RETURNING selector;

-- name: dkim_key_delete :maybe
DELETE FROM dkim_key
 WHERE domain_id = (SELECT domain_id FROM domain WHERE name = $1) AND selector = $2 AND state <> 'active'
RETURNING selector;
