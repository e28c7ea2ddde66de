"""What happens: one module a subject. No HTTP and no terminal."""
