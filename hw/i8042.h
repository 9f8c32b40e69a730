// SPDX-License-Identifier: MIT
// The keyboard controller at PORT_I8042_DATA and PORT_I8042_CMD, without a keyboard or a mouse: it
// resets the machine, and whatever probes it is answered at once that nothing is connected.
#ifndef HW_I8042_H
#define HW_I8042_H

struct bus;
struct i8042;
struct stream_in;
struct stream_out;

struct i8042_config {
	struct bus *pio;          /* gets the ports; outlives the device */
	void (*reset)(void *arg); /* the guest pulled the reset line; on a vCPU's thread, nothing
				     locked */
	void *arg;
};

/* `cfg` is copied. 0 or -errno. */
int i8042_create(struct i8042 **out, const struct i8042_config *cfg);

/* NULL is fine. */
void i8042_destroy(struct i8042 *k);

/* vCPUs are parked for these. */
void i8042_reset(struct i8042 *k);
void i8042_save(struct i8042 *k, struct stream_out *out);
int i8042_load(struct i8042 *k, struct stream_in *in);

#endif
