-- Sieve scripts, and what their runs remember (mail/store/sieve_store.h).

CREATE TABLE sieve_script (
    account_id bigint      NOT NULL,
    name       text        COLLATE "C" NOT NULL,
    is_active  boolean     NOT NULL DEFAULT false,      -- it runs when mail comes
    changed_at timestamptz NOT NULL DEFAULT now(),
    size       integer     NOT NULL,                    -- of the content, in bytes
    content    text        NOT NULL,
    PRIMARY KEY (account_id, name)
);
CREATE UNIQUE INDEX sieve_script_active ON sieve_script (account_id) WHERE is_active;
ALTER TABLE sieve_script ALTER account_id SET STATISTICS 0;
COMMENT ON TABLE sieve_script IS 'account: filters that people wrote';

CREATE TABLE sieve_domain_script (
    domain_id  bigint      NOT NULL REFERENCES domain,
    name       text        COLLATE "C" NOT NULL,
    place      text        NOT NULL CHECK (place IN ('before', 'after', 'include')),
    changed_at timestamptz NOT NULL DEFAULT now(),
    content    text        NOT NULL,
    PRIMARY KEY (domain_id, name)
);
COMMENT ON TABLE sieve_domain_script IS 'reference: filters of a whole domain, before or after those of its people, or for them to include';

-- Only digests, for nobody ever reads the names again.
CREATE TABLE sieve_memory (
    account_id bigint      NOT NULL,
    digest     bytea       NOT NULL,                    -- of what is remembered: whom a vacation answer told, what came already
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, digest)
);
CREATE INDEX sieve_memory_expires ON sieve_memory (expires_at);
ALTER TABLE sieve_memory ALTER account_id SET STATISTICS 0;
COMMENT ON TABLE sieve_memory IS 'account: whom vacation answers told, and messages that came already';

-- Tells the workers at commit: SIEVE_TOPIC(account_id), SIEVE_DOMAINS_TOPIC of sieve_store.h.
CREATE FUNCTION sieve_tell(p_account_id bigint) RETURNS void LANGUAGE sql AS $$
    SELECT pg_notify('merpati_changes', 'sieve:' || (p_account_id # 6001404215275028480))
$$;
CREATE FUNCTION sieve_tell_domains() RETURNS void LANGUAGE sql AS $$
    SELECT pg_notify('merpati_changes', 'sieve:6001404215277995087')
$$;

-- Changes of one account's scripts come one after the other, so that its limits hold.
CREATE FUNCTION sieve_begin_change(p_account_id bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM account_state WHERE account_id = p_account_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the account is gone' USING ERRCODE = 'MP001';
    END IF;
    PERFORM sieve_tell(p_account_id);
END $$;

-- Is there room for a script of that size under that name?
CREATE FUNCTION sieve_check_room(p_account_id bigint, p_name text, p_size integer, p_count_max integer, p_bytes_max bigint)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_count bigint;
    v_bytes bigint;
BEGIN
    SELECT count(*), coalesce(sum(size), 0) INTO v_count, v_bytes
      FROM sieve_script WHERE account_id = p_account_id AND name <> p_name COLLATE "C";
    IF v_count >= p_count_max THEN
        RAISE EXCEPTION 'an account has at most % scripts: remove one first', p_count_max USING ERRCODE = 'MP006';
    END IF;
    IF v_bytes + p_size > p_bytes_max THEN
        RAISE EXCEPTION 'the scripts of an account have at most % bytes: shorten or remove one first', p_bytes_max
            USING ERRCODE = 'MP004';
    END IF;
END $$;

CREATE FUNCTION sieve_put(p_account_id bigint, p_name text, p_content text, p_count_max integer, p_bytes_max bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sieve_begin_change(p_account_id);
    PERFORM sieve_check_room(p_account_id, p_name, octet_length(p_content), p_count_max, p_bytes_max);
    INSERT INTO sieve_script AS s (account_id, name, size, content)
    VALUES (p_account_id, p_name, octet_length(p_content), p_content)
        ON CONFLICT (account_id, name)
        DO UPDATE SET size = excluded.size, content = excluded.content, changed_at = now();
END $$;

-- An empty name: none is active.
CREATE FUNCTION sieve_activate(p_account_id bigint, p_name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sieve_begin_change(p_account_id);
    UPDATE sieve_script SET is_active = false WHERE account_id = p_account_id AND is_active;
    UPDATE sieve_script SET is_active = true WHERE account_id = p_account_id AND name = p_name COLLATE "C";
    IF NOT FOUND AND p_name <> '' THEN
        RAISE EXCEPTION 'there is no script of that name' USING ERRCODE = 'MP001';
    END IF;
END $$;

CREATE FUNCTION sieve_remove(p_account_id bigint, p_name text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_is_active boolean;
BEGIN
    PERFORM sieve_begin_change(p_account_id);
    DELETE FROM sieve_script WHERE account_id = p_account_id AND name = p_name COLLATE "C" RETURNING is_active INTO v_is_active;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no script of that name' USING ERRCODE = 'MP001';
    END IF;
    IF v_is_active THEN
        RAISE EXCEPTION 'the active script cannot be removed: activate another or none first' USING ERRCODE = 'MP005';
    END IF;
END $$;

CREATE FUNCTION sieve_rename(p_account_id bigint, p_name text, p_new_name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sieve_begin_change(p_account_id);
    IF NOT EXISTS (SELECT FROM sieve_script WHERE account_id = p_account_id AND name = p_name COLLATE "C") THEN
        RAISE EXCEPTION 'there is no script of that name' USING ERRCODE = 'MP001';
    END IF;
    IF EXISTS (SELECT FROM sieve_script WHERE account_id = p_account_id AND name = p_new_name COLLATE "C") THEN
        RAISE EXCEPTION 'there is a script of the new name already' USING ERRCODE = 'MP003';
    END IF;
    UPDATE sieve_script SET name = p_new_name WHERE account_id = p_account_id AND name = p_name COLLATE "C";
END $$;
