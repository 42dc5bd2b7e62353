-- The tables of a cell, which the comments of home/0001 to home/0005 explain. In the home cell those
-- files have made them. A cell's files make the same of every cell, on Citus, too: each statement
-- ends at the end of a line, and is run by itself.

CREATE TABLE organizations (
    id                   uuid PRIMARY KEY,
    name                 text NOT NULL UNIQUE,
    developer_api        boolean NOT NULL,
    monthly_quota        bigint CHECK (monthly_quota >= 0),
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
    digest               bytea NOT NULL,
    hint                 text NOT NULL,
    requests_per_second  integer NOT NULL CHECK (requests_per_second > 0),
    created_at           timestamptz NOT NULL,
    expires_at           timestamptz,
    revoked_at           timestamptz,
    PRIMARY KEY (organization_id, id),
    FOREIGN KEY (organization_id, app_id) REFERENCES apps
);
CREATE INDEX api_keys_digest ON api_keys (digest);

CREATE TABLE workers (
    organization_id  uuid NOT NULL REFERENCES organizations,
    id               uuid NOT NULL,
    display_name     text NOT NULL,
    email            text,
    email_key        text,                    -- NULL, too, if an older worker has its match
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (organization_id, id),
    CONSTRAINT workers_email UNIQUE (organization_id, email_key)
);

CREATE TABLE worker_links (
    organization_id  uuid NOT NULL,
    app_id           uuid NOT NULL,
    external_id      text NOT NULL,
    worker_id        uuid NOT NULL,
    PRIMARY KEY (organization_id, app_id, external_id),
    FOREIGN KEY (organization_id, app_id) REFERENCES apps,
    FOREIGN KEY (organization_id, worker_id) REFERENCES workers DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE events (
    organization_id   uuid NOT NULL,
    app_id            uuid NOT NULL,
    id                uuid NOT NULL,
    worker_id         uuid NOT NULL,
    event_type        text NOT NULL,
    category          text NOT NULL,
    occurred_at       timestamptz NOT NULL,
    duration_seconds  integer,
    metadata          json,
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

CREATE TABLE snapshot_cards (
    organization_id  uuid NOT NULL,
    worker_id        uuid NOT NULL,
    app_id           uuid NOT NULL,
    snapshot_type    text NOT NULL,
    snapshot_id      uuid NOT NULL,
    occurred_at      timestamptz NOT NULL,
    received_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, worker_id, app_id, snapshot_type)
);

CREATE TABLE quota_usage (
    organization_id  uuid NOT NULL,
    month            date NOT NULL,
    used             bigint NOT NULL,
    granted          bigint NOT NULL,
    PRIMARY KEY (organization_id, month)
) WITH (fillfactor = 20);

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
    digest           bytea NOT NULL,
    receipt          json NOT NULL,
    created_at       timestamptz NOT NULL,
    PRIMARY KEY (organization_id, key_id, endpoint, idempotency_key)
);
CREATE INDEX idempotency_keys_created_at ON idempotency_keys (created_at);

CREATE TABLE producers (
    organization_id  uuid NOT NULL,
    app_id           uuid NOT NULL,
    producer_id      text NOT NULL,
    sequence         bigint NOT NULL,
    accepted         bigint NOT NULL,
    rejected         bigint NOT NULL,
    epoch            bigint NOT NULL,
    opened_at        timestamptz NOT NULL,
    PRIMARY KEY (organization_id, app_id, producer_id),
    FOREIGN KEY (organization_id, app_id) REFERENCES apps
) WITH (fillfactor = 20);
CREATE INDEX producers_opened_at ON producers (opened_at);

CREATE TABLE producer_counts (
    organization_id  uuid NOT NULL,
    app_id           uuid NOT NULL,
    producers        integer NOT NULL,
    PRIMARY KEY (organization_id, app_id),
    FOREIGN KEY (organization_id, app_id) REFERENCES apps
) WITH (fillfactor = 50);
