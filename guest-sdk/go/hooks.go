package guest

import "reflect"

// hookNames are methods that the host calls and clients do not.
var hookNames = []string{"OwnerLost", "Tick", "Cancelled", "Undelivered", "Returned", "Save", "Load"}

// Hooks that may change the object say whether they did, or do not say, and are taken to have.
type (
	ownerLostHook interface{ OwnerLost(*Context, OwnerLost) }
	ownerLostSays interface {
		OwnerLost(*Context, OwnerLost) bool
	}
	tickHook        interface{ Tick(*Context) }
	tickSays        interface{ Tick(*Context) bool }
	cancelledHook   interface{ Cancelled(*Context, Why) }
	cancelledSays   interface{ Cancelled(*Context, Why) bool }
	undeliveredHook interface{ Undelivered(*Context, Undelivered) }
	undeliveredSays interface {
		Undelivered(*Context, Undelivered) bool
	}
	returnedHook interface{ Returned(*Context, Returned) }
	returnedSays interface{ Returned(*Context, Returned) bool }
	// saver gives a value to be encoded as the state, in place of the object's exported fields.
	saver interface{ Save() any }
	// loader takes over a state that this version of the type saved, or another one, into a zero object; state.Decode(object)
	// does what happens without the hook.
	loader interface {
		Load(c *Context, state Any, from string) error
	}
)

func (s *shell) ownerLost(c *Context, lost OwnerLost) bool {
	switch hook := s.object.(type) {
	case ownerLostSays:
		return hook.OwnerLost(c, lost)
	case ownerLostHook:
		hook.OwnerLost(c, lost)
		return true
	}
	return false
}

func (s *shell) tick(c *Context) bool {
	switch hook := s.object.(type) {
	case tickSays:
		return hook.Tick(c)
	case tickHook:
		hook.Tick(c)
		return true
	}
	return false
}

func (s *shell) cancelled(c *Context, why Why) bool {
	switch hook := s.object.(type) {
	case cancelledSays:
		return hook.Cancelled(c, why)
	case cancelledHook:
		hook.Cancelled(c, why)
		return true
	}
	return false
}

func (s *shell) undelivered(c *Context, lost Undelivered) bool {
	switch hook := s.object.(type) {
	case undeliveredSays:
		return hook.Undelivered(c, lost)
	case undeliveredHook:
		hook.Undelivered(c, lost)
		return true
	}
	return false
}

func (s *shell) returned(c *Context, returned Returned) bool {
	switch hook := s.object.(type) {
	case returnedSays:
		return hook.Returned(c, returned)
	case returnedHook:
		hook.Returned(c, returned)
		return true
	}
	return false
}

// save encodes an object's state.
func (k *kind) save(object any) ([]byte, error) {
	if !k.saves {
		return nil, Raise("TypeError", "`%s` does not save", k.id)
	}
	var state []byte
	var err error
	if own, has := object.(saver); has {
		state, err = appendValue(nil, own.Save())
	} else {
		state, err = k.codec.append(nil, reflect.ValueOf(object).Elem(), 0)
	}
	if err != nil {
		return nil, Raise("TypeError", "%s", err.Error())
	}
	return state, nil
}

// load decodes an object's state.
func (k *kind) load(c *Context, state []byte, from string) (any, error) {
	if !k.saves {
		return nil, Raise("TypeError", "`%s` does not save", k.id)
	}
	made := reflect.New(k.pointer.Elem())
	object := made.Interface()
	if own, has := object.(loader); has {
		return object, own.Load(c, AnyOf(state), from)
	}
	if err := decodeItem(state, k.codec, made.Elem()); err != nil {
		return nil, Raise("ValueError", "state does not load: %s", err.Error())
	}
	return object, nil
}
