// Any path will do. Without a dot it could be that of a package of Go's own.
module example.com/{{name}}

go 1.24

require steward.dev/guest v0.1.0

replace steward.dev/guest => ./.steward/guest-sdk/go
