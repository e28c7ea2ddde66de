# Installs a version beside the one that serves, checks it, tries it, and only then switches to it. A
# failure before the switch leaves the old version alone; one after it brings the old version back.
# shellcheck shell=bash disable=SC2154  # names of common.sh and install

begin() {
  work=$(mktemp -d)
  if [ ! -d "$home" ]; then run mkdir "$home"; fi
  started=""   # what to undo if anything fails from here on
  migrated="" restarted=""
  before=$(readlink "$home/current" || true)
  release=""   # the new version; empty if it serves already
  keep_units
  cp --archive "$settings_file" "$work/settings" 2>/dev/null || true
  # A second Ctrl-C does not interrupt undo.
  trap 'status=$?; trap "" HUP INT TERM; trap - ERR; set +e; undo "$status"; rm -rf "$work"
    exit "$((status > 2 ? 1 : status))"' EXIT
  trap 'exit 130' HUP INT TERM
}

# Installs the wheel into a venv of its own.
make_release() {
  if [ -n "$dry_run" ]; then
    echo "would install: ${wheel:-a wheel of this checkout} below $home/releases"
    return
  fi
  if [ -z "$wheel" ]; then build_wheel; fi
  local digest
  digest=$(cat "$wheel" "$deploy/requirements.lock" | sha256sum)
  if [ -z "$rebuild" ] && [ "$digest" = "$(cat "$home/current/wheel" 2>/dev/null)" ]; then
    say "this version is installed already: $before"
    return
  fi
  release=releases/$(version_of "$wheel")-$(date --utc +%Y%m%dT%H%M%SZ)
  say "new version $home/$release"
  started="$started release"
  mkdir -p "$home/releases"
  python3 -m venv "$home/$release"
  install_locked "$home/$release" requirements.lock
  local pip=("$home/$release/bin/pip" --disable-pip-version-check)
  "${pip[@]}" install --quiet --no-deps --no-index "$wheel" || fail "pip could not install $wheel"
  "${pip[@]}" check --quiet || fail "$wheel needs other packages than deploy/requirements.lock names"
  echo "$digest" > "$home/$release/wheel"
}

# install_locked VENV LOCK: installs the packages of a lock file, as root: so only files whose hashes are in
# it, and only wheels, because a source package runs its own code.
install_locked() {
  "$1/bin/pip" --disable-pip-version-check install --quiet --require-hashes --no-deps \
    --only-binary=:all: --requirement "$deploy/$2" || fail "pip could not install $2"
}

# Reproducible: the same sources (and setuptools) give the same file, which shows whether it is installed
# already.
build_wheel() {
  local source=$work/source
  say "wheel of this checkout"
  mkdir -p "$source"
  cp -r "$deploy"/../{setup.cfg,pyproject.toml,README.md,ingest_api,sql,deploy} "$source"
  find "$source" -name __pycache__ -exec rm -r {} +
  chmod -R u=rwX,go=rX "$source"
  python3 -m venv "$work/venv"
  install_locked "$work/venv" build.lock
  SOURCE_DATE_EPOCH=315532800 "$work/venv/bin/pip" --disable-pip-version-check wheel --quiet \
    --no-deps --no-index --no-build-isolation --wheel-dir "$work" "$source" ||
    fail "the wheel could not be built"
  wheel=$(echo "$work"/*.whl)
}

version_of() { basename "$1" | cut -d- -f2; }

install_release() {
  if [ -n "$dry_run" ]; then
    echo "would check the new version, migrate, try it, switch to it, restart, check its health"
    return
  fi
  if [ -z "$release" ] && [ ! -e "$pending" ] && is_serving; then
    started=""
    return
  fi
  check_release "${release:-$before}"
  rehearse "${release:-$before}"
  started="$started switch"
  touch "$pending"  # for the next run, if this one is killed from here on
  if [ -n "$release" ]; then switch_to "$release"; fi
  restart
  rm -f "$pending"
  restarted=yes
  started=""
  forbid_newer_schema
  remove_old_releases
}

# check_release RELEASE: rejects bad settings before anything is migrated.
check_release() {
  local status=0
  as_service "$home/$1/bin/ingest-api" --check > "$work/check" 2>&1 || status=$?
  case $status in
    0) ;;
    3)
      say "migrations"
      migrated=yes
      if [ -n "$before" ]; then allow_newer_schema; fi
      as_service "$home/$1/bin/flask" ingest migrate || fail "the migration failed"
      ;;
    *)
      cat "$work/check" >&2
      fail "$(basename "$1") refuses to start"
      ;;
  esac
}

# rehearse RELEASE: runs the new version beside the old one, with the settings and limits of our units
# (systemd finds the hardening by the unit's name), until it reports that it could store uploads.
rehearse() {
  local port unit=ingest-api-rehearsal status=0 since=$EPOCHSECONDS
  port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
  say "trial on port $port"
  systemctl stop $unit 2>/dev/null || true  # left by an install that was killed
  systemctl reset-failed $unit 2>/dev/null || true
  systemd-run --quiet --unit=$unit --service-type=notify --property=User=ingest \
    --property=EnvironmentFile="$settings_file" --property=LimitNOFILE=65536 \
    --property=TimeoutStartSec=30 --property=TimeoutStopSec=10 \
    env HOST=127.0.0.1 PORT="$port" WORKERS=1 "$home/$1/bin/ingest-api" || status=1
  if [ $status = 0 ]; then within 20 healthy "http://127.0.0.1:$port/health" || status=1; fi
  if [ $status != 0 ]; then
    show_log $unit "$since"
    curl --silent --max-time 5 "http://127.0.0.1:$port/health" >&2 || true
  fi
  systemctl stop $unit 2>/dev/null || true
  [ $status = 0 ] || fail "$(basename "$1") failed its trial"
}

switch_to() {
  say "switching to $1"
  ln --symbolic --force --no-dereference "$1" "$home/current.new"
  mv --no-target-directory "$home/current.new" "$home/current"
}

# Connections wait in the socket meanwhile. Only a changed socket must be closed.
restart() {
  local since=$EPOCHSECONDS
  if has_other_socket; then
    systemctl stop ingest-api.service ingest-api.socket 2>/dev/null || true
  fi
  systemctl start ingest-api.socket || fail "the socket does not start: systemctl status ingest-api.socket"
  if ! systemctl restart ingest-api.service || ! within 30 is_serving; then
    show_log ingest-api "$since"
    fail "the service is not healthy"
  fi
}

# show_log UNIT SINCE: prints what most likely says why it fails.
show_log() {
  echo "its log:" >&2
  journalctl --sync
  journalctl --quiet --unit="$1" --since="@$2" --lines=40 --output=cat >&2
}

has_other_socket() {
  ! cmp --silent "$work/units/ingest-api.socket" "$units_folder/ingest-api.socket"
}

is_serving() { healthy http://localhost/health --unix-socket "$socket"; }

# Keeps only those that a rollback needs.
remove_old_releases() {
  local old
  find "$home/releases" -mindepth 1 -maxdepth 1 -printf '%T@ %p\n' | sort -rn | cut -d' ' -f2 |
    tail -n +4 | while read -r old; do
      if [ "releases/${old##*/}" != "$(readlink "$home/current")" ]; then rm -rf "$old"; fi
    done
}

