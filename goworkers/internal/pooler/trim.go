// The pages of the program that only its start has needed.

package pooler

import (
	"bufio"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
)

// trim gives back what the start has used and the work does not: garbage, and pages
// of the program's file (tables and start code of libraries, a good half of a small
// pooler's memory). They come back by themselves when they are needed after all.
func trim() {
	debug.FreeOSMemory()
	exe, err := filepath.EvalSymlinks("/proc/self/exe")
	if err != nil {
		return
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer maps.Close()
	var from, size uintptr // of the mapping that the lines speak of; 0: not of interest
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) > 1 && len(f[1]) == 4 && strings.Contains(f[0], "-"):
			// 00400000-00e21000 r-xp 00000000 fe:00 1234 /usr/bin/skytools
			size = 0
			if len(f) < 6 || f[5] != exe || strings.Contains(f[1], "w") {
				continue
			}
			a, b, _ := strings.Cut(f[0], "-")
			first, err1 := strconv.ParseUint(a, 16, 64)
			end, err2 := strconv.ParseUint(b, 16, 64)
			if err1 == nil && err2 == nil {
				from, size = uintptr(first), uintptr(end-first)
			}
		case size > 0 && len(f) == 3 && f[0] == "Anonymous:" && f[1] == "0":
			// Pages that the loader has written, say, are not those of the file any more.
			syscall.Syscall(syscall.SYS_MADVISE, from, size, syscall.MADV_DONTNEED)
		}
	}
}
