// SPDX-License-Identifier: MIT
// MSI-X (PCI 3.0, 6.8.2).
#include "hw/pci_msix.h"

#include "base/log.h"
#include "base/stream.h"
#include "base/util.h"
#include "hw/msi.h"

#include <assert.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>

enum { WORD_ADDRESS, WORD_ADDRESS_HIGH, WORD_DATA, WORD_CONTROL, WORDS };

#define VECTOR_MASKED PCI_MSIX_ENTRY_CTRL_MASKBIT

int msix_init(struct msix *x, const struct msix_config *cfg)
{
	uint8_t body[10];

	assert(cfg->vectors && cfg->vectors <= MSIX_VECTORS_MAX);
	*x = (struct msix){.cfg = *cfg};
	x->entries = calloc(cfg->vectors, sizeof(*x->entries));
	if (!x->entries)
		return fail(ENOMEM, "%s: no memory for %u interrupts", cfg->function->name,
			cfg->vectors);
	put_le16(body, (uint16_t)(cfg->vectors - 1));
	put_le32(body + 2, cfg->table | cfg->bar);
	put_le32(body + 6, cfg->pending | cfg->bar);
	pthread_mutex_init(&x->call_lock, NULL);
	x->at = pci_function_add_capability(cfg->function, PCI_CAP_ID_MSIX, body, sizeof(body));
	pci_function_let_write(cfg->function, x->at,
		(uint32_t)(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) << 16);
	msix_reset(x);
	return 0;
}

void msix_finish(struct msix *x)
{
	if (!x->entries)
		return;
	pthread_mutex_destroy(&x->call_lock);
	free(x->entries);
	x->entries = NULL;
}

/* ---- Delivery ---- */

static bool is_masked(struct msix *x, unsigned vector)
{
	return (atomic_load(&x->control) & PCI_MSIX_FLAGS_MASKALL) ||
	       (atomic_load(&x->entries[vector].word[WORD_CONTROL]) & VECTOR_MASKED);
}

static bool is_open(struct msix *x, unsigned vector)
{
	return (atomic_load(&x->control) & PCI_MSIX_FLAGS_ENABLE) && !is_masked(x, vector);
}

static uint64_t address_of(struct msix *x, unsigned vector)
{
	struct msix_entry *e = &x->entries[vector];

	return (uint64_t)atomic_load(&e->word[WORD_ADDRESS_HIGH]) << 32 |
	       atomic_load(&e->word[WORD_ADDRESS]);
}

static uint32_t data_of(struct msix *x, unsigned vector)
{
	return atomic_load(&x->entries[vector].word[WORD_DATA]);
}

static void send(struct msix *x, unsigned vector)
{
	x->cfg.send(x->cfg.arg, address_of(x, vector), data_of(x, vector));
}

static void set_pending(struct msix *x, unsigned vector)
{
	atomic_fetch_or(&x->pending[vector / 64], 1ull << vector % 64);
}

/* Sends what has been waiting, if it need not wait any longer. */
static void settle(struct msix *x, unsigned vector)
{
	_Atomic uint64_t *bits = &x->pending[vector / 64];
	uint64_t bit = 1ull << vector % 64;

	if (is_open(x, vector) && (atomic_fetch_and(bits, ~bit) & bit))
		send(x, vector);
}

void msix_raise(struct msix *x, unsigned vector)
{
	if (vector >= x->cfg.vectors || !(atomic_load(&x->control) & PCI_MSIX_FLAGS_ENABLE))
		return;
	if (!is_masked(x, vector)) {
		send(x, vector);
		return;
	}
	set_pending(x, vector);
	/* It may have been unmasked before the bit was there to be seen. */
	settle(x, vector);
}

void msix_config_written(struct msix *x)
{
	uint32_t control = get_le16(x->cfg.function->space + x->at + PCI_MSIX_FLAGS);

	if (atomic_exchange(&x->control, control) == control)
		return;
	for (unsigned i = 0; i < x->cfg.vectors; i++)
		settle(x, i);
	msix_calls_moved(x);
}

