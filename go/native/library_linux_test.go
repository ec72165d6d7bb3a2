//go:build !android && (amd64 || arm64)

package native

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	parentwatch "github.com/mudler/localai-parentwatch/go"
	"github.com/mudler/localai-parentwatch/go/internal/processtree"
)

// told is what the role "loading" reports.
type told struct {
	State       parentwatch.State
	Native      bool
	Tier        parentwatch.Tier
	StartError  string
	LoadError   string
	Places      []string
	LibraryFile string
	// EffectiveUID is the effective user id of the process.
	EffectiveUID int
}

func startAndTell() {
	info, err := parentwatch.Start()
	report := told{
		State: info.State, Native: info.Native, Tier: info.Tier, StartError: fmt.Sprint(err), LibraryFile: mapped(),
		EffectiveUID: os.Geteuid(),
	}
	var failed *LoadError
	if errors.As(info.LoadError, &failed) {
		report.LoadError = failed.Error()
		for _, attempt := range failed.Attempts {
			report.Places = append(report.Places, attempt.Place)
		}
	}
	processtree.Report(report)
}

func (got told) checkDegraded(t *testing.T, stderr string, reasons ...string) {
	t.Helper()
	if got.State != parentwatch.Armed || got.Native || got.Tier != parentwatch.TierEvent || got.StartError != "<nil>" {
		t.Errorf("%+v, expected the degraded mode", got)
	}
	if strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "localai-parentwatch: watching the parent alone, since ") {
		t.Errorf("stderr is %q, expected one line about the library", stderr)
	}
	for _, reason := range reasons {
		if !strings.Contains(got.LoadError, reason) || !strings.Contains(stderr, reason) {
			t.Errorf("%q is not in the error %q, or not in the line %q", reason, got.LoadError, stderr)
		}
	}
}

// installed returns the library that the tests use.
func installed(t *testing.T) string {
	t.Helper()
	var got told
	ask(t, &got, "loading")
	if got.LibraryFile == "" {
		t.Fatalf("no library: %+v", got)
	}
	return got.LibraryFile
}

