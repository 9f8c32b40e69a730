// SPDX-License-Identifier: MIT
// The keyboard controller with nothing connected to it.
//
// ACPI declares it absent, so that Linux does not look for it. It answers nevertheless: for the
// reset pulse (reboot=k, memtest86+, firmware), and for systems that probe the ports without asking
// ACPI. The tests of both interfaces answer "clock line stuck low", the loop-back test of the
// mouse's comes out at the keyboard's side: drivers then give up at once, where silence costs
// half a second for each command.
#include "hw/i8042.h"

#include "base/log.h"
#include "base/stream.h"
#include "hw/bus.h"
#include "hw/layout.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define STATUS_OUTPUT_FULL 0x01u
#define STATUS_SYSTEM 0x04u  /* the self test has passed */
#define STATUS_COMMAND 0x08u /* the last byte written was a command */
#define STATUS_UNLOCKED 0x10u

#define CMD_READ_CONFIG 0x20u
#define CMD_WRITE_CONFIG 0x60u
#define CMD_DISABLE_AUX 0xa7u
#define CMD_ENABLE_AUX 0xa8u
#define CMD_TEST_AUX 0xa9u
#define CMD_SELF_TEST 0xaau
#define CMD_TEST_KBD 0xabu
#define CMD_DISABLE_KBD 0xadu
#define CMD_ENABLE_KBD 0xaeu
#define CMD_READ_OUTPUT 0xd0u
#define CMD_WRITE_OUTPUT 0xd1u
#define CMD_WRITE_KBD_BUFFER 0xd2u
#define CMD_WRITE_AUX_BUFFER 0xd3u
#define CMD_WRITE_AUX 0xd4u
#define CMD_PULSE 0xf0u /* and up: bits 3 to 0 low pulse the lines of the output port */

#define CONFIG_KBD_OFF 0x10u
#define CONFIG_AUX_OFF 0x20u
#define CONFIG_INITIAL (STATUS_SYSTEM | CONFIG_KBD_OFF | CONFIG_AUX_OFF)

#define OUTPUT_NOT_RESET 0x01u /* the CPU runs while this is high */
#define OUTPUT_A20 0x02u       /* always on */

#define SELF_TEST_PASSED 0x55u
#define CLOCK_STUCK_LOW 0x01u

struct i8042 {
	struct i8042_config cfg;
	pthread_mutex_t lock; /* guards what follows */
	uint8_t status, config, output;
	uint8_t command; /* whose data byte comes next; 0: none */
};

static void answer(struct i8042 *k, uint8_t v)
{
	k->output = v;
	k->status |= STATUS_OUTPUT_FULL;
}

/* True when the guest pulls the reset line. */
static bool command(struct i8042 *k, uint8_t cmd)
{
	k->status |= STATUS_COMMAND;
	k->command = 0;
	switch (cmd) {
	case CMD_READ_CONFIG:
		answer(k, k->config);
		break;
	case CMD_WRITE_CONFIG:
	case CMD_WRITE_OUTPUT:
	case CMD_WRITE_KBD_BUFFER:
	case CMD_WRITE_AUX_BUFFER:
	case CMD_WRITE_AUX:
		k->command = cmd;
		break;
	case CMD_SELF_TEST:
		k->config |= STATUS_SYSTEM;
		k->status |= STATUS_SYSTEM;
		answer(k, SELF_TEST_PASSED);
		break;
	case CMD_TEST_AUX:
	case CMD_TEST_KBD:
		answer(k, CLOCK_STUCK_LOW);
		break;
	case CMD_READ_OUTPUT:
		answer(k, OUTPUT_NOT_RESET | OUTPUT_A20);
		break;
	case CMD_DISABLE_AUX:
		k->config |= CONFIG_AUX_OFF;
		break;
	case CMD_ENABLE_AUX:
		k->config &= (uint8_t)~CONFIG_AUX_OFF;
		break;
	case CMD_DISABLE_KBD:
		k->config |= CONFIG_KBD_OFF;
		break;
	case CMD_ENABLE_KBD:
		k->config &= (uint8_t)~CONFIG_KBD_OFF;
		break;
	default:
		return cmd >= CMD_PULSE && !(cmd & OUTPUT_NOT_RESET);
	}
	return false;
}

