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
    uses       integer     NOT NULL,                  -- rows of message and message_removed, all accounts, at delivery
    size       bigint      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    data       bytea       COMPRESSION lz4 NOT NULL   -- the raw message
);
COMMENT ON TABLE blob IS 'host: raw messages, one per delivery however many recipients; immutable, never joined';

-- Narrow and apart from the blobs, so that copying a thousand messages changes no wide row and no index. extra is in no
-- index: later changes of it stay on the page.
CREATE TABLE blob_use (
    blob_id bigint  PRIMARY KEY,
    extra   integer NOT NULL                          -- uses gained and lost since delivery
) WITH (fillfactor = 50);
COMMENT ON TABLE blob_use IS 'host: how the count of uses of a blob has changed; most blobs have no row';

CREATE TABLE blob_unused (
    blob_id bigint      PRIMARY KEY,
    since   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE blob_unused IS 'host: blobs that nothing uses, waiting to be collected';

-- Each value is a block of 1,000 ids for one worker.
CREATE SEQUENCE blob_id_block AS bigint INCREMENT 1000;

-- Tombstones whose modseq is not above this may have been forgotten: who asks for older changes must compare everything.
ALTER TABLE account_state ADD COLUMN forgotten_modseq bigint NOT NULL DEFAULT 0;
-- The same for changes: up to here mailbox_change may lack them. Never below forgotten_modseq.
ALTER TABLE account_state ADD COLUMN unlogged_modseq bigint NOT NULL DEFAULT 0;

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
    is_emptied     boolean     NOT NULL,              -- false: messages of it are still to be removed
    PRIMARY KEY (account_id, mailbox_id)
);
CREATE INDEX mailbox_removed_modseq ON mailbox_removed (account_id, modseq);
CREATE INDEX mailbox_removed_full ON mailbox_removed (account_id, mailbox_id) WHERE NOT is_emptied;
COMMENT ON TABLE mailbox_removed IS 'account: tombstones of folders';

-- Names, not mailboxes: a subscription survives its mailbox (RFC 9051, 6.3.7) and may lead into another account.
CREATE TABLE mailbox_subscription (
    account_id bigint NOT NULL REFERENCES account_state, -- whose subscription
    name       text   COLLATE "C" NOT NULL,           -- as this user sees the mailbox
    PRIMARY KEY (account_id, name)
);
COMMENT ON TABLE mailbox_subscription IS 'account: names of mailboxes that a user wants to see';

-- Narrow and mutable; what never changes is in message_meta. The tables below have no foreign keys: only the functions
-- of this file write them, under the account's lock, and checks of every row cost a delivery a quarter of its time.
-- flags: 1 \Seen, 2 \Answered, 4 \Flagged, 8 \Deleted, 16 \Draft (mail/store/message.h)
--
-- No index may hold modseq, flags or keywords, not even in a condition: then a change of flags rewrites the row on its own
-- page and touches no index, which costs a sixth. Half of each page is kept free for that, so that all of a page's rows
-- can change at once. What opening a mailbox reads comes first: short rows are taken apart from the left.
CREATE TABLE message (
    account_id     bigint      NOT NULL,
    mailbox_id     bigint      NOT NULL,
    uid            bigint      NOT NULL,
    message_id     bigint      NOT NULL,
    modseq         bigint      NOT NULL,
    flags          integer     NOT NULL,              -- \Seen is the owner's; other users': mailbox_seen
    created_modseq bigint      NOT NULL,
    thread_id      bigint      NOT NULL,              -- message_id of the thread's first message
    blob_id        bigint      NOT NULL,
    size           bigint      NOT NULL,
    received_at    timestamptz NOT NULL,              -- IMAP's INTERNALDATE, JMAP's receivedAt
    saved_at       timestamptz NOT NULL DEFAULT now(),
    keywords       text[],                            -- NULL when there are none; sorted by lower case, no repeats
    PRIMARY KEY (account_id, message_id)
) WITH (fillfactor = 50, autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX message_uid ON message (account_id, mailbox_id, uid);
CREATE INDEX message_thread ON message (account_id, thread_id);
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

-- The journal: one row for each transaction, mailbox and kind of change. It names which UIDs have another modseq now, and
-- which are no more (expunged or moved away). Arrivals are not in it, for they have the highest UIDs of their mailbox;
-- messages that were moved here are. A UID vanishes once, so the vanished ones of all rows are disjoint.
-- Everything that changed in an account since a modseq: created or moved, message.created_modseq and this; destroyed,
-- message_removed; changed, this, by way of the mailboxes whose modseq is higher.
CREATE TABLE mailbox_change (
    account_id  bigint         NOT NULL,
    mailbox_id  bigint         NOT NULL,
    modseq      bigint         NOT NULL,
    is_vanished boolean        NOT NULL,
    uids        int8multirange NOT NULL,
    changed_at  timestamptz    NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, mailbox_id, modseq, is_vanished)
);
CREATE INDEX mailbox_change_at ON mailbox_change USING brin (changed_at);
COMMENT ON TABLE mailbox_change IS 'account: which UIDs changed or vanished, by modseq';

