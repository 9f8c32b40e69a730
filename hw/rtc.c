// SPDX-License-Identifier: MIT
// An MC146818 that computes instead of counting.
//
// The time is the host's plus a difference; registers are filled in when they are looked at. So are
// the three flags (tick, alarm, update ended): every access first asks what has happened between
// the last look and now. A timer on the host's clock runs only while an interrupt is enabled and
// none is pending. While register B's SET bit is on, the guest is writing the time and the
// registers stand still; when it goes off, what they hold becomes the difference.
#include "hw/rtc.h"

#include "base/log.h"
#include "base/loop.h"
#include "base/stream.h"
#include "base/util.h"
#include "hw/bus.h"
#include "hw/irq.h"
#include "hw/layout.h"
#include "hw/rtc_time.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SEC ((int64_t)NSEC_PER_SEC)

#define A_UPDATING 0x80u
#define A_DIVIDER 0x70u
#define A_DIVIDER_RESET 0x60u /* 0x60 and 0x70 hold the divider chain */
#define A_RATE 0x0fu
#define A_INITIAL 0x26u /* 32.768 kHz, ticks of 1024 Hz */

#define B_SET 0x80u
#define B_TICK 0x40u
#define B_ALARM 0x20u
#define B_UPDATE 0x10u
#define B_ENABLES (B_TICK | B_ALARM | B_UPDATE)
#define B_SQUARE_WAVE 0x08u

#define C_PENDING 0x80u /* the flags are in the places of their enables in B */

#define D_VALID 0x80u

#define UPDATE_WARNING 244000 /* ns before an update in which A says that it comes */

_Static_assert((int)RTC_REG_CENTURY == (int)RTC_CENTURY, "ACPI names the century's register");

struct rtc {
	struct rtc_config cfg;
	struct watch timer;
	int timer_fd;

	pthread_mutex_t lock; /* guards what follows */
	uint8_t index;
	uint8_t ram[RTC_RAM_SIZE];
	int64_t offset; /* the guest's time less the host's, ns */
	int64_t looked; /* the guest's time up to which the flags are right, ns */
	int64_t armed;  /* the host's time at which the timer fires, ns; 0: it does not */
};

static int64_t host_clock(void *arg)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * SEC + ts.tv_nsec;
}

static int64_t guest_ns(const struct rtc *r)
{
	int64_t ns = r->cfg.clock_ns(r->cfg.arg) + r->offset;

	return MAX(ns, 0);
}

static bool is_set(const struct rtc *r)
{
	return r->ram[RTC_B] & B_SET;
}

/* ---- Ticks: 32768 a second, of which the rate picks every 2^n-th ---- */

static unsigned tick_shift(const struct rtc *r)
{
	unsigned rate = r->ram[RTC_A] & A_RATE;

	return rate <= 2 ? rate + 6 : rate - 1; /* rates 1 and 2 are those of 8 and 9 */
}

static bool ticks(const struct rtc *r)
{
	return (r->ram[RTC_A] & A_RATE) && (r->ram[RTC_A] & A_DIVIDER) < A_DIVIDER_RESET;
}

static int64_t tick_at(const struct rtc *r, int64_t ns)
{
	return ((ns / SEC) << 15 | (ns % SEC << 15) / SEC) >> tick_shift(r);
}

static int64_t tick_ns(const struct rtc *r, int64_t tick)
{
	int64_t t = tick << tick_shift(r);

	return (t >> 15) * SEC + ((t & 0x7fff) * SEC + 0x7fff) / 0x8000;
}

/* ---- Flags ---- */

/* Brings the flags up to `now` and gives the edge when an enabled one comes up. */
static void look(struct rtc *r, int64_t now)
{
	uint8_t *c = &r->ram[RTC_C], before = *c;
	int64_t then = MIN(r->looked, now); /* the host's clock may have been set back */

	if (ticks(r) && tick_at(r, now) > tick_at(r, then))
		*c |= B_TICK;
	if (!is_set(r) && now / SEC > then / SEC) {
		int64_t alarm = rtc_time_alarm(r->ram, then / SEC);

		*c |= B_UPDATE;
		if (alarm >= 0 && alarm <= now / SEC)
			*c |= B_ALARM;
	}
	r->looked = now;
	if (*c & r->ram[RTC_B] & B_ENABLES)
		*c |= C_PENDING;
	if (*c & ~before & C_PENDING)
		irq_raise(r->cfg.irq);
}

