-- Mark the database as half restored. Only this table's existence and its comment matter.
CREATE TABLE IF NOT EXISTS restore_unfinished ()
