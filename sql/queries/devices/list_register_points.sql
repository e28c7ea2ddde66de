-- The points whose devices are registered at a register.
SELECT DISTINCT point_id
FROM devices
WHERE register_id = %(register_id)s
ORDER BY point_id
