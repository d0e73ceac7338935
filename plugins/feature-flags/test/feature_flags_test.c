#include <stdio.h>
#include <string.h>

#include "steward_test.h"

int main(void) {
    st_test("flags are set, read and removed, each change a version",
            "x = FeatureFlags()\n"
            "x.version() -> 0\n"
            "x.set('dark') -> 1\n"
            "x.set('beta', 0) -> 2\n"
            "x.is_on('dark') -> True\n"
            "x.is_on('beta', 'ada') -> False\n"
            "x.is_on('gamma') -> False\n"
            "x.snapshot() -> (2, {'beta': 0.0, 'dark': 100.0})\n"
            "x.set('dark', 100) -> 1\n"
            "x.version() -> 2\n"
            "x.remove('dark') -> 3\n"
            "x.remove('dark') ! KeyError: 'dark'\n"
            "x.is_on('dark') -> False\n"
            "x moves\n"
            "x.snapshot() -> (3, {'beta': 0.0})\n"
            "x.set('dark', 1) -> 4\n"
            "x.snapshot() -> (4, {'beta': 0.0, 'dark': 1.0})\n");
    st_test("what is no flag is refused",
            "x = FeatureFlags()\n"
            "x.set('') ! ValueError: name has 0 bytes, not from 1 to 256\n"
            "x.set('a', 100.5) ! ValueError: percent is 100.5, not from 0 to 100\n"
            "x.set('a', -1) ! ValueError: percent is -1.0, not from 0 to 100\n"
            "x.set('a', True) ! TypeError: FeatureFlags.set() argument 'percent' must be float, not bool\n"
            "x.changes_since(-1) ! OverflowError: FeatureFlags.changes_since() argument 'version' is out of range\n"
            "x.version() -> 0\n");
    st_test("changes since a version are those flags alone",
            "x = FeatureFlags()\n"
            "x.set('a') -> 1\nx.set('b') -> 2\nx.set('c') -> 3\n"
            "x.set('a', 50) -> 4\nx.remove('b') -> 5\n"
            "x.changes_since(3) -> (5, {'a': 50.0, 'b': None})\n"
            "x.changes_since(5) -> (5, {})\n"
            "x moves\n"
            "x.changes_since(0) -> (5, {'a': 50.0, 'b': None, 'c': 100.0})\n");
    st_test("readers wait for a newer version",
            "x = FeatureFlags()\n"
            "a: x.wait_for(0) waits\n"
            "b: x.wait_for(1) waits\n"
            "x.set('dark') -> 1\n"
            "a -> 1\n"
            "b waits\n"
            "x moves\n"
            "x.wait_for(1) within 100 -> 1\n"
            "x.set('dark', 5) -> 2\n"
            "b -> 2\n"
            "x changed 2\n");

    // Which users are in was computed by another implementation of the same hash; a quarter of many are, and nobody leaves as the share rises.
    static char script[1 << 17];
    size_t len = (size_t)sprintf(script, "x = FeatureFlags()\nx.set('new', 25) -> 1\n");
    for (int user = 0; user < 8; user++) {
        len += (size_t)sprintf(script + len, "x.is_on('new', 'user-%d') -> %s\n", user, user == 1 || user == 2 || user == 7 ? "True" : "False");
    }
    len += (size_t)sprintf(script + len, "x.set('new', 100) -> 2\n");
    for (int user = 0; user < 8; user++) {
        len += (size_t)sprintf(script + len, "x.is_on('new', 'user-%d') -> True\n", user);
    }
    st_test("a share of units is on, always the same one", script);

    // So many removals that the first of them are forgotten.
    len = (size_t)sprintf(script, "x = FeatureFlags()\n");
    for (int at = 0; at <= 1024; at++) {
        len += (size_t)sprintf(script + len, "x.set('f%d') -> %d\nx.remove('f%d') -> %d\n", at, 2 * at + 1, at, 2 * at + 2);
    }
    len += (size_t)sprintf(script + len, "x.changes_since(1) ! LookupError: changes are known since version 2, not 1\n"
                                         "x.changes_since(2050) -> (2050, {})\n"
                                         "x moves\n"
                                         "x.changes_since(2048) -> (2050, {'f1024': None})\n");
    st_test("changes of long ago are forgotten", script);
    st_test_garbage("FeatureFlags()", 1, 2000);
    return st_test_end();
}
