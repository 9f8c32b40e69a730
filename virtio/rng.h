// SPDX-License-Identifier: MIT
// virtio-rng: entropy from the host's kernel (virtio 1.2, 5.4).
#ifndef VIRTIO_RNG_H
#define VIRTIO_RNG_H

struct virtio_device;

/* `name` is for messages, borrowed. 0 or -errno. */
int rng_create(struct virtio_device **out, const char *name);

/* Its transport must be gone. NULL is fine. */
void rng_destroy(struct virtio_device *dev);

#endif
