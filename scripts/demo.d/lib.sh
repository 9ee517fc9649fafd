# shellcheck shell=bash
# lib.sh: what the two demos share; sourced by scripts/demo, which sets here, dir and so on.
# In dir are bin, tree (programs of ours, of the server), a folder for each server, conf,
# log, pid (a file for each process) and out.

# stop_all DIR: ends what the demo in DIR started, by process id, and removes DIR.
stop_all() {
    local dir=$1 pid server
    for pid in "$dir"/pid/*; do
        [ -e "$pid" ] && of_demo "$dir" "$(cat "$pid")" && kill -KILL "$(cat "$pid")" 2>/dev/null || true
    done
    for server in "$dir"/*/port; do
        [ ! -e "$server" ] || "$TOP/scripts/pgcluster" stop "${server%/port}" immediate 2>/dev/null || true
    done
    rm -rf "$dir"
}
# of_demo DIR PID: whether the process still is the demo's, and not another with its number.
of_demo() { case $(readlink "/proc/$2/exe") in "$(cd "$1" && pwd -P)"/*) ;; *) return 1 ;; esac }
# finish: the way out, whatever happened.
starting=()
finish() {
    local rc=$?
    trap '' INT TERM
    leave_screen
    wait "${starting[@]}" || true
    if [ $rc != 0 ] && [ $rc != 130 ]; then
        say "demo: failed with status $rc; the ends of the logs:"
        tail -n 5 "$dir"/log/*.log >&2 2>/dev/null || true
    fi
    if [ -z "${KEEP:-}" ] || [ $rc != 0 ]; then
        stop_all "$dir"
    fi
    exit $rc
}
start=$(date +%s%N)
step() { printf '[%5.1f s] %s\n' "$((($(date +%s%N) - start) / 10000000))e-2" "$*"; }

# ---- what is drawn in place goes to the terminal's other screen, so that the lines above stay

# It is named, since the way out may begin where stdout goes elsewhere.
screen=
enter_screen() {
    screen=$(readlink "/proc/$$/fd/1")
    printf '\e[?1049h\e[?25l\e[H\e[2J' >"$screen"
}
leave_screen() {
    [ -z "$screen" ] || printf '\e[?25h\e[?1049l' >"$screen"
    screen=
}

# ---- build, servers, sidecars

# build NAME...: builds into dir; NAMEs are the commands that the demo calls skytools by.
build() {
    local name
    step "building, into a private copy of the server tree in $dir"
    mkdir -p "$BUILD"
    (
        flock 9
        make -s --no-print-directory -C "$TOP" all
        "$TOP/scripts/go" build -o "$BUILD/bin/user_report" ./examples/user_report
    ) 9>"$BUILD/build.lock"
    cp "$BUILD"/bin/{skytools,user_report} "$dir/bin"
    for name in "$@"; do ln -s skytools "$dir/bin/$name"; done
    "$TOP/scripts/pgtree" "$dir/tree"
    PATH=$dir/bin:$dir/tree/bin:$PATH
    cd "$dir" || die "$dir is gone"
}
# start_servers NAME...: starts them side by side, and notes their ports.
declare -A port
start_servers() {
    local server
    for server in "$@"; do
        # Out of the reach of Ctrl-C, which would find it half made.
        setsid "$TOP/scripts/pgcluster" start "$dir/$server" "$dir/tree" >"$dir/out/$server.port" &
        starting+=($!)
    done
    wait "${starting[@]}" || true
    starting=()
    for server in "$@"; do
        port[$server]=$(cat "$dir/out/$server.port")
        [ -n "${port[$server]}" ] || die "the server $server did not start"
    done
}
# by_password SERVER...: lets everybody but postgres in by password only.
by_password() {
    local server
    for server in "$@"; do
        printf '%s\n' "local all all trust" "host all postgres 127.0.0.1/32 trust" \
            "host replication postgres 127.0.0.1/32 trust" "host all all 127.0.0.1/32 scram-sha-256" >"$dir/$server/data/pg_hba.conf"
        as_server "$dir/tree/bin/pg_ctl" -D "$dir/$server/data" -s reload
    done
}
export PGHOST=127.0.0.1 PGCONNECT_TIMEOUT=10
on() { psql -X -q -v ON_ERROR_STOP=1 -p "${port[$1]}" -U postgres -d "$2" "${@:3}"; }
# Through the pooler, as an application: by password, never as superuser.
as_app() { PGPASSWORD=front psql -X -q -v ON_ERROR_STOP=1 -p "${port[front]}" -U app -d "$1" "${@:2}"; }
console() { PGPASSWORD=console psql -X -p "${port[$1]}" -U admin -d pgbouncer "${@:2}"; }

# run NAME CMD...: starts a sidecar in the background; pid/NAME.pid holds its process id.
run() {
    local name=$1
    shift
    "${server_prefix[@]}" "$@" >>"$dir/log/$name.log" 2>&1 &
    echo $! >"$dir/pid/$name.pid"
    disown
}
pause() { read -r -t "$1" <> <(:) || true; }
until_ok() {
    local what=$1 try
    shift
    for try in {1..100}; do
        "$@" >/dev/null 2>&1 && return 0
        pause 0.1
    done
    die "$what (waited for $try times 0.1 s)"
}

# ---- the summary

wrong=0
row() { printf '  %-44s %14s   %s\n' "$1" "$2" "$3"; }
# check WHAT FIGURE CMD...: a row of the summary; it is right if CMD succeeds.
check() {
    local what=$1 figure=$2
    shift 2
    if "$@"; then
        row "$what" "$figure" ok
    else
        row "$what" "$figure" WRONG
        wrong=$((wrong + 1))
    fi
}
lines() { wc -l <"$1"; }
# verdict: ends the summary; with KEEP the lines of stdin tell how to connect.
verdict() {
    if [ $wrong != 0 ]; then
        step "$wrong figures are WRONG"
        exit 1
    fi
    if [ -n "${KEEP:-}" ]; then
        echo "It is left running in $dir. How to connect:"
        cat
        echo "  logs:                $dir/log"
        echo "How to stop it:        scripts/demo stop $dir"
    fi
    step "every figure is right"
}
