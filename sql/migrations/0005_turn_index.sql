-- migrate: no transaction
-- What waits, by device: for claims that go to the devices in turn, or to one shop.
CREATE INDEX CONCURRENTLY IF NOT EXISTS ix_audio_chunks_turn
    ON audio_chunks (point_id, device_id, start_ts)
    WHERE status = 'QUEUED';
