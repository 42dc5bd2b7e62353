-- Of equal timestamps the later arrival is the card, whichever commits first, and a timestamp of the
-- future counts as the time of receipt. The default serves replicas of the release before.
ALTER TABLE snapshot_cards ADD COLUMN received_at timestamptz NOT NULL DEFAULT now();

-- An id tells the millisecond of receipt. Its end is taken: a snapshot that came without a timestamp
-- has the exact time of receipt, and is not of the future.
CREATE FUNCTION pg_temp.received_at(id uuid) RETURNS timestamptz LANGUAGE sql AS $$
    SELECT timestamptz 'epoch' + interval '1 microsecond'
        * (('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint * 1000 + 999)
$$;
UPDATE snapshot_cards SET received_at = pg_temp.received_at(snapshot_id);

-- Cards that a timestamp of the future has pinned are what the rule makes of their history.
WITH newest AS (
    SELECT DISTINCT ON (organization_id, worker_id, app_id, snapshot_type)
        organization_id, worker_id, app_id, snapshot_type, history.id, history.occurred_at,
        pg_temp.received_at(history.id) AS received_at
    FROM snapshot_cards AS pinned
    JOIN snapshot_history AS history USING (organization_id, worker_id, app_id, snapshot_type)
    WHERE pinned.occurred_at > pinned.received_at
    ORDER BY organization_id, worker_id, app_id, snapshot_type,
        LEAST(history.occurred_at, pg_temp.received_at(history.id)) DESC, history.id DESC
)
UPDATE snapshot_cards AS card SET
    snapshot_id = newest.id, occurred_at = newest.occurred_at, received_at = newest.received_at
FROM newest
WHERE (card.organization_id, card.worker_id, card.app_id, card.snapshot_type)
    = (newest.organization_id, newest.worker_id, newest.app_id, newest.snapshot_type);
