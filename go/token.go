package parentwatch

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
)

// ChildEnv returns the environment for a worker that this process starts, for [os/exec.Cmd.Env]. It is a copy of env,
// or of [os.Environ] if env is nil, in which EnvParentPID names this process as the supervisor.
//
// With it, a worker that has the native library also notices a supervisor that died before the worker called Start, and
// one behind a wrapper (a shell, uv run) that stays alive. sudo and su - drop the variable: see docs/supervisors.md.
// ChildEnv itself needs no native library.
func ChildEnv(env []string) []string {
	if env == nil {
		env = os.Environ()
	}
	// Remove the old entry: os.StartProcess would pass on both, and getenv finds the first.
	inherited := func(entry string) bool { return strings.HasPrefix(entry, EnvParentPID+"=") }
	return append(slices.DeleteFunc(slices.Clone(env), inherited), EnvParentPID+"="+Token())
}

// Token returns the text that names this process in a worker's LOCALAI_BACKEND_PARENT_PID: PID@STARTTIME@PIDNS, since a
// process id alone can be reused. Without /proc it is the process id alone. It is valid for the life of this process.
// Most programs use [ChildEnv] instead.
func Token() string {
	pid := strconv.Itoa(os.Getpid())
	stat, _ := os.ReadFile("/proc/self/stat")
	// Field 2 is the program's name in parentheses. It may contain blanks and parentheses, so count from field 3, after
	// the last parenthesis.
	const start, first = 22, 3
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	link, _ := os.Readlink("/proc/self/ns/pid") // pid:[4026531836]
	namespace, found := strings.CutPrefix(link, "pid:[")
	if !found || len(fields) <= start-first {
		return pid
	}
	return pid + "@" + string(fields[start-first]) + "@" + strings.TrimSuffix(namespace, "]")
}
