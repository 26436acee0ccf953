-- Domains, accounts, addresses, groups. Addresses come in canonical form.

-- name: domain_exists :one
SELECT EXISTS (SELECT FROM domain WHERE name = $1) AS is_ours;

-- name: domain_home :maybe
-- What a domain of ours is an alias of; NULL: of none.
SELECT home.name AS home
  FROM domain AS asked LEFT JOIN domain AS home ON home.domain_id = asked.target_domain_id
 WHERE asked.name = $1;

-- name: domain_insert :exec
INSERT INTO domain (name) VALUES ($1);

-- name: domain_delete :one
WITH used AS (
    SELECT (SELECT count(*) FROM address JOIN domain USING (domain_id) WHERE domain.name = $1) AS addresses,
           (SELECT min(other.name) FROM domain AS other JOIN domain AS home ON home.domain_id = other.target_domain_id
             WHERE home.name = $1) AS alias
), gone AS (
    DELETE FROM domain
     WHERE name = $1 AND (SELECT addresses = 0 AND alias IS NULL FROM used)
    RETURNING domain_id
)
SELECT used.addresses, used.alias, EXISTS (SELECT FROM gone) AS is_gone FROM used;

-- name: domain_names :many
SELECT name FROM domain ORDER BY name;

-- name: account_by_address :maybe
SELECT account.account_id, account.kind, account.name, account.is_active, account.is_administrator, main.address,
       account_state.quota_bytes, account_state.quota_messages
  FROM address AS asked
  JOIN account ON account.account_id = asked.account_id
  JOIN address AS main ON main.account_id = account.account_id AND main.is_primary
  JOIN account_state ON account_state.account_id = account.account_id
 WHERE asked.address = address_home($1);

-- name: account_by_login :maybe
-- $2: $1 is a local part alone, which the server's only domain completes.
SELECT account.account_id, account.kind, account.name, account.is_active, account.is_administrator, main.address,
       account_state.quota_bytes, account_state.quota_messages
  FROM address AS asked
  JOIN account ON account.account_id = asked.account_id
  JOIN address AS main ON main.account_id = account.account_id AND main.is_primary
  JOIN account_state ON account_state.account_id = account.account_id
 WHERE asked.address = CASE WHEN $2::boolean
                            THEN $1::text || '@' || (SELECT min(name) FROM domain
                                                 WHERE target_domain_id IS NULL HAVING count(*) = 1)
                            ELSE address_home($1::text) END;

-- name: account_by_id :maybe
SELECT account.account_id, account.kind, account.name, account.is_active, account.is_administrator, main.address,
       account_state.quota_bytes, account_state.quota_messages
  FROM account
  JOIN address AS main ON main.account_id = account.account_id AND main.is_primary
  JOIN account_state ON account_state.account_id = account.account_id
 WHERE account.account_id = $1;

-- name: account_administrators :many
SELECT account_id FROM account
 WHERE is_administrator AND is_active AND removed_at IS NULL ORDER BY account_id LIMIT 1000;

-- name: account_insert :one
-- No row: the domain is not ours, or another's alias.
WITH home AS (
    SELECT domain_id FROM domain WHERE name = $2 AND target_domain_id IS NULL
), made AS (
    INSERT INTO account (kind, name, is_administrator) SELECT $3, $4, $5 FROM home RETURNING account_id
), placed AS (
    INSERT INTO address (address, domain_id, account_id, is_primary)
    SELECT $1, home.domain_id, made.account_id, true FROM home, made
)
SELECT account_id FROM made;

-- name: account_state_insert :exec
-- Without limits of its own a new account takes those that its domain has for new ones.
INSERT INTO account_state (account_id, quota_bytes, quota_messages)
SELECT account_id, coalesce($2, domain.quota_bytes), coalesce($3, domain.quota_messages)
  FROM address JOIN domain USING (domain_id)
 WHERE address = $1;

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
    SELECT domain_id FROM domain WHERE name = $3 AND target_domain_id IS NULL
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
-- -2 keeps the limit of messages as it is (QUOTA_KEEP). NULL: the domain's, or else the server's.
UPDATE account_state
   SET quota_bytes = coalesce($2, domain.quota_bytes),
       quota_messages = CASE WHEN $3::bigint = -2 THEN account_state.quota_messages ELSE coalesce($3, domain.quota_messages) END
  FROM address AS asked JOIN address AS main USING (account_id) JOIN domain ON domain.domain_id = main.domain_id
 WHERE asked.address = $1 AND main.is_primary AND account_state.account_id = main.account_id
RETURNING account_state.account_id;

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
-- To the account $3, or when that is NULL to the address $4 elsewhere. No row: as for account_insert.
INSERT INTO address (address, domain_id, account_id, is_primary, target)
SELECT $1, domain_id, $3::bigint, false, CASE WHEN $3 IS NULL THEN $4::text END
  FROM domain
 WHERE name = $2 AND target_domain_id IS NULL
RETURNING domain_id;

-- name: alias_delete :maybe
DELETE FROM address WHERE address = $1 AND NOT is_primary RETURNING domain_id;

-- name: aliases :many
SELECT alias.address AS alias, coalesce(main.address, alias.target) AS target
  FROM address AS alias
  LEFT JOIN address AS main ON main.account_id = alias.account_id AND main.is_primary
 WHERE NOT alias.is_primary
   AND ($1 = '' OR alias.domain_id = (SELECT domain_id FROM domain WHERE name = $1))
 ORDER BY alias.address;

-- name: group_member_insert :maybe
INSERT INTO group_member (account_id, member_account_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING account_id;

-- name: group_member_delete :maybe
DELETE FROM group_member
 WHERE account_id = (SELECT account_id FROM address WHERE address = $1)
   AND member_account_id = (SELECT account_id FROM address WHERE address = $2)
RETURNING account_id;

-- name: group_members :many
-- Accounts of ours and addresses elsewhere.
SELECT main.address
  FROM group_member JOIN address AS main ON main.account_id = member_account_id AND main.is_primary
 WHERE group_member.account_id = $1
 UNION
SELECT address FROM account_target WHERE account_id = $1
 ORDER BY address;
