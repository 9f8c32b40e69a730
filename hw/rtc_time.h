// SPDX-License-Identifier: MIT
// Seconds since 1970 to the bytes of an MC146818's clock and back, in the format its register B
// asks for.
#ifndef HW_RTC_TIME_H
#define HW_RTC_TIME_H

#include <stdint.h>

enum {
	RTC_SECONDS,
	RTC_SECONDS_ALARM,
	RTC_MINUTES,
	RTC_MINUTES_ALARM,
	RTC_HOURS,
	RTC_HOURS_ALARM,
	RTC_WEEKDAY,
	RTC_DAY,
	RTC_MONTH,
	RTC_YEAR,
	RTC_A,
	RTC_B,
	RTC_C,
	RTC_D,
	RTC_CENTURY = 0x32,
	RTC_RAM_SIZE = 128,
};

#define RTC_B_24H 0x02u
#define RTC_B_BINARY 0x04u

/* Writes the time of day and the date, but not the alarm, into `ram`, by its register B. */
void rtc_time_put(uint8_t ram[RTC_RAM_SIZE], int64_t sec);

/* The reverse, from 1970 to 2150. What is no date (month 13) is taken as the nearest that is one.
 */
int64_t rtc_time_get(const uint8_t ram[RTC_RAM_SIZE]);

/* The first second after `sec` at which the alarm goes off, or -1: never. */
int64_t rtc_time_alarm(const uint8_t ram[RTC_RAM_SIZE], int64_t sec);

#endif