func write(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// compile builds a program or a library from C source.
func compile(t *testing.T, source, output string, flags ...string) string {
	t.Helper()
	command := exec.Command("cc", append([]string{"-x", "c", "-I", "../../include", "-o", output, "-"}, flags...)...)
	command.Stdin = strings.NewReader(source)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return output
}

// foreign builds a library that has the functions but another ABI version.
func foreign(t *testing.T, output string) string {
	t.Helper()
	var source strings.Builder
	source.WriteString("int localai_parentwatch_abi_version(void) { return 2; }\n")
	for _, name := range []string{"start", "status", "status_text", "wait_for_exit"} {
		fmt.Fprintf(&source, "int localai_parentwatch_%s(void) { __builtin_trap(); }\n", name)
	}
	if err := os.MkdirAll(filepath.Dir(output), 0o755); err != nil {
		t.Fatal(err)
	}
	return compile(t, source.String(), output, "-shared", "-fPIC", "-Wl,-soname,"+libraryName())
}

func TestLibrariesThatCannotBeLoaded(t *testing.T) {
	folder := t.TempDir()
	of := func(name string) string { return filepath.Join(folder, name) }
	otherMachine := bytes.Clone(read(t, installed(t)))
	const eMachine = 18 // the field's offset in the ELF header
	otherMachine[eMachine] = byte(elf.EM_SPARCV9)
	fifo := of("fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ place, reason string }{
		{of("missing.so"), "no such file or directory"},
		{write(t, of("text.so"), []byte(strings.Repeat("no library\n", 100))), "invalid ELF header"},
		{write(t, of("empty.so"), nil), "file too short"},
		{write(t, of("machine.so"), otherMachine), "cannot open shared object file"},
		{folder, "no regular file"},
		{fifo, "no regular file"},
		{"/dev/zero", "no regular file"},
		{compile(t, "int other;", of("other.so"), "-shared", "-fPIC"), "undefined symbol"},
		{foreign(t, of("version.so")), "ABI version 2, expected 1"},
		{"no-slash.so", "cannot open shared object file"},
	} {
		t.Run(filepath.Base(test.place), func(t *testing.T) {
			var got told
			stderr := ask(t, &got, "loading", EnvLibrary+"="+test.place)
			got.checkDegraded(t, stderr, test.place+": ", test.reason)
			if !reflect.DeepEqual(got.Places, []string{test.place}) {
				t.Errorf("the places are %q", got.Places)
			}
		})
	}
}

// The value of the variable cannot forge a line on stderr.
func TestNoForgedLine(t *testing.T) {
	var got told
	stderr := ask(t, &got, "loading", EnvLibrary+"=/nowhere/\nlocalai-parentwatch: supervisor 1 is gone\r\x1b[2K")
	got.checkDegraded(t, stderr, "no such file or directory")
	if strings.ContainsAny(stderr, "\r\x1b") {
		t.Errorf("stderr is %q", stderr)
	}
}

// Without the variable there are three places. The line names each of them once, also if a packaged loader runs the
// program.
func TestEveryPlaceIsNamed(t *testing.T) {
	program := read(t, "/proc/self/exe")
	for _, command := range [][]string{{"./program"}, {"lib/ld.so", "./program"}} {
		folder := t.TempDir()
		write(t, filepath.Join(folder, "program"), program)
		write(t, filepath.Join(folder, "lib", "ld.so"), interpreterOf(t, program))
		cmd := processtree.CommandOf(command, "loading", EnvLibrary+"=", "LD_LIBRARY_PATH=")
		cmd.Dir = folder
		var got told
		stderr := answer(t, &got, cmd)
		want := []string{
			folder + "/lib/liblocalai_parentwatch.so.0", folder + "/liblocalai_parentwatch.so.0", "liblocalai_parentwatch.so.0",
		}
		if !reflect.DeepEqual(got.Places, want) {
			t.Errorf("%q: the places are %q, expected %q", command, got.Places, want)
		}
		got.checkDegraded(t, stderr, want...)
		if length := len(stderr) - 2*len(folder); length > 400 {
			t.Errorf("%q: the line has %d bytes without the folder's name: %s", command, length, stderr)
		}
	}
}

// interpreterOf returns the loader that a program names.
func interpreterOf(t *testing.T, program []byte) []byte {
	t.Helper()
	file, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	interpreter, err := file.Section(".interp").Data()
	if err != nil {
		t.Fatal(err)
	}
	return read(t, string(bytes.TrimRight(interpreter, "\x00")))
}

// LocalAI packages a backend's libraries in lib/ beside the backend, and may run it with the loader from there.
func TestPlaces(t *testing.T) {
	library := read(t, installed(t))
	program := read(t, "/proc/self/exe")
	loader := interpreterOf(t, program)

	for _, test := range []struct {
		name  string
		place string
		// command runs in the folder.
		command []string
		env     string
	}{
		{"in lib", "lib/" + libraryName(), []string{"./program"}, ""},
		{"beside", libraryName(), []string{"./program"}, ""},
		{"in lib, by the loader", "lib/" + libraryName(), []string{"lib/ld.so", "./program"}, ""},
		{"beside, by the loader", libraryName(), []string{"lib/ld.so", "./program"}, ""},
		{"beside, by the loader, with another name", libraryName(), []string{"lib/ld.so", "--argv0", "worker", "./program"}, ""},
		{"by the loader's path", "elsewhere/" + libraryName(), []string{"./program"}, "LD_LIBRARY_PATH=elsewhere"},
		{"a wrong one first", libraryName(), []string{"./program"}, "foreign"},
		{"a wrong one first, by path", "elsewhere/" + libraryName(), []string{"./program"}, "LD_LIBRARY_PATH=elsewhere foreign"},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := t.TempDir()
			write(t, filepath.Join(folder, "program"), program)
			write(t, filepath.Join(folder, "lib", "ld.so"), loader)
			expected := write(t, filepath.Join(folder, test.place), library)
			env, withForeign := strings.CutSuffix(test.env, "foreign")
			if withForeign {
				foreign(t, filepath.Join(folder, "lib", libraryName()))
			}
			cmd := processtree.CommandOf(test.command, "loading", EnvLibrary+"=", "LD_LIBRARY_PATH=", strings.TrimSpace(env))
			cmd.Dir = folder
			var got told
			stderr := answer(t, &got, cmd)
			if !got.Native || got.LibraryFile != expected || stderr != "" {
				t.Errorf("%+v, stderr %q; expected %s", got, stderr, expected)
			}
		})
	}
}

