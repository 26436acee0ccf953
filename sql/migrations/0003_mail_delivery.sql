-- Filing messages: deliveries and APPEND, and the threads they join.

-- Files one message for one account; the blob's row is made by the caller in the same transaction and counts this use.
-- status: 0 delivered, 1 over quota, 2 no such mailbox, 3 no such account (mail/store/delivery.h). A refusal is an answer
-- and no error, so that other recipients of the same transaction get theirs. A mailbox that has given out its last UID
-- (32 bits: RFC 9051, 2.3.1.1) is full, too.
-- p_mailbox_id: -3 is the one with the use \Sent, -5 \Junk, and the inbox where there is none.
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
    IF p_mailbox_id < 0 THEN
        p_mailbox_id := coalesce((SELECT mailbox_id FROM mailbox
                                   WHERE account_id = p_account_id
                                     AND role = CASE p_mailbox_id WHEN -3 THEN 'sent' WHEN -5 THEN 'junk' END), 1);
    END IF;
    UPDATE account_state s
       SET modseq = s.modseq + 1, next_message_id = next_message_id + 1,
           bytes_used = bytes_used + p_size, message_count = message_count + 1
     WHERE account_id = p_account_id
       AND (p_quota_bytes < 0 OR coalesce(quota_bytes, p_quota_bytes) = 0
            OR bytes_used + p_size <= coalesce(quota_bytes, p_quota_bytes))
       AND (p_quota_messages < 0 OR coalesce(quota_messages, p_quota_messages) = 0
            OR message_count < coalesce(quota_messages, p_quota_messages))
       AND NOT EXISTS (SELECT FROM account WHERE account_id = p_account_id AND removed_at IS NOT NULL)
    RETURNING s.modseq, next_message_id - 1 INTO modseq, message_id;
    IF NOT FOUND THEN                   -- full, or it is gone: removed since somebody looked it up
        PERFORM mail_use_blobs(ARRAY[p_blob_id], -1);
        status := CASE WHEN EXISTS (SELECT FROM account_state WHERE account_id = p_account_id)
                        AND NOT EXISTS (SELECT FROM account WHERE account_id = p_account_id AND removed_at IS NOT NULL)
                       THEN 1 ELSE 3 END;
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

    SELECT min(t.thread_id) INTO v_thread_id
      FROM unnest(p_refs) AS u (ref)
     CROSS JOIN LATERAL (
            SELECT thread_id
              FROM thread_ref
             WHERE account_id = p_account_id AND ref = u.ref AND subject_hash = p_subject_hash OFFSET 0) AS t;
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
-- the same base subject, else a new one. A Message-ID stands for the thread that had it first: that of thread_ref, or of the
-- first message of the set. p_ref_of says whose reference each is, from 0 on; negative: nobody's.
CREATE FUNCTION mail_find_threads(
    p_account_id bigint, p_first_message_id bigint, p_count integer, p_ref_of integer[], p_refs bigint[],
    p_ref_subjects bigint[])
RETURNS bigint[] LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    v_threads bigint[] := ARRAY(SELECT p_first_message_id + g FROM generate_series(0, p_count - 1) AS g);
    v_found record;
BEGIN
    FOR v_found IN
        SELECT u.n, t.thread_id, min(u.n) OVER (PARTITION BY u.ref, u.subject) AS first_n
          FROM unnest(p_ref_of, p_refs, p_ref_subjects) AS u (n, ref, subject)
          LEFT JOIN LATERAL (
                SELECT thread_id
                  FROM thread_ref
                 WHERE account_id = p_account_id AND ref = u.ref AND subject_hash = u.subject OFFSET 0) AS t ON true
         WHERE u.n >= 0
         ORDER BY u.n
    LOOP
        v_threads[v_found.n + 1] := least(v_threads[v_found.n + 1],
                                          coalesce(v_found.thread_id, v_threads[v_found.first_n + 1]));
    END LOOP;
    INSERT INTO thread_ref (account_id, ref, subject_hash, thread_id)
    SELECT DISTINCT ON (u.ref, u.subject) p_account_id, u.ref, u.subject, v_threads[u.n + 1]
      FROM unnest(p_ref_of, p_refs, p_ref_subjects) AS u (n, ref, subject)
     WHERE u.n >= 0
     ORDER BY u.ref, u.subject, u.n
        ON CONFLICT DO NOTHING;
    RETURN v_threads;
END $$;
