-- Where mail goes, and who may write as whom. Addresses come in canonical form.

-- name: route_plain :maybe
-- Nearly every RCPT: an address of one account that keeps its mail, or of nobody. $1 is the local part with its @, $2 the same
-- without its detail, $3 the domain. No row: the domain is not ours. The rest is found out by route_fallback and
-- route_step. room: the bytes that still fit (NULL: any number), by the account's own limits or else by the server's, $4
-- bytes and $5 messages.
SELECT address.address, address.target, account.account_id,
       account.kind = 'group' AS is_group, account.posting <> 'anyone' AS is_restricted,
       EXISTS (SELECT FROM account_target WHERE account_target.account_id = address.account_id) AS leads_on,
       home.catch_all_account_id IS NOT NULL OR home.catch_all_address IS NOT NULL AS has_catch_all, home.size_max,
       CASE WHEN state.message_count >= nullif(coalesce(state.quota_messages, $5), 0) THEN 0
            ELSE nullif(coalesce(state.quota_bytes, $4), 0) - state.bytes_used END AS room
  FROM domain AS asked
  JOIN domain AS home ON home.domain_id = coalesce(asked.target_domain_id, asked.domain_id)
  LEFT JOIN address
    ON address.address IN ($1::text || home.name, CASE WHEN home.has_details THEN $2 ELSE $1 END::text || home.name)
  LEFT JOIN account ON account.account_id = address.account_id
  LEFT JOIN account_state state ON state.account_id = address.account_id
 WHERE asked.name = $3
 ORDER BY address.address <> $1 || home.name
 LIMIT 1;

-- name: route_fallback :many
-- Who gets mail for an address in $1 that leads to nobody, the first choice first. $2: it is postmaster's or abuse's, which
-- somebody gets always.
WITH home AS (
    SELECT home.*
      FROM domain AS asked
      JOIN domain AS home ON home.domain_id = coalesce(asked.target_domain_id, asked.domain_id)
     WHERE asked.name = $1
)
SELECT account_id, address
  FROM (SELECT 1 AS choice, CASE WHEN $2::boolean THEN postmaster_account_id ELSE catch_all_account_id END AS account_id,
               CASE WHEN $2 THEN postmaster_address ELSE catch_all_address END AS address
          FROM home
         UNION ALL
        SELECT 2, (SELECT account.account_id
                     FROM account JOIN address USING (account_id)
                    WHERE address.domain_id = home.domain_id AND is_primary AND kind = 'person' AND is_active
                    ORDER BY account.account_id LIMIT 1), NULL
          FROM home
         WHERE $2
         UNION ALL
        SELECT 3, (SELECT account_id FROM account
                    WHERE kind = 'person' AND is_active AND removed_at IS NULL ORDER BY account_id LIMIT 1), NULL
         WHERE $2) AS choices
 WHERE account_id IS NOT NULL OR address IS NOT NULL
 ORDER BY choice;

-- name: route_step :many
-- One step on: from the groups and forwards of $1, and (from_id 0) to the accounts $2 and the addresses $3 that the way begins
-- with. An address elsewhere whose domain became ours is what it is here now; one that nobody has is left out, as are removed
-- accounts. $4 bounds the answer; $5 and $6 as in route_plain.
SELECT leads.from_id, account.account_id, account.is_group, account.is_restricted, account.keeps_copy, account.leads_on,
       account.room, CASE WHEN account.account_id IS NULL THEN coalesce(here.target, leads.address) END AS address
  FROM (SELECT source.id AS from_id, target.account_id, target.address
          FROM unnest($1::bigint[]) AS source (id)
         CROSS JOIN LATERAL (
               SELECT member_account_id AS account_id, NULL AS address FROM group_member WHERE account_id = source.id
                UNION ALL
               SELECT target_account_id, address FROM account_target WHERE account_id = source.id
               OFFSET 0) AS target
         UNION ALL
        SELECT 0, unnest($2::bigint[]), NULL
         UNION ALL
        SELECT 0, NULL, unnest($3::text[]) COLLATE "C") AS leads
  LEFT JOIN LATERAL (
        SELECT account_id, target FROM address
         WHERE leads.account_id IS NULL AND address = address_home(leads.address) OFFSET 0) AS here ON true
  LEFT JOIN LATERAL (
        SELECT account.account_id, kind = 'group' AS is_group, posting <> 'anyone' AS is_restricted, keeps_copy,
               kind = 'group' OR EXISTS (SELECT FROM account_target
                                          WHERE account_target.account_id = account.account_id) AS leads_on,
               CASE WHEN state.message_count >= nullif(coalesce(state.quota_messages, $6), 0) THEN 0
                    ELSE nullif(coalesce(state.quota_bytes, $5), 0) - state.bytes_used END AS room
          FROM account
          LEFT JOIN account_state AS state ON state.account_id = account.account_id
         WHERE account.account_id = coalesce(leads.account_id, here.account_id) AND removed_at IS NULL
        OFFSET 0) AS account ON true
 WHERE account.account_id IS NOT NULL
    OR (leads.account_id IS NULL AND here.account_id IS NULL
        AND NOT EXISTS (SELECT FROM domain WHERE name = address_domain(coalesce(here.target, leads.address))))
 LIMIT $4;

