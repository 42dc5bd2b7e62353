-- Each app's traffic by the minute, for 48 hours (core/journal/traffic.py). Several processes add to
-- a row. milliseconds is the sum of all requests', slowest that of one.
CREATE TABLE traffic (
    organization_id  uuid NOT NULL,
    minute           timestamptz NOT NULL,
    app_id           uuid NOT NULL,
    requests         bigint NOT NULL,
    accepted         bigint NOT NULL,
    rejected         bigint NOT NULL,
    milliseconds     double precision NOT NULL,
    slowest          double precision NOT NULL,
    PRIMARY KEY (organization_id, minute, app_id)
) WITH (fillfactor = 50);
CREATE INDEX traffic_minute ON traffic (minute);

-- When each key was last used (core/journal/key_uses.py). It is no column of api_keys: a change there
-- is one of rights, of which every server hears.
CREATE TABLE key_uses (
    organization_id  uuid NOT NULL,
    key_id           uuid NOT NULL,
    used_at          timestamptz NOT NULL,
    PRIMARY KEY (organization_id, key_id)
) WITH (fillfactor = 50);
