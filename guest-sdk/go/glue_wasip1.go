//go:build wasip1

package guest

import (
	"bytes"
	"unsafe"

	"steward.dev/guest/internal/world"
)

// The world of wit/0.1.0 by the component model's canonical ABI, written by hand: generated bindings ask for modules of their own
// and flags that replace the linker's checks, and lift what this can leave where it is.
//
// Memory. What the host hands over lies in room that the adapter was lent, where it is valid until the host comes again; or else, if
// there is too little, in memory of its own, which the adapter asks for and which is found again by its address. What goes back
// lies in Go's memory, which does not move, and is kept from the collector until the next call; there is no cabi_post function,
// which would be one more way into Go with each call.
//
// A step is short, and what comes between two of them takes the processor's caches. So what one costs is how much code and memory it
// comes by: what all steps need lies side by side, and the way of most calls is straight.

//go:wasmimport steward:plugin/host@0.1.0 log
//go:noescape
func hostLog(level uint32, message unsafe.Pointer, length uint32)

//go:wasmimport [export]steward:plugin/referent@0.1.0 [resource-new]object
func resourceNew(rep int32) int32

// What the adapter offers beside its stand-ins for the system: it takes what is lent to it, and hands on a line without an end.
//
//go:wasmimport wasi_snapshot_preview1 steward_lend
//go:noescape
func adapterLend(turn, room unsafe.Pointer, roomBytes uint32, line unsafe.Pointer, lineBytes uint32)

//go:wasmimport wasi_snapshot_preview1 steward_flush
func adapterFlush()

// lent is what the adapter knows the addresses of, and what goes back to the host, side by side.
var lent struct {
	// The turn, as adapter.wat has it.
	nowMs, seed uint64
	isNew       uint32
	taken       uint32
	lineLength  uint32
	// steps is for afterStep.
	steps uint32

	// result is where a record is handed back, by words of four bytes, and single the answer of a step that has one. Both, and the
	// room, are aligned to eight bytes.
	result [16]uint32
	single [12]uint32

	// room is for what the host hands over.
	room [1024]byte
	// line is where output is gathered. The host cuts longer lines.
	line [4096]byte
}

// Else one of these does not compile.
const (
	_ = -((unsafe.Offsetof(lent.isNew) ^ 16) | (unsafe.Offsetof(lent.taken) ^ 20) | (unsafe.Offsetof(lent.lineLength) ^ 24))
	_ = -((unsafe.Offsetof(lent.result) | unsafe.Offsetof(lent.single) | unsafe.Offsetof(lent.room)) % 8)
)

func init() {
	adapterLend(unsafe.Pointer(&lent),
		unsafe.Pointer(&lent.room), uint32(len(lent.room)), unsafe.Pointer(&lent.line), uint32(len(lent.line)))
	world.Log = func(level uint8, message string) {
		hostLog(uint32(level), unsafe.Pointer(unsafe.StringData(message)), uint32(len(message)))
	}
}

// address is a pointer as the host sees it.
func address(of unsafe.Pointer) uint32 { return uint32(uintptr(of)) }

// received is the memory that was allocated for the host and not handed over yet.
var received [][]uint64

// allocate is for what the room that was lent has no room for. The adapter asks, in the host's name.
//
//go:wasmexport steward_allocate
func allocate(length uint32) unsafe.Pointer {
	piece := make([]uint64, max(1, (int(length)+7)/8))
	received = append(received, piece)
	return unsafe.Pointer(&piece[0])
}

// borrow is memory that the host hands over, until it comes again.
func borrow(from, length uint32) []byte {
	if at := from - address(unsafe.Pointer(&lent.room)); at < uint32(len(lent.room)) {
		return lent.room[at : at+length : at+length]
	}
	for at, piece := range received {
		if memory := unsafe.Pointer(&piece[0]); address(memory) == from {
			last := len(received) - 1
			received[at], received[last] = received[last], nil
			received = received[:last]
			return unsafe.Slice((*byte)(memory), length)
		}
	}
	return nil
}

// take is memory that the host hands over for good.
func take(from, length uint32) []byte { return bytes.Clone(borrow(from, length)) }

// takeText is memory that the host hands over, as a string.
func takeText(from, length uint32) string { return string(borrow(from, length)) }

// objects are those of this instance; their places are what the host calls them by.
var (
	objects   []*shell
	freePlace []int32
)

// result is where a record is handed back. kept keeps what it points to, until there is another such.
var (
	result = lent.result[:]
	kept   []any
)

func reset() {
	clear(kept)
	kept = kept[:0]
	clear(result)
}

// putBytes writes a list of bytes or a text where it is.
func putBytes(at []uint32, item []byte) {
	at[0], at[1] = address(unsafe.Pointer(unsafe.SliceData(item))), uint32(len(item))
	if len(item) == 0 {
		// Some aligned address.
		at[0] = 8
	}
}

func putText(at []uint32, text string) {
	putBytes(at, unsafe.Slice(unsafe.StringData(text), len(text)))
}

