-- How long after its end a recording was received: the median of the devices, each by its latest
-- recording, of those received lately. NULL without any.
SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY latest.created_at - latest.end_ts) AS delay
FROM devices
CROSS JOIN LATERAL (
    SELECT created_at, end_ts
    FROM audio_chunks
    WHERE device_id = devices.device_id
    ORDER BY start_ts DESC
    LIMIT 1
) AS latest
WHERE latest.created_at >= %(received_from)s
