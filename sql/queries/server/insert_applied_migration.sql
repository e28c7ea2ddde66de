-- Record a migration in the transaction that applied it.
INSERT INTO schema_migrations (version, name, sha256)
VALUES (%(version)s, %(name)s, %(sha256)s)
