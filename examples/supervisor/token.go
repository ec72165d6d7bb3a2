package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// token names this process for LOCALAI_BACKEND_PARENT_PID: PID@STARTTIME@PIDNS. The number alone
// may be given to another process one day; with the time it started and the PID namespace in
// which the number means something, it is this process and no other.
func token() (string, error) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return "", err
	}
	start, err := startTime(stat)
	if err != nil {
		return "", err
	}
	info, err := os.Stat("/proc/self/ns/pid")
	if err != nil {
		return "", err
	}
	inode, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", fmt.Errorf("%s: no inode", info.Name())
	}
	return fmt.Sprintf("%d@%d@%d", os.Getpid(), start, inode.Ino), nil
}

// startTime finds field 22 of /proc/PID/stat, in clock ticks since boot. The name of the program,
// field 2, stands in parentheses and may itself hold blanks and parentheses: the fields are
// counted from its last closing one.
func startTime(stat []byte) (uint64, error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, fmt.Errorf("no program name in %q", stat)
	}
	const startTimeField, firstField = 22, 3
	fields := bytes.Fields(stat[end+1:])
	if len(fields) <= startTimeField-firstField {
		return 0, fmt.Errorf("too few fields in %q", stat)
	}
	return strconv.ParseUint(string(fields[startTimeField-firstField]), 10, 64)
}
