-- The keys that sign each domain's mail.

CREATE TABLE dkim_key (
    domain_id    bigint      NOT NULL REFERENCES domain ON DELETE CASCADE,
    selector     text        COLLATE "C" NOT NULL,
    algorithm    text        NOT NULL CHECK (algorithm IN ('rsa-sha256', 'ed25519-sha256')),
    state        text        NOT NULL CHECK (state IN ('new', 'active', 'retired')),
    private_key  text        NOT NULL,                -- PEM
    created_at   timestamptz NOT NULL DEFAULT now(),
    changed_at   timestamptz NOT NULL DEFAULT now(),  -- of the state
    seen_at      timestamptz,                         -- when DNS had its record last
    PRIMARY KEY (domain_id, selector)
);
-- One key of each kind signs. So two hosts that make the first keys at once end with one of them.
CREATE UNIQUE INDEX dkim_key_active ON dkim_key (domain_id, algorithm) WHERE state = 'active';
CREATE UNIQUE INDEX dkim_key_new ON dkim_key (domain_id, algorithm) WHERE state = 'new';
COMMENT ON TABLE dkim_key IS 'reference: keys that sign mail; new ones wait until they are published, retired ones for their mail to arrive';
