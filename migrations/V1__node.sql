-- One site's node: its people, its rows, and both sides of federation.
-- Times are timestamptz; identifiers are UUIDs made by the node (v7), so that index pages fill in order.

-- ---------------------------------------------------------------------------------------------------------------- site

CREATE TABLE site (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    id         uuid NOT NULL,
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Every change that an authorisation decision depends on raises this number; replicas poll it behind LISTEN/NOTIFY.
CREATE TABLE authority_version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version  bigint NOT NULL
);
INSERT INTO authority_version (version) VALUES (1);

-- -------------------------------------------------------------------------------------------------------------- people

CREATE TABLE users (
    id           uuid PRIMARY KEY,
    name         text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
    display_name text NOT NULL DEFAULT '',
    active       boolean NOT NULL DEFAULT true,
    deleted_at   timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE teams (
    id         uuid PRIMARY KEY,
    name       text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE team_members (
    team_id  uuid NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    user_id  uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    added_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (team_id, user_id)
);
CREATE INDEX team_members_by_user ON team_members (user_id);

-- Tokens are 32 random bytes; only their SHA-256 is kept.
CREATE TABLE session_tokens (
    id           uuid PRIMARY KEY,
    user_id      uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token_sha256 bytea NOT NULL UNIQUE CHECK (octet_length(token_sha256) = 32),
    label        text NOT NULL DEFAULT '',
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX session_tokens_by_user ON session_tokens (user_id);

CREATE TABLE admin_tokens (
    id           uuid PRIMARY KEY,
    token_sha256 bytea NOT NULL UNIQUE CHECK (octet_length(token_sha256) = 32),
    label        text NOT NULL DEFAULT '',
    expires_at   timestamptz,
    revoked_at   timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now()
);

-- ---------------------------------------------------------------------------------------------------------------- rows

-- One index per kind of range that a page reads: rows of an owner, of a team, and of an owner without a team.

CREATE TABLE tasks (
    id         uuid PRIMARY KEY,
    owner_id   uuid NOT NULL REFERENCES users (id),
    team_id    uuid REFERENCES teams (id),
    title      text NOT NULL CHECK (char_length(title) BETWEEN 1 AND 500),
    body       text NOT NULL DEFAULT '' CHECK (octet_length(body) <= 65536),
    status     text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'in_progress', 'blocked', 'done')),
    priority   smallint NOT NULL DEFAULT 3 CHECK (priority BETWEEN 1 AND 5),
    due_at     timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX tasks_by_owner ON tasks (owner_id, created_at DESC, id DESC);
CREATE INDEX tasks_by_team ON tasks (team_id, created_at DESC, id DESC);
CREATE INDEX tasks_personal ON tasks (owner_id, created_at DESC, id DESC) WHERE team_id IS NULL;

CREATE TABLE notes (
    id         uuid PRIMARY KEY,
    owner_id   uuid NOT NULL REFERENCES users (id),
    team_id    uuid REFERENCES teams (id),
    title      text NOT NULL CHECK (char_length(title) BETWEEN 1 AND 500),
    body       text NOT NULL DEFAULT '' CHECK (octet_length(body) <= 65536),
    tags       text[] NOT NULL DEFAULT '{}' CHECK (cardinality(tags) <= 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX notes_by_owner ON notes (owner_id, created_at DESC, id DESC);
CREATE INDEX notes_by_team ON notes (team_id, created_at DESC, id DESC);
CREATE INDEX notes_personal ON notes (owner_id, created_at DESC, id DESC) WHERE team_id IS NULL;

CREATE TABLE memory (
    id         uuid PRIMARY KEY,
    owner_id   uuid NOT NULL REFERENCES users (id),
    team_id    uuid REFERENCES teams (id),
    kind       text NOT NULL DEFAULT 'fact' CHECK (kind IN ('fact', 'preference', 'decision', 'episode')),
    content    text NOT NULL CHECK (octet_length(content) BETWEEN 1 AND 65536),
    importance real NOT NULL DEFAULT 0.5 CHECK (importance BETWEEN 0 AND 1),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX memory_by_owner ON memory (owner_id, created_at DESC, id DESC);
CREATE INDEX memory_by_team ON memory (team_id, created_at DESC, id DESC);
CREATE INDEX memory_personal ON memory (owner_id, created_at DESC, id DESC) WHERE team_id IS NULL;

-- Sensitive: no grant can open these two.
CREATE TABLE credentials (
    id         uuid PRIMARY KEY,
    owner_id   uuid NOT NULL REFERENCES users (id),
    team_id    uuid REFERENCES teams (id),
    name       text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    kind       text NOT NULL DEFAULT 'password',
    hint       text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX credentials_by_owner ON credentials (owner_id, created_at DESC, id DESC);
CREATE INDEX credentials_by_team ON credentials (team_id, created_at DESC, id DESC);
CREATE INDEX credentials_personal ON credentials (owner_id, created_at DESC, id DESC) WHERE team_id IS NULL;

CREATE TABLE api_keys (
    id         uuid PRIMARY KEY,
    owner_id   uuid NOT NULL REFERENCES users (id),
    team_id    uuid REFERENCES teams (id),
    name       text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 200),
    service    text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX api_keys_by_owner ON api_keys (owner_id, created_at DESC, id DESC);
CREATE INDEX api_keys_by_team ON api_keys (team_id, created_at DESC, id DESC);
CREATE INDEX api_keys_personal ON api_keys (owner_id, created_at DESC, id DESC) WHERE team_id IS NULL;

-- --------------------------------------------------------------------------------------------- federation, owner side

CREATE TABLE peers (
    id         uuid PRIMARY KEY,
    name       text NOT NULL UNIQUE CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE grants (
    id                  uuid PRIMARY KEY,
    peer_id             uuid NOT NULL REFERENCES peers (id),
    subject_user_id     uuid NOT NULL REFERENCES users (id),
    scope               jsonb NOT NULL,
    status              text NOT NULL DEFAULT 'pending'
                        CHECK (status IN ('pending', 'active', 'suspended', 'revoked', 'expired')),
    version             bigint NOT NULL DEFAULT 1,
    requests_per_second integer NOT NULL CHECK (requests_per_second BETWEEN 1 AND 100000),
    burst               integer NOT NULL CHECK (burst BETWEEN 1 AND 1000000),
    concurrent          integer NOT NULL CHECK (concurrent BETWEEN 1 AND 10000),
    expires_at          timestamptz NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    activated_at        timestamptz,
    ended_at            timestamptz
);
CREATE INDEX grants_by_peer ON grants (peer_id, created_at DESC, id DESC);
CREATE INDEX grants_by_subject ON grants (subject_user_id);
CREATE INDEX grants_by_time ON grants (created_at DESC, id DESC);

-- A certificate that this site's CA issued for a grant. `superseded_until` is set when a newer one takes over.
CREATE TABLE grant_certificates (
    serial           bytea PRIMARY KEY CHECK (octet_length(serial) BETWEEN 1 AND 20),
    grant_id         uuid NOT NULL REFERENCES grants (id),
    public_key_sha256 bytea NOT NULL UNIQUE CHECK (octet_length(public_key_sha256) = 32),
    not_before       timestamptz NOT NULL,
    not_after        timestamptz NOT NULL,
    superseded_until timestamptz,
    revoked_at       timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX grant_certificates_by_grant ON grant_certificates (grant_id);

CREATE TABLE enrollment_tokens (
    id           uuid PRIMARY KEY,
    grant_id     uuid NOT NULL REFERENCES grants (id),
    token_sha256 bytea NOT NULL UNIQUE CHECK (octet_length(token_sha256) = 32),
    expires_at   timestamptz NOT NULL,
    used_at      timestamptz,
    voided_at    timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX enrollment_tokens_by_grant ON enrollment_tokens (grant_id);

-- The embedded CA: one row, its key sealed with the master secret.
CREATE TABLE embedded_ca (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    certificate bytea NOT NULL,
    sealed_key  bytea NOT NULL,
    crl_number  bigint NOT NULL DEFAULT 0,
    crl         bytea,
    crl_next_update timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now()
);

-- What the CRL of the embedded CA lists.
CREATE TABLE revoked_certificates (
    serial     bytea PRIMARY KEY CHECK (octet_length(serial) BETWEEN 1 AND 20),
    revoked_at timestamptz NOT NULL DEFAULT now(),
    not_after  timestamptz NOT NULL
);

-- -------------------------------------------------------------------------------------------- federation, asking side

CREATE TABLE links (
    id             uuid PRIMARY KEY,
    peer           text NOT NULL CHECK (peer ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    owner_user_id  uuid NOT NULL REFERENCES users (id),
    state          text NOT NULL DEFAULT 'active'
                   CHECK (state IN ('pending', 'active', 'degraded', 'suspended', 'revoked', 'expired')),
    site           text NOT NULL,
    grant_id       uuid NOT NULL,
    subject_user_id uuid NOT NULL,
    federation_url text NOT NULL,
    enroll_url     text NOT NULL,
    allow_private  boolean NOT NULL DEFAULT false,
    pinned_root    bytea NOT NULL,
    certificate_chain bytea[] NOT NULL,
    serial         bytea NOT NULL,
    not_before     timestamptz NOT NULL,
    not_after      timestamptz NOT NULL,
    sealed_key     bytea NOT NULL,
    key_version    integer NOT NULL DEFAULT 1,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (owner_user_id, peer)
);

CREATE TABLE link_teams (
    link_id uuid NOT NULL REFERENCES links (id) ON DELETE CASCADE,
    team_id uuid NOT NULL REFERENCES teams (id) ON DELETE CASCADE,
    PRIMARY KEY (link_id, team_id)
);

-- --------------------------------------------------------------------------------------------------------------- audit

-- Partitioned by month, so that a month can move to a colder place as a whole. The node makes partitions ahead; the default
-- partition means that a missing one never loses an event.
CREATE TABLE federation_audit_log (
    seq           bigint GENERATED ALWAYS AS IDENTITY,
    at            timestamptz NOT NULL,
    request_id    uuid NOT NULL,
    peer          text,
    grant_id      uuid,
    grant_version bigint,
    subject_user_id uuid,
    action        text NOT NULL,
    resource      text,
    query_hash    bytea,
    outcome       text NOT NULL CHECK (outcome IN ('allowed', 'denied', 'failed')),
    reason        text,
    rows          integer NOT NULL DEFAULT 0,
    bytes_out     bigint NOT NULL DEFAULT 0,
    latency_us    bigint NOT NULL DEFAULT 0,
    serial        bytea,
    remote_addr   inet
) PARTITION BY RANGE (at);
CREATE TABLE federation_audit_log_default PARTITION OF federation_audit_log DEFAULT;
CREATE INDEX federation_audit_log_by_time ON federation_audit_log (at DESC, seq DESC);
CREATE INDEX federation_audit_log_by_grant ON federation_audit_log (grant_id, at DESC, seq DESC);

-- ----------------------------------------------------------------------------------------------------------- invariants

-- A grant that is revoked or expired stays so, whatever the program does.
CREATE FUNCTION grants_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status IN ('revoked', 'expired') AND NEW.status <> OLD.status THEN
        RAISE EXCEPTION 'a grant that is % is terminal', OLD.status USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.id <> OLD.id OR NEW.peer_id <> OLD.peer_id OR NEW.subject_user_id <> OLD.subject_user_id THEN
        RAISE EXCEPTION 'a grant keeps its peer and its subject' USING ERRCODE = 'check_violation';
    END IF;
    NEW.version := OLD.version + 1;
    RETURN NEW;
END $$;
CREATE TRIGGER grants_guard BEFORE UPDATE ON grants FOR EACH ROW EXECUTE FUNCTION grants_guard();

CREATE FUNCTION grants_keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'grants are never deleted; revoke them' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER grants_keep BEFORE DELETE ON grants FOR EACH ROW EXECUTE FUNCTION grants_keep();

-- Whatever authorisation depends on: tell every replica which grant changed ('g:<id>:<version>') or which user ('u:<id>:<version>').
-- The counter's row lock is held until the commit, so that versions arrive in order and without gaps: a replica that has applied
-- a version has applied everything before it.
CREATE FUNCTION announce_authority(what text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    reached bigint;
BEGIN
    UPDATE authority_version SET version = version + 1 RETURNING version INTO reached;
    PERFORM pg_notify('mosaic_authority', what || ':' || reached);
END $$;

CREATE FUNCTION announce_grant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM announce_authority('g:' || NEW.id::text);
    RETURN NULL;
END $$;
CREATE TRIGGER announce_grant AFTER INSERT OR UPDATE ON grants FOR EACH ROW EXECUTE FUNCTION announce_grant();

CREATE FUNCTION announce_grant_certificate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM announce_authority('g:' || NEW.grant_id::text);
    RETURN NULL;
END $$;
CREATE TRIGGER announce_grant_certificate AFTER INSERT OR UPDATE ON grant_certificates
    FOR EACH ROW EXECUTE FUNCTION announce_grant_certificate();

CREATE FUNCTION announce_user() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM announce_authority('u:' || NEW.id::text);
    RETURN NULL;
END $$;
CREATE TRIGGER announce_user AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION announce_user();

CREATE FUNCTION announce_member() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM announce_authority('u:' || COALESCE(NEW.user_id, OLD.user_id)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER announce_member AFTER INSERT OR UPDATE OR DELETE ON team_members
    FOR EACH ROW EXECUTE FUNCTION announce_member();

-- The asking side's links: 'l:<id>' on its own channel, so that replicas start, change and stop the same links.
CREATE FUNCTION announce_link() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('mosaic_links', COALESCE(NEW.id, OLD.id)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER announce_link AFTER INSERT OR UPDATE OR DELETE ON links FOR EACH ROW EXECUTE FUNCTION announce_link();

CREATE FUNCTION announce_link_team() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('mosaic_links', COALESCE(NEW.link_id, OLD.link_id)::text);
    RETURN NULL;
END $$;
CREATE TRIGGER announce_link_team AFTER INSERT OR UPDATE OR DELETE ON link_teams
    FOR EACH ROW EXECUTE FUNCTION announce_link_team();

-- The CRL changed: replicas reload it.
CREATE FUNCTION announce_crl() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.crl_number IS DISTINCT FROM OLD.crl_number THEN
        PERFORM pg_notify('mosaic_crl', NEW.crl_number::text);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER announce_crl AFTER INSERT OR UPDATE ON embedded_ca FOR EACH ROW EXECUTE FUNCTION announce_crl();
