# Makes THIRD-PARTY-LICENSES from the lists of cargo-about: see scripts/notices.sh. $rust is the version of Rust's standard
# library. $musl and $zig are their licences.

def section($names; $text):
  "\("-" * 80)\n\($names | join(", "))\n\n\($text | sub("^\\s*\\n"; "") | sub("\\s+$"; ""))\n";

[.[].licenses[] | .id as $id | .text as $text | .used_by[].crate
  | select(.name | startswith("parentwatch") | not)
  # Its MIT part comes from musl, whose licence follows below. cargo-about prints the blank form.
  | select([.name, $id] != ["compiler_builtins", "MIT"])
  # Most crates of the standard library have no version.
  | {name: "\(.name) \(if .version == "0.0.0" then "(Rust \($rust))" else .version end)", $text}]
# Copies of the same text differ in white space.
| group_by(.text | gsub("\\s+"; " "))
| map({names: map(.name) | unique, text: .[0].text}) | sort_by(.names)

| "The programs and libraries of localai-parentwatch contain code of others, under these licences.\n",
  (.[] | section(.names; .text)),
  section(["musl, and the parts of compiler_builtins that come from it"]; $musl),
  section(["zig: what its linker adds"]; $zig)
