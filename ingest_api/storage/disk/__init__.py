"""Stores recordings on a local disk: written once, synced, and given a final name."""
