-- Where mail goes beyond plain addresses (server/directory/routing.h), and who may write as whom (grants.h).
--
-- All of it is reference data. Where an address is given as a target, what is ours is kept as the account it led to, which is
-- its identity; what is elsewhere as its canonical text.

ALTER TABLE domain
    ADD target_domain_id        bigint REFERENCES domain,       -- set: a mere other name of that domain, with no addresses of its own
    ADD catch_all_account_id    bigint REFERENCES account,      -- who gets what nobody has an address for: at most one of the two
    ADD catch_all_address       text COLLATE "C",
    ADD postmaster_account_id   bigint REFERENCES account,
    ADD postmaster_address      text COLLATE "C",
    ADD has_details             boolean NOT NULL DEFAULT true,  -- ani+shop leads to ani
    ADD quota_bytes             bigint,                         -- of new accounts, as in account_state
    ADD quota_messages          bigint,
    ADD size_max                bigint,                         -- bytes of a message; NULL: the server's setting
    ADD administrators_send_as  boolean NOT NULL DEFAULT false,
    ADD CHECK (target_domain_id <> domain_id),
    ADD CHECK (catch_all_account_id IS NULL OR catch_all_address IS NULL),
    ADD CHECK (postmaster_account_id IS NULL OR postmaster_address IS NULL);
CREATE INDEX domain_target ON domain (target_domain_id) WHERE target_domain_id IS NOT NULL;

-- An alias leads to an account, or elsewhere.
ALTER TABLE address
    ALTER account_id DROP NOT NULL,
    ADD target text COLLATE "C",
    ADD CHECK ((account_id IS NULL) = (target IS NOT NULL)),
    ADD CHECK (account_id IS NOT NULL OR NOT is_primary);

ALTER TABLE account
    ADD keeps_copy     boolean NOT NULL DEFAULT true,   -- of what it forwards
    ADD files_sent     boolean NOT NULL DEFAULT false,  -- what it sends goes to its Sent on the server
    ADD files_sent_as  boolean NOT NULL DEFAULT false,  -- and what others send as it
    ADD undo_send_ms   bigint  NOT NULL DEFAULT 0,      -- for so long what it sends waits and can be called back
    ADD is_hidden      boolean NOT NULL DEFAULT false,  -- from address books
    ADD posting        text    NOT NULL DEFAULT 'anyone'        -- of a group: who may
        CHECK (posting IN ('anyone', 'domains', 'members', 'owners', 'listed'));

-- Of a group: its members elsewhere. Of any other account: where its mail is forwarded. Members of a group that are
-- accounts are in group_member, because they are who the group's grants are for.
CREATE TABLE account_target (
    account_id        bigint NOT NULL REFERENCES account,
    address           text   COLLATE "C" NOT NULL,              -- as it was given
    target_account_id bigint REFERENCES account,                -- NULL: elsewhere
    PRIMARY KEY (account_id, address)
);
CREATE INDEX account_target_address ON account_target (address);
COMMENT ON TABLE account_target IS 'reference: addresses that mail is sent on to';

CREATE TABLE group_owner (
    account_id       bigint NOT NULL REFERENCES account,        -- the group
    owner_account_id bigint NOT NULL REFERENCES account,
    PRIMARY KEY (account_id, owner_account_id)
);
COMMENT ON TABLE group_owner IS 'reference: who is asked about a group, and may always post';

CREATE TABLE group_sender (
    account_id        bigint NOT NULL REFERENCES account,       -- the group
    address           text   COLLATE "C" NOT NULL,              -- as it was given; @domain: everyone there
    sender_account_id bigint REFERENCES account,                -- NULL: not of ours
    PRIMARY KEY (account_id, address)
);
COMMENT ON TABLE group_sender IS 'reference: who else may always post to a group';

CREATE TABLE send_grant (
    account_id   bigint  NOT NULL REFERENCES account,           -- whose addresses
    grantee_id   bigint  NOT NULL REFERENCES account,           -- a person, or a group: all its members
    is_on_behalf boolean NOT NULL,                              -- only so that the reader sees who wrote
    PRIMARY KEY (account_id, grantee_id)
);
COMMENT ON TABLE send_grant IS 'reference: who may send mail from the addresses of another account';

-- The domain of an address, which is what stands behind the last @.
CREATE FUNCTION address_domain(p_address text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT substring(p_address from '[^@]*$')
$$;

-- The address in the domain that its domain is an alias of; most addresses are that already.
CREATE FUNCTION address_home(p_address text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (SELECT left(p_address, -length(asked.name)) || home.name
           FROM domain AS asked JOIN domain AS home ON home.domain_id = asked.target_domain_id
          WHERE asked.name = address_domain(p_address)),
        p_address)
$$;

-- The accounts themselves and every group that leads to one of them or, when that is elsewhere, to the address.
CREATE FUNCTION directory_identities(p_account_ids bigint[], p_address text) RETURNS SETOF bigint
LANGUAGE sql STABLE ROWS 4 AS $$
    WITH RECURSIVE identity (account_id) AS (
        (SELECT unnest(p_account_ids)
          UNION
         SELECT account.account_id
           FROM account_target JOIN account USING (account_id)
          WHERE account_target.address = p_address AND target_account_id IS NULL
            AND kind = 'group' AND removed_at IS NULL)
         UNION
        SELECT house.account_id
          FROM identity
          JOIN group_member ON group_member.member_account_id = identity.account_id
          JOIN account AS house ON house.account_id = group_member.account_id AND house.removed_at IS NULL
    )
    SELECT account_id FROM identity
$$;
