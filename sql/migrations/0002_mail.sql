-- Mailboxes, messages, blobs and threads. The functions that change them are in the files that follow: one writes through
-- them alone.
--
-- Every function that writes locks the account's row of account_state in its own first statement. What follows then sees
-- everything that earlier writers committed (READ COMMITTED takes a snapshot per statement), and nobody else writes until
-- the end of the transaction, so that modseqs, UIDs and counters are exact. Transactions that touch several accounts
-- must take them in ascending order.
--
-- Functions that are given arrays keep one generic plan: by itself PostgreSQL would plan them anew at each call, because it
-- takes an array of unknown length for a long one, and that would cost half as much as the delivery itself.
--
-- Of an account that was filled a moment ago statistics say that it has no rows, and then reading all of them looks as good
-- as looking up the right one. So the large tables have no statistics of account_id: the planner then takes an account for a
-- 200th of the table, and whatever names most of what is asked for is best.

CREATE TABLE blob (
    blob_id    bigint      PRIMARY KEY,               -- from blob_id_block
    uses       integer     NOT NULL,                  -- rows of message and message_removed, all accounts, at delivery
    size       bigint      NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    data       bytea       COMPRESSION lz4 NOT NULL   -- the raw message
);
COMMENT ON TABLE blob IS 'host: raw messages, one per delivery however many recipients; immutable, never joined';

-- Narrow and apart from the blobs, so that copying a thousand messages changes no wide row and no index. extra is in no
-- index: later changes of it stay on the page.
CREATE TABLE blob_use (
    blob_id bigint  PRIMARY KEY,
    extra   integer NOT NULL                          -- uses gained and lost since delivery
) WITH (fillfactor = 50);
COMMENT ON TABLE blob_use IS 'host: how the count of uses of a blob has changed; most blobs have no row';

