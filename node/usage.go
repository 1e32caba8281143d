package node

import "golang.org/x/sys/unix"

// cpuMicros is the processor time this process has used.
func cpuMicros() uint64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0 // cannot fail for the own process; a counter is not worth more
	}
	return uint64(u.Utime.Nano()+u.Stime.Nano()) / 1000
}
