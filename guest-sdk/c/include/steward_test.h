/// Tests plugins natively, by scripts in the words of a Python session, with a clock that the script turns. Compile src/testing.c in place of
/// src/steward.c, together with the plugin, and sanitizers where there are some.
///
/// ```text
/// x = RateLimiter(1.0, burst=2)      makes an object
/// x.acquire() -> None                a call and its result, as repr() shows it
/// @2 x.acquire() within 0 -> False   by session 2 (else 1), with a deadline in ms
/// a: x.acquire() waits               a call that parks
/// +1000                              ms pass; objects are woken when they asked for it
/// a -> None                          what became of it
/// x.acquire(9) ! ValueError: n is 9  a call that raises
/// RateLimiter(0) ! ValueError: …     a constructor that raises
/// a waits                            it still has no answer
/// a is given up                      its client cancels it
/// a times out                        its deadline comes; `a -> …` has what it answers
/// a is lost, a is lost unsent        a result never reached its client; it was sent, or not
/// session 2 ends, session 2 leaves   it is lost, or says goodbye
/// x moves                            as in an upgrade: saved, loaded, called again what waits
/// x moves from 1.0.0                 the same; its state is said to be of this version
/// x changed 3                        its version: how many steps have changed it
/// x holds [3, 4]                     which tokens it stores; #3 is one
/// x is held, x is free               whether something is granted and not freed since
/// x asks 9 #3.put(1)                 the oldest call that it asked for and nobody has looked at: tag, on what
/// x hears 9 -> 'done'                how that ended; or `! Full: message`
/// # anything                         for people
/// ```
///
/// After a result may stand `granted` or `abandoned`, which is how it must have been granted then. The harness plays by the host's rules and
/// fails a method that changes the object and then parks, one that changes it though it is ST_READ, an answer to a call that does not wait, a
/// token let go that is not held, a wake-up that was just had.
#ifndef STEWARD_TEST_H
#define STEWARD_TEST_H

#include "steward.h"

/// Runs a script. What it finds wrong goes to standard error, with the line.
void st_test(const char *name, const char *script);
/// Runs a script that must go wrong, with a message that contains `why`.
void st_test_refuses(const char *name, const char *script, const char *why);
/// Makes an object as `create` says (`Queue(3)`) and sends it what no client should, so many times: any values, cut and changed ones, to all methods; moves
/// it, ends sessions, lets time pass, loads states that were changed. What goes wrong is told with the round; a seed replays.
void st_test_garbage(const char *create, uint64_t seed, int rounds);
/// What is wrong with a signature, and where; empty if nothing is. Valid until the next call.
const char *st_test_signature(const char *signature);
/// Says how many scripts there were. Returns main()'s result: 0 if all went well.
int st_test_end(void);

#endif