# undo STATUS: puts everything back after a failure, except the database's schema, which only goes forward.
undo() {
  if [ "$1" = 0 ] || [ -z "$started" ]; then return; fi
  systemctl stop ingest-api-rehearsal 2>/dev/null
  if [ -n "$release" ] && [[ $started != *switch* ]]; then rm -rf "${home:?}/$release"; fi  # frees space
  if [ -n "$before" ]; then
    restore_units
    restore_settings
  fi
  if [[ $started == *switch* ]]; then switch_back; fi
  rm -f "$pending"
  if [ -n "$release" ]; then rm -rf "${home:?}/$release"; fi
  if [ -z "$before" ]; then return; fi
  forbid_newer_schema
  if is_serving; then
    echo "Not installed. ${before##*/} keeps running." >&2
  else
    echo "Not installed, and ${before##*/} is not healthy either: journalctl -u ingest-api" >&2
  fi
}

restore_settings() {
  if [ ! -f "$work/settings" ]; then return; fi
  put_settings < <(
    if [ -n "$migrated" ]; then
      grep -v '^ALLOW_NEWER_SCHEMA=' "$work/settings"
      echo ALLOW_NEWER_SCHEMA=true
    else
      cat "$work/settings"
    fi
  )
}

switch_back() {
  if [ -z "$before" ]; then
    systemctl stop ingest-api.service ingest-api.socket
    rm -f "$home/current"
    return
  fi
  switch_to "$before"
  systemctl stop ingest-api.service
  if has_other_socket; then systemctl stop ingest-api.socket; fi
  systemctl reset-failed ingest-api.service ingest-api.socket
  systemctl start ingest-api.socket
  systemctl restart ingest-api.service
  within 30 is_serving
}

# Copies the units as they are, for a rollback.
keep_units() {
  mkdir "$work/units"
  find "$units_folder" -maxdepth 1 -name 'ingest-*' -exec cp --archive {} "$work/units" \;
}

restore_units() {
  local file
  cp --archive "$work/units/." "$units_folder/"
  find "$units_folder"/ingest-* -type f |  # not nginx's drop-in: without it nginx must be restarted
    while read -r file; do
      if [ ! -e "$work/units/${file#"$units_folder/"}" ]; then rm "$file"; fi
    done
  systemctl daemon-reload
}

# The previous version would refuse to start on a schema that the new one has migrated, also after a power
# cut in the middle of this. Migrations only add, so it can work with that schema.
allow_newer_schema() {
  if [ "$(setting ALLOW_NEWER_SCHEMA)" = true ]; then return; fi
  put_settings \
    < <(grep -v '^ALLOW_NEWER_SCHEMA=' "$settings_file"; echo ALLOW_NEWER_SCHEMA=true)
}

# Once the version that serves knows the schema.
forbid_newer_schema() {
  if [ -z "$(setting ALLOW_NEWER_SCHEMA)" ]; then return; fi
  if as_service ALLOW_NEWER_SCHEMA=false "$home/current/bin/flask" ingest migrate --status \
    >/dev/null 2>&1; then
    put_settings < <(grep -v '^ALLOW_NEWER_SCHEMA=' "$settings_file")
  fi
}
