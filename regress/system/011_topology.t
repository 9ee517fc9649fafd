#!/usr/bin/env bash
# 011_topology.t: the overall picture shows right figures, in place on a terminal; a part that
# is broken is seen; an end at any time leaves nothing.
set -u
# shellcheck source=regress/system/tap.sh
. "$(dirname "$0")/tap.sh"
dir=$(scratch system)
export TMPDIR=$dir DEMO_USERS=200 DEMO_CLIENTS=4
demo=$TOP/scripts/demo
# What a demo leaves running in spite of itself is stopped too.
finish() {
    local folder
    for folder in "$dir"/skytools-demo.*/pid; do
        [ ! -e "$folder" ] || "$demo" stop "${folder%/pid}"
    done
    rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

nothing_left() {
    ! ls -d "$dir"/skytools-demo.* || return 1
    ! grep -lz "$dir/skytools-demo" /proc/[0-9]*/cmdline 2>/dev/null
}
# pictures FILE N: the Nth whole picture in what a demo has printed, N = -1: the last.
pictures() {
    awk -v want="$2" '/^ ONLINE DATABASES/ { drawing = 1; n++; text[n] = "" }
        drawing { text[n] = text[n] $0 "\n" }
        drawing && /^$/ { drawing = 0 }
        END { printf "%s", text[(want < 0) ? n + 1 + want : want] }' "$1"
}
# summary FILE WHAT: the figures of that line of the summary.
summary() { sed -n "s/^ *$2  *\([0-9][0-9 of]*[0-9]\|[0-9]\)  *\(ok\|WRONG\)$/\1/p" "$1"; }
total() { awk '{ for (i = 1; i <= NF; i++) n += $i } END { print n + 0 }' <<<"$1"; }

# ---- on a terminal of 90 columns and 20 lines, left running

script -qefc "stty cols 90 rows 20; KEEP=1 $demo --topology --seconds 4" "$dir/typescript" >/dev/null 2>&1 </dev/null
is "on a terminal it passes" test $? = 0
tr -d '\r' <"$dir/typescript" >"$dir/kept"
sed 's/.*\x1b\[?1049l//' "$dir/kept" | sed -n '/the load has ended/,$p' >"$dir/after"
is "every figure is right, and none is wrong" bash -c "grep -q 'every figure is right' '$dir/after' && ! grep WRONG '$dir/after'"

# frames: a line for each drawing in place: its lines, and its longest one.
frames() {
    perl -0777 -ne 'm{\e\[\?1049h(.*?)\e\[\?1049l}s or die "no other screen\n";
        for my $frame (grep { /ONLINE/ } split /\e\[H/, $1) {
            my @lines = split /\n/, $frame =~ s/\e\[[?0-9]*[A-Za-z]//gr;
            my ($longest) = sort { $b <=> $a } map { length } @lines;
            print scalar(@lines), " $longest\n";
        }' "$1"
}
frames "$dir/kept" >"$dir/frames"
is "it is drawn again about once a second" awk 'END { print NR " drawings"; exit !(NR >= 3 && NR <= 30) }' "$dir/frames"
is "in the terminal's size" awk '$1 != 20 || $2 > 90 || $2 < 80 { print; bad = 1 } END { exit bad || NR == 0 }' "$dir/frames"
is "in place: the screen is cleared only once, before" test "$(grep -o $'\e\[2J' "$dir/kept" | wc -l)" = 1
is "the last picture stays, whole" test "$(pictures "$dir/after" -1 | wc -l)" -ge 24
is "it is 80 to 120 columns wide" bash -c "awk '{ if (length > n) n = length } END { exit !(n >= 80 && n <= 120) }' <<<'$(pictures "$dir/after" -1)'"
is "all its figures are there, and all parts are up" bash -c "! grep -E '[?]|DOWN|[#@]' <<<'$(pictures "$dir/after" -1)'"

# ---- the figures are those of the parts

folder=$(sed -n 's/^How to stop it: *scripts\/demo stop //p' "$dir/kept")
# ask PART PSQL_ARGUMENT...: by the line that the demo prints for that part.
ask() {
    local line
    line=$(sed -n "s/^  $1: *//p" "$dir/after" | head -n 1)
    PATH=$folder/tree/bin:$PATH bash -c "$line -X -A -P footer=off \"\$@\"" - "${@:2}"
}
is "the picture's changes are the report's rows" grep -q "changes *$(ask 'to the report' -tc 'select count(*) from report.changes') rows" <<<"$(pictures "$dir/after" -1)"
is "so are the summary's" test "$(summary "$dir/after" 'changes in the report, one an event')" = "$(ask 'to the report' -tc 'select count(*) from report.changes')"
is "events in queuedb are its queue's" test "$(summary "$dir/after" 'events moved into queuedb')" = "$(ask 'to the queue' -tc 'select count(*) from pgq.event_template')"
calls=$(summary "$dir/after" 'seen by the pooler before the proxies')
# xacts: the transactions of both proxies in SHOW STATS.
xacts() { awk -F'|' 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "total_xact_count") at = i } /^proxy/ { n += $at } END { print n }'; }
# The demo itself makes one call on each proxy after these figures, to compare the users.
is "calls are those of the pooler's console" test "$((calls + 2))" = "$(ask 'pooler console' -c 'show stats' | xacts)"
is "reads and writes are the calls" test "$(($(total "$(summary "$dir/after" 'that read, by the standby and by oltp1')") + $(total "$(summary "$dir/after" 'that write, by oltp0 and by oltp1')")))" = "$calls"
is "the standby is one" test "$(ask 'to the standby' -tc 'select pg_is_in_recovery()')" = t
is "calls that read go to it" test "$(summary "$dir/after" 'that read, by the standby and by oltp1' | cut -d' ' -f1)" -gt 0
while IFS=: read -r what line; do
    is "the printed line connects:$what" bash -c "PATH=$folder/tree/bin:\$PATH ${line# *} -c '$(case $what in *console*) echo 'show version' ;; *) echo 'select 1' ;; esac)'"
done < <(sed -n '/^It is left running/,/^How to stop/p' "$dir/after" | grep psql)
is "the mover still runs" kill -0 "$(cat "$folder/pid/mover0.pid")"
is "stop ends it" "$demo" stop "$folder"
is "stop leaves nothing" nothing_left

# ---- a mover is killed under load; meanwhile another topology loses its standby and is interrupted

"$demo" --topology --seconds 3 --every 2 >"$dir/broken" 2>&1 &
broken=$!
is "the load begins" until_true 120 grep -q 'pgbench:' "$dir/broken"
kill -KILL "$(cat "$dir"/skytools-demo.*/pid/mover0.pid)"
is "the load ends without the mover" until_true 120 grep -q 'DOWN' "$dir/broken"
mkfifo "$dir/keyboard"
env --default-signal=INT script -qefc "$demo --topology --seconds 60" "$dir/interrupted" <"$dir/keyboard" >/dev/null 2>&1 &
other=$!
exec 7>"$dir/keyboard"
wait $broken
is "with a dead mover it ends with status 1" test $? = 1
is "the picture shows the mover down, and no other part" test "$(pictures "$dir/broken" -1 | grep -o '[a-z0-9_]* DOWN' | paste -sd' ')" = "queue_mover DOWN"
# mover WORD N: the figure that stands before WORD, waiting or s, in the Nth picture.
mover() { pictures "$dir/broken" "$2" | awk -v word="$1" '/queue_mover DOWN/ { for (i = 5; i <= 7; i++) if ($i == word) print $(i - 1) }'; }
growing() {
    local first last
    first=$(for n in 1 2 3 4 5; do mover "$1" "$n"; done | head -n 1) last=$(mover "$1" -1)
    echo "$first, then $last"
    awk -v a="$first" -v b="$last" 'BEGIN { exit !(a != "" && b > a + 0) }'
}
is "its lag grows from picture to picture" growing s
is "events wait for it" test "$(mover waiting -1)" -gt 0
is "the summary says what is wrong" grep -qE '^  events moved into queuedb .* WRONG$' "$dir/broken"
is "and that a part does not run" grep -qE '^  servers and sidecars running +14 of 15 +WRONG$' "$dir/broken"
is "and what is right" grep -qE '^  events made by oltp0 and oltp1, one a write .* ok$' "$dir/broken"
is "and how much is wrong" grep -qE '[5-9] figures are WRONG$' "$dir/broken"
# pgq tells by ids of events how many wait; some that commit while a tick is made are on either side.
not_moved=$(($(total "$(summary "$dir/broken" 'events made by oltp0 and oltp1, one a write')") - $(summary "$dir/broken" 'events moved into queuedb')))
is "events that wait are those that are not moved" awk -v a="$not_moved" -v b="$(mover waiting -1)" 'BEGIN { print a, b; exit !(a - b < 10 && b - a < 10) }'

is "the other comes to its drawing" until_true 120 grep -q 'ONLINE' "$dir/interrupted"
folder=$(sed -n 's/.*the server tree in \(.*skytools-demo\.[A-Za-z0-9]*\).*/\1/p' "$dir/interrupted" | tr -d '\r')
kill -KILL "$(head -n 1 "$folder/standby0/data/postmaster.pid")"
is "a standby that dies is down in the picture" until_true 60 grep -q 'standby0 DOWN' "$dir/interrupted"
printf '\003' >&7
rc=0
wait $other || rc=$?
is "Ctrl-C ends it with status 130" test $rc = 130
is "and gives the terminal its screen and cursor back" grep -q $'\e\[?25h\e\[?1049l' "$dir/interrupted"
is "nothing is left of both" until_true 60 nothing_left

# ---- figures in their places

printf 'now=10\ncalls=5\n' >"$dir/before"
printf 'now=12\ncalls=1234567\nstate=up\n' >"$dir/now"
printf '%s\n' '| #### calls @@@@ ##### /s | ; calls state calls/s' '| #### rows | ; rows' '+---+' >"$dir/picture"
draw() { awk "$@" -f "$TOP/scripts/demo.d/topology/draw.awk" "$dir/before" "$dir/now" "$dir/picture"; }
is "a figure too long for its place is told in thousands or millions" test "$(draw | sed -n 1p)" = '|   1M calls up    617k /s |'
is "a figure that nobody told is a question mark" test "$(draw | sed -n 2p)" = '|    ? rows |'
is "what does not fit is cut off" test "$(draw -v width=7 -v height=2)" = $'|   1M \n|    ? '

# ---- bad input

is "--every 0 is misuse" fails 2 "$demo" --topology --every 0
is "--every without --topology is misuse" fails 2 "$demo" --every 1
is "one client for two proxies is misuse" fails 2 env DEMO_CLIENTS=1 "$demo" --topology
is "--seconds without a number is misuse" fails 2 "$demo" --topology --seconds
is "--seconds many is misuse" fails 2 "$demo" --topology --seconds many
is "misuse leaves nothing" nothing_left
done_testing
