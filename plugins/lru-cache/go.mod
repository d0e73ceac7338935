module steward.dev/plugins/lru-cache

go 1.24

require steward.dev/guest v0.1.0

replace steward.dev/guest => ../../guest-sdk/go
