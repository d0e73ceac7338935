module steward.dev/guest

go 1.24
