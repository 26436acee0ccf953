-- Mailboxes, messages, blobs, threads, and the functions that change them.
--
-- Every function that writes locks the account's row of account_state in its own first statement. What follows then sees
-- everything that earlier writers committed (READ COMMITTED takes a snapshot per statement), and nobody else writes until
-- the end of the transaction, so that modseqs, UIDs and counters are exact. Transactions that touch several accounts
-- must take them in ascending order.
--
-- Functions that are given arrays keep one generic plan: by itself PostgreSQL would plan them anew at each call, because it
-- takes an array of unknown length for a long one, and that would cost half as much as the delivery itself.

CREATE TABLE blob (
    blob_id    bigint      PRIMARY KEY,               -- from blob_id_block
    uses       integer     NOT NULL,                  -- rows of message and message_removed, all accounts
    size       bigint      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    data       bytea       COMPRESSION lz4 NOT NULL   -- the raw message, immutable
);
CREATE INDEX blob_unused ON blob (created_at) WHERE uses <= 0;
COMMENT ON TABLE blob IS 'host: raw messages, one per delivery however many recipients; counted, never joined';

-- Each value is a block of 1,000 ids for one worker.
CREATE SEQUENCE blob_id_block AS bigint INCREMENT 1000;

-- Tombstones whose modseq is not above this may have been forgotten: who asks for older changes must compare everything.
ALTER TABLE account_state ADD COLUMN forgotten_modseq bigint NOT NULL DEFAULT 0;

CREATE TABLE mailbox (
    account_id      bigint  NOT NULL REFERENCES account_state,
    mailbox_id      bigint  NOT NULL,                 -- never used again; 1 is the inbox
    path            text    NOT NULL,                 -- levels divided by '/', UTF-8 NFC; the inbox is INBOX
    role            text,                             -- inbox, drafts, sent, archive, junk, trash; JMAP's names
    uid_validity    bigint  NOT NULL,
    uid_next        bigint  NOT NULL DEFAULT 1,
    modseq          bigint  NOT NULL,                 -- of the last change of its messages or of itself
    created_modseq  bigint  NOT NULL,
    changed_modseq  bigint  NOT NULL,                 -- of the last change of its own properties
    message_count   integer NOT NULL DEFAULT 0,
    unseen_count    integer NOT NULL DEFAULT 0,
    deleted_count   integer NOT NULL DEFAULT 0,
    bytes           bigint  NOT NULL DEFAULT 0,
    is_subscribed   boolean NOT NULL DEFAULT true,
    PRIMARY KEY (account_id, mailbox_id),
    UNIQUE (account_id, path)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX mailbox_role ON mailbox (account_id, role) WHERE role IS NOT NULL;
COMMENT ON TABLE mailbox IS 'account: folders';

CREATE TABLE mailbox_removed (
    account_id     bigint      NOT NULL REFERENCES account_state,
    mailbox_id     bigint      NOT NULL,
    path           text        NOT NULL,
    created_modseq bigint      NOT NULL,
    modseq         bigint      NOT NULL,              -- of the removal
    removed_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, mailbox_id)
);
CREATE INDEX mailbox_removed_modseq ON mailbox_removed (account_id, modseq);
COMMENT ON TABLE mailbox_removed IS 'account: tombstones of folders';

