// SPDX-License-Identifier: MIT
// A function's configuration space: header, BARs, capabilities.
#include "hw/pci_private.h"

#include "base/log.h"
#include "base/stream.h"
#include "base/util.h"

#include <assert.h>
#include <errno.h>
#include <linux/pci_regs.h>

/* Input and output space are not there to be decoded; INTx can be disabled, as it is not used. */
#define COMMAND_WRITABLE (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE)

#define BAR_AT(n) (PCI_BASE_ADDRESS_0 + 4u * (n))

/* ---- As devices make it ---- */

void pci_function_init(struct pci_function *f, const struct pci_id *id)
{
	memset(f->space, 0, sizeof(f->space));
	memset(f->writable, 0, sizeof(f->writable));
	memset(f->bar, 0, sizeof(f->bar));
	put_le16(f->space + PCI_VENDOR_ID, id->vendor);
	put_le16(f->space + PCI_DEVICE_ID, id->device);
	put_le32(f->space + PCI_CLASS_REVISION, id->class << 8 | id->revision);
	put_le16(f->space + PCI_SUBSYSTEM_VENDOR_ID, id->subsystem_vendor);
	put_le16(f->space + PCI_SUBSYSTEM_ID, id->subsystem);
	pci_function_let_write(f, PCI_COMMAND, COMMAND_WRITABLE);
	/* Registers without an effect, which are there to be written all the same (6.2.4, 6.2.5).
	 */
	f->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	f->writable[PCI_INTERRUPT_LINE] = 0xff;
	f->last_capability = 0;
	f->end = PCI_STD_HEADER_SIZEOF;
	f->pci = NULL;
}

void pci_function_let_write(struct pci_function *f, unsigned off, uint32_t mask)
{
	assert(off + 4 <= PCI_SPACE);
	put_le32(f->writable + off, get_le32(f->writable + off) | mask);
}

void pci_function_set_bar(struct pci_function *f, unsigned n, const struct pci_bar *bar)
{
	assert(n + bar->wide < PCI_BARS && bar->size >= 16 && !(bar->size & (bar->size - 1)));
	assert(bar->wide || bar->size <= GIB(2));
	f->bar[n] = *bar;
	f->space[BAR_AT(n)] = bar->wide ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0;
	/* Address bits below the size are wired to zero: that is how its driver learns the size. */
	pci_function_let_write(f, BAR_AT(n), (uint32_t) ~(bar->size - 1));
	if (bar->wide)
		pci_function_let_write(f, BAR_AT(n + 1), (uint32_t)(~(bar->size - 1) >> 32));
}

unsigned pci_function_add_capability(
	struct pci_function *f, uint8_t id, const void *body, unsigned len)
{
	unsigned at = f->end;

	assert(range_ok(at, 2 + len, PCI_SPACE));
	f->space[at] = id;
	memcpy(f->space + at + 2, body, len);
	if (f->last_capability)
		f->space[f->last_capability + 1] = (uint8_t)at;
	else
		f->space[PCI_CAPABILITY_LIST] = (uint8_t)at;
	f->space[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	f->last_capability = at;
	f->end = (unsigned)align_up(at + 2 + len, 4);
	return at;
}

/* ---- As the guest sees it ---- */

void pci_function_read(struct pci_function *f, unsigned off, void *data, unsigned len)
{
	if (off >= PCI_SPACE) {
		memset(data, 0, len);
		return;
	}
	if (f->ops && f->ops->config_read)
		f->ops->config_read(f->dev, off, len);
	memcpy(data, f->space + off, len);
}

/* In a bridge's header these are its bus numbers and windows. */
static bool places_bars(unsigned off, unsigned len)
{
	unsigned bars = PCI_BASE_ADDRESS_0, end = BAR_AT(PCI_BARS);

	return (off < end && off + len > bars) || off == PCI_COMMAND;
}

void pci_function_write(struct pci_function *f, unsigned off, const void *data, unsigned len)
{
	const uint8_t *from = data;

	if (off >= PCI_SPACE)
		return;
	for (unsigned i = 0; i < len; i++) {
		uint8_t mask = f->writable[off + i];

		f->space[off + i] = (uint8_t)((f->space[off + i] & ~mask) | (from[i] & mask));
	}
	if (places_bars(off, len))
		pci_map(f->pci);
	if (f->ops && f->ops->config_written)
		f->ops->config_written(f->dev, off, len);
}

uint64_t pci_function_wanted(const struct pci_function *f, unsigned n)
{
	uint64_t at = get_le32(f->space + BAR_AT(n));

	if (!f->bar[n].size || !(f->space[PCI_COMMAND] & PCI_COMMAND_MEMORY))
		return 0;
	if (f->bar[n].wide)
		at |= (uint64_t)get_le32(f->space + BAR_AT(n + 1)) << 32;
	return at & ~(f->bar[n].size - 1);
}

/* ---- The machine's side ---- */

static void forget(struct pci_function *f)
{
	for (unsigned i = 0; i < PCI_SPACE; i++)
		f->space[i] &= (uint8_t)~f->writable[i];
}

void pci_function_reset(struct pci_function *f)
{
	pthread_mutex_lock(&f->pci->lock);
	forget(f);
	pci_map(f->pci);
	pthread_mutex_unlock(&f->pci->lock);
}

void pci_function_save(struct pci_function *f, struct stream_out *s)
{
	pthread_mutex_lock(&f->pci->lock);
	stream_begin(s, "pci-function", 1);
	stream_put_u8(s, (uint8_t)f->place);
	stream_put(s, f->space, sizeof(f->space));
	stream_end(s);
	pthread_mutex_unlock(&f->pci->lock);
}

static int load_space(struct pci_function *f, struct stream_in *s)
{
	uint8_t space[PCI_SPACE];

	if (stream_get_u8(s) != f->place)
		stream_bad(s, "a function in another place");
	stream_get(s, space, sizeof(space));
	for (unsigned i = 0; i < PCI_SPACE && !s->err; i++) {
		if ((space[i] ^ f->space[i]) & ~f->writable[i])
			stream_bad(s, "a function of another make");
		else
			f->space[i] = space[i];
	}
	return stream_close(s);
}

int pci_function_load(struct pci_function *f, struct stream_in *s)
{
	int rc = stream_open(s, "pci-function", 1);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&f->pci->lock);
	forget(f);
	rc = load_space(f, s);
	if (rc < 0)
		forget(f);
	pci_map(f->pci);
	pthread_mutex_unlock(&f->pci->lock);
	return rc;
}
