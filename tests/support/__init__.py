"""What tests share: a service, devices, workers, backups, and processes to break them with."""
