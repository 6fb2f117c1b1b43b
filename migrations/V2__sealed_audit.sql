-- Evidence of tampering with the audit log: every event carries a number and a keyed digest, batches of events are sealed into a
-- chain. Months that are old move to a colder table.

-- A writer numbers its events in a lane of its own, from 1 on without gaps. Events from before this migration have neither.
ALTER TABLE federation_audit_log
    ADD COLUMN suppressed bigint NOT NULL DEFAULT 0,
    ADD COLUMN number     bigint,
    ADD COLUMN digest     bytea,
    ADD COLUMN lane       uuid,
    ADD COLUMN key_id     bytea;
CREATE INDEX federation_audit_log_by_lane ON federation_audit_log (lane, number);

-- From here on an event has a digest: a replica of an older build cannot write any more, and so gives no rows.
DO $$
DECLARE
    reached bigint;
BEGIN
    EXECUTE 'SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM ' || pg_get_serial_sequence('federation_audit_log', 'seq')
        INTO reached;
    EXECUTE format(
        'ALTER TABLE federation_audit_log ADD CONSTRAINT federation_audit_log_digested CHECK (digest IS NOT NULL OR seq <= %s)',
        reached);
END $$;

-- The lane of events that are written inside other transactions: numbered here, under the row's lock, so that a transaction that
-- is rolled back leaves no gap.
CREATE TABLE audit_change_lane (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    lane     uuid NOT NULL DEFAULT gen_random_uuid(),
    next     bigint NOT NULL DEFAULT 1
);
INSERT INTO audit_change_lane DEFAULT VALUES;

-- One chain for the site: each seal covers events first..last of one lane and holds the digest of the seal before it. The first
-- one covers what there was before sealing, under the lane of zeros.
CREATE TABLE audit_seals (
    position   bigint PRIMARY KEY CHECK (position > 0),
    at         timestamptz NOT NULL,
    lane       uuid NOT NULL,
    first      bigint NOT NULL CHECK (first > 0),
    last       bigint NOT NULL CHECK (last >= first - 1),
    places     bytea NOT NULL,
    root       bytea NOT NULL,
    events     bigint NOT NULL,
    previous   bytea NOT NULL,
    key_id     bytea NOT NULL,
    public_key bytea NOT NULL,
    signature  bytea NOT NULL
);
CREATE INDEX audit_seals_by_lane ON audit_seals (lane, last);

-- Where whole months go when they are old. Same columns, fewer indexes.
CREATE TABLE federation_audit_cold (LIKE federation_audit_log INCLUDING CONSTRAINTS) PARTITION BY RANGE (at);
CREATE INDEX federation_audit_cold_by_time ON federation_audit_cold (at DESC, seq DESC);
CREATE INDEX federation_audit_cold_by_lane ON federation_audit_cold (lane, number);

CREATE VIEW federation_audit_all AS
    SELECT * FROM federation_audit_log UNION ALL SELECT * FROM federation_audit_cold;
