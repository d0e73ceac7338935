// Memory: the arena of a step, and in a guest the heap.

NORETURN static void st__die(const char *message) {
    st_log(ST_ERROR, "%s", message);
    abort();
}

void *st_alloc(size_t bytes) {
    void *memory = calloc(1, bytes > 0 ? bytes : 1);
    if (memory == NULL) {
        st__die("out of memory");
    }
    return memory;
}

void *st_realloc(void *memory, size_t bytes) {
    void *grown = realloc(memory, bytes > 0 ? bytes : 1);
    if (grown == NULL) {
        st__die("out of memory");
    }
    return grown;
}

// What a step needs only until the host has read its outcome comes from here: its arguments, its answers. A plain step stays within
// `first`, which lies beside the guest's other data, so that it touches no further page.

enum { ARENA_FIRST_BYTES = 1536 };

struct chunk {
    struct chunk *next;
    size_t bytes;
    _Alignas(8) uint8_t memory[];
};

static struct {
    uint8_t *at, *end;
    /// What was allocated last, if it may grow.
    uint8_t *last;
    struct chunk *chunks;
} arena;
static _Alignas(8) uint8_t arena_first[ARENA_FIRST_BYTES];

static void *st__arena(size_t bytes) {
    if (bytes > SIZE_MAX / 4) {
        st__die("out of memory");
    }
    bytes = (bytes + 7) & ~(size_t)7;
    if (arena.at == NULL) {
        arena.at = arena_first;
        arena.end = arena_first + ARENA_FIRST_BYTES;
    }
    if (bytes > (size_t)(arena.end - arena.at)) {
        // A large one gets a chunk of its own: growing, it takes twice what it had.
        size_t size = bytes > 4096 ? bytes : 4096;
        struct chunk *made = malloc(sizeof(struct chunk) + size);
        if (made == NULL) {
            st__die("out of memory");
        }
        made->next = arena.chunks;
        made->bytes = size;
        arena.chunks = made;
        arena.at = made->memory;
        arena.end = made->memory + size;
    }
    arena.last = arena.at;
    arena.at += bytes;
    return arena.last;
}

static void *st__arena_grow(void *memory, size_t bytes_old, size_t bytes) {
    size_t room = (bytes + 7) & ~(size_t)7;
    if (memory != NULL && memory == arena.last && bytes < SIZE_MAX / 4 && room <= (size_t)(arena.end - arena.last)) {
        arena.at = arena.last + room;
        return memory;
    }
    void *grown = st__arena(bytes);
    if (bytes_old > 0) {
        memcpy(grown, memory, bytes_old < bytes ? bytes_old : bytes);
    }
    return grown;
}

static void st__arena_reset(void) {
    while (arena.chunks != NULL) {
        struct chunk *next = arena.chunks->next;
        free(arena.chunks);
        arena.chunks = next;
    }
    arena.at = arena.end = arena.last = NULL;
}

static void *st__room(void *elements, size_t count, size_t *capacity, size_t bytes_each) {
    if (count < *capacity) {
        return elements;
    }
    size_t before = *capacity;
    *capacity = before == 0 ? 4 : 2 * before;
    if (*capacity > SIZE_MAX / 4 / bytes_each) {
        st__die("out of memory");
    }
    return st__arena_grow(elements, before * bytes_each, *capacity * bytes_each);
}

#ifdef __wasm__

// The heap: two-level segregated fit (Masmano et al., 2004), so that every request takes the same few steps, and a peer who chooses sizes
// gains nothing. libc's own would only grow from where the linker ended the memory; but a host may give a guest its whole memory at the start
// and refuse growth. So the first request takes everything from the end of the guest's data to the end of its memory.

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
    HEAD_BYTES = 8,
    PAYLOAD_BYTES_MIN = 8,
    /// Sizes are multiples of 8; below 128 each has its list, above each power of two has 8.
    SPLIT_BITS = 3,
    LISTS = 16 + 25 * 8,
};

static struct block *lists[LISTS];
/// Which lists have blocks.
static uint32_t filled[(LISTS + 31) / 32];
static uint8_t *heap_end;
extern uint8_t __heap_base;

static size_t size_of(const struct block *block) { return block->size & ~(size_t)3; }

static struct block *above(struct block *b) { return (struct block *)((uint8_t *)b + HEAD_BYTES + size_of(b)); }

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

/// Frees a block, one with its free neighbours.
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

