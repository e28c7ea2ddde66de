-- Set what is known of a point.
INSERT INTO points (point_id, name, time_zone)
VALUES (%(point_id)s, %(name)s, %(time_zone)s)
ON CONFLICT (point_id) DO UPDATE SET name = excluded.name, time_zone = excluded.time_zone
RETURNING point_id, name, time_zone
