/*
 * What a VMM puts into a vCPU and its memory so that a kernel starts there at once, without
 * firmware: the 64-bit entry of the Linux boot protocol, PVH's 32-bit entry, and the registers that
 * go with both.
 */
#ifndef KVMSHIM_TESTS_CLIENTS_BOOT_H
#define KVMSHIM_TESTS_CLIENTS_BOOT_H

#include "vm.h"

/* Where the VMMs put things; the guests know the addresses too. */
#define BOOT_GDT 0x500
#define BOOT_IDT 0x520
#define BOOT_START_INFO 0x6000 /* struct hvm_start_info */
#define BOOT_ZERO_PAGE 0x7000
#define BOOT_STACK 0x8ff0
#define BOOT_PML4 0x9000
#define BOOT_KERNEL 0x100000

#define START_INFO_MAGIC 0x336ec578

/* The capabilities in `wanted`, `number` of them: each must be there. */
void boot_check_capabilities(int kvm, const int *wanted, unsigned number);

/* KVM_GET_SUPPORTED_CPUID, which must have the leaves that VMMs look for, to KVM_SET_CPUID2 with the
 * vCPU's APIC ID put in, and the TSC-deadline timer, which KVM has beside the list. */
void boot_set_cpuid(int kvm, const struct vcpu *vcpu, unsigned apic_id);

/* The MSRs that a kernel expects set, all taken at once. */
void boot_set_msrs(const struct vcpu *vcpu);

/* The x87 and SSE control words of a reset by INIT. */
void boot_set_fpu(const struct vcpu *vcpu);

/* LINT0 passes the 8259's interrupts, LINT1 is NMI. */
void boot_set_lapic(const struct vcpu *vcpu);

/* 64-bit mode with the first GiB mapped one to one, at `entry`; RSI is the zero page. */
void boot_enter_long_mode(const struct vcpu *vcpu, uint8_t *ram, uint64_t entry);

/* Protected mode without paging, at `entry`; EBX is the start info. */
void boot_enter_pvh(const struct vcpu *vcpu, uint8_t *ram, uint64_t entry);

#endif
