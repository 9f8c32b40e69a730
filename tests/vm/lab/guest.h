// SPDX-License-Identifier: MIT
// The parts of lab-guest. Each takes the arguments after its name and returns an exit status.
#ifndef TESTS_VM_LAB_GUEST_H
#define TESTS_VM_LAB_GUEST_H

#include <stddef.h>
#include <stdint.h>

/* Says what failed, with errno's text, and returns 1. */
int report(const char *what);

/* The state of a stream of pseudo-random bytes; any value but 0 is a seed. */
typedef uint64_t pattern;

/* The next `length` bytes of it, a multiple of 8. */
void pattern_fill(pattern *p, uint8_t *bytes, size_t length);

int tool_pattern(char **argv); /* SEED BYTES: writes them */
int tool_check(char **argv);   /* SEED BYTES [RATE]: reads stdin and compares */
int tool_button(char **argv);  /* waits for the power button, powers off */
int tool_serve(char **argv);   /* PORT: echoes whatever connects, from vsock */
int tool_connect(char **argv); /* PORT STREAMS BYTES: to an echo of the host's */
int tool_evil(char **argv);    /* HOW: an init that breaks the session's protocol */

#endif
