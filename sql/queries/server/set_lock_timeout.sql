-- How long this session waits for a lock before it gives up; 0: for ever.
SELECT set_config('lock_timeout', %(milliseconds)s::text, false) AS lock_timeout
