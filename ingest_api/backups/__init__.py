"""Backups: made, kept, removed and restored. `commands/backup.py` and `commands/restore.py` show
them to operators."""
