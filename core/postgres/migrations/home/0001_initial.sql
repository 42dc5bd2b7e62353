-- The whole of the first version.
--
-- Ids are ULIDs in uuid columns: they sort by time of creation. Every primary key and unique
-- index of a tenant's table starts with the organization, so that the tables can be distributed
-- by it later. Rules about values live in the core; the database arbitrates races.

CREATE TABLE deployment (
    only_row          boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    -- Keys the digests of API keys when the operator keeps no secret outside the database.
    key_secret        bytea NOT NULL,
    -- Set once an operator does: recognizes that secret without holding it.
    key_secret_check  bytea
);
INSERT INTO deployment (key_secret)
VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

CREATE TABLE organizations (
    id                   uuid PRIMARY KEY,
    name                 text NOT NULL UNIQUE,
    developer_api        boolean NOT NULL,
    monthly_quota        bigint CHECK (monthly_quota >= 0),          -- events; NULL: no quota
    requests_per_second  integer NOT NULL CHECK (requests_per_second > 0),
    created_at           timestamptz NOT NULL
);

CREATE TABLE apps (
    organization_id      uuid NOT NULL REFERENCES organizations,
    id                   uuid NOT NULL,
    slug                 text NOT NULL,
    name                 text NOT NULL,
    allowed_event_types  text[] NOT NULL,
    created_at           timestamptz NOT NULL,
    PRIMARY KEY (organization_id, id),
    UNIQUE (organization_id, slug)
);

CREATE TABLE api_keys (
    organization_id      uuid NOT NULL,
    id                   uuid NOT NULL,
    app_id               uuid NOT NULL,
    digest               bytea NOT NULL,      -- HMAC-SHA256 of the key; the key is not stored
    hint                 text NOT NULL,       -- the key's last four characters, to tell keys apart
    requests_per_second  integer NOT NULL CHECK (requests_per_second > 0),
    created_at           timestamptz NOT NULL,
    expires_at           timestamptz,
    revoked_at           timestamptz,
    PRIMARY KEY (organization_id, id),
    FOREIGN KEY (organization_id, app_id) REFERENCES apps
);
-- Not unique, because it cannot start with the organization; 256 bits do not collide.
CREATE INDEX api_keys_digest ON api_keys (digest);

CREATE TABLE workers (
    organization_id  uuid NOT NULL REFERENCES organizations,
    id               uuid NOT NULL,
    display_name     text NOT NULL,
    email            text,                    -- as first sent
    email_key        text,                    -- without regard to case: what is compared
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (organization_id, id),
    CONSTRAINT workers_email UNIQUE (organization_id, email_key)
);

-- The link is claimed before its worker exists (core/workers.py), hence the deferred reference.
CREATE TABLE worker_links (
    organization_id  uuid NOT NULL,
    app_id           uuid NOT NULL,
    external_id      text NOT NULL,
    worker_id        uuid NOT NULL,
    PRIMARY KEY (organization_id, app_id, external_id),
    FOREIGN KEY (organization_id, app_id) REFERENCES apps,
    FOREIGN KEY (organization_id, worker_id) REFERENCES workers DEFERRABLE INITIALLY DEFERRED
);

-- No foreign keys: a lookup for each of 100,000 events a second buys nothing, for the core
-- resolves every id in the same transaction and nothing is ever deleted from under it. Partitions
-- are by id, which is by time of receipt; they are made by core/partitions.py, months ahead.
CREATE TABLE events (
    organization_id   uuid NOT NULL,
    app_id            uuid NOT NULL,
    id                uuid NOT NULL,
    worker_id         uuid NOT NULL,
    event_type        text NOT NULL,
    category          text NOT NULL,
    occurred_at       timestamptz NOT NULL,
    duration_seconds  integer,
    metadata          json,                   -- json, not jsonb: kept as sent, to the last digit
    PRIMARY KEY (organization_id, id)
) PARTITION BY RANGE (id);

CREATE TABLE snapshot_history (
    organization_id  uuid NOT NULL,
    id               uuid NOT NULL,
    app_id           uuid NOT NULL,
    worker_id        uuid NOT NULL,
    snapshot_type    text NOT NULL,
    occurred_at      timestamptz NOT NULL,
    metrics          json NOT NULL,
    metadata         json,
    PRIMARY KEY (organization_id, id)
);
CREATE INDEX snapshot_history_card
    ON snapshot_history (organization_id, worker_id, app_id, snapshot_type, occurred_at);

-- Which row of the history is the current card.
CREATE TABLE snapshot_cards (
    organization_id  uuid NOT NULL,
    worker_id        uuid NOT NULL,
    app_id           uuid NOT NULL,
    snapshot_type    text NOT NULL,
    snapshot_id      uuid NOT NULL,
    occurred_at      timestamptz NOT NULL,
    PRIMARY KEY (organization_id, worker_id, app_id, snapshot_type)
);

-- Updated by every group of batches: room on the page keeps those updates off the index.
CREATE TABLE quota_usage (
    organization_id  uuid NOT NULL,
    month            date NOT NULL,
    used             bigint NOT NULL,
    granted          bigint NOT NULL,         -- by the latest charge: what RETURNING tells the core
    PRIMARY KEY (organization_id, month)
) WITH (fillfactor = 20);

-- Statistics for operators; the events and requests that were not accepted.
CREATE TABLE refusals (
    organization_id  uuid NOT NULL,
    month            date NOT NULL,
    code             text NOT NULL,
    events           bigint NOT NULL,
    requests         bigint NOT NULL,
    PRIMARY KEY (organization_id, month, code)
) WITH (fillfactor = 50);

CREATE TABLE idempotency_keys (
    organization_id  uuid NOT NULL,
    key_id           uuid NOT NULL,
    endpoint         text NOT NULL,
    idempotency_key  text NOT NULL,
    digest           bytea NOT NULL,          -- of what was asked, whatever the protocol
    receipt          json NOT NULL,
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (organization_id, key_id, endpoint, idempotency_key)
);
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);

-- Whatever changes a key's rights, by whatever hand, every process hears of it (core/changes.py).
CREATE FUNCTION announce_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('wepeople_changes', COALESCE(
        to_jsonb(NEW) ->> TG_ARGV[0], to_jsonb(OLD) ->> TG_ARGV[0]));
    RETURN NULL;
END $$;
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON organizations
    FOR EACH ROW EXECUTE FUNCTION announce_change('id');
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON apps
    FOR EACH ROW EXECUTE FUNCTION announce_change('organization_id');
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON api_keys
    FOR EACH ROW EXECUTE FUNCTION announce_change('organization_id');
