//go:build wasip1

package guest

import "reflect"

func methodNames(pointer reflect.Type) []string {
	panic("guest: nothing is known of the methods of " + pointer.String() + ": build with `steward build`, which runs stewardgen")
}

func methodOf(reflect.Type, string) reflect.Value { return reflect.Value{} }

func (k *kind) checkHooks() {}
