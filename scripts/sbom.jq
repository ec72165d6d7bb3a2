# One list out of those that cargo-cyclonedx writes for each crate. $version is ours, $shipped what cargo-tree names:
# cargo-cyclonedx lists some that only other systems need. See scripts/packages.sh.

# Remove the paths of the machine that built it.
walk(if type == "string" then
    sub("^path\\+file://.*/(?<crate>[^/#]+)#(?<version>[^ ]+)"; "\(.crate)@\(.version)") | sub("\\?download_url=file://[^#]*"; "")
  else . end)

| "localai-parentwatch@\($version)" as $whole
| [.[].metadata.component | del(.components)] as $ours
| ([$ours[], .[].components[]] | unique_by(."bom-ref")
  | map(select("\(.name) v\(.version)" | IN($shipped | split("\n")[])))) as $components
| [$components[]."bom-ref"] as $refs
| ([.[].dependencies[]] | unique_by(.ref) | map(select(.ref | IN($refs[])))
  | map(.dependsOn = [.dependsOn // [] | .[] | select(IN($refs[]))])) as $dependencies
| .[0]
| del(.metadata.properties)
| .metadata.component = {
    type: "application",
    "bom-ref": $whole,
    name: "localai-parentwatch",
    version: $version,
    licenses: $ours[0].licenses,
    externalReferences: $ours[0].externalReferences,
  }
| .components = $components
| .dependencies = [{ref: $whole, dependsOn: [$ours[]."bom-ref"]}] + $dependencies
