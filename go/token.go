package parentwatch

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
)

// ChildEnv is the environment for a worker that this process starts, for [os/exec.Cmd.Env]: a copy of env, of
// [os.Environ] when that is nil, that names this process as the supervisor. A name that this process has inherited is
// left out.
//
// With it, a worker that has the native library notices also a supervisor that died before the worker could arm, and
// one behind a wrapper (a shell, uv run) that stays alive. sudo and su - drop the variable: see docs/supervisors.md. It
// needs no native library.
func ChildEnv(env []string) []string {
	if env == nil {
		env = os.Environ()
	}
	// Of two entries with a name a program finds the first. os/exec hands on the last alone, os.StartProcess both.
	inherited := func(entry string) bool { return strings.HasPrefix(entry, EnvParentPID+"=") }
	return append(slices.DeleteFunc(slices.Clone(env), inherited), EnvParentPID+"="+Token())
}

// Token names this process to the workers that it starts, in their LOCALAI_BACKEND_PARENT_PID: PID@STARTTIME@PIDNS,
// since a process id can be reused, or the process id alone where /proc cannot be read. It is valid for the life of
// this process. [ChildEnv] puts it in its place.
func Token() string {
	pid := strconv.Itoa(os.Getpid())
	stat, _ := os.ReadFile("/proc/self/stat")
	// Field 2, the program's name, is in parentheses and may hold blanks and parentheses itself. Field 3 is the
	// first behind it.
	const start, first = 22, 3
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	link, _ := os.Readlink("/proc/self/ns/pid") // pid:[4026531836]
	namespace, found := strings.CutPrefix(link, "pid:[")
	if !found || len(fields) <= start-first {
		return pid
	}
	return pid + "@" + string(fields[start-first]) + "@" + strings.TrimSuffix(namespace, "]")
}
