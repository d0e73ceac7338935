package main

import (
	"testing"

	"steward.dev/guest/guesttest"
)

func TestNextOneEntersWhenOneLeaves(t *testing.T) {
	object := guesttest.New[{{Type}}](t, 1)
	object.Call("enter").Is(true)
	waits := object.Call("enter").Parked()
	object.Call("leave").Is(nil)
	object.Answer(waits).Is(true)
	object.Call("free").Is(0)
}
