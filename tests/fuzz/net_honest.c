// SPDX-License-Identifier: MIT
// An honest driver of virtio-net: it keeps to the rules of the ring, and what it sends and commands
// may be wrong.
#include "tests/fuzz/net_honest.h"

#include "base/iov.h"

#include <sys/socket.h>

#define AREA MIB(1)
#define F MODEL_F

const uint8_t honest_mac[6] = {2};

/* ---- guest memory of the honest driver ---- */

static uint64_t slot_memory(unsigned queue, unsigned index)
{
	return AREA + ((uint64_t)queue * SLOTS + index) * SLOT_ROOM;
}

static void add_piece(struct fuzz *f, struct slot *s, uint64_t at, uint32_t len)
{
	s->iov[s->n++] = (struct iovec){mem_get(f->t.mem, at, len), len};
}

/* Pieces of the slot's memory, `len` bytes in all; there is room for one more. */
static void lay_out(struct fuzz *f, struct slot *s, uint64_t at, uint32_t len, unsigned seed)
{
	static const uint32_t lengths[] = {PACKET_MAX, 1, 11, 12, 13, 26, 100, 1500};

	s->n = 0;
	s->len = len;
	for (; len; seed >>= 3) {
		uint32_t part = s->n == PIECES - 2 ? len : MIN(len, lengths[seed % 8]);

		add_piece(f, s, at, part);
		at += part + seed % 8;
		len -= part;
	}
}

static uint64_t address_of(const struct fuzz *f, const void *p)
{
	return (uint64_t)((const char *)p - (const char *)mem_get(f->t.mem, 0, RAM));
}

/* The pieces from `writable` on are the device's to write to. */
static void offer(struct fuzz *f, unsigned queue, unsigned index, unsigned writable, bool indirect)
{
	const struct slot *s = &f->slot[queue][index];
	struct driver *d = &f->t.q[queue], table = {0};
	uint16_t first = (uint16_t)(index * PIECES);
	uint64_t at = slot_memory(queue, index) + SLOT_ROOM - 0x100;

	if (indirect && has(f, VIRTIO_RING_F_INDIRECT_DESC)) {
		table.desc = mem_get(f->t.mem, at, s->n * sizeof(*table.desc));
		driver_desc(
			d, first, at, s->n * (uint32_t)sizeof(*table.desc), VRING_DESC_F_INDIRECT);
	}
	for (uint16_t i = 0; i < s->n; i++)
		driver_desc(table.desc ? &table : d, (uint16_t)(table.desc ? i : first + i),
			address_of(f, s->iov[i].iov_base), (uint32_t)s->iov[i].iov_len,
			(i < writable ? 0 : VRING_DESC_F_WRITE) |
				(i + 1u < s->n ? VRING_DESC_F_NEXT : 0));
	driver_offer(d, first);
}

static struct slot *used_slot(struct fuzz *f, unsigned queue, uint32_t id)
{
	struct slot *s = &f->slot[queue][id / PIECES % SLOTS];

	check(id % PIECES == 0 && id / PIECES < SLOTS && s->busy);
	s->busy = false;
	return s;
}

/* ---- packets on their way ---- */

static void send_off(struct way *w, const struct passing *p)
{
	check(w->end < PASSING);
	w->list[w->end++] = *p;
}

/* The one with that number. What should have come before it has not, and may not come later. */
static const struct passing *expect(struct way *w, uint16_t number)
{
	for (; w->first < w->end; w->first++) {
		if (w->list[w->first].number == number)
			return &w->list[w->first++];
		if (!w->list[w->first].excused)
			check(w->excuses-- > 0);
	}
	abort();
}

/* Bytes that tell where they are. */
static const uint8_t *frame_of(const struct passing *p)
{
	static uint8_t pattern[PACKET_MAX + 256];

	if (!pattern[1])
		for (unsigned i = 0; i < sizeof(pattern); i++)
			pattern[i] = (uint8_t)(i * 7 + (i >> 8) * 31);
	return pattern + p->number % 256;
}

/* Those that are under way while a reason holds for which they may fail to arrive. */
static void excuse(struct fuzz *f, unsigned pair)
{
	struct way *in = &f->in[pair], *out = &f->out[pair];
	bool merging = has(f, VIRTIO_NET_F_MRG_RXBUF), up = f->m.up && !f->dead;

	for (struct passing *p = in->list + in->first; p < in->list + in->end; p++)
		p->excused |= p->len < HDR + NET_FRAME_MIN || !up ||
			      p->len > model_longest(&f->m) || !model_takes(&f->m, p->head) ||
			      (!merging && p->len > f->smallest[pair]);
	for (struct passing *p = out->list + out->first; p < out->list + out->end; p++)
		p->excused |= !up;
}

