// SPDX-License-Identifier: MIT
// The part of a virtio device that is the same in all: config space, and what a broken driver sets
// off.
#include "virtio/device.h"

#include "base/util.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

void virtio_device_init(struct virtio_device *dev)
{
	assert(dev->queue_count <= VIRTIO_QUEUES_MAX && dev->config_len <= VIRTIO_CONFIG_MAX);
	pthread_mutex_init(&dev->config_lock, NULL);
	for (unsigned i = 0; i < dev->queue_count; i++)
		dev->queues[i] = (struct queue){.index = (uint16_t)i};
}

void virtio_device_finish(struct virtio_device *dev)
{
	pthread_mutex_destroy(&dev->config_lock);
}

void virtio_config_set(struct virtio_device *dev, unsigned off, const void *data, unsigned len)
{
	assert(range_ok(off, len, dev->config_len));
	pthread_mutex_lock(&dev->config_lock);
	memcpy(dev->config + off, data, len);
	dev->config_generation++;
	pthread_mutex_unlock(&dev->config_lock);
	if (dev->host)
		dev->host->config_changed(dev->host->queue.arg);
}

void virtio_config_read(struct virtio_device *dev, unsigned off, void *data, unsigned len)
{
	memset(data, 0, len);
	if (off >= dev->config_len)
		return;
	pthread_mutex_lock(&dev->config_lock);
	memcpy(data, dev->config + off, MIN(len, dev->config_len - off));
	pthread_mutex_unlock(&dev->config_lock);
}

uint32_t virtio_config_generation(struct virtio_device *dev)
{
	uint32_t v;

	pthread_mutex_lock(&dev->config_lock);
	v = dev->config_generation;
	pthread_mutex_unlock(&dev->config_lock);
	return v;
}

void virtio_broken(struct virtio_device *dev, const char *fmt, ...)
{
	char why[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	for (unsigned i = 0; i < dev->queue_count; i++)
		queue_break(&dev->queues[i]);
	guest_error(&dev->log, dev->name, "%s; the device waits for a reset", why);
	dev->host->needs_reset(dev->host->queue.arg);
}

int virtio_lend(struct virtio_device *dev, unsigned count, struct queue_setup **setups)
{
	return dev->host->lend(dev->host->queue.arg, count, setups);
}

void virtio_unlend(struct virtio_device *dev)
{
	dev->host->unlend(dev->host->queue.arg);
}

void virtio_restart(struct virtio_device *dev)
{
	if (dev->host)
		dev->host->restart(dev->host->queue.arg);
}

void virtio_kick_again(struct virtio_device *dev, unsigned index)
{
	dev->host->kick_again(dev->host->queue.arg, index);
}
