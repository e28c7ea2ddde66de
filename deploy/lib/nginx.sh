# nginx: the site, its certificate, and enough connections for a fleet.
# shellcheck shell=bash disable=SC2154  # names of common.sh and install

tls=$settings_folder/tls
reload=""
last=$home/site.conf  # the site as it was installed: any difference is an operator's change
enabled=/etc/nginx/sites-enabled

install_site() {
  say "nginx site for $server_name"
  make_certificate
  if [ ! -f "$settings_folder/internal-allow.conf" ]; then
    put "$settings_folder/internal-allow.conf" 0644 < "$deploy/nginx/internal-allow.conf"
  fi
  if [ ! -d /var/www/letsencrypt ]; then run mkdir --parents /var/www/letsencrypt; fi
  raise_limits
  cp "$site" "$work/site.before" 2>/dev/null || true
  put_site
  if [ -L "$enabled/default" ]; then run rm "$enabled/default"; fi  # it would answer in our place
  if [ -n "$dry_run" ]; then return; fi
  if ! nginx -t -q; then
    cp "$work/site.before" "$site" 2>/dev/null || rm -f "$enabled/ingest-api.conf"
    fail "nginx rejects the new site, and keeps the old one"
  fi
  if cmp --silent "$site" "$work/site.conf"; then put "$last" 0644 < "$work/site.conf"; fi
  systemctl enable --quiet nginx
  # A reload closes the connections that devices keep alive, so only if something has changed.
  if [ -n "$reload" ] || ! systemctl is-active --quiet nginx; then systemctl reload-or-restart nginx; fi
  within 10 healthy "https://$server_name/health" --insecure --resolve "$server_name:443:127.0.0.1" ||
    fail "the service is healthy, but not through nginx: see /var/log/nginx/error.log"
}

# Self-signed, so that nginx can start. certbot's replaces it: see README.md.
make_certificate() {
  if [ -L "$tls/fullchain.pem" ]; then return; fi  # certbot's
  if [ -f "$tls/fullchain.pem" ] && ! is_outdated "$tls/fullchain.pem"; then return; fi
  local kind=DNS
  if [[ $server_name =~ ^[0-9.]+$ ]]; then kind=IP; fi
  run install -d -m 0700 "$tls"
  quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 \
    -subj "/CN=$server_name" -addext "subjectAltName=$kind:$server_name" \
    -keyout "$tls/privkey.pem" -out "$tls/fullchain.pem"
  reload=yes
}

# Whether a certificate is our self-signed one, but for another name.
is_outdated() {
  if ! openssl verify -CAfile "$1" "$1" >/dev/null 2>&1; then return 1; fi
  ! openssl x509 -in "$1" -noout -ext subjectAltName | grep -qwF "$server_name"
}

# Every device keeps a connection; Debian's nginx allows 768 per process. (worker_rlimit_nofile needs a
# capability that containers used as virtual machines lack; systemd takes what it can get.)
raise_limits() {
  if grep -q '^\s*worker_connections 768;' /etc/nginx/nginx.conf 2>/dev/null; then
    run sed --in-place 's/^\(\s*\)worker_connections 768;/\1worker_connections 16384;/' \
      /etc/nginx/nginx.conf
  fi
  local drop_in=$units_folder/nginx.service.d/ingest-api.conf limit=LimitNOFILE=65536
  # Not for a comment that has changed: while nginx restarts, devices are refused.
  if grep --quiet --line-regexp "$limit" "$drop_in" 2>/dev/null; then return; fi
  put "$drop_in" 0644 <<END
# Written by install: a connection to a device takes a descriptor, a busy one three.
[Service]
$limit
END
  run systemctl daemon-reload
  run systemctl restart nginx  # a reload is not enough
}

# Changes by an operator or certbot stay; the new site is put beside theirs.
put_site() {
  local text=$work/site.conf
  site_text > "$text"
  if [ -f "$site" ] && ! cmp --silent "$site" "$last" && ! cmp --silent "$site" "$text"; then
    if cmp --silent "$text" "$last"; then return; fi
    put "$site.new" 0644 < "$text"
    echo "$site was changed by hand and is left alone; the new site is $site.new"
    return
  fi
  run rm -f "$site.new"
  put "$site" 0644 < "$text"
  reload=$reload$wrote
  if [ ! -e "$enabled/ingest-api.conf" ]; then run ln --symbolic --force "$site" "$enabled/"; fi
}

# By the shell itself: in a pattern of sed a value could be a command.
site_text() {
  local text limit storage
  limit=$(setting MAX_UPLOAD_SIZE_BYTES)
  storage=$(setting AUDIO_STORAGE_DIR)
  text=$(cat "$deploy/nginx/ingest-api.conf")
  text=${text//@SERVER_NAME@/"$server_name"}
  text=${text//@CLIENT_MAX_BODY@/"$((${limit:-10485760} + 2 * 1024 * 1024))"}
  text=${text//@AUDIO_STORAGE_DIR@/"${storage:-$state_folder/audio}"}
  if [ -e /proc/net/if_inet6 ]; then echo "$text"; else grep -vF 'listen [::]' <<< "$text"; fi
}
