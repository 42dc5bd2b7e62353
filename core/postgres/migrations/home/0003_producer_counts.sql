-- How many producers each app has, so that a new one is held to the limit without counting them.
-- Whoever adds or deletes a producer locks its app's row here first.
CREATE TABLE producer_counts (
    organization_id  uuid NOT NULL,
    app_id           uuid NOT NULL,
    producers        integer NOT NULL,
    PRIMARY KEY (organization_id, app_id),
    FOREIGN KEY (organization_id, app_id) REFERENCES apps
) WITH (fillfactor = 50);
INSERT INTO producer_counts (organization_id, app_id, producers)
SELECT organization_id, app_id, count(*) FROM producers GROUP BY 1, 2;

-- Finds the producers that were not opened for long.
CREATE INDEX producers_opened_at ON producers (opened_at);
