# The text of THIRD-PARTY-LICENSES from what cargo-about lists: see scripts/notices.sh. $rust is the version of Rust's
# standard library, $musl and $zig are the licences of these.

def section($names; $text):
  "\("-" * 80)\n\($names | join(", "))\n\n\($text | sub("^\\s*\\n"; "") | sub("\\s+$"; ""))\n";

[.[].licenses[] | .id as $id | .text as $text | .used_by[].crate
  | select(.name | startswith("parentwatch") | not)
  # Its mathematics are musl's, whose licence is below; cargo-about has an empty form for that.
  | select([.name, $id] != ["compiler_builtins", "MIT"])
  # Crates of the standard library have no version of their own.
  | {name: "\(.name) \(if .version == "0.0.0" then "(Rust \($rust))" else .version end)", $text}]
# Copies of one text differ in white space.
| group_by(.text | gsub("\\s+"; " "))
| map({names: map(.name) | unique, text: .[0].text}) | sort_by(.names)

| "The programs and libraries of localai-parentwatch contain code of others, under these licences.\n",
  (.[] | section(.names; .text)),
  section(["musl, and what compiler_builtins has of it"]; $musl),
  section(["zig: what its linker adds"]; $zig)
