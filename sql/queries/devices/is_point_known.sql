-- Whether this point has a device, or had one whose chunks are here still.
SELECT EXISTS (SELECT FROM devices WHERE point_id = %(point_id)s)
    OR EXISTS (SELECT FROM audio_chunks WHERE point_id = %(point_id)s) AS known
