"""HTTP: decode a request, call one use case, show the result. Never touches the disk."""
