-- The trace: what became of each message, kept for trace_retention and then dropped by the day.
--
-- trace_id and event_id hold their time: microseconds since 2020 (UTC), 11 bits of lane behind them (mail/store/trace.c).
-- Everything of a message lies in the partition of the day it came, whenever it happened.

-- A number for each run of a worker: two that have the same one would also have to make ids in the same microsecond.
CREATE SEQUENCE trace_lane AS integer MINVALUE 0 MAXVALUE 2047 CYCLE;

CREATE TABLE trace_message (
    trace_id        bigint   NOT NULL,
    account_id      bigint   NOT NULL,                -- who submitted it; 0: nobody logged in
    size            bigint   NOT NULL,
    recipient_count integer  NOT NULL,
    direction       smallint NOT NULL,                -- enum trace_direction of mail/store/trace.h
    sender          text     COLLATE "C" NOT NULL,    -- "domain local", lower case, so that a domain is a range; '': null path
    message_id      text     COLLATE "C" NOT NULL,
    subject         text     COLLATE "C" NOT NULL,
    recipients      text     COLLATE "C" NOT NULL,    -- the first few, for showing; they are searched in trace_event
    client_ip       text     COLLATE "C" NOT NULL,
    client_name     text     COLLATE "C" NOT NULL,
    helo            text     COLLATE "C" NOT NULL,
    protocol        text     COLLATE "C" NOT NULL,
    tls             text     COLLATE "C" NOT NULL,
    PRIMARY KEY (trace_id)
) PARTITION BY RANGE (trace_id);
CREATE INDEX trace_message_sender ON trace_message (sender, trace_id);
CREATE INDEX trace_message_message_id ON trace_message (message_id, trace_id) WHERE message_id <> '';
CREATE INDEX trace_message_account ON trace_message (account_id, trace_id) WHERE account_id <> 0;
COMMENT ON TABLE trace_message IS 'host: what is known of a message when it comes';

CREATE TABLE trace_event (
    trace_id   bigint   NOT NULL,
    event_id   bigint   NOT NULL,
    account_id bigint   NOT NULL,                     -- whose mailbox; 0: none of ours
    kind       smallint NOT NULL,                     -- enum trace_kind of mail/store/trace.h
    recipient  text     COLLATE "C" NOT NULL,         -- as sender above; '': concerns the whole message
    text       text     COLLATE "C" NOT NULL,
    PRIMARY KEY (trace_id, event_id)
) PARTITION BY RANGE (trace_id);
CREATE INDEX trace_event_recipient ON trace_event (recipient, trace_id) WHERE recipient <> '';
CREATE INDEX trace_event_account ON trace_event (account_id, trace_id) WHERE account_id <> 0;
COMMENT ON TABLE trace_event IS 'host: what happened to a message, line by line';

-- What belongs to no day that has a partition yet waits here.
CREATE TABLE trace_message_stray PARTITION OF trace_message DEFAULT;
CREATE TABLE trace_event_stray PARTITION OF trace_event DEFAULT;
COMMENT ON TABLE trace_message_stray IS 'host: trace_message, days without a partition';
COMMENT ON TABLE trace_event_stray IS 'host: trace_event, days without a partition';

CREATE FUNCTION trace_day_floor(p_day date) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
SELECT (p_day - date '2020-01-01')::bigint * 86400000000 << 11
$$;

CREATE FUNCTION trace_make_partition(p_table text, p_day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_name text := p_table || '_' || to_char(p_day, 'YYYYMMDD');
    v_from bigint := trace_day_floor(p_day);
    v_to bigint := trace_day_floor(p_day + 1);
BEGIN
    IF to_regclass(v_name) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I)', v_name, p_table);
    EXECUTE format('WITH moved AS (DELETE FROM %I WHERE trace_id >= $1 AND trace_id < $2 RETURNING *) '
                   'INSERT INTO %I SELECT * FROM moved', p_table || '_stray', v_name) USING v_from, v_to;
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', p_table, v_name, v_from, v_to);
    EXECUTE format('COMMENT ON TABLE %I IS %L', v_name, 'host: ' || p_table || ' of one day');
END $$;

-- Partitions for today and the week ahead; those of days that ended before p_before go. It waits for no long reader:
-- false when one was in the way, and the next round tries again.
CREATE FUNCTION trace_keep_partitions(p_before timestamptz) RETURNS boolean
LANGUAGE plpgsql SET lock_timeout = '2s' SET timezone = 'UTC' AS $$
DECLARE
    v_table text;
    v_old text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('trace_keep_partitions'));
    FOREACH v_table IN ARRAY ARRAY['trace_message', 'trace_event'] LOOP
        FOR i IN -1..7 LOOP
            PERFORM trace_make_partition(v_table, current_date + i);
        END LOOP;
        FOR v_old IN
            SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid
             WHERE inhparent = v_table::regclass AND relname ~ '_[0-9]{8}$'
               AND to_date(right(relname, 8), 'YYYYMMDD') < p_before::date
        LOOP
            EXECUTE format('DROP TABLE %I', v_old);
        END LOOP;
        EXECUTE format('DELETE FROM %I WHERE trace_id < $1', v_table || '_stray') USING trace_day_floor(p_before::date);
    END LOOP;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END $$;
SELECT trace_keep_partitions(now() - interval '1 day');
INSERT INTO store_upkeep (task) VALUES ('trace');

-- The newest p_limit messages of a range that fit what is asked for; '' and 0 ask for nothing. A sender or recipient that
-- ends in a blank is a whole domain. Planned for what was asked, so that each question finds its index.
CREATE FUNCTION trace_search(
    p_from bigint, p_to bigint, p_sender text, p_recipient text, p_subject text[], p_message_id text, p_account_id bigint,
    p_limit integer)
RETURNS SETOF trace_message LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_sql text := 'SELECT * FROM trace_message WHERE trace_id >= $1 AND trace_id < $2';
BEGIN
    IF right(p_sender, 1) = ' ' THEN
        v_sql := v_sql || ' AND sender >= $3 AND sender < rtrim($3) || ''!''';
    ELSIF p_sender <> '' THEN
        v_sql := v_sql || ' AND sender = $3';
    END IF;
    IF p_recipient <> '' THEN
        v_sql := v_sql || ' AND trace_id IN (SELECT trace_id FROM trace_event WHERE trace_id >= $1 AND trace_id < $2 AND recipient <> '''' AND '
            || CASE WHEN right(p_recipient, 1) = ' ' THEN 'recipient >= $4 AND recipient < rtrim($4) || ''!'')'
                    ELSE 'recipient = $4)' END;
    END IF;
    IF p_message_id <> '' THEN
        v_sql := v_sql || ' AND message_id = $6 AND message_id <> ''''';
    END IF;
    IF p_account_id <> 0 THEN
        v_sql := v_sql || ' AND trace_id IN (SELECT trace_id FROM trace_message WHERE account_id = $7 AND account_id <> 0'
            || ' AND trace_id >= $1 AND trace_id < $2 UNION ALL SELECT trace_id FROM trace_event WHERE account_id = $7'
            || ' AND account_id <> 0 AND trace_id >= $1 AND trace_id < $2)';
    END IF;
    IF p_subject <> '{}' THEN
        v_sql := v_sql || ' AND subject ILIKE ALL ($5)';
    END IF;
    RETURN QUERY EXECUTE v_sql || ' ORDER BY trace_id DESC LIMIT $8'
        USING p_from, p_to, p_sender, p_recipient, p_subject, p_message_id, p_account_id, p_limit;
END $$;
