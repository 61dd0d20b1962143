#!/bin/bash
# The entry point of the test cluster's PostgreSQL images: what the stock image's promises, as far as charts and people
# rely on it. A server on an empty PGDATA makes a database from POSTGRES_USER, POSTGRES_PASSWORD (or _FILE), POSTGRES_DB,
# POSTGRES_INITDB_ARGS and POSTGRES_HOST_AUTH_METHOD, and runs /docker-entrypoint-initdb.d/*.{sql,sh}.
set -euo pipefail

# Options alone are the server's.
case ${1:-} in
"" | -*) set -- postgres "$@" ;;
esac
[ "$1" = postgres ] || exec "$@"

# The value of a variable, or of the file that its _FILE names.
setting() {
    local file="${1}_FILE"
    if [ -n "${!file:-}" ]; then cat "${!file}"; else printf '%s' "${!1:-}"; fi
}

if [ "$(id -u)" -eq 0 ]; then
    mkdir -p "$PGDATA"
    chown postgres:postgres "$PGDATA"
    chmod 700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

make_database() {
    local user password database method
    user=$(setting POSTGRES_USER)
    user=${user:-postgres}
    password=$(setting POSTGRES_PASSWORD)
    database=$(setting POSTGRES_DB)
    database=${database:-$user}
    method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    if [ -z "$password" ] && [ "$method" != trust ]; then
        echo "error: POSTGRES_PASSWORD is not set, and POSTGRES_HOST_AUTH_METHOD is not trust" >&2
        exit 1
    fi
    local words
    read -ra words <<<"${POSTGRES_INITDB_ARGS:-}"
    if [ -n "$password" ]; then
        # initdb(1) reads no password from a pipe that is empty.
        initdb --username="$user" --pwfile=<(printf '%s\n' "$password") "${words[@]}"
    else
        initdb --username="$user" "${words[@]}"
    fi
    printf "\nlisten_addresses = '*'\n" >>"$PGDATA/postgresql.conf"
    printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
    # Nobody but us reaches it before it is filled.
    pg_ctl -D "$PGDATA" -w -o "-c listen_addresses=''" start
    run() { psql --no-psqlrc --quiet -v ON_ERROR_STOP=1 -U "$user" "$@"; }
    if [ "$database" != postgres ]; then
        run -d postgres -v name="$database" <<<'CREATE DATABASE :"name"'
    fi
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
        *.sql) run -d "$database" -f "$file" ;;
        *.sh) POSTGRES_USER=$user POSTGRES_DB=$database bash "$file" ;;
        esac
    done
    pg_ctl -D "$PGDATA" -m fast -w stop
}

mkdir -p "$PGDATA"
chmod 700 "$PGDATA" 2>/dev/null || true
[ -s "$PGDATA/PG_VERSION" ] || make_database
exec "$@"