/* ---- towards the guest ---- */

static void make_address(uint8_t to[6], unsigned which)
{
	static const uint8_t group[6] = {1, 0, 0x5e};

	memcpy(to, which % 8 < 4 ? honest_mac : group, 6);
	to[5] = (uint8_t)(which % 4);
	if (which % 8 == 7)
		memset(to, 0xff, 6);
}

/* What of the frame the filter looks at. */
static void make_head(struct passing *p, const uint8_t op[8])
{
	static const uint16_t vlans[] = {0, 1, 5, 4095};
	size_t there = MAX(p->len, HDR) - HDR;

	make_address(p->head, op[3]);
	put_le16(p->head + 12, op[4] & 0x80 ? 0x0081 : 0x0008);
	p->head[14] = (uint8_t)(0xe0 | vlans[op[4] % 4] >> 8);
	p->head[15] = (uint8_t)vlans[op[4] % 4];
	if (there < MODEL_PEEK)
		memset(p->head + there, 0, MODEL_PEEK - there);
}

void honest_arrive(struct fuzz *f, const uint8_t op[8])
{
	static const uint32_t lengths[] = {HDR + 60, HDR + 1514, HDR + 14, HDR + 9014, HDR + 9018,
		HDR + NET_FRAME_MAX, HDR + NET_FRAME_MAX + 1, 5, HDR + 13, HDR + 16, HDR + 1518,
		HDR + 1519, HDR + 4000};
	static uint8_t packet[PACKET_MAX];
	unsigned pair = op[1] % f->pairs;
	struct passing p = {
		.number = f->in[pair].number++, .len = lengths[op[2] % ARRAY_SIZE(lengths)]};

	p.hdr = (struct virtio_net_hdr_v1){
		.flags = op[5] & 3, .gso_size = op[6], .csum_start = p.number};
	make_head(&p, op);
	memcpy(packet, &p.hdr, HDR);
	memcpy(packet + HDR, frame_of(&p), NET_FRAME_MAX + 2);
	memcpy(packet + HDR, p.head, MODEL_PEEK);
	if (f->dead ||
		send(f->peer[pair], packet, p.len, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)p.len)
		return;
	f->arrived++;
	send_off(&f->in[pair], &p);
}

static void give(struct fuzz *f, unsigned pair, unsigned index, uint32_t len, const uint8_t op[8])
{
	struct slot *s = &f->slot[2 * pair][index];

	if (s->busy)
		return;
	s->busy = true;
	lay_out(f, s, slot_memory(2 * pair, index), len, get_le16(op + 5));
	offer(f, 2 * pair, index, 0, op[0] & 0x40);
	f->smallest[pair] = MIN(f->smallest[pair], len);
}

bool honest_receives(const struct fuzz *f, unsigned pair)
{
	return 2 * pair != control_queue(f) || !has(f, VIRTIO_NET_F_CTRL_VQ);
}

void honest_give(struct fuzz *f, const uint8_t op[8])
{
	static const uint32_t lengths[] = {
		1526, 2048, SLOT_ROOM - 0x1000, 4096, 100, 1, 11, 12, 13, 26, HDR + NET_FRAME_MAX};
	unsigned pair = op[1] % f->pairs;

	if (!honest_receives(f, pair))
		return;
	for (unsigned n = op[4] % SLOTS + 1, i = op[3]; n; n--, i++)
		give(f, pair, i % SLOTS, lengths[op[2] % ARRAY_SIZE(lengths)], op);
	f->t.kick_again[2 * pair] |= op[0] >> 7;
}

/* The next used buffer's bytes go behind the `len` that there are. Whether there was one; *full:
 * whether that was all that it has room for. */
static bool take_buffer(struct fuzz *f, unsigned queue, uint8_t *packet, uint32_t *len, bool *full)
{
	uint32_t id, written;
	const struct slot *s;

	if (!driver_reap(&f->t.q[queue], &id, &written))
		return false;
	s = used_slot(f, queue, id);
	check(written <= s->len && *len + written <= PACKET_MAX);
	*full = written == s->len;
	*len += (uint32_t)iov_read(s->iov, s->n, 0, packet + *len, written);
	return true;
}

static void check_delivered(struct fuzz *f, unsigned pair, uint8_t *packet, uint32_t len)
{
	struct virtio_net_hdr_v1 h;
	const struct passing *p;

	check(len >= HDR + NET_FRAME_MIN && f->m.up);
	memcpy(&h, packet, HDR);
	memset(packet + len, 0, MODEL_PEEK);
	p = expect(&f->in[pair], h.csum_start);
	check(p->len == len && model_takes(&f->m, p->head));
	check(memcmp(&h, &p->hdr, offsetof(struct virtio_net_hdr_v1, num_buffers)) == 0);
	check(memcmp(packet + HDR, p->head, MODEL_PEEK) == 0);
	if (len > HDR + MODEL_PEEK)
		check(memcmp(packet + HDR + MODEL_PEEK, frame_of(p) + MODEL_PEEK,
			      len - HDR - MODEL_PEEK) == 0);
	f->delivered++;
}

