-- What PostgreSQL's clock shows, to compare it with ours.
SELECT clock_timestamp() AS now
