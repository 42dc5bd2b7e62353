-- Operators of the management API and the console, each with one token (core/admin/operators.py). A
-- token is kept as its digest, like an API key.
CREATE TABLE operators (
    id            uuid PRIMARY KEY,
    name          text NOT NULL,
    scope         text NOT NULL CHECK (scope IN ('read', 'write')),
    digest        bytea NOT NULL UNIQUE,
    hint          text NOT NULL,
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz,            -- NULL: never
    revoked_at    timestamptz,            -- NULL: not revoked
    last_used_at  timestamptz             -- NULL: never; exact to the minute
);
-- The name of one that was revoked is free again.
CREATE UNIQUE INDEX operators_name ON operators (name) WHERE revoked_at IS NULL;

-- Proof of an operator that a browser has (core/admin/sign_ins.py): a link that signs in once, or the
-- session that begins with it. Kept as digests, too.
CREATE TABLE sign_ins (
    digest       bytea PRIMARY KEY,
    operator_id  uuid NOT NULL REFERENCES operators ON DELETE CASCADE,
    is_link      boolean NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL
);
CREATE INDEX sign_ins_operator_id ON sign_ins (operator_id, created_at);
