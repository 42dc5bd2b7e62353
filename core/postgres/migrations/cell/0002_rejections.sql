-- The latest rejections of each organization, for operators (core/journal/rejection_log.py).
-- app_slug is the app's at that time. field is the path of the member that is wrong, if the message
-- names one. item is the refused item, if the service keeps that.
CREATE TABLE rejections (
    organization_id  uuid NOT NULL,
    id               uuid NOT NULL,
    request_id       text NOT NULL,
    item_index       integer,
    code             text NOT NULL,
    field            text,
    message          text NOT NULL,
    app_slug         text NOT NULL,
    key_hint         text NOT NULL,
    item             text,
    PRIMARY KEY (organization_id, id)
);
