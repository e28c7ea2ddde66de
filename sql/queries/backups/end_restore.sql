-- Remove the mark of a restore, in the transaction that completes it.
DROP TABLE IF EXISTS restore_unfinished
