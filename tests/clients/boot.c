#include "boot.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define MAX_CPUID_ENTRIES 256

/* Leaf 1, ECX. */
#define CPUID_TSC_DEADLINE (1u << 24)
#define CPUID_HYPERVISOR (1u << 31)

#define CR0_PE 0x1
#define CR0_PG 0x80000000
#define CR4_PAE 0x20
#define EFER_LME 0x100
#define EFER_LMA 0x400

#define PRESENT 0x1
#define WRITE 0x2
#define LARGE 0x80
#define LARGE_SIZE 0x200000ULL

/* Offsets of registers of the local APIC, and delivery modes. */
#define LVT_LINT0 0x350
#define LVT_LINT1 0x360
#define LVT_MODE_MASK 0x700
#define LVT_NMI 0x400
#define LVT_EXTINT 0x700

void boot_check_capabilities(int kvm, const int *wanted, unsigned number)
{
	for (unsigned i = 0; i < number; i++)
		CHECK(ioctl(kvm, KVM_CHECK_EXTENSION, wanted[i]) > 0);
}

static void check_leaves(const struct kvm_cpuid2 *cpuid)
{
	static const uint32_t wanted[] = { 0, 1, 7, 0xd, 0x80000000, 0x80000001, 0x80000002,
					   0x80000003, 0x80000004, 0x80000008 };
	for (unsigned i = 0; i < sizeof wanted / sizeof *wanted; i++) {
		unsigned found = 0;
		for (unsigned j = 0; j < cpuid->nent; j++)
			found += cpuid->entries[j].function == wanted[i];
		CHECK(found);
	}
}

void boot_set_cpuid(int kvm, const struct vcpu *vcpu, unsigned apic_id)
{
	struct kvm_cpuid2 *cpuid =
		calloc(1, sizeof *cpuid + MAX_CPUID_ENTRIES * sizeof *cpuid->entries);
	CHECK(cpuid);
	cpuid->nent = MAX_CPUID_ENTRIES;
	CHECK(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, cpuid) == 0);
	CHECK(cpuid->nent < MAX_CPUID_ENTRIES);
	check_leaves(cpuid);

	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *entry = &cpuid->entries[i];
		if (entry->function == 1) {
			entry->ebx = (entry->ebx & 0xffffff) | apic_id << 24;
			entry->ecx |= CPUID_TSC_DEADLINE | CPUID_HYPERVISOR;
		}
		if (entry->function == 0xb)
			entry->edx = apic_id;
	}
	CHECK(ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid) == 0);
	free(cpuid);
}

void boot_set_msrs(const struct vcpu *vcpu)
{
	static const struct kvm_msr_entry entries[] = {
		{ .index = 0x174 },	 /* SYSENTER_CS, _ESP, _EIP */
		{ .index = 0x175 },
		{ .index = 0x176 },
		{ .index = 0xc0000081 }, /* STAR, LSTAR, CSTAR, FMASK */
		{ .index = 0xc0000082 },
		{ .index = 0xc0000083 },
		{ .index = 0xc0000084 },
		{ .index = 0xc0000102 }, /* KERNEL_GS_BASE */
		{ .index = 0x10 },	 /* TSC */
		{ .index = 0x1a0, .data = 1 },	   /* MISC_ENABLE: fast strings */
		{ .index = 0x2ff, .data = 0x806 }, /* MTRR default: on, write-back */
	};
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[sizeof entries / sizeof *entries];
	} msrs = { .head.nmsrs = sizeof entries / sizeof *entries };
	memcpy(msrs.entries, entries, sizeof entries);
	CHECK(ioctl(vcpu->fd, KVM_SET_MSRS, &msrs) == (int)msrs.head.nmsrs);
}

void boot_set_fpu(const struct vcpu *vcpu)
{
	struct kvm_fpu fpu = { .fcw = 0x37f, .mxcsr = 0x1f80 };
	CHECK(ioctl(vcpu->fd, KVM_SET_FPU, &fpu) == 0);
}

