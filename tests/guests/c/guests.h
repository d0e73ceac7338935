/// Lock, Semaphore, Event, Queue and dict once more, as a plugin in C: the same types as those of tests/guests/conformance, which tells what is
/// missing and why.
#ifndef GUESTS_H
#define GUESTS_H

#include <stdlib.h>
#include <string.h>

#include "steward.h"

/// What CPython says when a value that wraps a thread's lock is to be copied.
#define NOT_PICKLABLE(call) st_raise((call), "TypeError", "cannot pickle '_thread.lock' object")

/// Appends what identifies a hashable value: equal for what Python takes for one key. ST_DONE, or ST_RAISED for what cannot be a key;
/// `findable` is set to false if the value equals nothing, as NaN.
st_answer key_of(st_call *call, st_item item, st_writer *out, bool *findable);

/// Appends Python's repr() of a value, as text without a head.
void put_repr(st_writer *out, st_item item);

#endif
