// SPDX-License-Identifier: MIT
// What init has to say where no host listens yet: the kernel's log, and so its console.
#ifndef GUEST_CONSOLE_H
#define GUEST_CONSOLE_H

/* "kvick-init: WHAT NAME: TEXT", TEXT being that of the errno `error`; none where error is 0. */
void console_say(const char *what, const char *name, int error);

#endif
