-- How many devices there are.
SELECT count(*) AS devices
FROM devices
