"""The use cases: one module per subject. No HTTP and no terminal."""
