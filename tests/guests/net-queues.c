// SPDX-License-Identifier: MIT
// As many pairs of queues as the device has, all in use: each frame for us is sent back on the pair
// on which it came. With `few` half of them only. Says how many came on each; a frame of NET_END
// ends it.
#include "tests/guests/net.h"

#include <string.h>

#define PAIRS 8u
#define SIZE 64u

static struct virtio v;
static struct ring rx[PAIRS], tx[PAIRS], control;
static uint8_t *buffers[PAIRS];
static unsigned counts[PAIRS];
static uint8_t mac[6];
static bool ending;

static void start(unsigned all)
{
	virtio_start(&v, RING_EVENT | NET_F(MAC) | NET_F(MQ) | NET_F(CTRL_VQ));
	for (unsigned i = 0; i < all; i++) {
		virtio_queue(&v, &rx[i], 2 * i, SIZE);
		virtio_queue(&v, &tx[i], 2 * i + 1, SIZE);
		buffers[i] = alloc(SIZE * NET_BUFFER, 4096);
		for (unsigned d = 0; d < SIZE; d++) {
			ring_desc(&rx[i], d, buffers[i] + d * NET_BUFFER, NET_BUFFER,
				VRING_DESC_F_WRITE);
			ring_offer(&rx[i], d);
		}
	}
	virtio_queue(&v, &control, 2 * all, 16);
	virtio_live(&v);
	for (unsigned i = 0; i < all; i++)
		ring_kick(&rx[i]);
}

static uint8_t use_pairs(unsigned n)
{
	static struct {
		uint8_t class, command;
		uint16_t pairs;
	} c = {VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 0};
	static uint8_t answer;
	uint32_t head;

	c.pairs = (uint16_t)n;
	ring_desc(&control, 0, &c, sizeof(c), VRING_DESC_F_NEXT);
	ring_desc(&control, 1, &answer, 1, VRING_DESC_F_WRITE);
	ring_offer(&control, 0);
	ring_kick(&control);
	CHECK_EQUAL(ring_wait(&control, &head), 1);
	return answer;
}

/* The buffer itself is sent, and given again when that is done. */
static void send_back(unsigned i, uint32_t head, uint32_t len)
{
	uint8_t *packet = buffers[i] + head * NET_BUFFER, *frame = packet + NET_HEADER;
	uint32_t sent;

	memset(packet, 0, NET_HEADER);
	memcpy(frame, frame + 6, 6);
	memcpy(frame + 6, mac, 6);
	ring_desc(&tx[i], 0, packet, len, 0);
	ring_offer(&tx[i], 0);
	ring_kick(&tx[i]);
	CHECK_EQUAL(ring_wait(&tx[i], &sent), 0);
	counts[i]++;
}

static void serve(unsigned i)
{
	uint32_t head, len;

	while (ring_reap(&rx[i], &head, &len)) {
		const uint8_t *frame = buffers[i] + head * NET_BUFFER + NET_HEADER;

		CHECK(len >= NET_HEADER + 14 && len <= NET_BUFFER);
		if (!memcmp(frame, mac, 6) && net_type(frame) == NET_END)
			ending = true;
		else if (!memcmp(frame, mac, 6))
			send_back(i, head, len);
		ring_offer(&rx[i], head);
		ring_kick(&rx[i]);
	}
}

void guest_main(void)
{
	unsigned all, n;

	virtio_find(&v, VIRTIO_ID_NET);
	for (unsigned i = 0; i < sizeof(mac); i++)
		mac[i] = mmio_read8(virtio_config(&v) + i);
	all = mmio_read16(
		virtio_config(&v) + offsetof(struct virtio_net_config, max_virtqueue_pairs));
	CHECK(all > 1 && all <= PAIRS);
	start(all);
	CHECK_EQUAL(use_pairs(0), VIRTIO_NET_ERR);
	CHECK_EQUAL(use_pairs(all + 1), VIRTIO_NET_ERR);
	CHECK_EQUAL(use_pairs(65535), VIRTIO_NET_ERR);
	CHECK_EQUAL(use_pairs(all), VIRTIO_NET_OK);
	CHECK_EQUAL(use_pairs(1), VIRTIO_NET_OK);
	n = told("few") ? all / 2 : all;
	CHECK_EQUAL(use_pairs(n), VIRTIO_NET_OK);
	print("READY\n");
	while (!ending)
		for (unsigned i = 0; i < all; i++)
			serve(i);
	print("pairs:");
	for (unsigned i = 0; i < all; i++) {
		print(" ");
		print_number(counts[i]);
	}
	print("\n");
}
