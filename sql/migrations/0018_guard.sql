-- What accounts send, and which of them seem to be misused (mail/store/sending_guard.h).

-- Kept for guard_retention. Workers add to it behind the work, about once a second.
CREATE TABLE sending_hour (
    account_id      bigint NOT NULL,
    hour            bigint NOT NULL,                    -- since 1970
    messages        bigint NOT NULL,
    recipients      bigint NOT NULL,
    recipients_away bigint NOT NULL,                    -- those elsewhere
    bounces         bigint NOT NULL,                    -- recipients that other servers refused for good
    PRIMARY KEY (account_id, hour)
);
CREATE INDEX sending_hour_hour ON sending_hour (hour);
ALTER TABLE sending_hour ALTER account_id SET STATISTICS 0;
COMMENT ON TABLE sending_hour IS 'account: how much an account sent in each hour';

CREATE TABLE sending_place (
    account_id bigint      NOT NULL,
    place      text        COLLATE "C" NOT NULL,        -- a country, "ID"; or a network, "192.0.2.0/24"
    first_at   timestamptz NOT NULL,
    last_at    timestamptz NOT NULL,
    PRIMARY KEY (account_id, place)
);
CREATE INDEX sending_place_last ON sending_place (last_at);
ALTER TABLE sending_place ALTER account_id SET STATISTICS 0;
COMMENT ON TABLE sending_place IS 'account: where an account sent from';

CREATE SEQUENCE sending_guard_version AS bigint;

-- Levels are messages, recipients and recipients elsewhere of an hour, bounces of a day, countries and networks.
CREATE TABLE sending_guard (
    account_id  bigint      PRIMARY KEY,
    is_off      boolean     NOT NULL DEFAULT false,     -- never held
    held_at     timestamptz,                            -- set: what it sends waits for an administrator
    told_at     timestamptz,                            -- when it and the administrators were told
    cause       text        NOT NULL DEFAULT '',
    seen        bigint      NOT NULL DEFAULT 0,         -- of what the cause names
    usual       bigint      NOT NULL DEFAULT 0,         -- the most that was usual
    detail      text        NOT NULL DEFAULT '',        -- the countries
    language    text        NOT NULL DEFAULT '',        -- that the account writes
    levels      bigint[]    NOT NULL DEFAULT '{0,0,0,0,0,0}',   -- when it was held
    forgiven_at timestamptz,
    forgiven    bigint[]    NOT NULL DEFAULT '{0,0,0,0,0,0}',   -- what was found to be right then
    changed_at  timestamptz NOT NULL DEFAULT now(),
    version     bigint      NOT NULL DEFAULT nextval('sending_guard_version')
);
COMMENT ON TABLE sending_guard IS 'account: whose outgoing mail is held, was forgiven, or is never held';

-- Tells the workers at commit (GUARD_TOPIC in mail/store/sending_guard.h).
CREATE FUNCTION sending_guard_tell() RETURNS void LANGUAGE sql AS $$
    SELECT pg_notify('merpati_changes', 'guard:' || 444350952036::text)
$$;
