-- The audit log: every change that an operator makes by a command (core/postgres/audit.py). It
-- outlives what was changed, hence no references. Times are this server's, whoever made the change.
CREATE TABLE audit (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at                 timestamptz NOT NULL DEFAULT clock_timestamp(),
    hand               text NOT NULL,       -- by what the change was made
    actor              text NOT NULL,       -- by whom, as far as the hand knows
    action             text NOT NULL,
    organization_id    uuid,                -- NULL: of no organization
    organization_name  text,                -- at that time
    subject            text NOT NULL,       -- the public id of what was changed, or a cell's name
    before             json,                -- NULL: it was not there
    after              json,                -- NULL: it is not there any more
    done               boolean NOT NULL     -- false: begun in another database, and never reported back
);
CREATE INDEX audit_organization_id ON audit (organization_id, id);
CREATE INDEX audit_at ON audit (at);