-- Narrow and mutable; what never changes is in message_meta. The tables below have no foreign keys: only the functions
-- of this file write them, under the account's lock, and checks of every row cost a delivery a quarter of its time.
-- flags: 1 \Seen, 2 \Answered, 4 \Flagged, 8 \Deleted, 16 \Draft (mail/store/message.h)
CREATE TABLE message (
    account_id     bigint      NOT NULL,
    message_id     bigint      NOT NULL,
    mailbox_id     bigint      NOT NULL,
    uid            bigint      NOT NULL,
    modseq         bigint      NOT NULL,
    created_modseq bigint      NOT NULL,
    thread_id      bigint      NOT NULL,              -- message_id of the thread's first message
    blob_id        bigint      NOT NULL,
    size           bigint      NOT NULL,
    received_at    timestamptz NOT NULL,              -- IMAP's INTERNALDATE, JMAP's receivedAt
    saved_at       timestamptz NOT NULL DEFAULT now(),
    flags          integer     NOT NULL,
    keywords       text[],                            -- NULL when there are none; sorted by lower case, no repeats
    PRIMARY KEY (account_id, message_id)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX message_uid ON message (account_id, mailbox_id, uid) INCLUDE (message_id, modseq, flags);
CREATE INDEX message_modseq ON message (account_id, modseq);
CREATE INDEX message_thread ON message (account_id, thread_id);
CREATE INDEX message_keywords ON message (account_id, mailbox_id, uid) WHERE keywords IS NOT NULL;
COMMENT ON TABLE message IS 'account: one row per message, in exactly one mailbox';

CREATE TABLE message_meta (
    account_id  bigint NOT NULL,
    message_id  bigint NOT NULL,
    size        bigint NOT NULL,                      -- as in message, so that a list view reads one table
    sent_at     timestamptz,                          -- the Date field
    received_at timestamptz NOT NULL,                 -- as in message: sorting reads this table alone
    sort_keys   bytea COMPRESSION lz4 NOT NULL,       -- what SORT and THREAD compare (mail/store/sort_keys.h)
    envelope    bytea COMPRESSION lz4 NOT NULL,       -- IMAP ENVELOPE, ready to send
    structure   bytea COMPRESSION lz4 NOT NULL,       -- IMAP BODYSTRUCTURE, ready to send
    headers     bytea COMPRESSION lz4,                -- fields that clients ask for (mail/store/cached_headers.def); NULL: too large
    preview     text  COMPRESSION lz4 NOT NULL,       -- the first words (mail/mime/preview.h)
    PRIMARY KEY (account_id, message_id)
);
ALTER TABLE message_meta ALTER sort_keys SET STORAGE MAIN; -- wide columns leave the row first
COMMENT ON TABLE message_meta IS 'account: what a message says about itself, made once at delivery';

-- Where a UID was and is no more: expunged or moved away.
CREATE TABLE message_vanished (
    account_id  bigint      NOT NULL,
    mailbox_id  bigint      NOT NULL,
    uid         bigint      NOT NULL,
    modseq      bigint      NOT NULL,
    vanished_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, mailbox_id, uid)
);
CREATE INDEX message_vanished_modseq ON message_vanished (account_id, mailbox_id, modseq);
CREATE INDEX message_vanished_at ON message_vanished USING brin (vanished_at);
COMMENT ON TABLE message_vanished IS 'account: tombstones of UIDs';

-- Removed messages, restorable until the retention ends.
CREATE TABLE message_removed (
    account_id     bigint      NOT NULL,
    message_id     bigint      NOT NULL,
    mailbox_id     bigint      NOT NULL,
    uid            bigint      NOT NULL,
    modseq         bigint      NOT NULL,              -- of the removal
    created_modseq bigint      NOT NULL,
    thread_id      bigint      NOT NULL,
    blob_id        bigint,                            -- NULL: purged, the row is only a tombstone
    size           bigint      NOT NULL,
    received_at    timestamptz NOT NULL,
    removed_at     timestamptz NOT NULL DEFAULT now(),
    flags          integer     NOT NULL,
    keywords       text[],
    PRIMARY KEY (account_id, message_id)
);
CREATE INDEX message_removed_modseq ON message_removed (account_id, modseq);
CREATE INDEX message_removed_at ON message_removed (removed_at) WHERE blob_id IS NOT NULL;
COMMENT ON TABLE message_removed IS 'account: removed messages';

-- Which thread a Message-ID belongs to, for messages of one base subject (RFC 8621, 3: References and subject).
CREATE TABLE thread_ref (
    account_id   bigint NOT NULL,
    ref          bigint NOT NULL,                     -- FNV-1a of a Message-ID
    subject_hash bigint NOT NULL,                     -- FNV-1a of the base subject in lower case
    thread_id    bigint NOT NULL,
    PRIMARY KEY (account_id, ref, subject_hash)
);
COMMENT ON TABLE thread_ref IS 'account: Message-IDs seen, by thread';

-- When a task of upkeep was last begun by any host: the row is claimed by an update.
CREATE TABLE store_upkeep (
    task     text        PRIMARY KEY,
    begun_at timestamptz NOT NULL DEFAULT '-infinity'
);
COMMENT ON TABLE store_upkeep IS 'host: who does the housekeeping, and when it was done';
INSERT INTO store_upkeep (task) VALUES ('purge'), ('forget'), ('audit');

-- ---- delivery -------------------------------------------------------------------------------------

