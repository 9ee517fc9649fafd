#!/usr/bin/env bash
# 001_demo.t: the demo's figures are right, also for two at once; Ctrl-C and "stop" leave nothing.
set -u
# shellcheck source=regress/system/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(scratch system)
trap 'rm -rf "$dir"' EXIT
export TMPDIR=$dir DEMO_USERS=2000 DEMO_SECONDS=4 DEMO_CLIENTS=4
demo=$TOP/scripts/demo

nothing_left() {
    ! ls -d "$dir"/skytools-demo.* || return 1
    ! grep -lz "$dir/skytools-demo" /proc/[0-9]*/cmdline 2>/dev/null
}
all_right() { ! grep -q 'WRONG' "$1" && grep -q 'every figure is right' "$1"; }

# two at once
"$demo" >"$dir/one" 2>&1 &
one=$!
"$demo" >"$dir/two" 2>&1 &
two=$!
wait $one
is "a demo passes beside another" test $? = 0
wait $two
is "the other passes too" test $? = 0
is "the first demo's figures are all right" all_right "$dir/one"
is "the second demo's figures are all right" all_right "$dir/two"
is "both have cleaned up" nothing_left

# KEEP=1
KEEP=1 "$demo" >"$dir/kept" 2>&1
is "KEEP=1 passes" test $? = 0
kept=$(sed -n 's/^How to stop it: *scripts\/demo stop //p' "$dir/kept")
while IFS=: read -r what line; do
    case $line in
        *psql*) is "KEEP=1: the printed line connects:$what" bash -c "PATH=$kept/tree/bin:\$PATH ${line# *} -c '$(case $what in *console*) echo 'show version' ;; *) echo 'select 1' ;; esac)'" ;;
    esac
done < <(sed -n '/^It is left running/,/^How to stop/p' "$dir/kept" | grep psql)
is "KEEP=1: the consumer still runs" kill -0 "$(cat "$kept/pid/report.pid")"
is "stop ends it" "$demo" stop "$kept"
is "stop leaves nothing" nothing_left

# Ctrl-C, while the users are being loaded
setsid env --default-signal=INT DEMO_USERS=20000 "$demo" >"$dir/interrupted" 2>&1 &
group=$!
is "the demo comes to loading" until_true 60 grep -q 'loading 20000' "$dir/interrupted"
kill -INT -- -$group
rc=0
wait $group || rc=$?
is "Ctrl-C ends it with status 130" test $rc = 130
is "Ctrl-C leaves nothing" until_true 60 nothing_left

# bad input
is "a size that is no number is misuse" fails 2 env DEMO_USERS=many "$demo"
is "an unknown command is misuse" fails 2 "$demo" fly
is "stop of a folder that is no demo is misuse" fails 2 "$demo" stop "$dir"
done_testing
