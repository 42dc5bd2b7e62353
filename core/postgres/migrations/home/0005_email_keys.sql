-- E-mails are compared by Unicode case folding, which PostgreSQL has not: core/postgres/email_keys.py
-- folds the keys in the transaction of this file. No process makes a worker meanwhile.
LOCK TABLE workers IN SHARE ROW EXCLUSIVE MODE;
COMMENT ON COLUMN workers.email_key IS
    'the e-mail case-folded: what is compared; NULL if there is none, or if an older worker has its match';
