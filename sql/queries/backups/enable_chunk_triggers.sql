-- Guard attempts and status again.
ALTER TABLE audio_chunks
    ENABLE TRIGGER move_chunk,
    ENABLE TRIGGER keep_attempts
