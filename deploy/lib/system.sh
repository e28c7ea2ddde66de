# Prepares the system for the service: packages, user, settings, database, Redis, units.
# shellcheck shell=bash disable=SC2154  # names of common.sh and install

require_system() {
  require_root
  command -v apt-get >/dev/null || fail "this needs Debian 12, Ubuntu 24.04 or newer (apt-get)"
  require_alone
}

install_packages() {
  local wanted=(ca-certificates curl openssl python3 python3-venv postgresql-client) missing=() name
  if [ -n "$postgres" ]; then wanted+=(postgresql); fi
  if [ -n "$nginx" ]; then wanted+=(nginx); fi
  if [[ -n $with_redis && $redis_url == *@(127.0.0.1|localhost)* ]]; then wanted+=(redis-server); fi
  for name in "${wanted[@]}"; do
    if ! dpkg-query --show --showformat='${Status}' "$name" 2>/dev/null | grep -q 'ok installed'; then
      missing+=("$name")
    fi
  done
  if [ ${#missing[@]} != 0 ]; then
    say "packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a
    quietly apt-get update
    # A new machine may be upgrading itself in its first minutes.
    quietly apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "${missing[@]}"
  fi
  if [ -n "$dry_run" ]; then return; fi
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "Python 3.11 or newer is needed, but this is $(python3 --version)"
}

# Two groups: `ingest` is the service's own, with no other member. Whoever may read recordings is in
# `ingest-audio`: nginx, which sends them to workers itself (X-Accel-Redirect), and workers on this machine.
make_user() {
  if getent group ingest >/dev/null && ! getent group ingest-audio >/dev/null; then split_group; fi
  if ! getent group ingest-audio >/dev/null; then run groupadd --system ingest-audio; fi
  if ! getent group ingest >/dev/null; then run groupadd --system ingest; fi
  if ! id ingest >/dev/null 2>&1; then
    say "system user ingest"
    run useradd --system --gid ingest-audio --groups ingest --home-dir "$state_folder" \
      --shell /usr/sbin/nologin ingest
  fi
  if ! is_member ingest ingest; then run usermod --append --groups ingest ingest; fi
  if [ ! -d "$state_folder/audio" ]; then
    say "storage $state_folder/audio"
    run install -d -o ingest -g ingest-audio -m 0750 "$state_folder"
    run install -d -o ingest -g ingest-audio -m 2750 "$state_folder/audio"
  fi
  if [ -n "$nginx" ] && ! is_member www-data ingest-audio; then
    run usermod --append --groups ingest-audio www-data
    reload=yes
  fi
}

# is_member USER GROUP
is_member() { id --name --groups "$1" 2>/dev/null | tr ' ' '\n' | grep -qxF "$2"; }

# Earlier versions had one group, for recordings and secrets. It keeps its number, its members and every
# file, under the new name: so no worker has to be restarted, and no million files are changed. Folders
# hand it on to what is made in them, in case the version before comes back, whose units name `ingest`.
split_group() {
  say "group ingest-audio, for nginx and workers that read recordings"
  run groupmod --new-name ingest-audio ingest
  run groupadd --system ingest
  if [ ! -d "$state_folder/audio" ]; then return; fi
  run find "$state_folder/audio" -maxdepth 3 -type d -user ingest -exec chmod g+s {} +
}

make_settings() {
  if [ ! -f "$settings_file" ]; then
    say "settings $settings_file, with new tokens"
    run install -d -o root -g ingest -m 0750 "$settings_folder"
  fi
  close_settings
  if [ -z "$dry_run" ]; then started=settings; fi
  require_plain_settings
  put_settings < <(wanted_settings)
  if [ -n "$wrote" ] && [ -z "$dry_run" ]; then touch "$pending"; fi
  # Commands that are run in this folder read .env.
  if [ ! -e "$settings_folder/.env" ]; then run ln -s ingest-api.env "$settings_folder/.env"; fi
  put /usr/local/bin/ingest 0755 < "$deploy/ingest"
}

# Earlier versions let the group read them, and those that restore has kept.
close_settings() {
  local file
  if [ ! -d "$settings_folder" ]; then return; fi
  if [ "$(stat -c %U:%G:%a "$settings_folder")" != root:ingest:750 ]; then
    run chown root:ingest "$settings_folder"
    run chmod 0750 "$settings_folder"
  fi
  for file in "$settings_file" "$settings_file".before-restore-*; do
    if [ ! -f "$file" ] || [ "$(stat -c %U:%G:%a "$file")" = ingest:ingest:400 ]; then continue; fi
    run chown ingest:ingest "$file"
    run chmod 0400 "$file"
  done
}

# systemd and the commands parse this file differently: it may contain only what both read alike.
require_plain_settings() {
  local line
  line=$(wanted_settings | grep -nE -m 1 "^[^#].*([\"'\$\\]| #|"$'\r'")" || true)
  [ -z "$line" ] || fail "$settings_file: use no quotes, \$, \\ or comments after a value: ${line%%=*}"
}

# Prints the present settings, or those of a new machine, as the options change them.
wanted_settings() {
  local options=() option lines=() line
  mapfile -t lines < <(cat "$settings_file" 2>/dev/null || new_settings)
  if [ -n "$nginx" ]; then options+=("SERVER_NAME=$server_name"); fi
  if [ -n "$retention" ]; then options+=("RETENTION=$retention"); fi
  if [ -n "$backup_dir" ]; then options+=("BACKUP_DIR=$backup_dir"); fi
  if [ -n "$with_redis" ]; then
    options+=(QUEUE_BACKEND=redis "REDIS_URL=$redis_url")
  fi
  # Remembered, so that an upgrade, a bare `deploy/install`, does not install what was not wanted.
  if [ -z "$nginx" ]; then options+=(NGINX=no); fi
  if [ -z "$postgres" ]; then options+=(POSTGRES=no); fi
  if [ -z "$postgres" ] && [ -n "${DATABASE_URL:-}" ]; then options+=("DATABASE_URL=$DATABASE_URL"); fi
  for option in "${options[@]}"; do set_line "$option"; done
  printf '%s\n' "${lines[@]}"
}

# set_line NAME=VALUE: sets it in `lines`. By the shell itself, because everybody sees the arguments of
# other programs, and DATABASE_URL and REDIS_URL may have a password.
set_line() {
  local line others=()
  for line in "${lines[@]}"; do
    if [ "$line" = "$1" ]; then return; fi
    if [[ $line != "${1%%=*}="* ]]; then others+=("$line"); fi
  done
  lines=("${others[@]}" "$1")
}

new_settings() {
  local url="postgresql:///ingest?host=/var/run/postgresql" port
  if [ -z "$postgres" ]; then
    url=$DATABASE_URL
  else
    port=$(as_postgres psql -Atc 'SHOW port' 2>/dev/null || echo 5432)
    if [ "$port" != 5432 ]; then url="$url&port=$port"; fi  # if there are several servers
  fi
  cat <<END
# Settings of the ingest API: deploy/README.md, "Settings". After a change: systemctl restart ingest-api
# NAME=value, without quotes, $, and comments after a value. Only root and the service may read this.
DATABASE_URL=$url
ADMIN_TOKEN=$(openssl rand -hex 24)
INTERNAL_TOKEN=$(openssl rand -hex 24)
AUDIO_STORAGE_DIR=$state_folder/audio
# Devices that send local time without an offset need this:
#NAIVE_TIMESTAMP_ZONE=Europe/Berlin
END
}

# The role is named after the system user, which needs no password on the local socket ("peer").
make_database() {
  if [ -n "$dry_run" ]; then echo "would ensure: PostgreSQL's role and database ingest"; return; fi
  systemctl start postgresql
  within 30 pg_isready --quiet || fail "PostgreSQL does not start: journalctl -u 'postgresql*'"
  if [ -z "$(as_postgres psql -Atc "SELECT 1 FROM pg_roles WHERE rolname = 'ingest'")" ]; then
    say "database role ingest"
    as_postgres createuser --no-superuser --no-createdb --no-createrole ingest
  fi
  if [ -z "$(as_postgres psql -Atc "SELECT 1 FROM pg_database WHERE datname = 'ingest'")" ]; then
    say "database ingest"
    as_postgres createdb --owner=ingest --template=template0 --encoding=UTF8 --locale=C.UTF-8 ingest
  fi
}

as_postgres() { (cd / && runuser -u postgres -- "$@"); }

# A restart of Redis must not lose consumer groups, and a full Redis must refuse instead of evicting.
make_redis() {
  if [ -n "$dry_run" ] || ! [[ -n $with_redis && $redis_url == *@(127.0.0.1|localhost)* ]]; then return; fi
  systemctl enable --now --quiet redis-server
  within 10 redis-cli ping >/dev/null || fail "Redis does not start: journalctl -u redis-server"
  if [ "$(redis-cli config get appendonly maxmemory-policy | sort | tr '\n' ' ')" != \
    "appendonly maxmemory-policy noeviction yes " ]; then
    redis-cli config set appendonly yes maxmemory-policy noeviction >/dev/null
    redis-cli config rewrite >/dev/null
  fi
}

install_units() {
  local file
  for file in "$deploy"/systemd/*.* "$deploy"/systemd/*/*.conf; do
    if [ -d "$file" ]; then continue; fi
    put_and_restart "$units_folder/${file#"$deploy/systemd/"}" 0644 < "$file"
  done
  if [ -n "$(setting BACKUP_DIR)" ]; then allow_backup_folder "$(setting BACKUP_DIR)"; fi
  if [ -z "$postgres" ]; then
    allow_network
  elif [ -f "$drop_ins/network.conf" ]; then
    run rm "$drop_ins/network.conf"
  fi
  put /etc/systemd/journald.conf.d/ingest-api.conf 0644 < "$deploy/journald.conf"
  if [ -n "$wrote" ]; then run systemctl restart systemd-journald; fi
  put /usr/share/doc/ingest-api/README.md 0644 < "$deploy/README.md"
  run systemctl daemon-reload
}

allow_backup_folder() {
  if [ -n "$backup_dir" ] && [ ! -e "$backup_dir/.ingest-backup" ]; then
    run install -d -o ingest -g ingest -m 0700 "$backup_dir"
  fi
  put "$units_folder/ingest-api-backup.service.d/folder.conf" 0644 <<END
# Written by install, for BACKUP_DIR.
[Unit]
RequiresMountsFor=$1
[Service]
ReadWritePaths=$1
END
}

allow_network() {
  put_and_restart "$drop_ins/network.conf" 0644 <<'END'
# Written by install --no-postgres: the database may be on any machine.
[Service]
IPAddressDeny=
IPAddressAllow=
END
}

init_backup_folder() {
  if [ -z "$backup_dir" ] || [ -e "$backup_dir/.ingest-backup" ]; then return; fi
  run as_service "$home/current/bin/flask" ingest backup --init "$backup_dir"
}

enable_units() {
  run systemctl enable --now --quiet ingest-api.socket ingest-api.service ingest-api-fsck.timer
  enable_where ingest-api-prune.timer "$(setting RETENTION)"
  enable_where ingest-api-backup.timer "$(setting BACKUP_DIR)"
  enable_where ingest-api-relay.service "$(setting QUEUE_BACKEND | grep -x redis || true)"
  if [ -n "$restarted" ]; then run systemctl try-restart ingest-api-relay; fi
}

# enable_where UNIT SETTING: enables the unit, or disables it if the setting is empty.
enable_where() {
  if [ -n "$2" ]; then
    run systemctl enable --now --quiet "$1"
  elif systemctl is-enabled --quiet "$1" 2>/dev/null; then
    run systemctl disable --now --quiet "$1"
  fi
}
