"""PostgreSQL: connections, the schema, and one function for each statement. No decisions."""
