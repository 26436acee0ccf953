-- The outbound queue: mail that waits for other servers.
--
-- Accepting a message writes its rows and nothing else: no row is shared with another delivery, so that none waits for
-- another. Usually the worker that accepts it has claimed it with the same statement and delivers it at once from memory.
--
-- What waits is scheduled by next hop, not by recipient: queue_destination has one row for each hop that has something
-- waiting, and says when to look at it again. So a dead server with 50,000 messages costs a row now and then. Its next_at
-- must never be later than the earliest waiting recipient of that hop, unless the hop is blocked for longer. Who makes
-- recipients wait calls queue_note_due afterwards (in the same transaction, or right behind it): a claim holds the row of
-- the hop while it looks at recipients, so that what it did not see yet is noted after it. queue_sweep heals the rest.
--
-- A claim is the number of a worker; the worker's own row says until when it is alive, and is renewed once for all of
-- its claims. What frees the claims of dead workers is queue_release_claims.
--
-- Order of locks: account_state, queue_message, queue_recipient (by queue_id and number), queue_destination (by hop).
-- Claims never wait for a lock (SKIP LOCKED), so they may take the hop first.

-- Each value is a block of 1,000 ids for one worker.
CREATE SEQUENCE queue_id_block AS bigint INCREMENT 1000;

CREATE TABLE queue_message (
    queue_id          bigint      PRIMARY KEY,            -- from queue_id_block
    trace_id          bigint      NOT NULL,               -- 0: none
    account_id        bigint,                             -- who submitted it; NULL: nobody who had logged in
    blob_id           bigint      NOT NULL,               -- the queue counts as one use of it
    size              bigint      NOT NULL,               -- of what is sent
    created_at        timestamptz NOT NULL DEFAULT now(),
    check_at          timestamptz NOT NULL,               -- when to look whether it is late
    warn_at           timestamptz NOT NULL,               -- infinity: the sender was told that it is delayed
    expires_at        timestamptz NOT NULL,
    deliver_by        timestamptz,                        -- RFC 2852; NULL: whenever
    blob_offset       integer     NOT NULL,               -- leading bytes of the blob that are not sent
    recipient_count   integer     NOT NULL,               -- at first
    ret               smallint    NOT NULL,               -- RFC 3461, 4.3: 0 nothing was said, 1 FULL, 2 HDRS
    body              smallint    NOT NULL,               -- 0 nothing was said, 1 7BIT, 2 8BITMIME, 3 BINARYMIME
    priority          smallint    NOT NULL,               -- RFC 6710
    is_utf8           boolean     NOT NULL,
    requires_tls      boolean     NOT NULL,               -- RFC 8689
    deliver_by_notify boolean     NOT NULL,               -- late is not wrong
    sender            text        COLLATE "C" NOT NULL,   -- empty: the null path
    envid             text        NOT NULL,
    language          text        NOT NULL                -- of reports to the sender
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);
CREATE INDEX queue_message_check ON queue_message (check_at);
COMMENT ON TABLE queue_message IS 'host: messages that wait for other servers';

-- Nobody needs an index of the claims of one worker but who inherits them; a row is in one of the two indexes.
CREATE TABLE queue_recipient (
    queue_id      bigint      NOT NULL,
    recipient_no  integer     NOT NULL,                   -- from 1 on, in the order of RCPT
    claimed_by    bigint,                                 -- queue_worker; NULL: it waits
    next_at       timestamptz NOT NULL,                   -- infinity while held
    attempts      integer     NOT NULL DEFAULT 0,
    crashes       smallint    NOT NULL DEFAULT 0,         -- workers in a row that died with it in hand
    priority      smallint    NOT NULL,                   -- the message's
    notify        smallint    NOT NULL,                   -- RFC 3461, 4.1: bits 1 NEVER, 2 SUCCESS, 4 FAILURE, 8 DELAY
    last_code     smallint,                               -- of the last attempt
    last_at       timestamptz,
    hop           text        COLLATE "C" NOT NULL,       -- by which it is scheduled: destination, or the smarthost that leads there
    route         text        NOT NULL,                   -- of this recipient alone, "host:port"; "mx:": by MX; empty: what the settings say, or MX
    destination   text        COLLATE "C" NOT NULL,       -- domain in A-labels, or [address]
    address       text        COLLATE "C" NOT NULL,
    orcpt         text        NOT NULL,
    held          text,                                   -- why; NULL: it is not
    is_refused    boolean     NOT NULL DEFAULT false,     -- by an administrator: it ends as if it had expired
    last_enhanced text,
    last_text     text,
    last_host     text,
    PRIMARY KEY (queue_id, recipient_no)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000);
