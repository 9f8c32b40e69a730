// SPDX-License-Identifier: MIT
// What virtio-net (virtio 1.2, 5.1) must do: which frames it takes, what a header becomes on its
// way out, what a command does. Written from the specification a second time, for the fuzzer to
// hold the device against.
#ifndef TESTS_FUZZ_NET_MODEL_H
#define TESTS_FUZZ_NET_MODEL_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_PEEK                                                                                 \
	18u /* bytes of a frame that the filter looks at; zeroes behind a shorter one              \
	     */
#define MODEL_F(name) (1ull << VIRTIO_NET_F_##name)

struct model {
	uint64_t features;
	unsigned pairs_max;
	uint32_t mtu;
	bool up; /* the link */

	/* As commands have set it. */
	uint8_t mode, mac[6], vlan[4096 / 8];
	uint8_t table[2][256][6]; /* single, groups */
	unsigned count[2];
	unsigned pairs;
	uint64_t offloads;
	bool announce;
};

static inline bool model_has(const struct model *m, unsigned feature)
{
	return m->features >> feature & 1;
}

/* As a reset makes it; what is above the second comment stays. */
void model_reset(struct model *m, const uint8_t mac[6]);

/* Whether the filter takes a frame, and the longest packet that there can be, with its header. */
bool model_takes(const struct model *m, const uint8_t frame[MODEL_PEEK]);
uint32_t model_longest(const struct model *m);

/* What the header of a frame of that length must be at the other end; false: it must not get there.
 */
bool model_sends(const struct model *m, const struct virtio_net_hdr_v1 *h, uint32_t frame,
	struct virtio_net_hdr_v1 *out);

/* Runs a command of the right length: class, number, data. Whether it is to be answered with OK. */
bool model_command(struct model *m, const uint8_t *command);

#endif
