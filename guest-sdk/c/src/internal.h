// What the parts of steward.c share. Not for plugins.
#ifndef STEWARD_INTERNAL_H
#define STEWARD_INTERNAL_H

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "../bindings/plugin.h"
#include "../include/steward.h"

/// Tags of docs/protocol.md that are looked at here.
enum {
    TAG_BIG = 2,
    TAG_BIG_NEGATIVE = 3,
    TAG_SET = 258,
    TAG_TUPLE = 54200,
    TAG_FROZEN_SET = 54201,
    TAG_BYTE_ARRAY = 54202,
    TAG_TOKEN = 54210,
};

/// No item nests deeper, whatever a host lets through.
enum { DEPTH_MAX = 32 };

#define NORETURN __attribute__((noreturn))
/// What is rare stays out of the way of what is not.
#define NOINLINE __attribute__((cold, noinline))

// memory.c

/// Memory until the end of the step: st__arena_reset().
static void *st__arena(size_t bytes);
/// The same; the last allocation grows where it is.
static void *st__arena_grow(void *memory, size_t bytes_old, size_t bytes);
static void st__arena_reset(void);
/// Resets what a step has left: another one has begun.
static void st__arena_renew(void);
/// Ends the guest: a trap, which the host tells of. `message` goes to the host's log.
NORETURN static void st__die(const char *message);
/// Makes room in the arena for one more element of an array of `*capacity`.
static void *st__room(void *elements, size_t count, size_t *capacity, size_t bytes_each);

// cbor.c

struct head {
    uint8_t major;
    /// Of the argument, in bytes; 0 when it sat in the first one.
    uint8_t width;
    uint64_t argument;
};

static bool st__head(st_reader *reader, struct head *head);
static void st__put_head(st_writer *out, uint8_t major, uint64_t argument);
static void st__put_raw(st_writer *out, const void *bytes, size_t count);

#endif
