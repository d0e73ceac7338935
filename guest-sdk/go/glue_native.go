//go:build !wasip1

package guest

import (
	"fmt"
	"os"

	"steward.dev/guest/internal/world"
)

func init() {
	world.Log = func(level uint8, message string) {
		fmt.Fprintf(os.Stderr, "%s: %s\n", [...]string{"error", "warn", "info", "debug"}[level], message)
	}
}
