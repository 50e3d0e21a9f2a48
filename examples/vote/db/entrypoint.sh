#!/bin/sh
# Makes the cluster in the volume the first time, then becomes PostgreSQL.
set -eu

: "${POSTGRES_USER:?set POSTGRES_USER}" "${POSTGRES_PASSWORD:?set POSTGRES_PASSWORD}" "${POSTGRES_DB:?set POSTGRES_DB}"
volume=/var/lib/postgresql/data
export PGDATA="$volume/15"

as_postgres() {
    setpriv --reuid=postgres --regid=postgres --init-groups "$@"
}

if [ ! -d "$PGDATA" ]; then
    chown postgres:postgres "$volume"
    chmod 700 "$volume"
    # Made under another name and renamed when whole: a start that is cut short begins again.
    new="$volume/15.new"
    rm -rf "$new"
    password=$(mktemp)
    printf '%s\n' "$POSTGRES_PASSWORD" >"$password"
    chown postgres "$password"
    as_postgres initdb --pgdata="$new" --username="$POSTGRES_USER" --pwfile="$password" \
        --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8
    rm "$password"
    echo 'host all all all scram-sha-256' >>"$new/pg_hba.conf"
    if [ "$POSTGRES_DB" != postgres ]; then
        echo "CREATE DATABASE \"$POSTGRES_DB\"" | as_postgres postgres --single -D "$new" postgres
    fi
    sync
    mv "$new" "$PGDATA"
fi

exec setpriv --reuid=postgres --regid=postgres --init-groups "$@"
