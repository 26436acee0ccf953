-- What upkeep does behind everybody's back: the end of what was removed, blobs nobody uses, audits.

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
