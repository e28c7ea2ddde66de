"""How the service is run; this file makes the folder part of the wheel (see setup.cfg)."""
