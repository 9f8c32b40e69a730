// SPDX-License-Identifier: MIT
#include "base/thread.h"

#include <signal.h>

/* The usual 8 MiB may hold an aligned huge page, and one touch of it would then cost 2 MiB. */
#define STACK_SIZE (256U << 10)

int thread_start(pthread_t *thread, int signal, void *(*fn)(void *arg), void *arg)
{
	pthread_attr_t attr;
	sigset_t blocked;
	int rc = pthread_attr_init(&attr);

	if (rc)
		return rc;
	sigfillset(&blocked);
	if (signal)
		sigdelset(&blocked, signal);
	rc = pthread_attr_setstacksize(&attr, STACK_SIZE);
	rc = rc ? rc : pthread_attr_setsigmask_np(&attr, &blocked);
	rc = rc ? rc : pthread_create(thread, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	return rc;
}
