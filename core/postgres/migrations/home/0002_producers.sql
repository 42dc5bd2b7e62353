-- Exactly-once streams: how far each producer has come, committed together with its events.
CREATE TABLE producers (
    organization_id  uuid NOT NULL,
    app_id           uuid NOT NULL,
    producer_id      text NOT NULL,
    sequence         bigint NOT NULL,         -- the last committed batch
    accepted         bigint NOT NULL,         -- events of the committed batches that are stored
    rejected         bigint NOT NULL,         -- events of the committed batches that are not
    epoch            bigint NOT NULL,         -- counts the streams; an older one cannot write
    opened_at        timestamptz NOT NULL,
    PRIMARY KEY (organization_id, app_id, producer_id),
    FOREIGN KEY (organization_id, app_id) REFERENCES apps
) WITH (fillfactor = 20);