/* All of a packet's buffers are used at once, and each but the last is full. */
static void reap_packets(struct fuzz *f, unsigned pair)
{
	static uint8_t packet[PACKET_MAX + MODEL_PEEK];
	uint32_t len = 0;
	bool full;

	for (; take_buffer(f, 2 * pair, packet, &len, &full); len = 0) {
		unsigned n = 1, count;

		for (; len < HDR; n++)
			check(full && take_buffer(f, 2 * pair, packet, &len, &full));
		count = get_le16(packet + offsetof(struct virtio_net_hdr_v1, num_buffers));
		check(count >= n && (count == 1 || has(f, VIRTIO_NET_F_MRG_RXBUF)));
		for (; n < count; n++)
			check(full && take_buffer(f, 2 * pair, packet, &len, &full));
		check_delivered(f, pair, packet, len);
	}
}

/* ---- from the guest ---- */

void honest_header(struct virtio_net_hdr_v1 *h, const uint8_t op[8], uint32_t frame)
{
	static const uint8_t types[] = {0, 0, 1, 4, 3, 5, 0x81, 0x84, 0x83, 2, 6, 0x80, 0xff};

	*h = (struct virtio_net_hdr_v1){
		.flags = op[3] & 7,
		.gso_type = types[op[4] % ARRAY_SIZE(types)],
		.gso_size = op[5] & 0x40 ? 0 : 1400,
		.hdr_len = (uint16_t)(op[5] & 0x80 ? frame + (op[6] & 1) : op[6]),
		.csum_start = op[7] & 0x80 ? 0xffff : op[7],
		.csum_offset = (uint16_t)(op[5] & 0x20 ? frame - op[7] - 2 + (op[6] & 1) : op[6]),
		.num_buffers = op[7],
	};
}

/* The number is where the frame's first bytes are. A buffer that the device could write to may
 * follow: there is nothing to be written. */
static void post(struct fuzz *f, unsigned pair, unsigned index, const uint8_t op[8])
{
	static const uint32_t frames[] = {
		60, 1514, 14, NET_FRAME_MAX, 9014, 13, 0, NET_FRAME_MAX + 1, 100, 300, 64};
	unsigned queue = 2 * pair + 1, n;
	uint32_t frame = frames[op[2] % ARRAY_SIZE(frames)];
	struct slot *s = &f->slot[queue][index];
	struct passing p = {.number = f->out[pair].number, .len = HDR + frame};
	struct virtio_net_hdr_v1 h;

	if (s->busy || f->out[pair].end == PASSING)
		return;
	s->busy = true;
	f->out[pair].number++;
	honest_header(&h, op, frame);
	lay_out(f, s, slot_memory(queue, index), op[2] == 0xff ? op[3] % HDR : p.len,
		get_le16(op + 6));
	n = s->n;
	iov_write(s->iov, n, 0, &h, HDR);
	iov_write(s->iov, n, HDR, frame_of(&p), frame);
	iov_write(s->iov, n, HDR, &p.number, MIN(frame, sizeof(p.number)));
	if (op[0] & 0x20 || !n)
		add_piece(f, s, AREA - 64, 64);
	offer(f, queue, index, n, op[0] & 0x40);
	if (s->len == p.len && model_sends(&f->m, &h, frame, &p.hdr))
		send_off(&f->out[pair], &p);
}

void honest_post(struct fuzz *f, const uint8_t op[8])
{
	unsigned pair = op[1] % f->pairs, index = op[1] / 8;

	for (unsigned n = op[0] & 0x10 ? 8 : 1; n; n--, index++)
		post(f, pair, index % SLOTS, op);
	f->t.kick_again[2 * pair + 1] |= op[0] >> 7;
}

static void reap_sent(struct fuzz *f, unsigned pair)
{
	uint32_t id, len;

	while (driver_reap(&f->t.q[2 * pair + 1], &id, &len)) {
		used_slot(f, 2 * pair + 1, id);
		check(len == 0);
		f->used++;
	}
}

void honest_check_left(struct fuzz *f, unsigned pair, const uint8_t *packet, size_t len)
{
	const struct passing *p;

	check(len >= HDR + NET_FRAME_MIN);
	p = expect(&f->out[pair], get_le16(packet + HDR));
	check(p->len == len && memcmp(&p->hdr, packet, HDR) == 0);
	check(memcmp(packet + HDR + 2, frame_of(p) + 2, len - HDR - 2) == 0);
}