/* ---- Eventfds: with the lock of the calls held ---- */

/* Aims it where its vector leads; false where that is nowhere, or not now. */
static bool aim(struct msix *x, unsigned call)
{
	unsigned vector = atomic_load(&x->call_vectors[call]);

	if (vector >= x->cfg.vectors || !is_open(x, vector) || !msi_is_valid(address_of(x, vector)))
		return false;
	msi_line_aim(&x->calls[call], x->cfg.kvm, address_of(x, vector), data_of(x, vector));
	return true;
}

/* Has the kernel listen to it, or not, as its vector is now. */
static void follow(struct msix *x, unsigned call)
{
	bool on = aim(x, call);
	int rc = on ? msi_routes_commit(x->cfg.kvm) : 0;

	rc = rc ? rc : msi_line_bind(&x->calls[call], x->cfg.kvm, on);
	if (rc)
		log_error("%s: interrupts of queue %u are lost: %s", x->cfg.function->name, call,
			last_error());
}

static void follow_vector(struct msix *x, unsigned vector)
{
	pthread_mutex_lock(&x->call_lock);
	for (unsigned i = 0; i < x->call_count; i++)
		if (atomic_load(&x->call_vectors[i]) == vector)
			follow(x, i);
	pthread_mutex_unlock(&x->call_lock);
}

static void follow_all(struct msix *x)
{
	/* All are aimed before the first of them has the table handed over. */
	for (unsigned i = 0; i < x->call_count; i++)
		aim(x, i);
	for (unsigned i = 0; i < x->call_count; i++)
		follow(x, i);
}

void msix_calls_moved(struct msix *x)
{
	pthread_mutex_lock(&x->call_lock);
	follow_all(x);
	pthread_mutex_unlock(&x->call_lock);
}

/* What eventfds hold that the kernel does not listen to is pending. */
static void collect(struct msix *x)
{
	for (unsigned i = 0; i < x->call_count; i++) {
		unsigned vector = atomic_load(&x->call_vectors[i]);

		if (x->calls[i].bound || !msi_line_take(&x->calls[i]) || vector >= x->cfg.vectors)
			continue;
		set_pending(x, vector);
		settle(x, vector);
	}
}

static void drop_calls(struct msix *x)
{
	for (unsigned i = 0; i < x->call_count; i++)
		msi_line_finish(&x->calls[i], x->cfg.kvm);
	free(x->calls);
	x->calls = NULL;
	x->call_count = 0;
}

static int make_calls(struct msix *x, unsigned count, int *fds)
{
	int rc = 0;

	x->calls = calloc(count, sizeof(*x->calls));
	if (!x->calls)
		return fail(ENOMEM, "no memory for %u eventfds", count);
	for (; !rc && x->call_count < count; x->call_count += !rc) {
		rc = msi_line_init(&x->calls[x->call_count], x->cfg.kvm);
		fds[x->call_count] = x->calls[x->call_count].fd;
	}
	if (rc)
		drop_calls(x);
	return rc;
}

int msix_connect(struct msix *x, const _Atomic uint16_t *vectors, unsigned count, int *fds)
{
	int rc;

	pthread_mutex_lock(&x->call_lock);
	x->call_vectors = vectors;
	rc = make_calls(x, count, fds);
	if (!rc)
		follow_all(x);
	pthread_mutex_unlock(&x->call_lock);
	return rc;
}

void msix_disconnect(struct msix *x)
{
	pthread_mutex_lock(&x->call_lock);
	collect(x);
	drop_calls(x);
	pthread_mutex_unlock(&x->call_lock);
}

/* ---- Registers ---- */

static bool is_access(uint64_t off, unsigned len)
{
	return (len == 4 || len == 8) && off % len == 0;
}

static _Atomic uint32_t *find_word(struct msix *x, uint64_t off)
{
	uint64_t vector = off / sizeof(struct msix_entry);

	return vector < x->cfg.vectors ? &x->entries[vector].word[off / 4 % WORDS] : NULL;
}

