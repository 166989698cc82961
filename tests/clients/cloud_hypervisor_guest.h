/* What cloud_hypervisor.c and its guest both know. */
#ifndef KVMSHIM_TESTS_CLIENTS_CLOUD_HYPERVISOR_GUEST_H
#define KVMSHIM_TESTS_CLIENTS_CLOUD_HYPERVISOR_GUEST_H

#define BASE 0x100000
#define START_INFO_MAGIC 0x336ec578

/* Guest-physical words that both sides use. */
#define COUNTER 0x2000	 /* counts up while the guest waits for GO */
#define GO 0x2008
#define REQUEST 0x2010	 /* to the device, which sets the reply to one more */
#define REPLY 0x2014
#define INTERRUPTS 0x2018 /* of the device, by its MSI */
#define DEADLINES 0x201c /* of the TSC-deadline timer */
#define SIGNALLED 0x2020 /* by KVM_SIGNAL_MSI */
#define LEVELS 0x2024	 /* of the level-triggered line */
#define NMIS 0x2028
#define PLUGGED 0x10000000 /* memory that comes while the guest runs */
#define PLUGGED_VALUE 0x51e9
#define ROM 0x20000000	 /* read-only */
#define ROM_VALUE 0x0a0b0c0d

#define DEVICE 0xe8000000
#define DEVICE_NOTIFY_ANY 0x10
#define DEVICE_NOTIFY_32 0x20
#define DEVICE_NOTIFY_64 0x30
#define DEVICE_LINE 0x40	/* a write lowers the level-triggered line */
#define IOAPIC 0xfec00000
#define NOTIFY_64_VALUE 0x1122334455667788
#define NOTIFY_64_OTHER 0x1122334455667789
#define NOTIFY_32_VALUE 7
#define LINE_GSI 4
#define DEVICE_GSI 24

#define MSI_VECTOR 0x41
#define SECOND_MSI_VECTOR 0x42
#define SIGNAL_VECTOR 0x43
#define LEVEL_VECTOR 0x44
#define TIMER_VECTOR 0x45

#define DEBUG_PORT 0x80
#define RESET_PORT 0x3c0

#define STEP_DEVICE 1
#define STEP_SIGNAL 2
#define STEP_LEVEL 3
#define STEP_NMI 4
#define STEP_PLUG 5

#define ROUNDS 50

#ifndef __ASSEMBLER__
#include "guest.h"

GUEST(cloud_hypervisor_guest);
#endif

#endif
