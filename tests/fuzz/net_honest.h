// SPDX-License-Identifier: MIT
// What the two parts of virtio-net's fuzzer share: the device with what is around it, and an honest
// driver of it, of which it is known what has to come (net_model.h).
#ifndef TESTS_FUZZ_NET_HONEST_H
#define TESTS_FUZZ_NET_HONEST_H

#include "tests/fuzz/net_model.h"
#include "tests/fuzz/transport.h"

#include "net/port.h"

#define RAM MIB(16)
#define PAIRS 4u
#define QUEUES (2 * PAIRS + 1)
#define SLOTS 16u /* requests of a queue at a time */
#define PIECES 4u /* descriptors of a request */
#define HDR NET_HEADER
#define PACKET_MAX (HDR + NET_FRAME_MAX + 2)
#define PASSING 512u       /* packets in one direction */
#define SLOT_ROOM 0x12000u /* guest memory of a request */

/* A request of the honest driver. */
struct slot {
	bool busy;
	struct iovec iov[PIECES];
	unsigned n;
	uint32_t len;
};

/* A packet on its way. Its number is in it, too. */
struct passing {
	uint16_t number;
	uint32_t len; /* with its header */
	bool excused; /* it may fail to arrive */
	struct virtio_net_hdr_v1 hdr;
	uint8_t head[MODEL_PEEK]; /* of the frame */
};

struct way {
	struct passing list[PASSING];
	unsigned first, end; /* of those under way */
	unsigned excuses;    /* so many more may fail to arrive */
	uint16_t number;
};

struct made;

struct fuzz {
	struct transport t;
	unsigned pairs;
	struct made *made;
	int peer[PAIRS]; /* the other ends; -1: closed */
	struct slot slot[QUEUES][SLOTS];
	struct model m;
	struct way in[PAIRS], out[PAIRS];
	uint32_t smallest[PAIRS]; /* of the buffers for packets */
	struct net_counters before;
	uint64_t arrived, delivered, used, left;
	bool dead; /* an other end is closed */
	bool deaf; /* the other ends do not read */
};

/* The address that the device is made with. */
extern const uint8_t honest_mac[6];

static inline bool has(const struct fuzz *f, unsigned feature)
{
	return model_has(&f->m, feature);
}

static inline unsigned control_queue(const struct fuzz *f)
{
	return has(f, VIRTIO_NET_F_MQ) ? 2 * f->pairs : 2;
}

/* Each is what eight bytes of the input say. A packet for the guest; buffers for such; packets
 * from it; a command, which is done at once, so that model and device are never apart. */
void honest_arrive(struct fuzz *f, const uint8_t op[8]);
void honest_give(struct fuzz *f, const uint8_t op[8]);
void honest_post(struct fuzz *f, const uint8_t op[8]);
void honest_command(struct fuzz *f, const uint8_t op[8]);

/* Large buffers in all places that are free. */
void honest_give_all(struct fuzz *f, unsigned pair);

/* Whether the pair's first queue is for packets; the bytes in the buffers that it has. */
bool honest_receives(const struct fuzz *f, unsigned pair);
uint64_t honest_room(const struct fuzz *f, unsigned pair);

/* What may fail to arrive is excused, and what has been used is looked at. */
void honest_reap(struct fuzz *f, unsigned pair);

/* What has come to an other end. */
void honest_check_left(struct fuzz *f, unsigned pair, const uint8_t *packet, size_t len);

/* Any header, for a frame of that length. */
void honest_header(struct virtio_net_hdr_v1 *h, const uint8_t op[8], uint32_t frame);

#endif
