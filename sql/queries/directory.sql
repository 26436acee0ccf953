-- Domains, accounts, addresses, groups. Addresses come in canonical form.

-- name: domain_exists :one
SELECT EXISTS (SELECT FROM domain WHERE name = $1) AS is_ours;

-- name: domain_insert :exec
INSERT INTO domain (name) VALUES ($1);

-- name: domain_delete :one
WITH used AS (
    SELECT count(*) AS addresses FROM address JOIN domain USING (domain_id) WHERE domain.name = $1
), gone AS (
    DELETE FROM domain WHERE name = $1 AND (SELECT addresses FROM used) = 0 RETURNING domain_id
)
SELECT used.addresses, EXISTS (SELECT FROM gone) AS is_gone FROM used;

-- name: domain_names :many
SELECT name FROM domain ORDER BY name;

-- name: account_by_address :maybe
SELECT account.account_id, account.kind, account.name, account.is_active, account.is_administrator, main.address,
       account_state.quota_bytes, account_state.quota_messages
  FROM address AS asked
  JOIN account ON account.account_id = asked.account_id
  JOIN address AS main ON main.account_id = account.account_id AND main.is_primary
  JOIN account_state ON account_state.account_id = account.account_id
 WHERE asked.address = $1;

-- name: account_by_login :maybe
-- $2: $1 is a local part alone, which the server's only domain completes.
SELECT account.account_id, account.kind, account.name, account.is_active, account.is_administrator, main.address,
       account_state.quota_bytes, account_state.quota_messages
  FROM address AS asked
  JOIN account ON account.account_id = asked.account_id
  JOIN address AS main ON main.account_id = account.account_id AND main.is_primary
  JOIN account_state ON account_state.account_id = account.account_id
 WHERE asked.address = CASE WHEN $2::boolean
                            THEN $1::text || '@' || (SELECT min(name) FROM domain HAVING count(*) = 1)
                            ELSE $1::text END;

-- name: account_by_id :maybe
SELECT account.account_id, account.kind, account.name, account.is_active, account.is_administrator, main.address,
       account_state.quota_bytes, account_state.quota_messages
  FROM account
  JOIN address AS main ON main.account_id = account.account_id AND main.is_primary
  JOIN account_state ON account_state.account_id = account.account_id
 WHERE account.account_id = $1;

-- name: directory_resolve_plain :maybe
-- Nearly every RCPT: an address of one account, or of none. What it says of a group or a missing postmaster is for
-- directory_resolve to find out, which costs three times as much.
SELECT account.account_id, address.address, account.kind = 'group' AS is_group,
       CASE WHEN state.message_count >= nullif(coalesce(state.quota_messages, $5), 0) THEN 0
            ELSE nullif(coalesce(state.quota_bytes, $4), 0) - state.bytes_used END AS room
  FROM domain
  LEFT JOIN address ON address.address IN ($1, $2)
  LEFT JOIN account ON account.account_id = address.account_id
  LEFT JOIN account_state state ON state.account_id = address.account_id
 WHERE domain.name = $3
 ORDER BY address.address <> $1
 LIMIT 1;

-- name: directory_resolve :many
-- Everything that RCPT asks, at once: is the domain ours (no row: it is not), which address is it ($1 whole, else
-- $2 without its detail), and who receives (groups followed; UNION drops accounts seen before, so that circles end).
-- $4: postmaster or abuse, which lead to somebody always. $5 bounds the answer. room: the bytes that still fit (NULL: any
-- number), by the account's own limits or else by the server's, $6 bytes and $7 messages.
WITH RECURSIVE found AS MATERIALIZED (
    SELECT address, account_id FROM address WHERE address IN ($1, $2) ORDER BY address <> $1 LIMIT 1
), start AS MATERIALIZED (
    SELECT address, account_id FROM found
     UNION ALL
    SELECT $1, coalesce(
               (SELECT account.account_id
                  FROM account JOIN address USING (account_id) JOIN domain USING (domain_id)
                 WHERE domain.name = $3 AND address.is_primary AND kind = 'person' AND is_active
                 ORDER BY account.account_id LIMIT 1),
               (SELECT account_id FROM account
                 WHERE kind = 'person' AND is_active AND removed_at IS NULL ORDER BY account_id LIMIT 1))
     WHERE $4::boolean AND NOT EXISTS (SELECT FROM found)
), reached (account_id) AS (
    SELECT account_id FROM start
     UNION
    SELECT group_member.member_account_id
      FROM reached
      JOIN group_member ON group_member.account_id = reached.account_id
      JOIN account AS house ON house.account_id = reached.account_id AND house.removed_at IS NULL
)
SELECT receiver.account_id, receiver.address, receiver.room
  FROM domain
  LEFT JOIN (SELECT account.account_id, start.address,
                    CASE WHEN state.message_count >= nullif(coalesce(state.quota_messages, $7), 0) THEN 0
                         ELSE nullif(coalesce(state.quota_bytes, $6), 0) - state.bytes_used END AS room
               FROM start, reached
               JOIN account ON account.account_id = reached.account_id
               LEFT JOIN account_state state ON state.account_id = reached.account_id
              WHERE account.kind <> 'group' AND account.removed_at IS NULL) AS receiver ON true
 WHERE domain.name = $3
 LIMIT $5;

-- name: address_belongs :one
-- $2, or $3 which is $2 without its detail.
SELECT coalesce((SELECT account_id = $1 FROM address WHERE address IN ($2, $3) ORDER BY address <> $2 LIMIT 1),
                false) AS is_own;

