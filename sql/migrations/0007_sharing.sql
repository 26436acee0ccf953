-- Who may do what in whose mailboxes (RFC 4314; mail/store/access.h).
--
-- Grants are few beside messages and are looked for from both ends, by mailbox and by grantee, so they are a reference
-- table. The owner of an account has every right and no row. Grants change under the lock of the owner's account_state
-- and count as a change of the mailbox, so that sessions that have it open hear of it.

-- rights: bits of enum mailbox_right. A negative grant takes away what others give.
CREATE TABLE mailbox_grant (
    account_id  bigint  NOT NULL REFERENCES account,  -- whose mailbox
    mailbox_id  bigint  NOT NULL,
    grantee_id  bigint  NOT NULL,                     -- account_id of a person or of a group; 0: anyone
    is_negative boolean NOT NULL,
    rights      integer NOT NULL,
    PRIMARY KEY (account_id, mailbox_id, grantee_id, is_negative)
);
CREATE INDEX mailbox_grant_grantee ON mailbox_grant (grantee_id, account_id, mailbox_id);
COMMENT ON TABLE mailbox_grant IS 'reference: rights of others in the mailboxes of an account';

CREATE INDEX group_member_member ON group_member (member_account_id);

-- Everybody whose grants are this user's: the user, the groups that lead to them, and anyone (0).
CREATE FUNCTION mail_identities(p_user_id bigint) RETURNS SETOF bigint LANGUAGE sql STABLE ROWS 4 AS $$
    WITH RECURSIVE identity (account_id) AS (
        SELECT p_user_id
         UNION
        SELECT house.account_id
          FROM identity
          JOIN group_member ON group_member.member_account_id = identity.account_id
          JOIN account AS house ON house.account_id = group_member.account_id AND house.removed_at IS NULL
    )
    SELECT account_id FROM identity
     UNION ALL
    SELECT 0;
$$;

-- The nearest mailbox above a path that is, or will be. At the top of a shared account INBOX stands in for it, so that
-- whoever works in a shared account works in what is made there later; a person's new folders are theirs alone.
CREATE FUNCTION mail_parent_mailbox(p_account_id bigint, p_path text) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT mailbox_id
      FROM mailbox
     WHERE account_id = p_account_id
       AND (starts_with(p_path, path || '/')
            OR path = 'INBOX' AND path <> p_path
               AND EXISTS (SELECT FROM account WHERE account_id = p_account_id AND kind <> 'person'))
     ORDER BY starts_with(p_path, path || '/') DESC, length(path) DESC
     LIMIT 1;
$$;

-- RFC 4314, 4: a new mailbox takes the grants of the one above it.
CREATE FUNCTION mail_inherit_grants(p_account_id bigint, p_mailbox_id bigint, p_path text) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO mailbox_grant (account_id, mailbox_id, grantee_id, is_negative, rights)
    SELECT account_id, p_mailbox_id, grantee_id, is_negative, rights
      FROM mailbox_grant
     WHERE account_id = p_account_id AND mailbox_id = mail_parent_mailbox(p_account_id, p_path);
$$;

-- p_change: 0 add to what the grantee has, 1 take away from it, 2 replace it. Nothing left: the grant is gone.
CREATE FUNCTION mail_set_grant(
    p_account_id bigint, p_mailbox_id bigint, p_grantee_id bigint, p_is_negative boolean, p_change integer,
    p_rights integer, p_grants_max integer)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_modseq bigint := mail_begin_change(p_account_id);
    v_old integer;
    v_new integer;
BEGIN
    IF NOT EXISTS (SELECT FROM mailbox WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id) THEN
        RAISE EXCEPTION 'no such mailbox' USING ERRCODE = 'MP001';
    END IF;
    SELECT rights INTO v_old
      FROM mailbox_grant
     WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id AND grantee_id = p_grantee_id
       AND is_negative = p_is_negative;
    v_old := coalesce(v_old, 0);
    v_new := CASE p_change WHEN 0 THEN v_old | p_rights WHEN 1 THEN v_old & ~p_rights ELSE p_rights END;
    IF v_new = v_old THEN
        RETURN;
    END IF;

    IF v_new = 0 THEN
        DELETE FROM mailbox_grant
         WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id AND grantee_id = p_grantee_id
           AND is_negative = p_is_negative;
    ELSE
        INSERT INTO mailbox_grant (account_id, mailbox_id, grantee_id, is_negative, rights)
        VALUES (p_account_id, p_mailbox_id, p_grantee_id, p_is_negative, v_new)
            ON CONFLICT (account_id, mailbox_id, grantee_id, is_negative) DO UPDATE SET rights = excluded.rights;
    END IF;
    IF (SELECT count(*) FROM mailbox_grant WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id)
       > p_grants_max THEN
        RAISE EXCEPTION 'too many grants on one mailbox' USING ERRCODE = 'MP006';
    END IF;
    UPDATE mailbox SET modseq = v_modseq, changed_modseq = v_modseq
     WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id;
    UPDATE account_state SET modseq = v_modseq WHERE account_id = p_account_id;
END $$;

-- The same for every mailbox that the account has now; returns how many.
CREATE FUNCTION mail_set_grants(
    p_account_id bigint, p_grantee_id bigint, p_is_negative boolean, p_change integer, p_rights integer,
    p_grants_max integer)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_mailbox_ids bigint[];
    v_mailbox_id bigint;
BEGIN
    PERFORM mail_begin_change(p_account_id);
    v_mailbox_ids := ARRAY(SELECT mailbox_id FROM mailbox WHERE account_id = p_account_id ORDER BY mailbox_id);
    FOREACH v_mailbox_id IN ARRAY v_mailbox_ids LOOP
        PERFORM mail_set_grant(p_account_id, v_mailbox_id, p_grantee_id, p_is_negative, p_change, p_rights,
                               p_grants_max);
    END LOOP;
    RETURN cardinality(v_mailbox_ids);
END $$;
