-- Annotations of mailboxes and of the server (RFC 5464; mail/store/metadata.h).
--
-- Shared entries of the server belong to account 0, which nobody has; every other row to the account of the mailbox, or
-- of the user whose private entry of the server it is.

CREATE TABLE annotation (
    account_id bigint NOT NULL,
    mailbox_id bigint NOT NULL,                       -- 0: of the server
    user_id    bigint NOT NULL,                       -- whose /private entry it is; 0: /shared
    entry      text   COLLATE "C" NOT NULL,           -- "/shared/comment": ASCII, lower case
    modseq     bigint NOT NULL,                       -- of its last change
    value      bytea,                                 -- NULL: removed, or computed; the row tells sessions of a change
    PRIMARY KEY (account_id, mailbox_id, user_id, entry)
);
CREATE INDEX annotation_modseq ON annotation (account_id, modseq);
ALTER TABLE annotation ALTER account_id SET STATISTICS 0;
COMMENT ON TABLE annotation IS 'account: what clients note about mailboxes and about the server';

-- Account 0 has no row to lock, and no counter but its rows: the newest of them is never dropped.
CREATE FUNCTION mail_begin_annotating(p_account_id bigint) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF p_account_id <> 0 THEN
        RETURN mail_begin_change(p_account_id);
    END IF;
    PERFORM pg_advisory_xact_lock(5464);
    RETURN (SELECT coalesce(max(modseq), 0) + 1 FROM annotation WHERE account_id = 0);
END $$;

CREATE FUNCTION mail_annotation_owner(p_entry text, p_user_id bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN starts_with(p_entry, '/private/') THEN p_user_id ELSE 0 END;
$$;

-- Limits count for each user and for what is shared alone, so that nobody uses up what is another's.
CREATE FUNCTION mail_check_annotations(
    p_account_id bigint, p_mailbox_id bigint, p_owner_id bigint, p_count_max integer, p_bytes_max bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT count(*) FROM annotation
         WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id AND user_id = p_owner_id
           AND value IS NOT NULL) > p_count_max THEN
        RAISE EXCEPTION 'there are too many annotations' USING ERRCODE = 'MP006';
    END IF;
    IF (SELECT sum(octet_length(value) + octet_length(entry)) FROM annotation
         WHERE account_id = p_account_id AND user_id = p_owner_id AND value IS NOT NULL) > p_bytes_max THEN
        RAISE EXCEPTION 'the annotations of this account take too much room' USING ERRCODE = 'MP004';
    END IF;
END $$;

-- All or nothing. Returns the modseq of the change; NULL when everything was so already.
CREATE FUNCTION mail_annotate(
    p_account_id bigint, p_mailbox_id bigint, p_user_id bigint, p_entries text[], p_values bytea[], p_removed text[],
    p_count_max integer, p_bytes_max bigint)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_modseq bigint := mail_begin_annotating(p_account_id);
    v_owner_id bigint;
BEGIN
    IF p_mailbox_id <> 0
       AND NOT EXISTS (SELECT FROM mailbox WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id) THEN
        RAISE EXCEPTION 'no such mailbox' USING ERRCODE = 'MP001';
    END IF;
    INSERT INTO annotation AS a (account_id, mailbox_id, user_id, entry, modseq, value)
    SELECT p_account_id, p_mailbox_id, mail_annotation_owner(entry, p_user_id), entry, v_modseq, value
      FROM unnest(p_entries, p_values) AS given (entry, value)
        ON CONFLICT (account_id, mailbox_id, user_id, entry)
        DO UPDATE SET value = excluded.value, modseq = excluded.modseq WHERE a.value IS DISTINCT FROM excluded.value;
    UPDATE annotation SET value = NULL, modseq = v_modseq
     WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id AND entry = ANY (p_removed)
       AND user_id = mail_annotation_owner(entry, p_user_id) AND value IS NOT NULL;
    IF NOT EXISTS (SELECT FROM annotation WHERE account_id = p_account_id AND modseq = v_modseq) THEN
        RETURN NULL;
    END IF;

    FOR v_owner_id IN SELECT DISTINCT mail_annotation_owner(entry, p_user_id) FROM unnest(p_entries) AS entry LOOP
        PERFORM mail_check_annotations(p_account_id, p_mailbox_id, v_owner_id, p_count_max, p_bytes_max);
    END LOOP;
    PERFORM mail_forget_annotations(p_account_id, p_mailbox_id, p_user_id, p_count_max);
    UPDATE account_state SET modseq = v_modseq WHERE account_id = p_account_id;
    RETURN v_modseq;
END $$;

-- Sessions hear of a removal within moments: the latest tombstones will do.
CREATE FUNCTION mail_forget_annotations(p_account_id bigint, p_mailbox_id bigint, p_user_id bigint, p_count_max integer)
RETURNS void LANGUAGE sql AS $$
    DELETE FROM annotation
     WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id AND user_id IN (0, p_user_id) AND value IS NULL
       AND modseq < (SELECT modseq FROM annotation
                      WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id AND user_id IN (0, p_user_id)
                        AND value IS NULL
                      ORDER BY modseq DESC OFFSET p_count_max LIMIT 1);
$$;

-- The special use is the mailbox's role; here only its change is noted.
CREATE FUNCTION mail_note_role(p_account_id bigint, p_mailbox_id bigint, p_modseq bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO annotation (account_id, mailbox_id, user_id, entry, modseq)
    VALUES (p_account_id, p_mailbox_id, p_account_id, '/private/specialuse', p_modseq)
        ON CONFLICT (account_id, mailbox_id, user_id, entry) DO UPDATE SET modseq = excluded.modseq;
$$;

-- Gives a mailbox a role (NULL: none), which another loses. Returns the path of that other one.
CREATE FUNCTION mail_set_role(
    p_account_id bigint, p_mailbox_id bigint, p_role text, OUT modseq bigint, OUT loser text)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := mail_begin_change(p_account_id);
    v_old text;
    v_loser_id bigint;
BEGIN
    SELECT role INTO v_old FROM mailbox WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such mailbox' USING ERRCODE = 'MP001';
    ELSIF v_old = 'inbox' AND p_role IS NOT NULL THEN
        RAISE EXCEPTION 'INBOX cannot have another special use' USING ERRCODE = 'MP002';
    ELSIF v_old = 'inbox' OR v_old IS NOT DISTINCT FROM p_role THEN
        RETURN;
    END IF;
    UPDATE mailbox SET role = NULL, modseq = v_modseq, changed_modseq = v_modseq
     WHERE account_id = p_account_id AND role = p_role
    RETURNING mailbox_id, path INTO v_loser_id, loser;
    IF FOUND THEN
        PERFORM mail_note_role(p_account_id, v_loser_id, v_modseq);
    END IF;
    UPDATE mailbox SET role = p_role, modseq = v_modseq, changed_modseq = v_modseq
     WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id;
    PERFORM mail_note_role(p_account_id, p_mailbox_id, v_modseq);
    UPDATE account_state SET modseq = v_modseq WHERE account_id = p_account_id;
    modseq := v_modseq;
END $$;