/* A byte for a command; without one it is for the keyboard, where nobody listens. */
static bool data(struct i8042 *k, uint8_t v)
{
	uint8_t cmd = k->command;

	k->status &= (uint8_t)~STATUS_COMMAND;
	k->command = 0;
	switch (cmd) {
	case CMD_WRITE_CONFIG:
		k->config = v;
		break;
	case CMD_WRITE_KBD_BUFFER:
	case CMD_WRITE_AUX_BUFFER:
		answer(k, v);
		break;
	case CMD_WRITE_OUTPUT:
		return !(v & OUTPUT_NOT_RESET);
	}
	return false;
}

static void data_read(void *dev, uint64_t off, void *buf, unsigned len)
{
	struct i8042 *k = dev;

	pthread_mutex_lock(&k->lock);
	*(uint8_t *)buf = k->output;
	k->status &= (uint8_t)~STATUS_OUTPUT_FULL;
	pthread_mutex_unlock(&k->lock);
}

static void status_read(void *dev, uint64_t off, void *buf, unsigned len)
{
	struct i8042 *k = dev;

	pthread_mutex_lock(&k->lock);
	*(uint8_t *)buf = k->status;
	pthread_mutex_unlock(&k->lock);
}

static void take(struct i8042 *k, uint8_t v, bool (*to)(struct i8042 *k, uint8_t v))
{
	bool reset;

	pthread_mutex_lock(&k->lock);
	reset = to(k, v);
	pthread_mutex_unlock(&k->lock);
	if (reset)
		k->cfg.reset(k->cfg.arg);
}

static void data_write(void *dev, uint64_t off, const void *buf, unsigned len)
{
	take(dev, *(const uint8_t *)buf, data);
}

static void command_write(void *dev, uint64_t off, const void *buf, unsigned len)
{
	take(dev, *(const uint8_t *)buf, command);
}

static const struct bus_ops data_ops = {.read = data_read, .write = data_write};
static const struct bus_ops command_ops = {.read = status_read, .write = command_write};

int i8042_create(struct i8042 **out, const struct i8042_config *cfg)
{
	struct i8042 *k = calloc(1, sizeof(*k));
	struct bus_range ports[] = {
		{PORT_I8042_DATA, 1, &data_ops, k, "keyboard controller data"},
		{PORT_I8042_CMD, 1, &command_ops, k, "keyboard controller command"},
	};
	int rc;

	if (!k)
		return fail(ENOMEM, "keyboard controller: out of memory");
	k->cfg = *cfg;
	pthread_mutex_init(&k->lock, NULL);
	i8042_reset(k);
	rc = bus_add(cfg->pio, &ports[0]);
	if (!rc) {
		rc = bus_add(cfg->pio, &ports[1]);
		if (rc)
			bus_del(cfg->pio, PORT_I8042_DATA);
	}
	if (rc) {
		pthread_mutex_destroy(&k->lock);
		free(k);
		return rc;
	}
	*out = k;
	return 0;
}

void i8042_destroy(struct i8042 *k)
{
	if (!k)
		return;
	bus_del(k->cfg.pio, PORT_I8042_DATA);
	bus_del(k->cfg.pio, PORT_I8042_CMD);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

void i8042_reset(struct i8042 *k)
{
	k->status = STATUS_SYSTEM | STATUS_UNLOCKED;
	k->config = CONFIG_INITIAL;
	k->output = 0;
	k->command = 0;
}

void i8042_save(struct i8042 *k, struct stream_out *out)
{
	stream_begin(out, "i8042", 1);
	stream_put_u8(out, k->status);
	stream_put_u8(out, k->config);
	stream_put_u8(out, k->output);
	stream_put_u8(out, k->command);
	stream_end(out);
}

int i8042_load(struct i8042 *k, struct stream_in *in)
{
	int rc = stream_open(in, "i8042", 1);

	if (rc < 0)
		return rc;
	k->status = stream_get_u8(in);
	k->config = stream_get_u8(in);
	k->output = stream_get_u8(in);
	k->command = stream_get_u8(in);
	return stream_close(in);
}