-- name: route_groups_admit :many
-- May the sender post to the groups $1? $2: who logged in, or 0; $3: the sender's address, $4: a neighbour vouches for it. An address
-- of ours counts when somebody vouches; others as they are written.
WITH vouched (account_id) AS MATERIALIZED (
    SELECT $2::bigint WHERE $2 <> 0
     UNION
    SELECT account_id FROM address
     WHERE address = address_home($3) AND account_id IS NOT NULL AND ($2 <> 0 OR $4::boolean)
), written (address) AS MATERIALIZED (
    SELECT $3::text WHERE NOT EXISTS (SELECT FROM domain WHERE name = address_domain($3))
), identity (account_id) AS MATERIALIZED (
    SELECT directory_identities(ARRAY(SELECT account_id FROM vouched), (SELECT address FROM written))
)
SELECT house.account_id, house.posting, house.is_hidden, main.address, owner.address AS owner_address,
       CASE house.posting WHEN 'anyone' THEN true
                          WHEN 'domains' THEN EXISTS (SELECT FROM vouched)
                          WHEN 'members' THEN house.account_id IN (SELECT account_id FROM identity)
                          ELSE false END
       OR EXISTS (SELECT FROM group_owner
                   WHERE account_id = house.account_id AND owner_account_id IN (SELECT account_id FROM identity))
       OR EXISTS (SELECT FROM group_sender
                   WHERE account_id = house.account_id AND sender_account_id IN (SELECT account_id FROM identity))
       OR EXISTS (SELECT FROM group_sender, written
                   WHERE account_id = house.account_id AND sender_account_id IS NULL
                     AND group_sender.address IN (written.address, '@' || address_domain(written.address)))
       AS is_admitted
  FROM account AS house
  JOIN address AS main ON main.account_id = house.account_id AND main.is_primary
  LEFT JOIN LATERAL (
        SELECT address.address
          FROM group_owner JOIN address ON address.account_id = owner_account_id AND is_primary
         WHERE group_owner.account_id = house.account_id
         ORDER BY address.address LIMIT 1) AS owner ON true
 WHERE house.account_id = ANY ($1::bigint[]);

