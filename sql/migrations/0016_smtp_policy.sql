-- What SMTP policies remember: how much came from whom, and who came again.

-- Lost in a crash, and no harm in that: a window starts anew.
CREATE UNLOGGED TABLE smtp_count (
    key         text   COLLATE "C" NOT NULL,          -- "network 192.0.2.7", "account 17", "domain example.org"
    period      bigint NOT NULL,                      -- time divided by the length of a window
    connections bigint NOT NULL,
    messages    bigint NOT NULL,
    recipients  bigint NOT NULL,
    PRIMARY KEY (key, period)
);
CREATE INDEX smtp_count_period ON smtp_count (period);
COMMENT ON TABLE smtp_count IS 'host: connections, messages and recipients of networks, accounts and domains lately';

CREATE TABLE smtp_greylist (
    network   text        COLLATE "C" NOT NULL,
    sender    text        COLLATE "C" NOT NULL,       -- empty: the null path
    recipient text        COLLATE "C" NOT NULL,
    first_at  timestamptz NOT NULL,
    last_at   timestamptz NOT NULL,
    PRIMARY KEY (network, sender, recipient)
);
CREATE INDEX smtp_greylist_last ON smtp_greylist (last_at);
COMMENT ON TABLE smtp_greylist IS 'host: who was asked to come again with which letter';

CREATE TABLE smtp_greylist_known (
    network text        COLLATE "C" PRIMARY KEY,
    last_at timestamptz NOT NULL
);
CREATE INDEX smtp_greylist_known_last ON smtp_greylist_known (last_at);
COMMENT ON TABLE smtp_greylist_known IS 'host: networks that came again, and need not any more';
