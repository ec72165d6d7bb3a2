//go:build !android && (amd64 || arm64)

package native

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mudler/localai-parentwatch/go/internal/processtree"
)

const nobody = 65534

// layout creates files below a folder. Each line is "path mode", "path mode owner", "path mode owner:group", or
// "path -> target", optionally with an owner. A path that ends in a slash is a folder.
func layout(t *testing.T, root string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		words := strings.Fields(line)
		path := filepath.Join(root, words[0])
		isLink, owner := words[1] == "->", words[2:]
		var err error
		switch {
		case isLink:
			err, owner = os.Symlink(strings.ReplaceAll(words[2], "ROOT", root), path), words[3:]
		case strings.HasSuffix(words[0], "/"):
			err = os.MkdirAll(path, 0o755)
		default:
			err = os.WriteFile(path, nil, 0o644)
		}
		if len(owner) > 0 {
			var uid, gid int
			fmt.Sscanf(owner[0], "%d:%d", &uid, &gid)
			err = errors.Join(err, os.Lchown(path, uid, gid))
		}
		if !isLink {
			var mode uint32
			fmt.Sscanf(words[1], "%o", &mode)
			err = errors.Join(err, syscall.Chmod(path, mode))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestTrust(t *testing.T) {
	if os.Geteuid() != 0 {
		fmt.Println("SKIPPED: TestTrust: not run as root")
		t.Skip()
	}
	const fine, missing, noFile = "", "no such file or directory", "it is no regular file"
	others := func(path string) string {
		return "others than users 0, 7 may write to " + filepath.Join("ROOT", path) + " (owner "
	}
	for name, test := range map[string]struct {
		lines  []string
		reason string
	}{
		"all root's":              {[]string{"app/lib/ 755", "app/lib/x.so 644"}, fine},
		"the program's owner's":   {[]string{"app/ 755 7:7", "app/lib/ 755 7:7", "app/lib/x.so 644 7:7"}, fine},
		"root's group may write":  {[]string{"app/lib/ 775", "app/lib/x.so 664"}, fine},
		"above":                   {[]string{"app/lib/ 755", "app/lib/x.so 644", "./ 777"}, fine},
		"no lib":                  {[]string{"app/ 755"}, missing},
		"no file":                 {[]string{"app/lib/ 755"}, missing},
		"lib is a file":           {[]string{"app/ 755", "app/lib 644"}, "not a directory"},
		"a folder":                {[]string{"app/lib/x.so/ 755"}, noFile},
		"file of another":         {[]string{"app/lib/ 755", "app/lib/x.so 644 65534"}, others("app/lib/x.so")},
		"file for all":            {[]string{"app/lib/ 755", "app/lib/x.so 646"}, others("app/lib/x.so")},
		"file for a group":        {[]string{"app/lib/ 755", "app/lib/x.so 664 0:65534"}, others("app/lib/x.so")},
		"lib of another":          {[]string{"app/lib/ 755 65534", "app/lib/x.so 644"}, others("app/lib")},
		"lib for all":             {[]string{"app/lib/ 777", "app/lib/x.so 644"}, others("app/lib")},
		"lib for all, sticky":     {[]string{"app/lib/ 1777", "app/lib/x.so 644"}, others("app/lib")},
		"lib for a group":         {[]string{"app/lib/ 775 0:65534", "app/lib/x.so 644"}, others("app/lib")},
		"lib for all, no file":    {[]string{"app/lib/ 777"}, missing},
		"program's for all":       {[]string{"app/lib/ 755", "app/lib/x.so 644", "app/ 777"}, others("app")},
		"program's sticky":        {[]string{"app/lib/ 755", "app/lib/x.so 644", "app/ 1777"}, others("app")},
		"link in lib":             {[]string{"app/lib/ 755", "app/lib/y.so 644", "app/lib/x.so -> y.so"}, fine},
		"link to another's":       {[]string{"app/lib/ 755", "app/lib/y.so 644 65534", "app/lib/x.so -> y.so"}, others("app/lib/y.so")},
		"link by all":             {[]string{"app/lib/ 777", "app/y.so 644", "app/lib/x.so -> ../y.so"}, others("app/lib")},
		"link to a folder":        {[]string{"app/ 755", "o/ 755", "o/x.so 644", "app/lib -> ../o"}, fine},
		"link to one for all":     {[]string{"app/ 755", "o/ 777", "o/x.so 644", "app/lib -> ../o"}, others("o")},
		"link below one for all":  {[]string{"app/ 755", "o/p/ 755", "o/ 777", "o/p/x.so 644", "app/lib -> ROOT/o/p"}, others("o")},
		"link below a sticky one": {[]string{"app/ 755", "o/p/ 755", "o/ 1777", "o/p/x.so 644", "app/lib -> ROOT/o/p"}, fine},
		"sticky, another's in it": {[]string{"app/ 755", "o/p/ 755 65534", "o/ 1777", "o/p/x.so 644", "app/lib -> ROOT/o/p"}, others("o")},
		"another's sticky one":    {[]string{"app/ 755", "o/p/ 755", "o/ 1777 65534", "o/p/x.so 644", "app/lib -> ROOT/o/p"}, others("o")},
		"link into a sticky one":  {[]string{"app/ 755", "o/ 1777", "o/x.so 644", "app/lib -> ROOT/o"}, others("o")},
		"link by a sticky one":    {[]string{"app/lib/ 755", "o/ 1777", "y.so 644", "o/z -> ../y.so", "app/lib/x.so -> ../../o/z"}, others("o")},
		"through a link and back": {[]string{"app/lib/ 755", "o/p/ 755", "o/x.so 644", "app/q -> ROOT/o/p", "app/lib/x.so -> ../q/../x.so"}, fine},
		"to a sticky one above":   {[]string{"app/ 755", "x.so 644", "app/lib -> ROOT", "./ 1777"}, others("")},
		"by another's link above": {[]string{"app/ 755", "o/ 755", "o/x.so 644", "app/lib -> ROOT/z", "z -> o 65534", "./ 1777"}, others("")},
		"by a link above":         {[]string{"app/ 755", "o/ 755", "o/x.so 644", "app/lib -> ROOT/z", "z -> o", "./ 1777"}, fine},
		"dangling":                {[]string{"app/lib/ 755", "app/lib/x.so -> y.so"}, missing},
		"circle":                  {[]string{"app/lib/ 755", "app/lib/x.so -> x.so"}, "too many levels of symbolic links"},
		"to a folder, by dots":    {[]string{"app/lib/ 755", "app/lib/x.so -> .."}, noFile},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			layout(t, root, test.lines...)
			got := ""
			if err := (trust{0, 7}).check(filepath.Join(root, "app"), "lib/x.so"); err != nil {
				got = err.Error()
			}
			want := strings.ReplaceAll(test.reason, "ROOT", root)
			if got != want && (want == "" || !strings.HasPrefix(got, want)) {
				t.Errorf("%q, expected %q", got, want)
			}
		})
	}
}

