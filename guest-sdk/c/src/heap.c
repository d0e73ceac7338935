// The heap of a guest: two-level segregated fit (Masmano and others, 2004), so that every request takes the same few steps, and a peer who
// chooses sizes gains nothing.
//
// libc's own would only grow from where the linker ended the memory. But a host may give a guest its whole memory at the start and refuse
// growth, so this takes what lies between the end of the guest's data and the end of its memory: a page of the machine at a time,
// since each page that is written to costs the host 4 KiB an object.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __wasm__
extern uint8_t __heap_base;
#define HEAP_START ((uintptr_t)&__heap_base)
#define HEAP_LIMIT() (__builtin_wasm_memory_size(0) * (uintptr_t)65536)
#define HEAP_GROW(pages) (__builtin_wasm_memory_grow(0, (pages)) != SIZE_MAX)
#endif

struct block {
    /// Its neighbour below, if that is free: else this belongs to that one's owner.
    struct block *below;
    /// Of the memory behind this head; the lowest bits are flags.
    size_t size;
    /// Only while it is free.
    struct block *next, *previous;
};

enum {
    FREE = 1,
    BELOW_FREE = 2,
    HEAD_BYTES = sizeof(struct block *) + sizeof(size_t),
    PAYLOAD_BYTES_MIN = 2 * sizeof(struct block *),
    /// Sizes are multiples of 8; below 128 each has its list, above each power of two has 8.
    SPLIT_BITS = 3,
    LISTS = 16 + 25 * 8,
    OS_PAGE_BYTES = 4096,
    PAGE_BYTES = 65536,
};

static struct block *lists[LISTS];
/// Which lists have blocks.
static uint32_t filled[(LISTS + 31) / 32];
/// Behind the head of the last block, which has no memory and is never free; 0 until there is one.
static uintptr_t heap_end;

static size_t size_of(const struct block *block) { return block->size & ~(size_t)3; }

static struct block *above(struct block *b) { return (struct block *)(void *)((uint8_t *)b + HEAD_BYTES + size_of(b)); }

static uint32_t list_of(size_t size) {
    if (size < 128) {
        return (uint32_t)(size / 8);
    }
    uint32_t power = 31 - (uint32_t)__builtin_clz((uint32_t)size);
    return 16 + (power - 7) * 8 + (uint32_t)(size >> (power - SPLIT_BITS) & 7);
}

static void link_free(struct block *b) {
    uint32_t list = list_of(size_of(b));
    b->size |= FREE;
    b->previous = NULL;
    b->next = lists[list];
    if (b->next != NULL) {
        b->next->previous = b;
    }
    lists[list] = b;
    filled[list / 32] |= 1u << list % 32;
    struct block *up = above(b);
    up->below = b;
    up->size |= BELOW_FREE;
}

static void unlink_free(struct block *b) {
    uint32_t list = list_of(size_of(b));
    if (b->next != NULL) {
        b->next->previous = b->previous;
    }
    if (b->previous != NULL) {
        b->previous->next = b->next;
    } else {
        lists[list] = b->next;
        if (b->next == NULL) {
            filled[list / 32] &= ~(1u << list % 32);
        }
    }
    b->size &= ~(size_t)FREE;
    above(b)->size &= ~(size_t)BELOW_FREE;
}

/// Frees a block, as one with its free neighbours.
static void release(struct block *b) {
    struct block *up = above(b);
    if (up->size & FREE) {
        unlink_free(up);
        b->size += HEAD_BYTES + size_of(up);
    }
    if (b->size & BELOW_FREE) {
        struct block *down = b->below;
        unlink_free(down);
        down->size += HEAD_BYTES + size_of(b);
        b = down;
    }
    link_free(b);
}

