-- Which devices may have recorded at a register: those that are there, or at its point, or were.
SELECT device_id
FROM devices
WHERE point_id = %(point_id)s OR register_id = %(register_id)s
UNION
SELECT device_id
FROM audio_chunks
WHERE point_id = %(point_id)s AND register_id = %(register_id)s
