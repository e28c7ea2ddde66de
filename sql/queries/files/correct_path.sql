-- Put right a path that leads elsewhere than to the chunk's own file.
UPDATE audio_chunks
SET file_path = %(file_path)s
WHERE chunk_id = %(chunk_id)s AND file_path = %(foreign_path)s
