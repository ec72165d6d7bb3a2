#!/usr/bin/env bash
# check-go-release.sh PREFIX: do the Go modules work as a release? A copy of this tree gets the tags of the two modules.
# Go builds the modules from them, as it does from GitHub, into the folder of a module proxy. A program outside the tree
# gets them from that proxy, and loads the library that is installed in PREFIX.
set -euo pipefail
prefix=$(realpath "${1:?check-go-release.sh: expected the prefix that the library is installed in}")
cd "$(dirname "$0")/.."
version=v$(scripts/version.sh)
repository=github.com/mudler/localai-parentwatch
work=$(mktemp -d)
# Go makes its downloads read-only.
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
ok() { printf 'ok    %s\n' "$1"; }
wrong() {
  printf 'wrong %s\n' "$1"
  exit 1
}

# With uncommitted changes, without deleted files.
git ls-files -z --cached --others --exclude-standard |
  while IFS= read -r -d '' file; do
    if [[ -e $file || -L $file ]]; then printf '%s\0' "$file"; fi
  done | tar --null -T - -c | tar -C "$work" --one-top-level=tree -x
git init --quiet "$work/tree"
git -C "$work/tree" add --all
git -C "$work/tree" -c user.name=release -c user.email=release@localhost -c commit.gpgSign=false \
  commit --quiet --message release
git -C "$work/tree" tag "go/$version"
git -C "$work/tree" tag "go/native/$version"

# Purego comes from Go's download cache, which has the layout of a proxy. go.sum verifies it.
scripts/retry.sh go mod download -C go/native
purego=$(go env GOMODCACHE)/cache/download
export GOWORK=off GOFLAGS=-mod=mod GOSUMDB=off GOTOOLCHAIN=local
proxy=$work/cache/cache/download
for module in "$repository/go" "$repository/go/native"; do
  GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$work/tree.insteadOf" GIT_CONFIG_VALUE_0="https://$repository" \
    GOPROXY=direct GOMODCACHE=$work/cache go mod download "$module@$version"
  files=$(python3 -m zipfile -l "$proxy/$module/@v/$version.zip")
  grep -q "^$module@$version/LICENSE " <<<"$files" || wrong "$module has no licence"
  ok "go makes $module $version from its tag, $(grep -c "^$module" <<<"$files") files"
done

export GOPROXY=file://$proxy,file://$purego GOMODCACHE=$work/modules
mkdir "$work/program"
cd "$work/program"
cat >main.go <<'END'
package main

import (
	"fmt"

	parentwatch "github.com/mudler/localai-parentwatch/go"
	_ "github.com/mudler/localai-parentwatch/go/native"
)

func main() {
	status, err := parentwatch.Start()
	fmt.Println("native", status.Native, err)
}
END
go mod init example.org/program 2>log || { cat log; wrong 'go mod init'; }
go get "$repository/go/native@$version" 2>log || { cat log; wrong "go get $repository/go/native@$version"; }
required=$(go list -m -f '{{.Version}}{{with .Replace}} replaced by {{.}}{{end}}' "$repository/go")
[[ $required == "$version" ]] || wrong "go/native $version asks for go $required"
CGO_ENABLED=0 go build -o program .
said=$(LOCALAI_PARENTWATCH_LIBRARY=$prefix/lib/liblocalai_parentwatch.so.0 ./program)
[[ $said == 'native true <nil>' ]] || wrong "the program says: $said"
ok "a program outside of the tree has both with go get, and loads the library"
