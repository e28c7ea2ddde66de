"""gunicorn's side: how processes start, and how sockets are served. Knows no view."""
