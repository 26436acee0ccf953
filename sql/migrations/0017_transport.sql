-- What delivery to other servers remembers between attempts (mail/store/sts_store.h).

-- Policies of other domains about mail to them (RFC 8461), as they were fetched.
CREATE TABLE sts_policy (
    domain     text        COLLATE "C" PRIMARY KEY,   -- in A-labels, lower case
    policy_id  text        NOT NULL,                  -- of the TXT record that was valid then
    policy     text        NOT NULL,
    fetched_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL                   -- max_age after that
);
CREATE INDEX sts_policy_expires_at ON sts_policy (expires_at);
COMMENT ON TABLE sts_policy IS 'host: MTA-STS policies of other domains, until they expire';