CREATE INDEX queue_recipient_due ON queue_recipient (hop, next_at) WHERE claimed_by IS NULL;
CREATE INDEX queue_recipient_urgent ON queue_recipient (hop, next_at) WHERE claimed_by IS NULL AND priority > 0;
CREATE INDEX queue_recipient_claimed ON queue_recipient (claimed_by) WHERE claimed_by IS NOT NULL;
COMMENT ON TABLE queue_recipient IS 'host: whom a queued message still has to reach';

CREATE TABLE queue_destination (
    hop           text        COLLATE "C" PRIMARY KEY,
    next_at       timestamptz NOT NULL,
    failures      integer     NOT NULL DEFAULT 0,         -- attempts in a row that found it unable to take anything
    blocked_until timestamptz NOT NULL DEFAULT '-infinity',
    last_error    text        NOT NULL DEFAULT ''
);
CREATE INDEX queue_destination_next ON queue_destination (next_at);
COMMENT ON TABLE queue_destination IS 'host: hops for which something waits, and when to try';

CREATE TABLE queue_worker (
    worker_id   bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host        bigint      NOT NULL,                     -- a data directory's own number
    slot        integer     NOT NULL,                     -- the worker's place on that host
    alive_until timestamptz NOT NULL
);
COMMENT ON TABLE queue_worker IS 'host: who may hold claims, and until when';

CREATE FUNCTION queue_ms(p_ms bigint) RETURNS interval LANGUAGE sql IMMUTABLE AS $$
    SELECT p_ms * interval '1 millisecond';
$$;

-- Something waits for these hops from then on.
CREATE FUNCTION queue_note_due(p_hops text[], p_next timestamptz[]) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO queue_destination AS d (hop, next_at)
    SELECT hop, min(next_at) FROM unnest(p_hops, p_next) AS u (hop, next_at)
     WHERE next_at < 'infinity' GROUP BY hop ORDER BY hop
        ON CONFLICT (hop)
        DO UPDATE SET next_at = greatest(excluded.next_at, d.blocked_until)
            WHERE d.next_at > greatest(excluded.next_at, d.blocked_until);
$$;

-- Ends the use of blobs. One that was never in a mailbox goes at once; waiting for its collection is for those that
-- somebody may be reading.
CREATE FUNCTION queue_release_blobs(p_blob_ids bigint[]) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_seqscan = off AS $$
DECLARE
    v_rest bigint[];
BEGIN
    WITH gone AS (
        DELETE FROM blob b
         WHERE blob_id = ANY (p_blob_ids) AND uses = 1
           AND NOT EXISTS (SELECT FROM blob_use u WHERE u.blob_id = b.blob_id)
        RETURNING blob_id)
    SELECT array_agg(id) INTO v_rest FROM unnest(p_blob_ids) AS id WHERE id NOT IN (SELECT blob_id FROM gone);
    IF v_rest IS NOT NULL THEN
        PERFORM mail_use_blobs(v_rest, -1);
    END IF;
END $$;

-- Recipients that are done with, however; p_worker NULL: whoever claimed them. With p_must all of them must be there and
-- be p_worker's, or nothing happens: what reports their end must not be sent twice. Returns how many were there.
CREATE FUNCTION queue_remove(p_worker bigint, p_queue_ids bigint[], p_nos integer[], p_must boolean) RETURNS integer
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_seqscan = off AS $$
DECLARE
    v_count integer;
    v_blob_ids bigint[];