/* The guest's time of the next event that interrupts, or INT64_MAX. */
static int64_t next_event(const struct rtc *r)
{
	uint8_t enabled = r->ram[RTC_B] & B_ENABLES;
	int64_t next = INT64_MAX, alarm;

	if ((enabled & B_TICK) && ticks(r))
		next = tick_ns(r, tick_at(r, r->looked) + 1);
	if (is_set(r))
		return next;
	if (enabled & B_UPDATE)
		next = MIN(next, (r->looked / SEC + 1) * SEC);
	if (enabled & B_ALARM) {
		alarm = rtc_time_alarm(r->ram, r->looked / SEC);
		next = alarm < 0 ? next : MIN(next, alarm * SEC);
	}
	return next;
}

/* While an interrupt is pending nothing more can be told: reading C goes on from there. */
static void arm(struct rtc *r)
{
	bool quiet = (r->ram[RTC_C] & C_PENDING) || !(r->ram[RTC_B] & B_ENABLES);
	int64_t next = quiet ? INT64_MAX : next_event(r), at;
	struct itimerspec spec = {0};

	at = next == INT64_MAX ? 0 : MAX(next - r->offset, 1);
	if (at == r->armed)
		return;
	spec.it_value.tv_sec = at / SEC;
	spec.it_value.tv_nsec = at % SEC;
	timerfd_settime(r->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
	r->armed = at;
}

static void timer_fired(void *arg, uint32_t events)
{
	struct rtc *r = arg;
	uint64_t count;

	pthread_mutex_lock(&r->lock);
	if (read(r->timer_fd, &count, sizeof(count)) > 0) {
		r->armed = 0;
		look(r, guest_ns(r));
		arm(r);
	}
	pthread_mutex_unlock(&r->lock);
}

/* ---- Registers ---- */

static bool is_time(unsigned reg)
{
	return reg == RTC_SECONDS || reg == RTC_MINUTES || reg == RTC_HOURS || reg == RTC_CENTURY ||
	       (reg >= RTC_WEEKDAY && reg <= RTC_YEAR);
}

/* The guest's time becomes what the registers say; `fraction` of a second, ns, comes on top. */
static void set_time(struct rtc *r, int64_t now, int64_t fraction)
{
	int64_t want = rtc_time_get(r->ram) * SEC + fraction;

	r->offset += want - now;
	r->looked = want;
}

/* Out of reset the divider chain takes half a second to the first update. */
static void write_a(struct rtc *r, int64_t now, uint8_t v)
{
	bool was_held = (r->ram[RTC_A] & A_DIVIDER) >= A_DIVIDER_RESET;

	r->ram[RTC_A] = v & (uint8_t)~A_UPDATING;
	if (was_held && (v & A_DIVIDER) < A_DIVIDER_RESET) {
		r->offset += now / SEC * SEC + SEC / 2 - now;
		r->looked = now / SEC * SEC + SEC / 2;
	}
}

static void write_b(struct rtc *r, int64_t now, uint8_t v)
{
	uint8_t old = r->ram[RTC_B];

	if (!(old & B_SET) && (v & B_SET))
		rtc_time_put(r->ram, now / SEC);
	if (v & B_SET)
		v &= (uint8_t)~B_UPDATE;
	r->ram[RTC_B] = v;
	if ((old & B_SET) && !(v & B_SET))
		set_time(r, now, 0);
}

static uint8_t read_c(struct rtc *r)
{
	uint8_t v = r->ram[RTC_C];

	r->ram[RTC_C] = 0;
	return v;
}

static uint8_t reg_read(struct rtc *r, int64_t now)
{
	bool soon = !is_set(r) && now % SEC >= SEC - UPDATE_WARNING;

	if (is_time(r->index) && !is_set(r))
		rtc_time_put(r->ram, now / SEC);
	switch (r->index) {
	case RTC_A:
		return r->ram[RTC_A] | (soon ? A_UPDATING : 0);
	case RTC_C:
		return read_c(r);
	default:
		return r->ram[r->index];
	}
}

static void reg_write(struct rtc *r, int64_t now, uint8_t v)
{
	switch (r->index) {
	case RTC_A:
		write_a(r, now, v);
		return;
	case RTC_B:
		write_b(r, now, v);
		return;
	case RTC_C:
	case RTC_D:
		return;
	}
	if (!is_time(r->index) || is_set(r)) {
		r->ram[r->index] = v;
		return;
	}
	rtc_time_put(r->ram, now / SEC);
	r->ram[r->index] = v;
	set_time(r, now, now % SEC);
}

static uint8_t port_read(struct rtc *r, uint64_t port)
{
	int64_t now;
	uint8_t v;

	if (port == 0)
		return 0xff; /* the index cannot be read back */
	now = guest_ns(r);
	look(r, now);
	v = reg_read(r, now);
	arm(r);
	return v;
}

static void port_write(struct rtc *r, uint64_t port, uint8_t v)
{
	int64_t now;

	if (port == 0) {
		r->index = v & 0x7f; /* bit 7 masks the NMI elsewhere */
		return;
	}
	now = guest_ns(r);
	look(r, now);
	reg_write(r, now, v);
	look(r, guest_ns(r)); /* an enable may have met a flag that is up already */
	arm(r);
}

static void rtc_read(void *dev, uint64_t off, void *data, unsigned len)
{
	struct rtc *r = dev;
	uint8_t *p = data;

	pthread_mutex_lock(&r->lock);
	for (unsigned i = 0; i < len; i++)
		p[i] = port_read(r, off + i);
	pthread_mutex_unlock(&r->lock);
}

static void rtc_write(void *dev, uint64_t off, const void *data, unsigned len)
{
	struct rtc *r = dev;
	const uint8_t *p = data;

	pthread_mutex_lock(&r->lock);
	for (unsigned i = 0; i < len; i++)
		port_write(r, off + i, p[i]);
	pthread_mutex_unlock(&r->lock);
}

static const struct bus_ops rtc_ops = {.read = rtc_read, .write = rtc_write};

/* ---- Life ---- */

static int open_timer(struct rtc *r)
{
	r->timer_fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	if (r->timer_fd < 0)
		return failno(errno, "clock: timer");
	return loop_add(r->cfg.loop, &r->timer, r->timer_fd, EPOLLIN);
}

int rtc_create(struct rtc **out, const struct rtc_config *cfg)
{
	struct rtc *r = calloc(1, sizeof(*r));
	struct bus_range ports = {PORT_RTC, 2, &rtc_ops, r, "clock"};
	int rc;

	if (!r)
		return fail(ENOMEM, "clock: out of memory");
	r->cfg = *cfg;
	if (!r->cfg.clock_ns)
		r->cfg.clock_ns = host_clock;
	r->timer = WATCH_INIT(timer_fired, r);
	pthread_mutex_init(&r->lock, NULL);
	r->ram[RTC_A] = A_INITIAL;
	r->ram[RTC_B] = RTC_B_24H;
	r->ram[RTC_D] = D_VALID;
	r->looked = guest_ns(r);
	rc = open_timer(r);
	rc = rc ? rc : bus_add(cfg->pio, &ports);
	if (rc) {
		r->cfg.pio = NULL;
		rtc_destroy(r);
		return rc;
	}
	*out = r;
	return 0;
}

void rtc_destroy(struct rtc *r)
{
	if (!r)
		return;
	if (r->cfg.pio)
		bus_del(r->cfg.pio, PORT_RTC);
	loop_del(r->cfg.loop, &r->timer);
	if (r->timer_fd >= 0)
		close(r->timer_fd);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

void rtc_reset(struct rtc *r)
{
	pthread_mutex_lock(&r->lock);
	r->index = 0;
	r->ram[RTC_B] &= (uint8_t) ~(B_ENABLES | B_SQUARE_WAVE);
	r->ram[RTC_C] = 0;
	arm(r);
	pthread_mutex_unlock(&r->lock);
}

void rtc_save(struct rtc *r, struct stream_out *out)
{
	pthread_mutex_lock(&r->lock);
	stream_begin(out, "rtc", 1);
	stream_put_u8(out, r->index);
	stream_put(out, r->ram, sizeof(r->ram));
	stream_put_u64(out, (uint64_t)r->offset);
	stream_put_u64(out, (uint64_t)r->looked);
	stream_end(out);
	pthread_mutex_unlock(&r->lock);
}

/* Far enough for any date that the guest can set, near enough to be added to the host's time. */
static bool plausible(int64_t ns)
{
	return ns > -7000000000 * SEC && ns < 7000000000 * SEC;
}

static void load_fields(struct rtc *r, struct stream_in *in)
{
	r->index = stream_get_u8(in) & 0x7f;
	stream_get(in, r->ram, sizeof(r->ram));
	r->offset = (int64_t)stream_get_u64(in);
	r->looked = (int64_t)stream_get_u64(in);
	if (plausible(r->offset) && plausible(r->looked))
		return;
	r->offset = 0;
	r->looked = guest_ns(r);
	stream_bad(in, "time");
}

int rtc_load(struct rtc *r, struct stream_in *in)
{
	int rc = stream_open(in, "rtc", 1);

	if (rc < 0)
		return rc;
	pthread_mutex_lock(&r->lock);
	load_fields(r, in);
	rc = stream_close(in);
	if (!rc) {
		if (r->ram[RTC_C] & C_PENDING)
			irq_raise(r->cfg.irq);
		look(r, guest_ns(r));
		arm(r);
	}
	pthread_mutex_unlock(&r->lock);
	return rc;
}
