-- Changing messages: flags, copies, moves, removals.

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
