-- Rotation of the master secret. Ids only: they are derived from the secrets and tell nothing about them.

-- 'sealing': the one that new blobs are sealed with. 'opening': blobs may still be under it. 'retired': none is, and none may be.
CREATE TABLE master_secrets (
    key_id     bytea PRIMARY KEY CHECK (octet_length(key_id) = 8),
    state      text NOT NULL CHECK (state IN ('sealing', 'opening', 'retired')),
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX master_secrets_one_seals ON master_secrets (state) WHERE state = 'sealing';

-- The processes that serve this site, which secrets each knows and which one it seals with.
CREATE TABLE replicas (
    id         uuid PRIMARY KEY,
    host       text NOT NULL,
    secrets    bytea[] NOT NULL,
    sealing    bytea NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    -- It reports again long before; after that it is taken for gone.
    alive_until timestamptz NOT NULL
);

-- A replica that slept through a rotation must not seal what nobody could open any more. Bytes 2 to 9 of a blob are the id.
CREATE FUNCTION refuse_retired_secret() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM master_secrets WHERE key_id = substring(NEW.sealed_key FROM 2 FOR 8) AND state = 'retired') THEN
        RAISE EXCEPTION 'sealed with a master secret that is retired' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse_retired_secret BEFORE INSERT OR UPDATE OF sealed_key ON links
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_secret();
CREATE TRIGGER refuse_retired_secret BEFORE INSERT OR UPDATE OF sealed_key ON embedded_ca
    FOR EACH ROW EXECUTE FUNCTION refuse_retired_secret();
