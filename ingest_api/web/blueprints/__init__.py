"""The endpoints, one module per noun. Each view decodes, validates, stores, responds."""
