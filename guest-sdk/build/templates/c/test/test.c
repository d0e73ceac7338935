// Runs natively, with a clock that the script turns: `steward test`. steward_test.h says what a script can do.

#include "steward_test.h"

int main(void) {
    st_test("next one enters when one leaves",
            "x = {{Type}}(places=1)\n"
            "x.enter() -> True\n"
            "waits: x.enter() waits\n"
            "x.leave() -> None\n"
            "waits -> True\n"
            "x.free() -> 0\n");
    return st_test_end();
}
