// SPDX-License-Identifier: MIT
// KVM's timer on demand, and the one access that demanded it (Intel 8254 data sheet).
#include "hw/pit.h"

#include "base/log.h"
#include "base/stream.h"
#include "hw/bus.h"
#include "hw/kvm.h"
#include "hw/layout.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>

struct pit {
	const struct kvm *kvm;
	pthread_mutex_t lock; /* two vCPUs may be the first */
	bool made;
};

static int make(struct pit *p)
{
	/* The "speaker" is port 0x61, by which a guest gates and reads channel 2. */
	struct kvm_pit_config config = {.flags = KVM_PIT_SPEAKER_DUMMY};

	if (p->made)
		return 0;
	if (ioctl(p->kvm->vm, KVM_CREATE_PIT2, &config) < 0)
		return failno(errno, "KVM_CREATE_PIT2");
	p->made = true;
	return 0;
}

/* A control word for one of the three channels; reading back and latching change nothing yet. */
static void control(struct kvm_pit_state2 *s, uint8_t v)
{
	unsigned channel = v >> 6, access = v >> 4 & 3;
	struct kvm_pit_channel_state *c = &s->channels[channel % 3];

	if (channel == 3 || !access)
		return;
	c->rw_mode = c->read_state = c->write_state = (uint8_t)access;
	c->mode = v >> 1 & 7;
	c->bcd = v & 1;
}

static void apply(struct pit *p, uint64_t port, uint8_t v)
{
	struct kvm_pit_state2 s;

	if (ioctl(p->kvm->vm, KVM_GET_PIT2, &s) < 0)
		return;
	if (port == PORT_PIT_CONTROL)
		control(&s, v);
	else if (port == PORT_SPEAKER)
		s.channels[2].gate = v & 1;
	else
		return; /* a count before any mode: the 8254 leaves it undefined */
	if (ioctl(p->kvm->vm, KVM_SET_PIT2, &s) < 0)
		log_warn("timer: %s", strerror(errno));
}

static bool first_access(struct pit *p)
{
	bool first;

	pthread_mutex_lock(&p->lock);
	first = !p->made;
	if (make(p))
		log_warn("timer: %s", last_error());
	pthread_mutex_unlock(&p->lock);
	return first;
}

static void pit_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	if (first_access(dev))
		apply(dev, PORT_PIT + off, *(const uint8_t *)data);
}

static void speaker_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	if (first_access(dev))
		apply(dev, PORT_SPEAKER, *(const uint8_t *)data);
}

/* Nothing counts yet, and the output of channel 2 is low. */
static void first_read(void *dev, uint64_t off, void *data, unsigned len)
{
	memset(data, 0, len);
	first_access(dev);
}

static const struct bus_ops pit_ops = {first_read, pit_write};
static const struct bus_ops speaker_ops = {first_read, speaker_write};

int pit_create(struct pit **out, const struct kvm *kvm, struct bus *pio)
{
	struct pit *p = calloc(1, sizeof(*p));
	const struct bus_range counters = {
		.base = PORT_PIT, .size = 4, .ops = &pit_ops, .dev = p, .name = "timer"};
	const struct bus_range speaker = {
		.base = PORT_SPEAKER, .size = 1, .ops = &speaker_ops, .dev = p, .name = "speaker"};
	int rc;

	if (!p)
		return fail(ENOMEM, "timer: out of memory");
	p->kvm = kvm;
	pthread_mutex_init(&p->lock, NULL);
	rc = bus_add(pio, &counters);
	if (!rc)
		rc = bus_add(pio, &speaker);
	if (rc) {
		pit_destroy(p);
		return rc;
	}
	*out = p;
	return 0;
}

void pit_destroy(struct pit *p)
{
	if (!p)
		return;
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void pit_reset(struct pit *p)
{
	struct kvm_pit_state2 zero = {0};

	if (p->made && ioctl(p->kvm->vm, KVM_SET_PIT2, &zero) < 0)
		log_warn("resetting the timer: %s", strerror(errno));
}

void pit_save(struct pit *p, struct stream_out *s)
{
	struct kvm_pit_state2 state = {0};

	if (p->made && ioctl(p->kvm->vm, KVM_GET_PIT2, &state) < 0)
		s->err = failno(errno, "saving the timer");
	stream_begin(s, "pit", 1);
	stream_put_u8(s, p->made);
	stream_put(s, &state, sizeof(state));
	stream_end(s);
}

int pit_load(struct pit *p, struct stream_in *s)
{
	struct kvm_pit_state2 state;
	bool made;
	int rc = stream_open(s, "pit", 1);

	if (rc < 0)
		return rc;
	made = stream_get_u8(s);
	stream_get(s, &state, sizeof(state));
	rc = stream_close(s);
	if (!rc && !made)
		pit_reset(p);
	if (rc || !made)
		return rc;
	rc = make(p);
	if (!rc && ioctl(p->kvm->vm, KVM_SET_PIT2, &state) < 0)
		rc = failno(errno, "loading the timer");
	return rc;
}