-- name: send_rights :many
-- May account $1 send as the addresses $2 ($3: the same without their details)? In their order. right: 0 no, 1 on behalf, 2 as.
SELECT owner.account_id AS owner_id, me.files_sent, me.undo_send_ms, owner.files_sent_as, home.is_ours,
       CASE WHEN owner.account_id = me.account_id THEN 2
            WHEN owner.administrators_send_as AND me.is_administrator THEN 2
            ELSE coalesce((SELECT max(CASE WHEN is_on_behalf THEN 1 ELSE 2 END)
                             FROM send_grant
                            WHERE send_grant.account_id = owner.account_id
                              AND grantee_id IN (SELECT directory_identities(ARRAY[$1::bigint], NULL))), 0)
            END AS send_right
  FROM account AS me
 CROSS JOIN unnest($2::text[], $3::text[]) WITH ORDINALITY AS asked (whole, base, number)
 CROSS JOIN LATERAL (                   -- address_home() once and in place: most MAILs of people ask this
        SELECT left(asked.whole, -length(address_domain(asked.whole))) || home.name AS whole,
               left(asked.base, -length(address_domain(asked.base))) || home.name AS base, home.is_ours
          FROM (SELECT coalesce(max(home.name), address_domain(asked.whole)) AS name, count(*) > 0 AS is_ours
                  FROM domain AS alias
                  JOIN domain AS home ON home.domain_id = coalesce(alias.target_domain_id, alias.domain_id)
                 WHERE alias.name = address_domain(asked.whole)) AS home
        OFFSET 0) AS home
  LEFT JOIN LATERAL (
        SELECT account.account_id, account.files_sent_as AND kind <> 'group' AS files_sent_as, domain.administrators_send_as
          FROM address
          JOIN domain USING (domain_id)
          JOIN account USING (account_id)
         WHERE address.address IN (home.whole, home.base) AND (address.address = home.whole OR domain.has_details)
         ORDER BY address.address <> home.whole
         LIMIT 1) AS owner ON true
 WHERE me.account_id = $1
 ORDER BY asked.number;

-- name: target_find :one
-- What an address is good for as a target: is its domain ours, and which account or remote address does it lead to? $2: $1 without
-- its detail.
SELECT EXISTS (SELECT FROM domain WHERE name = address_domain($1)) AS is_ours, found.account_id, found.target
  FROM (VALUES (1)) AS always (one)
  LEFT JOIN LATERAL (
        SELECT account_id, target
          FROM address JOIN domain USING (domain_id)
         WHERE address.address IN (address_home($1::text), address_home($2::text))
           AND (address.address = address_home($1) OR has_details)
         ORDER BY address.address <> address_home($1)
         LIMIT 1) AS found ON true;

-- name: domain_settings :maybe
SELECT domain.domain_id, home.name AS alias_of,
       coalesce(catch_all.address, domain.catch_all_address) AS catch_all,
       coalesce(postmaster.address, domain.postmaster_address) AS postmaster,
       domain.has_details, domain.quota_bytes, domain.quota_messages, domain.size_max, domain.administrators_send_as,
       EXISTS (SELECT FROM address WHERE address.domain_id = domain.domain_id) AS has_addresses,
       EXISTS (SELECT FROM domain AS other WHERE other.target_domain_id = domain.domain_id) AS has_aliases
  FROM domain
  LEFT JOIN domain AS home ON home.domain_id = domain.target_domain_id
  LEFT JOIN address AS catch_all ON catch_all.account_id = domain.catch_all_account_id AND catch_all.is_primary
  LEFT JOIN address AS postmaster ON postmaster.account_id = domain.postmaster_account_id AND postmaster.is_primary
 WHERE domain.name = $1;

-- name: domain_update :maybe
-- $2: bits of enum domain_field, the values of the others are ignored.
UPDATE domain
   SET target_domain_id = CASE WHEN $2::integer & 1 = 0 THEN target_domain_id
                               ELSE (SELECT domain_id FROM domain AS home WHERE home.name = $3::text) END,
       catch_all_account_id = CASE WHEN $2 & 2 = 0 THEN catch_all_account_id ELSE $4::bigint END,
       catch_all_address = CASE WHEN $2 & 2 = 0 THEN catch_all_address ELSE $5::text END,
       postmaster_account_id = CASE WHEN $2 & 4 = 0 THEN postmaster_account_id ELSE $6::bigint END,
       postmaster_address = CASE WHEN $2 & 4 = 0 THEN postmaster_address ELSE $7::text END,
       has_details = CASE WHEN $2 & 8 = 0 THEN has_details ELSE $8::boolean END,
       quota_bytes = CASE WHEN $2 & 16 = 0 THEN quota_bytes ELSE $9::bigint END,
       quota_messages = CASE WHEN $2 & 32 = 0 THEN quota_messages ELSE $10::bigint END,
       size_max = CASE WHEN $2 & 64 = 0 THEN size_max ELSE $11::bigint END,
       administrators_send_as = CASE WHEN $2 & 128 = 0 THEN administrators_send_as ELSE $12::boolean END
 WHERE name = $1
