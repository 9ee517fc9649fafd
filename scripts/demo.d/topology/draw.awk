# draw.awk BEFORE NOW PICTURE: prints the picture with the figures of NOW in it.
#
# BEFORE and NOW hold lines name=value, also the time as now=SECONDS. In the picture a place
# for a figure is a run of # (right end) or @ (left end), and the figures' names stand behind
# " ; " at the end of the line, in that order. NAME/s is how much NAME has grown a second since
# BEFORE. A figure that nobody told is a question mark.
# Variables width and height, if given, are the terminal's: what does not fit is cut off.
FNR == 1 { file++ }
file < 3 {
    name = file ":" substr($0, 1, index($0, "=") - 1)
    told[name] = substr($0, index($0, "=") + 1)
    next
}
function figure(name,    seconds) {
    if (name !~ /\/s$/)
        return ("2:" name) in told ? told["2:" name] : "?"
    name = substr(name, 1, length(name) - 2)
    seconds = told["2:now"] - told["1:now"]
    if (!(("1:" name) in told) || !(("2:" name) in told) || seconds <= 0)
        return "?"
    return sprintf("%.0f", (told["2:" name] - told["1:" name]) / seconds)
}
# cell TEXT WIDTH LEFT: a number too long for its place is told in thousands or millions.
function cell(text, width, left) {
    if (length(text) > width && text ~ /^[0-9]+$/)
        text = length(text) <= width + 2 ? int(text / 1000) "k" : int(text / 1000000) "M"
    return substr(sprintf(left ? "%-" width "s" : "%" width "s", text), 1, width)
}
{
    at = index($0, " ; ")
    names = at ? substr($0, at + 3) : ""
    rest = at ? substr($0, 1, at - 1) : $0
    split(names, name_of, " ")
    out = ""
    for (nr = 1; match(rest, /#+|@+/); nr++) {
        out = out substr(rest, 1, RSTART - 1) cell(figure(name_of[nr]), RLENGTH, substr(rest, RSTART, 1) == "@")
        rest = substr(rest, RSTART + RLENGTH)
    }
    out = out rest
    if (!height || ++printed <= height)
        print width ? substr(out, 1, width) : out
}