-- name: account_insert :one
-- No row: the domain is not ours.
WITH home AS (
    SELECT domain_id FROM domain WHERE name = $2
), made AS (
    INSERT INTO account (kind, name, is_administrator) SELECT $3, $4, $5 FROM home RETURNING account_id
), placed AS (
    INSERT INTO address (address, domain_id, account_id, is_primary)
    SELECT $1, home.domain_id, made.account_id, true FROM home, made
)
SELECT account_id FROM made;

-- name: account_state_insert :exec
INSERT INTO account_state (account_id, quota_bytes, quota_messages)
SELECT account_id, $2, $3 FROM address WHERE address = $1;

-- name: account_prepare :exec
-- The stores make what a new account starts with.
SELECT mail_account_prepare(account_id) FROM address WHERE address = $1;

-- name: account_remove :maybe
WITH asked AS (
    SELECT account_id FROM address WHERE address = $1
), gone AS (
    DELETE FROM address WHERE account_id = (SELECT account_id FROM asked)
)
UPDATE account
   SET removed_at = now(),
       removed_address = (SELECT address FROM address
                           WHERE address.account_id = account.account_id AND is_primary)
 WHERE account_id = (SELECT account_id FROM asked)
RETURNING account_id, login_notice(account_id);

-- name: account_removed :maybe
SELECT account_id, removed_address, name, kind, removed_at FROM account
 WHERE account_id = $1 AND removed_at IS NOT NULL;

-- name: account_restore :maybe
WITH home AS (
    SELECT domain_id FROM domain WHERE name = $3
), back AS (
    UPDATE account SET removed_at = NULL, removed_address = NULL
     WHERE account_id = $1 AND removed_at IS NOT NULL AND EXISTS (SELECT FROM home)
    RETURNING account_id
)
INSERT INTO address (address, domain_id, account_id, is_primary)
SELECT $2, home.domain_id, back.account_id, true FROM home, back
RETURNING account_id;

-- name: account_set_active :maybe
UPDATE account SET is_active = $2
 WHERE account_id = (SELECT account_id FROM address WHERE address = $1)
RETURNING account_id, login_notice(account_id);

-- name: account_set_administrator :maybe
UPDATE account SET is_administrator = $2
 WHERE account_id = (SELECT account_id FROM address WHERE address = $1)
RETURNING account_id;

-- name: account_set_name :maybe
UPDATE account SET name = $2
 WHERE account_id = (SELECT account_id FROM address WHERE address = $1)
RETURNING account_id;

-- name: account_set_quota :maybe
-- -2 keeps the limit of messages as it is (QUOTA_KEEP).
UPDATE account_state SET quota_bytes = $2, quota_messages = CASE WHEN $3::bigint = -2 THEN quota_messages ELSE $3 END
 WHERE account_id = (SELECT account_id FROM address WHERE address = $1)
RETURNING account_id;

-- name: account_page :many
SELECT account.account_id, account.kind, account.name, account.is_active, account.is_administrator, main.address,
       account_state.quota_bytes, account_state.quota_messages,
       account_state.bytes_used, account_state.message_count
  FROM address AS main
  JOIN account ON account.account_id = main.account_id
  JOIN account_state ON account_state.account_id = account.account_id
 WHERE main.is_primary AND main.address > $2
   AND ($1 = '' OR main.domain_id = (SELECT domain_id FROM domain WHERE name = $1))
 ORDER BY main.address
 LIMIT $3;

-- name: account_usage :one
SELECT bytes_used, message_count FROM account_state WHERE account_id = $1;

-- name: account_addresses :many
SELECT address FROM address WHERE account_id = $1 ORDER BY is_primary DESC, address;

-- name: removed_accounts :many
SELECT account_id, kind, name, removed_address, removed_at FROM account
 WHERE removed_at IS NOT NULL ORDER BY account_id;

-- name: alias_insert :maybe
INSERT INTO address (address, domain_id, account_id, is_primary)
SELECT $1, domain.domain_id, target.account_id, false
  FROM domain, address AS target
 WHERE domain.name = $2 AND target.address = $3
RETURNING account_id;

-- name: alias_delete :maybe
DELETE FROM address WHERE address = $1 AND NOT is_primary RETURNING account_id;

-- name: aliases :many
SELECT alias.address AS alias, main.address AS target
  FROM address AS alias
  JOIN address AS main ON main.account_id = alias.account_id AND main.is_primary
 WHERE NOT alias.is_primary
   AND ($1 = '' OR alias.domain_id = (SELECT domain_id FROM domain WHERE name = $1))
 ORDER BY alias.address;

-- name: group_member_insert :one
-- One row always, so that each cause can be told.
WITH house AS (
    SELECT account_id, kind FROM address JOIN account USING (account_id) WHERE address = $1
), guest AS (
    SELECT account_id FROM address WHERE address = $2
), joined AS (
    INSERT INTO group_member (account_id, member_account_id)
    SELECT house.account_id, guest.account_id FROM house, guest
     WHERE house.kind = 'group' AND house.account_id <> guest.account_id
    ON CONFLICT DO NOTHING
    RETURNING account_id
)
SELECT (SELECT kind FROM house) AS kind, EXISTS (SELECT FROM guest) AS has_member,
       EXISTS (SELECT FROM joined) AS is_joined;

-- name: group_member_delete :maybe
DELETE FROM group_member
 WHERE account_id = (SELECT account_id FROM address WHERE address = $1)
   AND member_account_id = (SELECT account_id FROM address WHERE address = $2)
RETURNING account_id;

-- name: group_members :many
SELECT main.address
  FROM address AS house
  JOIN group_member ON group_member.account_id = house.account_id
  JOIN address AS main ON main.account_id = group_member.member_account_id AND main.is_primary
 WHERE house.address = $1
 ORDER BY main.address;