/// Takes more of the memory, or more memory: room for a block of this size at least.
static bool grow(size_t size) {
    uintptr_t from = heap_end != 0 ? heap_end : (HEAP_START + 7) & ~(uintptr_t)7;
    uintptr_t least = from + size + 2 * HEAD_BYTES, to = (least + OS_PAGE_BYTES - 1) & ~(uintptr_t)(OS_PAGE_BYTES - 1);
    uintptr_t limit = HEAP_LIMIT();
    if (least <= limit) {
        to = to < limit ? to : limit;
    } else if (!HEAP_GROW((to - limit + PAGE_BYTES - 1) / PAGE_BYTES)) {
        return false;
    }
    // What was the last head becomes a block's.
    struct block *b = (struct block *)(from - (heap_end != 0 ? HEAD_BYTES : 0));
    size_t below_free = heap_end != 0 ? b->size & BELOW_FREE : 0;
    b->size = below_free | (size_t)(to - (uintptr_t)b - 2 * HEAD_BYTES);
    above(b)->size = 0;
    heap_end = to;
    release(b);
    return true;
}

/// A free block of at least this size; NULL if there is none.
static struct block *find(size_t size) {
    // One list further than the size's own, unless it is the least of that: there, every block is large enough.
    uint32_t list = list_of(size);
    if (size >= 128 && (size & (((size_t)1 << (28 - (uint32_t)__builtin_clz((uint32_t)size))) - 1)) != 0) {
        list++;
    }
    for (uint32_t word = list / 32; word < sizeof filled / sizeof filled[0]; word++) {
        uint32_t bits = word == list / 32 ? filled[word] & ~0u << list % 32 : filled[word];
        if (bits != 0) {
            return lists[word * 32 + (uint32_t)__builtin_ctz(bits)];
        }
    }
    // Before more memory is taken, it is worth a look at some of those that may just fit.
    struct block *b = lists[list_of(size)];
    for (int looked = 0; b != NULL && looked < 16 && size_of(b) < size; looked++) {
        b = b->next;
    }
    return b != NULL && size_of(b) >= size ? b : NULL;
}

/// Cuts off what is behind the first `size` bytes of a block in use.
static void trim(struct block *b, size_t size) {
    size_t rest = size_of(b) - size;
    if (rest >= HEAD_BYTES + PAYLOAD_BYTES_MIN) {
        b->size = size | (b->size & BELOW_FREE);
        struct block *cut = above(b);
        cut->size = rest - HEAD_BYTES;
        release(cut);
    }
}

static size_t rounded(size_t bytes) { return bytes < PAYLOAD_BYTES_MIN ? PAYLOAD_BYTES_MIN : (bytes + 7) & ~(size_t)7; }

static void *heap_alloc(size_t bytes) {
    if (bytes > INT32_MAX) {
        return NULL;
    }
    size_t size = rounded(bytes);
    struct block *b = find(size);
    if (b == NULL) {
        b = grow(size) ? find(size) : NULL;
    }
    if (b == NULL) {
        return NULL;
    }
    unlink_free(b);
    trim(b, size);
    return (uint8_t *)b + HEAD_BYTES;
}

static struct block *block_of(void *memory) { return (struct block *)(void *)((uint8_t *)memory - HEAD_BYTES); }

static void heap_free(void *memory) {
    if (memory != NULL) {
        release(block_of(memory));
    }
}

static void *heap_realloc(void *memory, size_t bytes) {
    if (memory == NULL || bytes > INT32_MAX) {
        return memory == NULL ? heap_alloc(bytes) : NULL;
    }
    struct block *b = block_of(memory), *up = above(b);
    size_t have = size_of(b), size = rounded(bytes);
    if (size > have && up->size & FREE && size <= have + HEAD_BYTES + size_of(up)) {
        unlink_free(up);
        b->size += HEAD_BYTES + size_of(up);
    }
    if (size <= size_of(b)) {
        trim(b, size);
        return memory;
    }
    void *moved = heap_alloc(bytes);
    if (moved != NULL) {
        memcpy(moved, memory, have);
        heap_free(memory);
    }
    return moved;
}

#ifdef __wasm__

void *malloc(size_t bytes) { return heap_alloc(bytes); }

void free(void *memory) { heap_free(memory); }

void *realloc(void *memory, size_t bytes) { return heap_realloc(memory, bytes); }

void *calloc(size_t count, size_t bytes) {
    size_t all;
    if (__builtin_mul_overflow(count, bytes, &all)) {
        return NULL;
    }
    void *memory = heap_alloc(all);
    return memory == NULL ? NULL : memset(memory, 0, all);
}

#endif
