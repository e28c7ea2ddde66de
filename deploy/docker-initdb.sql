-- Runs once in the container `db` of docker-compose.yml, when its volume is new. Creates the service's
-- role, which owns its database and is no superuser.
\getenv password INGEST_PASSWORD
CREATE ROLE ingest LOGIN PASSWORD :'password';
CREATE DATABASE ingest OWNER ingest;
