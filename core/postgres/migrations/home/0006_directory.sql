-- The directory: which cell an organization lives in (docs/decisions/0012-cells.md). The tables of
-- the first version are the home cell.
CREATE TABLE cells (
    -- Too short to be read as a UUID, which an announcement of an organization is.
    name        text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]{0,29}$'),
    conninfo    text,                       -- NULL: of the home database
    schema      text,                       -- NULL: the tables that a session of its own finds
    citus       boolean NOT NULL,           -- the schema is distributed, conninfo is its coordinator
    closed_at   timestamptz,                -- since when it takes no new organizations
    created_at  timestamptz NOT NULL
);
INSERT INTO cells (name, citus, created_at) VALUES ('home', false, now());

CREATE TABLE directory_organizations (
    id    uuid PRIMARY KEY,
    name  text NOT NULL UNIQUE,
    cell  text NOT NULL REFERENCES cells
);

CREATE TABLE directory_keys (
    digest           bytea PRIMARY KEY,
    organization_id  uuid NOT NULL,
    cell             text NOT NULL REFERENCES cells
);
CREATE INDEX directory_keys_organization_id ON directory_keys (organization_id);

-- Whoever writes to the home cell writes to the directory, too: the release before, and operators by
-- hand, who need no right on the directory for it.
CREATE FUNCTION enter_organization() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO directory_organizations (id, name, cell) VALUES (NEW.id, NEW.name, 'home')
        ON CONFLICT (id) DO NOTHING;
    ELSIF TG_OP = 'UPDATE' THEN
        UPDATE directory_organizations SET name = NEW.name WHERE id = NEW.id;
    ELSE
        DELETE FROM directory_organizations WHERE id = OLD.id;
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION enter_key() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        DELETE FROM directory_keys
        WHERE digest = OLD.digest AND organization_id = OLD.organization_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO directory_keys (digest, organization_id, cell)
        VALUES (NEW.digest, NEW.organization_id, 'home')
        ON CONFLICT (digest) DO NOTHING;
    END IF;
    RETURN NULL;
END $$;

-- In the order in which an organization is removed. From here on nobody else writes to them.
LOCK TABLE api_keys, organizations IN SHARE ROW EXCLUSIVE MODE;
CREATE TRIGGER directory AFTER INSERT OR DELETE OR UPDATE OF digest ON api_keys
    FOR EACH ROW EXECUTE FUNCTION enter_key();
CREATE TRIGGER directory AFTER INSERT OR DELETE OR UPDATE OF name ON organizations
    FOR EACH ROW EXECUTE FUNCTION enter_organization();
INSERT INTO directory_organizations (id, name, cell) SELECT id, name, 'home' FROM organizations;
INSERT INTO directory_keys (digest, organization_id, cell)
SELECT digest, organization_id, 'home' FROM api_keys
ON CONFLICT (digest) DO NOTHING;

-- As of the tables of the first version. A cell's payload is no UUID: anything may have changed.
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON cells
    FOR EACH ROW EXECUTE FUNCTION announce_change('name');
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON directory_organizations
    FOR EACH ROW EXECUTE FUNCTION announce_change('id');
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON directory_keys
    FOR EACH ROW EXECUTE FUNCTION announce_change('organization_id');