-- \Seen of users in mailboxes that are not their own. Only of messages that exist, so that counting is subtracting.
CREATE TABLE mailbox_seen (
    account_id bigint         NOT NULL,               -- whose mailbox
    mailbox_id bigint         NOT NULL,
    user_id    bigint         NOT NULL,               -- whose \Seen
    modseq     bigint         NOT NULL,               -- of the last change
    uids       int8multirange NOT NULL,
    PRIMARY KEY (account_id, mailbox_id, user_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE mailbox_seen IS 'account: what others than the owner have seen';

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

-- Filled and read within one transaction of the audit, which is rolled back; its snapshot makes the portions add up.
CREATE UNLOGGED TABLE blob_tally (
    blob_id bigint  NOT NULL,
    uses    integer NOT NULL
);
CREATE INDEX blob_tally_blob ON blob_tally (blob_id);
COMMENT ON TABLE blob_tally IS 'host: uses of blobs as the audit counts them';

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
        PERFORM mail_use_blobs(ARRAY[p_blob_id], -1);
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
        PERFORM mail_use_blobs(ARRAY[p_blob_id], -1);
        status := CASE WHEN EXISTS (SELECT FROM mailbox WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id)
                       THEN 1 ELSE 2 END;
        RETURN;
    END IF;

    SELECT min(thread_id) INTO v_thread_id
      FROM thread_ref
     WHERE account_id = p_account_id AND ref = ANY (p_refs) AND subject_hash = p_subject_hash;
    thread_id := coalesce(v_thread_id, mail_deliver.message_id);
    status := 0;

    INSERT INTO message (account_id, mailbox_id, uid, message_id, modseq, flags, created_modseq, thread_id, blob_id, size,
                         received_at, keywords)
    VALUES (p_account_id, p_mailbox_id, mail_deliver.uid, mail_deliver.message_id, mail_deliver.modseq, p_flags,
            mail_deliver.modseq, mail_deliver.thread_id, p_blob_id, p_size, p_received_at,
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

-- The same for many messages to one mailbox, all or nothing: a refusal raises. Each message is one element of the arrays;
-- p_without_headers lists those (from 0 on) whose header fields are too large to be kept. Keywords and references come as
-- pairs with the number of their message, in its order. p_user_id: whose \Seen the flags set.
-- The messages get first_uid, first_uid + 1, ... and likewise their ids.
CREATE FUNCTION mail_append_many(
    p_account_id bigint, p_mailbox_id bigint, p_user_id bigint, p_flags integer[], p_received_us bigint[],
    p_blob_ids bigint[], p_sizes bigint[], p_sent_us bigint[], p_envelopes bytea[], p_structures bytea[],
    p_headers bytea[], p_without_headers integer[], p_keyword_of integer[], p_keywords text[],
    p_ref_of integer[], p_refs bigint[], p_ref_subjects bigint[], p_quota_bytes bigint, p_quota_messages bigint,
    p_sort_keys bytea[], p_previews text[],
    OUT uid_validity bigint, OUT first_uid bigint, OUT first_message_id bigint, OUT thread_ids bigint[], OUT modseq bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := mail_begin_change(p_account_id);
    v_is_owner boolean := p_user_id IN (0, p_account_id);
    v_count integer := cardinality(p_blob_ids);
    v_bytes bigint := (SELECT sum(n) FROM unnest(p_sizes) AS n);
    v_seen integer := (SELECT count(*) FROM unnest(p_flags) AS f WHERE f & 1 = 1);
    v_deleted integer := (SELECT count(*) FROM unnest(p_flags) AS f WHERE f & 8 <> 0);
BEGIN
    modseq := v_modseq;
    SELECT e.uid_validity, e.first_uid INTO uid_validity, first_uid
      FROM mail_enter_mailbox(p_account_id, p_mailbox_id, v_modseq, v_count,
                              v_count - CASE WHEN v_is_owner THEN v_seen ELSE 0 END, v_deleted, v_bytes) AS e;
    first_message_id := mail_enter_account(p_account_id, v_modseq, v_count, v_bytes, p_quota_bytes, p_quota_messages);
    thread_ids := mail_find_threads(p_account_id, first_message_id, v_count, p_ref_of, p_refs, p_ref_subjects);

    INSERT INTO message (account_id, mailbox_id, uid, message_id, modseq, flags, created_modseq, thread_id, blob_id, size,
                         received_at)
    SELECT p_account_id, p_mailbox_id, mail_append_many.first_uid + m.nth - 1,
           mail_append_many.first_message_id + m.nth - 1, v_modseq, CASE WHEN v_is_owner THEN m.flags ELSE m.flags & ~1 END,
           v_modseq, m.thread_id, m.blob_id, m.size, mail_time(m.received_us)
      FROM unnest(p_flags, mail_append_many.thread_ids, p_blob_ids, p_sizes, p_received_us)
           WITH ORDINALITY AS m (flags, thread_id, blob_id, size, received_us, nth);
    INSERT INTO message_meta (account_id, message_id, size, sent_at, received_at, sort_keys, envelope, structure, headers,
                              preview)
    SELECT p_account_id, mail_append_many.first_message_id + m.nth - 1, m.size,
           CASE WHEN m.sent_us <> -9223372036854775808 THEN mail_time(m.sent_us) END, mail_time(m.received_us),
           m.sort_keys, m.envelope, m.structure, CASE WHEN m.nth - 1 <> ALL (p_without_headers) THEN m.headers END,
           m.preview
      FROM unnest(p_sizes, p_sent_us, p_received_us, p_sort_keys, p_envelopes, p_structures, p_headers, p_previews)
           WITH ORDINALITY AS m (size, sent_us, received_us, sort_keys, envelope, structure, headers, preview, nth);

    IF cardinality(p_keywords) > 0 THEN
        UPDATE message m SET keywords = mail_change_keywords(NULL, 2, k.names)
          FROM (SELECT n, array_agg(name) AS names FROM unnest(p_keyword_of, p_keywords) AS u (n, name) GROUP BY n) AS k
         WHERE m.account_id = p_account_id AND m.message_id = mail_append_many.first_message_id + k.n;
    END IF;
    IF NOT v_is_owner AND v_seen > 0 THEN
        PERFORM mail_add_seen(p_account_id, p_mailbox_id, p_user_id, v_modseq, (
            SELECT range_agg(mail_uid_range(mail_append_many.first_uid + f.nth - 1))
              FROM unnest(p_flags) WITH ORDINALITY AS f (flags, nth) WHERE f.flags & 1 = 1));
    END IF;
END $$;

-- Microseconds of Unix time. In days and the rest of one, because intervals are multiplied in floating point.
CREATE FUNCTION mail_time(p_us bigint) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT timestamptz 'epoch' + (p_us / 86400000000)::integer * interval '1 day'
           + (p_us % 86400000000) * interval '1 microsecond';
$$;

-- Threads of p_count new messages, as if they came one after the other: the oldest thread that shares a Message-ID under
-- the same base subject, else a new one. Messages that share nothing with an earlier one of the set are done together.
-- p_ref_of says whose reference each is, from 0 on; negative: nobody's.
CREATE FUNCTION mail_find_threads(
    p_account_id bigint, p_first_message_id bigint, p_count integer, p_ref_of integer[], p_refs bigint[],
    p_ref_subjects bigint[])
RETURNS bigint[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_threads bigint[] := ARRAY(SELECT p_first_message_id + g FROM generate_series(0, p_count - 1) AS g);
    v_later integer[] := ARRAY(
        SELECT DISTINCT u.n
          FROM (SELECT n, min(n) OVER (PARTITION BY ref, subject) AS first_n
                  FROM unnest(p_ref_of, p_refs, p_ref_subjects) AS u (n, ref, subject)
                 WHERE n >= 0) AS u
         WHERE u.n > u.first_n
         ORDER BY u.n);
    v_found record;
    v_thread_id bigint;
    v_n integer;
BEGIN
    FOR v_found IN
        SELECT u.n, min(t.thread_id) AS thread_id
          FROM unnest(p_ref_of, p_refs, p_ref_subjects) AS u (n, ref, subject)
          JOIN thread_ref t ON t.account_id = p_account_id AND t.ref = u.ref AND t.subject_hash = u.subject
         WHERE u.n >= 0
         GROUP BY u.n
    LOOP
        v_threads[v_found.n + 1] := v_found.thread_id;
    END LOOP;
    INSERT INTO thread_ref (account_id, ref, subject_hash, thread_id)
    SELECT p_account_id, u.ref, u.subject, v_threads[u.n + 1]
      FROM unnest(p_ref_of, p_refs, p_ref_subjects) AS u (n, ref, subject)
     WHERE u.n >= 0 AND u.n <> ALL (v_later)
        ON CONFLICT DO NOTHING;

    FOREACH v_n IN ARRAY v_later LOOP
        SELECT min(t.thread_id) INTO v_thread_id
          FROM unnest(p_ref_of, p_refs, p_ref_subjects) AS u (n, ref, subject)
          JOIN thread_ref t ON t.account_id = p_account_id AND t.ref = u.ref AND t.subject_hash = u.subject
         WHERE u.n = v_n;
        v_threads[v_n + 1] := coalesce(v_thread_id, p_first_message_id + v_n);
        INSERT INTO thread_ref (account_id, ref, subject_hash, thread_id)
        SELECT p_account_id, u.ref, u.subject, v_threads[v_n + 1]
          FROM unnest(p_ref_of, p_refs, p_ref_subjects) AS u (n, ref, subject)
         WHERE u.n = v_n
            ON CONFLICT DO NOTHING;
    END LOOP;
    RETURN v_threads;
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

-- Messages of a mailbox by ranges of UIDs, in order. PostgreSQL puts this into the query that calls it. The order of work is
-- fixed, ranges first and then the index by UID, because sets of unknown length and statistics from before an import make it
-- choose badly by itself: a thousandfold, when it compares every message of the mailbox with every member of the set.
CREATE FUNCTION mail_set(p_account_id bigint, p_mailbox_id bigint, p_firsts bigint[], p_lasts bigint[])
RETURNS TABLE (place tid, uid bigint, message_id bigint, modseq bigint, flags integer, thread_id bigint, blob_id bigint,
               size bigint, received_at timestamptz, keywords text[])
LANGUAGE sql STABLE AS $$
    SELECT m.*
      FROM unnest(p_firsts, p_lasts) AS r (first, last)
     CROSS JOIN LATERAL (
            SELECT ctid, uid, message_id, modseq, flags, thread_id, blob_id, size, received_at, keywords
              FROM message
             WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id AND uid BETWEEN r.first AND r.last
             ORDER BY uid OFFSET 0) AS m;
$$;

-- One row for each message asked for that exists: its state afterwards as p_user_id sees it, and whether it was left alone
-- because it changed after p_unchanged_since. First those that changed, then the others; by UID within both. p_may: flags
-- that may change, 32 for keywords (mail/store/message.h).
-- A message is looked up once, by its UID, and then changed where it lies.
CREATE FUNCTION mail_store_flags(
    p_account_id bigint, p_mailbox_id bigint, p_user_id bigint, p_firsts bigint[], p_lasts bigint[],
    p_change integer, p_flags integer, p_keywords text[], p_unchanged_since bigint, p_may integer)
RETURNS TABLE (uid bigint, modseq bigint, flags integer, keywords text[], is_changed boolean, is_conflict boolean)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_memoize = off AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := mail_begin_change(p_account_id);
    v_seen int8multirange := mail_seen_by(p_account_id, p_mailbox_id, p_user_id);
    v_keywords text[] := CASE WHEN cardinality(p_keywords) > 0 THEN mail_change_keywords(NULL, 2, p_keywords) END;
    v_done bigint;
BEGIN
    RETURN QUERY
    WITH done AS (
        UPDATE message m
           SET modseq = v_modseq, keywords = n.keywords,
               flags = CASE WHEN v_seen IS NULL THEN n.flags ELSE (n.flags & ~1) | (o.stored_flags & 1) END
          FROM (SELECT s.place, s.flags AS stored_flags, s.keywords,
                       CASE WHEN v_seen IS NULL THEN s.flags ELSE (s.flags & ~1) | (v_seen @> s.uid)::integer END AS flags
                  FROM mail_set(p_account_id, p_mailbox_id, p_firsts, p_lasts) AS s
                 WHERE s.modseq <= p_unchanged_since
                OFFSET 0) AS o
         CROSS JOIN LATERAL (
                SELECT CASE p_change WHEN 0 THEN o.flags | p_flags WHEN 1 THEN o.flags & ~p_flags
                                     ELSE (o.flags & ~p_may) | (p_flags & p_may) END AS flags,
                       CASE WHEN p_may & 32 = 0 OR v_keywords IS NULL AND p_change < 2 THEN o.keywords
                            WHEN o.keywords IS NULL OR v_keywords IS NULL
                            THEN CASE WHEN p_change <> 1 THEN v_keywords END
                            ELSE mail_change_keywords(o.keywords, p_change, v_keywords) END AS keywords
                OFFSET 0) AS n
         WHERE m.ctid = o.place AND (o.flags <> n.flags OR o.keywords IS DISTINCT FROM n.keywords)
        RETURNING m.uid, n.flags, m.keywords, o.flags AS old_flags, m.flags AS stored_flags,
                  o.stored_flags AS old_stored_flags
    ), total AS (
        SELECT range_agg(mail_uid_range(uid)) AS uids, sum((old_stored_flags & 1) - (stored_flags & 1)) AS unseen,
               sum((stored_flags >> 3 & 1) - (old_stored_flags >> 3 & 1)) AS deleted
          FROM done HAVING count(*) > 0
    ), journal_done AS (
        INSERT INTO mailbox_change (account_id, mailbox_id, modseq, is_vanished, uids)
        SELECT p_account_id, p_mailbox_id, v_modseq, false, uids FROM total
    ), mailbox_done AS (
        UPDATE mailbox b
           SET modseq = v_modseq, unseen_count = unseen_count + t.unseen, deleted_count = deleted_count + t.deleted
          FROM total AS t
         WHERE b.account_id = p_account_id AND b.mailbox_id = p_mailbox_id
    ), account_done AS (
        UPDATE account_state s SET modseq = v_modseq FROM total WHERE s.account_id = p_account_id
    ), seen_done AS (
        INSERT INTO mailbox_seen (account_id, mailbox_id, user_id, modseq, uids)
        SELECT p_account_id, p_mailbox_id, p_user_id, v_modseq,
               v_seen + coalesce(range_agg(mail_uid_range(uid)) FILTER (WHERE flags & 1 = 1), '{}')
                      - coalesce(range_agg(mail_uid_range(uid)) FILTER (WHERE flags & 1 = 0), '{}')
          FROM done
         WHERE v_seen IS NOT NULL AND flags & 1 <> old_flags & 1
        HAVING count(*) > 0
            ON CONFLICT (account_id, mailbox_id, user_id)
               DO UPDATE SET modseq = excluded.modseq, uids = excluded.uids
    )
    SELECT uid, v_modseq, flags, keywords, true, false FROM done;
    GET DIAGNOSTICS v_done = ROW_COUNT;

    IF v_done < (SELECT sum(last - first + 1) FROM unnest(p_firsts, p_lasts) AS r (first, last)) THEN
        RETURN QUERY
        SELECT s.uid, s.modseq,
               CASE WHEN v_seen IS NULL THEN s.flags ELSE (s.flags & ~1) | (v_seen @> s.uid)::integer END, s.keywords,
               false, s.modseq > p_unchanged_since
          FROM mail_set(p_account_id, p_mailbox_id, p_firsts, p_lasts) AS s
         WHERE s.modseq <> v_modseq;
    END IF;
END $$;

CREATE FUNCTION mail_uid_range(p_uid bigint) RETURNS int8range LANGUAGE sql IMMUTABLE AS $$
    SELECT int8range(p_uid, p_uid + 1);
$$;

-- What a user has seen in a mailbox of somebody else; NULL for its owner, whose \Seen is in message.flags.
-- The sum makes a plain value of a compressed one, which would otherwise be expanded at each look.
CREATE FUNCTION mail_seen_by(p_account_id bigint, p_mailbox_id bigint, p_user_id bigint) RETURNS int8multirange
LANGUAGE plpgsql AS $$
DECLARE
    v_seen int8multirange;
BEGIN
    IF p_user_id IN (0, p_account_id) THEN
        RETURN NULL;
    END IF;
    SELECT uids + '{}' INTO v_seen FROM mailbox_seen
     WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id AND user_id = p_user_id;
    RETURN coalesce(v_seen, '{}');
END $$;

CREATE FUNCTION mail_add_seen(
    p_account_id bigint, p_mailbox_id bigint, p_user_id bigint, p_modseq bigint, p_uids int8multirange)
RETURNS void LANGUAGE sql AS $$
    INSERT INTO mailbox_seen AS s (account_id, mailbox_id, user_id, modseq, uids)
    VALUES (p_account_id, p_mailbox_id, p_user_id, p_modseq, p_uids)
        ON CONFLICT (account_id, mailbox_id, user_id)
           DO UPDATE SET modseq = excluded.modseq, uids = s.uids + excluded.uids;
$$;

-- Within an account every user's \Seen goes with a message: uids[i] becomes p_first_uid + i - 1. But not that of
-- p_but_user_id. Each user's whole set, which may be large and compressed, is looked at once and not for each message.
CREATE FUNCTION mail_take_seen_along(
    p_account_id bigint, p_from_mailbox_id bigint, p_to_mailbox_id bigint, p_modseq bigint, p_uids bigint[],
    p_first_uid bigint, p_but_user_id bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_uids int8multirange := (SELECT range_agg(mail_uid_range(u)) FROM unnest(p_uids) AS u);
    v_other record;
BEGIN
    FOR v_other IN
        WITH moved AS MATERIALIZED (
            SELECT user_id, uids * v_uids AS uids FROM mailbox_seen
             WHERE account_id = p_account_id AND mailbox_id = p_from_mailbox_id AND user_id IS DISTINCT FROM p_but_user_id
        )
        SELECT m.user_id, range_agg(mail_uid_range(p_first_uid + u.nth - 1)) AS uids
          FROM moved m JOIN unnest(p_uids) WITH ORDINALITY AS u (uid, nth) ON m.uids @> u.uid
         GROUP BY m.user_id
    LOOP
        PERFORM mail_add_seen(p_account_id, p_to_mailbox_id, v_other.user_id, p_modseq, v_other.uids);
    END LOOP;
END $$;

-- What leaves a mailbox: its counters, its journal, what others have seen of it.
CREATE FUNCTION mail_leave_mailbox(
    p_account_id bigint, p_mailbox_id bigint, p_modseq bigint, p_uids bigint[], p_unseen bigint, p_deleted bigint,
    p_bytes bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_gone int8multirange := (SELECT range_agg(mail_uid_range(u)) FROM unnest(p_uids) AS u);
BEGIN
    UPDATE mailbox
       SET modseq = p_modseq, message_count = message_count - cardinality(p_uids), unseen_count = unseen_count - p_unseen,
           deleted_count = deleted_count - p_deleted, bytes = bytes - p_bytes
     WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id;
    INSERT INTO mailbox_change (account_id, mailbox_id, modseq, is_vanished, uids)
    VALUES (p_account_id, p_mailbox_id, p_modseq, true, v_gone);
    UPDATE mailbox_seen SET uids = uids - v_gone
     WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id AND uids && v_gone;
END $$;

-- Takes p_count UIDs of a mailbox that messages come to.
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

-- Takes p_count message ids, within the quota; returns the first.
CREATE FUNCTION mail_enter_account(
    p_account_id bigint, p_modseq bigint, p_count bigint, p_bytes bigint, p_quota_bytes bigint, p_quota_messages bigint)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_first_message_id bigint;
BEGIN
    UPDATE account_state
       SET modseq = p_modseq, next_message_id = next_message_id + p_count,
           bytes_used = bytes_used + p_bytes, message_count = message_count + p_count
     WHERE account_id = p_account_id
       AND (p_quota_bytes < 0 OR coalesce(quota_bytes, p_quota_bytes) = 0
            OR bytes_used + p_bytes <= coalesce(quota_bytes, p_quota_bytes))
       AND (p_quota_messages < 0 OR coalesce(quota_messages, p_quota_messages) = 0
            OR message_count + p_count <= coalesce(quota_messages, p_quota_messages))
    RETURNING next_message_id - p_count INTO v_first_message_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'mailbox is full' USING ERRCODE = 'MP004';
    END IF;
    RETURN v_first_message_id;
END $$;

-- Those of a set that are there, and what they count: as they are, and with no flags but those in p_may. Unread is what
-- the owner has not seen, which does not change with others' rights.
CREATE FUNCTION mail_measure(
    p_account_id bigint, p_mailbox_id bigint, p_firsts bigint[], p_lasts bigint[], p_may integer,
    OUT uids bigint[], OUT blob_ids bigint[], OUT unseen bigint, OUT deleted bigint, OUT new_deleted bigint,
    OUT bytes bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_bitmapscan = off AS $$
#variable_conflict use_column
BEGIN
    SELECT coalesce(array_agg(uid), '{}'), array_agg(blob_id), count(*) FILTER (WHERE flags & 1 = 0),
           count(*) FILTER (WHERE flags & 8 <> 0), count(*) FILTER (WHERE flags & p_may & 8 <> 0), coalesce(sum(size), 0)
      INTO uids, blob_ids, unseen, deleted, new_deleted, bytes
      FROM mail_set(p_account_id, p_mailbox_id, p_firsts, p_lasts);
END $$;

-- The copies get first_uid, first_uid + 1, ... in the order of uids. Between two accounts the caller has locked both, and
-- gives the references of the messages (p_ref_of: whose, by UID) to find their threads by; what p_user_id has seen stays
-- seen by p_user_id, and by nobody else. p_may: the flags that come along, 32 for
-- keywords; without 1 what p_user_id has seen stays behind, and never what others have.
CREATE FUNCTION mail_copy(
    p_from_account_id bigint, p_from_mailbox_id bigint, p_to_account_id bigint, p_to_mailbox_id bigint, p_user_id bigint,
    p_firsts bigint[], p_lasts bigint[], p_ref_of bigint[], p_refs bigint[], p_ref_subjects bigint[],
    p_quota_bytes bigint, p_quota_messages bigint, p_may integer,
    OUT uid_validity bigint, OUT first_uid bigint, OUT uids bigint[])
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_memoize = off AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := mail_begin_change(p_to_account_id);
    v_is_local boolean := p_from_account_id = p_to_account_id;
    v_seen int8multirange;
    v_threads bigint[];
    v_first_message_id bigint;
    v_count bigint;
    v_set record;
BEGIN
    SELECT * INTO v_set FROM mail_measure(p_from_account_id, p_from_mailbox_id, p_firsts, p_lasts, p_may);
    uids := v_set.uids;
    v_count := cardinality(uids);
    IF NOT v_is_local THEN
        v_seen := CASE WHEN p_may & 1 = 1
                       THEN mail_seen_among(p_from_account_id, p_from_mailbox_id, p_user_id, p_firsts, p_lasts)
                       ELSE '{}' END;
        v_set.unseen := v_count - CASE WHEN p_user_id = p_to_account_id THEN mail_range_count(v_seen) ELSE 0 END;
    END IF;
    SELECT e.uid_validity, e.first_uid INTO uid_validity, first_uid
      FROM mail_enter_mailbox(p_to_account_id, p_to_mailbox_id, v_modseq, v_count, v_set.unseen, v_set.new_deleted,
                              v_set.bytes) AS e;
    IF v_count = 0 THEN
        RETURN;
    END IF;
    v_first_message_id := mail_enter_account(p_to_account_id, v_modseq, v_count, v_set.bytes, p_quota_bytes,
                                             p_quota_messages);
    IF NOT v_is_local THEN
        v_threads := mail_find_threads(p_to_account_id, v_first_message_id, v_count::integer,
                                       mail_places(p_ref_of, uids), p_refs, p_ref_subjects);
    END IF;

    WITH source AS MATERIALIZED (
        SELECT message_id, uid, thread_id, blob_id, size, received_at, flags, keywords,
               row_number() OVER (ORDER BY uid) - 1 AS nth
          FROM mail_set(p_from_account_id, p_from_mailbox_id, p_firsts, p_lasts)
    ), copied AS (
        INSERT INTO message (account_id, mailbox_id, uid, message_id, modseq, flags, created_modseq, thread_id, blob_id,
                             size, received_at, keywords)
        SELECT p_to_account_id, p_to_mailbox_id, mail_copy.first_uid + nth, v_first_message_id + nth, v_modseq,
               CASE WHEN v_is_local THEN flags & (p_may | 1)
                    ELSE (flags & p_may & ~1) | (p_user_id = p_to_account_id AND v_seen @> uid)::integer END,
               v_modseq, CASE WHEN v_is_local THEN thread_id ELSE v_threads[nth + 1] END, blob_id, size, received_at,
               CASE WHEN p_may & 32 <> 0 THEN keywords END
          FROM source
    )
    INSERT INTO message_meta (account_id, message_id, size, sent_at, received_at, sort_keys, envelope, structure, headers,
                              preview)
    SELECT p_to_account_id, v_first_message_id + s.nth, t.size, t.sent_at, t.received_at, t.sort_keys, t.envelope,
           t.structure, t.headers, t.preview
      FROM source s JOIN message_meta t ON t.account_id = p_from_account_id AND t.message_id = s.message_id;

    PERFORM mail_use_blobs(v_set.blob_ids, 1);
    IF NOT v_is_local THEN
        INSERT INTO message_growth (account_id, blob_id, growth)
        SELECT p_to_account_id, g.blob_id, g.growth FROM message_growth g
         WHERE g.account_id = p_from_account_id AND g.blob_id = ANY (v_set.blob_ids)
            ON CONFLICT DO NOTHING;
    END IF;
    IF v_is_local THEN
        PERFORM mail_take_seen_along(p_to_account_id, p_from_mailbox_id, p_to_mailbox_id, v_modseq, uids, first_uid,
                                     CASE WHEN p_may & 1 = 0 THEN p_user_id END);
    ELSIF p_user_id <> p_to_account_id AND NOT isempty(v_seen) THEN
        PERFORM mail_add_seen(p_to_account_id, p_to_mailbox_id, p_user_id, v_modseq, (
            SELECT range_agg(mail_uid_range(mail_copy.first_uid + u.nth - 1))
              FROM unnest(mail_copy.uids) WITH ORDINALITY AS u (uid, nth) WHERE v_seen @> u.uid));
    END IF;
END $$;

-- Those of a set that a user has seen, who may be the owner.
CREATE FUNCTION mail_seen_among(
    p_account_id bigint, p_mailbox_id bigint, p_user_id bigint, p_firsts bigint[], p_lasts bigint[])
RETURNS int8multirange LANGUAGE plpgsql AS $$
DECLARE
    v_seen int8multirange := mail_seen_by(p_account_id, p_mailbox_id, p_user_id);
BEGIN
    RETURN coalesce((
        SELECT range_agg(mail_uid_range(uid))
          FROM mail_set(p_account_id, p_mailbox_id, p_firsts, p_lasts)
         WHERE CASE WHEN v_seen IS NULL THEN flags & 1 = 1 ELSE v_seen @> uid END), '{}');
END $$;

CREATE FUNCTION mail_range_count(p_uids int8multirange) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint FROM unnest(p_uids) AS r;
$$;

-- Places of UIDs in an ascending array, from 0 on; -1 where it lacks them.
CREATE FUNCTION mail_places(p_uids bigint[], p_in bigint[]) RETURNS integer[] LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(array_agg(CASE WHEN p_in[width_bucket(uid, p_in)] = uid THEN width_bucket(uid, p_in) - 1 ELSE -1 END
                              ORDER BY nth), '{}')
      FROM unnest(p_uids) WITH ORDINALITY AS u (uid, nth);
$$;

-- Counts uses up or down, one for each time an id stands in the array. Rows are locked in one order everywhere.
CREATE FUNCTION mail_use_blobs(p_blob_ids bigint[], p_by integer) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_seqscan = off AS $$
BEGIN
    INSERT INTO blob_use AS b (blob_id, extra)
    SELECT id, p_by * count(*) FROM unnest(p_blob_ids) AS id GROUP BY id ORDER BY id
        ON CONFLICT (blob_id) DO UPDATE SET extra = b.extra + excluded.extra;
    IF p_by < 0 THEN
        INSERT INTO blob_unused (blob_id)
        SELECT b.blob_id FROM blob b JOIN blob_use u USING (blob_id)
         WHERE b.blob_id = ANY (p_blob_ids) AND b.uses + u.extra <= 0
            ON CONFLICT DO NOTHING;
    END IF;
END $$;

-- Within an account. The moved messages get first_uid, first_uid + 1, ... in the order of uids. Within one mailbox they
-- get new UIDs, too. p_user_id and p_may: as for mail_copy.
CREATE FUNCTION mail_move(
    p_account_id bigint, p_from_mailbox_id bigint, p_to_mailbox_id bigint, p_firsts bigint[], p_lasts bigint[],
    p_user_id bigint, p_may integer,
    OUT uid_validity bigint, OUT first_uid bigint, OUT uids bigint[])
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_memoize = off AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := mail_begin_change(p_account_id);
    v_count bigint;
    v_set record;
BEGIN
    SELECT * INTO v_set FROM mail_measure(p_account_id, p_from_mailbox_id, p_firsts, p_lasts, p_may);
    uids := v_set.uids;
    v_count := cardinality(uids);
    SELECT e.uid_validity, e.first_uid INTO uid_validity, first_uid
      FROM mail_enter_mailbox(p_account_id, p_to_mailbox_id, v_modseq, v_count, v_set.unseen, v_set.new_deleted,
                              v_set.bytes) AS e;
    IF v_count = 0 THEN
        RETURN;
    END IF;

    UPDATE account_state SET modseq = v_modseq WHERE account_id = p_account_id;
    PERFORM mail_take_seen_along(p_account_id, p_from_mailbox_id, p_to_mailbox_id, v_modseq, uids, first_uid,
                                 CASE WHEN p_may & 1 = 0 THEN p_user_id END);
    PERFORM mail_leave_mailbox(p_account_id, p_from_mailbox_id, v_modseq, uids, v_set.unseen, v_set.deleted, v_set.bytes);
    INSERT INTO mailbox_change (account_id, mailbox_id, modseq, is_vanished, uids)
    VALUES (p_account_id, p_to_mailbox_id, v_modseq, false,
            int8multirange(int8range(mail_move.first_uid, mail_move.first_uid + v_count)));
    UPDATE message m SET mailbox_id = p_to_mailbox_id, uid = mail_move.first_uid + s.nth, modseq = v_modseq,
                         flags = flags & (p_may | 1), keywords = CASE WHEN p_may & 32 <> 0 THEN keywords END
      FROM (SELECT place, row_number() OVER (ORDER BY uid) - 1 AS nth
              FROM mail_set(p_account_id, p_from_mailbox_id, p_firsts, p_lasts)) AS s
     WHERE m.ctid = s.place;
END $$;

-- The oldest p_limit messages with UIDs below p_uid_below; returns how many.
CREATE FUNCTION mail_move_oldest(
    p_account_id bigint, p_from_mailbox_id bigint, p_to_mailbox_id bigint, p_uid_below bigint, p_limit integer)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_uids bigint[];
BEGIN
    PERFORM mail_begin_change(p_account_id);
    v_uids := ARRAY(
        SELECT uid FROM message
         WHERE account_id = p_account_id AND mailbox_id = p_from_mailbox_id AND uid < p_uid_below
         ORDER BY uid LIMIT p_limit);
    RETURN cardinality((mail_move(p_account_id, p_from_mailbox_id, p_to_mailbox_id, v_uids, v_uids, 0, 63)).uids);
END $$;

-- Between two accounts, both of which are locked in ascending order, as everywhere: copies, and for a move removes what
-- was copied.
CREATE FUNCTION mail_transfer(
    p_from_account_id bigint, p_from_mailbox_id bigint, p_to_account_id bigint, p_to_mailbox_id bigint, p_user_id bigint,
    p_firsts bigint[], p_lasts bigint[], p_ref_of bigint[], p_refs bigint[], p_ref_subjects bigint[],
    p_quota_bytes bigint, p_quota_messages bigint, p_may integer, p_is_move boolean,
    OUT uid_validity bigint, OUT first_uid bigint, OUT uids bigint[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM mail_begin_change(least(p_from_account_id, p_to_account_id));
    PERFORM mail_begin_change(greatest(p_from_account_id, p_to_account_id));
    SELECT c.uid_validity, c.first_uid, c.uids INTO uid_validity, first_uid, uids
      FROM mail_copy(p_from_account_id, p_from_mailbox_id, p_to_account_id, p_to_mailbox_id, p_user_id,
                     p_firsts, p_lasts, p_ref_of, p_refs, p_ref_subjects, p_quota_bytes, p_quota_messages, p_may) AS c;
    IF p_is_move AND cardinality(uids) > 0 THEN
        PERFORM mail_expunge(p_from_account_id, p_from_mailbox_id, p_firsts, p_lasts, false, 0);
    END IF;
END $$;

-- p_firsts NULL: the whole mailbox, at most p_limit messages a call. modseq is NULL when nothing was removed.
CREATE FUNCTION mail_expunge(
    p_account_id bigint, p_mailbox_id bigint, p_firsts bigint[], p_lasts bigint[], p_only_deleted boolean,
    p_limit integer,
    OUT uids bigint[], OUT modseq bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off
SET enable_memoize = off AS $$
#variable_conflict use_column
DECLARE
    v_modseq bigint := mail_begin_change(p_account_id);
    v_firsts bigint[] := p_firsts;
    v_lasts bigint[] := p_lasts;
    v_unseen bigint;
    v_deleted bigint;
    v_bytes bigint;
BEGIN
    IF p_firsts IS NULL THEN
        v_firsts := mail_uids_to_expunge(p_account_id, p_mailbox_id, p_only_deleted, p_limit);
        v_lasts := v_firsts;
    END IF;

    WITH gone AS (
        DELETE FROM message m
         USING mail_set(p_account_id, p_mailbox_id, v_firsts, v_lasts) AS s
         WHERE m.ctid = s.place AND (s.flags & 8 <> 0 OR NOT p_only_deleted)
        RETURNING m.*
    ), removed AS (
        INSERT INTO message_removed (account_id, message_id, mailbox_id, uid, modseq, created_modseq, thread_id,
                                     blob_id, size, received_at, flags, keywords)
        SELECT account_id, message_id, mailbox_id, uid, v_modseq, created_modseq, thread_id, blob_id, size,
               received_at, flags, keywords
          FROM gone
    )
    SELECT coalesce(array_agg(uid ORDER BY uid), '{}'), count(*) FILTER (WHERE flags & 1 = 0),
           count(*) FILTER (WHERE flags & 8 <> 0), coalesce(sum(size), 0)
      INTO uids, v_unseen, v_deleted, v_bytes
      FROM gone;
    IF cardinality(uids) = 0 THEN
        RETURN;
    END IF;

    modseq := v_modseq;
    PERFORM mail_leave_mailbox(p_account_id, p_mailbox_id, v_modseq, uids, v_unseen, v_deleted, v_bytes);
    UPDATE account_state
       SET modseq = v_modseq, bytes_used = bytes_used - v_bytes, message_count = message_count - cardinality(uids)
     WHERE account_id = p_account_id;
END $$;

-- Most mailboxes have nothing to expunge when they are closed, and their counter says so.
CREATE FUNCTION mail_uids_to_expunge(p_account_id bigint, p_mailbox_id bigint, p_only_deleted boolean, p_limit integer)
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    v_limit integer := p_limit;
BEGIN
    IF p_only_deleted THEN
        SELECT least(p_limit, deleted_count) INTO v_limit
          FROM mailbox WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id;
    END IF;
    RETURN ARRAY(
        SELECT uid FROM message
         WHERE account_id = p_account_id AND mailbox_id = p_mailbox_id AND (flags & 8 <> 0 OR NOT p_only_deleted)
         ORDER BY uid LIMIT v_limit);
END $$;

-- ---- mailboxes ----------------------------------------------------------------------------------------

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

-- Deletes blobs that nothing has used for a while. Nobody can begin to use one; looking again is caution.
CREATE FUNCTION mail_collect_blobs(p_since timestamptz, p_limit integer) RETURNS integer
LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    v_blob_ids bigint[] := ARRAY(SELECT blob_id FROM blob_unused WHERE since < p_since ORDER BY blob_id LIMIT p_limit);
BEGIN
    DELETE FROM blob_unused WHERE blob_id = ANY (v_blob_ids);
    DELETE FROM blob b
     WHERE blob_id = ANY (v_blob_ids)
       AND uses + coalesce((SELECT extra FROM blob_use u WHERE u.blob_id = b.blob_id), 0) <= 0;
    DELETE FROM blob_text t
     WHERE blob_id = ANY (v_blob_ids) AND NOT EXISTS (SELECT FROM blob b WHERE b.blob_id = t.blob_id);
    DELETE FROM blob_use u
     WHERE blob_id = ANY (v_blob_ids) AND NOT EXISTS (SELECT FROM blob b WHERE b.blob_id = u.blob_id);
    RETURN cardinality(v_blob_ids);
END $$;

-- Forgets changes and removals up to a modseq each and remembers that: see account_state.forgotten_modseq. At most
-- p_limit rows of each kind; returns whether nothing is left to forget.
CREATE FUNCTION mail_forget_tombstones(
    p_account_id bigint, p_removed_modseq bigint, p_changed_modseq bigint, p_limit integer)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_journal bigint;
    v_removed bigint;
BEGIN
    UPDATE account_state
       SET forgotten_modseq = greatest(forgotten_modseq, p_removed_modseq),
           unlogged_modseq = greatest(unlogged_modseq, p_changed_modseq, p_removed_modseq)
     WHERE account_id = p_account_id;
    DELETE FROM mailbox_change
     WHERE account_id = p_account_id
       AND (mailbox_id, modseq, is_vanished) IN (
           SELECT mailbox_id, modseq, is_vanished FROM mailbox_change
            WHERE account_id = p_account_id
              AND modseq <= CASE WHEN is_vanished THEN p_removed_modseq
                                 ELSE greatest(p_changed_modseq, p_removed_modseq) END
            LIMIT p_limit);
    GET DIAGNOSTICS v_journal = ROW_COUNT;
    DELETE FROM message_removed
     WHERE account_id = p_account_id
       AND message_id IN (SELECT message_id FROM message_removed
                           WHERE account_id = p_account_id AND modseq <= p_removed_modseq AND blob_id IS NULL
                           LIMIT p_limit);
    GET DIAGNOSTICS v_removed = ROW_COUNT;
    DELETE FROM mailbox_removed b
     WHERE account_id = p_account_id AND modseq <= p_removed_modseq AND is_emptied
       AND NOT EXISTS (SELECT FROM message_removed m
                        WHERE m.account_id = p_account_id AND m.mailbox_id = b.mailbox_id AND m.blob_id IS NOT NULL);
    RETURN v_journal < p_limit AND v_removed < p_limit;
END $$;

-- Counts the uses of blobs by up to p_limit messages of an account, from p_after on; NULL when there are no more.
CREATE FUNCTION mail_tally_blobs(p_account_id bigint, p_after bigint, p_limit integer) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_last bigint;
BEGIN
    SELECT max(message_id) INTO v_last
      FROM (SELECT message_id
              FROM (SELECT message_id FROM message WHERE account_id = p_account_id AND message_id > p_after
                     ORDER BY message_id LIMIT p_limit) AS there
            UNION ALL
            SELECT message_id
              FROM (SELECT message_id FROM message_removed WHERE account_id = p_account_id AND message_id > p_after
                     ORDER BY message_id LIMIT p_limit) AS gone
             ORDER BY message_id LIMIT p_limit) AS portion;
    INSERT INTO blob_tally (blob_id, uses)
    SELECT blob_id, count(*)
      FROM (SELECT blob_id FROM message
             WHERE account_id = p_account_id AND message_id > p_after AND message_id <= v_last
            UNION ALL
            SELECT blob_id FROM message_removed
             WHERE account_id = p_account_id AND message_id > p_after AND message_id <= v_last
               AND blob_id IS NOT NULL) AS used
     GROUP BY blob_id;
    RETURN v_last;
END $$;

-- ---- replacing ------------------------------------------------------------------------------------------

-- The old message of a REPLACE (RFC 8508). What appends the new one in the same transaction must not happen without this.
CREATE FUNCTION mail_expunge_one(p_account_id bigint, p_mailbox_id bigint, p_uid bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_modseq bigint;
BEGIN
    SELECT e.modseq INTO v_modseq
      FROM mail_expunge(p_account_id, p_mailbox_id, ARRAY[p_uid], ARRAY[p_uid], false, 1) AS e;
    IF v_modseq IS NULL THEN
        RAISE EXCEPTION 'the message was removed by somebody else' USING ERRCODE = 'MP001';
    END IF;
    RETURN v_modseq;
END $$;
