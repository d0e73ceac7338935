#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "steward_test.h"

/// Counts from `first` to `last`, a hundred values a call, in the words of a script.
static void count(char *script, int first, int last) {
    for (int at = first; at <= last; at++) {
        script += sprintf(script, (at - first) % 100 == 0 ? "x.add_all([%d" : ", %d", at);
        if ((at - first) % 100 == 99 || at == last) {
            script += sprintf(script, "]) -> True\n");
        }
    }
}

int main(void) {
    st_test("each value counts once",
            "x = HyperLogLog()\n"
            "x.count() -> 0\n"
            "x.add('ada') -> True\n"
            "x.add('ada') -> False\n"
            "x.add_all(['bob', 'ada', ('eve', 1)]) -> True\n"
            "x.add_all([]) -> False\n"
            "x.count() -> 3\n"
            "x moves\n"
            "x.count() -> 3\n"
            "x.precision() -> 14\n"
            "x.clear() -> None\n"
            "x.count() -> 0\n");
    // 0.8 % is the standard error; what comes out for these values is always the same.
    static char script[1 << 17];
    size_t len = (size_t)sprintf(script, "x = HyperLogLog(14)\n");
    count(script + len, 1, 10000);
    strcat(script, "x.count() -> 9935\n");
    st_test("ten thousand are counted to within a percent", script);
    st_test("snapshots of the least precision are merged and restored",
            "x = HyperLogLog(4)\n"
            "y = HyperLogLog(precision=4)\n"
            "x.snapshot() -> b'\\x01\\x04\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00'\n"
            "x.merge(b'\\x01\\x04\\x00\\x00\\x02\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01') -> True\n"
            "x.merge(b'\\x01\\x04\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x01') -> False\n"
            "x.count() -> 2\n"
            "x.restore(b'\\x01\\x04\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x3d') -> None\n"
            "x.count() -> 1\n");
    st_test("what is no snapshot is refused, and changes nothing",
            "x = HyperLogLog(4)\n"
            "x.merge(b'') ! ValueError: these bytes are no snapshot\n"
            "x.merge(b'\\x02\\x04') ! ValueError: these bytes are no snapshot\n"
            "x.merge(b'\\x01\\x05') ! ValueError: the snapshot's precision is 5, this one's is 4\n"
            "x.restore(b'\\x01\\x04\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x3e')"
            " ! ValueError: register 15 is 62, limit is 61\n"
            "x.merge('text') ! TypeError: HyperLogLog.merge() argument 'snapshot' must be bytes, not str\n"
            "x.count() -> 0\n"
            "HyperLogLog(3) ! ValueError: precision is 3, not from 4 to 16\n"
            "HyperLogLog(17) ! ValueError: precision is 17, not from 4 to 16\n"
            "HyperLogLog(-1) ! OverflowError: HyperLogLog.__init__() argument 'precision' is out of range\n"
            "y = HyperLogLog(16)\n"
            "y.count() -> 0\n");
    st_test_garbage("HyperLogLog(4)", 1, 2000);
    return st_test_end();
}
