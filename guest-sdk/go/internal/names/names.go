// Package names turns Go's names into those on the wire.
package names

import (
	"strings"
	"unicode"
)

// Snake is a name in snake_case: GetMany is get_many, and HTTPPort http_port.
func Snake(name string) string {
	var out strings.Builder
	runes := []rune(name)
	for at, r := range runes {
		if unicode.IsUpper(r) && at > 0 && runes[at-1] != '_' {
			startsWord := at+1 < len(runes) && unicode.IsLower(runes[at+1])
			if !unicode.IsUpper(runes[at-1]) || startsWord {
				out.WriteByte('_')
			}
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}
