package guest

import "steward.dev/guest/cbor"

// Functions of the shapes that most methods have are called as what they are: that takes neither reflection nor memory. All others go
// through reflect, since each shape is code and data in each component. P is the pointer type of the object.

// fast is the thunk of a function with a common signature; nil for others.
func fast[P any](function any) thunk {
	if made := fastNone[P](function); made != nil {
		return made
	}
	if made := fastOne[P](function, func(_ *method, item []byte) (Any, error) { return Any{string(item)}, nil }); made != nil {
		return made
	}
	if made := fastOne[P](function, argument(decodeInt)); made != nil {
		return made
	}
	if made := fastOne[P](function, argument(decodeUint)); made != nil {
		return made
	}
	if made := fastOne[P](function, argument(decodeGoInt)); made != nil {
		return made
	}
	if made := fastOne[P](function, argument(decodeText)); made != nil {
		return made
	}
	return fastOne[P](function, argument(decodeFloat))
}

// decodeGoInt is for int, which has 64 bits wherever this runs.
func decodeGoInt(r *reader) (int, error) {
	value, err := decodeInt(r)
	if err == nil && int64(int(value)) != value {
		err = errRange
	}
	return int(value), err
}

// argument decodes the only argument.
func argument[A any](take func(*reader) (A, error)) func(*method, []byte) (A, error) {
	return func(m *method, item []byte) (A, error) {
		r := reader{Reader: cbor.NewReader(item)}
		value, err := take(&r)
		if err == nil && !r.Done() {
			err = cbor.ErrMalformed
		}
		if err != nil {
			err = refuse(m.place, &m.params[0], item, err)
		}
		return value, err
	}
}

// fastNone is for functions without parameters.
func fastNone[P any](function any) thunk {
	switch f := function.(type) {
	case func(P):
		return func(o any, _ *Context, _ *method, out []byte) ([]byte, error) {
			f(o.(P))
			return cbor.AppendNull(out), nil
		}
	case func(P, *Context):
		return func(o any, c *Context, _ *method, out []byte) ([]byte, error) {
			f(o.(P), c)
			return cbor.AppendNull(out), nil
		}
	case func(P) error:
		return func(o any, _ *Context, _ *method, out []byte) ([]byte, error) { return null(out, f(o.(P))) }
	case func(P, *Context) error:
		return func(o any, c *Context, _ *method, out []byte) ([]byte, error) { return null(out, f(o.(P), c)) }
	}
	for _, with := range []func(any) thunk{
		gives0[P](cbor.AppendBool), gives0[P](cbor.AppendInt), gives0[P](appendInt), gives0[P](appendAny),
	} {
		if made := with(function); made != nil {
			return made
		}
	}
	return nil
}

// gives0 is for functions without parameters that give an R.
func gives0[P, R any](put func([]byte, R) []byte) func(any) thunk {
	return func(function any) thunk {
		switch f := function.(type) {
		case func(P) R:
			return func(o any, _ *Context, _ *method, out []byte) ([]byte, error) { return put(out, f(o.(P))), nil }
		case func(P, *Context) R:
			return func(o any, c *Context, _ *method, out []byte) ([]byte, error) { return put(out, f(o.(P), c)), nil }
		case func(P) (R, error):
			return func(o any, _ *Context, _ *method, out []byte) ([]byte, error) {
				result, err := f(o.(P))
				if err != nil {
					return out, err
				}
				return put(out, result), nil
			}
		case func(P, *Context) (R, error):
			return func(o any, c *Context, _ *method, out []byte) ([]byte, error) {
				result, err := f(o.(P), c)
				if err != nil {
					return out, err
				}
				return put(out, result), nil
			}
		}
		return nil
	}
}

// fastOne is for functions of an A.
func fastOne[P, A any](function any, take func(*method, []byte) (A, error)) thunk {
	switch f := function.(type) {
	case func(P, A):
		return func(o any, _ *Context, m *method, out []byte) ([]byte, error) {
			a, err := take(m, m.item(0))
			if err == nil {
				f(o.(P), a)
			}
			return null(out, err)
		}
	case func(P, *Context, A):
		return func(o any, c *Context, m *method, out []byte) ([]byte, error) {
			a, err := take(m, m.item(0))
			if err == nil {
				f(o.(P), c, a)
			}
			return null(out, err)
		}
	case func(P, A) error:
		return func(o any, _ *Context, m *method, out []byte) ([]byte, error) {
			a, err := take(m, m.item(0))
			if err == nil {
				err = f(o.(P), a)
			}
			return null(out, err)
		}
	case func(P, *Context, A) error:
		return func(o any, c *Context, m *method, out []byte) ([]byte, error) {
			a, err := take(m, m.item(0))
			if err == nil {
				err = f(o.(P), c, a)
			}
			return null(out, err)
		}
	}
	for _, with := range []func(any) thunk{
		gives1[P](take, cbor.AppendBool), gives1[P](take, cbor.AppendInt), gives1[P](take, appendAny),
	} {
		if made := with(function); made != nil {
			return made
		}
	}
	return nil
}

// gives1 is for functions of an A that give an R.
func gives1[P, A, R any](take func(*method, []byte) (A, error), put func([]byte, R) []byte) func(any) thunk {
	return func(function any) thunk {
		switch f := function.(type) {
		case func(P, A) R:
			return func(o any, _ *Context, m *method, out []byte) ([]byte, error) {
				a, err := take(m, m.item(0))
				if err != nil {
					return out, err
				}
				return put(out, f(o.(P), a)), nil
			}
		case func(P, *Context, A) R:
			return func(o any, c *Context, m *method, out []byte) ([]byte, error) {
				a, err := take(m, m.item(0))
				if err != nil {
					return out, err
				}
				return put(out, f(o.(P), c, a)), nil
			}
		case func(P, A) (R, error):
			return func(o any, _ *Context, m *method, out []byte) ([]byte, error) {
				a, err := take(m, m.item(0))
				if err != nil {
					return out, err
				}
				result, err := f(o.(P), a)
				if err != nil {
					return out, err
				}
				return put(out, result), nil
			}
		case func(P, *Context, A) (R, error):
			return func(o any, c *Context, m *method, out []byte) ([]byte, error) {
				a, err := take(m, m.item(0))
				if err != nil {
					return out, err
				}
				result, err := f(o.(P), c, a)
				if err != nil {
					return out, err
				}
				return put(out, result), nil
			}
		}
		return nil
	}
}

func null(out []byte, err error) ([]byte, error) {
	if err != nil {
		return out, err
	}
	return cbor.AppendNull(out), nil
}

func appendInt(out []byte, value int) []byte { return cbor.AppendInt(out, int64(value)) }

func appendAny(out []byte, value Any) []byte { return value.append(out) }