// putIdents writes a list of 64-bit numbers where it is.
func putIdents(at []uint32, idents []uint64) {
	at[0], at[1] = 8, uint32(len(idents))
	if len(idents) > 0 {
		at[0] = address(unsafe.Pointer(&idents[0]))
	}
}

// putFault writes a fault: seven words.
func putFault(at []uint32, fault *world.Fault) {
	putText(at, fault.Kind)
	putText(at[2:], fault.Message)
	at[4] = 0
	if fault.Data != nil {
		at[4] = 1
		putBytes(at[5:], fault.Data)
	}
}

// list is memory for a list of records of so many words, aligned to eight bytes.
func list(records, words int) []uint32 {
	if records == 0 {
		return nil
	}
	memory := make([]uint64, (records*words+1)/2)
	kept = append(kept, memory)
	return unsafe.Slice((*uint32)(unsafe.Pointer(&memory[0])), records*words)
}

func putList(at []uint32, memory []uint32, records int) {
	at[0], at[1] = 8, uint32(records)
	if records > 0 {
		at[0] = address(unsafe.Pointer(&memory[0]))
	}
}

// put64 writes a 64-bit number.
func put64(at []uint32, value uint64) { at[0], at[1] = uint32(value), uint32(value>>32) }

// turn begins a turn.
func turn(nowMs, seed uint64) {
	if lent.lineLength != 0 {
		adapterFlush()
	}
	lent.nowMs, lent.seed, lent.isNew = nowMs, seed, 1
	// What has come lies there until the host comes again.
	lent.taken = 0
}

//go:wasmexport steward:plugin/referent@0.1.0#describe
func describe() unsafe.Pointer {
	reset()
	types := world.Plugin.Describe()
	kept = append(kept, types)
	const words = 11
	memory := list(len(types), words)
	for i := range types {
		typ, at := &types[i], memory[i*words:]
		putText(at, typ.ID)
		putText(at[2:], typ.Version)
		putText(at[4:], typ.Doc)
		putParams(at[6:], typ.Constructor)
		putMethods(at[8:], typ.Methods)
		putBool(at[10:], 0, typ.Saves)
	}
	putList(result, memory, len(types))
	return unsafe.Pointer(&lent.result)
}

func putMethods(at []uint32, methods []world.Method) {
	const words = 12
	memory := list(len(methods), words)
	putList(at, memory, len(methods))
	for i := range methods {
		method, at := &methods[i], memory[i*words:]
		putText(at, method.Name)
		putParams(at[2:], method.Params)
		putText(at[4:], method.Doc)
		putBool(at[6:], 0, method.ReadOnly)
		putBool(at[6:], 1, method.MayPark)
		putText(at[7:], method.Result)
		if method.Returns != "" {
			at[9] = 1
			putText(at[10:], method.Returns)
		}
	}
}

func putParams(at []uint32, params []world.Param) {
	const words = 8
	memory := list(len(params), words)
	putList(at, memory, len(params))
	for i := range params {
		param, at := &params[i], memory[i*words:]
		putText(at, param.Name)
		at[2] = uint32(param.Kind)
		putText(at[3:], param.Type)
		if param.HasDefault {
			at[5] = 1
			putText(at[6:], param.Default)
		}
	}
}

// putBool writes a byte of a word that is zero.
func putBool(at []uint32, place int, value bool) {
	if value {
		at[0] |= 1 << (8 * place)
	}
}

// made hands a new object over, or the fault.
func made(object world.Object, fault *world.Fault) unsafe.Pointer {
	if fault != nil {
		kept = append(kept, fault)
		result[0] = 1
		putFault(result[1:], fault)
		return unsafe.Pointer(&lent.result)
	}
	place := int32(len(objects))
	if last := len(freePlace) - 1; last >= 0 {
		place, freePlace = freePlace[last], freePlace[:last]
		objects[place] = object.(*shell)
	} else {
		objects = append(objects, object.(*shell))
	}
	held := object.Held()
	kept = append(kept, held)
	result[1] = uint32(resourceNew(place + 1))
	putIdents(result[2:], held)
	return unsafe.Pointer(&lent.result)
}

//go:wasmexport steward:plugin/referent@0.1.0#[static]object.create
func objectCreate(
	typeid, typeidLength, args, argsLength uint32, nowMs, seed uint64, tenant, tenantLength uint32,
) unsafe.Pointer {
	turn(nowMs, seed)
	reset()
	context := world.Context{NowMs: nowMs, Seed: seed, Tenant: takeText(tenant, tenantLength)}
	return made(world.Plugin.Create(takeText(typeid, typeidLength), borrow(args, argsLength), context))
}

//go:wasmexport steward:plugin/referent@0.1.0#[static]object.load
func objectLoad(
	typeid, typeidLength, state, stateLength, from, fromLength uint32, nowMs, seed uint64, tenant, tenantLength uint32,
) unsafe.Pointer {
	turn(nowMs, seed)
	reset()
	context := world.Context{NowMs: nowMs, Seed: seed, Tenant: takeText(tenant, tenantLength)}
	return made(world.Plugin.Load(
		takeText(typeid, typeidLength), borrow(state, stateLength), takeText(from, fromLength), context))
}

