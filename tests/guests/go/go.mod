module steward.dev/tests/guests

go 1.24

require steward.dev/guest v0.1.0

replace steward.dev/guest => ../../../guest-sdk/go