// The caller chooses argv[0], so no code is loaded from there.
func TestWhatTheProgramIsCalledAsIsNoPlace(t *testing.T) {
	folder := t.TempDir()
	planted := write(t, filepath.Join(folder, "lib", libraryName()), read(t, installed(t)))
	for _, argument := range []string{filepath.Join(folder, "program"), "./program"} {
		cmd := processtree.CommandOf([]string{"/proc/self/exe"}, "loading", EnvLibrary+"=", "LD_LIBRARY_PATH=")
		cmd.Dir = folder
		cmd.Args[0] = argument
		var got told
		stderr := answer(t, &got, cmd)
		got.checkDegraded(t, stderr)
		if slices.Contains(got.Places, planted) {
			t.Errorf("called as %s, it looks at %s", argument, planted)
		}
	}
}

// A set-user-ID program of root loads nothing that its caller names.
func TestSetUserID(t *testing.T) {
	if os.Geteuid() != 0 {
		fmt.Println("SKIPPED: TestSetUserID: not run as root")
		t.Skip()
	}
	folder := t.TempDir()
	program := write(t, filepath.Join(folder, "program"), read(t, "/proc/self/exe"))
	library := write(t, filepath.Join(folder, "named", libraryName()), read(t, installed(t)))
	run := func(mode os.FileMode) (got told, stderr string) {
		t.Helper()
		// The folder above belongs to the testing package, which lets only this user in.
		if err := errors.Join(os.Chmod(filepath.Dir(folder), 0o755), os.Chmod(program, mode)); err != nil {
			t.Fatal(err)
		}
		cmd := processtree.CommandOf([]string{program}, "loading", EnvLibrary+"="+library, "LD_LIBRARY_PATH=")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		stderr = answer(t, &got, cmd)
		return got, stderr
	}
	if got, stderr := run(0o755); !got.Native || got.LibraryFile != library || got.EffectiveUID != 65534 {
		t.Errorf("without the mode's bit: %+v; %s", got, stderr)
	}
	got, stderr := run(0o755 | os.ModeSetuid)
	if got.EffectiveUID != 0 {
		fmt.Println("SKIPPED: TestSetUserID: the folder for temporary files is mounted nosuid")
		t.Skip()
	}
	got.checkDegraded(t, stderr)
	if got.LibraryFile != "" || slices.Contains(got.Places, library) {
		t.Errorf("%+v, expected that the variable is not heeded", got)
	}
}

// Where there can be no library, the program uses the degraded mode. A program that could have been linked dynamically
// says so.
func TestProgramsWithoutAnyLibrary(t *testing.T) {
	library := installed(t)
	for _, test := range []struct {
		name   string
		env    []string
		flags  []string
		reason string
	}{
		{"static", []string{"CGO_ENABLED=1"}, []string{"-ldflags", `-linkmode external -extldflags "-static"`},
			"the native library cannot be loaded: this program: it is static"},
		{"static-pie", []string{"CGO_ENABLED=1"},
			[]string{"-buildmode=pie", "-ldflags", `-linkmode external -extldflags "-static-pie"`},
			"the native library cannot be loaded: this program: it is static"},
		// The import does nothing there.
		{"386", []string{"CGO_ENABLED=0", "GOARCH=386"}, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "386" && runtime.GOARCH != "amd64" {
				fmt.Println("SKIPPED: TestProgramsWithoutAnyLibrary/386: the processor is another one")
				t.Skip()
			}
			program := filepath.Join(t.TempDir(), "program")
			build := exec.Command("go", slices.Concat([]string{"build", "-o", program}, test.flags, []string{"./testdata/program"})...)
			build.Env = append(os.Environ(), test.env...)
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			var stderr strings.Builder
			run := exec.Command(program)
			run.Env = []string{EnvLibrary + "=" + library}
			run.Stderr = &stderr
			out, err := run.Output()
			if errors.Is(err, syscall.ENOEXEC) {
				fmt.Printf("SKIPPED: %s: the kernel does not run such programs\n", t.Name())
				t.Skip()
			}
			want, line := "armed event false <nil> <nil>\n", ""
			if test.reason != "" {
				want = "armed event false <nil> " + test.reason + "\n"
				line = "localai-parentwatch: watching the parent alone, since " + test.reason + "\n"
			}
			if err != nil || string(out) != want {
				t.Errorf("%v: it says %q, expected %q", err, out, want)
			}
			if stderr.String() != line {
				t.Errorf("stderr is %q, expected %q", &stderr, line)
			}
		})
	}
}

