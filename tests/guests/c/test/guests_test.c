// What the conformance cases do not reach: moves to a new version, lost results. The rest is tested there, against the built-in types.

#include "steward_test.h"

int main(void) {
    st_test("lock goes in turn and frees itself of the dead",
            "x = GuestLock()\n"
            "@2 x.acquire() -> True granted\n"
            "waits: x.acquire() waits\n"
            "x.acquire() within 0 -> False\n"
            "x moves\n"
            "session 2 leaves\n"
            "waits waits\n"
            "x.release() -> None\n"
            "waits -> True granted\n"
            "session 1 ends\n"
            "x is free\n"
            "x.locked() -> False\n"
            "x.acquire() -> True abandoned\n"
            "x.release() -> None\n"
            "x.release() ! RuntimeError: release unlocked lock\n"
            "x.acquire(1) ! TypeError: Lock.acquire() takes 1 positional argument but 2 were given\n");
    st_test("lock that nobody learnt of is free again",
            "x = GuestLock()\n"
            "a: x.acquire() -> True\n"
            "a is lost unsent\n"
            "x is free\n"
            "b: x.acquire() -> True granted\n"
            "b is lost\n"
            "x.acquire() -> True abandoned\n");
    st_test("lost session gives permits back less what others gave",
            "x = GuestSemaphore(2)\n"
            "@2 x.acquire() -> True\n"
            "@2 x.acquire() -> True\n"
            "x.release() -> None\n"
            "x moves\n"
            "session 2 ends\n"
            "x.get_value() -> 2\n"
            "x.acquire() -> True abandoned\n"
            "x.acquire() -> True granted\n"
            "x.release(0) ! ValueError: n must be one or more\n"
            "x.release(9223372036854775807) -> None\n"
            "x.release() ! OverflowError: semaphore value is limited to 63 bits\n"
            "x.release(9223372036854775808) ! OverflowError: Semaphore.release() argument 'n' is out of range\n");
    st_test("event lets all go",
            "x = GuestEvent()\n"
            "a: x.wait() waits\n"
            "b: x.wait() waits\n"
            "x.set() -> None\n"
            "a -> True\n"
            "b -> True\n");
    st_test("queue serves in turn on both sides",
            "x = GuestQueue(1)\n"
            "get: x.get() waits\n"
            "x.put('a') -> None\n"
            "get -> 'a'\n"
            "x.put('b') -> None\n"
            "put: x.put('c') waits\n"
            "x.put_nowait('d') ! Full:\n"
            "x moves\n"
            "x.get_many(5) -> ['b']\n"
            "put -> None\n"
            "x.join() within 0 ! TimeoutError: 3 items are not dealt with\n");
    st_test("lost items return to their places",
            "x = GuestQueue()\n"
            "x.put_many([1, 2, 3, 4]) -> None\n"
            "a: x.get() -> 1\n"
            "b: x.get_many(2) -> [2, 3]\n"
            "b is lost\n"
            "a is lost\n"
            "x.get_many(9) -> [1, 2, 3, 4]\n");
    st_test("queue keeps the objects that its items name",
            "x = GuestQueue(1)\n"
            "x.put([#3, 'a', #4]) -> None\n"
            "waits: x.put(#5) waits\n"
            "x holds [3, 4, 5]\n"
            "x moves\n"
            "x holds [3, 4, 5]\n"
            "x.get() -> [#3, 'a', #4]\n"
            "waits -> None\n"
            "x holds [5]\n");
    st_test("shutdown ends those who wait",
            "x = GuestQueue()\n"
            "get: x.get() waits\n"
            "x.shutdown() -> None\n"
            "get ! ShutDown:\n");
    st_test("dict has Python's keys in order and keeps them over a move",
            "x = GuestDict([(1, 'one')], x=2)\n"
            "x.__setitem__(True, 'yes') -> None\n"
            "x.__setitem__((1.0, None), 0) -> None\n"
            "x moves\n"
            "x.__len__() -> 3\n"
            "x.__str__() -> \"{1: 'yes', 'x': 2, (1.0, None): 0}\"\n"
            "x.__getitem__((True, None)) -> 0\n"
            "x.__getitem__('y') ! KeyError: 'y'\n"
            "x.get([1]) ! TypeError: unhashable type: 'list'\n"
            "x.pop('y', 7) -> 7\n"
            "x.popitem() -> ((1.0, None), 0)\n"
            "GuestDict([1]) ! TypeError: wrong type\n");
    st_test("large numbers are one key however they are written",
            "x = GuestDict()\n"
            "x.__setitem__(9223372036854775808, 'a') -> None\n"
            "x.__getitem__(9.223372036854775808e18) -> 'a'\n"
            "x.__getitem__(-9223372036854775808) ! KeyError: -9223372036854775808\n"
            "x.__setitem__(-9223372036854775809, 'b') -> None\n"
            "x.__getitem__(-9223372036854775809) -> 'b'\n"
            "x.__getitem__(0.5) ! KeyError: 0.5\n");
    st_test_garbage("GuestLock()", 1, 2000);
    st_test_garbage("GuestSemaphore(2)", 2, 2000);
    st_test_garbage("GuestEvent()", 3, 2000);
    st_test_garbage("GuestQueue(3)", 4, 2000);
    st_test_garbage("GuestDict()", 5, 2000);
    return st_test_end();
}
