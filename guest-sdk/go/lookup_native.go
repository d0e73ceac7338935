//go:build !wasip1

package guest

import (
	"reflect"
	"slices"
)

// Methods by reflection, for tests, which run without the file that stewardgen writes. A component has it: a program that looks
// methods up by names that are not constant is linked with every method there is, which makes it half as large again.

// methodNames are the exported methods of a type.
func methodNames(pointer reflect.Type) (names []string) {
	for at := range pointer.NumMethod() {
		names = append(names, pointer.Method(at).Name)
	}
	return names
}

// methodOf is a method's function, whose first parameter is the object.
func methodOf(pointer reflect.Type, name string) reflect.Value {
	found, _ := pointer.MethodByName(name)
	return found.Func
}

// checkHooks refuses methods that are called like a hook and are none.
func (k *kind) checkHooks() {
	zero := reflect.New(k.pointer.Elem()).Interface()
	is := map[string]bool{}
	switch zero.(type) {
	case ownerLostHook, ownerLostSays:
		is["OwnerLost"] = true
	}
	switch zero.(type) {
	case tickHook, tickSays:
		is["Tick"] = true
	}
	switch zero.(type) {
	case cancelledHook, cancelledSays:
		is["Cancelled"] = true
	}
	switch zero.(type) {
	case undeliveredHook, undeliveredSays:
		is["Undelivered"] = true
	}
	switch zero.(type) {
	case returnedHook, returnedSays:
		is["Returned"] = true
	}
	_, is["Save"] = zero.(saver)
	_, is["Load"] = zero.(loader)
	for _, name := range hookNames {
		if _, has := k.pointer.MethodByName(name); has && !is[name] && !slices.Contains(k.hidden, name) {
			panic("guest: " + k.goName + "." + name + " has the name of a hook, but not its parameters")
		}
	}
}