// plant puts a library of another user into a folder that everybody may write to.
func plant(t *testing.T, folder, place string) {
	t.Helper()
	library := compile(t, `#include <unistd.h>
__attribute__((constructor)) static void run(void) { write(2, "PLANTED CODE\n", 13); }`,
		filepath.Join(folder, "in.so"), "-shared", "-fPIC")
	cmd := exec.Command("sh", "-c", `mkdir -p "$(dirname "$2")" && cp "$1" "$2"`, "sh", library, filepath.Join(folder, place))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// A program of root is in a folder that everybody may write to. No code that others put there runs.
func TestPlanted(t *testing.T) {
	if os.Geteuid() != 0 {
		fmt.Println("SKIPPED: TestPlanted: not run as root")
		t.Skip()
	}
	for _, place := range []string{"lib/" + libraryName(), libraryName()} {
		folder := t.TempDir()
		// The folder above belongs to the testing package, which lets only this user in.
		if err := errors.Join(os.Chmod(filepath.Dir(folder), 0o755), os.Chmod(folder, 0o777|os.ModeSticky)); err != nil {
			t.Fatal(err)
		}
		program := write(t, filepath.Join(folder, "program"), read(t, "/proc/self/exe"))
		plant(t, folder, place)
		for _, named := range []string{"", filepath.Join(folder, place)} {
			var got told
			stderr := answer(t, &got, processtree.CommandOf([]string{program}, "loading", EnvLibrary+"="+named, "LD_LIBRARY_PATH="))
			got.checkDegraded(t, stderr, "others than user 0 may write to "+folder)
			if strings.Contains(stderr, "PLANTED") {
				t.Errorf("%s, named %q: %s", place, named, stderr)
			}
		}
	}
}
