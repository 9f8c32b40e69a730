// SPDX-License-Identifier: MIT
// Seconds since 1970 to the bytes of an MC146818's clock and back.
//
// Not by gmtime_r and timegm: these read the time zone's files, which a jailed monitor cannot.
#include "hw/rtc_time.h"

#include "base/util.h"

#define DAY 86400
#define YEAR_MAX 2150 /* nanoseconds since 1970 stay well within 63 bits */
#define HOUR_PM 0x80u
#define ALARM_ANY 0xc0u /* and up: any value matches (MC146818, "alarm don't care") */

struct date {
	int year, month, day; /* month and day from 1 */
};

static bool is_leap(int y)
{
	return (y % 4 == 0 && y % 100) || y % 400 == 0;
}

static int month_days(int y, int m)
{
	static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return m == 2 && is_leap(y) ? 29 : days[m - 1];
}

/* Days from 1970-01-01 to the first of January of `y`, 1970 or later. */
static int64_t year_start(int y)
{
	int64_t p = y - 1;

	return 365 * (int64_t)(y - 1970) + (p / 4 - 492) - (p / 100 - 19) + (p / 400 - 4);
}

static struct date to_date(int64_t days)
{
	struct date d = {.year = 1970 + (int)(days / 366), .month = 1};

	while (year_start(d.year + 1) <= days)
		d.year++;
	days -= year_start(d.year);
	while (days >= month_days(d.year, d.month))
		days -= month_days(d.year, d.month++);
	d.day = 1 + (int)days;
	return d;
}

static int64_t to_days(struct date d)
{
	int64_t days = year_start(d.year) + d.day - 1;

	for (int m = 1; m < d.month; m++)
		days += month_days(d.year, m);
	return days;
}

static uint8_t encode(const uint8_t *ram, int v)
{
	return (uint8_t)(ram[RTC_B] & RTC_B_BINARY ? v : (v / 10) << 4 | v % 10);
}

static int decode(const uint8_t *ram, uint8_t v)
{
	return ram[RTC_B] & RTC_B_BINARY ? v : (v >> 4) * 10 + (v & 0x0f);
}

static uint8_t encode_hour(const uint8_t *ram, int hour)
{
	if (ram[RTC_B] & RTC_B_24H)
		return encode(ram, hour);
	return encode(ram, hour % 12 ? hour % 12 : 12) | (hour >= 12 ? HOUR_PM : 0);
}

static int decode_hour(const uint8_t *ram, uint8_t v)
{
	if (ram[RTC_B] & RTC_B_24H)
		return decode(ram, v);
	return decode(ram, v & (uint8_t)~HOUR_PM) % 12 + (v & HOUR_PM ? 12 : 0);
}

static int clamp(int v, int lo, int hi)
{
	return MAX(lo, MIN(v, hi));
}

void rtc_time_put(uint8_t ram[RTC_RAM_SIZE], int64_t sec)
{
	int64_t days;
	struct date d;

	sec = MAX(sec, 0);
	days = sec / DAY;
	d = to_date(days);
	ram[RTC_SECONDS] = encode(ram, (int)(sec % 60));
	ram[RTC_MINUTES] = encode(ram, (int)(sec / 60 % 60));
	ram[RTC_HOURS] = encode_hour(ram, (int)(sec / 3600 % 24));
	ram[RTC_WEEKDAY] = encode(ram, (int)((days + 4) % 7) + 1); /* 1970 began on a Thursday */
	ram[RTC_DAY] = encode(ram, d.day);
	ram[RTC_MONTH] = encode(ram, d.month);
	ram[RTC_YEAR] = encode(ram, d.year % 100);
	ram[RTC_CENTURY] = encode(ram, d.year / 100 % 100);
}

int64_t rtc_time_get(const uint8_t ram[RTC_RAM_SIZE])
{
	struct date d = {
		.year = decode(ram, ram[RTC_CENTURY]) * 100 + decode(ram, ram[RTC_YEAR]),
		.month = clamp(decode(ram, ram[RTC_MONTH]), 1, 12),
	};

	d.year = clamp(d.year, 1970, YEAR_MAX);
	d.day = clamp(decode(ram, ram[RTC_DAY]), 1, month_days(d.year, d.month));
	return to_days(d) * DAY + clamp(decode_hour(ram, ram[RTC_HOURS]), 0, 23) * 3600 +
	       clamp(decode(ram, ram[RTC_MINUTES]), 0, 59) * 60 +
	       clamp(decode(ram, ram[RTC_SECONDS]), 0, 59);
}

static bool matches(uint8_t alarm, int alarm_value, int64_t v)
{
	return alarm >= ALARM_ANY || alarm_value == v;
}

int64_t rtc_time_alarm(const uint8_t ram[RTC_RAM_SIZE], int64_t sec)
{
	uint8_t ah = ram[RTC_HOURS_ALARM], am = ram[RTC_MINUTES_ALARM], as = ram[RTC_SECONDS_ALARM];
	int h = decode_hour(ram, ah), m = decode(ram, am), s = decode(ram, as);
	int64_t limit = sec + DAY;

	for (sec++; sec <= limit;) {
		if (!matches(ah, h, sec / 3600 % 24))
			sec = (sec / 3600 + 1) * 3600;
		else if (!matches(am, m, sec / 60 % 60))
			sec = (sec / 60 + 1) * 60;
		else if (!matches(as, s, sec % 60))
			sec++;
		else
			return sec;
	}
	return -1;
}
