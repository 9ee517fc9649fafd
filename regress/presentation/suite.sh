# shellcheck shell=bash
# suite.sh: what the patterns share; sourced. A pattern starts the servers and poolers that
# its slide draws in a scratch folder, and all of it is gone when the script ends.
#
# Code of the slides stands in here-documents as it is printed. Where a slide has a slip,
# or names a place that cannot be the same here, a comment "mended: ..." says what and why.

# shellcheck source=regress/system/tap.sh
. "$(dirname "${BASH_SOURCE[0]}")/../system/tap.sh"

dir=$(scratch presentation)
declare -A port=()
servers=() pids=()
unset PGPORT
finish() {
    local one
    for one in "${pids[@]}"; do
        kill "$one" 2>/dev/null && wait "$one" 2>/dev/null
    done
    for one in "${servers[@]}"; do
        [ ! -e "$dir/$one/tree" ] || "$TOP/scripts/pgcluster" stop "$dir/$one" immediate 2>/dev/null
    done
    rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

# start NAME...: starts these servers; ${port[NAME]} is where each listens.
start() {
    local one starting=()
    servers+=("$@")
    for one in "$@"; do
        "$TOP/scripts/pgcluster" start "$dir/$one" "$SKYTOOLS_TEST_TREE" >"$dir/$one.port" &
        starting+=($!)
    done
    for one in "${starting[@]}"; do
        wait "$one" || die "a server did not start"
    done
    for one in "$@"; do
        port[$one]=$(cat "$dir/$one.port")
    done
}
# pooler NAME [SETTING...]: starts a pooler for the lines of [databases] on stdin; not in a pipeline.
pooler() {
    port[$1]=$(free_port)
    {
        echo '[databases]'
        cat
        printf '%s\n' '[pgbouncer]' 'listen_addr = 127.0.0.1' "listen_port = ${port[$1]}" 'unix_socket_dir =' \
            'auth_type = any' 'pool_mode = transaction' 'admin_users = postgres' "${@:2}"
    } >"$dir/$1.ini"
    [ -x "$BUILD/bin/skytools" ] || die "no $BUILD/bin/skytools: make workers builds it"
    [ -e "$dir/pooler" ] || cp "$BUILD/bin/skytools" "$dir/pooler"
    "${server_prefix[@]}" "$dir/pooler" "$dir/$1.ini" >"$dir/$1.log" 2>&1 &
    pids+=($!)
    until_true 60 on "$1" pgbouncer -c 'show version' || { cat "$dir/$1.log" >&2; die "the pooler $1 does not answer"; }
}

# on PLACE DATABASE [ARGUMENT...]: psql at that server or pooler.
on() { "$PGBIN/psql" -X -q -At -v ON_ERROR_STOP=1 -p "${port[$1]}" -d "$2" "${@:3}"; }
# make_databases PLACE NAME...
make_databases() {
    local name
    for name in "${@:2}"; do
        on "$1" postgres -c "create database $name"
    done
}
# gives PLACE DATABASE SQL LINE...: the SQL gives these lines and no other.
gives() { diff <([ $# = 3 ] || printf '%s\n' "${@:4}") <(on "$1" "$2" -c "$3" 2>&1); }
# refused SQLSTATE WORDS PLACE DATABASE SQL: the SQL fails with that SQLSTATE, the message has these words.
refused() {
    local said
    if said=$(on "$3" "$4" -v VERBOSITY=verbose -c "$5" 2>&1); then
        echo "it was not refused and said: $said"
        return 1
    fi
    grep -qF "ERROR:  $1: " <<<"$said" && grep -F "ERROR:  $1: " <<<"$said" | grep -qF "$2" || { echo "$said"; return 1; }
}
# shown PLACE DATABASE: runs the statements on stdin as a person sees them, each with its
# answer, and compares that with README.md, which has it in a block of its own.
shown() {
    on "$1" "$2" -a -P format=aligned -P tuples_only=off -v ON_ERROR_STOP=0 -v SHOW_CONTEXT=never 2>&1 |
        sed -E 's/^/    /; s/ +$//' >"$dir/shown"
    perl -0777 -e '
        my ($what, $page) = map { open my $f, "<", $_ or die "$_: $!"; scalar <$f> } @ARGV;
        $what =~ s/\n*$/\n/;
        exit 0 if index($page, "\n\n$what\n") >= 0;
        print "README.md does not show:\n$what";
        exit 1' "$dir/shown" "$TOP/README.md"
}
