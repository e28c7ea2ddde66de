-- The points of a name, whatever its capitals.
SELECT point_id
FROM points
WHERE lower(name) = lower(%(name)s)
ORDER BY point_id
