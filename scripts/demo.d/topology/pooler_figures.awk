# pooler_figures.awk: figures of a pooler out of SHOW STATS and SHOW POOLS, printed unaligned
# with their heads; variable name is the pooler's. A line each: name=value.
BEGIN { FS = "|" }
$1 == "database" {
    split("", column)
    for (i = 1; i <= NF; i++)
        column[$i] = i
    next
}
$1 == "pgbouncer" { next }    # the console itself
"total_xact_count" in column {
    calls += $column["total_xact_count"]
    print $1 ".calls=" $column["total_xact_count"]
}
"cl_active" in column {
    clients += $column["cl_active"] + $column["cl_waiting"]
    waiting += $column["cl_waiting"]
    servers += $column["sv_active"] + $column["sv_idle"]
}
END {
    if (NR > 0) {
        print name ".calls=" calls + 0
        print name ".clients=" clients + 0
        print name ".waiting=" waiting + 0
        print name ".servers=" servers + 0
    }
}
