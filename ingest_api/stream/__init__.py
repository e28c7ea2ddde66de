"""Announcing chunks in Redis, which is optional as a whole. Nothing else imports `redis`."""
