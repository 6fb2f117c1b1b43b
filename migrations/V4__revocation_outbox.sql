-- Revocations on their way to a certificate authority outside of the node, and the list that came from there.

-- Each row is written in the transaction that revokes, and waits until the authority was told. The embedded authority reads the
-- table itself and leaves these columns alone.
ALTER TABLE revoked_certificates
    ADD COLUMN told_at         timestamptz,
    ADD COLUMN attempts        integer NOT NULL DEFAULT 0,
    ADD COLUMN next_attempt_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX revoked_certificates_untold ON revoked_certificates (next_attempt_at) WHERE told_at IS NULL;

-- The newest list of an authority outside of the node, as it was verified: for replicas that cannot reach the authority, and so that
-- an older one is never taken, whoever asks and after whichever restart. The issuers lead to the root.
CREATE TABLE authority_crl (
    root_sha256 bytea PRIMARY KEY CHECK (octet_length(root_sha256) = 32),
    number      bigint NOT NULL,
    crl         bytea NOT NULL,
    issuers     bytea[] NOT NULL,
    next_update timestamptz NOT NULL,
    fetched_at  timestamptz NOT NULL DEFAULT now()
);

CREATE FUNCTION announce_authority_crl() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.number IS DISTINCT FROM OLD.number THEN
        PERFORM pg_notify('mosaic_crl', NEW.number::text);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER announce_authority_crl AFTER INSERT OR UPDATE ON authority_crl
    FOR EACH ROW EXECUTE FUNCTION announce_authority_crl();
