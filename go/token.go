package parentwatch

import (
	"bytes"
	"os"
	"strconv"
	"strings"
)

// ChildEnv is the entry of a worker's environment that names this process as its supervisor, for
// [os/exec.Cmd.Env]: LOCALAI_BACKEND_PARENT_PID=PID@STARTTIME@PIDNS. With it, a worker that has the native
// library notices also a supervisor that died before the worker could arm, and one behind a wrapper (a shell,
// uv run) that stays alive. sudo and su - drop the variable: see docs/supervisors.md.
//
// Put it in the place of an entry with that name: [os/exec.Cmd] takes the last of two, but [os.StartProcess], and
// what is built on it, hands on both, and the worker finds the first. Where /proc cannot be read it has the process
// id alone. It needs no native library and is valid for the life of this process.
func ChildEnv() string {
	pid := strconv.Itoa(os.Getpid())
	stat, _ := os.ReadFile("/proc/self/stat")
	// Field 2, the program's name, is in parentheses and may hold blanks and parentheses itself. Field 3 is the
	// first behind it.
	const start, first = 22, 3
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	link, _ := os.Readlink("/proc/self/ns/pid") // pid:[4026531836]
	namespace, found := strings.CutPrefix(link, "pid:[")
	if !found || len(fields) <= start-first {
		return EnvParentPID + "=" + pid
	}
	return EnvParentPID + "=" + pid + "@" + string(fields[start-first]) + "@" + strings.TrimSuffix(namespace, "]")
}
