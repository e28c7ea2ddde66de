"""The nouns of the service as frozen dataclasses. No behaviour."""