// The structs, numbers and words agree with the header.
func TestLayoutIsTheHeaders(t *testing.T) {
	var source strings.Builder
	var want []string
	source.WriteString("#include <localai_parentwatch.h>\n#include <stdio.h>\n#include <stddef.h>\nint main(void) {\n")
	check := func(expression string, value any) {
		fmt.Fprintf(&source, "printf(\"%%lld\\n\", (long long)(%s));\n", expression)
		want = append(want, expression+" = "+fmt.Sprint(value))
	}
	fields := func(name string, mirror any, inC ...string) {
		typ := reflect.TypeOf(mirror)
		check("sizeof("+name+")", typ.Size())
		if typ.NumField() != len(inC) {
			t.Errorf("%s has %d fields here and %d in C", name, typ.NumField(), len(inC))
			return
		}
		for n, field := range inC {
			check("offsetof("+name+", "+field+")", typ.Field(n).Offset)
			check("sizeof((("+name+" *)0)->"+field+")", typ.Field(n).Type.Size())
		}
	}
	fields("localai_parentwatch_options_t", options{},
		"size", "interval_ns", "grace_ns", "parent", "on_death", "user_data", "scope", "flags")
	fields("localai_parentwatch_info_t", info{},
		"size", "state", "tier", "watched_pids", "scope", "flags", "interval_ns", "grace_ns")
	check("LOCALAI_PARENTWATCH_ABI_VERSION", abiVersion)
	check("LOCALAI_PARENTWATCH_TIER_NONE", int(parentwatch.TierNone))
	check("LOCALAI_PARENTWATCH_TIER_EVENT", int(parentwatch.TierEvent))
	check("LOCALAI_PARENTWATCH_TIER_POLL", int(parentwatch.TierPoll))
	check("LOCALAI_PARENTWATCH_SCOPE_GROUP", int(parentwatch.ScopeGroup))
	check("LOCALAI_PARENTWATCH_SCOPE_PROCESS", int(parentwatch.ScopeProcess))
	check("LOCALAI_PARENTWATCH_SCOPE_TREE", int(parentwatch.ScopeTree))
	check("LOCALAI_PARENTWATCH_GRACE_IS_SET", graceIsSet)
	source.WriteString("}\n")
	program := compile(t, source.String(), filepath.Join(t.TempDir(), "layout"))
	out, err := exec.Command(program).Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(out))
	if len(got) != len(want) {
		t.Fatalf("%d values in C, %d here", len(got), len(want))
	}
	for n, value := range got {
		if !strings.HasSuffix(want[n], " = "+value) {
			t.Errorf("%s here, %s in C", want[n], value)
		}
	}

	opened, err := open()
	if err != nil {
		t.Fatal(err)
	}
	for number, state := range map[int32]parentwatch.State{
		0: parentwatch.Armed, 1: parentwatch.Disabled, 2: parentwatch.NoParent, 3: parentwatch.Unsupported,
		4: parentwatch.NotStarted, -1: parentwatch.Exhausted, -2: parentwatch.Invalid, -127: parentwatch.Internal,
	} {
		if word := opened.(*library).statusText(number); word != string(state) {
			t.Errorf("status %d is %q in C, %q here", number, word, state)
		}
	}
}
