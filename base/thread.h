// SPDX-License-Identifier: MIT
// Starting threads: small stacks, and no signal of others but the one that is asked for.
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <pthread.h>
#include <signal.h>

/* What a thread's own faults bring: never blocked, as that would end the process past whoever
 * catches them. */
#define THREAD_FAULTS                                                                              \
	{                                                                                          \
		SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP                          \
	}

/* Runs fn(arg) on a new thread, which has every signal blocked but `signal` (0: every one) and
 * THREAD_FAULTS. Returns 0 or a positive errno; the caller knows what the thread was for.
 * The thread is to be joined. */
int thread_start(pthread_t *thread, int signal, void *(*fn)(void *arg), void *arg);

#endif
