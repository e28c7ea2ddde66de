-- Rather fail than wait long for a table, while every upload waits behind the migration.
SET lock_timeout = '10s'
