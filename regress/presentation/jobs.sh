# shellcheck shell=bash
# jobs.sh: what the tests of queues and their jobs share; sourced. They have a scratch
# folder $dir, in it a HOME with the folders log and pid, where they begin, and servers.

# shellcheck source=regress/system/tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/../system/tap.sh"
: "${SKYTOOLS_TEST_TREE:?run it by scripts/with-server}"
[ -x "$BUILD/bin/skytools" ] || die "there is no $BUILD/bin/skytools: make workers builds it"

dir=$(scratch presentation)
servers=()
finish() {
    local file pid server
    for file in "$dir"/home/*.pid "$dir"/home/*/*.pid; do
        pid=$(cat "$file" 2>/dev/null) && [ -n "$pid" ] && kill -KILL "$pid"
    done 2>/dev/null
    for server in "${servers[@]}"; do "$TOP/scripts/pgcluster" stop "$server" immediate; done
    rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM
mkdir -p "$dir"/bin "$dir"/home/{log,pid}
export HOME=$dir/home PATH=$dir/bin:$PATH PGHOST=127.0.0.1 PGUSER=postgres
cd "$HOME" || exit 1

# programs NAME...: links of these names to the one binary.
programs() { local name; for name in "$@"; do ln -s "$BUILD/bin/skytools" "$dir/bin/$name"; done; }
# server NAME: starts a server, which is the one that everything goes to then.
server() {
    servers+=("$dir/$1")
    PGPORT=$("$TOP/scripts/pgcluster" start "$dir/$1" "$SKYTOOLS_TEST_TREE" autovacuum=off) || exit 1
    export PGPORT
}
# queue_and_target DB: two servers, one for a queue, where everything goes to then, and one
# for its effects, where on_target goes, in database DB.
queue_and_target() {
    server queue
    queue=$PGPORT
    server target
    target=$PGPORT target_db=$1
    export PGPORT=$queue
    sql postgres 'create database shop'
    PGPORT=$target sql postgres "create database $1"
}
on_target() { PGPORT=$target sql "$target_db" "$@"; }
# pooler ENTRY...: starts a pooler with these databases, where everything goes through then.
pooler() {
    PGPORT=$(free_port)
    mkdir "$dir/pooler"
    cp "$BUILD/bin/skytools" "$dir/pooler/pooler" # the servers' user cannot reach everything
    printf '%s\n' '[databases]' "$@" '[pgbouncer]' 'listen_addr = 127.0.0.1' "listen_port = $PGPORT" \
        'unix_socket_dir =' 'auth_type = trust' "auth_file = $dir/pooler/users" 'pool_mode = session' >"$dir/pooler/ini"
    echo '"postgres" ""' >"$dir/pooler/users"
    "${server_prefix[@]}" "$dir/pooler/pooler" "$dir/pooler/ini" >"$dir/pooler/log" 2>&1 &
    echo $! >"$dir/home/pid/pooler.pid"
    disown
    until_true 30 "$PGBIN/psql" -X -d "${1%% *}" -c 'select 1' || { cat "$dir/pooler/log"; exit 1; }
}
# sql DB [STATEMENT]...: runs them, or standard input.
sql() {
    local db=$1 statement args=()
    shift
    for statement in "$@"; do args+=(-c "$statement"); done
    "$PGBIN/psql" -X -q -At -v ON_ERROR_STOP=1 -d "$db" "${args[@]}"
}
# gives WANT CMD...: CMD succeeds and prints WANT.
gives() {
    local want=$1 got
    shift
    got=$("$@") && [ "$got" = "$want" ] || { echo "got:"; echo "$got"; echo "want:"; echo "$want"; return 1; }
}
# becomes WANT CMD...: so it does within half a minute.
becomes() { until_true 30 gives "$@" || gives "$@"; }
# refuses SQLSTATE DB STATEMENT: the server refuses the statement.
refuses() {
    local got
    got=$("$PGBIN/psql" -X -q -At -v VERBOSITY=sqlstate -d "$2" -c "$3" 2>&1)
    [ "$got" = "ERROR:  $1" ] || { echo "got: $got"; return 1; }
}
# tick DB QUEUE: what was inserted can be read.
tick() { sql "$1" "select pgq.force_tick('$2')" "select pgq.ticker('$2')" >/dev/null; }
# events DB QUEUE CONSUMER COLUMNS: reads what the consumer has before it.
events() {
    local batch
    while batch=$(sql "$1" "select pgq.next_batch('$2', '$3')") && [ -n "$batch" ]; do
        sql "$1" "select $4 from pgq.get_batch_events($batch)" || return 1
        [ "$(sql "$1" "select pgq.finish_batch($batch)")" = 1 ] || return 1
    done
}
# ended FILE: the job has ended and taken its pid file along.
ended() { until_true 30 eval "! [ -e '$1' ]"; }