/// Adds memory that ends where the guest's ends.
static void add_memory(uint8_t *from, uint8_t *to) {
    struct block *b;
    if (heap_end == from && heap_end != NULL) {
        // What was the end mark becomes a block.
        b = (struct block *)(from - HEAD_BYTES);
    } else {
        b = (struct block *)(((uintptr_t)from + 7) & ~(uintptr_t)7);
        b->size = 0;
    }
    b->size = (b->size & BELOW_FREE) | (size_t)(to - (uint8_t *)b - 2 * HEAD_BYTES);
    struct block *end = above(b);
    end->size = 0;
    heap_end = to;
    release(b);
}

static bool grow(size_t size) {
    const size_t page = 65536;
    size_t have = __builtin_wasm_memory_size(0) * page;
    if (heap_end == NULL && have > (size_t)&__heap_base + 64) {
        add_memory(&__heap_base, (uint8_t *)have);
        return true;
    }
    size_t pages = (size + 2 * HEAD_BYTES + page - 1) / page;
    size_t before = __builtin_wasm_memory_grow(0, pages);
    if (before == SIZE_MAX) {
        return false;
    }
    add_memory((uint8_t *)(before * page), (uint8_t *)((before + pages) * page));
    return true;
}

/// A free block of at least this size; NULL if there is none.
static struct block *find(size_t size) {
    // One list further than the size's own: there, every block is large enough. Below 128 its own has one size.
    uint32_t list = list_of(size) + (size < 128 ? 0 : (size & (((size_t)1 << (28 - (uint32_t)__builtin_clz((uint32_t)size))) - 1)) != 0);
    for (uint32_t word = list / 32; word < sizeof filled / sizeof filled[0]; word++) {
        uint32_t bits = word == list / 32 ? filled[word] & ~0u << list % 32 : filled[word];
        if (bits != 0) {
            return lists[word * 32 + (uint32_t)__builtin_ctz(bits)];
        }
    }
    // Where memory cannot grow, it is worth a look at some of those that may just fit.
    struct block *b = lists[list_of(size)];
    for (int looked = 0; b != NULL && looked < 16 && size_of(b) < size; looked++) {
        b = b->next;
    }
    return b != NULL && size_of(b) >= size ? b : NULL;
}

/// Cuts what is behind the first `size` bytes off a block in use.
static void trim(struct block *b, size_t size) {
    size_t rest = size_of(b) - size;
    if (rest >= HEAD_BYTES + PAYLOAD_BYTES_MIN) {
        b->size = size | (b->size & BELOW_FREE);
        struct block *cut = above(b);
        cut->size = rest - HEAD_BYTES;
        release(cut);
    }
}

void *malloc(size_t bytes) {
    if (bytes > INT32_MAX) {
        return NULL;
    }
    size_t size = bytes < PAYLOAD_BYTES_MIN ? PAYLOAD_BYTES_MIN : (bytes + 7) & ~(size_t)7;
    struct block *b = find(size);
    while (b == NULL) {
        if (!grow(size)) {
            return NULL;
        }
        b = find(size);
    }
    unlink_free(b);
    trim(b, size);
    return (uint8_t *)b + HEAD_BYTES;
}

void free(void *memory) {
    if (memory != NULL) {
        release((struct block *)((uint8_t *)memory - HEAD_BYTES));
    }
}

void *calloc(size_t count, size_t bytes) {
    size_t all;
    if (__builtin_mul_overflow(count, bytes, &all)) {
        return NULL;
    }
    void *memory = malloc(all);
    return memory == NULL ? NULL : memset(memory, 0, all);
}

void *realloc(void *memory, size_t bytes) {
    if (memory == NULL) {
        return malloc(bytes);
    }
    struct block *b = (struct block *)((uint8_t *)memory - HEAD_BYTES);
    size_t have = size_of(b);
    if (bytes <= have) {
        trim(b, bytes < PAYLOAD_BYTES_MIN ? PAYLOAD_BYTES_MIN : (bytes + 7) & ~(size_t)7);
        return memory;
    }
    size_t size = bytes > INT32_MAX ? 0 : (bytes + 7) & ~(size_t)7;
    struct block *up = above(b);
    if (up->size & FREE && size > 0 && size <= have + HEAD_BYTES + size_of(up)) {
        unlink_free(up);
        b->size += HEAD_BYTES + size_of(up);
        trim(b, size);
        return memory;
    }
    void *moved = malloc(bytes);
    if (moved != NULL) {
        memcpy(moved, memory, have);
        free(memory);
    }
    return moved;
}

#endif
