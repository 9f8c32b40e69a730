// SPDX-License-Identifier: MIT
// The kernel's side of vhost-net, and of what a tap is asked for, made up: it keeps to the kernel's
// rules and remembers what it was told. Few hosts have a vhost-net; with the real one guests run in
// tests/vm. A program that has this is linked with --wrap=ioctl.
#ifndef TESTS_UNIT_FAKE_VHOST_H
#define TESTS_UNIT_FAKE_VHOST_H

#include <linux/vhost_types.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct fake_ring {
	struct vhost_vring_addr at;
	unsigned size, base;
	int kick, call, error;
	_Atomic int tap;
};

struct fake_vhost {
	int fd;
	bool owned;
	uint64_t has, features;
	unsigned regions;
	struct vhost_memory_region region[2];
	struct fake_ring ring[2];
};

/* How many requests came since fake_reset; which of them is refused, from 1 on, 0: none. */
extern unsigned fake_requests, fake_refuse;
/* Of the filter that a tap was given last. */
extern unsigned fake_filter_count;
extern uint8_t fake_filter[256][6];
extern bool fake_filter_groups;

void fake_reset(void);

/* One more open /dev/vhost-net, with all features; what became of it is kept until the reset. */
struct fake_vhost *fake_vhost_open(void);

#endif