CREATE TABLE blob_unused (
    blob_id bigint      PRIMARY KEY,
    since   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE blob_unused IS 'host: blobs that nothing uses, waiting to be collected';

-- Each value is a block of 1,000 ids for one worker.
CREATE SEQUENCE blob_id_block AS bigint INCREMENT 1000;

-- Tombstones whose modseq is not above this may have been forgotten: who asks for older changes must compare everything.
ALTER TABLE account_state ADD COLUMN forgotten_modseq bigint NOT NULL DEFAULT 0;
-- The same for changes: up to here mailbox_change may lack them. Never below forgotten_modseq.
ALTER TABLE account_state ADD COLUMN unlogged_modseq bigint NOT NULL DEFAULT 0;

CREATE TABLE mailbox (
    account_id      bigint  NOT NULL REFERENCES account_state,
    mailbox_id      bigint  NOT NULL,                 -- never used again; 1 is the inbox
    path            text    NOT NULL,                 -- levels divided by '/', UTF-8 NFC; the inbox is INBOX
    role            text,                             -- inbox, drafts, sent, archive, junk, trash; JMAP's names
    uid_validity    bigint  NOT NULL,
    uid_next        bigint  NOT NULL DEFAULT 1,
    modseq          bigint  NOT NULL,                 -- of the last change of its messages or of itself
    created_modseq  bigint  NOT NULL,
    changed_modseq  bigint  NOT NULL,                 -- of the last change of its own properties
    message_count   integer NOT NULL DEFAULT 0,
    unseen_count    integer NOT NULL DEFAULT 0,
    deleted_count   integer NOT NULL DEFAULT 0,
    bytes           bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, mailbox_id),
    UNIQUE (account_id, path)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX mailbox_role ON mailbox (account_id, role) WHERE role IS NOT NULL;
ALTER TABLE mailbox ALTER account_id SET STATISTICS 0;
COMMENT ON TABLE mailbox IS 'account: folders';

CREATE TABLE mailbox_removed (
    account_id     bigint      NOT NULL REFERENCES account_state,
    mailbox_id     bigint      NOT NULL,
    path           text        NOT NULL,
    created_modseq bigint      NOT NULL,
    modseq         bigint      NOT NULL,              -- of the removal
    removed_at     timestamptz NOT NULL DEFAULT now(),
    is_emptied     boolean     NOT NULL,              -- false: messages of it are still to be removed
    PRIMARY KEY (account_id, mailbox_id)
);
CREATE INDEX mailbox_removed_modseq ON mailbox_removed (account_id, modseq);
CREATE INDEX mailbox_removed_full ON mailbox_removed (account_id, mailbox_id) WHERE NOT is_emptied;
ALTER TABLE mailbox_removed ALTER account_id SET STATISTICS 0;
COMMENT ON TABLE mailbox_removed IS 'account: tombstones of folders';

-- Names, not mailboxes: a subscription survives its mailbox (RFC 9051, 6.3.7) and may lead into another account.
CREATE TABLE mailbox_subscription (
    account_id bigint NOT NULL REFERENCES account_state, -- whose subscription
    name       text   COLLATE "C" NOT NULL,           -- as this user sees the mailbox
    PRIMARY KEY (account_id, name)
);
ALTER TABLE mailbox_subscription ALTER account_id SET STATISTICS 0;
COMMENT ON TABLE mailbox_subscription IS 'account: names of mailboxes that a user wants to see';

-- Narrow and mutable; what never changes is in message_meta. The tables below have no foreign keys: only the functions
-- of the files that follow write them, under the account's lock, and checks of every row cost a delivery a quarter of its time.
-- flags: 1 \Seen, 2 \Answered, 4 \Flagged, 8 \Deleted, 16 \Draft (mail/store/message.h)
--
-- No index may hold modseq, flags or keywords, not even in a condition: then a change of flags rewrites the row on its own
-- page and touches no index, which costs a sixth. Half of each page is kept free for that, so that all of a page's rows
-- can change at once. What opening a mailbox reads comes first: short rows are taken apart from the left.
CREATE TABLE message (
    account_id     bigint      NOT NULL,
    mailbox_id     bigint      NOT NULL,
    uid            bigint      NOT NULL,
    message_id     bigint      NOT NULL,
    modseq         bigint      NOT NULL,
    flags          integer     NOT NULL,              -- \Seen is the owner's; other users': mailbox_seen
    created_modseq bigint      NOT NULL,
    thread_id      bigint      NOT NULL,              -- message_id of the thread's first message
    blob_id        bigint      NOT NULL,
    size           bigint      NOT NULL,
    received_at    timestamptz NOT NULL,              -- IMAP's INTERNALDATE, JMAP's receivedAt
    saved_at       timestamptz NOT NULL DEFAULT now(),
    keywords       text[],                            -- NULL when there are none; sorted by lower case, no repeats
    PRIMARY KEY (account_id, message_id)
) WITH (fillfactor = 50, autovacuum_vacuum_insert_scale_factor = 0.02, autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX message_uid ON message (account_id, mailbox_id, uid);
CREATE INDEX message_thread ON message (account_id, thread_id);
ALTER TABLE message ALTER account_id SET STATISTICS 0, ALTER mailbox_id SET STATISTICS 0;
COMMENT ON TABLE message IS 'account: one row per message, in exactly one mailbox';

CREATE TABLE message_meta (
    account_id  bigint NOT NULL,
    message_id  bigint NOT NULL,
    size        bigint NOT NULL,                      -- as in message, so that a list view reads one table
    sent_at     timestamptz,                          -- the Date field
    received_at timestamptz NOT NULL,                 -- as in message: sorting reads this table alone
    sort_keys   bytea COMPRESSION lz4 NOT NULL,       -- what SORT and THREAD compare (mail/store/sort_keys.h)
    envelope    bytea COMPRESSION lz4 NOT NULL,       -- IMAP ENVELOPE, ready to send
    structure   bytea COMPRESSION lz4 NOT NULL,       -- IMAP BODYSTRUCTURE, ready to send
    headers     bytea COMPRESSION lz4,                -- fields that clients ask for (mail/store/cached_headers.def); NULL: too large
    preview     text  COMPRESSION lz4 NOT NULL,       -- the first words (mail/mime/preview.h)
    PRIMARY KEY (account_id, message_id)
);
ALTER TABLE message_meta ALTER sort_keys SET STORAGE MAIN; -- wide columns leave the row first
ALTER TABLE message_meta ALTER account_id SET STATISTICS 0;
COMMENT ON TABLE message_meta IS 'account: what a message says about itself, made once at delivery';

-- The journal: one row for each transaction, mailbox and kind of change. It names which UIDs have another modseq now, and
-- which are no more (expunged or moved away). Arrivals are not in it, for they have the highest UIDs of their mailbox;
-- messages that were moved here are. A UID vanishes once, so the vanished ones of all rows are disjoint.
-- Everything that changed in an account since a modseq: created or moved, message.created_modseq and this; destroyed,
-- message_removed; changed, this, by way of the mailboxes whose modseq is higher.
CREATE TABLE mailbox_change (
    account_id  bigint         NOT NULL,
    mailbox_id  bigint         NOT NULL,
    modseq      bigint         NOT NULL,
    is_vanished boolean        NOT NULL,
    uids        int8multirange NOT NULL,
    changed_at  timestamptz    NOT NULL DEFAULT now(),
    PRIMARY KEY (account_id, mailbox_id, modseq, is_vanished)
);
CREATE INDEX mailbox_change_at ON mailbox_change USING brin (changed_at);
ALTER TABLE mailbox_change ALTER account_id SET STATISTICS 0;
COMMENT ON TABLE mailbox_change IS 'account: which UIDs changed or vanished, by modseq';

-- \Seen of users in mailboxes that are not their own. Only of messages that exist, so that counting is subtracting.
CREATE TABLE mailbox_seen (
    account_id bigint         NOT NULL,               -- whose mailbox
    mailbox_id bigint         NOT NULL,
    user_id    bigint         NOT NULL,               -- whose \Seen
    modseq     bigint         NOT NULL,               -- of the last change
    uids       int8multirange NOT NULL,
    PRIMARY KEY (account_id, mailbox_id, user_id)
) WITH (fillfactor = 50);
ALTER TABLE mailbox_seen ALTER account_id SET STATISTICS 0;
COMMENT ON TABLE mailbox_seen IS 'account: what others than the owner have seen';

-- Removed messages, restorable until the retention ends.
CREATE TABLE message_removed (
    account_id     bigint      NOT NULL,
    message_id     bigint      NOT NULL,
    mailbox_id     bigint      NOT NULL,
    uid            bigint      NOT NULL,
    modseq         bigint      NOT NULL,              -- of the removal
    created_modseq bigint      NOT NULL,
    thread_id      bigint      NOT NULL,
    blob_id        bigint,                            -- NULL: purged, the row is only a tombstone
    size           bigint      NOT NULL,
    received_at    timestamptz NOT NULL,
    removed_at     timestamptz NOT NULL DEFAULT now(),
    flags          integer     NOT NULL,
    keywords       text[],
    PRIMARY KEY (account_id, message_id)
);
CREATE INDEX message_removed_modseq ON message_removed (account_id, modseq);
CREATE INDEX message_removed_at ON message_removed (removed_at) WHERE blob_id IS NOT NULL;
ALTER TABLE message_removed ALTER account_id SET STATISTICS 0;
COMMENT ON TABLE message_removed IS 'account: removed messages';

-- Which thread a Message-ID belongs to, for messages of one base subject (RFC 8621, 3: References and subject).
CREATE TABLE thread_ref (
    account_id   bigint NOT NULL,
    ref          bigint NOT NULL,                     -- FNV-1a of a Message-ID
    subject_hash bigint NOT NULL,                     -- FNV-1a of the base subject in lower case
    thread_id    bigint NOT NULL,
    PRIMARY KEY (account_id, ref, subject_hash)
);
ALTER TABLE thread_ref ALTER account_id SET STATISTICS 0;
COMMENT ON TABLE thread_ref IS 'account: Message-IDs seen, by thread';

-- When a task of upkeep was last begun by any host: the row is claimed by an update.
CREATE TABLE store_upkeep (
    task     text        PRIMARY KEY,
    begun_at timestamptz NOT NULL DEFAULT '-infinity'
);
COMMENT ON TABLE store_upkeep IS 'host: who does the housekeeping, and when it was done';
INSERT INTO store_upkeep (task) VALUES ('purge'), ('forget'), ('audit');

-- Filled and read within one transaction of the audit, which is rolled back; its snapshot makes the portions add up.
CREATE UNLOGGED TABLE blob_tally (
    blob_id bigint  NOT NULL,
    uses    integer NOT NULL
);
CREATE INDEX blob_tally_blob ON blob_tally (blob_id);
COMMENT ON TABLE blob_tally IS 'host: uses of blobs as the audit counts them';
