-- What POP3 needs beside the mailbox: who has a maildrop, and the sizes of messages as they are sent line by line.

-- A claim that is not renewed ends by itself, and a worker that takes a dead one's place ends those of its predecessor.
CREATE UNLOGGED TABLE maildrop_claim (
    account_id bigint      PRIMARY KEY,
    slot       bigint      NOT NULL,                  -- of one worker after the other: run of the server, number of the worker
    worker     bigint      NOT NULL,                  -- the process
    session    bigint      NOT NULL,                  -- of that process
    expires_at timestamptz NOT NULL
);
CREATE INDEX maildrop_claim_slot ON maildrop_claim (slot);
COMMENT ON TABLE maildrop_claim IS 'account: the POP3 session that has the maildrop to itself';

-- Nearly no message has a row: bare LFs and unfinished last lines come by APPEND only. By blob, so that copies share it.
CREATE TABLE message_growth (
    account_id bigint NOT NULL,
    blob_id    bigint NOT NULL,
    growth     bigint NOT NULL,                       -- bytes more when every line ends in CR LF
    PRIMARY KEY (account_id, blob_id)
);
ALTER TABLE message_growth ALTER account_id SET STATISTICS 0;
COMMENT ON TABLE message_growth IS 'account: messages that are larger when sent line by line';
