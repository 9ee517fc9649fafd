# shellcheck shell=bash
# 09_pgbouncer.sh: what the tests of the pooler share; sourced. The server has what
# 09_pgbouncer.ini leads to, and the pooler runs in a folder with etc/userlist.txt.

# shellcheck source=regress/presentation/jobs.sh
. "$(dirname "${BASH_SOURCE[0]}")/jobs.sh"
printed=$TOP/regress/presentation/09_pgbouncer.ini
cp "$BUILD/bin/skytools" "$dir/bin/pooler" # the servers' user cannot reach everything
server server
sql postgres "create role baz login password 'foo'" 'create role ann login' 'create role bob login' \
    'create database forcedb' 'create database bazdb' 'create database foodb'
# On the server only baz needs a password, so the pooler has to bring it.
printf '%s\n' 'local all all trust' 'host all baz 127.0.0.1/32 scram-sha-256' 'host all all 127.0.0.1/32 trust' >"$dir/server/data/pg_hba.conf"
sql postgres 'select pg_reload_conf()' >/dev/null
until_true 30 fails 2 env PGPASSWORD=wrong "$PGBIN/psql" -U baz -d forcedb -c ''
# foodb has neither host nor port: the socket of PostgreSQL's usual port, in our folder.
mkdir "$dir/sockets" etc
ln -s "$dir/server/.s.PGSQL.$PGPORT" "$dir/sockets/.s.PGSQL.5432"
server_port=$PGPORT PGPORT=$(free_port)
printf '"%s" "%s"\n' admin open postgres open stats open ann anns-secret \
    bob "md5$(printf 'bobs-secretbob' | md5sum | cut -d' ' -f1)" >etc/userlist.txt
[ "$(id -u)" != 0 ] || chown -R "$(server_user)" "$dir/home" "$dir/sockets"

# ini AUTH_TYPE POOL_MODE: pgbouncer.ini with one of the values that the slide names.
# mended: ports that are free, and the folder of the sockets.
ini() {
    sed -e "s/^auth_type = .*/auth_type = $1/" -e "s/^pool_mode = .*/pool_mode = $2/" \
        -e "s/^forcedb = .* port=300/forcedb = host=127.0.0.1 port=$server_port/" -e "s/^bardb = .*/& port=$server_port/" \
        -e "s/^listen_port = .*/listen_port = $PGPORT/" "$printed"
    echo "unix_socket_dir = $dir/sockets"
}
pooler_up() {
    ini "$@" >pgbouncer.ini
    "${server_prefix[@]}" "$dir/bin/pooler" -q -d pgbouncer.ini
}
pooler_down() { kill -INT "$(cat pgbouncer.pid)" && ended pgbouncer.pid; }
# as USER DB STATEMENT
as() { timeout 60 "$PGBIN/psql" -X -q -At -w -U "$1" -d "$2" -c "$3" 2>&1; }
# refused WHY USER DB: the pooler does not let USER in.
refused() {
    local got
    if got=$(as "$2" "$3" 'select current_user') || [[ $got != *"$1"* ]]; then
        echo "$got"
        return 1
    fi
}

# Clients that stay: client NAME DB [USER] starts one, tell sends it a statement, ask also
# waits for its answer and prints it, which is one line.
declare -A fd pid said
client() {
    local f
    mkfifo "$1.in"
    "$PGBIN/psql" -X -q -At -U "${3:-ann}" -d "$2" <"$1.in" >"$1.out" 2>&1 &
    pid[$1]=$!
    exec {f}>"$1.in"
    fd[$1]=$f said[$1]=0
}
tell() { echo "$2;" >&"${fd[$1]}"; }
heard() {
    said[$1]=$((said[$1] + 1))
    until_true 30 eval "[ \$(wc -l <$1.out) -ge ${said[$1]} ]" || { echo "$1 hears nothing"; return 1; }
    answer=$(sed -n "${said[$1]}p" "$1.out")
}
ask() { tell "$@" && heard "$1"; }
leave() {
    local f=${fd[$1]}
    echo '\q' >&"$f"
    wait "${pid[$1]}"
    exec {f}>&-
    rm -f "$1.in"
}
