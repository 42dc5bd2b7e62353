-- Workers that were merged or erased. worker_changes counts the changes that make outdated what
-- processes remember of the organization's workers (core/journal/worker_changes.py). A worker with
-- merged_into is another name of that one, which is never merged itself. One with erased_at is of
-- nobody: no event finds it, and it stays for the events that it has.

ALTER TABLE organizations ADD COLUMN worker_changes bigint NOT NULL DEFAULT 0;

ALTER TABLE workers ADD COLUMN merged_into uuid;

ALTER TABLE workers ADD COLUMN erased_at timestamptz;

CREATE INDEX workers_merged_into ON workers (organization_id, merged_into)
    WHERE merged_into IS NOT NULL;

CREATE INDEX worker_links_worker_id ON worker_links (organization_id, worker_id);
