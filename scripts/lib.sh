# shellcheck shell=bash
# lib.sh: what the scripts share; sourced, never run.
#
# The servers refuse to run as root, so as root they run as $SKYTOOLS_RUN_AS
# (default: postgres, which Debian's package creates, or else nobody); otherwise as the caller.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
PG_CONFIG=${PG_CONFIG:-pg_config}
BUILD=$TOP/.build
export TOP PG_CONFIG BUILD

# Go is where scripts/deps put it when the PATH has none that is new enough.
if ! command -v go >/dev/null 2>&1 && [ -x /usr/lib/go-1.23/bin/go ]; then
    PATH=/usr/lib/go-1.23/bin:$PATH
    export GOTOOLCHAIN=auto
fi

say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit 1; }
misuse() { say "${0##*/}: $*"; say "Try: ${0##*/} --help"; exit 2; }

# help_from_head FILE: prints the comment block at a script's head.
help_from_head() { sed -n '2,/^[^#]/{s/^# \{0,1\}//;t p;b;:p;p}' "$1"; }

server_user() {
    if [ "$(id -u)" != 0 ]; then
        id -un
    elif id -u "${SKYTOOLS_RUN_AS:-postgres}" >/dev/null 2>&1; then
        echo "${SKYTOOLS_RUN_AS:-postgres}"
    else
        echo nobody
    fi
}

# server_prefix: what a command line starts with to run as that user. A command
# started in the background with it has the process id that $! tells.
server_prefix=()
if [ "$(id -u)" = 0 ]; then
    server_prefix=(setpriv --reuid="$(server_user)" --regid="$(server_user)" --init-groups env HOME=/)
fi

# as_server CMD...: runs CMD as the user the servers run as.
as_server() { (cd / && "${server_prefix[@]}" "$@"); }

# scratch NAME: makes a scratch folder that the server's user may enter, prints it.
scratch() {
    local dir
    dir=$(mktemp -d "${TMPDIR:-/tmp}/skytools-$1.XXXXXX")
    chmod 755 "$dir"
    echo "$dir"
}

# free_port: prints a TCP port of 127.0.0.1 that nobody listens on, below the
# range the kernel hands out to clients.
free_port() {
    perl -MIO::Socket::INET -e '
        for (1 .. 200) {
            my $port = 15000 + int(rand(15000));
            my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => $port, Listen => 1) or next;
            print "$port\n";
            exit 0;
        }
        die "no free port between 15000 and 30000\n"'
}
