// SPDX-License-Identifier: MIT
// The least that a monitor must do: a VM, 128 MiB, one vCPU whose first instruction writes a port.
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define MEMORY (128u << 20)

static int check(int rc, const char *what)
{
	if (rc < 0)
		err(1, "%s", what);
	return rc;
}

int main(void)
{
	static const uint8_t code[] = {0xe6, 0x80}; /* out %al, $0x80 */
	int dev = check(open("/dev/kvm", O_RDWR), "/dev/kvm");
	int vm = check(ioctl(dev, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
	uint8_t *ram = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct kvm_userspace_memory_region slot = {
		.memory_size = MEMORY, .userspace_addr = (uintptr_t)ram};
	struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};
	struct kvm_sregs sregs;
	struct kvm_run *run;
	int cpu;

	check(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
	check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");
	memcpy(ram + 0x1000, code, sizeof(code));
	cpu = check(ioctl(vm, KVM_CREATE_VCPU, 0), "KVM_CREATE_VCPU");
	run = mmap(NULL, (size_t)check(ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 0), "size"),
		PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	check(ioctl(cpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
	sregs.cs.base = sregs.cs.selector = 0;
	check(ioctl(cpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
	check(ioctl(cpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
	check(ioctl(cpu, KVM_RUN, 0), "KVM_RUN");
	return run->exit_reason == KVM_EXIT_IO ? 0 : 1;
}
