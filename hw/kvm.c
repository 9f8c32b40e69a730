// SPDX-License-Identifier: MIT
// The VM descriptor, its in-kernel interrupt controllers and clock.
#include "hw/kvm.h"

#include "base/log.h"
#include "base/stream.h"
#include "hw/layout.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const struct {
	unsigned cap;
	const char *name;
} needed[] = {
	{KVM_CAP_IRQCHIP, "in-kernel interrupt controllers"},
	{KVM_CAP_USER_MEMORY, "memory slots"},
	{KVM_CAP_EXT_CPUID, "CPUID"},
	{KVM_CAP_MP_STATE, "multiprocessor state"},
	{KVM_CAP_PIT2, "the timer"},
	{KVM_CAP_IRQFD, "irqfd"},
	{KVM_CAP_IOEVENTFD, "ioeventfd"},
	{KVM_CAP_ADJUST_CLOCK, "the clock"},
	{KVM_CAP_VCPU_EVENTS, "vCPU events"},
	{KVM_CAP_XSAVE, "XSAVE"},
	{KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
};

static int check_host(struct kvm *k)
{
	int version = ioctl(k->dev, KVM_GET_API_VERSION, 0);
	int n;

	if (version < 0)
		return failno(errno, "/dev/kvm: not a KVM device");
	if (version != KVM_API_VERSION)
		return fail(ENOTSUP, "/dev/kvm: API version %d, need %d", version, KVM_API_VERSION);
	for (unsigned i = 0; i < ARRAY_SIZE(needed); i++)
		if (ioctl(k->dev, KVM_CHECK_EXTENSION, needed[i].cap) <= 0)
			return fail(ENOTSUP, "/dev/kvm: this host's KVM lacks %s", needed[i].name);
	n = ioctl(k->dev, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (n < (int)sizeof(struct kvm_run))
		return fail(ENOTSUP, "/dev/kvm: vCPU area of %d bytes", n);
	k->run_size = (size_t)n;
	n = ioctl(k->dev, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	k->max_vcpus = n > 0 ? (uint32_t)n : 4; /* Documentation/virt/kvm/api.rst, 4.7 */
	k->tsc_deadline = ioctl(k->dev, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	return 0;
}

static int read_cpuid(struct kvm *k)
{
	/* Not zeroed: few of the entries are used, and none of the pages of the others. */
	k->cpuid = malloc(sizeof(*k->cpuid) + KVM_CPUID_MAX * sizeof(k->cpuid->entries[0]));
	if (!k->cpuid)
		return fail(ENOMEM, "no memory for CPUID");
	*k->cpuid = (struct kvm_cpuid2){.nent = KVM_CPUID_MAX};
	if (ioctl(k->dev, KVM_GET_SUPPORTED_CPUID, k->cpuid) < 0)
		return failno(errno, "KVM_GET_SUPPORTED_CPUID");
	return 0;
}

/* A pending signal makes the kernel give up with EINTR. */
static int create_vm(int dev)
{
	int fd;

	do
		fd = ioctl(dev, KVM_CREATE_VM, 0);
	while (fd < 0 && errno == EINTR);
	return fd;
}

static int setup_vm(struct kvm *k)
{
	uint64_t identity = LAYOUT_IDENTITY_MAP;

	k->vm = create_vm(k->dev);
	if (k->vm < 0)
		return failno(errno, "KVM_CREATE_VM");
	if (ioctl(k->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0)
		return failno(errno, "KVM_SET_IDENTITY_MAP_ADDR");
	if (ioctl(k->vm, KVM_SET_TSS_ADDR, (unsigned long)LAYOUT_TSS) < 0)
		return failno(errno, "KVM_SET_TSS_ADDR");
	if (ioctl(k->vm, KVM_CREATE_IRQCHIP, 0) < 0)
		return failno(errno, "KVM_CREATE_IRQCHIP");
	return 0;
}

int kvm_create(struct kvm *k, int dev)
{
	int rc;

	*k = (struct kvm){.dev = dev, .vm = -1, .route_lock = PTHREAD_MUTEX_INITIALIZER};
	rc = check_host(k);
	if (!rc)
		rc = setup_vm(k);
	if (!rc)
		rc = read_cpuid(k);
	if (rc)
		kvm_finish(k);
	return rc;
}

void kvm_finish(struct kvm *k)
{
	free(k->cpuid);
	free(k->routes);
	if (k->vm >= 0)
		close(k->vm);
	if (k->dev >= 0)
		close(k->dev);
	*k = (struct kvm){.dev = -1, .vm = -1};
}

static int ioeventfd(const struct kvm *k, const struct kvm_ioeventfd *arg)
{
	if (ioctl(k->vm, KVM_IOEVENTFD, arg) < 0)
		return failno(errno, "ioeventfd at 0x%llx", (unsigned long long)arg->addr);
	return 0;
}

int kvm_ioeventfd(const struct kvm *k, int fd, uint64_t addr, uint32_t value, bool add)
{
	const struct kvm_ioeventfd arg = {
		.datamatch = value,
		.addr = addr,
		.len = 4,
		.fd = fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH | (add ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	return ioeventfd(k, &arg);
}

int kvm_ioeventfd_any(const struct kvm *k, int fd, uint64_t addr, bool add)
{
	const struct kvm_ioeventfd arg = {
		.addr = addr,
		.fd = fd,
		.flags = add ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN,
	};

	return ioeventfd(k, &arg);
}

/* Two PICs and the IOAPIC. */
#define IRQCHIPS 3

int kvm_save(const struct kvm *k, struct stream_out *s)
{
	struct kvm_clock_data clock;

	stream_begin(s, "kvm", 1);
	for (uint32_t i = 0; i < IRQCHIPS; i++) {
		struct kvm_irqchip chip = {.chip_id = i};

		if (ioctl(k->vm, KVM_GET_IRQCHIP, &chip) < 0)
			return failno(errno, "saving interrupt controller %u", i);
		stream_put(s, &chip.chip, sizeof(chip.chip));
	}
	if (ioctl(k->vm, KVM_GET_CLOCK, &clock) < 0)
		return failno(errno, "saving the clock");
	stream_put_u64(s, clock.clock);
	stream_end(s);
	return s->err;
}

static int load_chips(const struct kvm *k, struct stream_in *s)
{
	for (uint32_t i = 0; i < IRQCHIPS; i++) {
		struct kvm_irqchip chip = {.chip_id = i};

		stream_get(s, &chip.chip, sizeof(chip.chip));
		if (!s->err && ioctl(k->vm, KVM_SET_IRQCHIP, &chip) < 0)
			return failno(errno, "loading interrupt controller %u", i);
	}
	return s->err;
}

int kvm_load(const struct kvm *k, struct stream_in *s)
{
	struct kvm_clock_data clock = {0};
	int rc = stream_open(s, "kvm", 1);

	if (rc < 0)
		return rc;
	rc = load_chips(k, s);
	if (rc)
		return rc;
	clock.clock = stream_get_u64(s);
	rc = stream_close(s);
	if (rc)
		return rc;
	if (ioctl(k->vm, KVM_SET_CLOCK, &clock) < 0)
		return failno(errno, "loading the clock");
	return 0;
}
