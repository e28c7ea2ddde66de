"""The description of the API (OpenAPI 3.1), from what stands beside each view."""
