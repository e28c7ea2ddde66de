-- How much the tables and indexes of this database take, in bytes.
SELECT pg_database_size(current_database()) AS bytes
