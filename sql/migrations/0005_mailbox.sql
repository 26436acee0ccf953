-- Mailboxes: made, removed, renamed, subscribed.

-- New mailboxes are subscribed. The limit is that of mail/store/mailbox.h.
CREATE FUNCTION mail_insert_mailbox(p_account_id bigint, p_path text, p_role text, p_modseq bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_mailbox_id bigint;
BEGIN
    IF (SELECT count(*) FROM mailbox WHERE account_id = p_account_id) >= 10000 THEN
        RAISE EXCEPTION 'the account has too many mailboxes' USING ERRCODE = 'MP006';
    END IF;
    WITH taken AS (
        UPDATE account_state
           SET modseq = p_modseq, next_mailbox_id = next_mailbox_id + 1, next_uid_validity = next_uid_validity + 1
         WHERE account_id = p_account_id
        RETURNING next_mailbox_id - 1 AS mailbox_id, next_uid_validity - 1 AS uid_validity
    )
    INSERT INTO mailbox (account_id, mailbox_id, path, role, uid_validity, modseq, created_modseq, changed_modseq)
    SELECT p_account_id, mailbox_id, p_path, p_role, uid_validity, p_modseq, p_modseq, p_modseq FROM taken
    RETURNING mailbox_id INTO v_mailbox_id;
    INSERT INTO mailbox_subscription (account_id, name) VALUES (p_account_id, p_path) ON CONFLICT DO NOTHING;
    PERFORM mail_inherit_grants(p_account_id, v_mailbox_id, p_path);
    RETURN v_mailbox_id;
END $$;

-- What is missing above a path: "a/b/c" needs "a" and "a/b".
CREATE FUNCTION mail_insert_parents(p_account_id bigint, p_path text, p_modseq bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_levels text[] := string_to_array(p_path, '/');
    v_parent text;
BEGIN
    FOR depth IN 1 .. cardinality(v_levels) - 1 LOOP
        v_parent := array_to_string(v_levels[1:depth], '/');
        IF NOT EXISTS (SELECT FROM mailbox WHERE account_id = p_account_id AND path = v_parent) THEN
            PERFORM mail_insert_mailbox(p_account_id, v_parent, NULL, p_modseq);
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION mail_refuse_existing(p_account_id bigint, p_path text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM mailbox WHERE account_id = p_account_id AND path = p_path) THEN
        RAISE EXCEPTION 'mailbox exists already' USING ERRCODE = 'MP003';
    END IF;
END $$;

CREATE FUNCTION mail_create_mailbox(p_account_id bigint, p_path text, p_role text) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_modseq bigint := mail_begin_change(p_account_id);
BEGIN
    PERFORM mail_refuse_existing(p_account_id, p_path);
    IF EXISTS (SELECT FROM mailbox WHERE account_id = p_account_id AND role = p_role) THEN
        RAISE EXCEPTION 'another mailbox has this role' USING ERRCODE = 'MP003';
    END IF;
    PERFORM mail_insert_parents(p_account_id, p_path, v_modseq);
    RETURN mail_insert_mailbox(p_account_id, p_path, p_role, v_modseq);
END $$;

-- The mailbox is gone at once, whatever its size. Its messages are removed p_limit at a time: here, and while
-- mailbox_removed.is_emptied is false by further calls of mail_empty_removed. Subscriptions stay (RFC 9051, 6.3.7).
CREATE FUNCTION mail_remove_mailbox(
    p_account_id bigint, p_path text, p_limit integer, OUT mailbox_id bigint, OUT is_emptied boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := mail_begin_change(p_account_id);
    v_mailbox mailbox;
BEGIN
    SELECT * INTO v_mailbox FROM mailbox WHERE account_id = p_account_id AND path = p_path;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such mailbox' USING ERRCODE = 'MP001';
    END IF;
    IF v_mailbox.role IS NOT NULL THEN
        RAISE EXCEPTION 'this mailbox cannot be removed' USING ERRCODE = 'MP002';
    END IF;
    IF EXISTS (SELECT FROM mailbox WHERE account_id = p_account_id AND starts_with(path, p_path || '/')) THEN
        RAISE EXCEPTION 'mailbox has mailboxes below it' USING ERRCODE = 'MP005';
    END IF;

    mailbox_id := v_mailbox.mailbox_id;
    DELETE FROM mailbox m WHERE m.account_id = p_account_id AND m.mailbox_id = v_mailbox.mailbox_id;
    INSERT INTO mailbox_removed (account_id, mailbox_id, path, created_modseq, modseq, is_emptied)
    VALUES (p_account_id, v_mailbox.mailbox_id, p_path, v_mailbox.created_modseq, v_modseq,
            v_mailbox.message_count = 0);
    UPDATE account_state
       SET modseq = v_modseq, bytes_used = bytes_used - v_mailbox.bytes,
           message_count = message_count - v_mailbox.message_count
     WHERE account_id = p_account_id;
    PERFORM mail_forget_mailbox(p_account_id, v_mailbox.mailbox_id);
    is_emptied := v_mailbox.message_count = 0 OR mail_empty_removed(p_account_id, v_mailbox.mailbox_id, p_limit);
END $$;

-- What hangs on a mailbox and goes with it: one line for each table.
CREATE FUNCTION mail_forget_mailbox(p_account_id bigint, p_mailbox_id bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM mailbox_change WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id;
    DELETE FROM mailbox_seen WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id;
    DELETE FROM annotation WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id;
    DELETE FROM mailbox_grant WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id;
END $$;

-- Removes up to p_limit messages of a mailbox that is gone. Returns whether none are left.
CREATE FUNCTION mail_empty_removed(p_account_id bigint, p_mailbox_id bigint, p_limit integer) RETURNS boolean
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_memoize = off AS $$
DECLARE
    v_modseq bigint := mail_begin_change(p_account_id);
    v_count bigint;
BEGIN
    WITH gone AS (
        DELETE FROM message m
         USING (SELECT ctid AS place FROM message
                 WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id
                 ORDER BY uid LIMIT p_limit) AS s
         WHERE m.ctid = s.place
        RETURNING m.*
    ), removed AS (
        INSERT INTO message_removed (account_id, message_id, mailbox_id, uid, modseq, created_modseq, thread_id, blob_id,
                                     size, received_at, flags, keywords)
        SELECT account_id, message_id, mailbox_id, uid, v_modseq, created_modseq, thread_id, blob_id, size, received_at,
               flags, keywords
          FROM gone
    )
    SELECT count(*) INTO v_count FROM gone;
    UPDATE account_state SET modseq = v_modseq WHERE account_id = p_account_id;
    IF v_count < p_limit THEN
        UPDATE mailbox_removed SET is_emptied = true WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id;
    END IF;
    RETURN v_count < p_limit;
END $$;

-- The limits are those of mail/store/mailbox.h: what lies below must stay within them, too. The user's subscriptions of
-- what is renamed follow.
-- INBOX is never renamed: its messages move into a new mailbox, and it stays, empty, with what is below it (RFC 9051,
-- 6.3.6). Both have its annotations then (RFC 5464, 4.1). In that case mailbox_id is the new mailbox, and those below uid_below are the messages to move: by the caller, a
-- portion at a time.
CREATE FUNCTION mail_rename_mailbox(
    p_account_id bigint, p_from text, p_to text, p_path_size_max integer, p_depth_max integer,
    OUT mailbox_id bigint, OUT uid_below bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := mail_begin_change(p_account_id);
BEGIN
    SELECT uid_next INTO uid_below FROM mailbox WHERE account_id = p_account_id AND path = p_from;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such mailbox' USING ERRCODE = 'MP001';
    END IF;
    PERFORM mail_refuse_existing(p_account_id, p_to);
    IF starts_with(p_to, p_from || '/') AND p_from <> 'INBOX' THEN
        RAISE EXCEPTION 'a mailbox cannot move below itself' USING ERRCODE = 'MP002';
    END IF;

    PERFORM mail_insert_parents(p_account_id, p_to, v_modseq);
    IF p_from = 'INBOX' THEN
        mailbox_id := mail_insert_mailbox(p_account_id, p_to, NULL, v_modseq);
        INSERT INTO annotation (account_id, mailbox_id, user_id, entry, modseq, value)
        SELECT a.account_id, mail_rename_mailbox.mailbox_id, a.user_id, a.entry, v_modseq, a.value
          FROM annotation a WHERE a.account_id = p_account_id AND a.mailbox_id = 1 AND a.value IS NOT NULL;
        RETURN;
    END IF;
    UPDATE mailbox SET path = p_to || substr(path, length(p_from) + 1), modseq = v_modseq, changed_modseq = v_modseq
     WHERE account_id = p_account_id AND (path = p_from OR starts_with(path, p_from || '/'));
    UPDATE account_state SET modseq = v_modseq WHERE account_id = p_account_id;
    PERFORM mail_rename_subscriptions(p_account_id, p_from, p_to);
    IF EXISTS (SELECT FROM mailbox
                WHERE account_id = p_account_id AND starts_with(path, p_to || '/')
                  AND (octet_length(path) > p_path_size_max
                       OR cardinality(string_to_array(path, '/')) > p_depth_max)) THEN
        RAISE EXCEPTION 'a path below this mailbox would be too long' USING ERRCODE = 'MP007';
    END IF;
END $$;

-- The new names may be subscribed already, from mailboxes that had them once.
CREATE FUNCTION mail_rename_subscriptions(p_account_id bigint, p_from text, p_to text) RETURNS void
LANGUAGE sql AS $$
    WITH old AS (
        DELETE FROM mailbox_subscription
         WHERE account_id = p_account_id AND (name = p_from OR starts_with(name, p_from || '/'))
        RETURNING name
    )
    INSERT INTO mailbox_subscription (account_id, name)
    SELECT p_account_id, p_to || substr(name, length(p_from) + 1) FROM old
        ON CONFLICT DO NOTHING;
$$;

-- The name may be of any mailbox, and need not be of one. A mailbox of the user's own has changed with it.
CREATE FUNCTION mail_subscribe(p_account_id bigint, p_name text, p_is_subscribed boolean, p_count_max integer)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_modseq bigint := mail_begin_change(p_account_id);
BEGIN
    IF p_is_subscribed THEN
        INSERT INTO mailbox_subscription (account_id, name) VALUES (p_account_id, p_name) ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM mailbox_subscription WHERE account_id = p_account_id AND name = p_name;
    END IF;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF p_is_subscribed
       AND (SELECT count(*) FROM mailbox_subscription WHERE account_id = p_account_id) > p_count_max THEN
        RAISE EXCEPTION 'too many subscriptions' USING ERRCODE = 'MP006';
    END IF;
    UPDATE account_state SET modseq = v_modseq WHERE account_id = p_account_id;
    UPDATE mailbox SET modseq = v_modseq, changed_modseq = v_modseq WHERE account_id = p_account_id AND path = p_name;
END $$;

-- The folders of a new account, in the transaction that makes it. INBOX comes first: it is mailbox 1.
CREATE FUNCTION mail_account_prepare(p_account_id bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_modseq bigint;
    v_folder text;
BEGIN
    INSERT INTO account_state (account_id) VALUES (p_account_id) ON CONFLICT DO NOTHING;
    v_modseq := mail_begin_change(p_account_id);
    PERFORM mail_insert_mailbox(p_account_id, 'INBOX', 'inbox', v_modseq);
    FOREACH v_folder IN ARRAY ARRAY['Drafts', 'Sent', 'Archive', 'Junk', 'Trash'] LOOP
        PERFORM mail_insert_mailbox(p_account_id, v_folder, lower(v_folder), v_modseq);
    END LOOP;
END $$;
