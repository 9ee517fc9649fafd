# shellcheck shell=bash
# lib.sh: what the benchmark drivers share; sourced after scripts/lib.sh.
#
# BENCH_QUICK is set by run --quick. BENCH_PAIRS (5 or more) and BENCH_SECONDS (of
# one measurement) can be set by who wants it more exact.

BENCH_PAIRS=${BENCH_PAIRS:-5}
BENCH_SECONDS=${BENCH_SECONDS:-$([ -n "${BENCH_QUICK:-}" ] && echo 1 || echo 5)}
[ "$BENCH_PAIRS" -ge 5 ] || misuse "BENCH_PAIRS is $BENCH_PAIRS: a median wants 5 pairs or more"

# compare CASE higher|lower UNIT PEER MEASURE ARGS...: calls "MEASURE ours ARGS" and
# "MEASURE theirs ARGS" in turns, which print one number each, and prints the case's
# line. Which of them goes first changes from pair to pair, so that a machine that
# gets slower or faster favours neither. higher or lower tells which is better.
compare() {
    local case=$1 better=$2 unit=$3 peer=$4 pair side order ours theirs pairs=""
    shift 4
    for ((pair = 1; pair <= BENCH_PAIRS; pair++)); do
        order="ours theirs"
        [ $((pair % 2)) = 1 ] || order="theirs ours"
        for side in $order; do
            if [ "$side" = ours ]; then
                ours=$("$1" ours "${@:2}") || return 1
            else
                theirs=$("$1" theirs "${@:2}") || return 1
            fi
        done
        say "$case pair $pair: ours $ours, theirs $theirs $unit"
        pairs+="$ours $theirs"$'\n'
    done
    printf '%s' "$pairs" | awk -v case="$case" -v better="$better" -v unit="$unit" -v peer="$peer" '
        function median(a, n,    i, j, t) {
            for (i = 2; i <= n; i++)
                for (j = i; j > 1 && a[j - 1] > a[j]; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
            return n % 2 ? a[(n + 1) / 2] : (a[n / 2] + a[n / 2 + 1]) / 2
        }
        $1 <= 0 || $2 <= 0 { printf "compare: %s: no measure: %s\n", case, $0 >"/dev/stderr"; bad = 1; exit 1 }
        { ours[NR] = $1 + 0; theirs[NR] = $2 + 0; ratio[NR] = better == "higher" ? $1 / $2 : $2 / $1 }
        END {
            if (bad) exit 1
            m = median(ratio, NR)
            printf "%s\t%.2f\t%.2f\t%.2f\t%.4g\t%.4g\t%s\t%s\n", case, m, ratio[1], ratio[NR],
                median(ours, NR), median(theirs, NR), unit, peer
        }'
}