static void set_mode(struct kvm_lapic_state *lapic, unsigned offset, uint32_t mode)
{
	uint32_t value;
	memcpy(&value, lapic->regs + offset, sizeof value);
	value = (value & ~LVT_MODE_MASK) | mode;
	memcpy(lapic->regs + offset, &value, sizeof value);
}

void boot_set_lapic(const struct vcpu *vcpu)
{
	struct kvm_lapic_state lapic;
	CHECK(ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic) == 0);
	set_mode(&lapic, LVT_LINT0, LVT_EXTINT);
	set_mode(&lapic, LVT_LINT1, LVT_NMI);
	CHECK(ioctl(vcpu->fd, KVM_SET_LAPIC, &lapic) == 0);
}

/* Both entries have flat segments in these places of the GDT. */
static void set_segments(struct kvm_sregs *sregs, uint8_t *ram, int is_long)
{
	uint64_t *gdt = (uint64_t *)(ram + BOOT_GDT);
	gdt[1] = is_long ? 0x00af9b000000ffff : 0x00cf9b000000ffff;
	gdt[2] = 0x00cf93000000ffff;
	gdt[3] = is_long ? 0x008f8b000000ffff : 0x00008b0000000067;
	*(uint64_t *)(ram + BOOT_IDT) = 0;

	struct kvm_segment segment = {
		.limit = 0xffffffff, .type = 3, .present = 1, .s = 1, .g = 1, .db = 1,
		.selector = 0x10,
	};
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = segment;
	segment.selector = 0x08;
	segment.type = 11;
	segment.l = is_long;
	segment.db = !is_long;
	sregs->cs = segment;
	sregs->tr = (struct kvm_segment){
		.selector = 0x18, .limit = is_long ? 0xfffff : 0x67, .type = 11, .present = 1,
		.g = is_long,
	};
	sregs->gdt = (struct kvm_dtable){ .base = BOOT_GDT, .limit = 4 * 8 - 1 };
	sregs->idt = (struct kvm_dtable){ .base = BOOT_IDT, .limit = 7 };
}

static void set_entry(const struct vcpu *vcpu, const struct kvm_sregs *sregs, struct kvm_regs regs)
{
	CHECK(ioctl(vcpu->fd, KVM_SET_SREGS, sregs) == 0);
	regs.rflags = 2;
	vcpu_set_regs(vcpu, &regs);
}

void boot_enter_long_mode(const struct vcpu *vcpu, uint8_t *ram, uint64_t entry)
{
	uint64_t *tables = (uint64_t *)(ram + BOOT_PML4);
	tables[0] = (BOOT_PML4 + 0x1000) | PRESENT | WRITE;
	tables[512] = (BOOT_PML4 + 0x2000) | PRESENT | WRITE;
	for (uint64_t i = 0; i < 512; i++)
		tables[1024 + i] = i * LARGE_SIZE | PRESENT | WRITE | LARGE;

	struct kvm_sregs sregs;
	CHECK(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) == 0);
	set_segments(&sregs, ram, 1);
	sregs.cr3 = BOOT_PML4;
	sregs.cr4 |= CR4_PAE;
	sregs.cr0 |= CR0_PE | CR0_PG;
	sregs.efer |= EFER_LME | EFER_LMA;
	set_entry(vcpu, &sregs,
		  (struct kvm_regs){ .rip = entry, .rsp = BOOT_STACK, .rbp = BOOT_STACK,
				     .rsi = BOOT_ZERO_PAGE });
}

void boot_enter_pvh(const struct vcpu *vcpu, uint8_t *ram, uint64_t entry)
{
	*(uint32_t *)(ram + BOOT_START_INFO) = START_INFO_MAGIC;

	struct kvm_sregs sregs;
	CHECK(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs) == 0);
	set_segments(&sregs, ram, 0);
	sregs.cr0 = CR0_PE;
	sregs.cr4 = 0;
	set_entry(vcpu, &sregs, (struct kvm_regs){ .rip = entry, .rbx = BOOT_START_INFO });
}
