-- A page of the ids of devices: those after a certain one.
SELECT device_id
FROM devices
WHERE device_id > %(after)s
ORDER BY device_id
LIMIT %(page)s
