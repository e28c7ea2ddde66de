"""Announces chunks in Redis, which is optional. Nothing else imports `redis`."""
