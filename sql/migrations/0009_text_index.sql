-- The text of messages and the index of its trigrams (mail/store/text_index.h).
--
-- Written by the indexer, after deliveries and apart from them: nothing here is needed to read mail, and all of it can be
-- made again. So these functions do not lock account_state; an account's index has a row and a lock of its own.

-- Without a row, a message's text is decoded from its blob.
CREATE TABLE blob_text (
    blob_id bigint PRIMARY KEY,
    data    bytea  NOT NULL                           -- packed by mail/store/kept_text.h
) WITH (toast_tuple_target = 8160);                   -- most texts stay in their row: they are read by thousands
ALTER TABLE blob_text ALTER COLUMN data SET STORAGE EXTERNAL;
COMMENT ON TABLE blob_text IS 'host: decoded text of raw messages; goes with its blob';

CREATE TABLE text_state (
    account_id         bigint      PRIMARY KEY REFERENCES account_state,
    indexed_message_id bigint      NOT NULL DEFAULT 0,  -- every message up to here is in a segment
    next_segment_id    bigint      NOT NULL DEFAULT 1,
    claim              bigint      NOT NULL DEFAULT 0,  -- drawn by the worker that is at it
    claimed_until      timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);
COMMENT ON TABLE text_state IS 'account: how far the text index is';

CREATE TABLE text_segment (
    account_id       bigint   NOT NULL REFERENCES text_state,
    segment_id       bigint   NOT NULL,
    level            smallint NOT NULL,
    bits             smallint NOT NULL,               -- there are 2^bits buckets
    first_message_id bigint   NOT NULL,
    last_message_id  bigint   NOT NULL,
    message_count    integer  NOT NULL,
    bytes            bigint   NOT NULL,               -- of all buckets
    messages         bytea    NOT NULL,
    PRIMARY KEY (account_id, segment_id)
);
ALTER TABLE text_segment ALTER COLUMN messages SET STORAGE EXTERNAL;
ALTER TABLE text_segment ALTER account_id SET STATISTICS 0;
COMMENT ON TABLE text_segment IS 'account: pieces of the text index (mail/store/text_segment.h)';

CREATE TABLE text_bucket (
    account_id bigint  NOT NULL,
    segment_id bigint  NOT NULL,
    bucket     integer NOT NULL,
    data       bytea   NOT NULL,
    PRIMARY KEY (account_id, segment_id, bucket)
);
ALTER TABLE text_bucket ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE text_bucket ALTER account_id SET STATISTICS 0;
COMMENT ON TABLE text_bucket IS 'account: postings of the text index';

-- One worker of all hosts gets the account for p_seconds, and again as long as it asks in time. No row: another one has it.
CREATE FUNCTION text_claim(
    p_account_id bigint, p_claim bigint, p_seconds integer, OUT indexed_message_id bigint, OUT last_message_id bigint)
RETURNS SETOF record LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO text_state (account_id) SELECT account_id FROM account_state WHERE account_id = p_account_id
        ON CONFLICT DO NOTHING;
    RETURN QUERY
    UPDATE text_state t SET claim = p_claim, claimed_until = now() + p_seconds * interval '1 second'
      FROM account_state s
     WHERE t.account_id = p_account_id AND s.account_id = p_account_id AND (claim = p_claim OR claimed_until < now())
    RETURNING t.indexed_message_id, s.next_message_id - 1;
END $$;

-- Locks the account's index for the rest of the transaction. Who lost the claim may not write any more.
CREATE FUNCTION text_hold(p_account_id bigint, p_claim bigint, p_seconds integer) RETURNS text_state
LANGUAGE plpgsql AS $$
DECLARE
    v_state text_state;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);   -- what a crash loses here is made again
    UPDATE text_state SET claimed_until = now() + p_seconds * interval '1 second'
     WHERE account_id = p_account_id AND claim = p_claim
    RETURNING * INTO v_state;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'another worker indexes this account' USING ERRCODE = 'MP005';
    END IF;
    RETURN v_state;
END $$;

CREATE FUNCTION text_put_buckets(p_account_id bigint, p_segment_id bigint, p_first integer, p_buckets bytea[]) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO text_bucket (account_id, segment_id, bucket, data)
    SELECT p_account_id, p_segment_id, p_first + nth - 1, data FROM unnest(p_buckets) WITH ORDINALITY AS b (data, nth);
