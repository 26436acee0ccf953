-- Domains, accounts, addresses, credentials.
--
-- A table's comment begins with its class, which a test checks:
--   account:    rows belong to an account; every primary, unique and foreign key begins with account_id,
--               and there are no triggers, so that the table can be distributed by that column
--   reference:  small, read everywhere, the same on every machine
--   host:       shared by all hosts, belongs to no account
--
-- Names and addresses compare byte by byte (COLLATE "C"): they are canonical before they come here, and an
-- index that depends on no locale survives an upgrade of the system's library.

CREATE TABLE domain (
    domain_id  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text        COLLATE "C" NOT NULL UNIQUE,        -- A-labels, lower case
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE domain IS 'reference: the domains we are responsible for';

CREATE TABLE account (
    account_id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind            text        NOT NULL CHECK (kind IN ('person', 'shared', 'group', 'room', 'equipment')),
    name            text        NOT NULL DEFAULT '',
    is_active       boolean     NOT NULL DEFAULT true,
    is_administrator boolean    NOT NULL DEFAULT false, -- may change other accounts: limits, server annotations
    created_at      timestamptz NOT NULL DEFAULT now(),
    removed_at      timestamptz,                      -- set: no address leads here, the data waits to be restored
    removed_address text        COLLATE "C"           -- the primary address it had
);
COMMENT ON TABLE account IS 'reference: who has data here; the number is the identity, never the address';

CREATE TABLE address (
    address    text    COLLATE "C" PRIMARY KEY,       -- canonical: lower case, NFC, A-label
    domain_id  bigint  NOT NULL REFERENCES domain,
    account_id bigint  NOT NULL REFERENCES account,
    is_primary boolean NOT NULL
);
CREATE UNIQUE INDEX address_primary ON address (account_id) WHERE is_primary;
CREATE INDEX address_account ON address (account_id);
CREATE INDEX address_domain ON address (domain_id, address);
COMMENT ON TABLE address IS 'reference: every address, primary or alias, leads to one account';

-- A group may hold groups. Memberships of a removed account stay, for it may be restored.
CREATE TABLE group_member (
    account_id        bigint NOT NULL REFERENCES account,   -- the group
    member_account_id bigint NOT NULL REFERENCES account,
    PRIMARY KEY (account_id, member_account_id)
);
COMMENT ON TABLE group_member IS 'reference: the accounts that a group leads on to';

-- One row per account that every writing transaction locks first: its lock orders all changes of the account.
CREATE TABLE account_state (
    account_id         bigint  PRIMARY KEY REFERENCES account,
    modseq             bigint  NOT NULL DEFAULT 1,    -- of the last change of anything in the account
    next_message_id    bigint  NOT NULL DEFAULT 1,
    next_mailbox_id    bigint  NOT NULL DEFAULT 1,
    next_credential_id bigint  NOT NULL DEFAULT 1,
    next_uid_validity  bigint  NOT NULL DEFAULT extract(epoch FROM now())::bigint,
    bytes_used         bigint  NOT NULL DEFAULT 0,
    message_count      bigint  NOT NULL DEFAULT 0,
    quota_bytes        bigint,                        -- NULL: the server's setting; 0: without limit
    quota_messages     bigint
) WITH (fillfactor = 50);
COMMENT ON TABLE account_state IS 'account: change counter, id counters, usage and limits';

CREATE TABLE credential (
    account_id    bigint      NOT NULL REFERENCES account,
    credential_id bigint      NOT NULL,               -- 0: the main password; others: app passwords
    label         text        NOT NULL DEFAULT '',
    crypt         text        NOT NULL,               -- crypt(3) string
    scram         text,                               -- SCRAM-SHA-256 verifier; NULL until known; one salt per account
    old_scram     text,                               -- of the password before: its proofs are no new guesses
    created_at    timestamptz NOT NULL DEFAULT now(),
    used_at       timestamptz,                        -- of app passwords; written at most hourly
    PRIMARY KEY (account_id, credential_id)
);
ALTER TABLE credential ALTER account_id SET STATISTICS 0;
COMMENT ON TABLE credential IS 'account: what proves who one is';

-- Tells the workers, at commit, to look whether sessions of this account may stay (server/directory/login_watch.h).
CREATE FUNCTION login_notice(p_account_id bigint) RETURNS void
LANGUAGE sql AS $$
    SELECT pg_notify('merpati_changes', 'login:' || p_account_id + 4611686018427387904)
$$;

CREATE TABLE server_secret (
    name   text  PRIMARY KEY,
    secret bytea NOT NULL
);
COMMENT ON TABLE server_secret IS 'host: keys that all hosts share, made on their first use';

-- Different wrong passwords, as keyed digests; see server/directory/limiter.h.
CREATE UNLOGGED TABLE login_guess (
    network text        COLLATE "C" NOT NULL,
    name    text        COLLATE "C" NOT NULL,         -- primary address of the account, or what was typed
    digest  bytea       NOT NULL,
    at      timestamptz NOT NULL,
    PRIMARY KEY (network, name, digest)
);
CREATE INDEX login_guess_network ON login_guess (network, at);
CREATE INDEX login_guess_at ON login_guess (at);
COMMENT ON TABLE login_guess IS 'host: recent wrong passwords by network and name';

CREATE UNLOGGED TABLE login_success (
    network text        COLLATE "C" NOT NULL,
    name    text        COLLATE "C" NOT NULL,
    at      timestamptz NOT NULL,
    PRIMARY KEY (network, name)
);
CREATE INDEX login_success_network ON login_success (network, at);
CREATE INDEX login_success_at ON login_success (at);
COMMENT ON TABLE login_success IS 'host: who logged in lately from where';
