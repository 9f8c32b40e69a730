// SPDX-License-Identifier: MIT
// The ring under a driver made of random bytes: its memory, its indices, and changes between
// operations.
//
// The input is a header (size, features, first index), then the rings' contents up to their size,
// then operations of four bytes: what to do, a place in the rings, a value.
#include "tests/unit/driver.h"

#include "base/iov.h"
#include "base/log.h"

#include <stdlib.h>

#define RAM MIB(1)
#define RINGS 0x1000u
#define CAP 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz {
	struct queue q;
	struct driver d;
	unsigned breaks;
};

static struct mem *mem;

static void on_raise(void *arg, unsigned index)
{
}

static void on_broken(void *arg, const char *why)
{
	struct fuzz *f = arg;

	f->breaks++;
}

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* Reads every byte that is to be read, writes every byte that may be written. */
static void use(const struct queue_elem *e)
{
	const char *ram = mem_get(mem, 0, RAM);
	uint64_t sum = 0;

	check(e->out_n + e->in_n <= CAP && e->out_n + e->in_n > 0);
	for (unsigned i = 0; i < (unsigned)e->out_n + e->in_n; i++) {
		const char *p = e->iov[i].iov_base;

		check(e->iov[i].iov_len > 0);
		check(p >= ram && p + e->iov[i].iov_len <= ram + RAM);
		sum += e->iov[i].iov_len;
	}
	check(sum == (uint64_t)e->out_len + e->in_len);
	check(iov_size(e->iov, e->out_n) == e->out_len);
}

static void operate(struct fuzz *f, const uint8_t op[4], uint8_t *rings, uint64_t len)
{
	struct iovec iov[CAP];
	struct queue_elem e = {.iov = iov, .cap = CAP};
	bool live = queue_live(&f->q);

	switch (op[0] % 8) {
	case 0:
		queue_enable_kicks(&f->q);
		break;
	case 1:
		queue_disable_kicks(&f->q);
		break;
	case 2:
		driver_offer(&f->d, op[1] % 64);
		break;
	case 3:
	case 4:
		rings[get_le16(op + 1) % len] = op[3];
		break;
	default:
		if (!queue_pop(&f->q, &e))
			break;
		check(live);
		use(&e);
		/* The driver changes its mind while the request is in flight. */
		rings[get_le16(op + 1) % len] ^= op[3];
		if (op[0] & 8)
			queue_unpop(&f->q, 1);
		else
			queue_push(&f->q, &e, e.in_len ? op[3] % e.in_len : 0);
		queue_notify(&f->q);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz f = {0};
	const struct queue_host host = {.raise = on_raise, .broken = on_broken, .arg = &f};
	uint64_t features = 0, len, from;
	uint8_t *rings;

	if (size < 4)
		return 0;
	if (!mem) {
		log_set_level(LOG_LEVEL_ERROR);
		check(mem_create(&mem, RAM, MEM_PRIVATE) == 0);
	}
	features |= data[0] & 0x40 ? 1ull << VIRTIO_RING_F_EVENT_IDX : 0;
	features |= data[0] & 0x80 ? 1ull << VIRTIO_RING_F_INDIRECT_DESC : 0;
	driver_init(&f.d, mem, RINGS, (uint16_t)(1u << data[0] % 7), get_le16(data + 1));
	check(queue_start(&f.q, mem, &f.d.setup, features, &host) == 0);
	len = driver_bytes(f.d.setup.size);
	rings = mem_get(mem, RINGS, len);
	data += 4;
	size -= 4;
	from = MIN(size, len);
	memcpy(rings, data, from);
	/* An index that is far away breaks the ring at once: only some inputs are to do that. */
	if (!(data[-1] & 1))
		f.d.avail->idx = f.d.avail_next;
	for (; from + 4 <= size; from += 4)
		operate(&f, data + from, rings, len);
	check(f.breaks <= 1 && f.breaks == f.q.broken);
	queue_stop(&f.q, &f.d.setup);
	return 0;
}
