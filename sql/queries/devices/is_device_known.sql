-- Whether there is such a device.
SELECT EXISTS (SELECT FROM devices WHERE device_id = %(device_id)s) AS known
