-- What the spam filter learns from, and what it made of that (mail/store/spam_store.h).

-- One row for each message that somebody called spam or not: learning it again replaces the row.
CREATE TABLE spam_example (
    account_id  bigint      NOT NULL,
    message_key bytea       NOT NULL,                   -- digest of the message
    is_spam     boolean     NOT NULL,
    version     integer     NOT NULL,                   -- of the features
    features    bytea       NOT NULL,                   -- 32-bit numbers in the order of this machine's bytes, see spam_model.h
    learnt_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (account_id, message_key)
);
CREATE INDEX spam_example_learnt ON spam_example (account_id, learnt_at);
ALTER TABLE spam_example ALTER account_id SET STATISTICS 0;
ALTER TABLE spam_example ALTER features SET STORAGE EXTERNAL;   -- hashes: nothing to compress
COMMENT ON TABLE spam_example IS 'account: features of messages that were called spam or not';

-- What an account thinks otherwise than the server.
CREATE TABLE spam_account (
    account_id bigint      PRIMARY KEY,
    changed_at timestamptz NOT NULL,                    -- its examples
    made_at    timestamptz NOT NULL DEFAULT '-infinity',    -- the model, from the examples of that moment
    model      bytea
);
CREATE INDEX spam_account_changed ON spam_account (account_id) WHERE changed_at > made_at;
COMMENT ON TABLE spam_account IS 'account: the own model of the spam filter';

-- The model of all, in pieces; a generation is made whole or not at all.
CREATE TABLE spam_model_piece (
    piece integer PRIMARY KEY,
    bytes bytea   NOT NULL
);
COMMENT ON TABLE spam_model_piece IS 'reference: the model of the spam filter, in pieces';

CREATE TABLE spam_model_state (
    is_only    boolean     PRIMARY KEY DEFAULT true CHECK (is_only),
    generation bigint      NOT NULL DEFAULT 0,          -- 0: none was made
    stamp      bigint      NOT NULL DEFAULT 0,          -- by chance for each: files of another database are not taken for it
    made_at    timestamptz NOT NULL DEFAULT '-infinity',
    claimed_at timestamptz NOT NULL DEFAULT '-infinity' -- somebody is at it
);
INSERT INTO spam_model_state DEFAULT VALUES;
COMMENT ON TABLE spam_model_state IS 'reference: which model of the spam filter is the last';
