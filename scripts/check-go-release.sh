#!/usr/bin/env bash
# check-go-release.sh PREFIX: what a release gives to Go. A copy of this tree gets the tags of the two modules. From them
# go makes the modules, as it does from GitHub, into the folder of a module proxy. A program outside of the tree has them
# from that proxy, and loads the library that is installed below PREFIX.
set -euo pipefail
prefix=$(realpath "${1:?check-go-release.sh: expected the prefix that the library is installed in}")
cd "$(dirname "$0")/.."
version=v$(scripts/version.sh)
repository=github.com/mudler/localai-parentwatch
work=$(mktemp -d)
# Go takes away the right to write to what it has downloaded.
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
ok() { printf 'ok    %s\n' "$1"; }
wrong() {
  printf 'wrong %s\n' "$1"
  exit 1
}

# With what is not committed yet, without what was deleted.
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

# Purego is had from where go keeps what it has downloaded, which is laid out as a proxy too. go.sum vouches for it.
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
