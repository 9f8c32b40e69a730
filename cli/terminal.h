// SPDX-License-Identifier: MIT
// This terminal as the guest's console: raw, with a key to leave, and as it was afterwards.
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include <stdbool.h>

struct loop;
struct terminal;

/* Whether stdin is a terminal that this process may read now (it is not in the background). */
bool terminal_usable(void);

/*
 * Puts the terminal that is stdin into raw mode and reads it on `loop`'s thread. Ctrl-a x calls
 * `quit`; Ctrl-a Ctrl-a is one Ctrl-a for the guest. The mode is restored by terminal_close, by
 * exit and by a fatal signal. 0 or -errno.
 */
int terminal_open(struct terminal **out, struct loop *loop, void (*quit)(void *arg), void *arg);

/* The descriptor from which the guest's input is read. Borrowed. */
int terminal_input(const struct terminal *t);

/* NULL is fine. */
void terminal_close(struct terminal *t);

#endif
