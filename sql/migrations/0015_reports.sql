-- Reports about mail: those that we owe to others (DMARC aggregate reports, TLS reports), collected through a day and
-- sent once, and those that others sent to us, kept for the administrator.

-- What there is to be sent. Claimed with SKIP LOCKED by any host; sent_at is set in the transaction that puts the mail
-- into the queue, so that none is lost and none is sent twice.
CREATE TABLE report_due (
    kind       text        NOT NULL,                  -- dmarc, tls
    day        integer     NOT NULL,                  -- UTC, days since 1970-01-01
    domain     text        NOT NULL,                  -- dmarc: where the record is; tls: whom the mail went to
    policy     text        NOT NULL DEFAULT '',       -- dmarc: "p=reject sp=... " as last seen
    rua        text[]      NOT NULL DEFAULT '{}',     -- dmarc: addresses as last seen
    attempts   integer     NOT NULL DEFAULT 0,
    claim      bigint      NOT NULL DEFAULT 0,        -- drawn by who works on it
    claimed_at timestamptz NOT NULL DEFAULT '-infinity',
    is_asked   boolean     NOT NULL DEFAULT false,    -- an administrator wants it now, not at its time
    sent_at    timestamptz,                           -- or when it was found that nobody wants it: see note
    note       text        NOT NULL DEFAULT '',       -- to whom it went, or why not yet
    PRIMARY KEY (kind, day, domain)
);
CREATE INDEX report_due_unsent ON report_due (day, claimed_at) WHERE sent_at IS NULL;
COMMENT ON TABLE report_due IS 'host: reports to be sent to other domains';

-- Reports of a day are spread over p_spread_s seconds behind its end; each has its own time, which differs between
-- servers (p_seed), so that nobody is sent everybody's at midnight.
CREATE FUNCTION report_time(p_day integer, p_domain text, p_seed text, p_spread_s integer) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT to_timestamp((p_day + 1) * 86400::bigint
                        + (hashtextextended(p_domain || ' ' || p_seed, 0) & 1048575) * p_spread_s / 1048576)
$$;

-- In the transaction that queues the mail, which fails when the claim was lost.
CREATE FUNCTION report_end(p_kind text, p_day integer, p_domain text, p_claim bigint, p_note text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE report_due SET sent_at = now(), note = p_note
     WHERE kind = p_kind AND day = p_day AND domain = p_domain AND claim = p_claim AND sent_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'another worker took the report over' USING ERRCODE = 'MP005';
    END IF;
END $$;

-- Messages with the same fate are one row. `key` is a digest of everything but the count.
CREATE TABLE report_dmarc_row (
    day           integer NOT NULL,
    domain        text    NOT NULL,
    key           uuid    NOT NULL,
    source_ip     text    NOT NULL,
    disposition   text    NOT NULL,
    dkim          text    NOT NULL,
    spf           text    NOT NULL,
    header_from   text    NOT NULL,
    envelope_from text    NOT NULL,
    reason        text    NOT NULL,
    results       text    NOT NULL,                   -- lines "dkim DOMAIN SELECTOR RESULT", "spf DOMAIN SCOPE RESULT"
    count         bigint  NOT NULL,
    PRIMARY KEY (day, domain, key)
);
COMMENT ON TABLE report_dmarc_row IS 'host: what was received in the name of domains that want DMARC reports';

CREATE TABLE report_tls_row (
    day            integer NOT NULL,
    domain         text    NOT NULL,
    key            uuid    NOT NULL,
    policy_type    text    NOT NULL,
    policy_domain  text    NOT NULL,
    policy_strings text    NOT NULL,                  -- lines
    mx_hosts       text    NOT NULL,                  -- lines
    result_type    text    NOT NULL,                  -- empty: the session was secured
    sending_ip     text    NOT NULL,
    mx_hostname    text    NOT NULL,
    receiving_ip   text    NOT NULL,
    reason         text    NOT NULL,
    count          bigint  NOT NULL,
    PRIMARY KEY (day, domain, key)
);
COMMENT ON TABLE report_tls_row IS 'host: sessions to domains that want TLS reports';

CREATE TABLE report_received (
    report_id    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind         text        NOT NULL,                -- dmarc, tls, feedback
    received_at  timestamptz NOT NULL DEFAULT now(),
    organization text        NOT NULL,                -- who reports
    external_id  text        NOT NULL,                -- their name for it
    domain       text        NOT NULL,                -- ours that it is about
    begin_at     timestamptz NOT NULL,
    end_at       timestamptz NOT NULL,
    policy       text        NOT NULL,                -- as they saw it
    passed       bigint      NOT NULL,                -- messages or sessions
    failed       bigint      NOT NULL,
    row_count    integer     NOT NULL,                -- of its lines, at least 1
    UNIQUE (kind, organization, domain, external_id)
);
CREATE INDEX report_received_at ON report_received (received_at);
COMMENT ON TABLE report_received IS 'host: reports from others about our domains';

CREATE TABLE report_received_row (
    report_id bigint  NOT NULL REFERENCES report_received ON DELETE CASCADE,
    n         integer NOT NULL,
    source    text    NOT NULL,                       -- address of who sent the mail, or where the session went
    subject   text    NOT NULL,                       -- From domain, MX host, reported address
    outcome   text    NOT NULL,                       -- disposition, result type, kind of complaint
    is_pass   boolean NOT NULL,
    count     bigint  NOT NULL,
    detail    text    NOT NULL,
    PRIMARY KEY (report_id, n)
);
COMMENT ON TABLE report_received_row IS 'host: the lines of received reports';

INSERT INTO store_upkeep (task) VALUES ('reports');
