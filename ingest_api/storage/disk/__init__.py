"""Recordings on a local disk: written once, synced, and named for good."""