BEGIN
    -- Two workers that take away the last two recipients must not both see the other's.
    PERFORM FROM queue_message WHERE queue_id = ANY (p_queue_ids) AND recipient_count > 1 ORDER BY queue_id FOR UPDATE;
    DELETE FROM queue_recipient r
     USING (SELECT queue_id, no FROM unnest(p_queue_ids, p_nos) AS u (queue_id, no)) AS u
     WHERE r.queue_id = u.queue_id AND r.recipient_no = u.no AND (p_worker IS NULL OR r.claimed_by = p_worker);
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF p_must AND v_count <> cardinality(p_queue_ids) THEN
        RAISE EXCEPTION 'recipients are gone' USING ERRCODE = 'MP001';
    END IF;
    WITH gone AS (
        DELETE FROM queue_message m
         WHERE queue_id = ANY (p_queue_ids)
           AND NOT EXISTS (SELECT FROM queue_recipient r WHERE r.queue_id = m.queue_id)
        RETURNING blob_id)
    SELECT array_agg(blob_id) INTO v_blob_ids FROM gone;
    IF v_blob_ids IS NOT NULL THEN
        PERFORM queue_release_blobs(v_blob_ids);
    END IF;
    RETURN v_count;
END $$;

-- Claimed recipients wait again: p_delays_ms from now on. p_codes: negative for those that were not tried at all.
CREATE FUNCTION queue_defer(
    p_worker bigint, p_queue_ids bigint[], p_nos integer[], p_delays_ms bigint[], p_codes integer[], p_enhanced text[],
    p_texts text[], p_hosts text[])
RETURNS void LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_hashjoin = off
SET enable_mergejoin = off SET enable_seqscan = off AS $$
DECLARE
    v_hops text[];
    v_next timestamptz[];
BEGIN
    PERFORM FROM queue_recipient r JOIN unnest(p_queue_ids, p_nos) AS u (queue_id, no)
              ON r.queue_id = u.queue_id AND r.recipient_no = u.no
      ORDER BY r.queue_id, r.recipient_no FOR UPDATE OF r;
    WITH put_off AS (
        UPDATE queue_recipient r
           SET claimed_by = NULL, attempts = attempts + (u.code >= 0)::integer,
               crashes = CASE WHEN u.code >= 0 THEN 0 ELSE crashes END,
               next_at = CASE WHEN held IS NULL THEN now() + queue_ms(u.delay_ms) ELSE 'infinity' END,
               last_code = CASE WHEN u.code >= 0 THEN u.code ELSE last_code END,
               last_at = CASE WHEN u.code >= 0 THEN now() ELSE last_at END,
               last_enhanced = CASE WHEN u.code >= 0 THEN u.enhanced ELSE last_enhanced END,
               last_text = CASE WHEN u.code >= 0 THEN u.answer ELSE last_text END,
               last_host = CASE WHEN u.code >= 0 THEN u.host ELSE last_host END
          FROM unnest(p_queue_ids, p_nos, p_delays_ms, p_codes, p_enhanced, p_texts, p_hosts)
               AS u (queue_id, no, delay_ms, code, enhanced, answer, host)
         WHERE r.queue_id = u.queue_id AND r.recipient_no = u.no AND r.claimed_by = p_worker
        RETURNING r.hop, r.next_at)
    SELECT array_agg(hop), array_agg(next_at) INTO v_hops, v_next FROM put_off;
    PERFORM queue_note_due(v_hops, v_next);
END $$;

