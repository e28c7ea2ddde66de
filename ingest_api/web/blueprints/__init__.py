"""The HTTP surface, a module a noun. Each view decodes, validates, stores, responds."""
