// SPDX-License-Identifier: MIT
// The clock and its battery-backed bytes: an MC146818 at PORT_RTC, in UTC, with a century byte.
#ifndef HW_RTC_H
#define HW_RTC_H

#include <stdint.h>

struct bus;
struct irq;
struct loop;
struct rtc;
struct stream_in;
struct stream_out;

#define RTC_REG_CENTURY 0x32u /* what the FADT says */

struct rtc_config {
	struct bus *pio;       /* gets the ports; outlives the device */
	const struct irq *irq; /* GSI_RTC; outlives the device */
	struct loop *loop;     /* waits for alarms and ticks; outlives the device */

	/* Nanoseconds since 1970 in UTC, from any thread; NULL: the host's CLOCK_REALTIME. */
	int64_t (*clock_ns)(void *arg);
	void *arg;
};

/* `cfg` is copied. The guest may set the clock; the difference to the host's is kept. 0 or -errno.
 */
int rtc_create(struct rtc **out, const struct rtc_config *cfg);

/* NULL is fine. */
void rtc_destroy(struct rtc *r);

/* Interrupts off; time, alarm and memory stay, as the battery keeps them. vCPUs are parked, as
 * below. */
void rtc_reset(struct rtc *r);
void rtc_save(struct rtc *r, struct stream_out *out);
int rtc_load(struct rtc *r, struct stream_in *in);

#endif