void msix_table_read(struct msix *x, uint64_t off, void *data, unsigned len)
{
	uint8_t *to = data;

	if (!is_access(off, len)) {
		memset(data, 0xff, len);
		return;
	}
	for (unsigned i = 0; i < len; i += 4) {
		_Atomic uint32_t *w = find_word(x, off + i);

		put_le32(to + i, w ? atomic_load(w) : 0);
	}
}

/* What of a word there is: all of control but a bit is reserved, messages are of 4 bytes. */
static uint32_t legal(unsigned word, uint32_t v)
{
	if (word == WORD_CONTROL)
		return v & VECTOR_MASKED;
	return word == WORD_ADDRESS ? v & ~3u : v;
}

static void write_word(struct msix *x, uint64_t off, uint32_t v)
{
	_Atomic uint32_t *w = find_word(x, off);
	unsigned vector = (unsigned)(off / sizeof(struct msix_entry));

	if (!w)
		return;
	atomic_store(w, legal(off / 4 % WORDS, v));
	settle(x, vector);
	follow_vector(x, vector);
}

void msix_table_write(struct msix *x, uint64_t off, const void *data, unsigned len)
{
	const uint8_t *from = data;

	for (unsigned i = 0; i < len && is_access(off, len); i += 4)
		write_word(x, off + i, get_le32(from + i));
}

void msix_pending_read(struct msix *x, uint64_t off, void *data, unsigned len)
{
	uint64_t bits = 0;

	if (!is_access(off, len)) {
		memset(data, 0xff, len);
		return;
	}
	pthread_mutex_lock(&x->call_lock);
	collect(x);
	pthread_mutex_unlock(&x->call_lock);
	if (off / 8 < ARRAY_SIZE(x->pending))
		bits = atomic_load(&x->pending[off / 8]) >> 8 * (off % 8);
	bits = htole64(bits);
	memcpy(data, &bits, len);
}

/* ---- The machine's side ---- */

void msix_forget(struct msix *x)
{
	for (unsigned i = 0; i < ARRAY_SIZE(x->pending); i++)
		atomic_store(&x->pending[i], 0);
}

void msix_reset(struct msix *x)
{
	atomic_store(&x->control, 0);
	for (unsigned i = 0; i < x->cfg.vectors; i++)
		for (unsigned w = 0; w < WORDS; w++)
			atomic_store(&x->entries[i].word[w], w == WORD_CONTROL ? VECTOR_MASKED : 0);
	msix_forget(x);
}

void msix_save(struct msix *x, struct stream_out *s)
{
	stream_begin(s, "msix", 1);
	stream_put_u32(s, x->cfg.vectors);
	for (unsigned i = 0; i < x->cfg.vectors; i++)
		for (unsigned w = 0; w < WORDS; w++)
			stream_put_u32(s, atomic_load(&x->entries[i].word[w]));
	for (unsigned i = 0; i < ARRAY_SIZE(x->pending); i++)
		stream_put_u64(s, atomic_load(&x->pending[i]));
	stream_end(s);
}

static void load_entries(struct msix *x, struct stream_in *s)
{
	for (unsigned i = 0; i < x->cfg.vectors; i++)
		for (unsigned w = 0; w < WORDS; w++)
			atomic_store(&x->entries[i].word[w], legal(w, stream_get_u32(s)));
	for (unsigned i = 0; i < ARRAY_SIZE(x->pending); i++)
		atomic_store(&x->pending[i], stream_get_u64(s));
}

int msix_load(struct msix *x, struct stream_in *s)
{
	int rc = stream_open(s, "msix", 1);

	if (rc < 0)
		return rc;
	msix_reset(x);
	if (stream_get_u32(s) != x->cfg.vectors)
		stream_bad(s, "another number of interrupts");
	else
		load_entries(x, s);
	rc = stream_close(s);
	if (rc < 0)
		msix_reset(x);
	else
		msix_config_written(x);
	return rc;
}
