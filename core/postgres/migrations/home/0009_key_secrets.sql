-- The secret of the digests can be changed: which one a digest was made with is known by its check.
-- NULL: by the one kept in this database, or by the release before, which did not say.
ALTER TABLE directory_keys ADD COLUMN secret_check bytea;
UPDATE directory_keys SET secret_check = key_secret_check
FROM deployment WHERE key_secret_check IS NOT NULL;
ALTER TABLE operators ADD COLUMN secret_check bytea;
UPDATE operators SET secret_check = key_secret_check
FROM deployment WHERE key_secret_check IS NOT NULL;

-- Of the secret that was in force before the present one; NULL: none, or the one kept here.
ALTER TABLE deployment ADD COLUMN key_secret_previous_check bytea;