//go:wasmexport steward:plugin/referent@0.1.0#[dtor]object
func objectDrop(rep int32) {
	objects[rep-1] = nil
	freePlace = append(freePlace, rep-1)
}

//go:wasmexport steward:plugin/referent@0.1.0#[method]object.save
func objectSave(rep int32) unsafe.Pointer {
	reset()
	state, fault := objects[rep-1].Save()
	if fault != nil {
		kept = append(kept, fault)
		result[0] = 1
		putFault(result[1:], fault)
	} else {
		kept = append(kept, state)
		putBytes(result[1:], state)
	}
	return unsafe.Pointer(&lent.result)
}

// The parameters from `a` on are those of the variant `input`, each as wide as the widest case needs.
//
//go:wasmexport steward:plugin/referent@0.1.0#[method]object.step
func objectStep(
	rep int32, nowMs, seed uint64, kind uint32,
	a uint64, b uint32, c, d uint64, e, f, g, h, i uint32,
) unsafe.Pointer {
	turn(nowMs, seed)
	object := objects[rep-1]
	if world.InputKind(kind) != world.Call {
		outcome := object.Step(nowMs, seed, inputOf(world.InputKind(kind), a, b, c, d, e, f, g, h, i))
		putOutcome(outcome)
	} else if item, changed, more := object.StepCall(nowMs, seed, a, b, world.Owner{Session: c, Thread: d}, borrow(e, f)); more != nil {
		putOutcome(more)
	} else {
		putAnswer(a, item, changed)
	}
	afterStep()
	return unsafe.Pointer(&lent.result)
}

// inputOf is an input that is no call.
func inputOf(kind world.InputKind, a uint64, b uint32, c, d uint64, e, f, g, h, i uint32) *world.Input {
	input := &world.Input{Kind: kind}
	switch kind {
	case world.Cancel:
		input.Call, input.Why = a, world.Why(b)
	case world.OwnerLost:
		input.Session, input.Orderly = a, b != 0
	case world.Undelivered:
		input.Call, input.Method, input.Item, input.Sent = a, b, take(uint32(c), uint32(d)), e != 0
	case world.Returned:
		input.Tag = a
		if b == 0 {
			input.Item = take(uint32(c), uint32(d))
		} else {
			input.Fault = &world.Fault{
				Kind: takeText(uint32(c), uint32(d)), Message: takeText(e, f),
			}
			if g != 0 {
				input.Fault.Data = take(h, i)
			}
		}
	}
	return input
}

// putAnswer writes an outcome that is the answer of one call. The object keeps the item.
func putAnswer(call uint64, item []byte, changed bool) {
	if len(kept) > 0 {
		// A saved state, say, that the host has read.
		reset()
	}
	at := &lent.single
	at[0], at[1] = uint32(call), uint32(call>>32)
	at[2], at[3], at[4] = 0, address(unsafe.Pointer(unsafe.SliceData(item))), uint32(len(item))
	at[10] = uint32(world.NoGrant)
	out := &lent.result
	out[0], out[1] = address(unsafe.Pointer(at)), 1
	out[2] = 0
	if changed {
		out[2] = 1 << 8
	}
	out[4] = 0
	// No idents and no invocations, at some aligned address.
	out[8], out[9], out[10], out[11], out[12], out[13] = 8, 0, 8, 0, 8, 0
}

func putOutcome(outcome *world.Outcome) {
	reset()
	const words = 12
	count := len(outcome.Completions)
	memory := lent.single[:]
	if count > 1 {
		memory = list(count, words)
	}
	for i := range outcome.Completions {
		completion, at := &outcome.Completions[i], memory[i*words:]
		put64(at, completion.Call)
		at[10] = uint32(completion.Grant)
		if completion.Fault != nil {
			at[2] = 1
			putFault(at[3:], completion.Fault)
		} else {
			at[2] = 0
			putBytes(at[3:], completion.Item)
		}
	}
	putList(result, memory, count)
	putBool(result[2:], 0, outcome.Freed)
	putBool(result[2:], 1, outcome.Changed)
	if outcome.HasWake {
		result[4] = 1
		put64(result[6:], outcome.WakeAtMs)
	}
	putIdents(result[8:], outcome.Held)
	putIdents(result[10:], outcome.LetGo)
	putInvocations(result[12:], outcome.Invocations)
}

func putInvocations(at []uint32, invocations []world.Invocation) {
	const words = 8
	memory := list(len(invocations), words)
	putList(at, memory, len(invocations))
	for i := range invocations {
		invocation, at := &invocations[i], memory[i*words:]
		put64(at, invocation.Tag)
		put64(at[2:], invocation.Ident)
		putText(at[4:], invocation.Method)
		putBytes(at[6:], invocation.Args)
	}
}
