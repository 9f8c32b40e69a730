// SPDX-License-Identifier: MIT
// What the files of the transports' common part share.
#ifndef VIRTIO_TRANSPORT_PRIV_H
#define VIRTIO_TRANSPORT_PRIV_H

#include "virtio/transport.h"

/* ---- transport_loop.c. Those with `arg` take a struct transport and are for loop_call. ---- */

/* Hands the ready queues to the device and starts it; it needs a reset where one is unusable. */
void transport_bring_up(void *arg);

/* Stops the device and takes the queues back. No-op where it is not started. */
void transport_take_down(void *arg);

/* As above, and forgets everything that the driver has set up. */
void transport_forget(void *arg);

/* Takes the device down for good. */
void transport_detach(void *arg);

/* Takes one queue, a struct transport_queue, away from a started device (virtio 1.2, 4.2.2.2). */
void transport_retire_queue(void *arg);

/* A queue as after a reset, with this doorbell. Runs while there is no driver. */
void transport_init_queue(struct transport *t, unsigned index, int kick);

/* Rings a doorbell. From any thread. */
void transport_ring(int fd);

/* ---- transport_kick.c ---- */

/* Kicks that speak for another way of serving a queue than it has, before it changes at first. */
#define TRANSPORT_PATIENCE 64u

/* Has the device look at a queue that is live, for a kick that was heard on the loop's thread. */
void transport_kicked(struct transport_queue *q);

/* What the device may call; queue.arg is to be the transport. */
extern const struct virtio_host transport_host;

#endif
