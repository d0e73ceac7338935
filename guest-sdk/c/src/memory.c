// Memory that lasts as long as a step: the arena.

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
    _Alignas(8) uint8_t memory[];
};

static struct {
    uint8_t *at, *end;
    /// What was allocated last, if it may grow.
    uint8_t *last;
    struct chunk *chunks;
    /// A step is over, of which the host may still read what it gave.
    bool is_old;
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
    arena.is_old = false;
}

static void st__arena_renew(void) {
    if (arena.is_old) {
        st__arena_reset();
    }
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