/* ---- commands ---- */

static size_t make_tables(uint8_t *to, const uint8_t op[8])
{
	static const uint8_t counts[] = {0, 1, 2, 63, 64, 65, 100};
	size_t len = 0;

	for (unsigned group = 0; group < 2; group++) {
		unsigned count = counts[op[4 + group] % ARRAY_SIZE(counts)];

		memset(to + len, 0, 4);
		to[len] = (uint8_t)count;
		len += 4;
		for (unsigned i = 0; i < count; i++, len += 6)
			make_address(to + len, op[6] + i * 4);
	}
	return len;
}

static size_t make_offloads(const struct fuzz *f, uint8_t *to, const uint8_t op[8])
{
	const uint64_t others = F(MAC) | F(STATUS) | F(CSUM);
	uint64_t v = f->m.features & op[4] * 0x0101010101010101ull & ~others;

	v |= op[5] & 1 ? others : 0;
	memcpy(to, &v, sizeof(v));
	return sizeof(v);
}

/* The data of a command, as it should be. */
static size_t make_data(const struct fuzz *f, uint8_t class, uint8_t *to, const uint8_t op[8])
{
	static const uint16_t ids[] = {0, 1, 5, 4095, 4096, 65535};

	switch (class) {
	case VIRTIO_NET_CTRL_RX:
		to[0] = op[4];
		return 1;
	case VIRTIO_NET_CTRL_MAC:
		if (op[3] % 8 == VIRTIO_NET_CTRL_MAC_TABLE_SET)
			return make_tables(to, op);
		make_address(to, op[4]);
		return 6;
	case VIRTIO_NET_CTRL_VLAN:
		put_le16(to, ids[op[4] % ARRAY_SIZE(ids)]);
		return 2;
	case VIRTIO_NET_CTRL_MQ:
		put_le16(to, op[4] % (PAIRS + 2));
		return 2;
	case VIRTIO_NET_CTRL_GUEST_OFFLOADS:
		return make_offloads(f, to, op);
	default:
		return 0;
	}
}

/* As packets that wait in pairs that are not used any more are lost. */
static bool foresee(struct fuzz *f, const uint8_t *c)
{
	bool done = model_command(&f->m, c);

	for (unsigned i = f->m.pairs; i < f->pairs && c[0] == VIRTIO_NET_CTRL_MQ && done; i++)
		f->in[i].excuses++;
	return done;
}

/* Done at once, so that model and device are never apart. */
void honest_command(struct fuzz *f, const uint8_t op[8])
{
	unsigned queue = control_queue(f), n;
	uint8_t c[2048] = {op[2] % 8, op[3] % 8}, answer = 0xee;
	uint32_t len = 2 + (uint32_t)make_data(f, c[0], c + 2, op), whole = len, id, written;
	struct slot *s = &f->slot[queue][0];
	bool done;

	if (!has(f, VIRTIO_NET_F_CTRL_VQ))
		return;
	if (op[1] % 8 == 6)
		len -= MIN(len, op[7] % 16 + 1u);
	else if (op[1] % 8 == 7)
		len++;
	lay_out(f, s, slot_memory(queue, 0), len, get_le16(op + 6));
	n = s->n;
	iov_write(s->iov, n, 0, c, len);
	if (op[1] & 0x40 || !n)
		add_piece(f, s, slot_memory(queue, 1), 1);
	if (s->n > n)
		memcpy(s->iov[n].iov_base, &answer, 1);
	done = len == whole && foresee(f, c);
	offer(f, queue, 0, n, op[0] & 0x40);
	f->t.dev->ops->kick(f->t.dev, queue);
	check(driver_reap(&f->t.q[queue], &id, &written) && id == 0 && written == s->n - n);
	if (s->n > n)
		memcpy(&answer, s->iov[n].iov_base, 1);
	check(s->n == n || answer == (done ? VIRTIO_NET_OK : VIRTIO_NET_ERR));
}

/* ---- all of it ---- */

void honest_give_all(struct fuzz *f, unsigned pair)
{
	const uint8_t op[8] = {0};

	for (unsigned i = 0; i < SLOTS && honest_receives(f, pair); i++)
		give(f, pair, i, SLOT_ROOM - 0x1000, op);
}

uint64_t honest_room(const struct fuzz *f, unsigned pair)
{
	uint64_t room = 0;

	for (unsigned i = 0; i < SLOTS; i++)
		room += f->slot[2 * pair][i].busy ? f->slot[2 * pair][i].len : 0;
	return room;
}

void honest_reap(struct fuzz *f, unsigned pair)
{
	excuse(f, pair);
	if (honest_receives(f, pair))
		reap_packets(f, pair);
	reap_sent(f, pair);
}
