# shellcheck shell=bash
# tap.sh: what the system tests share; sourced. A test is a *.t file that prints TAP:
# "ok N - what" and "not ok N - what", and exits 1 if one was not ok.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=scripts/lib.sh
. "$TOP/scripts/lib.sh"
tests=0 not_ok=0

# is WHAT CMD...: one test, ok if CMD succeeds; its output is shown if not.
is() {
    local what=$1 out
    shift
    tests=$((tests + 1))
    if out=$("$@" 2>&1); then
        echo "ok $tests - $what"
    else
        echo "not ok $tests - $what"
        not_ok=$((not_ok + 1))
        printf '%s\n' "$*" "$out" | sed 's/^/# /'
    fi
}
# fails WITH STATUS CMD...: CMD ends with STATUS.
fails() {
    local want=$1 rc=0
    shift
    "$@" || rc=$?
    [ $rc = "$want" ] || { echo "exit status $rc, not $want"; return 1; }
}
# until_true SECONDS CMD...: waits for CMD to succeed.
until_true() {
    local try
    for ((try = 0; try < $1 * 10; try++)); do
        "${@:2}" >/dev/null 2>&1 && return 0
        read -r -t 0.1 <> <(:) || true
    done
    return 1
}
done_testing() {
    echo "1..$tests"
    [ $not_ok = 0 ]
    exit
}