$$;

-- What the messages from p_from (not included) to p_to say. p_count may be 0: they are all gone.
CREATE FUNCTION text_add_segment(
    p_account_id bigint, p_claim bigint, p_seconds integer, p_from bigint, p_to bigint, p_bits integer,
    p_first_message_id bigint, p_last_message_id bigint, p_count integer, p_messages bytea, p_buckets bytea[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_state text_state := text_hold(p_account_id, p_claim, p_seconds);
BEGIN
    IF v_state.indexed_message_id <> p_from THEN
        RAISE EXCEPTION 'these messages are indexed already' USING ERRCODE = 'MP005';
    END IF;
    UPDATE text_state
       SET indexed_message_id = p_to, next_segment_id = next_segment_id + CASE WHEN p_count > 0 THEN 1 ELSE 0 END
     WHERE account_id = p_account_id;
    IF p_count = 0 THEN
        RETURN;
    END IF;
    DELETE FROM text_bucket WHERE account_id = p_account_id AND segment_id >= v_state.next_segment_id;
    INSERT INTO text_segment (account_id, segment_id, level, bits, first_message_id, last_message_id, message_count, bytes,
                              messages)
    VALUES (p_account_id, v_state.next_segment_id, 0, p_bits, p_first_message_id, p_last_message_id, p_count,
            (SELECT sum(octet_length(b)) FROM unnest(p_buckets) AS b), p_messages);
    PERFORM text_put_buckets(p_account_id, v_state.next_segment_id, 0, p_buckets);
END $$;

-- A merge takes several transactions. Its buckets have the next segment's number and nobody reads them before the last
-- of these; what a dead worker left of its own merge is dropped first.
CREATE FUNCTION text_begin_merge(p_account_id bigint, p_claim bigint, p_seconds integer) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_state text_state := text_hold(p_account_id, p_claim, p_seconds);
BEGIN
    DELETE FROM text_bucket WHERE account_id = p_account_id AND segment_id >= v_state.next_segment_id;
    RETURN v_state.next_segment_id;
END $$;

CREATE FUNCTION text_continue_merge(
    p_account_id bigint, p_claim bigint, p_seconds integer, p_segment_id bigint, p_first integer, p_buckets bytea[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM text_hold(p_account_id, p_claim, p_seconds);
    PERFORM text_put_buckets(p_account_id, p_segment_id, p_first, p_buckets);
END $$;

CREATE FUNCTION text_end_merge(
    p_account_id bigint, p_claim bigint, p_seconds integer, p_segment_id bigint, p_merged bigint[], p_level integer,
    p_bits integer, p_first_message_id bigint, p_last_message_id bigint, p_count integer, p_bytes bigint, p_messages bytea)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_count integer;
BEGIN
    PERFORM text_hold(p_account_id, p_claim, p_seconds);
    UPDATE text_state SET next_segment_id = p_segment_id + 1 WHERE account_id = p_account_id;
    DELETE FROM text_segment WHERE account_id = p_account_id AND segment_id = ANY (p_merged);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF v_count <> cardinality(p_merged) THEN
        RAISE EXCEPTION 'the merged segments are gone' USING ERRCODE = 'MP005';
    END IF;
    DELETE FROM text_bucket WHERE account_id = p_account_id AND segment_id = ANY (p_merged);
    IF p_count > 0 THEN
        INSERT INTO text_segment (account_id, segment_id, level, bits, first_message_id, last_message_id, message_count,
                                  bytes, messages)
        VALUES (p_account_id, p_segment_id, p_level, p_bits, p_first_message_id, p_last_message_id, p_count, p_bytes,
                p_messages);
    END IF;
END $$;

-- A damaged index is made anew, from the kept texts. Numbers are not used again; who writes now loses its claim.
CREATE FUNCTION text_reset(p_account_id bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE text_state
       SET indexed_message_id = 0, next_segment_id = next_segment_id + 1, claim = 0, claimed_until = '-infinity'
     WHERE account_id = p_account_id;
    DELETE FROM text_segment WHERE account_id = p_account_id;
    DELETE FROM text_bucket WHERE account_id = p_account_id;
END $$;
