// SPDX-License-Identifier: MIT
// Gives memory back that only starting needed.
#ifndef BASE_SHED_H
#define BASE_SHED_H

/*
 * Returns free heap to the kernel and unmaps the pages of program text: those still in use come
 * back from the page cache one by one, those of the start do not. Worth it for a process that idles
 * for long; any thread may call it at any time.
 */
void shed_startup_memory(void);

#endif
