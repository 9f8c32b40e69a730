// SPDX-License-Identifier: MIT
#include "base/thread.h"

#include "base/util.h"

/* The usual 8 MiB may hold an aligned huge page, and one touch of it would then cost 2 MiB. */
#define STACK_SIZE (256U << 10)

static void fill_blocked(sigset_t *set)
{
	static const int own[] = THREAD_FAULTS;

	sigfillset(set);
	for (unsigned i = 0; i < ARRAY_SIZE(own); i++)
		sigdelset(set, own[i]);
}

int thread_start(pthread_t *thread, int signal, void *(*fn)(void *arg), void *arg)
{
	pthread_attr_t attr;
	sigset_t blocked, old;
	int rc = pthread_attr_init(&attr);

	if (rc)
		return rc;
	fill_blocked(&blocked);
	if (signal)
		sigdelset(&blocked, signal);
	rc = pthread_attr_setstacksize(&attr, STACK_SIZE);
	pthread_sigmask(SIG_SETMASK, &blocked, &old); /* the thread inherits it */
	rc = rc ? rc : pthread_create(thread, &attr, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return rc;
}