RETURNING domain_id;

-- name: account_set_keeps_copy :maybe
UPDATE account SET keeps_copy = $2 WHERE account_id = $1 RETURNING account_id;

-- name: account_targets_delete :exec
DELETE FROM account_target WHERE account_id = $1;

-- name: account_targets_insert :exec
-- 0 among $2: elsewhere.
INSERT INTO account_target (account_id, address, target_account_id)
SELECT $1, target.address, nullif(target.account_id, 0)
  FROM unnest($2::bigint[], $3::text[]) AS target (account_id, address)
    ON CONFLICT DO NOTHING;

-- name: account_targets :many
-- An account of ours by its address of today; one that was removed leads nowhere and is not shown.
SELECT coalesce(main.address, account_target.address) AS address
  FROM account_target
  LEFT JOIN address AS main ON main.account_id = account_target.target_account_id AND main.is_primary
 WHERE account_target.account_id = $1 AND (target_account_id IS NULL OR main.address IS NOT NULL)
 ORDER BY 1;

-- name: account_ways :one
SELECT keeps_copy, files_sent, files_sent_as, undo_send_ms, is_hidden, posting FROM account WHERE account_id = $1;

-- name: account_set_files_sent :maybe
UPDATE account SET files_sent = $2, files_sent_as = $3
 WHERE account_id = (SELECT account_id FROM address WHERE address = $1)
RETURNING account_id;

-- name: account_set_undo_send :maybe
UPDATE account SET undo_send_ms = $2
 WHERE account_id = (SELECT account_id FROM address WHERE address = $1)
RETURNING account_id;

-- name: group_set_posting :exec
UPDATE account SET posting = $2 WHERE account_id = $1;

-- name: group_set_hidden :exec
UPDATE account SET is_hidden = $2 WHERE account_id = $1;

-- name: group_target_insert :maybe
INSERT INTO account_target (account_id, address) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING account_id;

-- name: group_target_delete :maybe
DELETE FROM account_target
 WHERE account_id = (SELECT account_id FROM address JOIN account USING (account_id)
                      WHERE address.address = $1 AND kind = 'group')
   AND address = $2
RETURNING account_id;

-- name: group_owner_insert :maybe
INSERT INTO group_owner (account_id, owner_account_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING account_id;

-- name: group_owner_delete :maybe
DELETE FROM group_owner WHERE account_id = $1 AND owner_account_id = $2 RETURNING account_id;

-- name: group_owners :many
SELECT main.address
  FROM group_owner JOIN address AS main ON main.account_id = owner_account_id AND main.is_primary
 WHERE group_owner.account_id = $1
 ORDER BY main.address;

-- name: group_sender_insert :maybe
INSERT INTO group_sender (account_id, address, sender_account_id)
SELECT $1, $2, $3::bigint
 WHERE $3 IS NULL OR NOT EXISTS (SELECT FROM group_sender WHERE account_id = $1 AND sender_account_id = $3)
    ON CONFLICT DO NOTHING
RETURNING account_id;

-- name: group_sender_delete :maybe
DELETE FROM group_sender WHERE account_id = $1 AND (address = $2 OR sender_account_id = $3::bigint) RETURNING account_id;

-- name: group_senders :many
SELECT coalesce(main.address, group_sender.address) AS address
  FROM group_sender
  LEFT JOIN address AS main ON main.account_id = sender_account_id AND main.is_primary
 WHERE group_sender.account_id = $1 AND (sender_account_id IS NULL OR main.address IS NOT NULL)
 ORDER BY 1;

-- name: grant_insert :exec
INSERT INTO send_grant (account_id, grantee_id, is_on_behalf) VALUES ($1, $2, $3)
    ON CONFLICT (account_id, grantee_id) DO UPDATE SET is_on_behalf = excluded.is_on_behalf;

-- name: grant_delete :maybe
DELETE FROM send_grant WHERE account_id = $1 AND grantee_id = $2 RETURNING account_id;

-- name: grants_of :many
SELECT main.address, is_on_behalf
  FROM send_grant JOIN address AS main ON main.account_id = grantee_id AND main.is_primary
 WHERE send_grant.account_id = $1
 ORDER BY main.address;