-- Files one message for one account; the blob's row is made by the caller in the same transaction and counts this use.
-- status: 0 delivered, 1 over quota, 2 no such mailbox, 3 no such account (mail/store/delivery.h). A refusal is an answer
-- and no error, so that other recipients of the same transaction get theirs. A mailbox that has given out its last UID
-- (32 bits: RFC 9051, 2.3.1.1) is full, too.
-- p_quota_*: the server's settings, for accounts without limits of their own; -1: no limit applies, not even the account's.
CREATE FUNCTION mail_deliver(
    p_account_id bigint, p_mailbox_id bigint, p_flags integer, p_keywords text[], p_received_at timestamptz,
    p_blob_id bigint, p_size bigint, p_sent_at timestamptz, p_envelope bytea, p_structure bytea, p_headers bytea,
    p_refs bigint[], p_subject_hash bigint, p_quota_bytes bigint, p_quota_messages bigint, p_sort_keys bytea,
    p_preview text,
    OUT status integer, OUT uid_validity bigint, OUT uid bigint, OUT message_id bigint, OUT thread_id bigint,
    OUT modseq bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_thread_id bigint;
BEGIN
    UPDATE account_state s
       SET modseq = s.modseq + 1, next_message_id = next_message_id + 1,
           bytes_used = bytes_used + p_size, message_count = message_count + 1
     WHERE account_id = p_account_id
       AND (p_quota_bytes < 0 OR coalesce(quota_bytes, p_quota_bytes) = 0
            OR bytes_used + p_size <= coalesce(quota_bytes, p_quota_bytes))
       AND (p_quota_messages < 0 OR coalesce(quota_messages, p_quota_messages) = 0
            OR message_count < coalesce(quota_messages, p_quota_messages))
    RETURNING s.modseq, next_message_id - 1 INTO modseq, message_id;
    IF NOT FOUND THEN
        UPDATE blob SET uses = uses - 1 WHERE blob_id = p_blob_id;
        status := CASE WHEN EXISTS (SELECT FROM account_state WHERE account_id = p_account_id) THEN 1 ELSE 3 END;
        RETURN;
    END IF;

    UPDATE mailbox b
       SET uid_next = uid_next + 1, modseq = mail_deliver.modseq, message_count = message_count + 1,
           unseen_count = unseen_count + 1 - (p_flags & 1), deleted_count = deleted_count + (p_flags >> 3 & 1),
           bytes = bytes + p_size
     WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id AND uid_next < 4294967295
    RETURNING uid_next - 1, b.uid_validity INTO uid, uid_validity;
    IF NOT FOUND THEN
        UPDATE account_state SET bytes_used = bytes_used - p_size, message_count = message_count - 1
         WHERE account_id = p_account_id;
        UPDATE blob SET uses = uses - 1 WHERE blob_id = p_blob_id;
        status := CASE WHEN EXISTS (SELECT FROM mailbox WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id)
                       THEN 1 ELSE 2 END;
        RETURN;
    END IF;

    SELECT min(thread_id) INTO v_thread_id
      FROM thread_ref
     WHERE account_id = p_account_id AND ref = ANY (p_refs) AND subject_hash = p_subject_hash;
    thread_id := coalesce(v_thread_id, mail_deliver.message_id);
    status := 0;

    INSERT INTO message (account_id, message_id, mailbox_id, uid, modseq, created_modseq, thread_id, blob_id, size,
                         received_at, flags, keywords)
    VALUES (p_account_id, mail_deliver.message_id, p_mailbox_id, mail_deliver.uid, mail_deliver.modseq,
            mail_deliver.modseq, mail_deliver.thread_id, p_blob_id, p_size, p_received_at, p_flags,
            CASE WHEN p_keywords IS NOT NULL THEN mail_change_keywords(NULL, 2, p_keywords) END);
    INSERT INTO message_meta (account_id, message_id, size, sent_at, received_at, sort_keys, envelope, structure, headers,
                              preview)
    VALUES (p_account_id, mail_deliver.message_id, p_size, p_sent_at, p_received_at, p_sort_keys, p_envelope, p_structure,
            p_headers, p_preview);
    INSERT INTO thread_ref (account_id, ref, subject_hash, thread_id)
    SELECT p_account_id, r, p_subject_hash, mail_deliver.thread_id FROM unnest(p_refs) AS r
        ON CONFLICT DO NOTHING;
END $$;

-- The same, all or nothing: a refusal raises.
CREATE FUNCTION mail_append(
    p_account_id bigint, p_mailbox_id bigint, p_flags integer, p_keywords text[], p_received_at timestamptz,
    p_blob_id bigint, p_size bigint, p_sent_at timestamptz, p_envelope bytea, p_structure bytea, p_headers bytea,
    p_refs bigint[], p_subject_hash bigint, p_quota_bytes bigint, p_quota_messages bigint, p_sort_keys bytea,
    p_preview text,
    OUT status integer, OUT uid_validity bigint, OUT uid bigint, OUT message_id bigint, OUT thread_id bigint,
    OUT modseq bigint)
LANGUAGE plpgsql AS $$
BEGIN
    SELECT d.* INTO status, uid_validity, uid, message_id, thread_id, modseq
      FROM mail_deliver(p_account_id, p_mailbox_id, p_flags, p_keywords, p_received_at, p_blob_id, p_size, p_sent_at,
                        p_envelope, p_structure, p_headers, p_refs, p_subject_hash, p_quota_bytes, p_quota_messages,
                        p_sort_keys, p_preview) d;
    CASE status
        WHEN 1 THEN RAISE EXCEPTION 'mailbox is full' USING ERRCODE = 'MP004';
        WHEN 2 THEN RAISE EXCEPTION 'no such mailbox' USING ERRCODE = 'MP001';
        WHEN 3 THEN RAISE EXCEPTION 'no such account' USING ERRCODE = 'MP001';
        ELSE NULL;
    END CASE;
END $$;

-- ---- changing messages ------------------------------------------------------------------------------

-- Locks the account and says which modseq this transaction's change gets. The caller writes it back when something changed.
CREATE FUNCTION mail_begin_change(p_account_id bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_modseq bigint;
BEGIN
    SELECT modseq + 1 INTO v_modseq FROM account_state WHERE account_id = p_account_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such account' USING ERRCODE = 'MP001';
    END IF;
    RETURN v_modseq;
END $$;

-- Keywords are compared without regard to case; the case first seen stays. p_change: 0 add, 1 remove, 2 replace.
CREATE FUNCTION mail_change_keywords(p_old text[], p_change integer, p_keywords text[]) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_new text[];
BEGIN
    IF p_change < 2 AND cardinality(p_keywords) = 0 THEN
        RETURN p_old;
    END IF;
    IF p_change = 1 THEN
        SELECT array_agg(k ORDER BY lower(k) COLLATE "C") INTO v_new
          FROM unnest(p_old) AS k
         WHERE NOT EXISTS (SELECT FROM unnest(p_keywords) AS x WHERE lower(x) = lower(k));
    ELSE
        SELECT array_agg(k ORDER BY lower(k) COLLATE "C") INTO v_new
          FROM (SELECT DISTINCT ON (lower(k)) k
                  FROM (SELECT o.k, 0 AS is_new FROM unnest(p_old) AS o (k)
                         WHERE p_change = 0 OR lower(o.k) = ANY (SELECT lower(x) FROM unnest(p_keywords) AS x)
                        UNION ALL
                        SELECT n.k, 1 FROM unnest(p_keywords) AS n (k)) AS both_sets
                 ORDER BY lower(k), is_new) AS merged;
        IF cardinality(v_new) > 64 THEN
            RAISE EXCEPTION 'too many keywords on one message' USING ERRCODE = 'MP006';
        END IF;
    END IF;
    RETURN v_new;
END $$;

-- One row for each message asked for that exists: its state afterwards, and whether it was left alone because it
-- changed after p_unchanged_since. p_may: flags that may change, 32 for keywords (mail/store/message.h).
CREATE FUNCTION mail_store_flags(
    p_account_id bigint, p_mailbox_id bigint, p_uids bigint[], p_change integer, p_flags integer, p_keywords text[],
    p_unchanged_since bigint, p_may integer)
RETURNS TABLE (uid bigint, modseq bigint, flags integer, keywords text[], is_changed boolean, is_conflict boolean)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := mail_begin_change(p_account_id);
BEGIN
    RETURN QUERY
    WITH old AS MATERIALIZED (
        SELECT m.message_id, m.uid, m.modseq, m.flags, m.keywords,
               CASE p_change WHEN 0 THEN m.flags | p_flags WHEN 1 THEN m.flags & ~p_flags
                             ELSE (m.flags & ~p_may) | (p_flags & p_may) END AS new_flags,
               CASE WHEN p_may & 32 = 0 THEN m.keywords
                    ELSE mail_change_keywords(m.keywords, p_change, p_keywords) END AS new_keywords
          FROM message m
         WHERE m.account_id = p_account_id AND m.mailbox_id = p_mailbox_id AND m.uid = ANY (p_uids)
    ), done AS (
        UPDATE message m SET flags = o.new_flags, keywords = o.new_keywords, modseq = v_modseq
          FROM old o
         WHERE m.account_id = p_account_id AND m.message_id = o.message_id AND o.modseq <= p_unchanged_since
           AND (o.flags <> o.new_flags OR o.keywords IS DISTINCT FROM o.new_keywords)
        RETURNING m.message_id, m.flags, o.flags AS old_flags
    ), mailbox_done AS (
        UPDATE mailbox b
           SET modseq = v_modseq, unseen_count = unseen_count + d.unseen, deleted_count = deleted_count + d.deleted
          FROM (SELECT sum((old_flags & 1) - (flags & 1)) AS unseen,
                       sum((flags >> 3 & 1) - (old_flags >> 3 & 1)) AS deleted
                  FROM done HAVING count(*) > 0) AS d
         WHERE b.account_id = p_account_id AND b.mailbox_id = p_mailbox_id
    ), account_done AS (
        UPDATE account_state SET modseq = v_modseq WHERE account_id = p_account_id AND EXISTS (SELECT FROM done)
    )
    SELECT o.uid,
           CASE WHEN d.message_id IS NULL THEN o.modseq ELSE v_modseq END,
           CASE WHEN d.message_id IS NULL THEN o.flags ELSE o.new_flags END,
           CASE WHEN d.message_id IS NULL THEN o.keywords ELSE o.new_keywords END,
           d.message_id IS NOT NULL,
           o.modseq > p_unchanged_since
      FROM old o LEFT JOIN done d ON d.message_id = o.message_id
     ORDER BY o.uid;
END $$;

-- Takes v_count UIDs of the mailbox that messages are copied or moved to.
CREATE FUNCTION mail_enter_mailbox(
    p_account_id bigint, p_mailbox_id bigint, p_modseq bigint, p_count bigint, p_unseen bigint, p_deleted bigint,
    p_bytes bigint, OUT uid_validity bigint, OUT first_uid bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    UPDATE mailbox b
       SET uid_next = uid_next + p_count, message_count = message_count + p_count, bytes = bytes + p_bytes,
           unseen_count = unseen_count + p_unseen, deleted_count = deleted_count + p_deleted,
           modseq = CASE WHEN p_count > 0 THEN p_modseq ELSE modseq END
     WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id
    RETURNING b.uid_validity, uid_next - p_count INTO uid_validity, first_uid;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no such mailbox' USING ERRCODE = 'MP001';
    END IF;
    IF first_uid + p_count > 4294967295 THEN
        RAISE EXCEPTION 'mailbox is full' USING ERRCODE = 'MP004';
    END IF;
END $$;

-- The copies get first_uid, first_uid + 1, ... in the order of uids, and of their flags those in p_may.
CREATE FUNCTION mail_copy(
    p_account_id bigint, p_from_mailbox_id bigint, p_to_mailbox_id bigint, p_uids bigint[],
    p_quota_bytes bigint, p_quota_messages bigint, p_may integer,
    OUT uid_validity bigint, OUT first_uid bigint, OUT uids bigint[])
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := mail_begin_change(p_account_id);
    v_first_message_id bigint;
    v_count bigint;
    v_unseen bigint;
    v_deleted bigint;
    v_bytes bigint;
BEGIN
    SELECT coalesce(array_agg(uid ORDER BY uid), '{}'), count(*), count(*) FILTER (WHERE flags & p_may & 1 = 0),
           count(*) FILTER (WHERE flags & p_may & 8 <> 0), coalesce(sum(size), 0)
      INTO uids, v_count, v_unseen, v_deleted, v_bytes
      FROM message
     WHERE account_id = p_account_id AND mailbox_id = p_from_mailbox_id AND uid = ANY (p_uids);
    SELECT e.uid_validity, e.first_uid INTO uid_validity, first_uid
      FROM mail_enter_mailbox(p_account_id, p_to_mailbox_id, v_modseq, v_count, v_unseen, v_deleted, v_bytes) AS e;
    IF v_count = 0 THEN
        RETURN;
    END IF;

    UPDATE account_state
       SET modseq = v_modseq, next_message_id = next_message_id + v_count,
           bytes_used = bytes_used + v_bytes, message_count = message_count + v_count
     WHERE account_id = p_account_id
       AND (coalesce(quota_bytes, p_quota_bytes) = 0
            OR bytes_used + v_bytes <= coalesce(quota_bytes, p_quota_bytes))
       AND (coalesce(quota_messages, p_quota_messages) = 0
            OR message_count + v_count <= coalesce(quota_messages, p_quota_messages))
    RETURNING next_message_id - v_count INTO v_first_message_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'mailbox is full' USING ERRCODE = 'MP004';
    END IF;

    WITH source AS MATERIALIZED (
        SELECT message_id, thread_id, blob_id, size, received_at, flags, keywords,
               row_number() OVER (ORDER BY uid) - 1 AS nth
          FROM message
         WHERE account_id = p_account_id AND mailbox_id = p_from_mailbox_id AND uid = ANY (p_uids)
    ), copied AS (
        INSERT INTO message (account_id, message_id, mailbox_id, uid, modseq, created_modseq, thread_id, blob_id, size,
                             received_at, flags, keywords)
        SELECT p_account_id, v_first_message_id + nth, p_to_mailbox_id, mail_copy.first_uid + nth, v_modseq, v_modseq,
               thread_id, blob_id, size, received_at, flags & p_may, CASE WHEN p_may & 32 <> 0 THEN keywords END
          FROM source
    )
    INSERT INTO message_meta (account_id, message_id, size, sent_at, received_at, sort_keys, envelope, structure, headers,
                              preview)
    SELECT p_account_id, v_first_message_id + s.nth, t.size, t.sent_at, t.received_at, t.sort_keys, t.envelope, t.structure,
           t.headers, t.preview
      FROM source s JOIN message_meta t ON t.account_id = p_account_id AND t.message_id = s.message_id;

    PERFORM mail_use_blobs(ARRAY(
        SELECT blob_id FROM message
         WHERE account_id = p_account_id AND mailbox_id = p_from_mailbox_id AND uid = ANY (p_uids)), 1);
END $$;

-- Counts uses up or down, one for each time an id stands in the array. Rows are locked in one order everywhere.
CREATE FUNCTION mail_use_blobs(p_blob_ids bigint[], p_by integer) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM FROM blob WHERE blob_id = ANY (p_blob_ids) ORDER BY blob_id FOR NO KEY UPDATE;
    UPDATE blob b SET uses = uses + p_by * u.n
      FROM (SELECT id, count(*)::integer AS n FROM unnest(p_blob_ids) AS id GROUP BY id) AS u
     WHERE b.blob_id = u.id;
END $$;

-- The moved messages get first_uid, first_uid + 1, ... in the order of uids. Within one mailbox they get new UIDs, too.
CREATE FUNCTION mail_move(
    p_account_id bigint, p_from_mailbox_id bigint, p_to_mailbox_id bigint, p_uids bigint[],
    p_may integer, OUT uid_validity bigint, OUT first_uid bigint, OUT uids bigint[])
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := mail_begin_change(p_account_id);
    v_count bigint;
    v_unseen bigint;
    v_deleted bigint;
    v_new_unseen bigint;
    v_new_deleted bigint;
    v_bytes bigint;
BEGIN
    SELECT coalesce(array_agg(uid ORDER BY uid), '{}'), count(*), count(*) FILTER (WHERE flags & 1 = 0),
           count(*) FILTER (WHERE flags & 8 <> 0), count(*) FILTER (WHERE flags & p_may & 1 = 0),
           count(*) FILTER (WHERE flags & p_may & 8 <> 0), coalesce(sum(size), 0)
      INTO uids, v_count, v_unseen, v_deleted, v_new_unseen, v_new_deleted, v_bytes
      FROM message
     WHERE account_id = p_account_id AND mailbox_id = p_from_mailbox_id AND uid = ANY (p_uids);
    SELECT e.uid_validity, e.first_uid INTO uid_validity, first_uid
      FROM mail_enter_mailbox(p_account_id, p_to_mailbox_id, v_modseq, v_count, v_new_unseen, v_new_deleted,
                              v_bytes) AS e;
    IF v_count = 0 THEN
        RETURN;
    END IF;

    UPDATE account_state SET modseq = v_modseq WHERE account_id = p_account_id;
    PERFORM mail_leave_mailbox(p_account_id, p_from_mailbox_id, v_modseq, v_count, v_unseen, v_deleted, v_bytes);
    WITH source AS MATERIALIZED (
        SELECT message_id, uid, row_number() OVER (ORDER BY uid) - 1 AS nth
          FROM message
         WHERE account_id = p_account_id AND mailbox_id = p_from_mailbox_id AND uid = ANY (p_uids)
    ), vanished AS (
        INSERT INTO message_vanished (account_id, mailbox_id, uid, modseq)
        SELECT p_account_id, p_from_mailbox_id, uid, v_modseq FROM source
    )
    UPDATE message m SET mailbox_id = p_to_mailbox_id, uid = mail_move.first_uid + s.nth, modseq = v_modseq,
                         flags = flags & p_may, keywords = CASE WHEN p_may & 32 <> 0 THEN keywords END
      FROM source s
     WHERE m.account_id = p_account_id AND m.message_id = s.message_id;
END $$;

CREATE FUNCTION mail_leave_mailbox(
    p_account_id bigint, p_mailbox_id bigint, p_modseq bigint, p_count bigint, p_unseen bigint, p_deleted bigint,
    p_bytes bigint)
RETURNS void LANGUAGE sql AS $$
    UPDATE mailbox
       SET modseq = p_modseq, message_count = message_count - p_count, unseen_count = unseen_count - p_unseen,
           deleted_count = deleted_count - p_deleted, bytes = bytes - p_bytes
     WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id;
$$;

-- p_uids NULL: the whole mailbox, at most p_limit messages a call. modseq is NULL when nothing was removed.
CREATE FUNCTION mail_expunge(
    p_account_id bigint, p_mailbox_id bigint, p_uids bigint[], p_only_deleted boolean, p_limit integer,
    OUT uids bigint[], OUT modseq bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := mail_begin_change(p_account_id);
    v_uids bigint[] := p_uids;
    v_count bigint;
    v_unseen bigint;
    v_deleted bigint;
    v_bytes bigint;
BEGIN
    IF p_uids IS NULL THEN
        v_uids := ARRAY(
            SELECT m.uid FROM message m
             WHERE m.account_id = p_account_id AND m.mailbox_id = p_mailbox_id
               AND (m.flags & 8 <> 0 OR NOT p_only_deleted)
             ORDER BY m.uid LIMIT p_limit);
    END IF;

    WITH gone AS (
        DELETE FROM message m
         WHERE m.account_id = p_account_id AND m.mailbox_id = p_mailbox_id AND m.uid = ANY (v_uids)
           AND (m.flags & 8 <> 0 OR NOT p_only_deleted)
        RETURNING m.*
    ), removed AS (
        INSERT INTO message_removed (account_id, message_id, mailbox_id, uid, modseq, created_modseq, thread_id,
                                     blob_id, size, received_at, flags, keywords)
        SELECT account_id, message_id, mailbox_id, uid, v_modseq, created_modseq, thread_id, blob_id, size,
               received_at, flags, keywords
          FROM gone
    ), vanished AS (
        INSERT INTO message_vanished (account_id, mailbox_id, uid, modseq)
        SELECT account_id, mailbox_id, uid, v_modseq FROM gone
    )
    SELECT coalesce(array_agg(uid ORDER BY uid), '{}'), count(*), count(*) FILTER (WHERE flags & 1 = 0),
           count(*) FILTER (WHERE flags & 8 <> 0), coalesce(sum(size), 0)
      INTO uids, v_count, v_unseen, v_deleted, v_bytes
      FROM gone;
    IF v_count = 0 THEN
        RETURN;
    END IF;

    modseq := v_modseq;
    PERFORM mail_leave_mailbox(p_account_id, p_mailbox_id, v_modseq, v_count, v_unseen, v_deleted, v_bytes);
    UPDATE account_state
       SET modseq = v_modseq, bytes_used = bytes_used - v_bytes, message_count = message_count - v_count
     WHERE account_id = p_account_id;
END $$;

-- ---- mailboxes ----------------------------------------------------------------------------------------

CREATE FUNCTION mail_insert_mailbox(p_account_id bigint, p_path text, p_role text, p_modseq bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_mailbox_id bigint;
BEGIN
    WITH taken AS (
        UPDATE account_state
           SET modseq = p_modseq, next_mailbox_id = next_mailbox_id + 1, next_uid_validity = next_uid_validity + 1
         WHERE account_id = p_account_id
        RETURNING next_mailbox_id - 1 AS mailbox_id, next_uid_validity - 1 AS uid_validity
    )
    INSERT INTO mailbox (account_id, mailbox_id, path, role, uid_validity, modseq, created_modseq, changed_modseq)
    SELECT p_account_id, mailbox_id, p_path, p_role, uid_validity, p_modseq, p_modseq, p_modseq FROM taken
    RETURNING mailbox_id INTO v_mailbox_id;
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

CREATE FUNCTION mail_remove_mailbox(p_account_id bigint, p_path text) RETURNS void
LANGUAGE plpgsql AS $$
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

    WITH gone AS (
        DELETE FROM message WHERE account_id = p_account_id AND mailbox_id = v_mailbox.mailbox_id RETURNING *
    )
    INSERT INTO message_removed (account_id, message_id, mailbox_id, uid, modseq, created_modseq, thread_id, blob_id,
                                 size, received_at, flags, keywords)
    SELECT account_id, message_id, mailbox_id, uid, v_modseq, created_modseq, thread_id, blob_id, size, received_at,
           flags, keywords
      FROM gone;
    DELETE FROM message_vanished WHERE account_id = p_account_id AND mailbox_id = v_mailbox.mailbox_id;
    DELETE FROM annotation WHERE account_id = p_account_id AND mailbox_id = v_mailbox.mailbox_id;
    DELETE FROM mailbox_grant WHERE account_id = p_account_id AND mailbox_id = v_mailbox.mailbox_id;
    DELETE FROM mailbox WHERE account_id = p_account_id AND mailbox_id = v_mailbox.mailbox_id;
    INSERT INTO mailbox_removed (account_id, mailbox_id, path, created_modseq, modseq)
    VALUES (p_account_id, v_mailbox.mailbox_id, p_path, v_mailbox.created_modseq, v_modseq);
    UPDATE account_state
       SET modseq = v_modseq, bytes_used = bytes_used - v_mailbox.bytes,
           message_count = message_count - v_mailbox.message_count
     WHERE account_id = p_account_id;
END $$;

-- The limits are those of mail/store/mailbox.h: what lies below must stay within them, too.
CREATE FUNCTION mail_rename_mailbox(
    p_account_id bigint, p_from text, p_to text, p_path_size_max integer, p_depth_max integer)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_modseq bigint := mail_begin_change(p_account_id);
BEGIN
    IF NOT EXISTS (SELECT FROM mailbox WHERE account_id = p_account_id AND path = p_from) THEN
        RAISE EXCEPTION 'no such mailbox' USING ERRCODE = 'MP001';
    END IF;
    PERFORM mail_refuse_existing(p_account_id, p_to);
    IF p_from = 'INBOX' THEN
        PERFORM mail_rename_inbox(p_account_id, p_to, v_modseq);
        RETURN;
    END IF;
    IF starts_with(p_to, p_from || '/') THEN
        RAISE EXCEPTION 'a mailbox cannot move below itself' USING ERRCODE = 'MP002';
    END IF;

    PERFORM mail_insert_parents(p_account_id, p_to, v_modseq);
    UPDATE mailbox SET path = p_to || substr(path, length(p_from) + 1), modseq = v_modseq, changed_modseq = v_modseq
     WHERE account_id = p_account_id AND (path = p_from OR starts_with(path, p_from || '/'));
    UPDATE account_state SET modseq = v_modseq WHERE account_id = p_account_id;
    IF EXISTS (SELECT FROM mailbox
                WHERE account_id = p_account_id AND starts_with(path, p_to || '/')
                  AND (octet_length(path) > p_path_size_max
                       OR cardinality(string_to_array(path, '/')) > p_depth_max)) THEN
        RAISE EXCEPTION 'a path below this mailbox would be too long' USING ERRCODE = 'MP007';
    END IF;
END $$;

-- RFC 9051, 6.3.6: the messages of INBOX move into a new mailbox; INBOX stays, empty, and so does what is below it. Both
-- have its annotations then (RFC 5464, 4.1).
CREATE FUNCTION mail_rename_inbox(p_account_id bigint, p_to text, p_modseq bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_mailbox_id bigint;
BEGIN
    PERFORM mail_insert_parents(p_account_id, p_to, p_modseq);
    v_mailbox_id := mail_insert_mailbox(p_account_id, p_to, NULL, p_modseq);
    INSERT INTO annotation (account_id, mailbox_id, user_id, entry, modseq, value)
    SELECT account_id, v_mailbox_id, user_id, entry, p_modseq, value
      FROM annotation WHERE account_id = p_account_id AND mailbox_id = 1 AND value IS NOT NULL;
    PERFORM mail_move(p_account_id, 1, v_mailbox_id,
                      ARRAY(SELECT uid FROM message WHERE account_id = p_account_id AND mailbox_id = 1), 63);
END $$;

CREATE FUNCTION mail_subscribe_mailbox(p_account_id bigint, p_path text, p_is_subscribed boolean) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_modseq bigint := mail_begin_change(p_account_id);
BEGIN
    IF NOT EXISTS (SELECT FROM mailbox WHERE account_id = p_account_id AND path = p_path) THEN
        RAISE EXCEPTION 'no such mailbox' USING ERRCODE = 'MP001';
    END IF;
    UPDATE mailbox SET is_subscribed = p_is_subscribed, modseq = v_modseq, changed_modseq = v_modseq
     WHERE account_id = p_account_id AND path = p_path AND is_subscribed <> p_is_subscribed;
    IF FOUND THEN
        UPDATE account_state SET modseq = v_modseq WHERE account_id = p_account_id;
    END IF;
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

-- ---- upkeep ---------------------------------------------------------------------------------------------

-- Ends the restorability of what was removed before p_before; the rows stay as tombstones. Returns how many.
CREATE FUNCTION mail_purge_removed(p_account_id bigint, p_before timestamptz, p_limit integer) RETURNS integer
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    v_message_ids bigint[];
    v_blob_ids bigint[];
BEGIN
    PERFORM mail_begin_change(p_account_id);
    SELECT array_agg(message_id), array_agg(blob_id) INTO v_message_ids, v_blob_ids
      FROM (SELECT message_id, blob_id FROM message_removed
             WHERE account_id = p_account_id AND blob_id IS NOT NULL AND removed_at < p_before
             LIMIT p_limit) AS due;
    IF v_message_ids IS NULL THEN
        RETURN 0;
    END IF;
    UPDATE message_removed SET blob_id = NULL, keywords = NULL
     WHERE account_id = p_account_id AND message_id = ANY (v_message_ids);
    DELETE FROM message_meta WHERE account_id = p_account_id AND message_id = ANY (v_message_ids);
    PERFORM mail_use_blobs(v_blob_ids, -1);
    RETURN cardinality(v_message_ids);
END $$;

-- Drops tombstones up to a modseq and remembers that: see account_state.forgotten_modseq.
CREATE FUNCTION mail_forget_tombstones(p_account_id bigint, p_modseq bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE account_state SET forgotten_modseq = greatest(forgotten_modseq, p_modseq) WHERE account_id = p_account_id;
    DELETE FROM message_vanished WHERE account_id = p_account_id AND modseq <= p_modseq;
    DELETE FROM message_removed WHERE account_id = p_account_id AND modseq <= p_modseq AND blob_id IS NULL;
    DELETE FROM mailbox_removed b
     WHERE account_id = p_account_id AND modseq <= p_modseq
       AND NOT EXISTS (SELECT FROM message_removed m
                        WHERE m.account_id = p_account_id AND m.mailbox_id = b.mailbox_id AND m.blob_id IS NOT NULL);
END $$;

-- ---- replacing ------------------------------------------------------------------------------------------

-- The old message of a REPLACE (RFC 8508). What appends the new one in the same transaction must not happen without this.
CREATE FUNCTION mail_expunge_one(p_account_id bigint, p_mailbox_id bigint, p_uid bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_modseq bigint;
BEGIN
    SELECT e.modseq INTO v_modseq FROM mail_expunge(p_account_id, p_mailbox_id, ARRAY[p_uid], false, 1) AS e;
    IF v_modseq IS NULL THEN
        RAISE EXCEPTION 'the message was removed by somebody else' USING ERRCODE = 'MP001';
    END IF;
    RETURN v_modseq;
END $$;
