-- Rights of a user ($1) in mailboxes of others. The owner is never asked about: see mail/store/access.c. An array of the
-- user's identities is made once, and what is granted to them is looked up by it.

-- name: access_rights :maybe
SELECT coalesce(bit_or(g.rights) FILTER (WHERE NOT g.is_negative), 0)
       & ~coalesce(bit_or(g.rights) FILTER (WHERE g.is_negative), 0) AS rights
  FROM mailbox b
  JOIN account AS owner ON owner.account_id = b.account_id AND owner.removed_at IS NULL
  LEFT JOIN mailbox_grant g ON g.account_id = b.account_id AND g.mailbox_id = b.mailbox_id
                           AND g.grantee_id = ANY (ARRAY(SELECT id FROM mail_identities($1) AS id))
 WHERE b.account_id = $2 AND b.mailbox_id = $3
 GROUP BY b.mailbox_id;

-- name: access_find :maybe
SELECT b.account_id, b.mailbox_id, b.path, b.role, b.uid_validity, b.uid_next, b.modseq, b.message_count,
       b.unseen_count, b.deleted_count, b.bytes, false AS is_subscribed,
       coalesce(bit_or(g.rights) FILTER (WHERE NOT g.is_negative), 0)
       & ~coalesce(bit_or(g.rights) FILTER (WHERE g.is_negative), 0) AS rights
  FROM mailbox b
  JOIN account AS owner ON owner.account_id = b.account_id AND owner.removed_at IS NULL
  LEFT JOIN mailbox_grant g ON g.account_id = b.account_id AND g.mailbox_id = b.mailbox_id
                           AND g.grantee_id = ANY (ARRAY(SELECT id FROM mail_identities($1) AS id))
 WHERE b.account_id = $2 AND b.path = $3
 GROUP BY b.account_id, b.mailbox_id;

-- name: access_parent_rights :maybe
-- Of the mailbox that a new one at path $3 would be made in.
SELECT coalesce(bit_or(g.rights) FILTER (WHERE NOT g.is_negative), 0)
       & ~coalesce(bit_or(g.rights) FILTER (WHERE g.is_negative), 0) AS rights
  FROM mailbox_grant g
 WHERE g.account_id = $2 AND g.mailbox_id = (SELECT mail_parent_mailbox($2, $3))
   AND g.grantee_id = ANY (ARRAY(SELECT id FROM mail_identities($1) AS id));

-- name: access_account :maybe
-- The account that an address leads to, when something in it is granted to the user or it is the user's own.
SELECT owner.account_id, owner.kind <> 'person' AS is_shared, main.address
  FROM address AS asked
  JOIN account AS owner ON owner.account_id = asked.account_id
  JOIN address AS main ON main.account_id = owner.account_id AND main.is_primary
 WHERE asked.address = $2
   AND (owner.account_id = $1
        OR EXISTS (SELECT FROM mailbox_grant g
                    WHERE g.account_id = owner.account_id AND NOT g.is_negative
                      AND g.grantee_id = ANY (ARRAY(SELECT id FROM mail_identities($1) AS id))));

-- name: access_owner :maybe
-- What the names of an account's mailboxes begin with.
SELECT owner.kind <> 'person' AS is_shared, main.address
  FROM account AS owner
  JOIN address AS main ON main.account_id = owner.account_id AND main.is_primary
 WHERE owner.account_id = $1;

-- name: access_list :many
-- Every mailbox of others that the user may see ($2: the right to), at most $3: those granted to the user or a group
-- before those granted to anyone. Paths come level by level, as in mailbox_list.
WITH granted AS MATERIALIZED (
    SELECT account_id, mailbox_id,
           coalesce(bit_or(rights) FILTER (WHERE NOT is_negative), 0)
           & ~coalesce(bit_or(rights) FILTER (WHERE is_negative), 0) AS rights,
           max(grantee_id) = 0 AS is_anyones
      FROM mailbox_grant
     WHERE grantee_id = ANY (ARRAY(SELECT id FROM mail_identities($1) AS id)) AND account_id <> $1
     GROUP BY account_id, mailbox_id
), seen AS MATERIALIZED (
    SELECT granted.account_id, mailbox_id, rights, owner.kind <> 'person' AS is_shared, main.address
      FROM granted
      JOIN account AS owner ON owner.account_id = granted.account_id
      JOIN address AS main ON main.account_id = granted.account_id AND main.is_primary
     WHERE rights & $2::integer <> 0
     ORDER BY is_anyones, granted.account_id, mailbox_id
     LIMIT $3
)
SELECT b.account_id, b.mailbox_id, b.path, b.role, b.uid_validity, b.uid_next, b.modseq, b.message_count, b.unseen_count,
       b.deleted_count, b.bytes, false AS is_subscribed, seen.rights, seen.is_shared, seen.address
  FROM seen
  JOIN mailbox b ON b.account_id = seen.account_id AND b.mailbox_id = seen.mailbox_id
 ORDER BY seen.is_shared, seen.address, split_part(b.path, '/', 1) <> 'INBOX',
          string_to_array(b.path, '/') COLLATE "C";

-- name: access_seen :many
-- How many messages the user has seen, in each mailbox of the account.
SELECT mailbox_id, mail_range_count(uids) AS seen
  FROM mailbox_seen
 WHERE account_id = $2 AND user_id = $1
 ORDER BY mailbox_id;

-- name: access_grants :many
-- The owner first, who has no grant.
SELECT true AS is_owner, address AS name, false AS is_negative, 0 AS rights
  FROM address WHERE account_id = $1 AND is_primary
 UNION ALL
(SELECT false, CASE WHEN g.grantee_id = 0 THEN 'anyone' ELSE main.address END, g.is_negative, g.rights
   FROM mailbox_grant g
   LEFT JOIN address AS main ON main.account_id = g.grantee_id AND main.is_primary
  WHERE g.account_id = $1 AND g.mailbox_id = $2 AND (g.grantee_id = 0 OR main.address IS NOT NULL)
  ORDER BY g.grantee_id = 0, main.address, g.is_negative);

-- name: access_set :exec
SELECT mail_set_grant($1, $2, $3, $4, $5, $6, $7);

-- name: access_set_all :one
SELECT mail_set_grants($1, $2, $3, $4, $5, $6) AS count;
