// SPDX-License-Identifier: MIT
// Where things are in the guest's physical memory, its ports and its interrupt lines.
#ifndef HW_LAYOUT_H
#define HW_LAYOUT_H

#include "base/util.h"

/* Memory. RAM is [0, HOLE_START) and, what does not fit, from HOLE_END up. */
#define LAYOUT_HOLE_START GIB(3)
#define LAYOUT_HOLE_END GIB(4)

/* Low memory, as loaders use it. All of it is RAM. */
#define LAYOUT_GDT 0x500u            /* boot GDT */
#define LAYOUT_PVH_INFO 0x6000u      /* hvm_start_info and what it points to, one page */
#define LAYOUT_ZERO_PAGE 0x7000u     /* boot_params */
#define LAYOUT_PAGE_TABLES 0x9000u   /* identity map of the first 4 GiB, six pages */
#define LAYOUT_CMDLINE 0x20000u      /* up to 64 KiB */
#define LAYOUT_EBDA 0x9fc00u         /* end of conventional memory */
#define LAYOUT_ACPI 0xe0000u         /* RSDP first, then the tables; reserved in the memory map */
#define LAYOUT_RESET_VECTOR 0xffff0u /* f000:fff0, to which "restart the BIOS" jumps */
#define LAYOUT_ACPI_END 0x100000u
#define LAYOUT_HIGH_RAM 0x100000u /* kernels go from here up */

/* The hole below 4 GiB. */
#define LAYOUT_PCI_WINDOW 0xc0000000u /* what BARs may be put into */
#define LAYOUT_PCI_WINDOW_SIZE 0x10000000u
#define LAYOUT_VIRTIO_MMIO 0xd0000000u /* one page a device */
#define LAYOUT_VIRTIO_MMIO_STRIDE 0x1000u
#define LAYOUT_VIRTIO_MMIO_MAX 32u
#define LAYOUT_PCI_ECAM 0xe0000000u /* configuration space, 1 MiB a bus */
#define LAYOUT_PCI_BUS_SHIFT 20
#define LAYOUT_PCI_ECAM_SIZE 0x1000000u /* what is kept for it */
#define LAYOUT_IOAPIC 0xfec00000u
#define LAYOUT_LAPIC 0xfee00000u
#define LAYOUT_IDENTITY_MAP 0xfeffc000u /* for KVM on hosts without unrestricted guests */
#define LAYOUT_TSS 0xfeffd000u

/* Ports. */
#define PORT_PIT 0x40u /* 4 ports, the last of them for control */
#define PORT_PIT_CONTROL 0x43u
#define PORT_SPEAKER 0x61u
#define PORT_COM1 0x3f8u /* 8 ports */
#define PORT_RTC 0x70u   /* 2 ports */
#define PORT_I8042_DATA 0x60u
#define PORT_I8042_CMD 0x64u
#define PORT_PVPANIC 0x505u
#define PORT_SLEEP_CONTROL 0x600u /* ACPI 6.4, 4.8.3.7 */
#define PORT_SLEEP_STATUS 0x601u
#define PORT_RESET 0x602u
#define PORT_PCI_ADDRESS 0xcf8u /* 4 ports, and as many for the data */
#define PORT_PCI_DATA 0xcfcu
#define PORT_GED 0x604u       /* 4 ports: pending events of the generic event device, read clears */
#define PORT_PCI_EJECT 0x608u /* 4 ports: a bit each for the hot-plug slots */

/* Interrupt lines: global system interrupts, which are the IOAPIC's pins. All edge, active high. */
#define GSI_COM1 4u
#define GSI_RTC 8u
#define GSI_GED 9u
#define GSI_VIRTIO 16u /* and up, one a virtio-mmio device; the first 8 devices have their own */
#define GSI_COUNT 24u

#endif
