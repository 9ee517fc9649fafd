# shellcheck shell=bash
# ini.sh: writes the demos' ini files into dir/conf; sourced by scripts/demo.

# pooler_ini NAME AUTH_TYPE MAX_CLIENTS USER PASSWORD: pooler_NAME.ini, on port[NAME], with the
# databases of stdin; USER may go to them, and admin to the console.
pooler_ini() {
    {
        echo "[databases]"
        cat
        cat <<INI

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port[$1]}
unix_socket_dir =
auth_type = $2
auth_file = $dir/conf/users_$1.txt
admin_users = admin
pool_mode = transaction
default_pool_size = 8
query_wait_timeout = 10
max_client_conn = $3
INI
    } >"$dir/conf/pooler_$1.ini"
    printf '"%s" "%s"\n' "$4" "$5" admin console >"$dir/conf/users_$1.txt"
}
# ticker_ini NAME SERVER [KEY=VALUE]: ticks all databases of the server.
ticker_ini() {
    cat >"$dir/conf/$1.ini" <<INI
[pgqd]
job_name = $1
base_connstr = host=127.0.0.1 port=${port[$2]} user=postgres
initial_database = postgres
ticker_period = 0.1
check_period = 2
${3:-}
INI
}
db_of() { echo "host=127.0.0.1 port=${port[$1]} user=postgres dbname=$2"; }
# job_ini NAME COMMAND SRC_SERVER SRC_DB DST_SERVER DST_DB: a job; stdin holds the keys of its own.
job_ini() {
    {
        cat <<INI
[$2]
job_name = $1
src_db = $(db_of "$3" "$4")
dst_db = $(db_of "$5" "$6")
loop_delay = 0.1
INI
        cat
    } >"$dir/conf/$1.ini"
}
