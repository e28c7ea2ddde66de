"""Backups: made, kept, removed and restored. How operators see them is in `commands/backup.py` and
`commands/restore.py`."""
