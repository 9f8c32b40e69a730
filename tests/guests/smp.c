// SPDX-License-Identifier: MIT
// INIT and start-up IPIs start the other processors; all count, and no count is lost.
#include "tests/guests/guest.h"

#define ROUNDS 200000u

static volatile uint32_t together, started, done;

static void count(unsigned number)
{
	__atomic_fetch_add(&started, 1, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < ROUNDS; i++)
		__atomic_fetch_add(&together, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&done, 1, __ATOMIC_SEQ_CST);
}

static unsigned cpus_told(void)
{
	return told("cpus=4") ? 4 : told("cpus=2") ? 2 : 1;
}

void guest_main(void)
{
	unsigned cpus = cpus_told();

	for (unsigned n = 1; n < cpus; n++) {
		cpu_start(n, count);
		while (started != n)
			relax();
	}
	count(0);
	while (done != cpus)
		relax();
	CHECK_EQUAL(together, cpus * ROUNDS);
	print_number(together);
}
