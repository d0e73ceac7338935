// The guests' heap, in memory of the test's own: what is allocated keeps its content and overlaps nothing, what is freed becomes one again,
// and where memory cannot grow the end of it is an answer. A part of sdk_test.c.

#include <stddef.h>
#include <stdint.h>

enum { TEST_BYTES = 3 << 16 };
static _Alignas(65536) uint8_t all[TEST_BYTES];
static uintptr_t all_end;

#define HEAP_START ((uintptr_t)all + 40)
#define HEAP_LIMIT() all_end
#define HEAP_GROW(pages) more(pages)
static int more(size_t pages) {
    if (pages * 65536 > (uintptr_t)all + TEST_BYTES - all_end) {
        return 0;
    }
    all_end += pages * 65536;
    return 1;
}

#include "../src/heap.c"

static uint64_t seed = 20261123;

static size_t below(size_t bound) {
    seed = seed * 6364136223846793005 + 1442695040888963407;
    return (size_t)(seed >> 33) % bound;
}

enum { HELD_MAX = 300 };
static struct {
    uint8_t *at;
    size_t bytes;
    uint8_t content;
} held[HELD_MAX];

static void fill(size_t which, uint8_t *at, size_t bytes) {
    held[which].at = at;
    held[which].bytes = bytes;
    held[which].content = (uint8_t)below(256);
    memset(at, held[which].content, bytes);
}

static void check(size_t which, size_t bytes) {
    for (size_t byte = 0; byte < bytes; byte++) {
        CHECK(held[which].at[byte] == held[which].content);
    }
}

static void heap_keeps_what_it_gives(void) {
    all_end = (uintptr_t)all + 65536;
    void *first = heap_alloc(100);
    // No more than a page of the machine is touched for it.
    CHECK(first != NULL && heap_end == (uintptr_t)all + OS_PAGE_BYTES);
    heap_free(first);

    size_t refused = 0;
    for (int round = 0; round < 400000; round++) {
        size_t which = below(HELD_MAX), bytes = below(below(8) == 0 ? 20000 : 200);
        CHECK(((uintptr_t)held[which].at & 7) == 0);
        if (held[which].at == NULL) {
            uint8_t *at = heap_alloc(bytes);
            refused += at == NULL;
            if (at != NULL) {
                fill(which, at, bytes);
            }
        } else if (below(3) == 0) {
            size_t kept = bytes < held[which].bytes ? bytes : held[which].bytes;
            uint8_t *at = heap_realloc(held[which].at, bytes);
            if (at != NULL) {
                held[which].at = at;
                check(which, kept);
                fill(which, at, bytes);
            }
        } else {
            check(which, held[which].bytes);
            heap_free(held[which].at);
            held[which].at = NULL;
        }
    }
    CHECK(all_end == (uintptr_t)all + TEST_BYTES && refused > 0);
    CHECK(heap_alloc(SIZE_MAX) == NULL && heap_alloc(TEST_BYTES) == NULL);
    for (size_t which = 0; which < HELD_MAX; which++) {
        heap_free(held[which].at);
    }
    // All of it is one block again.
    struct block *whole = (struct block *)(((uintptr_t)all + 47) & ~(uintptr_t)7);
    CHECK((whole->size & FREE) && above(whole) == (struct block *)(heap_end - HEAD_BYTES));
}