-- Nothing of these hops can be delivered now. How long to wait after the n-th time in a row is p_delays_ms[n], or its last.
-- Further reports of one and the same failure count once. Answers what holds now.
CREATE FUNCTION queue_block(p_hops text[], p_errors text[], p_delays_ms bigint[])
RETURNS TABLE (hop text, failures integer, blocked_ms bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO queue_destination AS d (hop, next_at, failures, blocked_until, last_error)
    SELECT u.hop, now() + queue_ms(p_delays_ms[1]), 1, now() + queue_ms(p_delays_ms[1]), min(u.error)
      FROM unnest(p_hops, p_errors) AS u (hop, error) GROUP BY u.hop ORDER BY u.hop
        ON CONFLICT (hop)
        DO UPDATE SET failures = d.failures + 1, last_error = excluded.last_error,
            blocked_until = now() + queue_ms(p_delays_ms[least(d.failures + 1, cardinality(p_delays_ms))]),
            next_at = now() + queue_ms(p_delays_ms[least(d.failures + 1, cardinality(p_delays_ms))])
            WHERE d.blocked_until <= now();
    RETURN QUERY
    SELECT d.hop, d.failures, (extract(epoch FROM d.blocked_until - now()) * 1000)::bigint
      FROM queue_destination d WHERE d.hop = ANY (p_hops);
END $$;

-- They take mail again: whatever waits for them is due.
CREATE FUNCTION queue_unblock(p_hops text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM queue_destination WHERE hop = ANY (p_hops) ORDER BY hop FOR UPDATE;
    UPDATE queue_destination SET failures = 0, blocked_until = '-infinity', next_at = now(), last_error = ''
     WHERE hop = ANY (p_hops) AND failures > 0;
END $$;

-- A recipient with all that is known of its message and its hop.
CREATE VIEW queue_entry AS
    SELECT m.queue_id, r.recipient_no, m.trace_id, m.account_id, m.blob_id, m.size, m.created_at, m.warn_at, m.expires_at,
           m.deliver_by, m.blob_offset, m.ret, m.body, m.priority, m.is_utf8, m.requires_tls, m.deliver_by_notify, m.sender,
           m.envid, m.language, r.claimed_by, r.attempts, r.next_at, r.notify, r.last_code, r.last_at, r.hop,
           r.route, r.destination, r.address, r.orcpt, r.held, r.last_enhanced, r.last_text, r.last_host,
           m.expires_at <= now() OR r.is_refused AS is_over, r.is_refused, d.failures, d.blocked_until, d.last_error
      FROM queue_message m
      JOIN queue_recipient r ON r.queue_id = m.queue_id
      LEFT JOIN queue_destination d ON d.hop = r.hop;

-- The next due recipients: up to p_recipients of up to p_hops hops, none of p_skip, at most p_window of one of p_proven and
-- p_window_new of any other (0: only of p_proven), so that servers that may be dead do not fill the worker; the urgent before
-- the others (RFC 6710). Of a hop that failed last time one is taken, and nobody takes another until it is known what became of
-- it, or p_probe_ms have passed.
CREATE FUNCTION queue_claim(
    p_worker bigint, p_hops integer, p_recipients integer, p_window integer, p_window_new integer, p_probe_ms bigint, p_skip text[],
    p_proven text[])
RETURNS SETOF queue_entry LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_hashjoin = off
SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_hop record;
    v_left integer := p_recipients;
    v_most integer;
    v_taken integer;
    v_next timestamptz;
BEGIN
    FOR v_hop IN
        SELECT d.hop, d.failures FROM queue_destination d
         WHERE d.next_at <= now() AND d.hop <> ALL (p_skip) AND (p_window_new > 0 OR d.hop = ANY (p_proven))
         ORDER BY d.next_at LIMIT p_hops FOR UPDATE SKIP LOCKED
    LOOP
        EXIT WHEN v_left <= 0;
        v_most := CASE WHEN v_hop.failures > 0 THEN 1
                       WHEN v_hop.hop = ANY (p_proven) THEN least(p_window, v_left)
                       ELSE least(p_window_new, v_left) END;
        RETURN QUERY
        WITH urgent AS MATERIALIZED (
            SELECT q.queue_id, q.recipient_no FROM queue_recipient q
             WHERE q.hop = v_hop.hop AND q.claimed_by IS NULL AND q.priority > 0 AND q.next_at <= now()
             ORDER BY q.priority DESC, q.next_at LIMIT v_most FOR UPDATE SKIP LOCKED),
        other AS MATERIALIZED (
            SELECT q.queue_id, q.recipient_no FROM queue_recipient q
             WHERE q.hop = v_hop.hop AND q.claimed_by IS NULL AND q.priority <= 0 AND q.next_at <= now()
             ORDER BY q.next_at LIMIT v_most - (SELECT count(*) FROM urgent) FOR UPDATE SKIP LOCKED),
        taken AS (
            UPDATE queue_recipient r SET claimed_by = p_worker
              FROM (SELECT * FROM urgent UNION ALL SELECT * FROM other) AS due
             WHERE r.queue_id = due.queue_id AND r.recipient_no = due.recipient_no
            RETURNING r.queue_id, r.recipient_no)
        SELECT e.* FROM taken t JOIN queue_entry e ON e.queue_id = t.queue_id AND e.recipient_no = t.recipient_no
         ORDER BY e.priority DESC, e.queue_id, e.recipient_no;
        GET DIAGNOSTICS v_taken = ROW_COUNT;
        v_left := v_left - v_taken;
        SELECT q.next_at INTO v_next FROM queue_recipient q
         WHERE q.hop = v_hop.hop AND q.claimed_by IS NULL AND q.next_at < 'infinity' ORDER BY q.next_at LIMIT 1;
        IF v_taken > 0 AND v_hop.failures > 0 THEN
            v_next := now() + queue_ms(p_probe_ms);
        END IF;
        IF v_next IS NULL THEN
            DELETE FROM queue_destination d WHERE d.hop = v_hop.hop;
        ELSE
            UPDATE queue_destination d SET next_at = greatest(v_next, now()) WHERE d.hop = v_hop.hop;
        END IF;
    END LOOP;
END $$;

-- Messages that are late: of those that expired all waiting recipients, claimed; of others all waiting recipients,
-- unclaimed, for the warning. Recipients in delivery now are looked at again later, held ones when they are released.
CREATE FUNCTION queue_claim_late(p_worker bigint, p_limit integer, p_again_ms bigint)
RETURNS SETOF queue_entry LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_hashjoin = off
SET enable_mergejoin = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
    v_late bigint[] := ARRAY(SELECT queue_id FROM queue_message WHERE check_at <= now()
                              ORDER BY check_at LIMIT p_limit FOR UPDATE SKIP LOCKED);
BEGIN
    UPDATE queue_message m
       SET check_at = CASE WHEN EXISTS (SELECT FROM queue_recipient r WHERE r.queue_id = m.queue_id AND r.held IS NULL)
                           THEN now() + queue_ms(p_again_ms) ELSE 'infinity' END
     WHERE m.queue_id = ANY (v_late);
    RETURN QUERY
    WITH taken AS (
        UPDATE queue_recipient r SET claimed_by = p_worker
          FROM queue_message m
         WHERE m.queue_id = ANY (v_late) AND (m.expires_at <= now() OR r.is_refused) AND r.queue_id = m.queue_id
           AND r.claimed_by IS NULL AND r.held IS NULL
        RETURNING r.queue_id, r.recipient_no)
    SELECT e.* FROM taken t JOIN queue_entry e ON e.queue_id = t.queue_id AND e.recipient_no = t.recipient_no
     ORDER BY e.queue_id, e.recipient_no;
    RETURN QUERY
    SELECT e.* FROM queue_entry e
     WHERE e.queue_id = ANY (v_late) AND NOT e.is_over AND e.warn_at <= now() AND e.held IS NULL
     ORDER BY e.queue_id, e.recipient_no;
END $$;

-- How long to wait after the n-th worker in a row that died with a message in hand. One may be killed for any reason: at
-- once again. From the second on 2 s, 8 s, 32 s, up to an hour, and for each message somewhat more or less, so that the one
-- that is to blame comes back apart from those that only stood beside it.
CREATE FUNCTION queue_crash_pause(p_crashes integer, p_queue_id bigint) RETURNS interval LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_crashes < 2 THEN interval '0'
                ELSE queue_ms(least(2000 * 4 ^ least(p_crashes - 2, 10), 3600000)::bigint)
                     * (0.5 + abs(hashint8(p_queue_id * 31 + p_crashes)::bigint % 1000) / 1000.0) END;
$$;

-- Gives back what workers held: of dead ones with a pause when it was not the first (p_is_crash). Returns how many recipients.
CREATE FUNCTION queue_release_claims(p_workers bigint[], p_is_crash boolean) RETURNS integer
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_seqscan = off AS $$
DECLARE
    v_hops text[];
    v_next timestamptz[];
BEGIN
    PERFORM FROM queue_recipient WHERE claimed_by = ANY (p_workers) ORDER BY queue_id, recipient_no FOR UPDATE;
    IF p_is_crash THEN
        UPDATE queue_recipient
           SET crashes = least(crashes + 1, 1000),
               next_at = greatest(next_at, now() + queue_crash_pause(crashes + 1, queue_id)),
               last_at = CASE WHEN crashes > 0 THEN now() ELSE last_at END,
               last_code = CASE WHEN crashes > 0 THEN 0 ELSE last_code END,
               last_enhanced = CASE WHEN crashes > 0 THEN '4.3.0' ELSE last_enhanced END,
               last_host = CASE WHEN crashes > 0 THEN '' ELSE last_host END,
               last_text = CASE WHEN crashes > 0 THEN format('the delivering process ended %s times while it had this message', crashes + 1)
                                ELSE last_text END
         WHERE claimed_by = ANY (p_workers);
    END IF;
    WITH released AS (
        UPDATE queue_recipient SET claimed_by = NULL WHERE claimed_by = ANY (p_workers) RETURNING hop, next_at)
    SELECT array_agg(hop), array_agg(next_at) INTO v_hops, v_next FROM released;
    PERFORM queue_note_due(v_hops, v_next);
    RETURN coalesce(cardinality(v_hops), 0);
END $$;

-- A worker begins. Who had its place on its host is dead.
CREATE FUNCTION queue_worker_begin(p_host bigint, p_slot integer, p_lease_ms bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_dead bigint[];
    v_worker bigint;
BEGIN
    WITH gone AS (DELETE FROM queue_worker WHERE host = p_host AND slot = p_slot RETURNING worker_id)
    SELECT array_agg(worker_id) INTO v_dead FROM gone;
    IF v_dead IS NOT NULL THEN
        PERFORM queue_release_claims(v_dead, true);
    END IF;
    INSERT INTO queue_worker (host, slot, alive_until) VALUES (p_host, p_slot, now() + queue_ms(p_lease_ms))
    RETURNING worker_id INTO v_worker;
    RETURN v_worker;
END $$;

-- What a crash left: claims of workers whose time is over or who are unknown, hops that nobody would look at in time.
-- Both are found by skipping through an index. Returns how many of each.
CREATE FUNCTION queue_sweep(OUT claims integer, OUT hops integer)
LANGUAGE plpgsql SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    v_dead bigint[];
    v_hops text[];
    v_next timestamptz[];
BEGIN
    DELETE FROM queue_worker WHERE alive_until < now();
    WITH RECURSIVE claimer (worker_id) AS (
        (SELECT claimed_by FROM queue_recipient WHERE claimed_by IS NOT NULL ORDER BY claimed_by LIMIT 1)
        UNION ALL
        SELECT (SELECT claimed_by FROM queue_recipient WHERE claimed_by IS NOT NULL AND claimed_by > c.worker_id
                 ORDER BY claimed_by LIMIT 1)
          FROM claimer c WHERE c.worker_id IS NOT NULL)
    SELECT array_agg(worker_id) INTO v_dead FROM claimer c
     WHERE worker_id IS NOT NULL AND NOT EXISTS (SELECT FROM queue_worker w WHERE w.worker_id = c.worker_id);
    claims := CASE WHEN v_dead IS NULL THEN 0 ELSE queue_release_claims(v_dead, true) END;

    WITH RECURSIVE waiting (hop, next_at) AS (
        (SELECT hop, next_at FROM queue_recipient WHERE claimed_by IS NULL ORDER BY hop, next_at LIMIT 1)
        UNION ALL
        SELECT n.hop, n.next_at FROM waiting w
         CROSS JOIN LATERAL (SELECT r.hop, r.next_at FROM queue_recipient r
                              WHERE r.claimed_by IS NULL AND r.hop > w.hop ORDER BY r.hop, r.next_at LIMIT 1) AS n)
    SELECT array_agg(w.hop), array_agg(w.next_at) INTO v_hops, v_next
      FROM waiting w
     WHERE w.next_at < 'infinity'
       AND NOT EXISTS (SELECT FROM queue_destination d
                        WHERE d.hop = w.hop
                          AND (d.failures > 0 OR d.next_at <= greatest(w.next_at, d.blocked_until)));
    PERFORM queue_note_due(v_hops, v_next);
    hops := coalesce(cardinality(v_hops), 0);
END $$;

-- The sender was told of the delay: not again.
CREATE FUNCTION queue_warned(p_queue_id bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE queue_message SET warn_at = 'infinity', check_at = expires_at WHERE queue_id = p_queue_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the message is gone' USING ERRCODE = 'MP001';
    END IF;
END $$;

-- ---- administration ---------------------------------------------------------------------------
-- A filter is six values, NULL: any. A pattern "*@domain" means all addresses of that domain.

CREATE FUNCTION queue_matches(p_address text, p_pattern text) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN left(p_pattern, 2) = '*@' THEN lower(p_address) LIKE '%' || replace(replace(lower(substr(p_pattern, 2)), '%', '\%'), '_', '\_')
                ELSE lower(p_address) = lower(p_pattern) END;
$$;

-- Tells the workers at commit that something is due (OUTBOUND_TOPIC in mail/store/outbound.h).
CREATE FUNCTION queue_tell() RETURNS void LANGUAGE sql AS $$
    SELECT pg_notify('merpati_changes', 'queue:' || 487300887909::text)
$$;

-- The recipients of a filter, locked in the order that everybody takes.
CREATE FUNCTION queue_select(
    p_queue_id bigint, p_account_id bigint, p_sender text, p_recipient text, p_destination text, p_is_held boolean)
RETURNS TABLE (queue_id bigint, recipient_no integer) LANGUAGE sql AS $$
    SELECT r.queue_id, r.recipient_no
      FROM queue_recipient r JOIN queue_message m ON m.queue_id = r.queue_id
     WHERE (p_queue_id IS NULL OR r.queue_id = p_queue_id) AND (p_account_id IS NULL OR m.account_id = p_account_id)
       AND (p_sender IS NULL OR queue_matches(m.sender, p_sender))
       AND (p_recipient IS NULL OR queue_matches(r.address, p_recipient))
       AND (p_destination IS NULL OR p_destination IN (r.destination, r.hop))
       AND (p_is_held IS NOT TRUE OR r.held IS NOT NULL)
     ORDER BY r.queue_id, r.recipient_no
       FOR UPDATE OF r;
$$;

CREATE FUNCTION queue_hold(
    p_queue_id bigint, p_account_id bigint, p_sender text, p_recipient text, p_destination text, p_is_held boolean,
    p_reason text)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_count integer;
BEGIN
    UPDATE queue_recipient r SET held = p_reason, next_at = 'infinity'
      FROM queue_select(p_queue_id, p_account_id, p_sender, p_recipient, p_destination, p_is_held) AS s
     WHERE r.queue_id = s.queue_id AND r.recipient_no = s.recipient_no AND r.held IS NULL;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END $$;

-- p_lifetime_ms: what it gets at least, from now on.
CREATE FUNCTION queue_release(
    p_queue_id bigint, p_account_id bigint, p_sender text, p_recipient text, p_destination text, p_is_held boolean,
    p_lifetime_ms bigint)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_ids bigint[];
    v_hops text[];
    v_next timestamptz[];
BEGIN
    WITH released AS (
        UPDATE queue_recipient r SET held = NULL, next_at = now()
          FROM queue_select(p_queue_id, p_account_id, p_sender, p_recipient, p_destination, p_is_held) AS s
         WHERE r.queue_id = s.queue_id AND r.recipient_no = s.recipient_no AND (r.held IS NOT NULL OR r.next_at > now())
        RETURNING r.queue_id, r.hop, r.next_at)
    SELECT array_agg(queue_id), array_agg(hop), array_agg(next_at) INTO v_ids, v_hops, v_next FROM released;
    UPDATE queue_message m
       SET expires_at = greatest(expires_at, now() + queue_ms(p_lifetime_ms)),
           check_at = least(warn_at, greatest(expires_at, now() + queue_ms(p_lifetime_ms)))
     WHERE m.queue_id = ANY (v_ids);
    PERFORM queue_note_due(v_hops, v_next), queue_tell();
    RETURN coalesce(cardinality(v_ids), 0);
END $$;

CREATE FUNCTION queue_retry(
    p_queue_id bigint, p_account_id bigint, p_sender text, p_recipient text, p_destination text, p_is_held boolean)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_hops text[];
    v_next timestamptz[];
BEGIN
    WITH due AS (
        UPDATE queue_recipient r SET next_at = now()
          FROM queue_select(p_queue_id, p_account_id, p_sender, p_recipient, p_destination, p_is_held) AS s
         WHERE r.queue_id = s.queue_id AND r.recipient_no = s.recipient_no AND r.held IS NULL
        RETURNING r.hop, r.next_at)
    SELECT array_agg(hop), array_agg(next_at) INTO v_hops, v_next FROM due;
    PERFORM FROM queue_destination WHERE hop = ANY (v_hops) ORDER BY hop FOR UPDATE;
    UPDATE queue_destination SET blocked_until = '-infinity', next_at = now() WHERE hop = ANY (v_hops);
    PERFORM queue_note_due(v_hops, v_next), queue_tell();
    RETURN coalesce(cardinality(v_hops), 0);
END $$;

-- p_route empty: as the settings say, "mx:": by the domain's own hosts. What goes to accounts of ours stays.
CREATE FUNCTION queue_reroute(
    p_queue_id bigint, p_account_id bigint, p_sender text, p_recipient text, p_destination text, p_is_held boolean,
    p_route text)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_hops text[];
    v_next timestamptz[];
BEGIN
    WITH moved AS (
        UPDATE queue_recipient r
           SET route = p_route, hop = CASE WHEN p_route IN ('', 'mx:') THEN r.destination ELSE p_route END,
               next_at = CASE WHEN r.held IS NULL THEN now() ELSE 'infinity' END
          FROM queue_select(p_queue_id, p_account_id, p_sender, p_recipient, p_destination, p_is_held) AS s
         WHERE r.queue_id = s.queue_id AND r.recipient_no = s.recipient_no AND r.route <> 'here:'
        RETURNING r.hop, r.next_at)
    SELECT array_agg(hop), array_agg(next_at) INTO v_hops, v_next FROM moved;
    PERFORM queue_note_due(v_hops, v_next), queue_tell();
    RETURN coalesce(cardinality(v_hops), 0);
END $$;

CREATE FUNCTION queue_delete(
    p_queue_id bigint, p_account_id bigint, p_sender text, p_recipient text, p_destination text, p_is_held boolean)
RETURNS integer LANGUAGE sql AS $$
    SELECT queue_remove(NULL, array_agg(queue_id), array_agg(recipient_no), false)
      FROM queue_select(p_queue_id, p_account_id, p_sender, p_recipient, p_destination, p_is_held);
$$;

CREATE FUNCTION queue_refuse(
    p_queue_id bigint, p_account_id bigint, p_sender text, p_recipient text, p_destination text, p_is_held boolean)
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_ids bigint[];
BEGIN
    WITH refused AS (
        UPDATE queue_recipient r SET is_refused = true, held = NULL, next_at = 'infinity'
          FROM queue_select(p_queue_id, p_account_id, p_sender, p_recipient, p_destination, p_is_held) AS s
         WHERE r.queue_id = s.queue_id AND r.recipient_no = s.recipient_no
        RETURNING r.queue_id)
    SELECT array_agg(queue_id) INTO v_ids FROM refused;
    UPDATE queue_message SET check_at = now() WHERE queue_id = ANY (v_ids);
    PERFORM queue_tell();
    RETURN coalesce(cardinality(v_ids), 0);
END $$;
