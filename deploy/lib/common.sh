# Shared by the scripts: paths, messages, and how files are changed.
# shellcheck shell=bash disable=SC2034,SC2154  # names shared with the sourcing scripts

home=/opt/ingest-api
settings_folder=/etc/ingest-api
settings_file=$settings_folder/ingest-api.env
state_folder=/var/lib/ingest_api
units_folder=/etc/systemd/system
drop_ins=$units_folder/ingest-.service.d
site=/etc/nginx/sites-available/ingest-api.conf
socket=/run/ingest-api/ingest-api.sock
dry_run=""
pending=$home/restart-pending  # exists until the service has been restarted
wrote=""

say() { echo "==> $*"; }
fail() { trap - ERR; echo "${0##*/}: $*" >&2; exit 1; }
misused() { trap - ERR; echo "${0##*/}: $* (see --help)" >&2; exit 2; }

# value_of OPTION VALUE...: prints the value of an option, which is the next argument.
value_of() {
  [ -n "${2:-}" ] || misused "$1 needs a value"
  echo "$2"
}

# Every change goes through `run` or `put`, which only print it with --dry-run.
run() {
  if [ -n "$dry_run" ]; then echo "would run: $*"; return; fi
  "$@"
}

# put FILE MODE [OWNER:GROUP]: replaces the file with standard input, atomically. If that fails, the file is
# as it was, even on a full disk and without `set -e`. `wrote` is empty if nothing had to change.
put() {
  local file=$1 mode=$2 owner=${3:-root:root} new
  wrote=""
  new=$(cat; echo .)
  if [ "$new" = . ]; then
    echo "${0##*/}: there is nothing to write to $file" >&2
    return 1
  fi
  if [ "$new" = "$(cat "$file" 2>/dev/null; echo .)" ]; then return; fi
  wrote=yes
  if [ -n "$dry_run" ]; then echo "would write: $file"; return; fi
  mkdir -p "$(dirname "$file")"
  if ! { (umask 077; printf %s "${new%.}" > "$file.new") && chmod "$mode" "$file.new" &&
    chown "$owner" "$file.new" && sync "$file.new" && mv "$file.new" "$file"; }; then
    rm -f "$file.new"
    echo "${0##*/}: $file could not be written" >&2
    return 1
  fi
  echo "wrote $file"
}

# Closed to everybody but the service's user and root, who is not it: workers on this machine and nginx
# must not learn the tokens.
put_settings() { put "$settings_file" 0400 ingest:ingest; }

# As `put`, for files that the service reads only when it starts.
put_and_restart() {
  put "$@"
  if [ -n "$wrote" ] && [ -z "$dry_run" ]; then touch "$pending"; fi
}

# As `run`, but prints the output only if the command fails.
quietly() {
  if [ -n "$dry_run" ]; then echo "would run: $*"; return; fi
  "$@" > "$work/output" 2>&1 || { cat "$work/output" >&2; fail "command failed: $*"; }
}

# setting NAME: prints its value in the settings file, or nothing if it is not set there.
setting() { sed -n "s/^$1=//p" "$settings_file" 2>/dev/null | tail -n 1 || true; }

# require_valid_settings: fails unless what these scripts take from the settings is as they expect. They
# run as root, and put the values into commands and into the files of nginx and systemd; whoever planted
# the file (a backup from elsewhere) must not run commands by it.
require_valid_settings() {
  local path="$state_folder/[A-Za-z0-9._/-]+"
  require_setting SERVER_NAME "$host_name" "a host name"
  require_setting MAX_UPLOAD_SIZE_BYTES '[1-9][0-9]{0,14}' "a whole number"
  require_setting RETENTION "$duration" "a duration such as 90d"
  require_setting BACKUP_DIR "$plain_path" "an absolute path of letters, digits and ._-/"
  require_setting AUDIO_STORAGE_DIR "$path" \
    "in $state_folder, which the units may write: mount the disk there"
  [[ $(setting AUDIO_STORAGE_DIR)/ != */../* ]] || fail "$settings_file: AUDIO_STORAGE_DIR must not contain .."
}

# require_setting NAME PATTERN WHAT: fails unless the value is empty or matches as a whole.
require_setting() {
  [[ $(setting "$1") =~ ^($2)?$ ]] || fail "$settings_file: $1 must be $3"
}

label='[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?'
host_name="$label(\\.$label)*"
duration='[1-9][0-9]{0,4}(s|min|h|d)'
plain_path='/[A-Za-z0-9._/-]+'

require_root() {
  [ "$EUID" = 0 ] || fail "must be run as root: sudo $0"
  [ -d /run/systemd/system ] || fail "systemd is not running here"
}

require_alone() {
  exec 9>/run/ingest-api-install.lock
  flock --nonblock 9 || fail "another install, restore or uninstall is running"
}

# as_service COMMAND...: runs it as the service's user, with its settings and without our environment: an
# exported DATABASE_URL would override the settings.
as_service() {
  (cd "$settings_folder" && exec env --ignore-environment PATH="$PATH" HOME="$state_folder" \
    PYTHONUTF8=1 runuser -u ingest -- env "$@")
}

# healthy URL [CURL OPTION...]: succeeds if the answer is that uploads can be stored.
healthy() {
  local url=$1
  shift
  curl --silent --fail --noproxy '*' --max-time 5 "$@" "$url" >/dev/null
}

# within SECONDS COMMAND...: tries until it succeeds.
within() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.3
  done
}
